"""Arrays of embeddings: checks, normalisation, and blocks of rows in threads.

Shapes: N items, Q vectors per item (BLIP-2 queries), D dimensions. Features are NumPy arrays or torch
tensors. This file does not import torch, so that `import i0t` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from i0t.errors import I0TError

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeIs

Features = TypeVar("Features", np.ndarray, "torch.Tensor")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Float32 has about 7 digits: a shorter vector is rounding noise.
SMALLEST_NORM = 1e-6
UNIT = 1e-4  # vectors whose length is this close to 1 are taken as they are


def is_torch(features: Any) -> TypeIs[torch.Tensor]:
    """Check for a torch tensor without importing torch."""
    return type(features).__module__.partition(".")[0] == "torch"


def to_numpy(features: Any) -> np.ndarray:
    """Convert an array or tensor to NumPy (bf16 and fp16 become float32; integers stay)."""
    if is_torch(features):
        features = features.detach().cpu()
        is_half = features.is_floating_point() and features.element_size() < 4
        return features.float().numpy() if is_half else features.numpy()
    array = np.asarray(features)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def check_shape(features: Any, name: str, dim: int | None = None) -> None:
    """Raise an error unless this is a non-empty floating (N, D) or (N, Q, D) array.

    Args:
        features: array or tensor.
        name: name in the error, e.g. "image_features".
        dim: expected D.

    Raises:
        I0TError: wrong type, shape or dtype.
    """
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) not in (2, 3):
        raise I0TError(
            f"{name}: expected shape (N, D) or (N, Q, D), got {shape or type(features).__name__}. "
            "A single vector needs a leading axis: features[None]."
        )
    if 0 in shape:
        raise I0TError(f"{name}: empty, shape {shape}. At least one vector is needed.")
    if dim is not None and shape[-1] != dim:
        raise I0TError(f"{name}: {shape[-1]} dimensions, expected {dim}. Do both come from the same model?")
    floating = features.is_floating_point() if is_torch(features) else np.issubdtype(features.dtype, np.floating)
    if not floating:
        raise I0TError(f"{name}: dtype {features.dtype}, expected floating point. Convert with .astype('float32').")


def l2_normalize(features: Features, name: str = "features", *, hint: str = "") -> Features:
    """N(v) = v / ||v|| along the last axis (a new array of the same dtype).

    Args:
        features: (..., D) floating array or tensor.
        name: name in errors.
        hint: added to the error about a zero vector.

    Raises:
        I0TError: a vector is NaN, infinite or zero; the message names its row.
    """
    work = _at_least_float32(features)
    if is_torch(work):
        norms = (work * work).sum(dim=-1, keepdim=True) ** 0.5
    else:
        norms = np.sqrt(np.einsum("...d,...d->...", work, work))[..., None]  # no copy of the squares
    if not bool((norms < float("inf")).all()):
        _refuse_rows(~is_finite(work), name, "holds NaN or infinite values")
        _refuse_rows(~(norms < float("inf")), name, f"is too long: its squares are beyond {work.dtype}")
    _refuse_rows(norms < SMALLEST_NORM, name, hint or "has zero length and no direction")
    unit = work / norms
    return unit.to(features.dtype) if is_torch(features) else unit.astype(features.dtype, copy=False)


def unit_vectors(features: Any, name: str) -> np.ndarray:
    """Normalise to float32 unit vectors as NumPy; vectors that already have length 1 are not changed.

    Raises:
        I0TError: a vector is NaN, infinite or zero; the message names its row.
    """
    wide = to_numpy(features)
    with np.errstate(over="ignore"):
        features = wide.astype(np.float32, copy=False)
    if wide.dtype.itemsize > 4 and not is_finite(features).all():
        _refuse_rows(is_finite(wide) & ~is_finite(features), name, "holds values beyond float32 (3.4e38)")
    lengths = np.linalg.norm(features, axis=-1)
    if (np.abs(lengths - 1) < UNIT).all():
        return features
    return l2_normalize(features.astype(np.float64), name).astype(np.float32)


def is_finite(features: Any) -> Any:
    """Whether each entry is neither NaN nor infinite, as an array or tensor of bools."""
    return features.isfinite() if is_torch(features) else np.isfinite(features)


def _at_least_float32(features: Features) -> Features:
    """Convert half precision to float32: squares of large fp16 numbers overflow, small ones become 0."""
    if is_torch(features):
        return features.float() if features.element_size() < 4 else features
    return features.astype(np.float32) if features.dtype == np.float16 else features


def _refuse_rows(bad: Any, name: str, why: str) -> None:
    if not bool(bad.any()):
        return
    rows = sorted({int(row) for row in to_numpy(bad).nonzero()[0]})
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    raise I0TError(f"{name}: row {rows[0]} {why}{more}. Remove such rows or encode them again.")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Compute `[work(item) for item in items]` in as many threads as BLAS may use (OMP_NUM_THREADS).

    NumPy releases the interpreter's lock while it computes. Inside the threads BLAS uses one core, so
    that matrix products and all other work share the cores evenly.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    threads = max([library["num_threads"] for library in blas.info()], default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(work, items))


def row_slices(n_rows: int, step: int) -> list[slice]:
    """Split `n_rows` into slices of at most `step` rows."""
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]

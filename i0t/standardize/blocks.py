"""Sums and shifts of unit vectors at about the speed of reading them: blocks that fit a core's cache, in threads.

Shapes: N items, Q vectors an item (BLIP-2 queries), D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import SMALLEST_NORM, Features, is_torch, l2_normalize, to_numpy
from i0t.parallel import in_threads, row_slices

CACHE_FLOATS = 2**18  # of a block: fewer would be quicker in cache, but threads then wait for each other in Python


def unit_sum(features: Any, name: str, block_rows: int) -> np.ndarray:
    """(D,) float64 sum of the normalised vectors of (N, D) or (N, Q, D) features.

    Computed in float64 throughout, and added up in the order of the blocks, so neither the number of
    threads nor the machine's load changes a bit.

    Raises:
        I0TError: a vector is NaN, infinite or zero; the message names its row.

    Example:
        >>> unit_sum(np.array([[3.0, 4.0], [0.0, 2.0]]), "features", block_rows=8192)
        array([0.6, 1.8])
    """

    def of_block(rows: slice) -> np.ndarray | None:
        block = to_numpy(features[rows])  # a tensor may be on another device, all of it too large for memory
        return _sum_of_units(block.reshape(-1, block.shape[-1]))

    sums = in_threads(of_block, row_slices(len(features), block_rows))
    if any(block is None for block in sums):
        l2_normalize(to_numpy(features).astype(np.float64), name)  # names the row in the whole array
        raise I0TError(f"{name}: changed while it was read.")
    total = np.zeros(features.shape[-1])
    for block in sums:
        total += block
    return total


def _sum_of_units(vectors: np.ndarray) -> np.ndarray | None:
    """The sum, or None where a vector has no direction."""
    dim = vectors.shape[1]
    total = np.zeros(dim)
    for rows in row_slices(len(vectors), max(1, CACHE_FLOATS // dim)):
        part = vectors[rows].astype(np.float64)
        with np.errstate(all="ignore"):  # the next line tells of NaN and overflow
            norms = np.sqrt(np.matmul(part[:, None, :], part[:, :, None])[:, 0, 0])  # BLAS' dot: twice einsum's speed
        if not _have_direction(norms):
            return None
        total += (1.0 / norms) @ part  # the sum of x / ||x||, without making any x / ||x||
    return total


def shifted_units(features: Features, offset: np.ndarray, name: str, hint: str) -> Features:
    """N(N(x) + offset) of (N, D) or (N, Q, D) features, computed in float32 or wider; same kind, shape and dtype.

    Args:
        features: floating array or tensor; it is left untouched.
        offset: (D,) float64.
        name: what to call the features in errors.
        hint: said of a vector that the shift takes to zero.

    Raises:
        I0TError: a vector is NaN, infinite or zero, or becomes zero; the message names its row.

    Example:
        >>> shifted_units(np.array([[3.0, 4.0]]), np.array([0.0, -0.8]), "features", "")
        array([[1., 0.]])
    """
    shifted = _shifted_tensor if is_torch(features) else _shifted_array
    return shifted(features, offset, name, hint)


def _shifted_tensor(features: Any, offset: np.ndarray, name: str, hint: str) -> Any:
    import torch

    work = features.float() if features.element_size() < 4 else features
    shift = torch.as_tensor(offset, device=features.device).to(work.dtype)
    moved = l2_normalize(l2_normalize(work, name) + shift, name, hint=hint)
    return moved.to(features.dtype)


def _shifted_array(features: np.ndarray, offset: np.ndarray, name: str, hint: str) -> np.ndarray:
    dim = features.shape[-1]
    vectors = features.reshape(-1, dim)
    moved = np.empty(vectors.shape, dtype=features.dtype)
    work_type = np.float32 if features.dtype.itemsize < 4 else features.dtype
    shift = offset.astype(work_type)

    def move(rows: slice) -> bool:
        work = vectors[rows].astype(work_type, copy=False)
        norms = np.sqrt(np.einsum("nd,nd->n", work, work))
        if not _have_direction(norms):
            return False
        work = work / norms[:, None]
        work += shift
        norms = np.sqrt(np.einsum("nd,nd->n", work, work))
        if not _have_direction(norms):
            return False
        np.divide(work, norms[:, None], out=moved[rows], casting="same_kind")
        return True

    step = max(1, CACHE_FLOATS // dim)
    if not all(in_threads(move, row_slices(len(vectors), step))):
        unit = l2_normalize(features.astype(work_type), name)
        l2_normalize(unit + shift, name, hint=hint)  # one of the two names the row
        raise I0TError(f"{name}: changed while it was read.")
    return moved.reshape(features.shape)


def _have_direction(norms: np.ndarray) -> bool:
    """Whether all lengths are finite and not zero; a NaN is neither."""
    return bool((norms >= SMALLEST_NORM).all() and (norms < np.inf).all())

"""Arithmetic of gap removers: exact sums and affine maps of unit vectors, in blocks and threads.

Shapes: N items, Q vectors per item (BLIP-2 queries), D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from i0t.errors import I0TError
from i0t.features import SMALLEST_NORM, Features, check_shape, in_threads, is_torch, l2_normalize, row_slices, to_numpy

if TYPE_CHECKING:
    from typing_extensions import Self

BLOCK_ROWS = 8192  # items per thread at once
CACHE_FLOATS = 2**18  # per block: fewer would fit the cache better, but threads would wait for each other in Python
PRODUCT_ROWS = 4096  # vectors per product with a (D, D) factor in float64, to keep copies small


class VectorSum:
    """Sum of the unit vectors of one modality.

    Arrays are never changed in place, so objects may share them.

    Attributes:
        sums: `sum`, (D,), and those of a subclass; empty before the first vector.
        count: number of vectors.
    """

    second: ClassVar[str | None] = None  # name of the sum of second moments, if any

    def __init__(self, sums: Mapping[str, np.ndarray] | None = None, count: int = 0) -> None:
        self.sums, self.count = dict(sums or {}), count

    @property
    def mean(self) -> np.ndarray:
        """(D,) mean of the unit vectors."""
        return self.sums["sum"] / self.count

    def plus(self, features: Any, name: str) -> Self:
        """Return a new object with these features (N, D) or (N, Q, D) added.

        Raises:
            I0TError: a bad shape or row; names the row.
        """
        check_shape(features, name, len(self.sums["sum"]) if self.count else None)
        added = unit_sum(features, name, BLOCK_ROWS)
        sums = {"sum": self.sums["sum"] + added if self.count else added}
        if self.second:
            total: Any = self.sums.get(self.second, 0.0)
            for rows in row_slices(len(features), BLOCK_ROWS):
                block = l2_normalize(to_numpy(features[rows]).astype(np.float64), name)
                total = total + self.products(block.reshape(-1, block.shape[-1]))
            sums[self.second] = total
        return type(self)(sums, self.count + int(np.prod(features.shape[:-1])))

    def merged(self, other: VectorSum) -> Self:
        """Return the sums of both."""
        if not self.count or not other.count:
            known = self if self.count else other
            return type(self)(known.sums, known.count)
        if len(self.sums["sum"]) != len(other.sums["sum"]):
            raise I0TError(f"merge: {len(other.sums['sum'])} dimensions, expected {len(self.sums['sum'])}.")
        return type(self)({key: own + other.sums[key] for key, own in self.sums.items()}, self.count + other.count)

    @classmethod
    def from_sums(cls, sums: Mapping[str, np.ndarray], count: int) -> VectorSum:
        """Build from the sums of a file, leaving out those that this class does not need.

        Raises:
            I0TError: the second moments are missing.
        """
        if cls.second and cls.second not in sums:
            raise I0TError(f"holds no sum of {cls.second.removesuffix('_sum')}s: it was fitted for means alone")
        return cls({key: sums[key] for key in ("sum", cls.second) if key}, count)

    @staticmethod
    def products(unit: np.ndarray) -> np.ndarray:
        """Sum the second moments of (N, D) unit vectors."""
        raise NotImplementedError


def unit_sum(features: Any, name: str, block_rows: int) -> np.ndarray:
    """(D,) float64 sum of the normalised vectors of (N, D) or (N, Q, D) features.

    All in float64, and added in the order of the blocks, so the bits do not depend on the number of
    threads.

    Raises:
        I0TError: a vector is NaN, infinite or zero; the message names its row.
    """

    def of_block(rows: slice) -> np.ndarray | None:
        block = to_numpy(features[rows])  # by block: a tensor on a device may be too large for memory
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
    """Return the sum, or None if a vector has no direction."""
    dim = vectors.shape[1]
    total = np.zeros(dim)
    for rows in row_slices(len(vectors), max(1, CACHE_FLOATS // dim)):
        part = vectors[rows].astype(np.float64)
        with np.errstate(all="ignore"):  # the next check finds NaN and overflow
            norms = np.sqrt(np.matmul(part[:, None, :], part[:, :, None])[:, 0, 0])  # twice as fast as einsum
        if not _have_direction(norms):
            return None
        total += (1.0 / norms) @ part  # the sum of x / ||x||, without an array of x / ||x||
    return total


@dataclass(frozen=True)
class AffineMap:
    """x' = N(factor (x + offset) + bias) of a unit vector x, where N(v) = v / |v|.

    Attributes:
        offset: (D,) float64.
        factor: (D,) per dimension, or (D, D); None means 1.
        bias: (D,); None means 0.
    """

    offset: np.ndarray
    factor: np.ndarray | None = None
    bias: np.ndarray | None = None

    def factor_and_bias(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor (D,) or (D, D) and bias (D,) of the same map in the form x' = N(factor x + bias)."""
        factor = np.ones_like(self.offset) if self.factor is None else self.factor
        bias = factor * self.offset if factor.ndim == 1 else factor @ self.offset
        return factor, bias if self.bias is None else bias + self.bias

    def matrix_and_bias(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrix (D, D) and bias (D,), for vector stores: x' = N(matrix x + bias)."""
        factor, bias = self.factor_and_bias()
        return np.diag(factor) if factor.ndim == 1 else factor, bias

    def apply(self, features: Features, name: str, hint: str = "", in_float64: bool = False) -> Features:
        """Move features (N, D) or (N, Q, D); return the same kind, shape, dtype and device, without changing the input.

        Args:
            features: floating array or tensor; normalised first.
            name: name in errors.
            hint: explanation for the error about a vector that becomes zero.
            in_float64: compute in float64, for vectors that hardly differ; else in float32, or the wider dtype of
                the features.

        Raises:
            I0TError: other dimensions, or a vector that is NaN, infinite or zero, or becomes zero; names its row.
        """
        check_shape(features, name, len(self.offset))
        move: Any = self._apply_to_tensor if is_torch(features) else self._apply_to_array
        return move(features, name, hint, in_float64)

    def _apply_to_tensor(self, features: Any, name: str, hint: str, in_float64: bool) -> Any:
        import torch

        wide = torch.float64 if in_float64 else torch.float32 if features.element_size() < 4 else features.dtype
        cast = lambda part: torch.as_tensor(part, device=features.device).to(wide)  # noqa: E731
        moved = self._linear(l2_normalize(features.to(wide), name), cast)
        return l2_normalize(moved, name, hint=hint).to(features.dtype)

    def _linear(self, unit: Any, cast: Any) -> Any:
        """Compute factor (x + offset) + bias, with parts converted by `cast`; overwrites `unit`."""
        unit += cast(self.offset)
        if self.factor is not None:
            factor = cast(self.factor)
            unit = unit * factor if factor.ndim == 1 else unit @ factor.T
        return unit if self.bias is None else unit + cast(self.bias)

    def _apply_to_array(self, features: np.ndarray, name: str, hint: str, in_float64: bool) -> np.ndarray:
        """Move in blocks that fit a core's cache, at about the speed of copying."""
        dim = features.shape[-1]
        vectors = features.reshape(-1, dim)
        moved = np.empty(vectors.shape, dtype=features.dtype)
        wide = np.float64 if in_float64 else np.float32 if features.dtype.itemsize < 4 else features.dtype
        cast = lambda part: part.astype(wide)  # noqa: E731

        def move(rows: slice) -> bool:
            work = vectors[rows].astype(wide, copy=False)
            norms = np.sqrt(np.einsum("nd,nd->n", work, work))
            if not _have_direction(norms):
                return False
            work = self._linear(work / norms[:, None], cast)
            norms = np.sqrt(np.einsum("nd,nd->n", work, work))
            if not _have_direction(norms):
                return False
            np.divide(work, norms[:, None], out=moved[rows], casting="same_kind")
            return True

        step = max(1, CACHE_FLOATS // dim)
        if self.factor is not None and self.factor.ndim == 2:  # the last bits of a product depend on its number of rows
            step = PRODUCT_ROWS if in_float64 else len(vectors)
        if not all(in_threads(move, row_slices(len(vectors), step))):
            unit = l2_normalize(features.astype(wide), name)
            l2_normalize(self._linear(unit, cast), name, hint=hint)  # one of these two lines names the row
            raise I0TError(f"{name}: changed while it was read.")
        return moved.reshape(features.shape)


def _have_direction(norms: np.ndarray) -> bool:
    """Whether all lengths are finite and not zero (False for NaN)."""
    return bool((norms >= SMALLEST_NORM).all() and (norms < np.inf).all())

"""What a gap remover learns: sums of unit vectors in float64, which chunks and shards add up exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape
from i0t.standardize.blocks import unit_sum

BLOCK_ROWS = 8192  # items a thread takes at once


class VectorSum:
    """Sum of unit vectors of one modality in float64, so that chunks and shards add up exactly.

    Example:
        >>> one, other = VectorSum(), VectorSum()
        >>> one.add(np.array([[3.0, 4.0]]), "images")
        >>> other.add(np.array([[0.0, 2.0]]), "images")
        >>> one.merged(other).total.round(1).tolist(), one.merged(other).count
        ([0.6, 1.8], 2)
    """

    def __init__(self, total: np.ndarray | None = None, count: int = 0) -> None:
        self.total, self.count = total, count

    def add(self, features: Any, name: str) -> None:
        """Add features (N, D) or (N, Q, D); a refused array leaves the sum as it was.

        Raises:
            I0TError: a bad shape or row, named.
        """
        dim = None if self.total is None else len(self.total)
        check_shape(features, name, dim)
        added = unit_sum(features, name, BLOCK_ROWS)
        # Only now: a refused chunk must leave the statistics as they were.
        self.total = added if self.total is None else self.total + added
        self.count += int(np.prod(features.shape[:-1]))

    def merged(self, other: VectorSum) -> VectorSum:
        """The sum over what both have seen, as a new object."""
        if self.total is None or other.total is None:
            known = self if other.total is None else other
            return VectorSum(None if known.total is None else known.total.copy(), known.count)
        if len(self.total) != len(other.total):
            raise I0TError(f"merge: {len(other.total)} dimensions, expected {len(self.total)}.")
        return VectorSum(self.total + other.total, self.count + other.count)

    def copy(self) -> VectorSum:
        """The same sum, to add to without changing this one."""
        return VectorSum(None if self.total is None else self.total.copy(), self.count)

    def tensors(self) -> dict[str, np.ndarray]:
        """What was summed, by name, for a file."""
        assert self.total is not None
        return {"sum": self.total}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], count: int) -> VectorSum:
        """The sum read from a file; sums that this kind does not need are left there."""
        return cls(tensors["sum"], count)

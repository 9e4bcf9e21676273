"""Second moments of unit vectors, kept as sums beside the first: what scaling and whitening learn.

Shapes: D dimensions. All sums are float64, so that chunks and shards add up as `VectorSum` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import l2_normalize, to_numpy
from i0t.standardize.statistics import BLOCK_ROWS, VectorSum


class DiagonalMoments(VectorSum):
    """Sum of unit vectors and of their squares, dimension by dimension.

    Attributes:
        total: (D,) sum; None before anything was added.
        second: (D,) sum of squares, or (D, D) sum of outer products in `FullMoments`; None likewise.
        count: vectors seen.

    Example:
        >>> moments = DiagonalMoments()
        >>> moments.add(np.array([[3.0, 4.0], [4.0, 3.0]]), "features")
        >>> moments.variance().round(4)
        array([0.01, 0.01])
    """

    def __init__(self, total: np.ndarray | None = None, count: int = 0, second: np.ndarray | None = None) -> None:
        super().__init__(total, count)
        self.second = second

    def add(self, features: Any, name: str) -> None:
        """Add features (N, D) or (N, Q, D); a refused array leaves the sums as they were.

        Raises:
            I0TError: a bad shape or row, named.
        """
        first = VectorSum(None if self.total is None else self.total.copy(), self.count)
        first.add(features, name)  # refuses what is bad before anything changes
        second = 0.0 if self.second is None else self.second.copy()
        for start in range(0, len(features), BLOCK_ROWS):
            block = to_numpy(features[start : start + BLOCK_ROWS]).astype(np.float64)
            second = second + self._products(l2_normalize(block, name).reshape(-1, block.shape[-1]))
        self.total, self.count, self.second = first.total, first.count, second

    def copy(self) -> DiagonalMoments:
        """The same sums, to add to without changing these."""
        held = super().copy()
        return type(self)(held.total, held.count, None if self.second is None else self.second.copy())

    def merged(self, other: VectorSum) -> DiagonalMoments:
        """The sums over what both have seen, as a new object."""
        assert isinstance(other, DiagonalMoments)  # removers merge with their own kind only
        first = super().merged(other)
        known = [held.second for held in (self, other) if held.second is not None]
        return type(self)(first.total, first.count, np.sum(known, axis=0) if known else None)

    def tensors(self) -> dict[str, np.ndarray]:
        """The sums by name, for a file."""
        return {**super().tensors(), self.second_name: self.second}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], count: int) -> DiagonalMoments:
        """The sums read from a file.

        Raises:
            I0TError: the file holds means alone, or other second moments.
        """
        if cls.second_name not in tensors:
            raise I0TError(f"holds no sum of {cls.second_name.removesuffix('_sum')}s: it was fitted for means alone")
        return cls(tensors["sum"], count, tensors[cls.second_name])

    second_name = "square_sum"

    @staticmethod
    def _products(unit: np.ndarray) -> np.ndarray:
        return np.einsum("nd,nd->d", unit, unit)

    def variance(self) -> np.ndarray:
        """(D,) population variance of each dimension (divided by the count, as scikit-learn's scaler does)."""
        assert self.total is not None and self.second is not None
        return np.maximum(self.second / self.count - (self.total / self.count) ** 2, 0.0)


class FullMoments(DiagonalMoments):
    """Sum of unit vectors and of their outer products: D x D numbers, for the covariance.

    Example:
        >>> moments = FullMoments()
        >>> moments.add(np.eye(2), "features")
        >>> moments.covariance()
        array([[ 0.25, -0.25],
               [-0.25,  0.25]])
    """

    second_name = "product_sum"

    @staticmethod
    def _products(unit: np.ndarray) -> np.ndarray:
        return unit.T @ unit

    def covariance(self) -> np.ndarray:
        """(D, D) population covariance."""
        assert self.total is not None and self.second is not None
        mean = self.total / self.count
        return self.second / self.count - np.outer(mean, mean)

    def variance(self) -> np.ndarray:
        """(D,) its diagonal."""
        return np.maximum(np.diag(self.covariance()), 0.0)

"""Estimates with 95 % intervals, and paired differences of two: a delete-a-block jackknife over items.

Blocks depend on the number of groups and the seed only. So the values of two models on the same items were left out
together, and the interval of their difference is that of the pairs (smaller than two separate ones suggest).

Shapes: R values in G groups, K blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from i0t.metrics.resampling import jackknife_variance, random_blocks

BLOCKS = 50
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value, and the same value without each of K blocks of the items.

    Example:
        >>> ones, twos = (estimate(lambda rows, v=v: v[rows].mean(), np.arange(4)) for v in (np.ones(4), np.full(4, 2)))
        >>> difference = twos - ones
        >>> print(difference.value, *difference.interval)
        1.0 1.0 1.0
    """

    value: float
    left_out: np.ndarray

    def __sub__(self, other: Estimate) -> Estimate:
        """Return the paired difference; both must be of the same items."""
        return Estimate(self.value - other.value, self.left_out - other.left_out)

    @property
    def margin(self) -> float:
        """Half the width of the interval: Student's t with K - 1 degrees of freedom, times the standard error."""
        from scipy.stats import t

        return float(t.ppf((1 + LEVEL) / 2, len(self.left_out) - 1)) * jackknife_variance(self.left_out) ** 0.5

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        return self.value - self.margin, self.value + self.margin


def estimate(statistic: Callable[[np.ndarray], float], group: np.ndarray, seed: int = 0) -> Estimate:
    """Compute a statistic with its jackknife values.

    Args:
        statistic: maps row numbers to a number.
        group: (R,) rows of one number depend on each other, as the captions of an image do; left out together.
        seed: of the blocks.
    """
    member = np.unique(group, return_inverse=True)[1]
    n_groups = int(member.max()) + 1
    n_blocks = min(BLOCKS, n_groups)
    block = random_blocks(n_groups, n_blocks, seed)[member]
    kept = (np.flatnonzero(block != left_out) for left_out in range(n_blocks))
    return Estimate(statistic(np.arange(len(group))), np.array([statistic(rows) for rows in kept]))


def mean_estimate(values: np.ndarray, group: np.ndarray | None = None) -> Estimate:
    """`estimate` of the mean of (R,) values; NaN counts as missing."""
    return estimate(lambda rows: float(np.nanmean(values[rows])), np.arange(len(values)) if group is None else group)

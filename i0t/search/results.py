"""Results of a method of search, with bootstrap intervals, paired between methods.

Queries of one image depend on each other, so whole groups of them are drawn.

Shapes: A queries, G groups, B resamples, M methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from i0t.metrics.resampling import percentile_interval, resampled_rows
from i0t.search.methods import RULES

RESAMPLES = 2000
Interval = tuple[float, float]


@dataclass
class MethodResult:
    """Results of one method over one or more splits.

    Attributes:
        splits: metrics of each split, in 0..1.
        sums: metric to (G,) sums over the queries of a group, averaged over the splits in which it was searched.
        counts: metric to (G,) number of these queries.
        index: description of the faiss index of the last split.
    """

    splits: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    index: dict[str, object] = field(default_factory=dict)

    def mean(self) -> dict[str, float]:
        """Mean of every metric over the splits."""
        return {name: float(np.mean([split[name] for split in self.splits])) for name in self.splits[0]}

    def deviation(self) -> dict[str, float]:
        """Standard deviation of every metric over the splits; 0 with one split."""
        return {name: float(np.std([split[name] for split in self.splits])) for name in self.splits[0]}

    @property
    def groups(self) -> int:
        """Number of groups of queries."""
        return len(self.sums["ndcg"])

    def ndcg_interval(self, level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
        """Bootstrap interval of NDCG for other queries."""
        (interval,) = intervals([self], "ndcg", level, resamples)
        return interval


class Totals:
    """Adds up the metrics of the queries of several splits, by group.

    Args:
        groups: numbers of the groups that may be searched.
    """

    def __init__(self, groups: np.ndarray) -> None:
        self._groups = np.unique(groups)
        self._searched = np.zeros(len(self._groups))
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}

    def add(self, per_query: Mapping[str, np.ndarray], group_of_query: np.ndarray) -> None:
        """Add a split: metrics (A,), NaN where a query has none, and (A,) groups."""
        place = np.searchsorted(self._groups, group_of_query)
        self._searched[np.unique(place)] += 1
        for name, values in per_query.items():
            known = ~np.isnan(values)
            size = len(self._groups)
            for held, weights in ((self._sums, np.where(known, values, 0)), (self._counts, known)):
                held[name] = held.get(name, np.zeros(size)) + np.bincount(place, weights, size)

    def result(self, splits: list[dict[str, float]], index: dict[str, object]) -> MethodResult:
        """Return the result of a method."""
        own = self._searched > 0
        sums, counts = (
            {name: values[own] / self._searched[own] for name, values in held.items()}
            for held in (self._sums, self._counts)
        )
        return MethodResult(splits, sums, counts, index)


def resampled_means(results: Sequence[MethodResult], metric: str, resamples: int = RESAMPLES) -> np.ndarray:
    """(B, M) means of a metric over resampled groups, the same groups for all methods, so that they are paired."""
    sums = np.stack([result.sums[metric] for result in results], axis=1)
    counts = results[0].counts[metric]
    draws = resampled_rows(len(sums), resamples, seed=0)
    with np.errstate(invalid="ignore"):  # no query of this metric was drawn
        return np.stack([sums[rows].sum(axis=0) / counts[rows].sum() for rows in draws])


def intervals(
    results: Sequence[MethodResult], metric: str, level: float = 0.95, resamples: int = RESAMPLES
) -> list[Interval]:
    """Bootstrap interval of a metric for each method."""
    return _ends(resampled_means(results, metric, resamples), level)


def differences(
    results: Sequence[MethodResult], base: MethodResult, metric: str, level: float = 0.95
) -> list[Interval]:
    """Paired bootstrap interval of the difference of each method to `base`."""
    means = resampled_means([base, *results], metric)
    return _ends(means[:, 1:] - means[:, :1], level)


def best_rival(results: Mapping[str, MethodResult]) -> str:
    """Name of the rival with the best NDCG: raw vectors or a rule."""
    rivals = [name for name in results if name == "raw" or name in RULES]
    return max(rivals, key=lambda name: results[name].mean()["ndcg"])


def _ends(resampled: np.ndarray, level: float) -> list[Interval]:
    low, high = percentile_interval(resampled[~np.isnan(resampled).any(axis=1)], level)
    return [(float(one), float(other)) for one, other in zip(low, high)]

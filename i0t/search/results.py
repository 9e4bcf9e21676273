"""Results of a method of search, with bootstrap intervals, paired between methods.

Queries of one image depend on each other, so whole groups of them are drawn.

Shapes: A queries, G groups, B resamples, M methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from i0t.metrics.resampling import counts_in_chunks, percentile_interval
from i0t.search.rivals import RIVALS

RESAMPLES = 2000
Interval = tuple[float, float]


class Difference(NamedTuple):
    """A difference of two means with the ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> str:
        """Both ends, signed."""
        return "unknown" if np.isnan(self.low) else f"{self.low:+.3f} {self.high:+.3f}"

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.ends})"


@dataclass
class MethodResult:
    """Results of one method over one or more splits.

    Attributes:
        splits: metrics of each split, in 0..1.
        sums: metric to (G,) sums over the queries of a group that have it, over all splits.
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

    def interval(self, metric: str = "ndcg", level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
        """Bootstrap interval of a metric for other queries."""
        (interval,) = intervals([self], metric, level, resamples)
        return interval


class Totals:
    """Adds up the metrics of the queries of several splits, by group.

    Args:
        groups: numbers of the groups that may be searched.
    """

    def __init__(self, groups: np.ndarray) -> None:
        self._groups = np.unique(groups)
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}

    def add(self, per_query: Mapping[str, np.ndarray], group_of_query: np.ndarray) -> None:
        """Add a split: metrics (A,), NaN where a query has none, and (A,) groups."""
        place, size = np.searchsorted(self._groups, group_of_query), len(self._groups)
        for name, values in per_query.items():
            known = ~np.isnan(values)
            for held, weights in ((self._sums, np.where(known, values, 0)), (self._counts, known)):
                held[name] = held.get(name, np.zeros(size)) + np.bincount(place, weights, size)

    def result(self, splits: list[dict[str, float]], index: dict[str, object]) -> MethodResult:
        """Return the result of a method, of the groups that were searched."""
        searched = self._counts["ndcg"] > 0
        sums, counts = (
            {name: values[searched] for name, values in held.items()} for held in (self._sums, self._counts)
        )
        return MethodResult(splits, sums, counts, index)


def resampled_means(results: Sequence[MethodResult], metric: str, resamples: int = RESAMPLES) -> np.ndarray:
    """(B, M) means of a metric over resampled groups, the same groups for all methods, so that they are paired.

    Drawn are the groups in which a method has the metric. NaN where no query of a method that has it was drawn, and
    throughout with one group, which tells nothing of others.
    """
    sums, counts = (
        np.stack([held[metric] for held in of], axis=1)
        for of in ([result.sums for result in results], [result.counts for result in results])
    )
    known = counts.any(axis=1)
    if known.sum() < 2:
        return np.full((1, len(results)), np.nan)
    columns = np.hstack([sums[known], counts[known]])
    totals = np.concatenate([times @ columns for times in counts_in_chunks(len(columns), resamples, 0, len(columns))])
    with np.errstate(invalid="ignore"):
        return totals[:, : len(results)] / totals[:, len(results) :]


def intervals(
    results: Sequence[MethodResult], metric: str, level: float = 0.95, resamples: int = RESAMPLES
) -> list[Interval]:
    """Bootstrap interval of a metric for each method."""
    return _ends(resampled_means(results, metric, resamples), level)


def all_intervals(results: Mapping[str, MethodResult]) -> dict[str, dict[str, Interval]]:
    """95 % interval of every metric that a method has, by method and metric."""
    found: dict[str, dict[str, Interval]] = {name: {} for name in results}
    for metric in dict.fromkeys(metric for result in results.values() for metric in result.sums):
        held = {name: result for name, result in results.items() if np.any(result.counts.get(metric, 0))}
        for name, interval in zip(held, intervals(list(held.values()), metric) if held else ()):
            found[name][metric] = interval
    return found


def differences(
    results: Mapping[str, MethodResult],
    rivals: Sequence[str],
    metric: str,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, Difference]:
    """Difference of each method to the best of its rivals, with its paired bootstrap interval.

    Which rival is the best is found among the queries that also measure it. So each resample has its own best rival:
    the interval is that of "better than all of them", and its lower end is never above that to any one of them. Its
    upper end leans to the rivals, as the best of several is partly lucky: below 0 does not say "worse".

    Args:
        results: of methods and rivals.
        rivals: names; a rival is compared with the others, and left out if there are none.
        metric: the metric.
        level: of the interval.
        resamples: number of them.
    """
    names = list(results)
    drawn = resampled_means(list(results.values()), metric, resamples)
    means = [result.mean()[metric] for result in results.values()]
    found = {}
    for place, name in enumerate(names):
        others = [names.index(rival) for rival in rivals if rival != name]
        if others:
            (interval,) = _ends(drawn[:, [place]] - drawn[:, others].max(axis=1, keepdims=True), level)
            found[name] = Difference(means[place] - max(means[other] for other in others), *interval)
    return found


def joint_level(n: int) -> float:
    """Level of each of n intervals, of which all hold at once with 95 % (Bonferroni): for the best of n methods."""
    return 1 - 0.05 / n


def rivals_in(results: Mapping[str, MethodResult]) -> list[str]:
    """Names of the rivals: raw vectors, and what needs no fitting."""
    return [name for name in results if name in RIVALS]


def best_rival(results: Mapping[str, MethodResult]) -> str:
    """Name of the rival with the best mean NDCG."""
    return max(rivals_in(results), key=lambda name: results[name].mean()["ndcg"])


def _ends(resampled: np.ndarray, level: float) -> list[Interval]:
    """Interval of each column, from the resamples in which it is known; NaN if it is in none."""
    known = [column[~np.isnan(column)] for column in resampled.T]
    ends = [percentile_interval(column, level) if len(column) else (np.nan, np.nan) for column in known]
    return [(float(low), float(high)) for low, high in ends]

"""Resampling: how far a number would move with other items. Bootstrap, jackknife, random splits.

An image and its captions succeed and fail together, so what is drawn, left out or split off is a whole
group of linked items; with single captions the intervals would be too short.

Shapes: R values in C groups, V columns of values, B resamples, K blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

CHUNK = 2**22  # counts of resamples in memory at once


def random_split(
    items: int | np.ndarray, rng: np.random.Generator, n_first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Items, or the numbers below `items`, in two random parts; the first has `n_first`, or half, rounded up."""
    shuffled = rng.permutation(items)
    cut = -(-len(shuffled) // 2) if n_first is None else n_first
    return shuffled[:cut], shuffled[cut:]


def random_blocks(n_groups: int, n_blocks: int, seed: int) -> np.ndarray:
    """(C,) block 0..K-1 of each group, at random, in blocks of equal size up to one."""
    return np.random.default_rng(seed).permutation(n_groups) % n_blocks


def jackknife_variance(left_out: np.ndarray) -> float:
    """Tukey's variance of a statistic from its K values with one block left out: (K - 1) / K times their squares."""
    return float(left_out.var() * (len(left_out) - 1))


def resampled_rows(n: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """B times n numbers below n, drawn with replacement."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, n, n) for _ in range(n_resamples))


def resampled_counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """(B, n) how often each of n is drawn, all resamples at once; other draws than those of `resampled_rows`."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)


def percentile_interval(resampled: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the percentile interval over the first axis.

    Example:
        >>> [float(end) for end in percentile_interval(np.arange(101.0), 0.5)]
        [25.0, 75.0]
    """
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return low, high


def bootstrap_means(values: np.ndarray, group: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """(B, V) means over resampled groups.

    Args:
        values: (R, V), e.g. what each query reached in V metrics.
        group: (R,) int, the group of each row; groups may differ in size.
        n_resamples: B.
        seed: of the draws; equal for equal groups, so that metrics of one run move together.
    """
    member = np.unique(group, return_inverse=True)[1]
    n_groups = int(member.max()) + 1
    sums, sizes = _group_sums(values, member, n_groups)
    counts = _counts_in_chunks(n_groups, n_resamples, seed, n_groups)
    return np.concatenate([_means(sums, sizes, some.astype(np.float64)) for some in counts])


def means_of_counts(values: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(B, V) means over groups that are drawn as often as counts (B, C) say.

    With the same counts the differences of two models are paired.

    Args:
        values: (R, V).
        group: (R,) column of `counts` of each row; some may have no row.
        counts: of `resampled_counts`.
    """
    return _means(*_group_sums(values, group, counts.shape[1]), counts)


def bootstrap_medians(values: np.ndarray, group: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """(B,) medians over resampled groups; arguments as `bootstrap_means`, values (R,)."""
    member = np.unique(group, return_inverse=True)[1]
    order = np.argsort(values, kind="stable")
    ascending, medians = values[order], []
    n_groups = int(member.max()) + 1
    for some in _counts_in_chunks(n_groups, n_resamples, seed, max(n_groups, len(values))):
        for counts in some:
            places = np.cumsum(counts[member[order]])  # how many of the drawn values are no greater
            middle = [(places[-1] + 1) // 2, places[-1] // 2 + 1]  # one and the same if they are odd in number
            medians.append(ascending[np.searchsorted(places, middle)].mean())
    return np.array(medians)


def _group_sums(values: np.ndarray, group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(C, V) sums and (C,) sizes of the groups."""
    sums = np.stack([np.bincount(group, column, n_groups) for column in values.T], axis=1)
    return sums, np.bincount(group, minlength=n_groups)


def _means(sums: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return (counts @ sums) / np.maximum(counts @ sizes, 1)[:, None]


def _counts_in_chunks(n: int, n_resamples: int, seed: int, width: int) -> Iterator[np.ndarray]:
    """(some resamples, n) counts of `resampled_rows`, as many at once as `CHUNK` allows for rows of this width."""
    rows = resampled_rows(n, n_resamples, seed)
    while chunk := [np.bincount(drawn, minlength=n) for drawn in islice(rows, max(1, CHUNK // width))]:
        yield np.stack(chunk)

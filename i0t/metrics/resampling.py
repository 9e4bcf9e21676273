"""Resampling: how much a number would change with other items. Bootstrap, jackknife, random splits.

An image and its captions depend on each other, so whole groups of linked items are drawn, left out or
split off; intervals over single captions would be too short.

Shapes: R values in C groups, V columns of values, B resamples, K blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

CHUNK = 2**22  # counts in memory at once


def random_split(
    items: int | np.ndarray, rng: np.random.Generator, n_first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split items, or the numbers below `items`, at random; the first part has `n_first`, or half, rounded up."""
    shuffled = rng.permutation(items)
    cut = -(-len(shuffled) // 2) if n_first is None else n_first
    return shuffled[:cut], shuffled[cut:]


def random_blocks(n_groups: int, n_blocks: int, seed: int) -> np.ndarray:
    """(C,) random block 0..K-1 of each group; block sizes differ by at most one."""
    return np.random.default_rng(seed).permutation(n_groups) % n_blocks


def jackknife_variance(left_out: np.ndarray) -> float:
    """Tukey's variance of a statistic, from its K values with one block left out."""
    return float(left_out.var() * (len(left_out) - 1))


def resampled_rows(n: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield B arrays of n numbers below n, drawn with replacement."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, n, n) for _ in range(n_resamples))


def resampled_counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """(B, n) how often each of n is drawn per resample; the draws differ from those of `resampled_rows`."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)


def percentile_interval(resampled: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the percentile interval along the first axis."""
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return low, high


def bootstrap_means(values: np.ndarray, group: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """(B, V) means over resampled groups.

    Args:
        values: (R, V), e.g. V metrics per query.
        group: (R,) int, the group of each row; groups may differ in size.
        n_resamples: B.
        seed: the same seed and groups give the same draws, so that metrics of one run move together.
    """
    member = np.unique(group, return_inverse=True)[1]
    n_groups = int(member.max()) + 1
    sums, sizes = _group_sums(values, member, n_groups)
    counts = counts_in_chunks(n_groups, n_resamples, seed, n_groups)
    return np.concatenate([_means(sums, sizes, some.astype(np.float64)) for some in counts])


def means_of_counts(values: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(B, V) means over resampled groups, with counts (B, C) of `resampled_counts`.

    With the same counts, differences of two models are paired. `group` (R,) is the column of `counts` for each
    row of `values` (R, V).
    """
    return _means(*_group_sums(values, group, counts.shape[1]), counts)


def bootstrap_medians(values: np.ndarray, group: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """(B,) medians over resampled groups; arguments as `bootstrap_means`, values (R,)."""
    member = np.unique(group, return_inverse=True)[1]
    order = np.argsort(values, kind="stable")
    ascending, medians = values[order], []
    n_groups = int(member.max()) + 1
    for some in counts_in_chunks(n_groups, n_resamples, seed, max(n_groups, len(values))):
        for counts in some:
            places = np.cumsum(counts[member[order]])  # number of drawn values up to this one
            middle = [(places[-1] + 1) // 2, places[-1] // 2 + 1]  # equal if the number of values is odd
            medians.append(ascending[np.searchsorted(places, middle)].mean())
    return np.array(medians)


def _group_sums(values: np.ndarray, group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(C, V) sums and (C,) sizes of the groups."""
    sums = np.stack([np.bincount(group, column, n_groups) for column in values.T], axis=1)
    return sums, np.bincount(group, minlength=n_groups)


def _means(sums: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return (counts @ sums) / np.maximum(counts @ sizes, 1)[:, None]


def counts_in_chunks(n: int, n_resamples: int, seed: int, width: int) -> Iterator[np.ndarray]:
    """Yield (resamples, n) counts of `resampled_rows`, as many resamples at once as `CHUNK` allows for this width."""
    rows = resampled_rows(n, n_resamples, seed)
    while chunk := [np.bincount(drawn, minlength=n) for drawn in islice(rows, max(1, CHUNK // width))]:
        yield np.stack(chunk)

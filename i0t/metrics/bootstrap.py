"""How far a mean or median over queries would move with other pictures: the bootstrap, by image.

Captions of one picture succeed and fail together, so whole pictures are drawn, each with all its
queries; drawing single captions would make the intervals too short.

Shapes: R queries, V values of a query, C clusters (pictures), B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 2**22  # drawn counts in memory at once


def percentile_interval(resampled: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the percentile interval over the first axis.

    Example:
        >>> [float(end) for end in percentile_interval(np.arange(101.0), 0.5)]
        [25.0, 75.0]
    """
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return low, high


def bootstrap_means(values: np.ndarray, cluster: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """(B, V) means over the queries of resampled clusters.

    Args:
        values: (R, V) numbers of each query.
        cluster: (R,) int, the cluster of each query; clusters may differ in size.
        n_resamples: B.
        seed: of the draws; equal for equal clusters, so that metrics of one run move together.

    Example:
        >>> values = np.array([[0.0], [1.0], [1.0], [0.0]])
        >>> means = bootstrap_means(values, np.arange(4), 1000, seed=0)
        >>> means.shape, bool(abs(means.mean() - 0.5) < 0.02), bool(abs(means.std() - 0.25) < 0.02)
        ((1000, 1), True, True)
    """
    member = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(member.max()) + 1
    sums = np.stack([np.bincount(member, column, n_clusters) for column in values.T], axis=1)
    sizes = np.bincount(member, minlength=n_clusters)
    totals = [(drawn @ sums, drawn @ sizes) for drawn in _draws(n_clusters, n_resamples, seed)]
    return np.concatenate([total / size[:, None] for total, size in totals])


def bootstrap_medians(values: np.ndarray, cluster: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """(B,) medians over the queries of resampled clusters; arguments as `bootstrap_means`, values (R,).

    Example:
        >>> bootstrap_medians(np.array([3.0, 3.0, 3.0]), np.arange(3), 4, seed=0)
        array([3., 3., 3., 3.])
    """
    member = np.unique(cluster, return_inverse=True)[1]
    order = np.argsort(values, kind="stable")
    ascending, medians = values[order], []
    for drawn in _draws(int(member.max()) + 1, n_resamples, seed, len(values)):
        for counts in drawn:
            places = np.cumsum(counts[member[order]])  # how many of the drawn queries are no greater
            middle = [(places[-1] + 1) // 2, places[-1] // 2 + 1]  # one and the same if they are odd in number
            medians.append(ascending[np.searchsorted(places, middle)].mean())
    return np.array(medians)


def _draws(n_clusters: int, n_resamples: int, seed: int, width: int = 0) -> Iterator[np.ndarray]:
    """How often each cluster is drawn, (some resamples, C), until there are B of them."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // max(n_clusters, width))
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        drawn = np.zeros((rows, n_clusters), dtype=np.int64)
        for row in drawn:
            row += np.bincount(generator.integers(0, n_clusters, n_clusters), minlength=n_clusters)
        yield drawn.astype(np.float64) if not width else drawn

"""The difference of the two means by groups of linked items: its error, and which dimensions carry it.

CD^2 without its bias is a U-statistic, the mean of d_g . d_h over different groups g, h, where d_g is
what group g says of the difference: x - y for a pair. Hence its exact variance, at any distance.

Shapes: N images x, M texts y, G groups, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.gap.items import checked_pairs, units
from i0t.gap.separability import linked_groups

NULL_DRAWS = 4999  # of the length that a mean difference has by chance


def group_differences(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(G, D) d_g, whose mean is mean x - mean y and whose spread over G is its error.

    Args:
        x: (N, D) unit vectors.
        y: (M, D) unit vectors.
        group: (N + M,) number of each item's group, images first.

    Example:
        >>> x, y = np.eye(2), np.array([[0.0, 1.0], [0.0, 1.0]])
        >>> group_differences(x, y, np.array([0, 1, 0, 1])).tolist()
        [[1.0, -1.0], [0.0, 0.0]]
    """
    n_groups = int(group.max()) + 1
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    differences = np.tile(mean_x - mean_y, (n_groups, 1))
    differences += _sums(x - mean_x, group[: len(x)], n_groups) * (n_groups / len(x))
    differences -= _sums(y - mean_y, group[len(x) :], n_groups) * (n_groups / len(y))
    return differences


def _sums(vectors: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """(G, D) sum of the vectors of each group; `np.add.at` takes several times as long."""
    from scipy.sparse import csr_array

    member = csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    return member @ vectors


def squared_distance(differences: np.ndarray) -> float:
    """CD^2 without bias; it may be below 0.

    Args:
        differences: (G, D) of `group_differences`, G > 1.

    Example:
        >>> round(squared_distance(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])), 3)  # 2 of 6 products are 1
        0.333
    """
    total, n = differences.sum(axis=0), len(differences)
    return float((total @ total - np.sum(differences**2)) / (n * (n - 1)))


def squared_distance_bounds(differences: np.ndarray, quantile: float) -> tuple[float, float]:
    """Values of CD^2 that lie within `quantile` standard errors of its estimate; never below 0.

    By Hoeffding's decomposition the variance is 4 z1 / G + e, where z1 is that of what one group
    adds and e that of what two add together. z1 grows with CD^2 itself, so a chance low estimate
    comes with too small an error, and a bootstrap counts e three times. So z1 is taken as
    v CD^2 for every CD^2 that is tried, v the variance along the gap, as Wilson does for shares.

    Args:
        differences: (G, D) of `group_differences`, G > 4.
        quantile: e.g. 1.96.

    Example:
        >>> differences = np.random.default_rng(0).normal(1, 1, (100, 2))  # of two means at squared distance 2
        >>> low, high = squared_distance_bounds(differences, 1.96)
        >>> round(low, 1), round(high, 1)
        (1.6, 2.7)
    """
    n, value = len(differences), squared_distance(differences)
    total, lengths = differences.sum(axis=0), np.sum(differences**2, axis=1)
    gram = differences.T @ differences if differences.shape[1] < n else differences @ differences.T
    both = (np.sum(gram**2) - np.sum(lengths**2)) / (n * (n - 1)) - value**2  # variance of d_g . d_h
    rows = (differences @ total - lengths) / (n - 1)
    spread = rows.var(ddof=1) * ((n - 1) / (n - 2)) ** 2
    single = max(0.0, (spread - both / (n - 2)) * (n - 2) / (n - 4))
    rest = 2 * max(0.0, both - 2 * single) / (n * (n - 1))
    # Along a gap lost in noise the variance is unknown: that along the average direction steps in.
    noise, average = np.sqrt(rest), max(0.0, both - 2 * single) / max(lengths.mean() - max(value, 0.0), 1e-300)
    along = (single + average * noise) / (max(value, 0.0) + noise) if noise else 0.0
    slope = 2 * quantile**2 * along / n
    root = np.sqrt(max(0.0, (value + slope) ** 2 - value**2 + quantile**2 * rest))
    return max(0.0, float(value + slope - root)), max(0.0, float(value + slope + root))


def chance_of_less(differences: np.ndarray, seed: int = 0) -> float:
    """Chance that the means of two samples without any gap come as close as these, 0..1.

    Near 0 is suspicious: only means that were made equal, on these very items, are so close. Large
    sample: signs flipped at random, the sum of d_g is normal with covariance sum of d_g d_g'.

    Example:
        >>> differences = np.random.default_rng(0).normal(size=(100, 4))
        >>> centred = differences - differences.mean(axis=0)
        >>> round(chance_of_less(differences), 1), chance_of_less(centred)
        (0.5, 0.0002)
    """
    n, dim = differences.shape
    gram = differences.T @ differences if dim < n else differences @ differences.T
    scales = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    total = differences.sum(axis=0)
    rng = np.random.default_rng(seed)
    closer = 0
    for draws in np.array_split(np.arange(NULL_DRAWS), 10):
        closer += np.count_nonzero(rng.chisquare(1, (len(draws), len(scales))) @ scales <= total @ total)
    return float(1 + closer) / (1 + NULL_DRAWS)


@dataclass(frozen=True)
class GapDimension:
    """One dimension's part in the gap.

    Attributes:
        dimension: its number, from 0.
        share: (mean x - mean y)^2 there over CD^2, 0..1; all dimensions sum to 1.
        image_mean, text_mean: mean activation of each modality, with its sign.
        z: the difference in standard errors; below 2 it could be chance.

    Example:
        >>> part = gap_dimensions(np.eye(2)[[0, 0]], np.eye(2)[[1, 1]])[0]
        >>> part.dimension, part.share, part.image_mean, part.text_mean
        (0, 0.5, 1.0, 0.0)
    """

    dimension: int
    share: float
    image_mean: float
    text_mean: float
    z: float


def gap_dimensions(image_features: Any, text_features: Any, pairs: Any = None, top: int = 10) -> list[GapDimension]:
    """Which dimensions carry the gap: the largest parts of CD^2 first (cf. the peaks of the paper's Fig. 3).

    Args:
        image_features: as for `modality_gap`.
        text_features: as for `modality_gap`.
        pairs: as for `modality_gap`.
        top: how many to return, at most D.

    Raises:
        I0TError: as `modality_gap`.

    Example:
        >>> images, texts = np.eye(3)[[0, 0, 1]], np.eye(3)[[1, 2, 1]]
        >>> [(part.dimension, round(part.share, 2)) for part in gap_dimensions(images, texts, top=2)]
        [(0, 0.67), (1, 0.17)]
    """
    x, y = units(image_features, text_features)
    group = linked_groups(checked_pairs(pairs, len(x), len(y)), len(x), len(y))
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    difference = mean_x - mean_y
    whole = float(difference @ difference)
    error = np.full(len(difference), np.nan)
    if group.max() > 0:
        error = group_differences(x, y, group).std(axis=0, ddof=1) / np.sqrt(group.max() + 1)
    order = np.argsort(-(difference**2), kind="stable")[:top]
    with np.errstate(divide="ignore", invalid="ignore"):  # constant dimensions: z is infinite, or NaN
        scores = np.abs(difference) / error
    return [
        GapDimension(
            int(k),
            float(difference[k] ** 2 / whole) if whole else 0.0,
            float(mean_x[k]),
            float(mean_y[k]),
            float(scores[k]),
        )
        for k in order
    ]

"""How far apart images and texts are, and how each modality spreads.

Arguments, shapes and errors of each are those of `modality_gap`.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from i0t.gap.centroids import group_differences, squared_distance
from i0t.gap.items import NAN, checked_pairs, unit, units
from i0t.gap.separability import linked_groups
from i0t.metrics.ranking import score_blocks

ROUNDING = 1e-12  # a mean distance below this is rounding of vectors that are all equal


def centroid_distance(image_features: Any, text_features: Any) -> float:
    """CD = ||mean x - mean y|| of the normalised vectors, 0..2 (Liang et al. 2022; paper section 3).

    Example:
        >>> centroid_distance(np.array([[2.0, 0.0]]), np.array([[-1.0, 0.0]]))
        2.0
    """
    x, y = units(image_features, text_features)
    return float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0)))


def centroid_distance_debiased(image_features: Any, text_features: Any, pairs: Any = None) -> float:
    """CD without what finite samples add to it: sqrt(max(0, CD^2 - bias)).

    Means of few items differ even without a gap. What that adds to CD^2 is estimated from groups of
    items that pairs link, such as a picture with its captions, since linked items vary together. For
    pairs that use every item once it is tr Cov(x - y) / n; where no pairs are known about
    tr Cov(x) / N + tr Cov(y) / M. NaN where one group holds all images or all texts. Meaningless,
    and 0, for features centred on their own means.

    Example:
        >>> same = np.random.default_rng(0).normal(size=(2, 50, 8))
        >>> round(centroid_distance(*same), 2), round(centroid_distance_debiased(*same), 2)
        (0.11, 0.0)
    """
    x, y = units(image_features, text_features)
    group = linked_groups(checked_pairs(pairs, len(x), len(y)), len(x), len(y))
    if any(len(np.unique(side)) < 2 for side in (group[: len(x)], group[len(x) :])):
        return NAN
    return math.sqrt(max(0.0, squared_distance(group_differences(x, y, group))))


def severity(distance: float) -> str:
    """Word for a centroid distance (paper section 3.1): severe from 0.63, moderate from 0.19, low.

    Example:
        >>> severity(0.7642), severity(0.4795), severity(0.0102)
        ('severe', 'moderate', 'low')
    """
    return "severe" if distance >= 0.63 else "moderate" if distance >= 0.19 else "low"


def min_cosine_distance(image_features: Any, text_features: Any) -> float:
    """MCD = min over all i, j of 1 - cos(x_i, y_j), 0..2: the closest any image comes to any text.

    Example:
        >>> min_cosine_distance(np.eye(3)[:2], np.eye(3)[1:])
        0.0
    """
    x, y = units(image_features, text_features)
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    closest = max(float(cosines.max()) for _, cosines in score_blocks(x32, y32))
    return max(0.0, 1.0 - closest)  # float32 rounding can put a cosine above 1


def relative_modality_gap(image_features: Any, text_features: Any, pairs: Any = None) -> float:
    """RMG = P / (P + (I + T) / 2), 0..1 (Schrodi et al. 2024), with distances (1 - cos) / 2.

    P is the mean over pairs, I and T over all different images and all different texts: 0.5 means
    that a pair lies as far apart as two random items of one modality. It depends less than
    the others on the number of items. NaN without pairs, with one item on a side, or all equal.

    Example:
        >>> relative_modality_gap(np.eye(4)[:2], np.eye(4)[2:])
        0.5
    """
    x, y = units(image_features, text_features)
    apart = alignment(x, y, pairs) / 4  # ||x - y||^2 = 2 (1 - cos)
    whole = apart + (_mean_distance(x) + _mean_distance(y)) / 2
    return apart / whole if whole > ROUNDING else NAN


def _mean_distance(z: np.ndarray) -> float:
    """Mean (1 - cos) / 2 of all different items, from their sum: no matrix of cosines."""
    if (n := len(z)) < 2:
        return NAN
    mean_cosine = (np.sum(z.sum(axis=0) ** 2) - n) / (n * (n - 1))
    return float(max(0.0, (1.0 - mean_cosine) / 2))


def alignment(image_features: Any, text_features: Any, pairs: Any = None) -> float:
    """Mean ||x - y||^2 of the pairs, 0..4 (Wang & Isola 2020); NaN without pairs.

    Example:
        >>> alignment(np.eye(2), np.eye(2)), alignment(np.eye(2), -np.eye(2))
        (0.0, 4.0)
    """
    x, y = units(image_features, text_features)
    matched = checked_pairs(pairs, len(x), len(y))
    if not len(matched):
        return NAN
    return float(np.mean(np.sum((x[matched[:, 0]] - y[matched[:, 1]]) ** 2, axis=1)))


def uniformity(features: Any) -> float:
    """Log of the mean over i < j of exp(-2 ||z_i - z_j||^2), -8..0 (Wang & Isola 2020), one modality.

    0 is all in one point; -4 is what vectors spread evenly in many dimensions have. NaN for one item.

    Example:
        >>> round(uniformity(np.eye(3)), 3)
        -4.0
    """
    z = unit(features, "features").astype(np.float32)
    if len(z) < 2:
        return NAN
    total = 0.0
    for rows, cosines in score_blocks(z, z):
        # On the sphere the exponent is 4 cos - 4, within -8..0: a plain float64 sum is stable.
        kernel = np.exp(4 * cosines - 4)
        own = kernel[np.arange(len(kernel)), np.arange(rows.start, rows.stop)]
        total += float(kernel.sum(dtype=np.float64) - own.sum(dtype=np.float64))
    return float(np.log(total / (len(z) * (len(z) - 1))))

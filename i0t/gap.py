"""Measures of the modality gap: how far apart, how separable, how mixed images and texts are.

Each measure is one function; `modality_gap` runs them all. None stands alone: centroid distance
misses a gap of shape, separability its size, and only the cross-modal ranks say what a mixed
index would return. Features are NumPy arrays or torch tensors, L2-normalised first, in float64
(cosines of all with all: float32). Items of several vectors (N, Q, D) count as one vector, the
normalised mean of their normalised vectors.

Arguments, shapes and errors of each are those of `modality_gap`.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape, l2_normalize, to_numpy
from i0t.metrics.retrieval import TiedRanks, score_blocks

FOLDS = 5
RIDGE_PENALTY = 1.0
ROUNDING = 1e-12  # a mean distance below this is rounding of vectors that are all equal
NAN = float("nan")


def modality_gap(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> dict[str, float | str]:
    """All measures of the gap between image and text features (paper section 3, and beyond).

    Args:
        image_features: (N, D) or (N, Q, D) array or tensor.
        text_features: (M, D) array or tensor.
        pairs: (P, 2) int rows (image, text) that belong together, e.g. `Embeddings.pairs`. Default:
            row i with row i, where N == M. An empty (0, 2) array says that none are known: the
            measures of pairs are then NaN.
        seed: of the random splits of `linear_separability` and `separability_auc`.

    Returns:
        The value of each function under its name; with `_image` and `_text` for one modality
        (for ranks, the one of the queries); ranks and `cross_modal_neighbor_share` as means of the
        two; `severity` in words; counts `n_images`, `n_texts`, `n_pairs`. Nothing is in percent.

    Raises:
        I0TError: features or pairs that do not fit, or a NaN, infinite or zero vector.

    Example:
        >>> gap = modality_gap(np.eye(4)[:2], np.eye(4)[2:])
        >>> gap["centroid_distance"], gap["severity"], gap["first_cross_modal_rank"]
        (1.0, 'severe', 1.3333333333333333)
    """
    x, y = _units(image_features, text_features)
    matched = _checked_pairs(pairs, len(x), len(y))
    distance = centroid_distance(x, y)
    rank_image, share_image = first_cross_modal_rank(x, y)
    rank_text, share_text = first_cross_modal_rank(y, x)
    return {
        "centroid_distance": distance,
        "centroid_distance_debiased": centroid_distance_debiased(x, y, matched),
        "severity": severity(distance),
        "linear_separability": linear_separability(x, y, seed),
        "separability_auc": separability_auc(x, y, matched, seed),
        "min_cosine_distance": min_cosine_distance(x, y),
        "relative_modality_gap": relative_modality_gap(x, y, matched),
        "alignment": alignment(x, y, matched),
        "uniformity_image": uniformity(x),
        "uniformity_text": uniformity(y),
        "first_cross_modal_rank_image": rank_image,
        "first_cross_modal_rank_text": rank_text,
        "first_cross_modal_rank": (rank_image + rank_text) / 2,
        "cross_modal_neighbor_share": (share_image + share_text) / 2,
        "n_images": len(x),
        "n_texts": len(y),
        "n_pairs": len(matched),
    }


def centroid_distance(image_features: Any, text_features: Any) -> float:
    """CD = ||mean x - mean y|| of the normalised vectors, 0..2 (Liang et al. 2022; paper section 3).

    Example:
        >>> centroid_distance(np.array([[2.0, 0.0]]), np.array([[-1.0, 0.0]]))
        2.0
    """
    x, y = _units(image_features, text_features)
    return float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0)))


def centroid_distance_debiased(image_features: Any, text_features: Any, pairs: Any = None) -> float:
    """CD without what finite samples add to it: sqrt(max(0, CD^2 - bias)).

    Means of few items differ even without a gap: E[CD^2] exceeds the true value by
    tr Cov(x - y) / n for n pairs that use every item once, else by tr Cov(x) / N + tr Cov(y) / M.
    Covariances are the unbiased ones: NaN for a single item. Meaningless, and 0, for features
    centred on their own means.

    Example:
        >>> same = np.random.default_rng(0).normal(size=(2, 50, 8))
        >>> round(centroid_distance(*same), 2), round(centroid_distance_debiased(*same), 2)
        (0.11, 0.0)
    """
    x, y = _units(image_features, text_features)
    matched = _checked_pairs(pairs, len(x), len(y))
    if min(len(x), len(y)) < 2:
        return NAN
    if len(x) == len(y) == len(matched) and all(len(np.unique(side)) == len(x) for side in matched.T):
        bias = (x[matched[:, 0]] - y[matched[:, 1]]).var(axis=0, ddof=1).sum() / len(matched)
    else:
        bias = sum(side.var(axis=0, ddof=1).sum() / len(side) for side in (x, y))
    return float(np.sqrt(max(0.0, centroid_distance(x, y) ** 2 - bias)))


def severity(distance: float) -> str:
    """Word for a centroid distance (paper section 3.1): severe from 0.63, moderate from 0.19, low.

    Example:
        >>> severity(0.7642), severity(0.4795), severity(0.0102)
        ('severe', 'moderate', 'low')
    """
    return "severe" if distance >= 0.63 else "moderate" if distance >= 0.19 else "low"


def linear_separability(image_features: Any, text_features: Any, seed: int = 0) -> float:
    """LS = 1 - MSE of a linear regression on image = 1, text = 0 (paper section 3; Fahim et al. 2024).

    Fitted on a random 70 % of all vectors, measured on the other 30 %: 1 is separable; no gap is
    about 0.75 if N = M, and near 1 if one modality is rare. Lower, without bound, where D is near
    the number of vectors or the means are those of the set itself; `separability_auc` is steadier.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 50, 3)) + [[[5, 0, 0]], [[-5, 0, 0]]]
        >>> round(linear_separability(images, texts), 2)
        1.0
    """
    from sklearn.linear_model import LinearRegression
    from threadpoolctl import threadpool_limits

    vectors, is_image = _labelled(*_units(image_features, text_features))
    order = np.random.default_rng(seed).permutation(len(vectors))
    train, test = np.split(order, [round(0.7 * len(order))])
    if not len(train) or not len(test):
        return NAN
    with threadpool_limits(1, "blas"):  # no slower, and 50 times faster where the cores are busy
        predicted = LinearRegression().fit(vectors[train], is_image[train]).predict(vectors[test])
    return 1.0 - float(np.mean((predicted - is_image[test]) ** 2))


def separability_auc(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> float:
    """Cross-fitted AUC of a ridge classifier of image against text: 0.5 is no gap, 1 is separable.

    Below 0.5 the means leaked: centring on the evaluated set itself gives each held-out part the
    opposite offset of the part that was fitted. Mean over five folds; items linked by pairs share
    one, so that no caption is fitted while its image is tested. NaN with fewer than five linked
    groups, or no fold with both modalities.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 50, 3)) + [[[5, 0, 0]], [[-5, 0, 0]]]
        >>> separability_auc(images, texts)
        1.0
    """
    from sklearn.linear_model import Ridge
    from sklearn.metrics import roc_auc_score
    from threadpoolctl import threadpool_limits

    x, y = _units(image_features, text_features)
    group = _linked_groups(_checked_pairs(pairs, len(x), len(y)), len(x), len(y))
    n_groups = int(group.max()) + 1
    if n_groups < FOLDS:
        return NAN
    fold = (np.random.default_rng(seed).permutation(n_groups) % FOLDS)[group]
    vectors, is_image = _labelled(x, y)
    areas = []
    for held_out in (fold == number for number in range(FOLDS)):
        if len(np.unique(is_image[held_out])) == len(np.unique(is_image[~held_out])) == 2:
            with threadpool_limits(1, "blas"):  # as in linear_separability
                ridge = Ridge(alpha=RIDGE_PENALTY).fit(vectors[~held_out], is_image[~held_out])
            areas.append(roc_auc_score(is_image[held_out], ridge.predict(vectors[held_out])))
    return float(np.mean(areas)) if areas else NAN


def min_cosine_distance(image_features: Any, text_features: Any) -> float:
    """MCD = min over all i, j of 1 - cos(x_i, y_j), 0..2: the closest any image comes to any text.

    Example:
        >>> min_cosine_distance(np.eye(3)[:2], np.eye(3)[1:])
        0.0
    """
    x, y = _units(image_features, text_features)
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
    x, y = _units(image_features, text_features)
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
    x, y = _units(image_features, text_features)
    matched = _checked_pairs(pairs, len(x), len(y))
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
    z = _unit(features, "features").astype(np.float32)
    if len(z) < 2:
        return NAN
    total = 0.0
    for rows, cosines in score_blocks(z, z):
        # On the sphere the exponent is 4 cos - 4, within -8..0: a plain float64 sum is stable.
        kernel = np.exp(4 * cosines - 4)
        own = kernel[np.arange(len(kernel)), np.arange(rows.start, rows.stop)]
        total += float(kernel.sum(dtype=np.float64) - own.sum(dtype=np.float64))
    return float(np.log(total / (len(z) * (len(z) - 1))))


def first_cross_modal_rank(features: Any, other_features: Any) -> tuple[float, float]:
    """Where the other modality first shows up when a mixed index is searched.

    Each item is a query to all the others, of both modalities; ties count as broken at random.
    Without a gap the mean rank is about (A + B) / (B + 1), so compare only equal counts.

    Args:
        features: (A, D) the modality of the queries.
        other_features: (B, D) the other modality.

    Returns:
        Mean rank of the first item of the other modality, 1 (right at the top) to A (after all of
        the query's own), and the share, 0..1, of queries whose nearest neighbour is such an item.

    Example:
        >>> first_cross_modal_rank(np.eye(2)[[0, 0, 1]], np.eye(2)[[0, 1]])
        (1.3333333333333333, 0.6666666666666666)
    """
    z, others = (side.astype(np.float32) for side in _units(features, other_features))
    n = len(z)
    counts = np.zeros((3, n), dtype=np.int64)
    for rows, cosines in score_blocks(z, np.concatenate([z, others])):
        cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = -np.inf  # not its own neighbour
        best = cosines[:, n:].max(axis=1, keepdims=True)
        counts[0, rows] = np.count_nonzero(cosines > best, axis=1)
        counts[1, rows] = np.count_nonzero(cosines == best, axis=1)
        counts[2, rows] = np.count_nonzero(cosines[:, n:] == best, axis=1)
    ranks = TiedRanks(*counts)
    return float(ranks.expected().mean()), float(ranks.hit_probability(1).mean())


def _unit(features: Any, name: str) -> np.ndarray:
    """(N, D) float64 unit vectors, one an item."""
    check_shape(features, name)
    unit = l2_normalize(to_numpy(features).astype(np.float64, copy=False), name)
    if unit.ndim == 3:
        unit = l2_normalize(unit.mean(axis=1), name, hint="has vectors that cancel out")
    return unit


def _units(image_features: Any, text_features: Any) -> tuple[np.ndarray, np.ndarray]:
    x = _unit(image_features, "image_features")
    check_shape(text_features, "text_features", dim=x.shape[1])
    return x, _unit(text_features, "text_features")


def _labelled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([x, y]), np.repeat([1.0, 0.0], [len(x), len(y)])


def _checked_pairs(pairs: Any, n_images: int, n_texts: int) -> np.ndarray:
    """(P, 2) int64 pairs; the identity where none are given and the counts agree."""
    if pairs is None:
        if n_images != n_texts:
            raise I0TError(
                f"pairs: {n_images} images and {n_texts} texts do not pair up row by row. Pass pairs, rows "
                "(image, text), or np.zeros((0, 2), int) if none are known."
            )
        return np.stack([np.arange(n_images)] * 2, axis=1)
    array = to_numpy(pairs)
    if array.ndim != 2 or array.shape[1] != 2 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise I0TError(f"pairs: expected (P, 2) integers (image, text), got {array.dtype} {array.shape}.")
    if array.size and ((array < 0) | (array >= [n_images, n_texts])).any():
        raise I0TError(f"pairs: a row names an item outside the {n_images} images and {n_texts} texts.")
    return array.astype(np.int64)


def _linked_groups(pairs: np.ndarray, n_images: int, n_texts: int) -> np.ndarray:
    """(N + M,) number of the group of each image and text that pairs link, directly or not."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = (np.ones(len(pairs)), (pairs[:, 0], n_images + pairs[:, 1]))
    size = n_images + n_texts
    return connected_components(coo_array(links, shape=(size, size)), directed=False)[1]

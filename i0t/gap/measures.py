"""The measures of the gap: distances between images and texts, spread of each modality, nearest neighbours.

Each public measure checks its features; `modality_gap` checks and normalises once and computes all
measures. Arguments, shapes and errors of each are those of `modality_gap`.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), G groups of linked items, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from i0t.gap.resampled import gaussian_kernel, mixed_scores
from i0t.gap.unit_pairs import NO_PAIRS, UnitPairs, item_vectors, squared_distance, squared_lengths, sum_of, tiles
from i0t.metrics.ranking import TiedRanks, score_blocks

NAN = float("nan")  # for a measure that is not defined for the data
ROUNDING = 1e-12  # a smaller mean distance is rounding: all vectors are equal
FITTED_SHARE = 0.7  # of the vectors, in linear_separability
FOLDS, RIDGE_PENALTY = 5, 1.0  # of separability_auc


def modality_gap(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> dict[str, float | str]:
    """All measures of the gap between image and text features (paper section 3, and beyond).

    With more than 20 000 images and more than 20 000 texts, uniformities and separabilities are measured on a sample of
    about 20 000 vectors, whole groups of linked items, and ranks for 4 000 queries of each kind among all items; the
    intervals of `i0t.gap.intervals` include the sampling. Distances, alignment and the minimum are always of all items.

    Args:
        image_features: (N, D) or (N, Q, D) array or tensor.
        text_features: (M, D) array or tensor.
        pairs: (P, 2) int rows (image, text) of matching items, e.g. `Embeddings.pairs`. Default: row i
            with row i, if N == M. An empty (0, 2) array means that no pairs are known: the measures of
            pairs are then NaN.
        seed: of the random splits of `linear_separability` and `separability_auc`.

    Returns:
        The value of each function under its name, with `_image` or `_text` for one modality (for ranks:
        of the queries); ranks and `cross_modal_neighbor_share` are means of both; `severity` is a word;
        counts `n_images`, `n_texts`, `n_pairs`. Nothing is in percent.

    Raises:
        I0TError: features or pairs that do not fit, or a NaN, infinite or zero vector.

    Example:
        >>> import numpy as np
        >>> gap = modality_gap(np.eye(4)[:2], np.eye(4)[2:])
        >>> gap["centroid_distance"], gap["severity"], gap["first_cross_modal_rank"]
        (1.0, 'severe', 1.3333333333333333)
    """
    return measures_of(UnitPairs.of(image_features, text_features, pairs), seed)


def measures_of(items: UnitPairs, seed: int = 0) -> dict[str, float | str]:
    """`modality_gap` for checked and normalised items."""
    x, y, distance = items.x, items.y, _centroid_distance(items)
    return {
        "centroid_distance": distance,
        "centroid_distance_debiased": _centroid_distance_debiased(items),
        "severity": severity(distance),
        "linear_separability": _linear_separability(items.sample, seed),
        "separability_auc": auc_of(items.sample, seed),
        "min_cosine_distance": _min_cosine_distance(items),
        "relative_modality_gap": _relative_modality_gap(items),
        "alignment": _alignment(items),
        "uniformity_image": _uniformity(items.sample.x),
        "uniformity_text": _uniformity(items.sample.y),
        **ranks_of(items),
        "n_images": len(x),
        "n_texts": len(y),
        "n_pairs": len(items.pairs),
    }


def ranks_of(items: UnitPairs) -> dict[str, float]:
    """The measures of `modality_gap` of a mixed index."""
    rank_image, share_image = first_rank_of(items, "image")
    rank_text, share_text = first_rank_of(items, "text")
    return {
        "first_cross_modal_rank_image": rank_image,
        "first_cross_modal_rank_text": rank_text,
        "first_cross_modal_rank": (rank_image + rank_text) / 2,
        "cross_modal_neighbor_share": (share_image + share_text) / 2,
    }


def centroid_distance(image_features: Any, text_features: Any) -> float:
    """CD = ||mean x - mean y|| of the normalised vectors, 0..2 (Liang et al. 2022; paper section 3)."""
    return _centroid_distance(UnitPairs.of(image_features, text_features, NO_PAIRS))


def _centroid_distance(items: UnitPairs) -> float:
    means = (side.mean(axis=0, dtype=np.float64) for side in (items.x, items.y))
    return float(np.linalg.norm(np.subtract(*means)))


def centroid_distance_debiased(image_features: Any, text_features: Any, pairs: Any = None) -> float:
    """CD without the bias of finite samples: sqrt(max(0, CD^2 - bias)).

    Means of few items differ even without a gap. This bias is estimated from groups of items that are
    linked by pairs, such as an image with its captions, since linked items vary together. If the pairs
    use every item once, it is tr Cov(x - y) / n; without pairs it is about tr Cov(x) / N +
    tr Cov(y) / M. NaN if one group holds all images or all texts. Meaningless, and 0, for features
    centred on their own means.
    """
    return _centroid_distance_debiased(UnitPairs.of(image_features, text_features, pairs))


def _centroid_distance_debiased(items: UnitPairs) -> float:
    n = len(items.x)
    if any(len(np.unique(side)) < 2 for side in (items.group[:n], items.group[n:])):
        return NAN
    return math.sqrt(max(0.0, squared_distance(items.differences)))


def severity(distance: float) -> str:
    """Word for a centroid distance (paper section 3.1): severe from 0.63, moderate from 0.19, else low."""
    return "severe" if distance >= 0.63 else "moderate" if distance >= 0.19 else "low"


def linear_separability(image_features: Any, text_features: Any, seed: int = 0) -> float:
    """LS = 1 - MSE of a linear regression on image = 1, text = 0 (paper section 3; Fahim et al. 2024).

    Fitted on a random 70 % of all vectors, measured on the other 30 %. 1 means separable; without a gap
    it is about 0.75 if N = M, and near 1 if one modality is rare. It has no lower bound: it drops if D
    is near the number of vectors, or if the set was centred on its own means. `separability_auc` is
    more stable.
    """
    return _linear_separability(UnitPairs.of(image_features, text_features, NO_PAIRS).sample, seed)


def _linear_separability(items: UnitPairs, seed: int) -> float:
    _, errors = held_out_errors(items, seed)
    return 1.0 - float(errors.mean()) if len(errors) else NAN


def held_out_errors(items: UnitPairs, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out vectors of `linear_separability`: (T,) rows (images, then texts), and their squared errors."""
    from sklearn.linear_model import LinearRegression
    from threadpoolctl import threadpool_limits

    vectors, is_image = items.both, items.is_image
    cut, shuffled = round(FITTED_SHARE * len(vectors)), np.random.default_rng(seed).permutation(len(vectors))
    train, test = shuffled[:cut], shuffled[cut:]
    if not len(train) or not len(test):
        return test[:0], np.empty(0)
    with threadpool_limits(1, "blas"):  # no slower, and 50 times faster where the cores are busy
        # copy_X=False: indexing has made a copy already.
        predicted = LinearRegression(copy_X=False).fit(vectors[train], is_image[train]).predict(vectors[test])
    return test, (predicted - is_image[test]) ** 2


def separability_auc(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> float:
    """Cross-fitted AUC of a ridge classifier of image against text: 0.5 is no gap, 1 is separable.

    Below 0.5 the means leaked: centring on the evaluated set gives each held-out fold the opposite
    offset of the other folds. Mean over five folds; items linked by pairs are in the same fold, so that
    no caption is fitted while its image is tested. NaN with fewer than five linked groups, or if no
    fold has both modalities.
    """
    return auc_of(UnitPairs.of(image_features, text_features, pairs).sample, seed)


def auc_of(items: UnitPairs, seed: int = 0) -> float:
    """`separability_auc` for checked and normalised items."""
    return mean_area(held_out_scores(items, seed), items.is_image)


def held_out_scores(items: UnitPairs, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows (images, then texts) and their scores, per fold of `separability_auc`; empty with too few groups."""
    from sklearn.linear_model import Ridge
    from threadpoolctl import threadpool_limits

    if items.n_groups < FOLDS:
        return []
    fold = (np.random.default_rng(seed).permutation(items.n_groups) % FOLDS)[items.group]
    vectors, is_image = items.both, items.is_image
    found = []
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(np.unique(is_image[train])) == 2:
            with threadpool_limits(1, "blas"):  # as in held_out_errors
                model = Ridge(alpha=RIDGE_PENALTY, copy_X=False).fit(vectors[train], is_image[train])
                found.append((test, model.predict(vectors[test])))
    return found


def mean_area(scored: list[tuple[np.ndarray, np.ndarray]], is_image: np.ndarray) -> float:
    """Mean AUC of image against text over the folds with both; NaN if there is none."""
    from sklearn.metrics import roc_auc_score

    areas = [roc_auc_score(is_image[rows], scores) for rows, scores in scored if len(np.unique(is_image[rows])) == 2]
    return float(np.mean(areas)) if areas else NAN


def min_cosine_distance(image_features: Any, text_features: Any) -> float:
    """MCD = min over all i, j of 1 - cos(x_i, y_j), 0..2: the smallest distance of any image to any text."""
    return _min_cosine_distance(UnitPairs.of(image_features, text_features, NO_PAIRS))


def _min_cosine_distance(items: UnitPairs) -> float:
    x, y = (side.astype(np.float32, copy=False) for side in (items.x, items.y))
    products = tiles(x, y) if items.is_large else (cosines for _, cosines in score_blocks(x, y))
    closest = max(float(cosines.max()) for cosines in products)
    return max(0.0, 1.0 - closest)  # float32 rounding can put a cosine above 1


def relative_modality_gap(image_features: Any, text_features: Any, pairs: Any = None) -> float:
    """RMG = P / (P + (I + T) / 2), 0..1 (Schrodi et al. 2024), with distances (1 - cos) / 2.

    P is the mean over pairs, I and T the means over all different images and all different texts. 0.5
    means that a pair is as far apart as two random items of one modality. It depends less on the number
    of items than the other measures. NaN without pairs, with a single image or text, or if all items
    are equal.
    """
    return _relative_modality_gap(UnitPairs.of(image_features, text_features, pairs))


def _relative_modality_gap(items: UnitPairs) -> float:
    apart = _alignment(items) / 4  # ||x - y||^2 = 2 (1 - cos)
    whole = apart + (_mean_distance(items.x) + _mean_distance(items.y)) / 2
    return apart / whole if whole > ROUNDING else NAN


def _mean_distance(z: np.ndarray) -> float:
    """Mean (1 - cos) / 2 of all different items, computed from their sum."""
    if (n := len(z)) < 2:
        return NAN
    mean_cosine = (np.sum(sum_of(z) ** 2) - n) / (n * (n - 1))
    return float(max(0.0, (1.0 - mean_cosine) / 2))


def alignment(image_features: Any, text_features: Any, pairs: Any = None) -> float:
    """Mean ||x - y||^2 of the pairs, 0..4 (Wang & Isola 2020); NaN without pairs."""
    return _alignment(UnitPairs.of(image_features, text_features, pairs))


def _alignment(items: UnitPairs) -> float:
    return float(np.mean(squared_lengths(items))) if len(items.pairs) else NAN


def uniformity(features: Any) -> float:
    """Log of the mean over i < j of exp(-2 ||z_i - z_j||^2), -8..0 (Wang & Isola 2020), one modality.

    0 means all in one point; vectors spread evenly in many dimensions have -4. NaN for one item.
    """
    return _uniformity(item_vectors(features, "features"))


def _uniformity(z: np.ndarray) -> float:
    if (n := len(z)) < 2:
        return NAN
    z, total = z.astype(np.float32), 0.0
    for rows, cosines in score_blocks(z, z):
        kernel = gaussian_kernel(cosines)  # within exp(-8)..1: a plain float64 sum is stable
        own = kernel[np.arange(len(kernel)), np.arange(rows.start, rows.stop)]
        total += float(kernel.sum(dtype=np.float64) - own.sum(dtype=np.float64))
    return float(np.log(total / (n * (n - 1))))


def first_cross_modal_rank(features: Any, other_features: Any) -> tuple[float, float]:
    """Rank of the first item of the other modality when a mixed index is searched.

    Each item is a query to all other items of both modalities; ties count as broken at random.
    Without a gap the mean rank is about (A + B) / (B + 1), so compare only equal counts.

    Args:
        features: (A, D) the modality of the queries.
        other_features: (B, D) the other modality.

    Returns:
        Mean rank of the first item of the other modality, 1 (at the top) to A (after all items of the
        query's modality); and the share, 0..1, of queries whose nearest neighbour is of the other modality.
    """
    return first_rank_of(UnitPairs.of(features, other_features, NO_PAIRS), "image")


def first_rank_of(items: UnitPairs, queries: str) -> tuple[float, float]:
    """`first_cross_modal_rank` for checked items, `queries` being "image" or "text"."""
    own, others, asked, blocks = mixed_scores(items, queries)
    counts = np.zeros((3, len(asked)), dtype=np.int64)
    for rows, cosines in blocks:
        cosines[np.arange(len(cosines)), own.start + asked[rows]] = -np.inf  # not its own neighbour
        best = cosines[:, others].max(axis=1, keepdims=True)
        counts[0, rows] = np.count_nonzero(cosines > best, axis=1)
        counts[1, rows] = np.count_nonzero(cosines == best, axis=1)
        counts[2, rows] = np.count_nonzero(cosines[:, others] == best, axis=1)
    ranks = TiedRanks(*counts)
    return float(ranks.expected().mean()), float(ranks.hit_probability(1).mean())

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

from i0t.gap.distances import (
    alignment,
    centroid_distance,
    centroid_distance_debiased,
    min_cosine_distance,
    relative_modality_gap,
    severity,
    uniformity,
)
from i0t.gap.items import checked_pairs, units
from i0t.gap.neighbors import first_cross_modal_rank
from i0t.gap.separability import linear_separability, separability_auc

__all__ = [
    "alignment",
    "centroid_distance",
    "centroid_distance_debiased",
    "first_cross_modal_rank",
    "linear_separability",
    "min_cosine_distance",
    "modality_gap",
    "relative_modality_gap",
    "separability_auc",
    "severity",
    "uniformity",
]


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
        >>> import numpy as np
        >>> gap = modality_gap(np.eye(4)[:2], np.eye(4)[2:])
        >>> gap["centroid_distance"], gap["severity"], gap["first_cross_modal_rank"]
        (1.0, 'severe', 1.3333333333333333)
    """
    x, y = units(image_features, text_features)
    matched = checked_pairs(pairs, len(x), len(y))
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

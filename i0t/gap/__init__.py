"""Measures of the modality gap: how far apart, how separable, how mixed images and texts are.

Each measure is one function; `modality_gap` computes all. No single measure is enough: centroid distance
does not see differences of shape, separability does not see the size of the gap, and only the cross-modal
ranks say what a mixed index returns. Features are NumPy arrays or torch tensors; they are L2-normalised
once, in float64 (float32 for the cosines of all pairs). An item with several vectors (N, Q, D) counts as one: the
normalised mean of its normalised vectors. Sets of more than 20 000 images and 20 000 texts are kept in float32, and
measured on a sample where the cost grows with their square; see `modality_gap`.
Intervals are in `i0t.gap.intervals`, warnings in `i0t.gap.trust`.
"""

from i0t.gap.measures import (
    alignment,
    centroid_distance,
    centroid_distance_debiased,
    first_cross_modal_rank,
    linear_separability,
    min_cosine_distance,
    modality_gap,
    relative_modality_gap,
    separability_auc,
    severity,
    uniformity,
)

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

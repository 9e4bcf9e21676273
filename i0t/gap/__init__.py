"""Measures of the modality gap: how far apart, how separable, how mixed images and texts are.

Each measure is one function; `modality_gap` runs them all. None stands alone: centroid distance
misses a gap of shape, separability its size, and only the cross-modal ranks say what a mixed
index would return. Features are NumPy arrays or torch tensors, L2-normalised once, in float64
(cosines of all with all: float32). Items of several vectors (N, Q, D) count as one vector, the
normalised mean of their normalised vectors. Intervals are in `i0t.gap.intervals`, doubts in `i0t.gap.trust`.
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

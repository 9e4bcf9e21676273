"""Zero-shot classification accuracy (paper App. D): plain and class-balanced, ties as chance.

Shapes: N images, Q vectors per image (BLIP-2 queries), C classes, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import to_numpy
from i0t.metrics.ranking import score_blocks, unit_rows


def classification_metrics(image_features: Any, class_features: Any, labels: Any) -> dict[str, float]:
    """Accuracy in percent of taking the class with the highest cosine (paper App. D).

    The features are L2-normalised first; (N, Q, D) images score the maximum over Q. If t classes share
    the top score of an image and its own class is among them, it counts 1/t, so that constant features
    score exactly chance. Balanced accuracy, the number in Tables 1 and 2, is the mean recall over the
    classes that occur among the labels.

    Args:
        image_features: (N, D) or (N, Q, D) array or tensor.
        class_features: (C, D) one vector per class, e.g. the mean of its templates.
        labels: (N,) int, the class of each image.

    Returns:
        `accuracy` and `balanced_accuracy`, both in percent.

    Raises:
        I0TError: shapes that do not fit, or labels outside 0..C-1.

    Example:
        >>> classification_metrics(np.eye(2)[[0, 0, 0, 1]], np.eye(2), [0, 0, 1, 1])
        {'accuracy': 75.0, 'balanced_accuracy': 75.0}
    """
    images = unit_rows(image_features, "image_features")
    classes = unit_rows(class_features, "class_features", dim=images.shape[-1])
    classes_of_images = _checked_labels(labels, len(images), len(classes))
    earned = np.zeros(len(images))
    for rows, scores in score_blocks(images, classes):
        top = scores == scores.max(axis=1, keepdims=True)
        hit = np.take_along_axis(top, classes_of_images[rows, None], axis=1)[:, 0]
        earned[rows] = hit / np.count_nonzero(top, axis=1)
    _, of_class, sizes = np.unique(classes_of_images, return_inverse=True, return_counts=True)
    recalls = np.bincount(of_class, weights=earned) / sizes
    return {
        "accuracy": 100.0 * float(earned.mean()),
        "balanced_accuracy": 100.0 * float(recalls.mean()),
    }


def _checked_labels(labels: Any, n_images: int, n_classes: int) -> np.ndarray:
    array = to_numpy(labels)
    if array.shape != (n_images,) or not np.issubdtype(array.dtype, np.integer):
        raise I0TError(f"labels: expected {n_images} integers, one for each image, got {array.dtype} {array.shape}.")
    if not 0 <= array.min() <= array.max() < n_classes:
        raise I0TError(
            f"labels: must lie in 0..{n_classes - 1}, the rows of class_features, got {array.min()}..{array.max()}."
        )
    return array.astype(np.int64)

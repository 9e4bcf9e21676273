"""What every measure starts from: unit vectors, one an item, and checked pairs.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), Q vectors an item, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape, l2_normalize, to_numpy

NAN = float("nan")  # of a measure that the data do not define


def unit(features: Any, name: str) -> np.ndarray:
    """(N, D) float64 unit vectors, one an item.

    Example:
        >>> unit(np.array([[3.0, 4.0]]), "images").tolist(), unit(np.eye(2)[None], "images").round(3).tolist()
        ([[0.6, 0.8]], [[0.707, 0.707]])
    """
    check_shape(features, name)
    vectors = l2_normalize(to_numpy(features).astype(np.float64, copy=False), name)
    if vectors.ndim == 3:
        vectors = l2_normalize(vectors.mean(axis=1), name, hint="has vectors that cancel out")
    return vectors


def units(image_features: Any, text_features: Any) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) and (M, D) float64 unit vectors of both modalities, of one dimension.

    Example:
        >>> x, y = units(np.array([[3.0, 4.0]]), np.array([[0.0, 2.0], [5.0, 0.0]], dtype=np.float32))
        >>> x.tolist(), y.tolist()
        ([[0.6, 0.8]], [[0.0, 1.0], [1.0, 0.0]])
    """
    x = unit(image_features, "image_features")
    check_shape(text_features, "text_features", dim=x.shape[1])
    return x, unit(text_features, "text_features")


def checked_pairs(pairs: Any, n_images: int, n_texts: int) -> np.ndarray:
    """(P, 2) int64 pairs; the identity where none are given and the counts agree.

    Example:
        >>> checked_pairs(None, 2, 2).tolist(), checked_pairs([[0, 1], [0, 0]], 1, 2).tolist()
        ([[0, 0], [1, 1]], [[0, 1], [0, 0]])
    """
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

"""`UnitPairs`: images and texts that are checked and normalised once, and what their linked groups say of the gap.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), G groups of linked items, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape, l2_normalize, to_numpy

NO_PAIRS = np.zeros((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class UnitPairs:
    """Images and texts, checked and normalised once: what all measures work on.

    Attributes:
        x: (N, D) float64 unit vectors, one per image.
        y: (M, D) float64 unit vectors, one per text.
        pairs: (P, 2) int64 rows (image, text) that belong together.
    """

    x: np.ndarray
    y: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, image_features: Any, text_features: Any, pairs: Any = None) -> UnitPairs:
        """Check and normalise what `modality_gap` takes."""
        x = item_vectors(image_features, "image_features")
        check_shape(text_features, "text_features", dim=x.shape[1])
        y = item_vectors(text_features, "text_features")
        return cls(x, y, _checked_pairs(pairs, len(x), len(y)))

    @cached_property
    def group(self) -> np.ndarray:
        """(N + M,) number of each item's group, images first: items that pairs link, directly or not."""
        return linked_groups(self.pairs, len(self.x), len(self.y))

    @property
    def n_groups(self) -> int:
        """G."""
        return int(self.group.max()) + 1

    @property
    def both(self) -> np.ndarray:
        """(N + M, D) images, then texts."""
        return np.concatenate([self.x, self.y])

    @property
    def is_image(self) -> np.ndarray:
        """(N + M,) 1.0 for images, 0.0 for texts."""
        return np.repeat([1.0, 0.0], [len(self.x), len(self.y)])

    @cached_property
    def differences(self) -> np.ndarray:
        """(G, D) what each group says of mean x - mean y: d_g of `group_differences`."""
        return group_differences(self.x, self.y, self.group)


def item_vectors(features: Any, name: str) -> np.ndarray:
    """(N, D) float64 unit vectors; an item of several vectors becomes their normalised mean."""
    check_shape(features, name)
    vectors = l2_normalize(to_numpy(features).astype(np.float64, copy=False), name)
    if vectors.ndim == 3:
        vectors = l2_normalize(vectors.mean(axis=1), name, hint="has vectors that cancel out")
    return vectors


def _checked_pairs(pairs: Any, n_images: int, n_texts: int) -> np.ndarray:
    """(P, 2) int64 pairs; by default row i with row i, where the counts agree."""
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


def linked_groups(pairs: np.ndarray, n_images: int, n_texts: int) -> np.ndarray:
    """(N + M,) number of the group of each image and then each text: those that pairs link, directly or not.

    Example:
        >>> linked_groups(np.array([[0, 0], [0, 1], [1, 2]]), n_images=2, n_texts=4).tolist()
        [0, 1, 0, 0, 1, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = (np.ones(len(pairs)), (pairs[:, 0], n_images + pairs[:, 1]))
    size = n_images + n_texts
    return connected_components(coo_array(links, shape=(size, size)), directed=False)[1]


def group_differences(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(G, D) d_g: the vectors x - y for pairs; in general, vectors whose mean is mean x - mean y.

    With s_g(z) the sum of z - mean z over the items of group g (0 where it has none),
    d_g = mean x - mean y + (G / N) s_g(x) - (G / M) s_g(y). The spread of the d_g over the groups is the
    error of mean x - mean y.
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
    """CD^2 without bias: the mean of d_g . d_h over all g != h (a U-statistic); it may be below 0."""
    total, n = differences.sum(axis=0), len(differences)
    return float((total @ total - np.sum(differences**2)) / (n * (n - 1)))

"""`UnitPairs`: checked and normalised images and texts, their linked groups, and differences per group.

A large set (`is_large`) is kept once, in float32, and worked on in blocks; measures whose cost grows faster than the
set are taken from a sample of it. A smaller set is kept in float64 and measured as a whole.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), G groups of linked items, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape, l2_normalize, row_slices, to_numpy

NO_PAIRS = np.zeros((0, 2), dtype=np.int64)
LARGE = 20_000  # a set is large if it has more images than this, and more texts
SAMPLED = 20_000  # vectors, about, in the sample of a large set
ASKED = 4_000  # images, and texts, of a large set that are queries
BLOCK_BYTES = 32 * 2**20  # of a large set, converted to float64 at once


@dataclass(frozen=True)
class UnitPairs:
    """Checked and normalised images and texts, the input of all measures.

    Attributes:
        x: (N, D) unit vectors, one per image; float64, or float32 of a large set.
        y: (M, D) unit vectors, one per text.
        pairs: (P, 2) int64 rows (image, text) of matching items.
        stacked: (N + M, D) of a large set or its sample, of which x and y are views.
    """

    x: np.ndarray
    y: np.ndarray
    pairs: np.ndarray
    stacked: np.ndarray | None = None

    @classmethod
    def of(cls, image_features: Any, text_features: Any, pairs: Any = None) -> UnitPairs:
        """Check and normalise the arguments of `modality_gap`."""
        check_shape(image_features, "image_features")
        check_shape(text_features, "text_features", dim=image_features.shape[-1])
        n, m = len(image_features), len(text_features)
        if min(n, m) <= LARGE:
            x, y = item_vectors(image_features, "image_features"), item_vectors(text_features, "text_features")
            return cls(x, y, _checked_pairs(pairs, n, m))
        known = _checked_pairs(pairs, n, m)
        stacked = np.empty((n + m, image_features.shape[-1]), dtype=np.float32)
        _fill_unit(stacked[:n], image_features, "image_features")
        _fill_unit(stacked[n:], text_features, "text_features")
        return cls(stacked[:n], stacked[n:], known, stacked)

    @property
    def is_large(self) -> bool:
        """Whether some measures are taken from a sample."""
        return self.x.dtype == np.float32

    @cached_property
    def sample(self) -> UnitPairs:
        """Itself; of a large set, groups of linked items drawn at random, about `SAMPLED` vectors in float64."""
        if not self.is_large:
            return self
        drawn = np.random.default_rng(0).permutation(self.n_groups)
        until = np.cumsum(np.bincount(self.group)[drawn])
        kept = np.isin(self.group, drawn[: max(1, np.searchsorted(until, SAMPLED))])
        n, place = int(kept[: len(self.x)].sum()), np.cumsum(kept) - 1
        inside = self.pairs[kept[self.pairs[:, 0]]]
        pairs = place[inside + [0, len(self.x)]] - [0, n]
        stacked = self.both[kept].astype(np.float64)
        return UnitPairs(stacked[:n], stacked[n:], pairs, stacked)

    def asked(self, side: np.ndarray) -> np.ndarray:
        """Rows of x or y (`side`) that are queries of ranks: all; of a large set, `ASKED` drawn at random."""
        if not self.is_large:
            return np.arange(len(side))
        return np.sort(np.random.default_rng(0).permutation(len(side))[:ASKED])

    @cached_property
    def group(self) -> np.ndarray:
        """(N + M,) group number of each item, images first; see `linked_groups`."""
        return linked_groups(self.pairs, len(self.x), len(self.y))

    @property
    def n_groups(self) -> int:
        """G."""
        return int(self.group.max()) + 1

    @property
    def both(self) -> np.ndarray:
        """(N + M, D) images, then texts."""
        return np.concatenate([self.x, self.y]) if self.stacked is None else self.stacked

    @property
    def is_image(self) -> np.ndarray:
        """(N + M,) 1.0 for images, 0.0 for texts."""
        return np.repeat([1.0, 0.0], [len(self.x), len(self.y)])

    @cached_property
    def differences(self) -> np.ndarray:
        """(G, D) `group_differences`, in the precision of x."""
        return group_differences(self.x, self.y, self.group)


def item_vectors(features: Any, name: str) -> np.ndarray:
    """(N, D) float64 unit vectors; an item with several vectors becomes their normalised mean."""
    check_shape(features, name)
    vectors = l2_normalize(to_numpy(features).astype(np.float64, copy=False), name)
    if vectors.ndim == 3:
        vectors = l2_normalize(vectors.mean(axis=1), name, hint="has vectors that cancel out")
    return vectors


def _fill_unit(unit: np.ndarray, features: Any, name: str) -> None:
    """Write `item_vectors` to `unit` in blocks."""
    for rows in row_slices(len(unit), max(1, BLOCK_BYTES // (8 * int(np.prod(features.shape[1:]))))):
        try:
            unit[rows] = item_vectors(features[rows], name)
        except I0TError:
            item_vectors(features, name)  # the whole array's error: its row numbers
            raise


def blocks_of(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of rows in float64; float64 rows at once, as they are."""
    if vectors.dtype == np.float64:
        yield vectors
        return
    for rows in row_slices(len(vectors), max(1, BLOCK_BYTES // (8 * vectors.shape[1]))):
        yield vectors[rows].astype(np.float64)


def _checked_pairs(pairs: Any, n_images: int, n_texts: int) -> np.ndarray:
    """(P, 2) int64 pairs; by default row i with row i, if the counts agree."""
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
    """(N + M,) group number of each image, then each text; items linked by pairs, directly or not, share a group.

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
    differences = np.empty((n_groups, x.shape[1]), dtype=x.dtype)
    for columns in column_slices(x, len(group)):
        own, other = (side[:, columns].astype(np.float64, copy=False) for side in (x, y))
        mean_x, mean_y = own.mean(axis=0), other.mean(axis=0)
        part = np.tile(mean_x - mean_y, (n_groups, 1))
        part += _sums(own - mean_x, group[: len(x)], n_groups) * (n_groups / len(x))
        part -= _sums(other - mean_y, group[len(x) :], n_groups) * (n_groups / len(y))
        differences[:, columns] = part
    return differences


def column_slices(x: np.ndarray, n_rows: int) -> list[slice]:
    """All columns at once in float64; few at a time of a large set."""
    if x.dtype == np.float64:
        return [slice(None)]
    return row_slices(x.shape[1], max(1, BLOCK_BYTES // (8 * n_rows)))


def _sums(vectors: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """(G, D) sum of the vectors of each group; `np.add.at` takes several times as long."""
    from scipy.sparse import csr_array

    member = csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    return member @ vectors


def squared_distance(differences: np.ndarray) -> float:
    """CD^2 without bias: the mean of d_g . d_h over all g != h (a U-statistic); it may be below 0."""
    total, n = sum_of(differences), len(differences)
    squares = sum(np.sum(block**2) for block in blocks_of(differences))
    return float((total @ total - squares) / (n * (n - 1)))


def sum_of(vectors: np.ndarray) -> np.ndarray:
    """(D,) sum of the rows, in float64."""
    return vectors.sum(axis=0, dtype=np.float64)


def gram_of(differences: np.ndarray) -> np.ndarray:
    """Inner products of the columns, or of the rows if there are fewer: a matrix of the same eigenvalues but zeros."""
    if differences.shape[1] >= len(differences):
        return differences @ differences.T
    first, *others = (block.T @ block for block in blocks_of(differences))
    return sum(others, start=first)


def squared_lengths(items: UnitPairs) -> np.ndarray:
    """(P,) ||x - y||^2 of the pairs, in float64."""
    step = max(1, BLOCK_BYTES // (8 * items.x.shape[1]))
    found = []
    for rows in row_slices(len(items.pairs), step):
        image, text = items.pairs[rows].T
        found.append(np.sum((items.x[image].astype(np.float64) - items.y[text]) ** 2, axis=1))
    return np.concatenate(found)


def tiles(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Yield square blocks of x y'; with all texts at once, blocks of few rows take up to twice the time."""
    side = max(1, math.isqrt(BLOCK_BYTES // 4))
    for rows in row_slices(len(x), side):
        for columns in row_slices(len(y), side):
            yield x[rows] @ y[columns].T

"""Arithmetic of standardised scores, for NumPy arrays and torch tensors, in blocks.

A scale is a mean and a deviation of cosines, (..., 2). Shapes: A queries, C items, H items of a cohort, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape, is_torch, l2_normalize, row_slices
from i0t.metrics.ranking import BLOCK_BYTES, distinct_rows
from i0t.search.index import require_one_vector
from i0t.standardize.second_moments import FullMoments

ITSELF = 1 - 1e-5  # two vectors of one kind with a larger cosine are one item, or a copy of it
LEAST = 0.2  # of the kind pair's deviation: the nearest of a small cohort may hardly differ by chance, or be copies
EQUAL = 1e-6  # a smaller deviation of float32 cosines is rounding


def standardized(cosines: Any, query_scales: Any, item_scales: Any) -> Any:
    """Standardise cosines: s' = ((s - mean_q) / deviation_q + (s - mean_d) / deviation_d) / 2.

    Args:
        cosines: (A, C) array or tensor of queries and items of one kind each; or (A, L), item by item.
        query_scales: (A, 2) scales of the queries against the kind of the items.
        item_scales: (C, 2) scales of the items against the kind of the queries; or (A, L, 2).

    Returns:
        (A, C) or (A, L) as `cosines`.
    """
    of_query, of_item = query_scales[:, None, :], item_scales
    by_query = (cosines - of_query[..., 0]) / of_query[..., 1]
    return (by_query + (cosines - of_item[..., 0]) / of_item[..., 1]) / 2


def pair_scale(one: FullMoments, other: FullMoments, is_same: bool) -> np.ndarray:
    """(2,) float64 mean and deviation of the cosines of all items of one cohort with all of another, from their sums.

    The mean of all products x.y is the product of the means, and the mean of their squares the product of the second
    moments. For a cohort with itself (`is_same`), the cosine 1 of every item with itself is left out.
    """
    pairs = one.count * other.count
    total = float(one.sums["sum"] @ other.sums["sum"])
    squares = float(np.sum(one.sums["product_sum"] * other.sums["product_sum"]))
    if is_same:
        pairs, total, squares = pairs - one.count, total - one.count, squares - one.count
    mean = total / pairs
    return np.array([mean, np.sqrt(max(squares / pairs - mean**2, 0.0))])


def nearest_scales(vectors: Any, cohort: Any, top: int, pair: np.ndarray, is_same: bool) -> Any:
    """(A, 2) mean and deviation of the `top` largest cosines of each vector with a cohort.

    Args:
        vectors: (A, D) unit vectors. Equal rows get equal scales, to the last bit.
        cohort: (H, D) unit vectors of the same library and device.
        top: number of cosines.
        pair: (2,) scale of the kind pair.
        is_same: whether both are of one kind; cosines with the item itself or copies of it then count as the mean of
            the kind pair.
    """
    if not is_torch(vectors):
        first, copy_of = distinct_rows(vectors)
        if len(first) < len(vectors):
            return nearest_scales(vectors[first], cohort, top, pair, is_same)[copy_of]
    mean, least = (float(value) for value in (pair[0], LEAST * pair[1]))
    scales = [_scales_of(block, top, mean, least, is_same) for _, block in cosine_blocks(vectors, cohort)]
    return library_of(vectors).concatenate(scales)


def cosine_blocks(vectors: Any, others: Any) -> Iterator[tuple[slice, Any]]:
    """Yield cosines of unit vectors (A, D) with (C, D), one block of rows at a time, of at most `BLOCK_BYTES`."""
    for rows in row_slices(len(vectors), max(1, BLOCK_BYTES // (4 * len(others)))):
        yield rows, vectors[rows] @ others.T


def unit_float32(features: Any, name: str, dim: int | None = None) -> Any:
    """Check and normalise (N, D) features; float32 or wider, of the same library and device.

    Raises:
        I0TError: wrong shape or type, several vectors per item, or a row without direction.
    """
    check_shape(features, name, dim)
    require_one_vector(features, name)
    if is_torch(features):
        return l2_normalize(features.float() if features.element_size() < 4 else features, name)
    return l2_normalize(features.astype(np.float32) if features.dtype.itemsize < 4 else features, name)


def as_library(array: np.ndarray, like: Any) -> Any:
    """Return the array in the library, dtype and device of `like`."""
    if is_torch(like):
        import torch

        return torch.as_tensor(array).to(like)
    return array.astype(like.dtype, copy=False)


def library_of(array: Any) -> Any:
    """Return the module, NumPy or torch, of an array."""
    if is_torch(array):
        import torch

        return torch
    return np


def require_spread(pair: np.ndarray, one: str, other: str) -> None:
    """Raise an error if the cosines of a kind pair do not vary."""
    if not pair[1] > EQUAL:
        raise I0TError(
            f"scores: all cosines of the fitted {one} and {other} vectors are equal ({pair[0]:.6f}), so they have no "
            "scale. Does the model map everything to one point?"
        )


def _scales_of(cosines: Any, top: int, mean: float, least: float, is_same: bool) -> Any:
    library = library_of(cosines)
    if is_same:
        cosines = library.where(cosines > ITSELF, library.full_like(cosines, mean), cosines)
    largest = _largest(cosines, top)
    center = largest.mean(-1)
    deviation = ((largest - center[:, None]) ** 2).mean(-1) ** 0.5
    return library.stack([center, deviation.clip(least)], -1)


def _largest(cosines: Any, top: int) -> Any:
    """(A, top) largest of each row, in descending order, so that equal rows have equal sums."""
    if is_torch(cosines):
        return cosines.topk(top, dim=-1).values
    return -np.sort(np.partition(-cosines, top - 1, axis=-1)[:, :top], axis=-1)

"""One list from one store per kind: ask each for its best items, standardise their scores, merge.

    constants   the top N of each kind, N >= k, hold the top k of all: exact, and no more is stored than the vectors
    adaptive    re-ranks the top N of each kind with two numbers stored per item and kind of query; `limits` tell when N
                is large enough

With constants and queries of one kind, one inner-product index serves, too: `offset_items`, `offset_queries`.

Shapes: A queries, C items, L items returned, N asked for, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from i0t.errors import I0TError
from i0t.search.index import check_k
from i0t.search.lists import first_of, merged
from i0t.search.score_arithmetic import standardized
from i0t.search.scores import ScoreStandardizer

FIRST_DEPTH = 4  # times k: items of each kind that the adaptive form asks for at first
MOST = 1000  # items of each kind that it asks for at last
ROUNDING = 1e-4  # of standardised float32 scores


@dataclass(frozen=True)
class Found:
    """Items of one kind that a store returned, best first.

    Attributes:
        ids: (A, L) in any type.
        cosines: (A, L) in descending order; -inf where there are fewer items.
        scales: (A, L, 2) scales stored with the items, against the kind of the queries; None: constants.
    """

    ids: np.ndarray
    cosines: np.ndarray
    scales: np.ndarray | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[Sequence[Any]]]) -> Found:
        """Build from what a store returns: per query, rows (id, cosine) or (id, cosine, mean, deviation), best first.

        Shorter lists are filled up with the id None.
        """
        length = max(map(len, rows))
        ids = np.full((len(rows), length), None, dtype=object)
        numbers = np.full((len(rows), length, 3), [-np.inf, 0.0, 1.0])
        for place, found in enumerate(rows):
            for column, (item, *values) in enumerate(found):
                ids[place, column] = item
                numbers[place, column, : len(values)] = values
        has_scales = any(len(found[0]) > 2 for found in rows if found)
        return cls(ids, numbers[..., 0], numbers[..., 1:] if has_scales else None)


Ask = Callable[[np.ndarray, int], Found]  # from (A, D) moved unit vectors and N


@dataclass(frozen=True)
class OneList:
    """The first k items of all kinds, best first, and all ties with the k-th.

    Attributes:
        kinds: (A, L) kind of each item, as its place in the mapping of stores; L is k, unless items tie or are fewer.
        ids: (A, L); -1, or None if ids are no whole numbers, where there are fewer items.
        scores: (A, L) standardised, in descending order; -inf where there are fewer items.
        depth: number N of items that each store was asked for.
        exact: whether no other item can be in the top k; None if unknown.
    """

    kinds: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    depth: int
    exact: bool | None


def search_kinds(
    standardizer: ScoreStandardizer,
    queries: Any,
    query_kind: str,
    stores: Mapping[str, Ask],
    k: int = 10,
    limits: Mapping[str, np.ndarray] | None = None,
    depth: int | None = None,
    most: int = MOST,
) -> OneList:
    """Search all kinds of items and rank them in one list.

    Args:
        standardizer: fitted.
        queries: (A, D), not moved.
        query_kind: their kind.
        stores: kind of items to the store's search.
        k: number of items.
        limits: `extreme_scales` of each kind's items, for the adaptive form: N grows until the top k is exact.
        depth: N to begin with.
        most: N to end with, exact or not.

    Returns:
        The list, with the N that was enough.

    Raises:
        I0TError: an unknown kind, or bad queries.
    """
    check_k(k)
    vectors = standardizer.vectors(queries, query_kind)
    is_constant = standardizer.form == "constants"
    depth = max(k, depth or (k if is_constant else FIRST_DEPTH * k))
    while True:
        exact: bool | None = True if is_constant else None if limits is None else True
        lists, bounds = [], []
        for kind, ask in stores.items():
            found = ask(vectors, depth)
            of_query = standardizer.scales_of_vectors(vectors, query_kind, kind)
            of_items = standardizer.scale(kind, query_kind) if found.scales is None else found.scales
            lists.append((found.ids, standardized(found.cosines, of_query, of_items)))
            if limits is not None and found.cosines.shape[1] >= depth:
                bounds.append(_bound(found.cosines[:, -1], of_query, limits[kind]))
        all_found = merged(lists)
        result = OneList(*first_of(all_found, k), depth, exact)
        if is_constant or limits is None or not bounds:
            return result
        last = all_found[2][:, min(k, all_found[2].shape[1]) - 1]
        if (np.max(bounds, axis=0) < last - ROUNDING).all():
            return result
        if depth >= most:
            return replace(result, exact=False)
        depth = min(4 * depth, most)


def _bound(cosines: np.ndarray, of_query: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(A,) largest score of an item that was not returned, below (A,) the last cosine that was."""
    return standardized(cosines[:, None], of_query, limits).max(axis=1)


def extreme_scales(scales: np.ndarray) -> np.ndarray:
    """(V, 2) of the (C, 2) scales of items: those that can give the largest score at some cosine.

    A score is a line in the cosine, so they are corners of the convex hull of slopes and intercepts: a few dozen of
    millions. `search_kinds` bounds the items that a store did not return by them.
    """
    wide = np.unique(scales.astype(np.float64), axis=0)
    lines = np.stack([1 / wide[:, 1], -wide[:, 0] / wide[:, 1]], axis=1)
    try:
        return wide[ConvexHull(lines).vertices]
    except (QhullError, ValueError):  # fewer than three, or all on one line
        return wide


def offset_items(standardizer: ScoreStandardizer, items: Any, kind: str, query_kind: str) -> np.ndarray:
    """(C, D + 1) float32 vectors (d / deviation, -mean / deviation) for one inner-product index of all kinds.

    Their inner products with `offset_queries` are the standardised scores, for queries of one kind.

    Raises:
        I0TError: not the form "constants".
    """
    if standardizer.form != "constants":
        raise I0TError(f"offset_items: needs form 'constants', got {standardizer.form!r}, which re-ranks lists.")
    mean, deviation = standardizer.scale(query_kind, kind)
    vectors = standardizer.vectors(items, kind) / deviation
    return np.hstack([vectors, np.full((len(vectors), 1), -mean / deviation)]).astype(np.float32)


def offset_queries(standardizer: ScoreStandardizer, queries: Any, kind: str) -> np.ndarray:
    """(A, D + 1) float32 vectors (q, 1) for an index of `offset_items`."""
    vectors = standardizer.vectors(queries, kind)
    return np.hstack([vectors, np.ones((len(vectors), 1))]).astype(np.float32)

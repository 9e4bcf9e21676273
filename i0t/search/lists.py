"""Ranked lists: the best of all scores, lists put together by rows, lists of several kinds merged into one.

A list is two arrays (A, L) of A queries: places or ids of items, and scores in descending order; -1 (or None) and -inf
where a query has fewer items.

Shapes: A queries, C items, L items returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from i0t.metrics.mixed_search import without

Lists = tuple[np.ndarray, np.ndarray]


def best_of(scores: np.ndarray, k: int) -> Lists:
    """Places and values of the k largest of each row of (A, C), and of all ties with the k-th.

    Example:
        >>> places, values = best_of(np.array([[0.1, 0.9, 0.5, 0.5]]), k=2)
        >>> places.tolist(), values.tolist()
        ([[1, 2, 3]], [[0.9, 0.5, 0.5]])
    """
    k = min(k, scores.shape[1])
    kth = np.partition(scores, -k, axis=1)[:, [-k]]
    length = int((scores >= kth).sum(axis=1).max())
    places = np.sort(np.argpartition(-scores, length - 1, axis=1)[:, :length], axis=1)
    values = np.take_along_axis(scores, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(values, order, axis=1)


def by_rows(found: Sequence[Lists], rows: Sequence[Any], total: int) -> Lists:
    """Put lists of parts of the queries, with different lengths, at their rows (indices or slices)."""
    length = max(places.shape[1] for places, _ in found)
    places, scores = np.full((total, length), -1), np.full((total, length), -np.inf)
    for own, (some, values) in zip(rows, found, strict=True):
        places[own, : some.shape[1]], scores[own, : some.shape[1]] = some, values
    return places, scores


def merged(found: Sequence[Lists]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge lists of several kinds: the place of an item's list in `found`, its id, and its score, (A, L) each."""
    kinds = np.concatenate([np.full(ids.shape, place) for place, (ids, _) in enumerate(found)], axis=1)
    ids, scores = (np.concatenate(part, axis=1) for part in zip(*found))
    order = np.argsort(-scores, axis=1, kind="stable")
    one, two, three = (np.take_along_axis(part, order, axis=1) for part in (kinds, ids, scores))
    return one, two, three


def first_of(found: tuple[np.ndarray, np.ndarray, np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the first k of merged lists, and all ties with the k-th: what lies below may have better items unseen."""
    kinds, ids, scores = found
    kth = scores[:, [min(k, scores.shape[1]) - 1]]
    kept = (scores >= kth) & np.isfinite(scores)
    length = max(1, int(kept.sum(axis=1).max()))
    nothing: Any = -1 if ids.dtype.kind in "iu" else None
    ids = np.where(kept, ids, nothing)
    return kinds[:, :length], ids[:, :length], np.where(kept, scores, -np.inf)[:, :length]


def best_parts(found: Lists, document_of: np.ndarray) -> Lists:
    """Keep the best item of each document (C,): a document scores the maximum over its parts.

    Example:
        >>> places, scores = best_parts((np.array([[2, 0, 1]]), np.array([[0.9, 0.5, 0.4]])), np.array([0, 1, 0]))
        >>> places.tolist(), scores.tolist()
        ([[2, 1, -1]], [[0.9, 0.4, -inf]])
    """
    places, scores = found
    documents = np.where(places >= 0, document_of[places], -1)
    order = np.argsort(documents, axis=1, kind="stable")  # the parts of a document together, best first
    ascending, gone = np.take_along_axis(documents, order, axis=1), places < 0
    repeated = np.zeros_like(gone)
    np.put_along_axis(repeated, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
    return without(places, scores, gone | repeated)


def summed_parts(found: Lists, document_of: np.ndarray) -> Lists:
    """`best_parts`, with the sum over a document's items in the list as its score."""
    places, scores = found
    line = np.arange(len(places))[:, None] * (int(document_of.max()) + 1)
    _, item = np.unique(np.where(places >= 0, line + document_of[places], -1), return_inverse=True)
    totals = np.bincount(item.ravel(), np.where(places >= 0, scores, 0).ravel())[item.reshape(places.shape)]
    scores = np.where(places >= 0, totals, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")
    return best_parts(
        (np.take_along_axis(places, order, axis=1), np.take_along_axis(scores, order, axis=1)), document_of
    )

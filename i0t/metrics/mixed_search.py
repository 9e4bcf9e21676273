"""NDCG, recall and modality shares of a search in an index that holds images and texts.

The input is what an index returns: per query a list of places, best first, with scores. Equal scores have
no order, so each returned item counts with its mean over all orders of its ties (McSherry and Najork
2008). A model that maps everything to one point then scores as random guessing.

Shapes: A queries, L items returned per query, C items of the corpus, R judgments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError


def ranked_search_metrics(
    places: Any, scores: Any, judged: Any, grades: Any, is_text: Any, k: int = 10
) -> dict[str, np.ndarray]:
    """NDCG@k, recall@k and the share of texts in the top k, per query.

    NDCG has the grade as gain and 1 / log2(rank + 1) as discount; its ideal is the best ranking of *all* relevant
    items of the query, returned or not (Jarvelin and Kekalainen 2002). Recall is the share of the query's
    relevant items in the top k. The share of texts is among the items returned in the top k.

    Args:
        places: (A, L) int, returned items as places in the corpus, best first; -1 for none. L must include
            all ties of the k-th item, as in the result of `VectorIndex.search`.
        scores: (A, L) in descending order.
        judged: (R, 2) int rows (query, place in the corpus) with a grade.
        grades: (R,) relevance above 0.
        is_text: (C,) bool, which items of the corpus are texts.
        k: number of ranks that count.

    Returns:
        `ndcg`, `recall` and `text_share`, each (A,) in 0..1. `text_share` is NaN if nothing was returned.

    Raises:
        I0TError: a grade that is not above 0, a query without any relevant item, or k < 1.

    Example:
        >>> metrics = ranked_search_metrics([[2, 0, 1]], [[0.9, 0.5, 0.1]], [[0, 0]], [1], [False, False, True], k=2)
        >>> {name: values.round(3).tolist() for name, values in metrics.items()}
        {'ndcg': [0.631], 'recall': [1.0], 'text_share': [0.5]}
    """
    places, scores, is_text = np.asarray(places), np.asarray(scores), np.asarray(is_text, dtype=bool)
    judged, grades = np.asarray(judged).reshape(-1, 2), np.asarray(grades, dtype=np.float64)
    relevant_of = np.bincount(judged[:, 0], minlength=len(places))
    _check(relevant_of, grades, k)
    discounts, top = tie_weights(scores, k)
    found = _grades_of(places, judged, grades, len(is_text))  # 0 where nothing was returned
    return {
        "ndcg": (discounts * found).sum(axis=1) / _ideal(judged[:, 0], grades, len(places), k),
        "recall": (top * (found > 0)).sum(axis=1) / relevant_of,
        "text_share": text_share(places, scores, is_text, k),
    }


def text_share(places: np.ndarray, scores: np.ndarray, is_text: np.ndarray, k: int) -> np.ndarray:
    """(A,) share of texts (C,) among the items returned in the top k; NaN if nothing was returned."""
    top = tie_weights(scores, k)[1] * (places >= 0)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return (top * is_text[places]).sum(axis=1) / top.sum(axis=1)


def metrics_by_kind(
    places: Any,
    scores: Any,
    judged: Any,
    grades: Any,
    is_text: Any,
    query_is_text: Any,
    k: int = 10,
    is_both: Any = None,
) -> dict[str, np.ndarray]:
    """`ranked_search_metrics`, and NDCG and recall for relevant items of the query's own kind and of the other.

    A method that finds only one kind looks good where all relevant items are of that kind. For the metrics of one
    kind, relevant items of the other are taken out of the list, as they are no mistakes (Sakai 2007).

    Args:
        places: (A, L) as in `ranked_search_metrics`; L must exceed k by the number of a query's relevant items.
        scores: (A, L) in descending order.
        judged: (R, 2) int rows (query, place in the corpus) with a grade.
        grades: (R,) relevance above 0.
        is_text: (C,) bool, which items of the corpus are texts.
        query_is_text: (A,) bool, which queries are texts.
        k: number of ranks that count.
        is_both: (C,) bool, which items are documents with an image and a text: of neither kind alone. None: there are
            no such documents.

    Returns:
        Also `ndcg_own`, `recall_own`, `ndcg_other` and `recall_other`, with `is_both` also `ndcg_both` and
        `recall_both`, (A,) each in 0..1; NaN for queries without a relevant item of that kind.

    Example:
        >>> one, both = [[0, 1, 2]], [[0, 0], [0, 2]]  # items 0 and 1 are images, 2 is a text, as the query
        >>> metrics = metrics_by_kind(one, [[0.9, 0.5, 0.1]], both, [1, 1], [False, False, True], [True])
        >>> metrics["ndcg_other"].tolist(), metrics["ndcg_own"].round(3).tolist()
        ([1.0], [0.631])
    """
    places, scores, is_text = np.asarray(places), np.asarray(scores, dtype=np.float64), np.asarray(is_text, dtype=bool)
    judged, grades = np.asarray(judged).reshape(-1, 2), np.asarray(grades, dtype=np.float64)
    found = ranked_search_metrics(places, scores, judged, grades, is_text, k)
    is_other = is_text[judged[:, 1]] != np.asarray(query_is_text, dtype=bool)[judged[:, 0]]
    kinds = {"own": ~is_other, "other": is_other}
    if is_both is not None:
        both = np.asarray(is_both, dtype=bool)[judged[:, 1]]
        kinds = {"own": ~is_other & ~both, "other": is_other & ~both, "both": both}
    for kind, counts in kinds.items():
        asking = np.unique(judged[counts, 0])
        line = np.full(len(places), -1)
        line[asking] = np.arange(len(asking))
        values = {"ndcg": np.zeros(0), "recall": np.zeros(0)}
        if len(asking):
            kept, kept_scores = _without(places[asking], scores[asking], line, judged[~counts], len(is_text))
            renumbered = np.stack([line[judged[counts, 0]], judged[counts, 1]], axis=1)
            values = ranked_search_metrics(kept, kept_scores, renumbered, grades[counts], is_text, k)
        for name in ("ndcg", "recall"):
            found[f"{name}_{kind}"] = np.full(len(places), np.nan)
            found[f"{name}_{kind}"][asking] = values[name]
    return found


def _without(
    places: np.ndarray, scores: np.ndarray, line: np.ndarray, judged: np.ndarray, n_corpus: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take judged items out of the lists, and move the rest up; `line` is the row of a query in them, -1 if none."""
    rows = np.stack([line[judged[:, 0]], judged[:, 1]], axis=1)[line[judged[:, 0]] >= 0]
    if not len(rows):
        return places, scores
    return without(places, scores, _grades_of(places, rows, np.ones(len(rows)), n_corpus) > 0)


def without(places: np.ndarray, scores: np.ndarray, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take items (A, L) out of lists, and move the rest up."""
    order = np.argsort(gone, axis=1, kind="stable")
    places, scores = np.where(gone, -1, places), np.where(gone, -np.inf, scores)
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(scores, order, axis=1)


def tie_weights(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the places of (A, L) descending scores, averaged over random orders of equal scores.

    Returns:
        (A, L) mean discount 1 / log2(rank + 1), 0 beyond k; and (A, L) probability of being in the first k.

    Example:
        >>> discounts, top = tie_weights(np.array([[0.9, 0.5, 0.5, 0.5]]), k=2)
        >>> discounts.round(4).tolist(), top.round(4).tolist()
        ([[1.0, 0.2103, 0.2103, 0.2103]], [[1.0, 0.3333, 0.3333, 0.3333]])
    """
    n_queries, length = scores.shape
    counts = np.arange(length) < k
    curve = np.where(counts, 1.0 / np.log2(np.arange(length) + 2.0), 0.0)
    starts = np.ones((n_queries, length), dtype=bool)
    starts[:, 1:] = scores[:, 1:] != scores[:, :-1]
    ends = np.ones_like(starts)
    ends[:, :-1] = starts[:, 1:]
    columns = np.arange(length)
    first = np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, columns, length)[:, ::-1], axis=1)[:, ::-1]
    size = last - first + 1
    discounts, top = (
        (total[last + 1] - total[first]) / size
        for total in (np.concatenate([[0.0], np.cumsum(values)]) for values in (curve, counts))
    )
    return discounts, top


def _grades_of(places: np.ndarray, judged: np.ndarray, grades: np.ndarray, n_corpus: int) -> np.ndarray:
    """(A, L) grade of each returned item for its query, 0 if it has none."""
    keys = judged[:, 0].astype(np.int64) * n_corpus + judged[:, 1]
    order = np.argsort(keys)
    wanted = np.arange(len(places))[:, None] * n_corpus + places
    position = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    found = grades[order][position]
    return np.where((keys[order][position] == wanted) & (places >= 0), found, 0.0)


def _ideal(query_of: np.ndarray, grades: np.ndarray, n_queries: int, k: int) -> np.ndarray:
    """(A,) DCG of each query's relevant items in their best order."""
    order = np.lexsort([-grades, query_of])
    rank = np.arange(len(order)) - np.searchsorted(query_of[order], query_of[order])  # from 0, within its query
    gains = np.where(rank < k, grades[order] / np.log2(rank + 2.0), 0.0)
    return np.bincount(query_of[order], weights=gains, minlength=n_queries)


def _check(relevant_of: np.ndarray, grades: np.ndarray, k: int) -> None:
    if k < 1:
        raise I0TError(f"k: must be 1 or more, got {k}.")
    if not (grades > 0).all():
        raise I0TError("grades: each must be above 0. Leave judgments of irrelevant items out.")
    bare = np.flatnonzero(relevant_of == 0)
    if len(bare):
        raise I0TError(f"judged: query {bare[0]} has no relevant item ({len(bare)} such queries). Leave them out.")

"""Rivals that need no fitting: rules that make one list of the lists of two indexes, one per modality.

Shapes: A queries, L items of a list.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RRF_K = 60  # Cormack, Clarke and Buettcher 2009
BELOW = 4  # places a cosine below all others
FUSED = 100  # best items of each modality whose scores say what is usual, in score fusions


def _rank(scores: np.ndarray) -> np.ndarray:
    """(A, L) rank from 1 of descending scores; ties share the first."""
    starts = np.ones(scores.shape, dtype=bool)
    starts[:, 1:] = scores[:, 1:] != scores[:, :-1]
    return np.maximum.accumulate(np.where(starts, np.arange(1, scores.shape[1] + 1), 0), axis=1)


def own_kind(scores: np.ndarray, is_own: bool, k: int) -> np.ndarray:
    """Search only the query's own modality."""
    return scores if is_own else np.full_like(scores, -np.inf)


def other_kind(scores: np.ndarray, is_own: bool, k: int) -> np.ndarray:
    """Search only the other modality."""
    return own_kind(scores, not is_own, k)


def reciprocal_rank_fusion(scores: np.ndarray, is_own: bool, k: int) -> np.ndarray:
    """Score by 1 / (60 + rank) in the list of the item's modality."""
    return np.where(np.isfinite(scores), 1 / (RRF_K + _rank(scores)), -np.inf)


def min_max_fusion(scores: np.ndarray, is_own: bool, k: int) -> np.ndarray:
    """Map the best 100 cosines of each modality to 0..1 (relative scores of Weaviate, minmax of Elasticsearch)."""
    best = np.ma.masked_invalid(scores[:, :FUSED])
    return _scaled(scores, best.min(axis=1), best.max(axis=1))


def distribution_fusion(scores: np.ndarray, is_own: bool, k: int) -> np.ndarray:
    """Map three deviations about the mean of the best 100 cosines of each modality to 0..1 (DBSF of Qdrant)."""
    best = np.ma.masked_invalid(scores[:, :FUSED])
    mean, deviation = best.mean(axis=1), best.std(axis=1, ddof=1)
    return _scaled(scores, mean - 3 * deviation, mean + 3 * deviation)


def _scaled(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Map low to 0 and high to 1, (A,) each; 0.5 where they are equal; what is not there stays so."""
    width = np.ma.masked_equal(high - low, 0)[:, None]
    return np.where(np.isfinite(scores), np.ma.filled((scores - low[:, None]) / width, 0.5), -np.inf)


def equal_quotas(scores: np.ndarray, is_own: bool, k: int) -> np.ndarray:
    """Take half of the places for each modality, and order these items by cosine; the others follow."""
    return np.where(_rank(scores) <= (k + is_own) // 2, scores, scores - BELOW)


# From the descending cosines (A, L) of one modality, whether it is the query's own, and k, to scores for one list.
RULES: dict[str, Callable[[np.ndarray, bool, int], np.ndarray]] = {
    "own_kind": own_kind,
    "other_kind": other_kind,
    "rank_fusion": reciprocal_rank_fusion,
    "min_max": min_max_fusion,
    "dbsf": distribution_fusion,
    "quotas": equal_quotas,
}
# Rivals where documents have several items: fusions that add up what a document has in each list, as stores do, and one
# vector per document, the mean of those of its items.
SUMS = {"rank_fusion_sum": "rank_fusion", "min_max_sum": "min_max", "dbsf_sum": "dbsf"}
MEAN = "mean_vector"
RIVALS = ("raw", *RULES, *SUMS, MEAN)

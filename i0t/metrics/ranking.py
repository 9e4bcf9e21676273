"""Scores of queries with candidates in blocks, and ranks that do not break ties.

A model that maps everything to one point must score as random guessing. So if the best match of a query
ties with others, the *expected* hit and rank under random tie-breaking count, not those of `argsort` or
`topk`, which may be lucky. Scores are computed for one block of queries at a time.

Shapes: A queries, B candidates, Q vectors per item (BLIP-2 queries), D dimensions, P pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.features import check_shape, l2_normalize, to_numpy

BLOCK_BYTES = 32 * 2**20  # of float32 scores at once; a single row of scores may be larger


@dataclass(frozen=True)
class TiedRanks:
    """Rank of each query's best positive (right candidate), without breaking ties.

    Attributes:
        greater: (A,) number of candidates that score higher than the best positive.
        tied: (A,) number of candidates with the same score, positives included.
        positives: (A,) number of positives among the tied, at least 1.

    Example:
        >>> ranks = TiedRanks(np.array([1]), np.array([4]), np.array([1]))
        >>> float(ranks.expected()[0]), float(ranks.hit_probability(3)[0])
        (3.5, 0.5)
    """

    greater: np.ndarray
    tied: np.ndarray
    positives: np.ndarray

    def expected(self) -> np.ndarray:
        """(A,) mean rank, from 1, of the first positive if ties are broken at random.

        Among t shuffled places, the first of p marked ones is at (t + 1) / (p + 1) on average.
        """
        return self.greater + (self.tied + 1) / (self.positives + 1)

    def hit_probability(self, k: int) -> np.ndarray:
        """(A,) probability in 0..1 that a positive is in the top `k`, ties broken at random.

        With k - g places left for the t tied, 1 - C(t - p, k - g) / C(t, k - g); 0 when k <= g.
        """
        places = k - self.greater
        miss = np.ones(len(self.greater))
        # The quotient of binomials as a product: no overflow.
        for place in range(min(k, int(self.tied.max()))):
            others = np.maximum(self.tied - self.positives - place, 0)
            miss *= np.where(place < places, others / np.maximum(self.tied - place, 1), 1.0)
        return 1.0 - miss


def unit_rows(features: Any, name: str, dim: int | None = None) -> np.ndarray:
    """Check and L2-normalise features from NumPy or torch: (N, D) or (N, Q, D) float32.

    Raises:
        I0TError: wrong shape or type, or a NaN, infinite or zero vector.
    """
    check_shape(features, name, dim)
    return l2_normalize(to_numpy(features).astype(np.float32, copy=False), name)


def score_blocks(queries: np.ndarray, candidates: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield inner products of all queries with all candidates, one block of queries at a time.

    An item with several vectors scores their maximum (as BLIP-2). Identical candidates get bit-identical
    scores. BLAS alone does not guarantee that: it may sum columns at the edge of a matrix in another
    order, which would break ties.

    Yields:
        The slice of queries and their (rows, B) float32 scores, at most `BLOCK_BYTES` unless a single
        row is larger. The caller may overwrite them; the next block does.
    """
    n_candidates, dim = len(candidates), candidates.shape[-1]
    first, copy_of = distinct_rows(candidates)
    has_copies = len(first) < n_candidates
    if has_copies:
        candidates = candidates[first]
    columns = candidates.reshape(-1, dim).T
    per_query, per_candidate = queries[0].size // dim, candidates[0].size // dim
    floats = per_query * columns.shape[1] + has_copies * n_candidates  # that one query needs
    step = min(len(queries), max(1, BLOCK_BYTES // (4 * floats)))
    products = np.empty((step * per_query, columns.shape[1]), dtype=np.float32)  # one for all blocks
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        scores = np.matmul(block.reshape(-1, dim), columns, out=products[: len(block) * per_query])
        if per_query * per_candidate > 1:
            scores = scores.reshape(len(block), per_query, len(candidates), per_candidate).max(axis=(1, 3))
        yield slice(start, start + len(block)), scores[:, copy_of] if has_copies else scores


def distinct_rows(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find bit-identical items: the index of the first of each set, and the set of each item.

    Items with several vectors, (N, Q, D), are identical if they have the same vectors in any order.
    """
    items = np.ascontiguousarray(items)
    suspects = np.arange(len(items))
    if items.ndim == 2:
        # Rows with different first values differ, so only few rows have to be compared as a whole.
        beginnings = np.zeros((len(items), 2), dtype=np.float32)
        beginnings[:, : min(2, items.shape[1])] = items[:, :2]
        _, group, sizes = np.unique(beginnings.view(np.uint64).ravel(), return_inverse=True, return_counts=True)
        suspects = np.flatnonzero(sizes[group] > 1)
    first = np.arange(len(items))
    seen: dict[bytes, int] = {}
    for item in suspects:
        # Digests: the vectors as dictionary keys could take hundreds of megabytes.
        vectors = items[item].reshape(-1, items.shape[-1])
        digests = sorted(hashlib.blake2b(vector, digest_size=16).digest() for vector in vectors)
        first[item] = seen.setdefault(b"".join(digests), int(item))
    return np.unique(first, return_inverse=True)


@dataclass(frozen=True)
class ScoringOrder:
    """Texts or images in scoring order: distinct items first, then copies.

    Identical items are one candidate with a weight, because BLAS does not guarantee identical scores, and
    other scores would break ties. A copy is still a query, so copies come last with weight 0.

    Attributes:
        first: (items,) the first of the items identical to each.
        order: the items in scoring order.
        place: (items,) place of each item in that order, -1 if it is left out.
        weights: number of items that each place stands for as a candidate.
    """

    first: np.ndarray
    order: np.ndarray
    place: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, owner: np.ndarray | None = None) -> ScoringOrder:
        """Sort by owner, if there is one; copies without an owner are neither candidates nor queries."""
        leaders, copy_of = distinct_rows(features)
        first = leaders[copy_of]
        ranked = np.arange(len(features)) if owner is None else np.argsort(owner, kind="stable")
        is_first = first[ranked] == ranked
        copies = ranked[~is_first] if owner is None else ranked[~is_first & (owner[ranked] >= 0)]
        order = np.concatenate([ranked[is_first], copies])
        place = np.full(len(features), -1)
        place[order] = np.arange(len(order))
        return cls(first, order, place, np.bincount(first, minlength=len(features))[order])

    def blocks(self, step: int) -> list[slice]:
        """Split the places into blocks of at most `step`, never with both candidates and copies."""
        n_candidates, n = np.count_nonzero(self.weights), len(self.order)
        starts = [*range(0, n_candidates, step), *range(n_candidates, n, step)]
        return [slice(*ends) for ends in zip(starts, [*starts[1:], n])]

    def repeated(self, block: slice) -> tuple[np.ndarray, np.ndarray] | None:
        """Places of a block that stand for several items, and the number of further items; None for copies."""
        extra = self.weights[block] - 1
        places = np.flatnonzero(extra)
        return None if extra[0] < 0 else (places, extra[places].astype(np.float64))

    def take(self, features: np.ndarray, block: slice) -> np.ndarray:
        """Return the features of a block."""
        items = self.order[block]
        if (np.diff(items) == 1).all():
            return features[items[0] : items[-1] + 1]  # a view, if the order is that of the input
        return features[items]


def tied_ranks(queries: np.ndarray, candidates: np.ndarray, pairs: np.ndarray) -> TiedRanks:
    """Rank the best positive of each query among all candidates.

    Args:
        queries: (A, D) or (A, Q, D) float32 unit vectors.
        candidates: (B, D) or (B, Q, D) float32 unit vectors.
        pairs: (P, 2) int rows (query, positive); every query has at least one.
    """
    query, candidate = pairs[np.argsort(pairs[:, 0], kind="stable")].T
    bounds = np.searchsorted(query, np.arange(len(queries) + 1))
    counts = np.zeros((3, len(queries)), dtype=np.int64)
    for rows, scores in score_blocks(queries, candidates):
        own = slice(bounds[rows.start], bounds[rows.stop])
        groups = bounds[rows] - bounds[rows.start]
        # From this block: the same product computed elsewhere may differ in its last bit.
        found = scores[query[own] - rows.start, candidate[own]]
        best = np.maximum.reduceat(found, groups)
        counts[0, rows] = np.count_nonzero(scores > best[:, None], axis=1)
        counts[1, rows] = np.count_nonzero(scores == best[:, None], axis=1)
        counts[2, rows] = np.add.reduceat((found == best[query[own] - rows.start]).astype(np.int64), groups)
    return TiedRanks(*counts)

"""Recall@K and ranks of image-text retrieval (paper App. D), with ties counted as chance.

A model that maps everything to one point must score what guessing scores. So a query whose best
match ties with others gets its *expected* hit and rank under random tie-breaking, never the
lucky ones that `argsort` or `topk` hand out. Scores are made a block of queries at a time.

Shapes: N images, M texts, Q vectors an item (BLIP-2 queries), D dimensions, A queries with
B candidates each, P pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape, l2_normalize, to_numpy

BLOCK_BYTES = 32 * 2**20  # of float32 scores at once; a single row of scores may be larger


@dataclass(frozen=True)
class TiedRanks:
    """Where each query's best positive stands, with its ties left open.

    Attributes:
        greater: (A,) candidates that score higher than the best positive.
        tied: (A,) candidates that score exactly as much, the positives among them included.
        positives: (A,) how many of the tied are positives, at least 1.

    Example:
        >>> ranks = TiedRanks(np.array([1]), np.array([4]), np.array([1]))
        >>> float(ranks.expected()[0]), float(ranks.hit_probability(3)[0])
        (3.5, 0.5)
    """

    greater: np.ndarray
    tied: np.ndarray
    positives: np.ndarray

    def expected(self) -> np.ndarray:
        """(A,) mean rank, from 1, of the first positive when ties are broken at random.

        The first of p marked among t shuffled places stands at (t + 1) / (p + 1) on average.
        """
        return self.greater + (self.tied + 1) / (self.positives + 1)

    def hit_probability(self, k: int) -> np.ndarray:
        """(A,) probability in 0..1 that a positive is in the top `k`, ties broken at random.

        With k - g places left for the t tied, 1 - C(t - p, k - g) / C(t, k - g); 0 when k <= g.
        """
        places = k - self.greater
        miss = np.ones(len(self.greater))
        # The quotient of binomials as a product, one place after another: nothing overflows.
        for place in range(min(k, int(self.tied.max()))):
            others = np.maximum(self.tied - self.positives - place, 0)
            miss *= np.where(place < places, others / np.maximum(self.tied - place, 1), 1.0)
        return 1.0 - miss


def unit_rows(features: Any, name: str, dim: int | None = None) -> np.ndarray:
    """Checked, L2-normalised float32 features, (N, D) or (N, Q, D), from NumPy or torch.

    Raises:
        I0TError: wrong shape or type, or a NaN, infinite or zero vector.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0]]), "features")
        array([[0.6, 0.8]], dtype=float32)
    """
    check_shape(features, name, dim)
    return l2_normalize(to_numpy(features).astype(np.float32, copy=False), name)


def score_blocks(queries: np.ndarray, candidates: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Inner products of all queries with all candidates, one block of queries at a time.

    An item of several vectors scores the maximum over them (BLIP-2's convention). Identical
    candidates get bit-identical scores: BLAS alone does not promise that, as it may sum the columns
    at a matrix's edge in another order, and would break their ties.

    Args:
        queries: (A, D) or (A, Q, D) float32.
        candidates: (B, D) or (B, Q, D) float32.

    Yields:
        The slice of queries and their (rows, B) float32 scores, at most `BLOCK_BYTES` of them
        unless one row alone is larger. The caller may overwrite them; the next block will.

    Example:
        >>> eye = np.eye(2, dtype=np.float32)
        >>> [(rows, scores.tolist()) for rows, scores in score_blocks(eye, eye)]
        [(slice(0, 2, None), [[1.0, 0.0], [0.0, 1.0]])]
    """
    n_candidates, dim = len(candidates), candidates.shape[-1]
    first, copy_of = _distinct(candidates)
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


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first of each set of bit-identical rows, and for each row which set is its own."""
    seen: dict[bytes, int] = {}
    # Digests, since the rows themselves can be hundreds of megabytes as dictionary keys.
    digests = (hashlib.blake2b(np.ascontiguousarray(row), digest_size=16).digest() for row in rows)
    copy_of = np.array([seen.setdefault(digest, len(seen)) for digest in digests])
    return np.unique(copy_of, return_index=True)[1], copy_of


def tied_ranks(queries: np.ndarray, candidates: np.ndarray, pairs: np.ndarray) -> TiedRanks:
    """Rank the candidates for each query and find its best positive.

    Args:
        queries: (A, D) or (A, Q, D) float32 unit vectors.
        candidates: (B, D) or (B, Q, D) float32 unit vectors.
        pairs: (P, 2) int rows (query, candidate that is right for it); every query has one or more.

    Returns:
        Counts of A queries; nothing is ordered, so no tie is broken.

    Example:
        >>> eye = np.eye(3, dtype=np.float32)
        >>> tied_ranks(eye, eye, np.array([[0, 0], [1, 0], [2, 2]])).expected()
        array([1. , 2.5, 1. ])
    """
    query, candidate = pairs[np.argsort(pairs[:, 0], kind="stable")].T
    bounds = np.searchsorted(query, np.arange(len(queries) + 1))
    counts = np.zeros((3, len(queries)), dtype=np.int64)
    for rows, scores in score_blocks(queries, candidates):
        own = slice(bounds[rows.start], bounds[rows.stop])
        groups = bounds[rows] - bounds[rows.start]
        # Taken from this very block: the same product computed elsewhere may differ in its last bit.
        found = scores[query[own] - rows.start, candidate[own]]
        best = np.maximum.reduceat(found, groups)
        counts[0, rows] = np.count_nonzero(scores > best[:, None], axis=1)
        counts[1, rows] = np.count_nonzero(scores == best[:, None], axis=1)
        counts[2, rows] = np.add.reduceat((found == best[query[own] - rows.start]).astype(np.int64), groups)
    return TiedRanks(*counts)


def retrieval_metrics(
    image_features: Any, text_features: Any, image_of_text: Any, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall@K in percent and ranks, image to text and text to image (paper App. D).

    Scores are cosines (the features are L2-normalised first), with the maximum over Q for (N, Q, D)
    images. An image counts as found when ANY of its texts is in the top K (CLIP's recall, which is
    torchmetrics' hit rate); a text has one right image. Ties count with their expected hit.

    Args:
        image_features: (N, D) or (N, Q, D) array or tensor.
        text_features: (M, D) array or tensor.
        image_of_text: (M,) int, the row of each text's image; -1 for a text of no image, which
            stands among the candidates and is not itself a query.
        ks: the K's.

    Returns:
        `i2t_r{K}` and `t2i_r{K}` in percent for each K; `i2t_median_rank`, `i2t_mean_rank`,
        `t2i_median_rank`, `t2i_mean_rank` as ranks, where 1 is best.

    Raises:
        I0TError: shapes that do not fit, an image without any text, an index out of range, K < 1.

    Example:
        >>> scores = retrieval_metrics(np.eye(4), np.eye(4)[[1, 0, 2, 3]], [0, 1, 2, 3], ks=(1,))
        >>> scores["i2t_r1"], scores["i2t_mean_rank"]
        (50.0, 2.0)
    """
    images = unit_rows(image_features, "image_features")
    texts = unit_rows(text_features, "text_features", dim=images.shape[-1])
    pairs = _image_text_pairs(image_of_text, len(images), len(texts))
    if any(k < 1 for k in ks):
        raise I0TError(f"ks: each K must be 1 or more, got {tuple(ks)}.")
    queries = np.arange(len(pairs))
    directions = {
        "i2t": tied_ranks(images, texts, pairs),
        "t2i": tied_ranks(texts[pairs[:, 1]], images, np.stack([queries, pairs[:, 0]], axis=1)),
    }
    metrics = {
        f"{direction}_r{k}": 100.0 * float(ranks.hit_probability(k).mean())
        for direction, ranks in directions.items()
        for k in ks
    }
    for direction, ranks in directions.items():
        metrics[f"{direction}_median_rank"] = float(np.median(ranks.expected()))
        metrics[f"{direction}_mean_rank"] = float(ranks.expected().mean())
    return metrics


def _image_text_pairs(image_of_text: Any, n_images: int, n_texts: int) -> np.ndarray:
    owner = to_numpy(image_of_text)
    if owner.shape != (n_texts,) or not np.issubdtype(owner.dtype, np.integer):
        raise I0TError(
            f"image_of_text: expected {n_texts} integers, one for each text, got {owner.dtype} {owner.shape}."
        )
    if not -1 <= owner.min() <= owner.max() < n_images:
        raise I0TError(f"image_of_text: must lie in -1..{n_images - 1}, got {owner.min()}..{owner.max()}.")
    texts = np.flatnonzero(owner >= 0)
    bare = np.setdiff1d(np.arange(n_images), owner)
    if len(bare):
        raise I0TError(
            f"image_of_text: image {bare[0]} has no text ({len(bare)} such images). Leave images without a text out."
        )
    return np.stack([owner[texts], texts], axis=1)

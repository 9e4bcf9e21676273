"""`VectorIndex`: a faiss index that returns all ties.

Shapes: C corpus vectors, A queries, L items returned, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.metrics.ranking import distinct_rows, unit_rows

KINDS = ("flat", "ivfpq")
MARGIN = 22  # items to fetch beyond k, which include most ties with the k-th


class VectorIndex:
    """Vectors in faiss with inner products; vectors are normalised first, so scores are cosines.

    Bit-identical vectors are stored once and returned together with equal scores. A search returns all ties with the
    last item.

    Args:
        features: (C, D) array or tensor.
        kind: "flat" (exact), "ivfpq" (approximate: inverted lists, product quantisation), or any string of
            faiss.index_factory such as "IVF64,SQ8" or "HNSW32".

    Attributes:
        description: the index_factory string and, for inverted lists, the number of probed lists.

    Raises:
        I0TError: a bad row, several vectors per item, or a kind that faiss cannot build for these vectors.
    """

    def __init__(self, features: Any, kind: str = "flat") -> None:
        vectors = _vectors(features, "corpus")
        self.size = len(vectors)
        first, copy_of = distinct_rows(vectors)
        # Places of the copies of each stored vector, as one list cut at `bounds`.
        self._copies = np.argsort(copy_of, kind="stable")
        self._bounds = np.searchsorted(copy_of[self._copies], np.arange(len(first) + 1))
        self._index, self.description = _build(vectors[first], kind)

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest items of every query, and all ties with the k-th.

        Args:
            queries: (A, D) array or tensor.
            k: number of items.

        Returns:
            (A, L) int64 places in the corpus, and (A, L) float32 scores in descending order. L >= k unless the
            corpus is smaller. An approximate index may find fewer items: then places are -1 and scores -inf.
        """
        check_k(k)
        vectors = _vectors(queries, "queries", self._index.d)
        stored = self._index.ntotal
        depth = min(stored, k + MARGIN)
        while True:
            scores, rows = self._index.search(vectors, depth)
            if depth == stored or not (scores[:, min(k, depth) - 1] == scores[:, -1])[rows[:, -1] >= 0].any():
                break
            depth = min(stored, 4 * depth)
        scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
        if stored < self.size:
            return self._with_copies(rows, scores)
        return np.where(rows < 0, -1, self._copies[rows]), scores

    def _with_copies(self, rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Replace every stored vector by the places of all its copies."""
        counts = np.where(rows < 0, 0, np.diff(self._bounds)[rows])
        length = int(counts.sum(axis=1).max())
        places = np.full((len(rows), length), -1, dtype=np.int64)
        repeated = np.full((len(rows), length), -np.inf, dtype=np.float32)
        for query, (own, times) in enumerate(zip(rows, counts, strict=True)):
            kept = own[times > 0]
            found = [self._copies[self._bounds[row] : self._bounds[row + 1]] for row in kept]
            total = int(times.sum())
            places[query, :total] = np.concatenate(found) if found else []
            repeated[query, :total] = np.repeat(scores[query], times)
        return places, repeated


def ivfpq_factory(n_vectors: int, dim: int) -> str:
    """Return a faiss.index_factory string for IVF-PQ, for this size of corpus.

    Lists: 4 sqrt(C), but at least 39 vectors per list, which faiss needs to train them; fewer than 39 vectors are not
    compressed. Codes: one sub-quantiser per 8 dimensions (or the nearest divisor of D), of 8 bits if there are enough
    vectors to train them, without polysemous training ("np"), which takes half a minute and changes no score.

    Example:
        >>> ivfpq_factory(1_000_000, 512), ivfpq_factory(250, 512), ivfpq_factory(3, 512)
        ('IVF4000,PQ64x8np', 'IVF6,PQ64x6np', 'Flat')
    """
    if n_vectors < 39:
        return "Flat"
    lists = min(4 * math.isqrt(n_vectors), n_vectors // 39)
    bits = min(8, int(math.log2(n_vectors)) - 1)
    target = max(1, dim // 8)
    codes = min((m for m in range(1, dim + 1) if dim % m == 0), key=lambda m: abs(m - target))
    return f"IVF{lists},PQ{codes}x{bits}np"


def _build(vectors: np.ndarray, kind: str) -> tuple[Any, dict[str, Any]]:
    """Train and fill a faiss index; return it with its description for a record."""
    import faiss

    named = {"flat": "Flat", "ivfpq": ivfpq_factory(len(vectors), vectors.shape[1])}
    factory = named.get(kind, kind)
    try:
        # Any: the class depends on the factory.
        index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if kind == "ivfpq" and factory != "Flat":  # no warnings: the factory considers the number of vectors
            index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:  # faiss raises nothing else; the reason is in the last line
        reason = str(error).strip().splitlines()[-1]
        raise I0TError(
            f"--index {kind}: faiss cannot build it on {len(vectors)} vectors of {vectors.shape[1]} dimensions "
            f"({reason}). Use flat or ivfpq, or a string of faiss.index_factory."
        ) from None
    description: dict[str, Any] = {"factory": factory}
    lists = faiss.try_extract_index_ivf(index)  # also inside OPQ, PCA and refinement; None for other indices
    if lists is not None:
        lists.nprobe = math.isqrt(lists.nlist - 1) + 1  # its square root, rounded up
        description["nprobe"] = lists.nprobe
    return index, description


def _vectors(features: Any, name: str, dim: int | None = None) -> np.ndarray:
    """(A, D) float32 unit vectors, contiguous for faiss."""
    vectors = unit_rows(features, name, dim)
    require_one_vector(vectors, name)
    return np.ascontiguousarray(vectors)


def check_k(k: int) -> None:
    """Raise an error if no result is asked for."""
    if k < 1:
        raise I0TError(f"k: must be 1 or more, got {k}.")


def require_one_vector(features: np.ndarray, name: str) -> None:
    """Raise an error for features (N, Q, D), with several vectors per item."""
    if features.ndim != 2:
        raise I0TError(
            f"{name}: {features.shape[1]} vectors per item, as BLIP-2 has. A vector index holds one per item; use the "
            "best of them by scripts/evaluate_retrieval.sh instead."
        )

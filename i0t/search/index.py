"""A faiss index of vectors that leaves no tie to chance.

Shapes: C corpus vectors, A queries, L items returned, D dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.metrics.ranking import distinct_rows, unit_rows

KINDS = ("flat", "ivfpq")
MARGIN = 22  # items fetched beyond the k asked for, which hold most ties at its edge


class VectorIndex:
    """Vectors in faiss by inner product; unit vectors are made first, so scores are cosines.

    Bit-identical vectors are stored once and returned together with equal scores, and a search goes on to the end
    of the ties of its last item.

    Args:
        features: (C, D) array or tensor.
        kind: "flat" (exact), "ivfpq" (approximate: inverted lists, product quantisation), or any string of
            faiss.index_factory such as "IVF64,SQ8" or "HNSW32".

    Attributes:
        description: the index_factory string and, for inverted lists, how many are probed.

    Raises:
        I0TError: a bad row, several vectors per item, or a kind that faiss cannot build on these vectors.

    Example:
        >>> places, scores = VectorIndex(np.eye(3)).search(np.eye(3)[1:2], k=1)
        >>> int(places[0, 0]), float(scores[0, 0])
        (1, 1.0)
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
        """The nearest items of every query, at least `k` of them if there are.

        Args:
            queries: (A, D) array or tensor.
            k: how many are wanted.

        Returns:
            (A, L) int64 places in the corpus, -1 where an approximate index ran out of candidates, and (A, L)
            float32 scores in descending order, -inf there. L >= k unless the corpus is smaller; the items that
            tie with the k-th are all among them.
        """
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
        """Every stored vector exchanged for the places of all its copies."""
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
    """A faiss.index_factory string for IVF-PQ that suits the size of the corpus.

    Lists: 4 sqrt(C), but 39 vectors per list as faiss wants for training them. Codes: a sub-quantiser for every 8
    dimensions (or the nearest number that divides D), of 8 bits where there are vectors enough to train them, and
    without the polysemous training ("np"), which takes half a minute and changes no score.

    Fewer than 39 vectors are not worth compressing.

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
    """A trained and filled faiss index, and what a record says of it."""
    import faiss

    named = {"flat": "Flat", "ivfpq": ivfpq_factory(len(vectors), vectors.shape[1])}
    factory = named.get(kind, kind)
    try:
        # Any: the class that it returns depends on the factory.
        index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if kind == "ivfpq" and factory != "Flat":  # it knows how few vectors there are: no warnings
            index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:  # all that faiss raises; its last line says what was wrong
        reason = str(error).strip().splitlines()[-1]
        raise I0TError(
            f"--index {kind}: faiss cannot build it on {len(vectors)} vectors of {vectors.shape[1]} dimensions "
            f"({reason}). Use flat or ivfpq, or a string of faiss.index_factory."
        ) from None
    description: dict[str, Any] = {"factory": factory}
    lists = faiss.try_extract_index_ivf(index)  # also within OPQ, PCA and refinement; None of other indices
    if lists is not None:
        lists.nprobe = math.isqrt(lists.nlist - 1) + 1  # its square root, rounded up
        description["nprobe"] = lists.nprobe
    return index, description


def _vectors(features: Any, name: str, dim: int | None = None) -> np.ndarray:
    """(A, D) float32 unit vectors, contiguous as faiss wants them."""
    vectors = unit_rows(features, name, dim)
    require_one_vector(vectors, name)
    return np.ascontiguousarray(vectors)


def require_one_vector(features: np.ndarray, name: str) -> None:
    """Refuse (N, Q, D), several vectors per item.

    Args:
        features: (N, D) array.
        name: what to call it in the error.

    Raises:
        I0TError: it has three axes.
    """
    if features.ndim != 2:
        raise I0TError(
            f"{name}: {features.shape[1]} vectors per item, as BLIP-2 has. A vector index holds one per item; use the "
            "best of them by scripts/evaluate_retrieval.sh instead."
        )

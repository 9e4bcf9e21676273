"""`MixedIndex`: images and texts, or other kinds, in this process, searched as one list of standardised scores.

Shapes: A queries, C items, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.metrics.ranking import score_blocks
from i0t.search.index import VectorIndex, check_k
from i0t.search.lists import Lists, best_of, by_rows, first_of, merged
from i0t.search.score_arithmetic import standardized
from i0t.search.scores import ScoreStandardizer
from i0t.search.serve import Ask, Found, OneList, extreme_scales, search_kinds


class MixedIndex:
    """Items of several kinds, searched as one list.

    Constants, and the adaptive form in an approximate index, go through one faiss index per kind and `search_kinds`.
    The adaptive form with index "flat" standardises the scores of all items, in blocks: exact, and as fast as a flat
    search.

    Args:
        standardizer: fitted.
        items: kind to (C, D), not moved.
        index: kind of `VectorIndex`.

    Attributes:
        description: of the index, for a record.

    Raises:
        I0TError: no items, or bad ones.
    """

    def __init__(self, standardizer: ScoreStandardizer, items: Mapping[str, Any], index: str = "flat") -> None:
        if not items:
            raise I0TError("MixedIndex: no items. Give a mapping of kinds to their vectors.")
        self.standardizer = standardizer
        moved = {kind: standardizer.vectors(features, kind) for kind, features in items.items()}
        self._moved = moved if standardizer.form == "adaptive" else {}
        self._scales: dict[tuple[str, str], np.ndarray] = {}
        self._indexes: dict[str, VectorIndex] = {}
        self.description: dict[str, Any] = {"factory": "Flat"}
        if not (self._moved and index == "flat"):
            self._indexes = {kind: VectorIndex(vectors, index) for kind, vectors in moved.items()}
            self.description = next(iter(self._indexes.values())).description

    def search(self, queries: Any, query_kind: str, k: int = 10) -> OneList:
        """Find the top `k` of all kinds, and all ties with the k-th; ids are rows of `items`, -1 for none."""
        check_k(k)
        if self._indexes:
            stores = {kind: self._store(kind, query_kind) for kind in self._indexes}
            limits = {kind: extreme_scales(self.scales(kind, query_kind)) for kind in self._moved} or None
            return search_kinds(self.standardizer, queries, query_kind, stores, k, limits)
        vectors = self.standardizer.vectors(queries, query_kind)
        lists = [self._best(vectors, query_kind, kind, k) for kind in self._moved]
        return OneList(*first_of(merged(lists), k), depth=max(map(len, self._moved.values())), exact=True)

    def scales(self, kind: str, query_kind: str) -> np.ndarray:
        """(C, 2) scales of the items against a kind of query, for the adaptive form."""
        if (kind, query_kind) not in self._scales:
            found = self.standardizer.scales_of_vectors(self._moved[kind], kind, query_kind)
            self._scales[kind, query_kind] = found
        return self._scales[kind, query_kind]

    def _store(self, kind: str, query_kind: str) -> Ask:
        def ask(vectors: np.ndarray, n: int) -> Found:
            places, cosines = self._indexes[kind].search(vectors, n)
            return Found(places, cosines, self.scales(kind, query_kind)[places] if self._moved else None)

        return ask

    def _best(self, vectors: np.ndarray, query_kind: str, kind: str, k: int) -> Lists:
        of_query = self.standardizer.scales_of_vectors(vectors, query_kind, kind)
        of_items, parts = self.scales(kind, query_kind), []
        for rows, cosines in score_blocks(vectors, self._moved[kind]):
            parts.append((rows, best_of(standardized(cosines, of_query[rows], of_items), k)))
        return by_rows([lists for _, lists in parts], [rows for rows, _ in parts], len(vectors))

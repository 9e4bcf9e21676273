"""Ways to make one list of images and texts: what each returns, and how good it is.

A method is None (one index of the vectors as they are), a fitted gap remover (one index of moved vectors), a fitted
`ScoreStandardizer` (one index per modality, merged by standardised scores), or the name of
a rival (`i0t.search.rivals`).

Shapes: A queries, C corpus items, L items returned, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from i0t.metrics.mixed_search import metrics_by_kind, text_share
from i0t.metrics.ranking import unit_rows
from i0t.search.index import VectorIndex, require_one_vector
from i0t.search.lists import Lists, best_parts, by_rows, merged, summed_parts
from i0t.search.mixed_index import MixedLayout
from i0t.search.mixed_search import MixedIndex
from i0t.search.rivals import FUSED, MEAN, RIVALS, RULES, SUMS
from i0t.search.scores import ScoreStandardizer
from i0t.standardize import GapRemover
from i0t.standardize.registry import remover_class

Method = GapRemover | ScoreStandardizer | str | None
TEXT_SHARES = ("text_share_text_queries", "text_share_image_queries")
LABELS = {
    "own_kind": "own kind only",
    "other_kind": "other kind only",
    "rank_fusion": "rank fusion (RRF)",
    "min_max": "min-max fusion",
    "dbsf": "score fusion (DBSF)",
    "quotas": "equal quotas",
    "rank_fusion_sum": "RRF, added up",
    "min_max_sum": "min-max, added up",
    "dbsf_sum": "DBSF, added up",
    "mean_vector": "mean vector",
    "constants": "scores, constants",
    "adaptive": "scores, adaptive",
}


def with_document_rivals(methods: Mapping[str, Method], layout: MixedLayout) -> dict[str, Method]:
    """Add the rivals for documents of several items behind raw vectors and the rules, if the layout has such."""
    if layout.documents is None:
        return dict(methods)
    known = {name: method for name, method in methods.items() if name in RIVALS}
    return {**known, **{name: name for name in (*SUMS, MEAN)}, **methods}


def scores_of(remover: str, form: str) -> str:
    """Name in results of standardised scores of vectors as they are (""), or moved by a remover.

    Example:
        >>> scores_of("", "adaptive"), scores_of("whitening", "adaptive")
        ('adaptive', 'whitening+adaptive')
    """
    return f"{remover}+{form}" if remover else form


def label_of(name: str) -> str:
    """Name of a method in tables.

    Example:
        >>> label_of("rank_fusion"), label_of("i0t_post"), label_of("i0t_post+adaptive")
        ('rank fusion (RRF)', 'centred (I0T_post)', 'centred + adaptive')
    """
    if name == "raw" or name in LABELS:
        return LABELS.get(name, name)
    remover, _, form = name.partition("+")
    known = remover_class(remover).label or remover
    return f"{known.partition(' (')[0]} + {form}" if form else known


class MixedTask:
    """A layout with its vectors; indexes of the vectors as they are get built once for all methods.

    Args:
        images: (N, D).
        texts: (M, D).
        layout: numbers images and texts.
        index: kind of `VectorIndex`.

    Raises:
        I0TError: several vectors per item.
    """

    def __init__(self, images: np.ndarray, texts: np.ndarray, layout: MixedLayout, index: str = "flat") -> None:
        require_one_vector(images, "images")
        require_one_vector(texts, "texts")
        self.images, self.texts, self.layout, self.index = images, texts, layout, index
        self.description: dict[str, Any] = {}

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Places in the corpus of each modality that it has."""
        is_text = self.layout.corpus_is_text
        parts = {"image": np.flatnonzero(~is_text), "text": np.flatnonzero(is_text)}
        return {kind: places for kind, places in parts.items() if len(places)}

    @cached_property
    def asking(self) -> dict[str, np.ndarray]:
        """Places in the queries of each modality that they have."""
        is_text = self.layout.query_is_text
        parts = {"image": np.flatnonzero(~is_text), "text": np.flatnonzero(is_text)}
        return {kind: places for kind, places in parts.items() if len(places)}

    def vectors(self, items: np.ndarray, kind: str) -> np.ndarray:
        """Vectors of item numbers of one modality."""
        return self.images[items] if kind == "image" else self.texts[items - self.layout.n_images]

    @cached_property
    def _raw(self) -> dict[str, VectorIndex]:
        return {
            kind: VectorIndex(self.vectors(self.layout.corpus[places], kind), self.index)
            for kind, places in self.places.items()
        }

    def rank(self, method: Method, depth: int, k: int) -> Lists:
        """Search with all queries: at least `depth` documents per query, by their best items, and all ties."""
        documents = self.layout.documents
        if documents is None:
            return self._items(method, depth, k)
        most = int(np.bincount(documents).max())  # items of one document
        return best_parts(self._items(method, most * depth, k), documents)

    def _items(self, method: Method, depth: int, k: int) -> Lists:
        if method is None or isinstance(method, GapRemover):
            return self._by_vectors(method, depth)
        if method == MEAN:
            return self._by_means(depth)
        if isinstance(method, str):
            found = [self._by_rule(method, queries, kind, depth, k) for kind, queries in self._queries.items()]
        else:
            items = {kind: self.vectors(self.layout.corpus[own], kind) for kind, own in self.places.items()}
            indexed = MixedIndex(method, items, self.index)
            self.description, found = indexed.description, []
            for kind, queries in self._queries.items():
                one_list = indexed.search(queries, kind, depth)
                found.append((self._in_corpus(one_list.kinds, one_list.ids), one_list.scores))
        return by_rows(found, list(self.asking.values()), len(self.layout.queries))

    @cached_property
    def _queries(self) -> dict[str, np.ndarray]:
        return {kind: self.vectors(self.layout.queries[rows], kind) for kind, rows in self.asking.items()}

    def _by_vectors(self, remover: GapRemover | None, depth: int) -> Lists:
        sides = self.images, self.texts
        if remover is not None:
            sides = remover.transform_image(self.images), remover.transform_text(self.texts)
        items = np.concatenate(sides)
        index = VectorIndex(items[self.layout.corpus], self.index)
        self.description = index.description
        return index.search(items[self.layout.queries], depth)

    def _by_rule(self, rule: str, queries: np.ndarray, kind: str, depth: int, k: int) -> Lists:
        lists, documents = [], self.layout.documents
        summed = documents if rule in SUMS else None
        for of_items, own in self.places.items():
            rows, cosines = self._raw[of_items].search(queries, max(depth, FUSED))
            found = np.where(rows >= 0, own[rows], -1), cosines
            places, cosines = found if documents is None else best_parts(found, documents)
            scores = RULES[SUMS.get(rule, rule)](cosines, of_items == kind, k).astype(np.float64)
            if summed is not None:  # what a store did not return takes nothing from a sum
                scores[:, FUSED:] = np.where(np.isfinite(scores), scores.clip(0), scores)[:, FUSED:]
            lists.append((np.where(np.isfinite(scores), places, -1), scores))
        self.description = next(iter(self._raw.values())).description
        _, places, scores = merged(lists)
        return (places, scores) if summed is None else summed_parts((places, scores), summed)

    def _by_means(self, depth: int) -> Lists:
        """Search one index of the mean unit vector of each document."""
        assert self.layout.documents is not None
        first, owner = np.unique(self.layout.documents, return_inverse=True)
        items = np.concatenate([unit_rows(self.images, "images"), unit_rows(self.texts, "texts")])
        means = np.zeros((len(first), items.shape[1]))
        np.add.at(means, owner, items[self.layout.corpus])
        index = VectorIndex(means, self.index)
        self.description = index.description
        rows, scores = index.search(items[self.layout.queries], depth)
        return np.where(rows >= 0, first[rows], -1), scores

    def _in_corpus(self, kinds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        places = np.full(rows.shape, -1)
        for number, own in enumerate(self.places.values()):
            places = np.where((kinds == number) & (rows >= 0), own[np.clip(rows, 0, len(own) - 1)], places)
        return places

    def quality(self, method: Method, k: int = 10) -> dict[str, np.ndarray]:
        """`metrics_by_kind` of each query, (A,) each in 0..1, and the share of texts by the modality of the query."""
        layout, is_text = self.layout, self.layout.query_is_text
        most = int(np.bincount(layout.judged[:, 0]).max())
        found, scores = self.rank(method, k + most, k)
        places = found if layout.documents is None else np.where(found >= 0, layout.documents[found], -1)
        kinds = layout.corpus_is_text, is_text, k, layout.is_both
        metrics = metrics_by_kind(places, scores, layout.judged, layout.grades, *kinds)
        share = text_share(found, scores, layout.corpus_is_text, k)  # of the items that were found
        if method == MEAN:
            share = np.full_like(share, np.nan)  # none was
        shares = {name: np.where(asks, share, np.nan) for name, asks in zip(TEXT_SHARES, (is_text, ~is_text))}
        return {**metrics, "text_share": share, **shares}


def summary(per_query: Mapping[str, np.ndarray], layout: MixedLayout) -> dict[str, float]:
    """Means over queries: NDCG and recall, and the share of texts in the top k by the modality of the query.

    Without a preference for a modality, the shares equal `corpus_text_share`; a searcher that knew the answers would
    have `relevant_text_share_...` (a relevant document with an image and a text counts half). A value is NaN if there
    is no query that has one.
    """
    is_text, of_text = layout.query_is_text, layout.corpus_is_text[layout.judged[:, 1]].astype(float)
    if layout.is_both is not None:
        of_text[layout.is_both[layout.judged[:, 1]]] = 0.5
    query = layout.judged[:, 0]
    relevant = np.bincount(query, of_text, len(is_text)) / np.bincount(query, minlength=len(is_text))
    means = {name: mean_of_known(values) for name, values in per_query.items()}
    for name, rows in zip(TEXT_SHARES, (is_text, ~is_text)):
        means[f"relevant_{name}"] = mean_of_known(relevant[rows])
    return {**means, "corpus_text_share": float(layout.corpus_is_text.mean())}


def mean_of_known(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")

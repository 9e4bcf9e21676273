"""The search task of relevance judgments over a user's corpus.

Shapes: N images, M texts, R judgments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.search.index import require_one_vector
from i0t.search.mixed_index import MixedLayout
from i0t.search.qrels import Judgment, without_relevant

Documents = Mapping[str, Sequence[str]]  # names of the items of each document
Numbers = Mapping[str, Sequence[int]]  # items by name: several, if they share it


def layout_of_qrels(
    judgments: Sequence[Judgment],
    corpus: Embeddings,
    queries: Embeddings | None = None,
    places: Sequence[str] | None = None,
    documents: Documents | None = None,
) -> tuple[MixedLayout, np.ndarray, np.ndarray]:
    """Make the search task of judgments.

    Args:
        judgments: from `read_placed`, or `read_qrels`. Queries without a relevant document are left out; they must be
            known, too, so that they do not become documents of the index.
        corpus: images and texts of the index.
        queries: images and texts of the queries; None: queries are items of `corpus`, and all other items are the
            index, without other items of a query's document.
        places: the place of each judgment, from `read_placed`, for errors.
        documents: from `read_documents`, `documents_of_pairs` or `documents_of_ids`: what is judged is the document, by
            its name or that of one of its items, with its best grade. Items in none are documents of their own. None:
            all are.

    Returns:
        The layout, and the image and text features that it numbers, those of the corpus first.

    Raises:
        I0TError: an unknown id, a query that is also a document, queries of another model, or several vectors per
            item.
    """
    places = places or ["qrels"] * len(judgments)
    images, texts = _joined(corpus, queries)
    numbers: Numbers = _numbers(corpus, 0, len(images))
    asking = numbers
    if queries is not None:
        asking = _numbers(queries, len(corpus.image_features), len(images) + len(corpus.text_features))
    item_of_query = _query_items(judgments, places, asking)
    items = np.unique(np.concatenate(list(numbers.values())))
    document_of, numbers = _document_of(len(images) + len(texts), numbers, documents or {})
    asked = document_of[list(item_of_query.values())]
    corpus_items = items[~np.isin(document_of[items], asked)]
    found, first, owner = np.unique(document_of[corpus_items], return_index=True, return_inverse=True)
    place_of = dict(zip(found.tolist(), first.tolist()))
    left_out = set(without_relevant(judgments))
    query_place = {name: place for place, name in enumerate(name for name in item_of_query if name not in left_out)}
    graded = _graded(judgments, places, numbers, document_of, is_item=documents is None)
    judged = []
    for (query, document), (name, place, _) in graded.items():
        if document not in place_of:
            raise I0TError(
                f"{place}: document {name} of query {query} is itself a query, so it is not in the index. Put the "
                "queries into another file: --queries FILE."
            )
        judged.append((query_place[query], place_of[document]))
    layout = MixedLayout(
        len(images),
        corpus_items,
        np.array([item_of_query[name] for name in query_place]),
        np.array(judged),
        np.array([grade for _, _, grade in graded.values()]),
        documents=None if documents is None else first[owner],
    )
    return layout, images, texts


def documents_of_pairs(embeddings: Embeddings) -> Documents:
    """Each image with its texts as one document."""
    found: dict[str, list[str]] = {}
    for image, text in embeddings.pairs.tolist():
        found.setdefault(f"image:{image}", [f"image:{image}"]).append(f"text:{text}")
    return found


def documents_of_ids(embeddings: Embeddings) -> Documents:
    """Images and texts of one id (image_ids, and text_ids of the metadata) as one document."""
    found: dict[str, list[str]] = {}
    for kind, ids in (("image", embeddings.image_ids), ("text", _text_ids(embeddings))):
        for row, name in enumerate(ids):
            found.setdefault(str(name), []).append(f"{kind}:{row}")
    return {name: items for name, items in found.items() if len(items) > 1}


def _joined(corpus: Embeddings, queries: Embeddings | None) -> tuple[np.ndarray, np.ndarray]:
    """Image and text features of the corpus, and then of the queries."""
    if queries is None:
        return corpus.image_features, corpus.text_features
    corpus.origin.require_same_model(queries.origin, "the vectors of the corpus", "the queries")
    require_one_vector(corpus.image_features, "images")  # else they cannot be joined
    require_one_vector(queries.image_features, "images of the queries")
    return (
        np.concatenate([corpus.image_features, queries.image_features]),
        np.concatenate([corpus.text_features, queries.text_features]),
    )


def _query_items(judgments: Sequence[Judgment], places: Sequence[str], numbers: Numbers) -> dict[str, int]:
    """Item number of each query, in the order of the judgments."""
    first_place: dict[str, str] = {}
    for (query, _, _), place in zip(judgments, places, strict=True):
        first_place.setdefault(query, place)
    items = {name: _item(numbers, name, "query", place) for name, place in first_place.items()}
    _refuse_aliases((first_place[name], name, item) for name, item in items.items())
    return items


def _document_of(n_items: int, numbers: Numbers, documents: Documents) -> tuple[np.ndarray, Numbers]:
    """(N + M,) one item of each item's document, which stands for it; and items by name, with those of documents."""
    document_of, named = np.arange(n_items), dict(numbers)
    owner: dict[int, str] = {}
    for name, parts in documents.items():
        items = [_item(numbers, part, "item", f"document {name}") for part in parts]
        for item in items:
            if owner.setdefault(item, name) != name:
                raise I0TError(f"document {name}: its item {parts[items.index(item)]} is in {owner[item]}, too.")
        document_of[items] = min(items)
        if not set(named.setdefault(name, items)) <= set(items):
            raise I0TError(f"document {name}: an item of another document has this name. Rename one.")
    return document_of, named


def _graded(
    judgments: Sequence[Judgment],
    places: Sequence[str],
    numbers: Numbers,
    document_of: np.ndarray,
    is_item: bool,
) -> dict[tuple[str, int], tuple[str, str, float]]:
    """Name, place of the judgment and grade of each query and relevant document."""
    relevant = [
        (place, query, name, _item(numbers, name, "document", place, document_of), grade)
        for (query, name, grade), place in zip(judgments, places, strict=True)
        if grade > 0
    ]
    if is_item:
        _refuse_aliases(
            (place, f"query {query}, document {name}", (query, document))
            for place, query, name, document, _ in relevant
        )
    best: dict[tuple[str, int], tuple[str, str, float]] = {}
    for place, query, name, document, grade in relevant:
        known = best.get((query, document))
        if known is None or known[2] < grade:
            best[query, document] = name, place, grade
    return best


def _numbers(embeddings: Embeddings, first_image: int, first_text: int) -> dict[str, list[int]]:
    """Item numbers by name: `image:row`, `text:row`, and the ids of the file."""
    numbers: dict[str, list[int]] = {}
    sides = ("image", embeddings.image_ids, first_image), ("text", _text_ids(embeddings), first_text)
    for kind, ids, first in sides:
        for row, name in enumerate(ids):
            for known in dict.fromkeys([f"{kind}:{row}", str(name)]):
                numbers.setdefault(known, []).append(first + row)
    return numbers


def _text_ids(embeddings: Embeddings) -> list[str]:
    """Entries of the metadata's list text_ids; without it, `text:row`."""
    n_texts, ids = len(embeddings.text_features), embeddings.metadata.get("text_ids") or []
    if not isinstance(ids, list) or not all(isinstance(name, str | int) for name in ids):
        raise I0TError(f"text_ids of the metadata: {ids!r:.60}, expected a list of names.")
    if ids and len(ids) != n_texts:
        raise I0TError(f"text_ids of the metadata: {len(ids)} names for {n_texts} texts.")
    return ids or [f"text:{row}" for row in range(n_texts)]


def _refuse_aliases(named: Iterable[tuple[str, str, Any]]) -> None:
    """Refuse two names of one thing, such as an image_id and `image:ROW`; takes (place, name, thing)."""
    seen: dict[Any, str] = {}
    for place, name, thing in named:
        if seen.setdefault(thing, name) != name:
            raise I0TError(f"{place}: {seen[thing]} and {name} are the same. Use one name of each item.")


def _item(numbers: Numbers, name: str, role: str, place: str, document_of: np.ndarray | None = None) -> int:
    """Item with a name, or, with `document_of`, that which stands for its document."""
    if name not in numbers:
        raise I0TError(
            f"{place}: no item is called {name!r} ({role}). Use an image_id, an entry of the metadata's text_ids, or "
            "image:ROW or text:ROW."
        )
    items = set(numbers[name]) if document_of is None else set(document_of[numbers[name]].tolist())
    if len(items) > 1:
        raise I0TError(
            f"{place}: two items are called {name!r} ({role}). Use image:ROW or text:ROW, or --documents ids if both "
            "are of one document."
        )
    return items.pop()

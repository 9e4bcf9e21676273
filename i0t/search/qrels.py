"""Relevance judgments (qrels) of a user's corpus: TREC, BEIR's table, JSON or Parquet.

    TREC (any suffix)  four columns without a header: query, iteration (unused), document, grade
    .tsv               BEIR's header `query-id corpus-id score`, tab separated
    .json              {"query": {"document": grade}}, or a list of {"query_id", "doc_id", "relevance"}
    .parquet           columns query_id, doc_id, relevance

Grades of 0 and below mean not relevant. A query with no other grade is left out and counted, and is no document of the
index either. Ids are those of the embeddings: the image_id of an
image, the entry of a text in the metadata's list `text_ids`; or row numbers, `image:0`, `text:0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError, first_line
from i0t.reading import read_json, read_text
from i0t.search.index import require_one_vector
from i0t.search.mixed_index import MixedLayout

WHAT = "relevance judgments"
COLUMNS = ("query_id", "doc_id", "relevance")
PLAIN = re.compile(r"\s*[-+.0-9a-zA-Z]+\s*")
Judgment = tuple[str, str, float]


def read_qrels(path: str | Path) -> list[Judgment]:
    """Read (query, document, grade) of all relevant documents, in the file's order.

    Raises:
        I0TError: the file is missing, empty or malformed; the message names the line or entry.
    """
    return [judgment for judgment in read_placed(path)[0] if judgment[2] > 0]


def read_placed(path: str | Path) -> tuple[list[Judgment], list[str]]:
    """Read all judgments, also of irrelevant documents, and the place of each (file, and line or entry) for errors.

    Raises:
        I0TError: as `read_qrels`.
    """
    path = Path(path)
    reader = {".json": _from_json, ".parquet": _from_parquet, ".tsv": _from_table}.get(path.suffix, _from_trec)
    judgments, places, seen = [], [], set()
    for place, query, document, grade in reader(path):
        try:
            if isinstance(grade, str) and not PLAIN.fullmatch(grade):  # Python also reads 1_0, and digits of any script
                raise ValueError
            value = float(grade) if not isinstance(grade, bool) else np.nan
        except (TypeError, ValueError, OverflowError):
            raise I0TError(f"{path}: {place}: the grade {grade!r} is not a number.") from None
        if (query, document) in seen:
            raise I0TError(f"{path}: {place}: query {query} and document {document} are judged twice.")
        seen.add((query, document))
        if not np.isfinite(value):
            raise I0TError(f"{path}: {place}: the grade {grade!r} is not a finite number.")
        judgments.append((query, document, value))
        places.append(f"{path}: {place}")
    if all(value <= 0 for _, _, value in judgments):
        raise I0TError(f"{path}: no relevant document (grade above 0) among {len(seen)} judgments.")
    return judgments, places


def without_relevant(judgments: Sequence[Judgment]) -> list[str]:
    """Return the queries that no document is relevant to."""
    relevant = {query for query, _, grade in judgments if grade > 0}
    return [query for query in dict.fromkeys(query for query, _, _ in judgments) if query not in relevant]


def layout_of_qrels(
    judgments: list[Judgment],
    corpus: Embeddings,
    queries: Embeddings | None = None,
    places: Sequence[str] | None = None,
) -> tuple[MixedLayout, np.ndarray, np.ndarray]:
    """Make the search task of judgments.

    Args:
        judgments: from `read_placed`, or `read_qrels`. Queries without a relevant document are left out; they must be
            known, too, so that they do not become documents of the index.
        corpus: images and texts of the index.
        queries: images and texts of the queries; None: queries are items of `corpus`, and all other items are the
            index.
        places: the place of each judgment, from `read_placed`, for errors.

    Returns:
        The layout, and the image and text features that it numbers, those of the corpus first.

    Raises:
        I0TError: an unknown id, a query that is also a document, queries of another model, or several vectors per
            item.
    """
    places = places or ["qrels"] * len(judgments)
    first_place: dict[str, str] = {}
    for (query, _, _), place in zip(judgments, places, strict=True):
        first_place.setdefault(query, place)
    left_out = set(without_relevant(judgments))
    query_names = [name for name in first_place if name not in left_out]
    images, texts = corpus.image_features, corpus.text_features
    if queries is not None:
        corpus.origin.require_same_model(queries.origin, "the vectors of the corpus", "the queries")
        require_one_vector(images, "images")  # else they cannot be joined
        require_one_vector(queries.image_features, "images of the queries")
        images, texts = np.concatenate([images, queries.image_features]), np.concatenate([texts, queries.text_features])
    numbers = _numbers(corpus, 0, len(images))
    numbers_of_queries = numbers
    if queries is not None:
        numbers_of_queries = _numbers(queries, len(corpus.image_features), len(images) + len(corpus.text_features))
    item_of_query = {name: _item(numbers_of_queries, name, "query", place) for name, place in first_place.items()}
    _refuse_aliases((first_place[name], name, item) for name, item in item_of_query.items())
    query_items = np.array([item_of_query[name] for name in query_names])
    items = np.fromiter(dict.fromkeys(numbers.values()), dtype=np.int64)
    corpus_items = np.setdiff1d(items, list(item_of_query.values()))
    place_of = {int(item): place for place, item in enumerate(corpus_items)}
    query_place = {name: place for place, name in enumerate(query_names)}
    relevant = [(judgment, place) for judgment, place in zip(judgments, places, strict=True) if judgment[2] > 0]
    judged = []
    _refuse_aliases(
        (place, f"query {query}, document {document}", (query, _item(numbers, document, "document", place)))
        for (query, document, _), place in relevant
    )
    for (query, document, _), place in relevant:
        item = _item(numbers, document, "document", place)
        if item not in place_of:
            raise I0TError(
                f"{place}: document {document} of query {query} is itself a query, so it is not in the index. Put the "
                "queries into another file: --queries FILE."
            )
        judged.append((query_place[query], place_of[item]))
    grades = np.array([grade for (_, _, grade), _ in relevant])
    return MixedLayout(len(images), corpus_items, query_items, np.array(judged), grades), images, texts


def _numbers(embeddings: Embeddings, first_image: int, first_text: int) -> dict[str, int]:
    """Item number by name: `image:row`, `text:row`, and the ids of the file."""
    n_images, n_texts = len(embeddings.image_features), len(embeddings.text_features)
    numbers = {f"image:{row}": first_image + row for row in range(n_images)}
    numbers |= {f"text:{row}": first_text + row for row in range(n_texts)}
    text_ids = embeddings.metadata.get("text_ids") or []
    if not isinstance(text_ids, list) or not all(isinstance(name, str | int) for name in text_ids):
        raise I0TError(f"text_ids of the metadata: {text_ids!r:.60}, expected a list of names.")
    if text_ids and len(text_ids) != n_texts:
        raise I0TError(f"text_ids of the metadata: {len(text_ids)} names for {n_texts} texts.")
    named = [*zip(map(str, embeddings.image_ids), range(first_image, first_image + n_images))]
    named += zip(map(str, text_ids), range(first_text, first_text + len(text_ids)))
    for name, number in named:
        if numbers.setdefault(name, number) != number:
            raise I0TError(f"two items are called {name!r}, so the judgments cannot tell which they mean.")
    return numbers


def _refuse_aliases(named: Iterable[tuple[str, str, Any]]) -> None:
    """Refuse two names of one thing, such as an image_id and `image:ROW`; takes (place, name, thing)."""
    seen: dict[Any, str] = {}
    for place, name, thing in named:
        if seen.setdefault(thing, name) != name:
            raise I0TError(f"{place}: {seen[thing]} and {name} are the same. Use one name of each item.")


def _item(numbers: dict[str, int], name: str, role: str, place: str) -> int:
    if name not in numbers:
        raise I0TError(
            f"{place}: no item is called {name!r} ({role}). Use an image_id, an entry of the metadata's text_ids, or "
            "image:ROW or text:ROW."
        )
    return numbers[name]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    text = read_text(path, WHAT)
    return ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())


def _from_trec(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    for number, line in _lines(path):
        columns = line.split()
        if len(columns) != 4:
            raise I0TError(
                f"{path}: line {number}: {len(columns)} columns, expected query, iteration, document, grade."
            )
        yield f"line {number}", columns[0], columns[2], columns[3]


def _from_table(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    lines = list(_lines(path))
    for number, line in lines:
        columns = line.split("\t")
        if columns[:3] == ["query-id", "corpus-id", "score"]:
            continue
        if len(columns) != 3:
            raise I0TError(f"{path}: line {number}: {len(columns)} columns, expected query-id, corpus-id, score.")
        yield f"line {number}", columns[0], columns[1], columns[2]


def _from_json(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    content = read_json(path, WHAT)
    try:
        if isinstance(content, dict):
            for query, documents in content.items():
                if not documents:
                    raise I0TError(f"{path}: query {query} lists no document. Leave it out, or list one of grade 0.")
                for document, grade in documents.items():
                    yield f"query {query}", query, document, grade
        else:
            for number, entry in enumerate(content):
                ids = [_id(entry[name], f"{path}: entry {number}: {name}") for name in COLUMNS[:2]]
                yield f"entry {number}", ids[0], ids[1], entry[COLUMNS[2]]
    except (TypeError, KeyError, AttributeError) as error:
        form = '{"query": {"document": grade}} or a list of {"query_id", "doc_id", "relevance"}'
        raise I0TError(f"{path}: expected {form}: {error!r}.") from None


def _from_parquet(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        columns = parquet.read_table(path, columns=list(COLUMNS)).to_pydict()
        rows = zip(*(columns[name] for name in COLUMNS), strict=True)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({WHAT}).") from None
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:  # or text that is not UTF-8
        raise I0TError(f"{path}: not Parquet with columns {', '.join(COLUMNS)} ({first_line(error)}).") from None
    for number, (query, document, grade) in enumerate(rows):
        ids = [_id(value, f"{path}: row {number}: {name}") for name, value in zip(COLUMNS, (query, document))]
        yield f"row {number}", ids[0], ids[1], grade


def _id(value: Any, place: str) -> str:
    """Return an id as a string: 7, "7" and a table's 7.0 are one id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise I0TError(f"{place} is {value!r:.60}, expected a string or a whole number.")
    return str(value)

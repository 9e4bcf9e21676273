"""Relevance judgments (qrels) of a user's corpus: TREC, BEIR's table, JSON or Parquet.

    TREC (any suffix)  four columns without a header: query, iteration (unused), document, grade
    .tsv               BEIR's header `query-id corpus-id score`, tab separated
    .json              {"query": {"document": grade}}, or a list of {"query_id", "doc_id", "relevance"}
    .parquet           columns query_id, doc_id, relevance

Grades of 0 and below mean not relevant. A query with no other grade is left out and counted, and is no document of the
index either. Ids are those of the embeddings: the image_id of an image, the entry of a text in the metadata's list
`text_ids`; or row numbers, `image:0`, `text:0`; or names of `read_documents`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from i0t.errors import I0TError, first_line
from i0t.reading import check_json, read_json, read_text

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


def read_documents(path: str | Path) -> dict[str, list[str]]:
    """Read documents that own several items, such as the picture and the title of a listing.

        .json   {"document": ["item", "item"]}
        others  two columns, tab separated: document, item; a header `doc_id item_id` is left out

    Raises:
        I0TError: the file is missing, empty or malformed; the message names the line or entry.
    """
    path = Path(path)
    found: dict[str, list[str]] = {}
    if path.suffix == ".json":
        found = read_json(path, "documents")
        check_json(dict[str, list[str]], found, str(path), 'an object {"document": ["item", ...]}', "Correct it.")
        bare = [name for name, items in found.items() if not items]
        if bare:
            raise I0TError(f"{path}: document {bare[0]} has no item. Leave it out.")
    else:
        for number, line in _lines(path):
            columns = line.split("\t")
            if len(columns) != 2:
                raise I0TError(
                    f"{path}: line {number}: {len(columns)} columns, expected document, item (tab separated)."
                )
            if columns != ["doc_id", "item_id"]:
                found.setdefault(columns[0], []).append(columns[1])
    if not found:
        raise I0TError(f"{path}: no document in it.")
    return found


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

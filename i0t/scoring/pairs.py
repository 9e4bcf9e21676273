"""Lists of pairs to score: two items per row, images or texts, from CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from i0t.digests import file_state
from i0t.errors import I0TError
from i0t.paths import say
from i0t.reading import has_words, parse_json, read_json, read_text
from i0t.scoring.percentiles import IMAGE_IMAGE, IMAGE_TEXT, TEXT_TEXT

COLUMNS = ("image", "caption", "other_image", "other_caption", "references")
FORM = (
    "Columns: image and caption; or image and other_image; or caption and other_caption; and, if there are any, "
    "references (a JSON list, or one text)"
)


@dataclass(frozen=True)
class ScoredPair:
    """Two items to compare."""

    images: tuple[str, ...]  # paths: two, one or none
    texts: tuple[str, ...]
    references: tuple[str, ...] = ()  # right captions of the image, for reference-based scores

    @property
    def kind(self) -> str:
        """image-text, text-text or image-image."""
        return {0: TEXT_TEXT, 1: IMAGE_TEXT, 2: IMAGE_IMAGE}[len(self.images)]

    @property
    def key(self) -> str:
        """Identifies the pair, with the present state of its image files."""
        return json.dumps([list(map(file_state, self.images)), self.texts, self.references])


def all_pairs(images: list[str], texts: list[str]) -> list[ScoredPair]:
    """All pairs of these items: images with texts, then texts with texts, then images with images."""
    pairs = [ScoredPair((image,), (text,)) for image in images for text in texts]
    pairs += [ScoredPair((), (one, other)) for row, one in enumerate(texts) for other in texts[row + 1 :]]
    return pairs + [ScoredPair((one, other), ()) for row, one in enumerate(images) for other in images[row + 1 :]]


def read_pairs(path: str | Path, folder: str | Path | None = None) -> list[ScoredPair]:
    """Read a CSV file with a header, or a JSON list of objects.

    Args:
        path: .csv or .json; see `FORM`.
        folder: where relative image paths start; by default the file's folder.

    Raises:
        I0TError: the file is missing, malformed or empty; the message names the row.
    """
    path = Path(path)
    folder = Path(path.parent if folder is None else folder)
    rows = _rows_of_json(path) if path.suffix == ".json" else _rows_of_csv(path)
    if not rows:
        raise I0TError(f"{path}: no row to score. {FORM}.")
    return [_pair(row, folder, f"{path}: row {number}{line}") for number, (line, row) in enumerate(rows, start=1)]


def _rows_of_json(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = read_json(path, "pairs to score")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise I0TError(f"{path}: expected a JSON list of objects. {FORM}.")
    _check_columns(list(dict.fromkeys(name for row in rows for name in row)), str(path))
    return [("", row) for row in rows]


def _rows_of_csv(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Rows with their places, e.g. ` (line 3)`. Strict: a caption is never cut, rows are never joined."""
    rows, start = [], 1
    try:
        with io.StringIO(read_text(path, "pairs to score"), newline="") as stream:
            reader = csv.reader(stream, strict=True, skipinitialspace=True)  # else quotes after a blank stay
            header = next(reader, [])
            _check_commas(header, path)
            _check_columns(header, f"{path}: line 1")
            named = sum(bool(name.strip()) for name in header)
            if not set(header) & set(COLUMNS):
                why = "its first line names none of the columns" if header else "is empty"
                raise I0TError(f"{path}: {why}. {FORM}.")
            start = reader.line_num + 1
            for cells in reader:
                unnamed = any(cell.strip() for name, cell in zip(header, cells) if not name.strip())
                if unnamed and len(cells) == len(header) and not header[0].strip():
                    raise I0TError(
                        f"{path}: line 1 does not name its first column. Name it, or leave it out (in pandas, "
                        "index=False)."
                    )
                if cells and (unnamed or len(cells) != len(header)):
                    raise I0TError(
                        f"{path}: line {start}: {len(cells)} cells, but line 1 names {named} columns. Quote a text "
                        'that has a comma: "a dog, asleep".'
                    )
                if cells:
                    rows.append((f" (line {start})", dict(zip(header, cells))))
                start = reader.line_num + 1
    except csv.Error as error:
        raise I0TError(
            f"{path}: the row that begins in line {start} is not CSV ({error}). Close each quote that opens, and "
            'double quotes within a quoted text: "a ""dog""".'
        ) from None
    return rows


def _check_commas(header: list[str], path: Path) -> None:
    """Refuse a first line whose names are parted by something else: spreadsheets may write semicolons or tabs."""
    for mark, name in {";": "semicolons", "\t": "tabs"}.items():
        if len(header) == 1 and {part.strip() for part in header[0].split(mark)} & {*COLUMNS} and mark in header[0]:
            raise I0TError(f"{path}: line 1: its columns are parted by {name}. Save it with commas.")


def _check_columns(names: list[str], place: str) -> None:
    """Refuse columns that are doubled or misspelt; name the others that are unknown, which are left out."""
    names = [name for name in names if name.strip()]  # spreadsheets write empty ones at the end
    unknown = [name for name in names if name not in COLUMNS]
    for name in names:
        if names.count(name) > 1:
            raise I0TError(f"{place}: column {name!r} stands there twice. Leave one out.")
    for name in unknown:
        meant = get_close_matches(name.strip().lower(), COLUMNS, n=1, cutoff=0.85)
        if meant:
            raise I0TError(f"{place}: unknown column {name!r}. Write {meant[0]}, or rename it if it is another.")
    if unknown:
        say(f"{place}: left out, as no such columns are known: {', '.join(map(repr, unknown))}")


def _pair(row: dict[str, Any], folder: Path, place: str) -> ScoredPair:
    cells = {name: "" if row.get(name) is None else row[name] for name in COLUMNS}
    for name in COLUMNS[:-1]:
        if not isinstance(cells[name], str):
            raise I0TError(f"{place}: {name} is {cells[name]!r:.60}, expected text.")
        if cells[name].strip() and not has_words(cells[name]):
            raise I0TError(f"{place}: {name} is {cells[name]!r:.60}: nothing of it shows. Correct it.")
    images = tuple(str(folder / cells[name].strip()) for name in ("image", "other_image") if cells[name].strip())
    texts = tuple(cells[name].strip() for name in ("caption", "other_caption") if cells[name].strip())
    if len(images) + len(texts) != 2:
        raise I0TError(f"{place}: {len(images)} images and {len(texts)} texts, expected two items. {FORM}.")
    references = _references(cells["references"], place)
    if references and len(images) != 1:
        raise I0TError(f"{place}: references are for an image with a caption; leave them out here.")
    return ScoredPair(images, texts, references)


def _references(cell: Any, place: str) -> tuple[str, ...]:
    """Parse references: a list, a cell with a JSON list, or one text."""
    if isinstance(cell, str):
        text = cell.strip()
        cell = parse_json(text, place, "references") if text.startswith("[") else [text] if text else []
    if not isinstance(cell, list) or not all(isinstance(item, str) and has_words(item) for item in cell):
        raise I0TError(f"{place}: references is {cell!r:.60}, expected a list of texts.")
    return tuple(cell)

"""Lists of pairs to score: two items per row, images or texts, from CSV or JSON."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i0t.errors import I0TError
from i0t.files import read_json
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
        """Identifies the pair."""
        return json.dumps([self.images, self.texts, self.references])


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
    return [_pair(row, folder, f"{path}: row {number}") for number, row in enumerate(rows, start=1)]


def _rows_of_json(path: Path) -> list[dict[str, Any]]:
    rows = read_json(path, "pairs to score")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise I0TError(f"{path}: expected a JSON list of objects. {FORM}.")
    return rows


def _rows_of_csv(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file (pairs to score).") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise I0TError(f"{path}: cannot be read (pairs to score): {error}") from None
    if not set(reader.fieldnames or ()) & set(COLUMNS):
        raise I0TError(f"{path}: its first line names none of the columns. {FORM}.")
    return rows


def _pair(row: dict[str, Any], folder: Path, place: str) -> ScoredPair:
    cells = {name: row.get(name) or "" for name in COLUMNS}
    for name in COLUMNS[:-1]:
        if not isinstance(cells[name], str):
            raise I0TError(f"{place}: {name} is {cells[name]!r:.60}, expected text.")
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
        try:
            cell = json.loads(text) if text.startswith("[") else [text] if text else []
        except json.JSONDecodeError as error:
            raise I0TError(f"{place}: references is not a JSON list ({error}).") from None
    if not isinstance(cell, list) or not all(isinstance(item, str) and item.strip() for item in cell):
        raise I0TError(f"{place}: references is {cell!r:.60}, expected a list of texts.")
    return tuple(cell)

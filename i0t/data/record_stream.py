"""ShareGPT4V's 1.5 GB JSON file as a stream: counted and compared with the folders without loading it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import ijson
from tqdm import tqdm

from i0t.data.sharegpt4v import FILE, IMAGES
from i0t.errors import I0TError

FORM = '{"image": "coco/train2017/1.jpg", "conversations": [question, {"value": caption}]}'


def stream_records(path: Path, progress: bool = False) -> Iterator[dict[str, Any]]:
    """The records of a ShareGPT4V file one after another, in bounded memory.

    Raises:
        I0TError: the file is missing, not JSON, no list of records, or ends early; names the record.
    """
    row = -1
    try:
        with open(path, "rb") as stream, _bar(path, progress) as bar:
            for row, record in enumerate(ijson.items(stream, "item")):
                _check(record, row, path)
                yield record
                bar.update(stream.tell() - bar.n)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file (the ShareGPT4V captions). See docs/data.md.") from None
    except OSError as error:
        raise I0TError(f"{path}: cannot be read (the ShareGPT4V captions): {error.strerror}") from None
    except ijson.JSONError as error:
        reason = str(error).splitlines()[0].strip()  # the other lines draw an arrow
        raise I0TError(f"{path}: not valid JSON after record {row}: {reason}. Download it again.") from None
    if row < 0:
        raise I0TError(f"{path}: not in ShareGPT4V's form (a list of records).")


def _bar(path: Path, progress: bool) -> tqdm:
    return tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name[:30], disable=not progress)


def _check(record: Any, row: int, path: Path) -> None:
    try:
        if isinstance(record["image"], str) and isinstance(record["conversations"][1]["value"], str):
            return
    except (TypeError, KeyError, IndexError):
        pass  # told below, like a value of another type
    raise I0TError(f"{path}: record {row} is not of ShareGPT4V's form, {FORM}.")


@dataclass(frozen=True)
class RecordScan:
    """What a pass over the file saw.

    Attributes:
        records: how many there are.
        pictures: of them, the pictures that are there, in order.
        missing_by_folder: how many are not, by the top folder of their path.
        first_missing: the first of those.
    """

    records: int
    pictures: Sequence[Path]
    missing_by_folder: dict[str, int]
    first_missing: Path | None = None

    @property
    def n_missing(self) -> int:
        """Pictures that are not there."""
        return sum(self.missing_by_folder.values())


def scan_records(data_dir: Path, progress: bool = False) -> RecordScan:
    """Count the records and look for their pictures, with one listing a folder instead of a look a picture.

    Raises:
        I0TError: as `stream_records`.
    """
    folder = data_dir / IMAGES
    found: list[str] = []
    listings: dict[str, set[str]] = {}
    missing: Counter[str] = Counter()
    first = None
    for record in stream_records(data_dir / FILE, progress):
        parent, _, name = record["image"].rpartition("/")
        if parent not in listings:
            listings[parent] = _names(folder / parent)
        if name in listings[parent]:
            found.append(record["image"])
        else:
            missing[record["image"].split("/")[0]] += 1
            first = first or folder / record["image"]
    return RecordScan(len(found) + missing.total(), _Below(folder, found), dict(missing), first)


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()


class _Below(Sequence[Path]):
    """Paths below a folder, made when asked for: a million `Path` objects would take more than the names."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        return _Below(self.folder, self.names[index]) if isinstance(index, slice) else self.folder / self.names[index]

"""An index of a JSON file with a million long captions: parsed once into an Arrow file, which is memory-mapped.

The JSON is parsed record by record, so that memory stays small. The index holds image names and captions as Arrow
columns, and ends with the SHA-256 of all that. Worker processes share its pages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from i0t.errors import I0TError
from i0t.files import atomic_path, file_sha256, is_writable
from i0t.paths import TENSORS, say
from i0t.reading import has_words
from i0t.reading.json_list import json_list

VERSION = "5"  # raise it whenever the same JSON would give another index
BATCH_RECORDS = 10_000
BLOCK = 1 << 20
DIGEST_BYTES = hashlib.sha256().digest_size
SHOW_PROGRESS_FROM = 100 * 2**20  # a file of this size takes more than a second
FORM = "the ShareGPT4V captions"
SCHEMA = pa.schema({"image": pa.string(), "caption": pa.large_string()})


class CaptionIndex:
    """N image names and their captions, memory-mapped from an Arrow file.

    Attributes:
        images: (N,) Arrow column of image names, as in the JSON.
        captions: (N,) Arrow column of captions, line breaks turned into spaces.
        digest: SHA-256 of the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = pa.memory_map(str(path)).read_buffer()
        if whole.size <= DIGEST_BYTES:
            raise ValueError(f"{path}: cut off")
        table = pa.ipc.open_file(pa.BufferReader(whole[:-DIGEST_BYTES])).read_all()
        self.images, self.captions = table["image"], table["caption"]
        self.header = json.loads(table.schema.metadata[b"i0t"])
        self.digest: str = self.header["sha256"]

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    def is_whole(self) -> bool:
        """Compare the content with its SHA-256; reads all of it, block by block."""
        digest, left = hashlib.sha256(), self.path.stat().st_size - DIGEST_BYTES
        with self.path.open("rb") as stream:
            while left and (block := stream.read(min(left, BLOCK))):
                digest.update(block)
                left -= len(block)
            return stream.read() == digest.digest()

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """Pickle the path only: a worker opens the file again instead of copying it."""
        return type(self), (self.path,)


class Rows(Sequence[Any]):
    """Some rows of one column of an index; each value is read on access."""

    def __init__(self, index: CaptionIndex, column: str, rows: np.ndarray, folder: Path | None = None) -> None:
        self.source, self.column, self.rows, self.folder = index, column, rows, folder

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        """Return one value, or a view of several."""
        if isinstance(place, slice):
            return Rows(self.source, self.column, self.rows[place], self.folder)
        value = getattr(self.source, self.column)[int(self.rows[place])].as_py()
        return value if self.folder is None else self.folder / value


def open_index(source: Path) -> CaptionIndex:
    """Open the index of a ShareGPT4V JSON file; make it if it is missing or the file has changed.

    It lies beside the JSON, or under `tensors/index` if that folder cannot be written.

    Raises:
        I0TError: the file is missing, truncated or has another form; the message names the record.
    """
    if not source.is_file():
        raise I0TError(f"{source}: no such file (the ShareGPT4V captions). See the README for the layout.")
    state = source.stat()
    now = {"version": VERSION, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
    path = index_path(source)
    if path.is_file():
        try:
            index = CaptionIndex(path)
            if {key: index.header.get(key) for key in now} == now:
                if index.is_whole():
                    return index
                say(f"{path}: damaged; it is made again from {source}.")
        # Damaged, or another file: make it again. Arrow raises OSError or its own ValueError.
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
    _write_index(source, path, now)
    return CaptionIndex(path)


def index_path(source: Path) -> Path:
    """Return the path of the index of a JSON file."""
    if is_writable(source.parent):
        return source.with_name(f"{source.name}.index.arrow")
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    return TENSORS / "index" / f"{source.stem}-{digest}.arrow"


def _write_index(source: Path, path: Path, state: dict[str, Any]) -> None:
    header = json.dumps({**state, "sha256": file_sha256(source)})
    schema = SCHEMA.with_metadata({"i0t": header})
    with open(source, "rb") as stream, atomic_path(path, sync=False) as temporary:
        bar = tqdm(
            total=state["bytes"],
            desc=f"reading {source.name} once",
            unit="B",
            unit_scale=True,
            disable=state["bytes"] < SHOW_PROGRESS_FROM,
        )
        with bar, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for rows in _batches(_pairs(stream, source)):
                images, captions = zip(*rows, strict=True)
                columns = [pa.array(images, pa.string()), pa.array(captions, pa.large_string())]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                bar.update(stream.tell() - bar.n)
        digest = file_sha256(temporary)
        with temporary.open("ab") as sink:
            sink.write(bytes.fromhex(digest))


def stream_pairs(source: Path) -> Iterator[tuple[str, str]]:
    """Yield (image name, caption) of each record, in bounded memory.

    Raises:
        I0TError: the file is not in ShareGPT4V's form; the message names the record.
    """
    with open(source, "rb") as stream:
        yield from _pairs(stream, source)


def _pairs(stream: IO[bytes], source: Path) -> Iterator[tuple[str, str]]:
    number, empty = 0, []
    for number, record in enumerate(json_list(stream, source, FORM), start=1):
        try:
            image, caption = record["image"], _answer(record).replace("\n", " ")
            image.encode()  # refuses anything but a string, and half of a surrogate pair
        except (TypeError, KeyError, IndexError, AttributeError, UnicodeEncodeError) as error:
            raise I0TError(f"{source}: record {number - 1} is not in ShareGPT4V's form ({error!r}).") from None
        if has_words(caption):
            yield image, caption.encode("utf-8", "replace").decode()  # half of a surrogate pair becomes "?"
        else:  # of a million records a few may be: nobody corrects them one by one
            empty.append(number - 1)
    if not number:
        raise I0TError(f"{source}: not in ShareGPT4V's form: the list of records is empty.")
    if empty:
        say(f"{source}: {len(empty)} of {number} records have an empty caption and are left out, first {empty[0]}")


def _answer(record: dict[str, Any]) -> str:
    """Return the first turn of "gpt": questions and system turns may come before or after it."""
    for turn in record["conversations"]:
        if turn.get("from") == "gpt":
            return turn["value"]
    raise KeyError('a turn "from": "gpt"')


def _batches(rows: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    while batch := list(islice(rows, BATCH_RECORDS)):
        yield batch

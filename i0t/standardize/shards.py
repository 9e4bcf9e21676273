"""Shards: files of vectors (`.npy`, `.safetensors`, Parquet), read and rewritten in blocks.

Shapes: N items of a shard, D dimensions.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i0t.errors import I0TError, first_line
from i0t.features import to_numpy
from i0t.files import atomic_path, write_npy_blocks
from i0t.reading import read_npy
from i0t.reading.arrays import CHECKSUM
from i0t.remote import is_url, local_copy, matches, place

BLOCK_BYTES = 64 * 2**20  # in memory at once; a Parquet row group may be larger
SUFFIXES = (".npy", ".safetensors", ".parquet")

Move = Callable[[np.ndarray, int], np.ndarray]  # (block, its first row) -> block of the same shape and dtype


def find_shards(patterns: list[str]) -> list[Path]:
    """Find the shards of paths, folders and glob patterns, without repeats, in the order of the numbers in their names.

    Raises:
        I0TError: a pattern that matches nothing, or a file of another kind.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = matches(pattern) if is_url(pattern) else _matches_here(pattern)
        shards = [path for path in map(place, matched) if path.suffix in SUFFIXES]
        if not shards:
            raise I0TError(f"{pattern}: no {', '.join(SUFFIXES)} file matches. Quote patterns: 'folder/*.npy'.")
        found.update(dict.fromkeys(sorted(shards, key=_by_number)))
    return list(found)


def _matches_here(pattern: str) -> list[str]:
    path = Path(pattern)
    if not path.is_dir():
        return glob.glob(pattern, recursive=True)
    # Without hidden files, as `*`: temporary files of a killed run, or macOS' ._ files.
    return [str(file) for file in path.iterdir() if not file.name.startswith(".")]


def _by_number(path: Path) -> list[Any]:
    """Sort key that puts img_emb_10 after img_emb_9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


@dataclass(frozen=True)
class Shard:
    """One file of vectors.

    Attributes:
        path: the file; a `UPath` of a URL is copied to a temporary folder to be read.
        key: the tensor (safetensors) or column (Parquet) of the vectors; None if there is only one.
    """

    path: Path
    key: str | None = None

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, vectors) of each block.

        Raises:
            I0TError: unreadable, or without floating-point vectors.
        """
        with self._here() as shard, shard._reading():
            yield from {".npy": shard._npy, ".safetensors": shard._safetensors, ".parquet": shard._parquet}[
                self.path.suffix
            ]()

    def rewrite(self, output: Path, move: Move) -> int:
        """Write the same file with moved vectors: same format, dtype, names and other content.

        Returns:
            The number of vectors.

        Raises:
            I0TError: as `blocks`, an error of `move`, or a folder that cannot be written.
        """
        with self._here() as shard, atomic_path(output) as temporary:
            return {".npy": shard._to_npy, ".safetensors": shard._to_safetensors, ".parquet": shard._to_parquet}[
                self.path.suffix
            ](temporary, move)

    @contextmanager
    def _here(self) -> Iterator[Shard]:
        """Yield this shard, or a copy on this machine of one at a URL; errors name the URL."""
        with ExitStack() as stack:
            with self._reading():
                here = stack.enter_context(local_copy(self.path))
            try:
                yield Shard(here, self.key)
            except I0TError as error:
                if here is self.path:
                    raise
                raise I0TError(str(error).replace(str(here), str(self.path))) from None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Add the file's name to errors of reading; do not use it around writing."""
        try:
            yield
        except I0TError:
            raise
        except Exception as error:  # three libraries with their own errors; NumPy even raises TokenError
            raise I0TError(f"{self.path}: cannot be read ({first_line(error)}). Copy it again.") from error

    def _npy(self) -> Iterator[tuple[int, np.ndarray]]:
        array = read_npy(self.path, "vectors", mapped=True)
        if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.floating):
            raise I0TError(f"{self.path}: expected floating (N, D) vectors, got {array.dtype} {array.shape}.")
        for start, stop in _starts(array.shape, array.dtype.itemsize):
            # Mapped anew: pages of earlier blocks would count as memory of this process.
            yield start, np.asarray(read_npy(self.path, "vectors", mapped=True)[start:stop])

    def _to_npy(self, temporary: Path, move: Move) -> int:
        with self._reading():
            source = read_npy(self.path, "vectors", mapped=True)
        moved = (move(block, start) for start, block in self.blocks())
        write_npy_blocks(temporary, source.dtype, source.shape, moved)
        return len(source)

    def _safetensors(self) -> Iterator[tuple[int, np.ndarray]]:
        from safetensors import safe_open

        with safe_open(self.path, framework="pt" if self._is_bfloat16() else "numpy") as file:
            tensor = file.get_slice(self._tensor(file))
            shape = tuple(tensor.get_shape())
            for start, stop in _starts(shape, 4):
                yield start, to_numpy(tensor[start:stop])  # bfloat16, which NumPy lacks, as float32

    def _is_bfloat16(self) -> bool:
        from safetensors import safe_open

        with safe_open(self.path, framework="numpy") as file:
            return file.get_slice(self._tensor(file)).get_dtype() == "BF16"

    def _tensor(self, file: Any) -> str:
        names: list[str] = list(file.keys())
        if self.key in names:
            return self.key
        vectors = [
            name
            for name in names
            if len(file.get_slice(name).get_shape()) > 1
            and file.get_slice(name).get_dtype()[0] in "FB"
            and file.get_slice(name).get_dtype() != "BOOL"
        ]
        if self.key is not None or len(vectors) != 1:
            raise I0TError(
                f"{self.path}: which tensor holds the vectors? It has {', '.join(names)}. Name it with --key."
            )
        return vectors[0]

    def _to_safetensors(self, temporary: Path, move: Move) -> int:
        import safetensors.numpy
        import safetensors.torch
        import torch
        from safetensors import safe_open

        with self._reading():
            half = self._is_bfloat16()
            with safe_open(self.path, framework="pt" if half else "numpy") as file:
                name, header = self._tensor(file), file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys() if key != name}  # noqa: SIM118 (not a dict)
        if header:
            header.pop(CHECKSUM, None)  # of the vectors before they moved
        moved = np.concatenate([move(block, start) for start, block in self.blocks()])  # the format cannot append
        if half:
            tensors[name] = torch.from_numpy(moved).to(torch.bfloat16)
        else:
            tensors[name] = moved
        (safetensors.torch if half else safetensors.numpy).save_file(tensors, temporary, metadata=header)
        return len(moved)

    def _parquet(self) -> Iterator[tuple[int, np.ndarray]]:
        start = 0
        for _, column in self._row_groups():
            vectors = self._vectors(column, start)
            yield start, vectors
            start += len(vectors)

    def _row_groups(self) -> Iterator[tuple[Any, Any]]:
        """Yield (number, column of vectors) of each row group that is not empty."""
        import pyarrow.parquet as pq

        with self._reading():
            file = pq.ParquetFile(self.path)
            name = self._column(file.schema_arrow)
            for number in range(file.num_row_groups):
                column = file.read_row_group(number, columns=[name]).column(0)
                if len(column):
                    yield number, column

    def _column(self, schema: Any) -> str:
        import pyarrow.types as kinds

        lists: list[str] = [
            field.name
            for field in schema
            if (kinds.is_list(field.type) or kinds.is_large_list(field.type) or kinds.is_fixed_size_list(field.type))
            and kinds.is_floating(field.type.value_type)
        ]
        if self.key in lists:
            return self.key
        if self.key is not None or len(lists) != 1:
            held = ", ".join(lists) or "none"
            raise I0TError(
                f"{self.path}: which column holds the vectors? Lists of numbers: {held}. Name it with --key."
            )
        return lists[0]

    def _vectors(self, column: Any, start: int) -> np.ndarray:
        import pyarrow.compute as pc

        array = column.combine_chunks()
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(~(lengths == lengths[0]))  # a missing vector has length NaN
        if array.null_count or len(wrong):
            row = int(wrong[0]) if len(wrong) else 0
            raise I0TError(f"{self.path}: row {start + row} holds no vector of {lengths[0]:.0f} numbers as the others.")
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)

    def _to_parquet(self, temporary: Path, move: Move) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._reading():
            file = pq.ParquetFile(self.path)
        schema = file.schema_arrow
        name = self._column(schema)
        compression = file.metadata.row_group(0).column(0).compression if file.num_row_groups else "NONE"
        rows = 0
        with pq.ParquetWriter(temporary, schema, compression=compression.lower()) as writer:
            for number, column in self._row_groups():
                moved = move(self._vectors(column, rows), rows)
                # New offsets: the old ones may start inside a larger buffer.
                values = pa.array(moved.reshape(-1), type=schema.field(name).type.value_type)
                kind = schema.field(name).type
                if pa.types.is_fixed_size_list(kind):
                    lists = pa.FixedSizeListArray.from_arrays(values, type=kind)
                else:
                    maker = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
                    offsets = np.arange(len(moved) + 1) * moved.shape[1]
                    lists = maker.from_arrays(
                        pa.array(offsets, type=pa.int64() if maker is pa.LargeListArray else pa.int32()), values
                    )
                with self._reading():
                    table = file.read_row_group(number)
                writer.write_table(
                    table.set_column(table.schema.get_field_index(name), schema.field(name), lists.cast(kind))
                )
                rows += len(moved)
        return rows


def _starts(shape: tuple[int, ...], itemsize: int) -> list[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // max(1, itemsize * int(np.prod(shape[1:]))))
    return [(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]

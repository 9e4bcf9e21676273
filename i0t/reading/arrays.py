"""Arrays of files: safetensors of our own formats, and `.npy` of any program.

Headers are not believed: sizes are compared with the file before memory is taken, and files that we wrote carry a
checksum.
"""

from __future__ import annotations

import math
import tokenize
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from i0t.errors import I0TError, first_line
from i0t.reading.text import parse_json

CHECKSUM = "checksum"  # header entry of the files that we write
NPY_ERRORS = (  # of NumPy, for a header that is damaged in one way or another
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
OURS = {  # formats of the project's files, for one that is given in place of another
    "i0t-embeddings-1": "an Embeddings file",
    "i0t-means-1": "a fitted gap remover",
    "i0t-scores-1": "standardised scores, of `i0t scores`",
    "i0t-transform-1": "the transform of queries, of `i0t apply`",
    "i0t-checkpoint-1": "a checkpoint of a model",
}
KINDS = {"f": "floating-point numbers", "iu": "whole numbers", "u": "whole numbers (uint64)"}


@contextmanager
def open_tensors(path: str | Path, what: str, framework: str = "numpy") -> Iterator[Any]:
    """Open a safetensors file; errors of the library become ours.

    Raises:
        I0TError: missing, truncated, or not safetensors.
    """
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({what} was expected).") from None
    except (OSError, MemoryError) as error:
        raise I0TError(
            f"{path}: cannot be read ({what} was expected): {getattr(error, 'strerror', None) or first_line(error)}"
        ) from None
    except SafetensorError as error:
        raise I0TError(f"{path}: not {what}, or truncated ({first_line(error)}). Write or copy it again.") from None


def read_safetensors(
    path: str | Path, file_format: str, what: str, tensor_names: Sequence[str], header_names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read tensors and header of a safetensors file of one of our formats.

    Args:
        path: the file.
        file_format: the format that its header must name.
        what: description for errors.
        tensor_names: required tensors.
        header_names: required header entries.

    Returns:
        The tensors (of half precision as float32), and the header.

    Raises:
        I0TError: missing, truncated, damaged, not safetensors, another format, or an incomplete file.
    """
    with open_tensors(path, what) as file:
        header: dict[str, str] = file.metadata() or {}
        names = list(file.keys())
        require_format(path, header, names, file_format, what)
        try:
            tensors = {key: file.get_tensor(key) for key in names}
        except TypeError:  # a dtype that NumPy lacks, such as bfloat16
            tensors = _through_torch(path, what)
    require_entries(path, what, {**tensors, **header}, (*tensor_names, *header_names))
    check_checksum(path, tensors, header)
    return tensors, header


def require_entries(path: str | Path, what: str, held: Container[str], names: Iterable[str]) -> None:
    """Raise an error that names what a file leaves out."""
    missing = [name for name in names if name not in held]
    if missing:
        raise I0TError(f"{path}: not a whole file ({what}): {', '.join(missing)} left out.")


def require_format(path: str | Path, header: Mapping[str, str], held: list[str], file_format: str, what: str) -> None:
    """Raise an error that tells what a safetensors file holds, unless its header names the format."""
    found = header.get("format")
    if found != file_format:
        listed = ", ".join(held[:3]) + (f" and {len(held) - 3} more" if len(held) > 3 else "")
        if found in OURS:
            raise I0TError(f"{path}: not {what}, but {OURS[found]}.")
        raise I0TError(
            f"{path}: not {what} (format {found!r:.40}, expected {file_format!r}), not ours: it holds the tensors "
            f"{listed or '(none)'}."
        )


def _through_torch(path: str | Path, what: str) -> dict[str, np.ndarray]:
    tensors = {}
    with open_tensors(path, what, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a dict)
            tensor = file.get_tensor(key)
            is_small = tensor.is_floating_point() and tensor.element_size() < 4
            tensors[key] = (tensor.float() if is_small else tensor).numpy()
    return tensors


def with_checksum(tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> dict[str, str]:
    """Return the header with a checksum of tensors and header, for `save_file`."""
    return {**header, CHECKSUM: _checksum(tensors, header)}


def check_checksum(path: str | Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Compare content and checksum; files without one (older, or of other programs) pass.

    Raises:
        I0TError: they differ.
    """
    if CHECKSUM in header and header[CHECKSUM] != _checksum(tensors, header):
        raise I0TError(
            f"{path}: damaged: its content does not match its checksum. Make it or copy it again (a program that "
            f"changes it on purpose leaves the header entry {CHECKSUM!r} out)."
        )


def _checksum(tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> str:
    """CRC-32 in hex: finds every flipped byte and, with probability 1 - 2^-32, every other damage."""
    crc = 0
    for key in sorted(header.keys() - {CHECKSUM}):
        crc = zlib.crc32(f"{key}\0{header[key]}\0".encode(), crc)
    for key in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[key])
        crc = zlib.crc32(f"{key}\0{tensor.dtype.str}\0{tensor.shape}\0".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"


def check_tensor(place: str, tensor: Any, kind: str, shape: tuple[int | None, ...], axes: str) -> None:
    """Check the type and shape of a tensor of a file.

    Args:
        place: file and name, for errors.
        tensor: the array.
        kind: of `KINDS`.
        shape: expected sizes; None: any.
        axes: the shape in words, e.g. "(M,), one row per text".

    Raises:
        I0TError: another dtype or shape.
    """
    fits = len(tensor.shape) == len(shape) and all(
        want in (None, size) for size, want in zip(tensor.shape, shape, strict=True)
    )
    if tensor.dtype.kind not in kind or not fits:
        raise I0TError(
            f"{place}: {tensor.dtype} of shape {tensor.shape}, expected {KINDS[kind]} of shape {axes}. Write it again."
        )


def json_entry(path: str | Path, header: dict[str, str], key: str) -> Any:
    """Parse a JSON entry of a header that `read_safetensors` returned.

    Raises:
        I0TError: the entry is not JSON.
    """
    return parse_json(header[key], f"{path}: header entry {key}", f"{header[key]!r:.40}", "Write it with json.dumps.")


def safetensors_format(path: str | Path) -> str | None:
    """Return the format that a safetensors file names; None for any other file."""
    try:
        with open_tensors(path, "a safetensors file") as file:
            return (file.metadata() or {}).get("format")
    except I0TError:
        return None  # the reader of the format expected will say what is wrong


def read_npy(path: str | Path, what: str, mapped: bool = False) -> np.ndarray:
    """Read the array of a `.npy` file, without pickle.

    Args:
        path: the file.
        what: description for errors.
        mapped: map the file into memory (read-only) instead of reading it.

    Raises:
        I0TError: missing, not a .npy file, several arrays, or shorter or longer than its header says.
    """
    try:
        with open(path, "rb") as stream:
            if stream.read(2) == b"PK":
                raise I0TError(
                    f"{path}: an archive of arrays; one array per file is expected. Write it with numpy.save."
                )
            stream.seek(0)
            shape, dtype = _npy_header(stream)
            needed, held = math.prod(shape) * dtype.itemsize, Path(path).stat().st_size - stream.tell()
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(
                f"{dtype} of shape {shape}" if not dtype.hasobject else "Python objects, which are pickled"
            )
        if needed > held:
            raise ValueError(f"its header says {shape} {dtype}, {needed} bytes, but {held} follow: cut off?")
        if needed < held:  # numpy.load would take the first array for all
            raise ValueError(f"its header says {shape} {dtype}, {needed} bytes, but {held} follow: several arrays?")
        return np.load(path, mmap_mode="r" if mapped and needed else None, allow_pickle=False)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file (.npy {what} were expected).") from None
    except I0TError:
        raise
    except (OSError, *NPY_ERRORS) as error:
        raise I0TError(
            f"{path}: not a .npy array of numbers ({first_line(error):.160}). Write it with numpy.save."
        ) from None


def _npy_header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype

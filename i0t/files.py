"""Reading and writing files: writes are atomic, and every error names the file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from i0t.errors import I0TError

STEM_BYTES = 220  # of a file name without suffix: file systems allow 255 with it


def read_json(path: str | Path, what: str) -> Any:
    """Parse a JSON file, with or without a byte-order mark (NaN is allowed: the Flickr8k files have it).

    Raises:
        I0TError: the file is missing, unreadable or not JSON, or an object has one key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise I0TError(
                f"{path}: the key {json.dumps(twice)} is given twice ({what}). Join its entries, or drop one."
            )
        return content

    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({what}). See the README for the layout.") from None
    except OSError as error:
        raise I0TError(f"{path}: cannot be read ({what}): {error.strerror}") from None
    except I0TError:
        raise
    except (ValueError, RecursionError) as error:  # no JSON, not UTF-8, a number of thousands of digits, deep nesting
        raise I0TError(f"{path}: not valid JSON ({what}): {error}. {REMEDY}") from None


def check_json(form: Any, content: Any, source: str | Path, expected: str) -> Any:
    """Check and convert the content of a user's file with pydantic.

    Raises:
        I0TError: it has another form; names the wrong entry and field, and the value there.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(form).validate_python(content, strict=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
    place: list[str] = []
    for part in wrong["loc"]:
        if isinstance(part, str):
            place.append(f'"{part}"')
        elif place:
            place[-1] += f"[{part}]"
        else:
            place.append(f"entry {part}")
    shown = json.dumps(wrong["input"], ensure_ascii=False)
    is_other = f"is {shown if len(shown) <= 60 else f'{shown[:57]}...'}, not {_TYPES.get(wrong['type'], wrong['msg'])}"
    if wrong["type"] == "missing":
        place[-1] = f"has no {place[-1]}"
    elif place and _TYPES.get(wrong["type"]) != "an object":
        place[-1] += f" {is_other}"
    else:
        place.append(is_other)
    raise I0TError(f"{source}: expected {expected}: {': '.join(place)}. {REMEDY}")


REMEDY = "Correct it, or download the file again."
_TYPES = {
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
}


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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

    Raises:
        I0TError: missing, truncated, not safetensors, another format, or an incomplete file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != file_format:
                raise I0TError(f"{path}: not {what} (format {header.get('format')!r}, expected {file_format!r}).")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({what} was expected).") from None
    except OSError as error:
        raise I0TError(f"{path}: cannot be read ({what} was expected): {error.strerror or error}") from None
    except SafetensorError as error:
        raise I0TError(f"{path}: not {what}, or truncated ({error}). Write or copy it again.") from None
    except TypeError as error:  # a dtype that NumPy lacks
        raise I0TError(f"{path}: {error}. Save its tensors as float32.") from None
    missing = [name for name in tensor_names if name not in tensors]
    missing += [name for name in header_names if name not in header]
    if missing:
        raise I0TError(f"{path}: not a whole file ({what}): {', '.join(missing)} left out.")
    return tensors, header


def json_entry(path: str | Path, header: dict[str, str], key: str) -> Any:
    """Parse a JSON entry of a header that `read_safetensors` returned.

    Raises:
        I0TError: the entry is not JSON.
    """
    try:
        return json.loads(header[key])
    except json.JSONDecodeError as error:
        raise I0TError(
            f"{path}: its header entry {key} is not JSON ({error}): {header[key]:.40}. Write it with json.dumps."
        ) from None


def safetensors_format(path: str | Path) -> str | None:
    """Return the format that a safetensors file names; None for any other file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format")
    except (OSError, SafetensorError):
        return None  # the reader of the format expected will say what is wrong


def read_npy(path: str | Path, what: str) -> np.ndarray:
    """Read the array of a `.npy` file, without pickle.

    Raises:
        I0TError: missing, not a .npy file, or an archive of several arrays.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file (.npy {what} were expected).") from None
    except (OSError, ValueError, EOFError) as error:
        raise I0TError(f"{path}: not a .npy array of numbers ({error}). Write it with numpy.save.") from None
    if not isinstance(array, np.ndarray):
        raise I0TError(f"{path}: an archive of arrays; one array per file is expected. Write it with numpy.save.")
    return array


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write one array atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)


def check_outputs(outputs: Mapping[str, str | Path | None], inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse output files that are folders, inputs, or named twice; for the start of a program.

    Args:
        outputs: files to write, by the flag that names them; None is left out.
        inputs: files that the program reads; names that are no files, such as a model's, do no harm.

    Raises:
        I0TError: names the flag and the file.
    """
    taken = {os.path.realpath(path): "is an input" for path in inputs if path is not None}
    for flag, path in outputs.items():
        if path is None:
            continue
        place = os.path.realpath(path)
        if os.path.isdir(place):
            raise I0TError(f"{path}: is a folder. Give {flag} the name of a file in it.")
        if place in taken:
            raise I0TError(f"{path}: {taken[place]}, and {flag} would overwrite it. Give {flag} another name.")
        taken[place] = f"is written by {flag}"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    Raises:
        I0TError: the folder cannot be written.
    """
    path = Path(path)
    ensure_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp gives 0600, which would hide it from a group
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def ensure_folder(folder: str | Path) -> Path:
    """Make a folder and check that it can be written.

    A folder without any write bit counts as read-only even for root, who could write to it.

    Raises:
        I0TError: it cannot be made or written.
    """
    folder = Path(folder)
    if not is_writable(folder):
        raise I0TError(f"{folder}: the output folder cannot be written. Choose another with --output.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise I0TError(
            f"{folder}: the output folder cannot be made ({error.strerror}). Choose another with --output."
        ) from None
    return folder


def is_writable(folder: str | Path) -> bool:
    """Check whether files can be made in `folder`, or in its nearest existing parent."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def below(folder: str | Path, name: str) -> Path:
    """Return the path of a name below an output folder; `owner/name` is in a subfolder.

    Raises:
        I0TError: the name is empty, absolute, leads out of the folder (`..`), or has characters that do not print.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or not name.isprintable():
        raise I0TError(f"{name!r}: cannot name files in {folder}. Give a relative name without '..'.")
    return Path(folder).joinpath(*parts)


def file_stem(parts: Iterable[Any], last: str = "") -> str:
    """Join parts, such as names of data sets and models, to the name of one file; other characters become "-".

    Args:
        parts: 100 characters of each are taken; empty ones are left out.
        last: e.g. a digest, which is never cut.
    """
    joined = "-".join(re.sub(r"[^\w.+-]+", "-", str(part))[:100] for part in parts if part)
    room = STEM_BYTES - len(last.encode()) - 1
    cut = joined.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
    return f"{cut}-{last}" if last else cut


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def list_sha256(items: Iterable[str]) -> str:
    """SHA-256 of a list of strings, in hex."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

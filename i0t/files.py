"""Writing files: atomically, and every error names the file. `i0t.reading` reads them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from i0t.errors import I0TError

STEM_BYTES = 220  # of a file name without suffix: file systems allow 255 with it


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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

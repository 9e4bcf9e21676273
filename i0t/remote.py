"""Files at URLs of fsspec, such as `s3://bucket/a.npy`: copied here to be read, and sent when they are whole.

A place is a `Path` or, of a URL, a `UPath`, which has the same methods. fsspec finds the keys and address of a store in
the environment or in its own configuration.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from i0t.errors import I0TError, first_line

EXTRA = "pip install 'i0t[cluster]'"
_URL = re.compile(r"[a-zA-Z][\w+.-]+:/+")  # one slash: what `Path` leaves of two


def is_url(name: object) -> bool:
    """Whether a name, or a place, is a URL."""
    return bool(_URL.match(str(name)))


def is_remote(path: object) -> bool:
    """Whether this is a place at a URL, of `place`."""
    return not isinstance(path, (str, Path))


def place(name: str) -> Path:
    """The file or folder of a name: a path or a URL.

    Raises:
        I0TError: fsspec, or its package for this kind of URL, is missing.
    """
    if not is_url(name):
        return Path(name)
    try:
        from upath import UPath

        found = UPath(name)
        found.fs  # noqa: B018 (made when it is asked for, and fails if its package is missing)
    except ImportError as error:
        missing = EXTRA if error.name == "upath" else "Install the package that it names"
        raise I0TError(f"{name}: cannot be reached ({first_line(error)}). {missing}.") from None
    except ValueError as error:
        raise I0TError(f"{name}: {first_line(error)}. Correct the part before '://'.") from None
    return Path(found.path) if found.protocol in ("file", "local") else cast(Path, found)


@contextmanager
def reaching(path: object) -> Iterator[None]:
    """Turn errors of a store's library, of any type, into one line; those of a path on this machine pass.

    Raises:
        I0TError: what is at this URL cannot be reached.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, I0TError) or not is_url(path):
            raise
        raise I0TError(
            f"{path}: cannot be reached ({first_line(error)}). Check its name, the store's address, and your keys and "
            "rights."
        ) from error


def matches(pattern: str) -> list[str]:
    """URLs of the files in a folder, or that match a glob pattern; hidden ones are left out.

    Raises:
        I0TError: the store cannot be reached.
    """
    root: Any = place(pattern)
    with reaching(pattern):
        found = root.fs.ls(root.path, detail=False) if root.is_dir() else root.fs.glob(root.path)
    return [root.fs.unstrip_protocol(name) for name in found if not name.rpartition("/")[2].startswith(".")]


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a file on this machine with the content of `path`: itself, or a temporary copy of what is at a URL.

    Raises:
        I0TError: it cannot be reached.
    """
    if not is_remote(path):
        yield path
        return
    source: Any = path
    with tempfile.TemporaryDirectory(prefix="i0t-") as folder:
        copy = Path(folder) / source.name
        with reaching(path):
            source.fs.get_file(source.path, str(copy))
        yield copy


@contextmanager
def sent(path: Any) -> Iterator[Path]:
    """Yield a temporary file to write to; on success it is sent to the URL. Stores show a file only when it is whole.

    Raises:
        I0TError: it cannot be sent.
    """
    with tempfile.TemporaryDirectory(prefix="i0t-") as folder:
        copy = Path(folder) / path.name
        yield copy
        try:
            path.fs.put_file(str(copy), path.path)
        except Exception as error:  # each store's library has its own
            raise I0TError(
                f"{path}: cannot be written ({first_line(error)}). Check its name and your rights, or choose another "
                "output."
            ) from error


def stamp(path: Path) -> list[int]:
    """Size of a file and time of its last change: in nanoseconds; at a URL in seconds, 0 if the store keeps none."""
    if not is_remote(path):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    remote: Any = path
    with reaching(path):
        try:
            changed = int(remote.fs.modified(remote.path).timestamp())  # fractions are in some answers of a store only
        except NotImplementedError:
            changed = 0
        return [remote.fs.size(remote.path), changed]

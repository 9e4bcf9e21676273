"""Writing files: atomically, and every error names the file. `i0t.reading` reads them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError

from i0t.digests import file_sha256 as file_sha256
from i0t.digests import list_sha256 as list_sha256
from i0t.errors import I0TError, first_line
from i0t.locks import try_lock
from i0t.remote import is_remote, is_url, sent

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # never of reading
LOCK = ".lock"  # in the folder of a file that is being written
NAME_BYTES = 255  # of a file's name: what file systems allow
STEM_BYTES = 220  # of a name without suffix


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write one array atomically."""
    with atomic_path(path) as temporary:
        write_npy_blocks(temporary, array.dtype, array.shape, [array])


def write_npy_blocks(path: Path, dtype: np.dtype, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """Write an array of this shape, given in blocks of rows.

    Neither `numpy.save` nor a memory map: on a full disk the one may cut the file without a word, and the other ends
    the process (SIGBUS).
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, dtype=dtype).data)


def check_outputs(outputs: Mapping[str, str | Path | None], inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse output files that are folders, inputs, or named twice; for the start of a program.

    Args:
        outputs: files to write, by the flag that names them; None is left out.
        inputs: files that the program reads; names that are no files, such as a model's, do no harm.

    Raises:
        I0TError: names the flag and the file.
    """
    taken = {_real_path(path): "is an input" for path in inputs if path is not None}
    for flag, path in outputs.items():
        if path is None:
            continue
        if is_url(path):
            raise I0TError(f"{path}: is a URL. Give {flag} a file on this machine, and copy that.")
        place = _real_path(path)
        if os.path.isdir(place):
            raise I0TError(f"{path}: is a folder. Give {flag} the name of a file in it.")
        if len(os.fsencode(os.path.basename(place))) > NAME_BYTES:
            raise I0TError(f"{path}: its name is longer than {NAME_BYTES} bytes. Give {flag} a shorter one.")
        if _is_special(place):
            raise I0TError(f"{path}: is no file. Give {flag} the name of a file.")
        if place in taken:
            raise I0TError(f"{path}: {taken[place]}, and {flag} would overwrite it. Give {flag} another name.")
        taken[place] = f"is written by {flag}"


def _real_path(path: str | Path) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no name of a file, e.g. with a NUL or half of a surrogate pair
        return str(path)


@contextmanager
def atomic_path(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yield a path to write to; on success that file replaces `path`, on failure it is removed and `path` stays.

    It is in a hidden folder beside `path`, `.NAME.part`. If a run is killed, the next writer of `path` removes it.

    Args:
        path: the file; its folder is made if missing. A `UPath` of a URL is sent there when it is whole.
        sync: whether the file must outlast a crash of the machine; False is quicker for many small files.

    Raises:
        I0TError: the folder cannot be written, or the disk is full.
    """
    if is_remote(path):
        with sent(path) as temporary:
            yield temporary
        return
    path = Path(path)
    ensure_folder(path.parent)
    if _is_special(path):
        raise I0TError(f"{path}: is no file, and would be replaced by one. Choose another output.")
    try:
        with _own_folder(path) as folder:
            temporary = folder / path.name
            temporary.touch()
            mode = temporary.stat().st_mode  # by the umask; safetensors' own files are hidden from a group
            yield temporary
            temporary.chmod(mode)
            if sync:
                sync_to_disk(temporary)
            temporary.replace(path)
        if sync:
            sync_to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        reason = _why_not_written(error, path)
        if not reason:
            raise
        raise I0TError(
            f"{path}: cannot be written ({reason}); what was there before stays. Free space there, or choose another "
            "output."
        ) from None


def sync_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot
            raise
    finally:
        os.close(handle)


@contextmanager
def _own_folder(path: Path) -> Iterator[Path]:
    """A folder of this process alone, to make the file in; with what a killed run left in it removed."""
    name = path.name.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")
    folder, handle = path.parent / f".{name}.part", None
    while handle is None:
        try:
            folder.mkdir(exist_ok=True)
            handle = try_lock(folder / LOCK)
        except FileNotFoundError:  # its run ended meanwhile, and removed it
            if not path.parent.is_dir():
                raise
            continue
        except (PermissionError, FileExistsError):  # left by another user
            handle = None
        if handle is None:  # or in use
            folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{name}.", suffix=".part"))
            handle = os.open(folder, os.O_RDONLY)
    try:
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != LOCK:
                left.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _is_special(path: str | Path) -> bool:
    """Whether something that is no file, such as a folder or a device, has this name."""
    return os.path.exists(path) and not os.path.isfile(path)


def _why_not_written(error: OSError | SafetensorError, path: Path) -> str:
    """Reason why writing failed; empty if the error is of something else, such as reading another file."""
    if isinstance(error, SafetensorError):
        return first_line(error)
    if error.errno in FULL:
        return str(error.strerror)
    named, place = os.path.abspath(error.filename or ""), os.path.abspath(path)
    own = named == place or named.startswith(f"{os.path.dirname(place)}{os.sep}.")
    return str(error.strerror) if own else ""


def ensure_folder(folder: str | Path) -> Path:
    """Make a folder and check that it can be written.

    A folder without any write bit counts as read-only even for root, who could write to it.

    Raises:
        I0TError: it cannot be made or written.
    """
    if is_remote(folder):
        return cast(Path, folder)  # stores have no folders
    if is_url(folder):
        raise I0TError(f"{folder}: is a URL. Give a folder on this machine.")
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

"""Reading and writing files so that nothing is left half done and every failure names its file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from i0t.errors import I0TError


def read_json(path: str | Path, what: str) -> Any:
    """Parse a JSON file (NaN allowed, as the Flickr8k files have it).

    Args:
        path: the file.
        what: what it is to the user, e.g. "Flickr30k captions"; used in the error.

    Raises:
        I0TError: the file is missing, unreadable or not JSON.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "gap.json").write_text('{"distance": NaN}')
        ...     read_json(f"{folder}/gap.json", "a gap")
        {'distance': nan}
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({what}). See the README for the layout.") from None
    except OSError as error:
        raise I0TError(f"{path}: cannot be read ({what}): {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise I0TError(f"{path}: not valid JSON ({what}): {error}. Download it again.") from None


def check_json(form: Any, content: Any, source: str | Path, expected: str) -> Any:
    """What a user's file holds, checked and converted by pydantic.

    Args:
        form: a pydantic model, or a type such as `list[Model]`.
        content: what was parsed.
        source: the file, and the row where only a part is checked.
        expected: what it should be, for the error.

    Raises:
        I0TError: it is something else; names the entry and field that is wrong, and what is there.

    Example:
        >>> check_json(dict[str, list[str]], {"a": ["b", 1]}, "a.json", "lists")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: a.json: expected lists: "a"[1] is 1, not a string. ...
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(form).validate_python(content, strict=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
    *place, last = wrong["loc"] or [""]
    if wrong["type"] == "missing":
        reason = f'has no "{last}"'
    else:
        place, shown = [*wrong["loc"]], json.dumps(wrong["input"], ensure_ascii=False)
        reason = (
            f"is {shown if len(shown) <= 60 else f'{shown[:57]}...'}, not {_TYPES.get(wrong['type'], wrong['msg'])}"
        )
    words = ""
    for part in place:
        words += (
            (f"[{part}]" if words else f"entry {part}") if isinstance(part, int) else f'{": " * bool(words)}"{part}"'
        )
    raise I0TError(f"{source}: expected {expected}: {f'{words} {reason}'.strip()}. {REMEDY}")


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
    """Write indented JSON atomically.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(f"{folder}/gap.json", {"distance": 0.5})
        ...     Path(folder, "gap.json").read_text().splitlines()
        ['{', '  "distance": 0.5', '}']
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    Raises:
        I0TError: the folder cannot be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(f"{folder}/a.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...         Path(folder, "a.txt").exists()
        ...     [(path.name, path.read_text()) for path in Path(folder).iterdir()]
        False
        [('a.txt', 'whole')]
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
    """Make a folder and prove that it can be written.

    A folder without any write bit counts as read-only even for root, who could write to it.

    Raises:
        I0TError: it cannot be made or written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ensure_folder(f"{folder}/new/inside").is_dir()
        True
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
    """Whether files may be made in `folder`, or in its nearest existing parent.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     is_writable(f"{folder}/not/yet/there")
        ...     Path(folder).chmod(0o500)
        ...     is_writable(f"{folder}/not/yet/there")
        True
        False
    """
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex, a block at a time.

    Example:
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     _ = file.write("abc")
        ...     file.flush()
        ...     file_sha256(file.name)[:16]
        'ba7816bf8f01cfea'
    """
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def list_sha256(items: Iterable[str]) -> str:
    """SHA-256 over a list of strings, in order: the fingerprint of a data list.

    Example:
        >>> list_sha256(["ab", "c"])[:8], list_sha256(["a", "bc"])[:8]
        ('629c2f14', 'aa795aa4')
    """
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

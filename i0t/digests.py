"""Digests: SHA-256 of files and lists, bytes of any string, and the state of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


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
        digest.update(to_bytes(item))
        digest.update(b"\0")
    return digest.hexdigest()


def to_bytes(text: str) -> bytes:
    """UTF-8 of any string, also with lone surrogates (of cut captions, and of file names that are not UTF-8)."""
    return text.encode("utf-8", "surrogatepass")


def whole_letters(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which tokenizers in other languages refuse."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def file_state(path: str | Path) -> str:
    """Absolute path, size and times of change of a file; another string if it was replaced, repaired or removed.

    The time of the last change of its entry (ctime) counts, too: copies may keep the time of change.
    """
    path = os.path.abspath(path)
    try:
        stat = os.stat(path)
    except (OSError, ValueError):  # or no name of a file, e.g. with a NUL
        return f"{path}\0missing"
    return f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"

"""`PartialScores`: saves the scores of a long list in chunks, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.paths import say
from i0t.scoring.pairs import ScoredPair

CHUNK = 512  # pairs between two writes

Rows = list[dict[str, Any]]


class PartialScores:
    """A file with one line per scored pair, JSON after its checksum, for one model, calibration and prefix.

    Lines are only appended, so that nothing is lost whenever a run is killed; damaged lines are left out, and their
    pairs scored again. Pairs are found by content, not by their line in the list, so the list may be reordered or
    extended before the run is resumed; an image counts by path, size and times of change. Pairs with an error are
    scored again, as the image may have been repaired.

    Args:
        path: the file; None saves nothing.
        key: what the scores depend on; a file with another key is replaced.
    """

    def __init__(self, path: Path | None, key: dict[str, Any]) -> None:
        self.path, self.key = path, key
        self.known: dict[str, dict[str, Any]] = {}
        self._is_mine = False
        if path is None or not path.is_file():
            return
        lines, damaged = _whole_lines(path)
        self._is_mine = lines[:1] == [{"key": json.loads(json.dumps(key))}]
        if self._is_mine:
            self.known = {line["pair"]: line["row"] for line in lines[1:]}
            self.known = {pair: row for pair, row in self.known.items() if not row.get("error")}
            if damaged:
                say(f"{path}: {damaged} damaged lines are left out, and their pairs scored again")

    def score(self, pairs: Sequence[ScoredPair], score: Callable[[Sequence[ScoredPair]], Rows]) -> Iterator[Rows]:
        """Yield the rows of all pairs in order, in chunks; known pairs are not scored again."""
        if self.path is not None and not self._is_mine:
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(_line({"key": self.key}))
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            keys = [pair.key for pair in chunk]
            new = {key: pair for key, pair in zip(keys, chunk) if key not in self.known}
            if new:
                rows = dict(zip(new, score(list(new.values())), strict=True))
                self._append([{"pair": key, "row": row} for key, row in rows.items()])
                self.known |= rows
            yield [self.known[key] for key in keys]

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if self.path is None:
            return
        try:
            with self.path.open("ab") as stream:
                stream.write(b"\n" + b"".join(map(_line, lines)))  # the line before may have been cut off
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise I0TError(
                f"{self.path}: cannot be written ({error.strerror}). It keeps the {len(self.known)} pairs scored so "
                "far: free space there, and give the same command again."
            ) from None


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the lines whose checksums hold, and count the others; the last of a killed process may be incomplete."""
    found, damaged = [], 0
    try:
        content = path.read_bytes()
    except OSError as error:
        raise I0TError(
            f"{path}: cannot be read ({error.strerror}); it keeps the scores of an interrupted run."
        ) from None
    for line in filter(None, content.split(b"\n")):
        checksum, _, text = line.partition(b" ")
        if checksum == b"%08x" % zlib.crc32(text):
            found.append(json.loads(text))
        else:
            damaged += 1
    return found, damaged

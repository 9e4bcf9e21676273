"""Scores of a long list, kept as they are made, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from i0t.errors import I0TError
from i0t.scoring.pairs import ScoredPair

CHUNK = 512  # pairs between two writes

Rows = list[dict[str, Any]]


class PartialScores:
    """A file of one JSON line per scored pair, which holds for one model, calibration and prefix.

    Equal pairs have equal scores, so a pair is known by what it is, not by its line in the list: the list may be
    reordered or lengthened before the run goes on. A pair that could not be scored is tried again by the next run,
    as its picture may have been repaired.

    Args:
        path: the file; None keeps nothing.
        key: what the scores depend on; a file of another key is begun anew.
    """

    def __init__(self, path: Path | None, key: dict[str, Any]) -> None:
        self.path, self.key = path, key
        self.known: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            lines = _json_lines(path)
            if lines[:1] == [{"key": key}]:
                self.known = {line["pair"]: line["row"] for line in lines[1:] if not line["row"].get("error")}

    def score(self, pairs: Sequence[ScoredPair], score: Callable[[Sequence[ScoredPair]], Rows]) -> Iterator[Rows]:
        """Rows of all pairs in order, one chunk after another; what is known is not scored again."""
        # Whole lines only, so that nothing is written behind a line that was cut off.
        self._write("w", [{"key": self.key}, *({"pair": key, "row": row} for key, row in self.known.items())])
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            new = list({pair.key: pair for pair in chunk if pair.key not in self.known}.values())
            if new:
                rows = dict(zip((pair.key for pair in new), score(new), strict=True))
                self._write("a", [{"pair": key, "row": row} for key, row in rows.items()])
                self.known |= rows
            yield [self.known[pair.key] for pair in chunk]

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _write(self, mode: str, lines: list[dict[str, Any]]) -> None:
        if self.path is None:
            return
        try:
            with self.path.open(mode, encoding="utf-8") as stream:
                stream.writelines(json.dumps(line) + "\n" for line in lines)
        except OSError as error:
            raise I0TError(f"{self.path}: cannot be written ({error.strerror}). Choose another output.") from None


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines: a killed process may leave the last one cut off, and it is scored again."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found

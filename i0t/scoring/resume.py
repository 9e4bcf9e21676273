"""`PartialScores`: saves the scores of a long list in chunks, so that an interrupted run can be resumed."""

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
    """A file with one JSON line per scored pair, for one model, calibration and prefix.

    Pairs are found by content, not by their line in the list, so the list may be reordered or extended before the run
    is resumed. Pairs with an error are scored again, as the image may have been repaired.

    Args:
        path: the file; None saves nothing.
        key: what the scores depend on; a file with another key is replaced.
    """

    def __init__(self, path: Path | None, key: dict[str, Any]) -> None:
        self.path, self.key = path, key
        self.known: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            lines = _json_lines(path)
            if lines[:1] == [{"key": key}]:
                self.known = {line["pair"]: line["row"] for line in lines[1:] if not line["row"].get("error")}

    def score(self, pairs: Sequence[ScoredPair], score: Callable[[Sequence[ScoredPair]], Rows]) -> Iterator[Rows]:
        """Yield the rows of all pairs in order, in chunks; known pairs are not scored again."""
        # Written again, so that nothing follows a line that was cut off.
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
    """Read all complete lines; the last line of a killed process may be incomplete."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found

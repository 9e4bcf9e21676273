"""Fit a remover to shards and apply it to shards, on any engine; an interrupted run can be resumed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from i0t.errors import I0TError
from i0t.files import list_sha256, write_json
from i0t.origin import Origin
from i0t.program import on_stop
from i0t.reading import read_json
from i0t.remote import local_copy, reaching, stamp
from i0t.standardize.engines import Engine
from i0t.standardize.remover import GapRemover, Modality
from i0t.standardize.shards import Shard

Work = tuple[Modality, Shard]
Target = tuple[Work, Path]  # with the file to write
LEDGER = "i0t_apply"  # folder in the output with one note per finished shard, for resuming
CHECKED = 16  # notes at once; a store on the network takes its time for each
SAMPLED = 64  # vectors per block in a shard's digest: all of them would take longer than the sums


def fit_shards(make: Callable[[], GapRemover], work: list[Work], engine: Engine) -> GapRemover:
    """Fit one remover to all shards, merged in their order.

    Returns:
        The fitted remover; `origin.shards` has the number of files and a digest of the vectors per modality.

    Raises:
        I0TError: a bad shard or row; names it.
    """
    total = make()
    rows: dict[str, list[str]] = {"image": [], "text": []}
    for (modality, shard), (fitted, digest) in zip(work, engine.each(_fit_one, make, work, "fit")):
        with _named(shard, 0):
            total = total.merge(fitted)
        rows[modality].append(digest)
    for modality, count in (("image", total.n_images_), ("text", total.n_texts_)):
        if not count and (empty := [str(shard.path) for held, shard in work if held == modality]):
            raise I0TError(f"{empty[0]}: no vectors of {modality}s in it, or in the other {len(empty) - 1} shards.")
    shards = {
        modality: {"files": len(held), "sha256": list_sha256(sorted(held))} for modality, held in rows.items() if held
    }
    total.origin = Origin(shards=shards, n_images=total.n_images_, n_texts=total.n_texts_)
    return total


def _fit_one(make: Callable[[], GapRemover], work: Work) -> tuple[GapRemover, str]:
    """Fit a remover to one shard; return it with a digest of the vectors.

    Name and size do not identify a shard: clip-retrieval numbers shards from 0 on every machine, and full shards have
    one size. The digest is of bytes as stored, not of sums, whose last bits depend on the machine.
    """
    modality, shard = work
    remover, digest = make(), hashlib.sha256()
    for start, block in shard.blocks():
        with _named(shard, start):
            remover.partial_fit(**{f"{modality}_features": block})
        digest.update(f"{start} {block.shape} {block.dtype.str}".encode())
        digest.update(block[:: -(-len(block) // SAMPLED)].tobytes())
    return remover, digest.hexdigest()


def apply_shards(remover: GapRemover, work: list[Target], output: Path, engine: Engine) -> tuple[int, int]:
    """Write every shard with moved vectors; skip shards that the same remover has already written.

    Returns:
        (vectors written, shards skipped).

    Raises:
        I0TError: a bad shard or row; names it. Finished shards stay.
    """
    job = _Apply(remover, output)
    left = [item for item, is_done in zip(work, job.done(work)) if not is_done]

    def where() -> str:
        there = sum(job.done(work))  # the engine finished what it had begun
        return f"{there} of {len(work)} shards are in {output}; the same command goes on with the others"

    with on_stop(where):
        rows = sum(engine.each(_Apply.run, job, left, "apply"))
    return rows, len(work) - len(left)


class _Apply(NamedTuple):
    """A remover, and the folder to write moved shards to."""

    remover: GapRemover
    output: Path

    def run(self, item: Target) -> int:
        """Write one shard and the note of it; return its number of vectors."""
        (modality, shard), target = item
        transform = self.remover.transform_image if modality == "image" else self.remover.transform_text

        def move(block: np.ndarray, start: int) -> np.ndarray:
            with _named(shard, start):
                return transform(block)

        made_of = self._note(item)  # before reading: a source that changes meanwhile will be moved again
        rows = shard.rewrite(target, move)
        write_json(self._ledger(target), {**made_of, "rows": rows, "written": stamp(target)})
        return rows

    def done(self, work: list[Target]) -> list[bool]:
        """Whether each shard was written with this remover, and neither it nor its source has changed since."""
        with ThreadPoolExecutor(CHECKED) as pool:
            return list(pool.map(self._is_done, work))

    def _is_done(self, item: Target) -> bool:
        target, ledger = item[1], self._ledger(item[1])
        with reaching(target):
            if not (target.is_file() and ledger.is_file()):
                return False
        try:
            with local_copy(ledger) as path:
                noted = read_json(path, "note of a finished shard")
        except I0TError:
            return False  # damaged: the shard is made again
        expected = json.loads(json.dumps({**self._note(item), "written": stamp(target)}))
        return isinstance(noted, dict) and all(noted.get(key) == value for key, value in expected.items())

    def _note(self, item: Target) -> dict[str, Any]:
        (modality, shard), _ = item
        return {
            "modality": modality,
            "source": str(shard.path.resolve()),
            "source_stamp": stamp(shard.path),
            "key": shard.key,
            "remover": self.remover.name,
            "parameters": self.remover.parameters(),
            "statistics": self.remover.fingerprint,
        }

    def _ledger(self, target: Path) -> Path:
        return self.output / LEDGER / f"{target.parent.name}-{target.name}.json"


@contextmanager
def _named(shard: Shard, start: int) -> Iterator[None]:
    """Add the shard's name and row number to errors of a block."""
    try:
        yield
    except I0TError as error:
        reason = re.sub(r"\brow (\d+)", lambda row: f"row {int(row[1]) + start}", str(error), count=1)
        raise I0TError(f"{shard.path}: {reason}") from None

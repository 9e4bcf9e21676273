"""Fit a remover to shards and apply it to shards, in processes; an interrupted run can be resumed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from i0t.errors import I0TError
from i0t.features import Item, Result
from i0t.files import list_sha256, write_json
from i0t.origin import Origin
from i0t.program import on_stop
from i0t.reading import read_json
from i0t.standardize.remover import GapRemover, Modality
from i0t.standardize.shards import Shard

Work = tuple[Modality, Shard]
LEDGER = "i0t_apply"  # folder in the output with one note per finished shard, for resuming
SAMPLED = 64  # vectors per block in a shard's digest: all of them would take longer than the sums


def fit_shards(make: Callable[[], GapRemover], work: list[Work], jobs: int) -> GapRemover:
    """Fit one remover to all shards, merged in their order.

    Returns:
        The fitted remover; `origin.shards` has the number of files and a digest of the vectors per modality.

    Raises:
        I0TError: a bad shard or row; names it.
    """
    total = make()
    rows: dict[str, list[str]] = {"image": [], "text": []}
    for (modality, shard), (fitted, digest) in zip(work, _each(partial(_fit_one, make), work, jobs, "fit")):
        with _named(shard, 0):
            total = total.merge(fitted)
        rows[modality].append(digest)
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


def apply_shards(remover: GapRemover, work: list[tuple[Work, Path]], output: Path, jobs: int) -> tuple[int, int]:
    """Write every shard with moved vectors; skip shards that the same remover has already written.

    Returns:
        (vectors written, shards skipped).

    Raises:
        I0TError: a bad shard or row; names it. Finished shards stay.
    """
    left = [item for item in work if not _is_done(remover, item, output)]

    def where() -> str:
        done = sum(_is_done(remover, item, output) for item in work)  # the processes finished what they had begun
        return f"{done} of {len(work)} shards are in {output}; the same command goes on with the others"

    with on_stop(where):
        rows = sum(_each(partial(_apply_one, remover, output), left, jobs, "apply"))
    return rows, len(work) - len(left)


def _apply_one(remover: GapRemover, output: Path, item: tuple[Work, Path]) -> int:
    (modality, shard), target = item
    transform = remover.transform_image if modality == "image" else remover.transform_text

    def move(block: np.ndarray, start: int) -> np.ndarray:
        with _named(shard, start):
            return transform(block)

    made_of = _note(remover, item)  # before reading: a source that changes meanwhile will be moved again
    rows = shard.rewrite(target, move)
    write_json(_ledger(output, target), {**made_of, "rows": rows, "written": _stamp(target)})
    return rows


def _note(remover: GapRemover, item: tuple[Work, Path]) -> dict[str, Any]:
    (modality, shard), _ = item
    return {
        "modality": modality,
        "source": str(shard.path.resolve()),
        "source_stamp": _stamp(shard.path),
        "key": shard.key,
        "remover": remover.name,
        "parameters": remover.parameters(),
        "statistics": remover.fingerprint,
    }


def _is_done(remover: GapRemover, item: tuple[Work, Path], output: Path) -> bool:
    target, ledger = item[1], _ledger(output, item[1])
    if not (target.is_file() and ledger.is_file()):
        return False
    try:
        noted = read_json(ledger, "note of a finished shard")
    except I0TError:
        return False  # damaged: the shard is made again
    expected = json.loads(json.dumps({**_note(remover, item), "written": _stamp(target)}))
    return isinstance(noted, dict) and all(noted.get(key) == value for key, value in expected.items())


def _ledger(output: Path, target: Path) -> Path:
    return output / LEDGER / f"{target.parent.name}-{target.name}.json"


def _stamp(path: Path) -> list[int]:
    """Size and time of last change, in nanoseconds."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


@contextmanager
def _named(shard: Shard, start: int) -> Iterator[None]:
    """Add the shard's name and row number to errors of a block."""
    try:
        yield
    except I0TError as error:
        reason = re.sub(r"\brow (\d+)", lambda row: f"row {int(row[1]) + start}", str(error), count=1)
        raise I0TError(f"{shard.path}: {reason}") from None


def _each(work: Callable[[Item], Result], items: list[Item], jobs: int, what: str) -> Iterator[Result]:
    """Yield results in order; one job runs in this process, with all threads."""
    bar = partial(tqdm, total=len(items), desc=what, unit="shard", disable=None)
    if min(jobs, len(items)) < 2:
        yield from bar(map(work, items))
        return
    # Spawned: a fork would copy BLAS' threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(min(jobs, len(items)), context, _start_process, (threads,)) as pool:
        yield from bar(_results(pool, work, items, jobs))


def _start_process(threads: int) -> None:
    # When stopped leave quietly, after removing what is half written; the main process says where the run stands.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(threads)


def _end_with_parent() -> None:
    """End this process if its parent is killed: it would wait for work forever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _results(pool: Executor, work: Callable[[Item], Result], items: list[Item], jobs: int) -> Iterable[Result]:
    """Call `pool.map`; an error cancels the items that have not started.

    Raises:
        I0TError: a process died; names the shards that it may have been at.
    """
    futures: list[Future[Result]] = []
    try:
        futures.extend(pool.submit(work, item) for item in items)
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        left = [item for item, future in zip(items, futures) if future.exception()]
        raise I0TError(
            f"a process died at one of {', '.join(map(_name, left[:jobs]))}; perhaps memory was short. Give fewer "
            "--jobs; if it is always the same shard, make or copy that one again."
        ) from None
    except BaseException:
        pool.shutdown(cancel_futures=True)  # without waiting, the end of `with` would take the cancelling back
        raise


def _name(item: Any) -> str:
    """Path of the shard of (modality, shard), or of that with its target."""
    work = item[0] if isinstance(item[0], tuple) else item
    return str(work[1].path)

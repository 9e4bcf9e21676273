"""`Standardizer.fit` and `transform` against reading and copying the same vectors: an array with NumPy, and shards.

Shards are worked on by each engine of `i0t standardize` with two processes: those of --jobs are started and stopped in
the time measured; a Dask cluster is there already, and the time that a local one takes to start and stop is printed.

python -m benchmarks --only standardizing
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import alternate, spread, unit_vectors
from benchmarks.row import Row
from i0t import Standardizer
from i0t.files import sync_to_disk
from i0t.standardize.engines import LOCAL, Engine, cluster
from i0t.standardize.shard_processes import Work, apply_shards, fit_shards
from i0t.standardize.shards import Shard

SHARDS = 10  # of each modality


def rows(quick: bool) -> list[Row]:
    """Rows of the table."""
    return [*_array_rows(quick), *_shard_rows(quick)]


def _array_rows(quick: bool) -> list[Row]:
    n = 100_000 if quick else 1_000_000
    images = unit_vectors(n, seed=0)
    texts = images[:1000]
    standardizer = Standardizer().fit(images[:1000], texts)
    fit, read, fit_ratios = alternate(lambda: Standardizer().fit(images, texts), images.sum, rounds=5)
    move, copy, move_ratios = alternate(lambda: standardizer.transform_image(images), images.copy, rounds=5)
    size = f"{n} x 512 float32"
    return [
        Row(f"Standardizer.fit, {size}", "reading it: ndarray.sum()", fit / read, "<= 3", spread(fit_ratios)),
        Row(f"transform_image, {size}", "copying it: ndarray.copy()", move / copy, "<= 3", spread(move_ratios)),
    ]


def _shard_rows(quick: bool) -> list[Row]:
    n = 10_000 if quick else 100_000
    found = []
    start, _, _ = alternate(_start_and_stop, lambda: None, rounds=2)
    print(f"a local cluster of two workers starts and stops in {start:.1f} s")
    with cluster(LOCAL, 2) as client, tempfile.TemporaryDirectory() as folder:
        work: list[Work] = []
        for number in range(SHARDS):
            for modality in ("image", "text"):
                path = Path(folder) / modality / f"{number}.npy"
                path.parent.mkdir(exist_ok=True)
                np.save(path, unit_vectors(n, seed=number))
                work.append((modality, Shard(path)))
        remover = fit_shards(Standardizer, work, Engine())
        size = f"{len(work)} shards of {n} x 512 float32"
        engines = {
            "--jobs 1": Engine(1),
            "--jobs 2": Engine(2),
            "--scheduler": Engine(scheduler=client.scheduler.address),
        }
        for name, engine in engines.items():
            fit, read, fit_ratios = alternate(
                lambda engine=engine: fit_shards(Standardizer, work, engine), lambda: _read(work), rounds=3
            )
            move, copy, move_ratios = alternate(
                lambda engine=engine: _move(remover, work, Path(folder) / "moved", engine),
                lambda: _copy(work, Path(folder) / "copied"),
                rounds=3,
            )
            seconds = f"{fit:.1f} s against {read:.1f} s, {move:.1f} s against {copy:.1f} s"
            print(f"{name}, {size}: {seconds}")
            goal = "<= 3"
            found.append(Row(f"standardize fit {name}, {size}", "reading them", fit / read, goal, spread(fit_ratios)))
            found.append(Row(f"standardize apply {name}", "copying them", move / copy, goal, spread(move_ratios)))
    return found


def _start_and_stop() -> None:
    with cluster(LOCAL, 2):
        pass


def _read(work: list[Work]) -> None:
    for _, shard in work:
        np.load(shard.path).sum()


def _move(remover: Standardizer, work: list[Work], output: Path, engine: Engine) -> None:
    targets = [(item, output / item[0] / item[1].path.name) for item in work]
    apply_shards(remover, targets, output, engine)
    shutil.rmtree(output)


def _copy(work: list[Work], output: Path) -> None:
    for modality, shard in work:
        target = output / modality / shard.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shard.path, target)
        sync_to_disk(target)  # as ours
    shutil.rmtree(output)

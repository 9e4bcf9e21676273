"""Shards on a Dask cluster whose workers are killed: the same sums and files as in one process.

Run: python -m pytest tests/standardize/test_scheduler.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dying_remover import ALWAYS, MARK, ROWS, DyingStandardizer
from safetensors.numpy import load_file

from i0t import I0TError, Standardizer
from i0t.commands.standardize import main
from i0t.standardize.engines import LOCAL, Engine, cluster
from i0t.standardize.shard_processes import LEDGER, apply_shards, fit_shards
from i0t.standardize.shards import Shard, find_shards

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says that a worker has died; workers find its name in their environment."""
    return tmp_path_factory.mktemp("mark") / "died"


@pytest.fixture(scope="module")
def address(mark: Path):
    """A cluster of two workers, which are started anew when they die; a second death at one shard is given up."""
    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.nanny.environ": {MARK: str(mark)}}
    with dask.config.set(settings), cluster(LOCAL, 2) as client:
        yield client.scheduler.address


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """clip-retrieval's folders: six shards per modality, of which one is deadly."""
    for number in range(6):
        for modality in ("img", "text"):
            path = tmp_path / "in" / f"{modality}_emb" / f"{modality}_emb_{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = 10 * number + len(modality)
            array = np.random.default_rng(seed).normal(size=(ROWS - 2 + number, 5)) + 1
            np.save(path, array.astype(np.float16))
    return tmp_path / "in"


def _work(layout: Path) -> list:
    sides = (("image", "img_emb"), ("text", "text_emb"))
    return [(modality, Shard(path)) for modality, name in sides for path in find_shards([str(layout / name)])]


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and LEDGER not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_scheduler_a_killed_worker_loses_and_doubles_nothing(layout, tmp_path, mark, address):
    work, there = _work(layout), Engine(scheduler=address)
    mark.unlink(missing_ok=True)
    fitted = fit_shards(DyingStandardizer, work, there)
    assert mark.exists()
    plain = fit_shards(Standardizer, work, Engine())
    assert np.array_equal(fitted.image_mean_, plain.image_mean_) and np.array_equal(fitted.text_mean_, plain.text_mean_)
    assert (fitted.n_images_, fitted.n_texts_) == (plain.n_images_, plain.n_texts_) == (45, 45)
    assert fitted.origin == plain.origin
    mark.unlink()
    folders = tmp_path / "cluster", tmp_path / "here"
    for remover, folder, engine in zip((fitted, plain), folders, (there, Engine())):
        targets = [(item, folder / item[1].path.parent.name / item[1].path.name) for item in work]
        assert apply_shards(remover, targets, folder, engine) == (90, 0)
        assert apply_shards(remover, targets, folder, engine) == (0, 12)
    assert mark.exists() and _files(folders[0]) == _files(folders[1])


def test_scheduler_a_shard_that_always_kills_is_named(layout, mark, address):
    mark.with_name(ALWAYS).touch()
    # Alone: Dask also counts a death against shards that wait for the same worker.
    work = [item for item in _work(layout) if item[1].path.stem == "img_emb_2"]
    with pytest.raises(I0TError, match=r"^workers died at .*img_emb_2\.npy, one after another"):
        fit_shards(DyingStandardizer, work, Engine(scheduler=address))
    mark.with_name(ALWAYS).unlink()


def test_scheduler_command_gives_the_same_bits_and_names_bad_rows(layout, tmp_path, address, capsys):
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("here", "cluster")}
    fit = ["fit", "--folder", str(layout), "--remover", "whitening", "--output"]
    assert main([*fit, str(paths["here"]), "--jobs", "1"]) == 0
    assert main([*fit, str(paths["cluster"]), "--scheduler", address]) == 0
    one, two = map(load_file, paths.values())
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    spoiled = np.load(layout / "text_emb" / "text_emb_3.npy")
    spoiled[4] = np.nan
    np.save(layout / "text_emb" / "text_emb_3.npy", spoiled)
    capsys.readouterr()
    moved = ["apply", str(paths["here"]), "--folder", str(layout), "--output", str(tmp_path / "moved")]
    assert main([*moved, "--scheduler", address]) == 2
    said = capsys.readouterr().err
    assert "text_emb_3.npy: text_features: row 4 holds NaN" in said
    assert not (tmp_path / "moved" / "text_emb" / "text_emb_3.npy").exists()


def test_scheduler_local_workers_keep_memory_between_blocks(address):
    """Dask sets a limit of malloc, with which every block of vectors is mapped anew: fitting took twice the time."""
    with cluster(address, 0) as client:
        found = client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()
    assert list(found) == [None, None]


def test_scheduler_local_starts_its_own_workers(layout, tmp_path, capsys):
    fit = ["fit", "--folder", str(layout), "--output", str(tmp_path / "s.safetensors"), "--jobs", "1"]
    assert main([*fit, "--scheduler", "local"]) == 0
    assert "45 images, 45 texts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler tcp://127.0.0.1:1: no cluster answers ("),
        (["--scheduler", "nowhere://x"], "--scheduler nowhere://x: no cluster answers ("),
        (["--scheduler", "no.such.host.invalid:1"], "no cluster answers ("),
        (["--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"], "--jobs: the workers of --scheduler are there already"),
    ],
)
def test_scheduler_that_does_not_answer_is_one_line(layout, tmp_path, capsys, flags, message):
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        assert main(["fit", "--folder", str(layout), "--output", str(tmp_path / "s"), *flags]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_scheduler_without_a_port_ends_at_once(layout, tmp_path):
    """In a process of its own: a client that is made in part waits for a minute at the end, and prints a traceback."""
    fit = [sys.executable, "-m", "i0t", "standardize", "fit", "--folder", str(layout), "--output", str(tmp_path / "s")]
    done = subprocess.run([*fit, "--scheduler", "127.0.0.1"], capture_output=True, text=True, timeout=50)
    assert "no cluster answers (missing port number" in done.stderr and done.stderr.count("\n") == 1


def test_scheduler_without_dask_says_what_to_install(layout, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["fit", "--folder", str(layout), "--output", str(tmp_path / "s"), "--scheduler", "local"]) == 2
    assert "`distributed` is not installed. pip install 'i0t[cluster]'" in capsys.readouterr().err

"""Outputs are whole or as before: full disks, killed runs, several writers.

Run: python -m pytest tests/test_damaged_outputs.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from full_disk import full_disk
from matplotlib.figure import Figure
from safetensors.numpy import save_file
from small_clip import small_clip

from i0t import Embeddings, I0TError, Standardizer
from i0t.encoders.checkpoint import save_checkpoint
from i0t.files import atomic_path, check_outputs, write_json, write_npy
from i0t.report.figure_style import save as save_figure
from i0t.results.record import Record
from i0t.scoring.output import write_csv
from i0t.search.transform import VectorTransform
from i0t.standardize.shards import Shard

ROWS = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
ONE = Embeddings(ROWS, ROWS[::-1], np.arange(60), [str(row) for row in range(60)], ["a text"] * 60)
RECORD = Record("gap", "x", {f"metric {number}": 0.0 for number in range(99)}, {}, {}, {"sha256": ""}, 0.0)


def _rewritten(path: Path) -> None:
    Shard(path.with_name(f"source{path.suffix}")).rewrite(path, lambda block, _: block + 1)


def _figure() -> Figure:
    from matplotlib import pyplot

    return pyplot.figure()


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "json": ("x.json", lambda path: write_json(path, ["row"] * 999)),
    "array": ("x.npy", lambda path: write_npy(path, ROWS)),
    "csv": ("x.csv", lambda path: write_csv(path, [{"first": "row"}] * 999)),
    "vectors": ("x.safetensors", ONE.save),
    "means": ("x.safetensors", Standardizer().fit_embeddings(ONE).save),
    "transform": ("x.safetensors", lambda path: VectorTransform.of(Standardizer().fit(ROWS, ROWS)).save(path)),
    "checkpoint": ("x.safetensors", lambda path: save_checkpoint(path, small_clip(), {})),
    "record": (f"{RECORD.stem}.json", lambda path: RECORD.save(path.parent)),
    "png": ("x.png", lambda path: save_figure(_figure, [path])),
    "pdf": ("x.pdf", lambda path: save_figure(_figure, [path])),
    "shard.npy": ("x.npy", _rewritten),
    "shard.safetensors": ("x.safetensors", _rewritten),
    "shard.parquet": ("x.parquet", _rewritten),
}


@pytest.fixture
def sources(tmp_path: Path) -> None:
    np.save(tmp_path / "source.npy", ROWS)
    save_file({"x": ROWS}, tmp_path / "source.safetensors")
    pq.write_table(pa.table({"x": ROWS.tolist()}), tmp_path / "source.parquet")


@pytest.mark.parametrize("what", WRITERS)
def test_damaged_by_a_full_disk_is_nothing(tmp_path, sources, what):
    name, write = WRITERS[what]
    path = tmp_path / name
    path.write_text("what was there")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(I0TError) as full, full_disk():
        write(path)
    message = str(full.value)
    assert message.startswith(f"{path}: cannot be written (") and "\n" not in message and "Free space" in message
    assert path.read_text() == "what was there" and sorted(tmp_path.iterdir()) == before
    write(path)
    assert path.stat().st_size > 1000 and sorted(tmp_path.iterdir()) == before


def test_error_of_another_file_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        (tmp_path / "source").read_bytes()


KILLED = """
import os, sys
from i0t.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    (temporary.parent / ".tmpAbC").write_text("half of another writer")
    os.kill(os.getpid(), 9)
"""


def test_damaged_file_of_a_killed_run_is_removed_by_the_next(tmp_path):
    path = tmp_path / ("long" * 60 + ".txt")
    path.write_text("before")
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 2
    with atomic_path(path) as temporary:
        assert sorted(file.name for file in temporary.parent.iterdir()) == [".lock", path.name]
        temporary.write_text("after")
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "x.txt"
    with atomic_path(path) as one, atomic_path(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_written_files_have_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        ONE.save(tmp_path / "x.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o640


def test_device_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for write in (lambda: write_json(pipe, {}), lambda: check_outputs({"--json": pipe})):
        with pytest.raises(I0TError, match="pipe: is no file"):
            write()
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_inputs_without_a_possible_name_are_no_output(tmp_path):
    check_outputs({"--json": tmp_path / "x.json"}, ["a\0b.jpg", "half \ud800.jpg"])


def test_name_that_is_too_long_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(I0TError, match="--json a shorter one"):
        check_outputs({"--json": "n" * 300})
    with pytest.raises(I0TError, match=r"n: cannot be written \(File name too long\)"):
        write_json("n" * 300, {})
    assert not list(tmp_path.iterdir())

"""`standardize apply` interrupted, beside another run, with damaged notes, and with a process that dies.

Run: python -m pytest tests/standardize/test_damaged_shards.py
"""

from __future__ import annotations

import multiprocessing
import os
import re
import select
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from i0t import I0TError
from i0t.commands.standardize import main
from i0t.locks import only_writer
from i0t.paths import REPO
from i0t.standardize import engines, shard_processes
from i0t.standardize.shards import Shard


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """clip-retrieval's folders: three shards per modality, and a fitted file beside them."""
    for modality in ("img", "text"):
        for number in range(3):
            path = tmp_path / "in" / f"{modality}_emb" / f"{modality}_emb_{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.random.default_rng(number).normal(size=(5, 4)).astype(np.float16))
    fitted = str(tmp_path / "stats.safetensors")
    assert main(["fit", "--folder", str(tmp_path / "in"), "--output", fitted, "--jobs=1"]) == 0
    return tmp_path / "in"


def _apply(layout: Path, output: Path) -> int:
    fitted = str(layout.parent / "stats.safetensors")
    return main(["apply", fitted, "--folder", str(layout), "--output", str(output), "--jobs=1"])


def _die_at_b(_, item):
    if item[1].path.stem == "b":
        os._exit(1)
    return 1


def test_a_process_that_dies_names_its_shard():
    work = [("image", Shard(Path(f"{name}.npy"))) for name in "ab"]
    context = multiprocessing.get_context("fork")
    with (
        pytest.raises(I0TError, match=r"a process died at one of .*b\.npy; .* --jobs"),
        ProcessPoolExecutor(1, context) as pool,
    ):
        list(engines._in_processes(pool, _die_at_b, None, work, 2))


def test_damaged_notes_are_made_again(layout, tmp_path, capsys):
    assert _apply(layout, tmp_path / "moved") == 0
    notes = sorted((tmp_path / "moved" / shard_processes.LEDGER).iterdir())
    for note, content in zip(notes, (b"", b"[]", b"\xff", b'{"rows"')):
        note.write_bytes(content)
    before = {path: path.read_bytes() for path in (tmp_path / "moved" / "img_emb").iterdir()}
    capsys.readouterr()
    assert _apply(layout, tmp_path / "moved") == 0
    assert f"{len(notes) - min(len(notes), 4)} were there already" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before


def test_two_runs_in_one_folder_are_told_apart(layout, tmp_path, capsys):
    (tmp_path / "moved").mkdir()
    with only_writer(tmp_path / "moved" / shard_processes.LEDGER):
        assert _apply(layout, tmp_path / "moved") == 2
    assert f"another run is writing it (process {os.getpid()} on " in capsys.readouterr().err
    assert _apply(layout, tmp_path / "moved") == 0


def test_ctrl_c_says_how_many_shards_are_there(layout, tmp_path, monkeypatch, capsys):
    rewrite, written = Shard.rewrite, []

    def stopped_in_the_third(self, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(self)
        return rewrite(self, *arguments)

    monkeypatch.setattr(Shard, "rewrite", stopped_in_the_third)
    assert _apply(layout, tmp_path / "moved") == 130
    said = capsys.readouterr().err
    assert re.search(r"stopped: 2 of \d+ shards are in .*moved; the same command goes on with the others\.", said)
    monkeypatch.undo()
    assert _apply(layout, tmp_path / "moved") == 0 and "2 were there already" in capsys.readouterr().out


def _fail_at_a(_, item):
    if item[1].path.stem == "a":
        raise I0TError("a is bad.")
    time.sleep(0.2)
    item[1].path.touch()


def test_an_error_in_one_shard_cancels_those_that_have_not_begun(tmp_path):
    work = [("image", Shard(tmp_path / f"{name}.npy")) for name in "abcdefghij"]
    with (
        pytest.raises(I0TError, match="a is bad"),
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool,
    ):
        list(engines._in_processes(pool, _fail_at_a, None, work, 1))
    assert len(list(tmp_path.iterdir())) < 5


WAITING = """
import multiprocessing, os, time
from i0t.standardize.engines import _start_process
def wait():
    _start_process(1)
    print("ready", flush=True)
    time.sleep(600)
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=wait).start()
    time.sleep(600)
"""


def test_processes_end_with_a_killed_run(tmp_path):
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    run = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert run.stdout.readline() == b"ready\n"
    run.kill()
    assert select.select([run.stdout], [], [], 20)[0] and run.stdout.read() == b""  # closed by the last that holds it
    run.wait()


def test_shards_of_both_kinds_and_kinds_without_vectors_are_refused(layout, tmp_path, capsys):
    images, texts, output = layout / "img_emb", layout / "text_emb", str(tmp_path / "s.safetensors")
    assert main(["fit", "--images", str(images), "--texts", str(images / "img_emb_1.npy"), "--output", output]) == 2
    assert "img_emb_1.npy: given as images and as texts" in capsys.readouterr().err
    for path in images.iterdir():
        np.save(path, np.zeros((0, 4), np.float16))
    assert main(["fit", "--images", str(images), "--texts", str(texts), "--output", output, "--jobs=1"]) == 2
    assert "img_emb_0.npy: no vectors of images in it, or in the other 2 shards" in capsys.readouterr().err

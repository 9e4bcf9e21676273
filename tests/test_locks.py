"""Two runs that would write the same files are told apart; names from data stay in the output folder."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from evaluation.run import Result, save
from i0t import Embeddings, I0TError
from i0t.files import below, file_stem
from i0t.locks import only_writer, try_lock
from i0t.results.record import Record

HOLD = (
    "import sys; from i0t.locks import only_writer\nwith only_writer(sys.argv[1]): print('held', flush=True); input()"
)


def _another_run(target) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None and run.stdout.readline() == "held\n"
    return run


def test_another_run_is_refused_and_a_dead_one_is_not(tmp_path):
    target = tmp_path / "out"
    run = _another_run(target)
    named = rf"out: another run is writing it \(process {run.pid} on .* since"
    with pytest.raises(I0TError, match=named) as refused, only_writer(target):
        pass
    assert "\n" not in str(refused.value)
    run.kill()
    run.communicate()
    assert (tmp_path / ".out.lock").exists()  # as a killed run leaves it
    with only_writer(target), pytest.raises(I0TError, match=f"process {os.getpid()} "), only_writer(target):
        pass
    assert not list(tmp_path.iterdir())


def test_equal_evaluations_save_one_after_the_other(tmp_path):
    ones = np.ones((2, 3), dtype=np.float32)
    record = Record("retrieval", "flickr", {}, {}, {}, {"sha256": "0"}, 0.0)
    result = Result(record, Embeddings(ones, ones, np.arange(2), ["a", "b"], ["c", "d"]), None)
    run = _another_run(tmp_path / f"{record.stem}.json")
    saving = Thread(target=save, args=(tmp_path, result))
    saving.start()
    saving.join(0.3)
    assert saving.is_alive() and not list(tmp_path.glob("*.safetensors"))
    run.communicate("\n")
    saving.join(10)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_lock_that_its_run_removes_meanwhile_is_not_taken_for_held(tmp_path, monkeypatch):
    path = tmp_path / ".x.lock"
    path.touch()
    opened = os.open

    def open_then_the_other_ends(*arguments):
        handle = opened(*arguments)
        monkeypatch.setattr(os, "open", opened)
        path.unlink()
        return handle

    monkeypatch.setattr(os, "open", open_then_the_other_ends)
    handle = try_lock(path)
    assert handle is not None and os.path.samestat(os.fstat(handle), path.stat())
    os.close(handle)


def test_names_stay_below_the_output_folder(tmp_path):
    assert below(tmp_path, "owner/name") == tmp_path / "owner" / "name"
    assert below(tmp_path, "a..b") == tmp_path / "a..b"
    for name in ("../../x", "/x", "a/../../x", "..", "", ".", "a\0b", "a\nb"):
        with pytest.raises(I0TError, match="cannot name files in .*relative name"):
            below(tmp_path, name)


def test_record_names_of_any_data_set_are_files_in_the_folder(tmp_path):
    for dataset in ("../../x", "/etc/x", "owner/name", "字" * 200, "a\0b", ".."):
        record = Record("retrieval", dataset, {}, {}, {"model": {"name": "../m" * 99}}, {"sha256": ""}, 0.0)
        path = record.save(tmp_path)
        assert path.parent == tmp_path and path.is_file() and path.stem.startswith("retrieval-")
        assert len(f".{path.stem}.embeddings.safetensors".encode()) < 250
    assert file_stem(("a", "", None, "b c"), last="1f") == "a-b-c-1f"

"""Runs whose disk, checkpoints, workers or folder fail, or that are started twice: what was there stays.

Run: python -m pytest tests/training/test_damaged_runs.py
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import pytest
from full_disk import full_disk
from safetensors.torch import load_file
from training_runs import MODEL, assert_same_weights, environment, flags_of, stopped_in_step, weights

from i0t.encoders.checkpoint import training_of
from i0t.training import saved_states
from i0t.training.__main__ import main as train
from i0t.training.run_files import RunFiles
from i0t.training.saved_states import require_space


@pytest.fixture(autouse=True)
def tiniest(configs: Path) -> None:
    """A model that trains quickly."""
    (configs / "models" / "tiniest.yaml").write_text(MODEL)


def test_damaged_image_that_kills_its_worker_is_named(configs, tmp_path, capsys, monkeypatch):
    from i0t.data import items

    plain = items.decoded

    def crashes(source, *more):
        if str(source).endswith("7.jpg"):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(source, *more)

    monkeypatch.setattr(items, "decoded", crashes)
    assert train(flags_of("steps=6", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "1")) == 2
    error = capsys.readouterr().err
    assert re.search(r"error: a worker process died( \(Killed\))? while it decoded /.*7\.jpg\. .*--workers", error), (
        error
    )


HOLD = """
import sys
from pathlib import Path
from i0t.locks import only_writer
import os
with only_writer(sys.argv[1]):
    if sys.argv[2] == "worker":  # as the loader's, which outlive a killed run for seconds
        if os.fork() == 0:
            os.read(0, 1)
            os._exit(0)
    print("held", flush=True)
    os.read(0, 1)
"""


@pytest.mark.parametrize("what", ["alive", "worker"])
def test_second_equal_run_is_refused_and_that_of_a_killed_one_is_not(configs, tmp_path, capsys, monkeypatch, what):
    out = tmp_path / "out"
    flags = flags_of("steps=3", "validate_every=0", "--output", str(out), "--workers", "0")
    stopped_in_step(monkeypatch, flags)
    (state,) = out.glob("states/*/step-*")
    left = state.with_name(".unfinished-00000002")
    left.mkdir()
    run = [sys.executable, "-c", HOLD, str(out / state.parent.name), what]
    held = subprocess.Popen(run, env=environment(configs), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout.readline() == b"held\n"
    capsys.readouterr()
    if what == "alive":
        assert train(flags) == 2
        error = capsys.readouterr().err
        assert re.search(rf"another run is writing it \(process {held.pid} on .*, since 2.*--output", error), error
        assert left.is_dir() and not list(out.glob("*-last*"))
    held.kill()
    held.wait()
    assert train(flags) == 0, capsys.readouterr().err
    held.stdin.close()
    held.stdout.close()
    assert sorted(path.name.split("-")[0] for path in out.iterdir()) == ["lccom", "lccom", "runs", "states"]


def test_damaged_best_checkpoint_is_not_taken_for_the_best(configs, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    flags = flags_of("steps=3", "validate_every=1", "save_every=1", "--output", str(out), "--workers", "0")
    stopped_in_step(monkeypatch, flags)
    (best,) = out.glob("*-best.safetensors")
    best.write_bytes(bytes(best.stat().st_size))
    assert train(flags) == 0
    assert f"{best}: missing or damaged" in capsys.readouterr().err
    assert training_of(best)["step"] > 1


def test_damaged_checkpoint_of_a_finished_run_is_not_taken_for_its_result(configs, tmp_path, capsys):
    flags = flags_of("steps=1", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")
    assert train(flags) == 0
    (last,) = (tmp_path / "out").glob("*-last.safetensors")
    whole = last.read_bytes()
    last.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    assert train(flags) == 2
    error = capsys.readouterr().err
    assert re.search(rf"error: {last}: .* Or train again with --fresh\.$", error, re.MULTILINE), error
    last.write_bytes(bytes(len(whole)))
    assert train(flags) == 0
    assert f"{last}: damaged, so this run starts anew and will replace it" in capsys.readouterr().err
    assert training_of(last)["step"] == 1


def test_owners_name_is_a_subfolder(configs, tmp_path, capsys):
    out = tmp_path / "out"
    flags = flags_of("steps=1", "validate_every=0", "--output", str(out), "--workers", "0")
    assert train([*flags, "name=me/mine"]) == 0
    assert len(list((out / "me").glob("mine-seed7-*-last.safetensors"))) == 1
    assert not list((out / "me").glob(".*"))
    assert train([*flags, "name=../mine"]) == 2
    assert "name='../mine'" in capsys.readouterr().err
    assert not list(tmp_path.glob("mine*"))


def test_configs_that_cannot_be_written_are_a_warning_after_the_training(configs, tmp_path, capsys):
    configs.chmod(0o555)
    try:
        flags = flags_of("steps=1", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")
        assert train(flags) == 0
    finally:
        configs.chmod(0o755)
    said = capsys.readouterr()
    (last,) = (tmp_path / "out").glob("*-last.safetensors")
    assert "warning: the training is done, but configs/ckpt_file_name.txt does not name" in said.err
    assert f"--base {last}" in said.err and str(last) in said.out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's writer
@pytest.mark.parametrize("what", ["save_state", "save_checkpoint"])
def test_full_disk_leaves_the_state_before_whole(configs, tmp_path, capsys, monkeypatch, what):
    """The disk fills up at the state or the checkpoint of step 4; the run that goes on ends with the same bits."""
    flags = flags_of("steps=5", "validate_every=2", "--workers", "0", "--output")
    assert train([*flags, str(tmp_path / "a")]) == 0
    plain = getattr(RunFiles, what)

    def fills_up(self, *more):
        with full_disk() if self.progress["step"] == 4 else nullcontext():
            plain(self, *more)

    out = tmp_path / "b"
    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, what, fills_up)
        capsys.readouterr()
        assert train([*flags, str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"^error: .*(shared\.pt|-last\.safetensors): cannot be written \(.*File too large", error), error
    assert [path.name for path in out.glob("states/*/*")] == ["step-00000002"]
    assert training_of(next(out.glob("*-last*")))["step"] == (4 if what == "save_state" else 2)
    assert not [path for path in out.rglob(".*") if path.suffix != ".lock"]
    assert train([*flags, str(out)]) == 0
    (one,), (other,) = (folder.glob("*-last.safetensors") for folder in (tmp_path / "a", out))
    assert_same_weights(load_file(one), load_file(other))


def test_full_disk_ends_the_log_and_not_the_run(configs, tmp_path, capsys, monkeypatch):
    from torch.utils.tensorboard.writer import FileWriter

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileWriter, "add_summary", full)
    flags = flags_of("steps=2", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")
    assert train(flags) == 0
    said = capsys.readouterr().err
    assert said.count("this run goes on without TensorBoard's log") == 1


Usage = namedtuple("Usage", "total used free")


def test_disk_that_will_not_hold_the_run_is_reported_before_the_first_step(configs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(saved_states.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10**6))
    assert train(flags_of("--output", str(tmp_path / "out"), "--workers", "0")) == 2
    error = capsys.readouterr().err
    assert "0.0 GB free, but this run may need" in error and "--output" in error
    assert "step/s" not in error


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The disk space that was requested, and its place."""
    calls = []

    def noted(folder, needed, what):
        calls.append((what, needed))
        require_space(folder, needed, what)

    monkeypatch.setattr("i0t.training.run_files.require_space", noted)
    return calls


def test_run_that_the_start_accepts_fits_to_its_end(configs, tmp_path, capsys, monkeypatch, asked):
    """On a disk that the run fills, with only the space that the start requires."""
    out, capacity = tmp_path / "out", 0

    def usage(_):
        used = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        return Usage(capacity, used, capacity - used)

    monkeypatch.setattr(saved_states.shutil, "disk_usage", usage)
    flags = flags_of("save_every=1", "validate_every=2", "--output", str(out), "--workers", "0")
    assert train(flags) == 2
    capacity = asked[0][1] + 2**20  # logs, and headers of files
    assert train(flags) == 0, capsys.readouterr().err
    assert {what for what, _ in asked} == {"this run", "the next state"}


def test_files_that_are_there_need_no_room_again(configs, tmp_path, monkeypatch, asked):
    """A run resumes on the disk where it started."""
    flags = flags_of("--output", str(tmp_path / "out"), "--workers", "0")
    stopped_in_step(monkeypatch, flags)
    (state,) = (tmp_path / "out").glob("states/*/step-*")
    for kind in ("last", "best"):
        (tmp_path / "out" / f"{state.parent.name}-{kind}.safetensors").write_bytes(b"of a step before")
    assert train(flags) == 0
    first, second = (needed for what, needed in asked if what == "this run")
    checkpoint = sum(value.numel() * value.element_size() for value in weights(tmp_path / "out").values())
    one_state = first // 3 - checkpoint  # at first: two states, last, best, and one of each being written
    assert second == 2 * one_state + checkpoint

"""Resuming: a run that was killed, pre-empted, out of space or had a bad loss resumes or says what to do.

Run: python -m pytest tests/training/test_resume.py
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import FLAGS, MODEL, STEPS, assert_same_weights, environment, flags_of, stopped_in_step, weights

from i0t.encoders.checkpoint import training_of
from i0t.paths import REPO
from i0t.training import loop, progress
from i0t.training.__main__ import main as train
from i0t.training.progress import stop_signal


@pytest.fixture(autouse=True)
def tiniest(configs: Path) -> None:
    """A model that trains quickly."""
    (configs / "models" / "tiniest.yaml").write_text(MODEL)


@pytest.fixture(scope="session")
def run_configs(tmp_path_factory: pytest.TempPathFactory, sample_roots) -> Path:
    """Path files for runs in processes of their own."""
    folder = tmp_path_factory.mktemp("resume") / "configs"
    shutil.copytree(REPO / "configs", folder, ignore=shutil.ignore_patterns("*.txt"))
    (folder / "models" / "tiniest.yaml").write_text(MODEL)
    (folder / "root.txt").write_text(f"{sample_roots.main}\n")
    (folder / "subroot.txt").write_text(f"{sample_roots.sub}\n")
    return folder


@pytest.fixture(scope="session")
def uninterrupted(run_configs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of an uninterrupted run."""
    out = tmp_path_factory.mktemp("uninterrupted")
    done = subprocess.run(command(out), env=environment(run_configs), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return weights(out)


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "i0t.training", *FLAGS, "--output", str(out), "--workers", "1", *more]


def started(out: Path, configs: Path, until: str) -> subprocess.Popen:
    """Start a run in its own process group; return when a state of that name exists."""
    process = subprocess.Popen(
        command(out), env=environment(configs), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(f"states/*/{until}")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no state was written"
        time.sleep(0.01)
    return process


def finish(out: Path, configs: Path) -> str:
    """Run the same command again; return its output."""
    done = subprocess.run(command(out), env=environment(configs), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


# Whole states, and one that is being written: the kill comes in the middle of it.
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["step-00000002", ".unfinished-00000004"])
def test_killed_run_ends_with_the_weights_of_the_uninterrupted_one(uninterrupted, run_configs, tmp_path, moment):
    process = started(tmp_path, run_configs, moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("*-last.safetensors")) or training_of(next(tmp_path.glob("*-last*")))["step"] < STEPS
    assert "resumes after step" in finish(tmp_path, run_configs)
    assert_same_weights(weights(tmp_path), uninterrupted)
    assert not list(tmp_path.glob("states/*")), "states of a finished run only take space"


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_0(uninterrupted, run_configs, tmp_path):
    """SIGTERM is sent to the workers, too, as clusters do."""
    process = started(tmp_path, run_configs, "step-00000002")
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "stopped by SIGTERM; the same command resumes from" in said
    assert not list(tmp_path.glob("*-last*")) or training_of(next(tmp_path.glob("*-last*")))["step"] < STEPS
    finish(tmp_path, run_configs)
    assert_same_weights(weights(tmp_path), uninterrupted)


def test_finished_run_is_kept_and_fresh_trains_again(configs, tmp_path, capsys):
    flags = flags_of("steps=2", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")
    assert train(flags) == 0
    (path,) = (tmp_path / "out").glob("*-last.safetensors")
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    assert train(flags) == 0
    printed = capsys.readouterr()
    assert "trained before" in printed.err and "i2t_r1" in printed.out
    assert path.stat().st_mtime_ns == before
    assert train([*flags, "--fresh"]) == 0
    assert path.stat().st_mtime_ns > before


def test_fresh_run_that_is_stopped_goes_on_without_fresh(configs, tmp_path, capsys, monkeypatch):
    """It must not return the result of the earlier run, which it replaces."""
    flags = flags_of("steps=3", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")
    assert train(flags) == 0
    expected = load_file(next((tmp_path / "out").glob("*-last.safetensors")))
    capsys.readouterr()
    stopped_in_step(monkeypatch, [*flags, "--fresh"])
    printed = capsys.readouterr()
    assert "stopped by SIGTERM; the same command without --fresh resumes from" in printed.err
    assert not printed.out
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert train(flags) == 0
    said = capsys.readouterr().err
    assert "resumes after step" in said and "trained before" not in said
    assert_same_weights(load_file(next((tmp_path / "out").glob("*-last.safetensors"))), expected)


def test_ctrl_c_saves_a_state_and_says_how_to_go_on(configs, tmp_path, capsys, monkeypatch):
    flags = flags_of("steps=3", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")
    before = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it
    stopped_in_step(monkeypatch, flags, signal.SIGINT)
    said = capsys.readouterr().err
    assert re.search(r"stopped: the same command resumes from .*step-0000000\d \(step \d of 3\)\.", said)
    assert signal.getsignal(signal.SIGINT) is before
    assert train(flags) == 0
    assert "resumes after step" in capsys.readouterr().err


def test_second_ctrl_c_stops_at_once_but_not_that_of_a_launcher(monkeypatch):
    now = iter([10.0, 10.2, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with stop_signal() as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
            assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_validation_is_in_the_precision_of_the_recipe(configs, tmp_path, monkeypatch):
    seen = []
    for name in ("encode_pictures", "encode_texts"):
        plain = getattr(loop, name)

        def noted(encoder, items, options, plain=plain):
            seen.append(options.precision)
            return plain(encoder, items, options)

        monkeypatch.setattr(loop, name, noted)
    flags = flags_of("steps=1", "precision=fp32", "--output", str(tmp_path / "out"), "--workers", "0")
    assert train(flags) == 0
    assert seen == ["fp32", "fp32"]


# --- recipes that start from the last checkpoint -------------------------------------------------


@pytest.fixture
def stage1(configs, tmp_path: Path) -> Path:
    """A checkpoint of stage 1, which is the last one."""
    assert train(flags_of("steps=1", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")) == 0
    return next((tmp_path / "out").glob("lccom-*-last.safetensors"))


def again(tmp_path: Path, recipe: str, *more: str) -> list[str]:
    """A command without --base."""
    steps = [] if any(flag.startswith("steps=") for flag in more) else ["steps=2"]
    few = [*steps, "base=last", "batch_size=8", "validate_every=0", "--workers", "0"]
    return ["--recipe", recipe, *few, "--output", str(tmp_path / "out"), *more]


@pytest.mark.parametrize("recipe", ["bn_async", "cloob"])
def test_same_command_does_not_train_on_its_own_result(configs, stage1, tmp_path, capsys, recipe):
    for seed in (7, 7, 42):
        capsys.readouterr()
        assert train(again(tmp_path, recipe, f"seed={seed}")) == 0, capsys.readouterr().err
        (last,) = (tmp_path / "out").glob(f"{recipe}-seed{seed}-*-last.safetensors")
        assert training_of(last)["recipe"]["base"] == str(stage1)
        printed = capsys.readouterr()
        assert printed.out.splitlines()[-1] == f"last, noted in ckpt_file_name.txt: {last}"
    assert len(list((tmp_path / "out").glob(f"{recipe}-*-last.safetensors"))) == 2


def test_base_that_is_gone_is_reported(configs, stage1, tmp_path, capsys):
    assert train(again(tmp_path, "bn_async")) == 0
    stage1.unlink()
    capsys.readouterr()
    assert train(again(tmp_path, "bn_async")) == 2
    error = capsys.readouterr().err
    assert f"recipe bn_async made it from {stage1}, which cannot be loaded again" in error and "--base" in error


def test_fresh_stage_2_that_is_stopped_finds_its_base_again(configs, stage1, tmp_path, capsys, monkeypatch):
    flags = again(tmp_path, "bn_async", "steps=3")
    assert train(flags) == 0
    stopped_in_step(monkeypatch, [*flags, "--fresh"])
    capsys.readouterr()
    assert train(flags) == 0
    assert "resumes after step" in capsys.readouterr().err
    (last,) = (tmp_path / "out").glob("bn_async-*-last.safetensors")
    assert training_of(last)["recipe"]["base"] == str(stage1)


def test_other_base_or_data_is_another_run(configs, tmp_path, sample_roots):
    flags = flags_of("steps=1", "validate_every=0", "--output", str(tmp_path / "out"), "--workers", "0")
    assert train(flags) == 0
    shutil.copytree(sample_roots.main, tmp_path / "main")
    file = next((tmp_path / "main" / "sharegpt4v").glob("*.json"))
    file.write_text(file.read_text().replace("circle", "disc"))
    assert train([*flags, "--data-dir", str(tmp_path / "main")]) == 0
    (first, second) = sorted((tmp_path / "out").glob("*-last.safetensors"))
    summaries = [training_of(path) for path in (first, second)]
    assert summaries[0]["recipe"] == summaries[1]["recipe"]
    assert summaries[0]["data_digest"] != summaries[1]["data_digest"]


def test_bad_loss_names_step_recipe_and_the_last_good_state(configs, tmp_path, capsys, monkeypatch):
    """A loss that becomes NaN at step 3, after the state of step 2."""
    from i0t.training.objectives import CyClip

    plain, calls = CyClip.forward, []

    def breaks(self, *features):
        calls.append(1)
        losses = plain(self, *features)
        return {key: value * (float("nan") if len(calls) > 4 * 2 else 1) for key, value in losses.items()}

    monkeypatch.setattr(CyClip, "forward", breaks)  # four combinations of views a step
    assert train(flags_of("--output", str(tmp_path / "out"), "--workers", "0")) == 2
    error = capsys.readouterr().err
    assert "recipe lccom: the loss is nan" in error and "at step 3" in error
    assert "step-00000002" in error
    assert (next((tmp_path / "out" / "states").iterdir()) / "step-00000002" / "shared.pt").is_file()

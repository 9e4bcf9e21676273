"""scripts/ladder.sh with a stand-in for Python: the checkpoint that each program gets, and when it stops.

Run: python -m pytest tests/training/test_ladder.py
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from i0t.paths import REPO

# Notes its arguments; trains by naming a checkpoint, but for recipes that SIGTERM stops, which exit with 0, too.
STAND_IN = """\
#!/usr/bin/env bash
[ "$1" = -m ] || exit 0
echo "$2 ${*:3}" >> "$CALLS"
if [ "$2" = i0t.training ]; then
    [[ " $STOPPED " != *" $4 "* ]] || exit 0
    echo "best by R@1: $8/$4-best.safetensors"
    echo "last, noted in ckpt_file_name.txt: $8/$4-seed$6-last.safetensors"
fi
"""


@pytest.fixture
def ladder(tmp_path: Path):
    """Run the script; its exit status, what it printed, and the programs it called."""
    python, out = tmp_path / "python", tmp_path / "out folder"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    checkpoints = out / "checkpoints"
    checkpoints.mkdir(parents=True)
    for recipe in ("lcco", "lccom", "bn_async"):  # of other bases: newer than what this call trains
        (checkpoints / f"{recipe}-seed7-ffffff-last.safetensors").touch()

    def run(*recipes: str, stopped: str = "") -> tuple[int, subprocess.CompletedProcess, list[str]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        given = {"PYTHON": str(python), "CALLS": str(calls), "STOPPED": stopped, "TASKS": "retrieval"}
        environment = {**os.environ, "OUTPUT": str(out), **given}
        environment.pop("ACCELERATE", None)
        command = ["bash", str(REPO / "scripts" / "ladder.sh"), *recipes]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        short = [line.replace(f"{checkpoints}/", "").replace(f" --output {out}", "") for line in calls.open()]
        return done.returncode, done, [line.strip().replace("/checkpoints", "") for line in short]

    return run


def test_each_recipe_is_evaluated_on_the_checkpoint_that_its_training_names(ladder):
    status, done, calls = ladder("lcco", "lccom", "bn_async")
    assert status == 0, done.stderr
    assert calls == [
        "i0t.training --recipe lcco --seed 7",
        "evaluation.retrieval --model lcco-seed7-last.safetensors",
        "i0t.training --recipe lccom --seed 7",
        "evaluation.retrieval --model lccom-seed7-last.safetensors",
        "i0t.training --recipe bn_async --seed 7 --base lccom-seed7-last.safetensors",
        "evaluation.retrieval --model bn_async-seed7-last.safetensors",
    ]
    assert "best by R@1" in done.stdout, "what training prints is shown"


def test_stage_2_alone_asks_training_for_lccom(ladder):
    status, done, calls = ladder("ln_async", "bn_async_no_mcsie")
    assert status == 0, done.stderr
    assert [call for call in calls if "training" in call] == [
        "i0t.training --recipe lccom --seed 7",
        "i0t.training --recipe ln_async --seed 7 --base lccom-seed7-last.safetensors",
        "i0t.training --recipe bn_async_no_mcsie --seed 7 --base lccom-seed7-last.safetensors",
    ]
    assert not any("--model lccom" in call for call in calls), "it was not asked for"


@pytest.mark.parametrize(("recipes", "stopped"), [(["lcco", "lc"], "lcco"), (["bn_async"], "lccom")])
def test_run_that_was_stopped_is_not_evaluated(ladder, recipes, stopped):
    status, done, calls = ladder(*recipes, stopped=stopped)
    assert status == 1
    assert f"error: recipe {stopped} was stopped before its end" in done.stderr
    assert calls == [f"i0t.training --recipe {stopped} --seed 7"]


def test_default_list_keeps_its_order(ladder):
    """On the sample CLOOB starts from the last checkpoint, that of the previous recipe."""
    order = [call.split()[2] for call in ladder()[2] if "training" in call]
    assert " ".join(order) == "lc lco lcco cloob unif_align lccom ln ln_async bn bn_async bn_async_no_mcsie"

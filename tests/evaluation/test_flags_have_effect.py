"""Every accepted flag has an effect; a flag without effect is refused in one line.

Run: python -m pytest tests/evaluation/test_flags_have_effect.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from evaluation import classification, retrieval, table
from evaluation.options import add_task_flags, task_of
from i0t import Embeddings, I0TError
from i0t.data.datasets import DATASETS, in_sample, load_dataset
from i0t.paths import REPO, Roots, configured_roots


@pytest.fixture
def saved(tmp_path: Path) -> str:
    rows, names = np.random.default_rng(0).normal(size=(2, 12, 4)).astype(np.float32), [str(n) for n in range(12)]
    known = {"model": "m", "dataset": "flickr"}
    return str(Embeddings(*rows, np.arange(12), names, names, metadata=known).save(tmp_path / "e.safetensors"))


def refused(program, capsys: pytest.CaptureFixture, *flags: str) -> str:
    assert program.main(list(flags)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_nothing_is_fitted_without_a_remover(capsys, saved, tmp_path):
    error = refused(retrieval, capsys, "--embeddings", saved, "--fit-on", saved, "--output", str(tmp_path))
    assert "nothing is fitted without --remove-gap" in error


@pytest.mark.parametrize(
    ("program", "flags"), [(retrieval, ("--captions-per-image", "5")), (classification, ("--prompt-mean", "raw"))]
)
def test_flags_of_items_are_refused_with_embeddings(capsys, saved, tmp_path, program, flags):
    error = refused(program, capsys, "--embeddings", saved, *flags, "--output", str(tmp_path))
    assert f"{flags[0]}: has no effect on --embeddings" in error


def test_several_files_are_not_one(capsys, saved, tmp_path):
    assert "2 Embeddings files" in refused(retrieval, capsys, "--embeddings", saved, saved, "--output", str(tmp_path))


@pytest.mark.parametrize("flags", [("--fit-samples", "0"), ("--seed", "-1"), ("--batch-size", "0")])
def test_numbers_out_of_range_are_refused_by_the_flag(flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        retrieval.main(list(flags))
    assert flags[0] in capsys.readouterr().err


def test_relative_folders_of_flags_are_the_users(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert configured_roots("mine", "mine").main == tmp_path / "mine"
    with pytest.raises(I0TError, match=f"--data-dir: no such folder: {tmp_path}/gone. Correct the path.$"):
        configured_roots("gone")


def test_the_sample_is_known_however_it_was_named(sample_roots, tmp_path):
    assert in_sample(Roots(sample_roots.main, None)) and in_sample(Roots(None, sample_roots.sub))
    assert not in_sample(Roots(tmp_path, None)) and not in_sample(Roots(None, None))


def test_bool_fields_of_a_task_can_be_set_both_ways():
    @dataclass(frozen=True)
    class Switches:
        off: bool = field(default=False, metadata={"help": "off"})
        on: bool = field(default=True, metadata={"help": "on"})

    parser = argparse.ArgumentParser()
    add_task_flags(parser, Switches)
    assert task_of(parser.parse_args([]), Switches) == Switches()
    assert task_of(parser.parse_args(["--off", "--no-on"]), Switches) == Switches(off=True, on=False)


def test_records_of_other_metrics_stand_in_one_table(tmp_path, capsys):
    common = {"task": "t", "dataset": "d", "gap": {}, "protocol": {"remove_gap": "none"}, "data": {}}
    for number, name in enumerate(("raw", "moved")):
        record = {**common, "metrics": {name: 0.5}, "headline": [name], "config": {"model": {"name": name}}}
        (tmp_path / f"{number}.json").write_text(json.dumps(record))
    assert table.main([str(path) for path in sorted(tmp_path.glob("*.json"))]) == 0
    printed = capsys.readouterr().out
    assert printed.count("0.50") == 2 and "-" in printed


def test_a_reader_that_returns_nothing_is_named(monkeypatch, sample_roots):
    monkeypatch.setattr("i0t.data.captions.read_gold", lambda entry, roots: None)
    with pytest.raises(I0TError, match="flickr: its reader i0t.data.captions:read_gold returned None, not a Dataset"):
        load_dataset("flickr", sample_roots)
    assert DATASETS["flickr"].kind == "captions"


def test_a_reader_that_has_seen_enough_is_no_error(saved):
    command = f"{sys.executable} -m i0t gap {saved} --bootstrap 0 | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=REPO, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and done.stdout

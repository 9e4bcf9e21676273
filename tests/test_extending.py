"""docs/extending.md: the page's code works as printed, and needs no other change.

Run: python -m pytest tests/test_extending.py
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import retrieval, table
from evaluation.task import TASKS, task_class
from i0t.commands.standardize import main as standardize
from i0t.data.check import main as check_data
from i0t.data.datasets import DATASETS
from i0t.encoders import load_encoder
from i0t.encoders.load import known_models
from i0t.paths import REPO
from i0t.standardize.registry import REMOVERS
from i0t.training.__main__ import main as train

BLOCK = re.compile(r"^```(python|yaml)\n# (\S+?\.(?:py|yaml)).*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^```python\n(\w+\[.*)\n```$", re.MULTILINE)
PAGE = (REPO / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {name: text for _, name, text in BLOCK.findall(PAGE)}
LINES = {line.partition("[")[0]: line for line in LINE.findall(PAGE)}


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configs: Path) -> Path:
    """A folder with the page's files; specs and recipes go into `configs`."""
    for name, text in FILES.items():
        path = configs.parent / name if name.startswith("configs/") else tmp_path / name
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def run(program, capsys: pytest.CaptureFixture, *flags: object) -> dict:
    """The one record of a run."""
    assert program.main([str(flag) for flag in (*flags, "--workers", 0)]) == 0
    return json.loads(Path(capsys.readouterr().out.splitlines()[-1]).read_text(encoding="utf-8"))


def test_the_page_has_all_five():
    assert set(FILES) >= {"partial_mean.py", "letters.py", "matched_cosine.py"}
    assert [name for name in FILES if name.startswith("configs/models")]
    assert [name for name in FILES if name.startswith("configs/recipes")]


@pytest.mark.parametrize(("name", "most"), [("partial_mean.py", 30), ("matched_cosine.py", 100), ("letters.py", 60)])
def test_what_it_costs(name, most):
    assert len(FILES[name].splitlines()) <= most


def test_a_gap_remover(stranger, monkeypatch, capsys, tmp_path):
    flags = ["--model", "tiny", "--dataset", "flickr", "--output", tmp_path / "out"]
    by_path = run(retrieval, capsys, *flags, "--remove-gap", "partial_mean:PartialMean", "--set", "part=0.7")
    assert by_path["protocol"]["remover_parameters"] == {"part": 0.7}
    assert by_path["gap"]["centroid_distance"] != by_path["gap_before"]["centroid_distance"]
    monkeypatch.setitem(REMOVERS, "partial_mean", "")
    exec(LINES["REMOVERS"], {"REMOVERS": REMOVERS})  # our own page
    by_name = run(retrieval, capsys, *flags, "--remove-gap", "partial_mean", "--part", "0.7")
    assert by_name["metrics"] == by_path["metrics"] and by_name["gap"] == by_path["gap"]
    for seed, name in enumerate(("x.npy", "y.npy")):
        np.save(tmp_path / name, np.random.default_rng(seed).normal(size=(9, 4)))
    shards = ["--images", str(tmp_path / "x.npy"), "--texts", str(tmp_path / "y.npy"), "--jobs", "1"]
    assert standardize(["fit", *shards, "--remover", "partial_mean", "--output", str(tmp_path / "s.safetensors")]) == 0


def test_a_model(stranger):
    (name,) = (Path(file).stem for file in FILES if file.startswith("configs/models"))
    assert name in known_models()
    assert load_encoder(name).embed_dim == 32


def test_a_data_set(stranger, monkeypatch, capsys, tmp_path, sample_roots):
    entry = import_module("letters").ENTRY
    monkeypatch.setitem(DATASETS, entry.name, None)
    exec(LINES["DATASETS"], {"DATASETS": DATASETS, "ENTRY": entry})  # our own page
    folder = tmp_path / "sub" / entry.file
    folder.mkdir(parents=True)
    for colour in ("red", "green", "blue", "white"):
        Image.new("RGB", (9, 9), colour).save(folder / f"a {colour} square.png")
    roots = ["--data-dir", sample_roots.main, "--data-dir-sub", tmp_path / "sub"]
    record = run(retrieval, capsys, "--model", "tiny", "--dataset", entry.name, *roots, "--output", tmp_path / "out")
    assert record["data"]["completeness"]["state"] == "complete" and record["data"]["images"] == 4
    assert check_data(["--dataset", entry.name, *map(str, roots)]) == 0
    (folder / "a red square.png").unlink()
    program = ["--model", "tiny", "--dataset", entry.name, *map(str, roots), "--output", str(tmp_path / "out")]
    assert retrieval.main(program) == 2
    assert "--allow-partial" in capsys.readouterr().err


def test_a_task(stranger, capsys, tmp_path, monkeypatch):
    program = import_module("matched_cosine")
    folder = tmp_path / "out"
    flags = ["--model", "tiny", "--dataset", "flickr", "--output", folder]
    plain = run(program, capsys, *flags)
    moved = run(program, capsys, *flags, "--remove-gap", "i0t_post", "--fit-on", "train")
    assert moved["protocol"]["means_leak"] is False and plain["protocol"]["captions_per_image"] == 1
    assert moved["data"]["completeness"]["state"] == "complete" and moved["data"]["pairs"] == 20
    paths = [str(path) for path in folder.glob("matched_cosine-*.json")]
    for join in ([], ["--join"]):
        assert table.main([*paths, *join]) == 0
        assert "mean_cosine" in capsys.readouterr().out
    (file,) = folder.glob("matched_cosine-*-none-*.embeddings.safetensors")
    again = run(program, capsys, "--embeddings", file, "--output", tmp_path / "again")
    assert again["metrics"] == plain["metrics"] and again["data"]["completeness"] == plain["data"]["completeness"]
    monkeypatch.setitem(TASKS, "matched_cosine", "matched_cosine:MatchedCosine")
    assert task_class("matched_cosine") is program.MatchedCosine


def test_a_recipe(stranger, tmp_path):
    (name,) = (Path(file).stem for file in FILES if file.startswith("configs/recipes"))
    assert train(["--recipe", name, "--base", "tiny", "--output", str(tmp_path / "runs"), "--workers", "0"]) == 0
    (checkpoint,) = (tmp_path / "runs").glob(f"{name}-*-last.safetensors")
    assert load_encoder(checkpoint).training_summary["recipe"]["name"] == name


def test_commands_of_the_page_name_what_there_is():
    for script in re.findall(r"bash (scripts/\w+\.sh)", PAGE):
        assert (REPO / script).is_file(), script
    for path in re.findall(r"`((?:i0t|configs|baselines|evaluation)/[\w/.]+\.(?:py|yaml))`", PAGE):
        assert (REPO / path).is_file(), path

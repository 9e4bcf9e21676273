"""The contract of every registered task: flags, records, tables, and same results from saved embeddings.

Run: python -m pytest tests/evaluation/test_task_contract.py
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from evaluation import table
from evaluation.options import options_of, parse
from evaluation.task import TASKS, Task, task_class
from i0t.data.datasets import datasets_of
from i0t.embeddings import Embeddings
from i0t.results.comparison import headline_of, read_record
from i0t.standardize.registry import fitting_names

EVERY = pytest.mark.parametrize("task", [task_class(name) for name in TASKS], ids=list(TASKS))


def run(task: type[Task], *flags: object) -> list[Path]:
    """Paths of the records of a run."""
    program = sys.modules[task.__module__]
    assert program.main([str(flag) for flag in (*flags, "--workers", 0)]) == 0
    return sorted(Path(flags[flags.index("--output") + 1]).glob(f"{task.name}-*.json"))


@EVERY
def test_it_is_a_frozen_dataclass_whose_fields_are_flags(task):
    assert is_dataclass(task) and task.__dataclass_params__.frozen
    assert task.name == next(name for name in TASKS if task_class(name) is task)
    assert datasets_of(task.kind)
    defaults = options_of(task, parse(task, []), "cpu").task
    assert defaults == task()
    for field in fields(task):
        flag = f"--{field.name.replace('_', '-')}"
        other = next(choice for choice in field.metadata.get("choices", (7,)) if choice != field.default)
        changed = [flag] if field.default is False else [flag, str(other)]
        assert getattr(options_of(task, parse(task, changed), "cpu").task, field.name) != field.default
        assert field.metadata["help"]


@EVERY
def test_every_data_set_of_the_sample_gives_a_record_and_a_table(task, configs, tmp_path, capsys, sample_roots):
    present = datasets_of(task.kind, sample_roots)
    paths = run(task, "--model", "tiny", "--output", tmp_path)  # without --dataset: all that are present
    records = [read_record(path) for path in paths]
    assert sorted(record["dataset"] for record in records) == sorted(present)
    for record in records:
        assert {*task.printed, *headline_of(record), *headline_of(record, joined=True)} <= set(record["metrics"])
        assert record["data"]["completeness"]["state"] == "complete"
        assert record["data"]["built_in_sample"] is record["data"]["completeness"]["built_in_sample"] is True
        assert record["protocol"]["split"]
    capsys.readouterr()
    for join in ([], ["--join"]):
        assert table.main([*map(str, paths), *join]) == 0
        printed = capsys.readouterr().out
        assert all(name in printed for name in present)


@EVERY
def test_its_own_embeddings_give_the_same_numbers(task, configs, tmp_path, sample_roots):
    dataset = datasets_of(task.kind, sample_roots)[0]
    (first,) = run(task, "--model", "tiny", "--dataset", dataset, "--output", tmp_path / "first")
    file = first.with_suffix("").with_suffix(".embeddings.safetensors")
    assert len(Embeddings.load(file).image_features)
    (second,) = run(task, "--embeddings", file, "--dataset", dataset, "--output", tmp_path / "second")
    one, two = json.loads(first.read_text()), json.loads(second.read_text())
    for section in ("metrics", "gap", "protocol", "headline"):
        assert one[section] == two[section], section
    assert one["data"]["sha256"] == two["data"]["sha256"]


@EVERY
@pytest.mark.parametrize("remover", fitting_names())
def test_every_gap_remover_moves_its_features(task, remover, configs, tmp_path, sample_roots):
    dataset = datasets_of(task.kind, sample_roots)[-1]
    flags = ["--model", "tiny", "--dataset", dataset, "--remove-gap", remover, "--output", tmp_path]
    (path,) = run(task, *flags)
    record = read_record(path)
    assert record["protocol"]["remove_gap"] == remover and record["protocol"]["means_leak"] is True
    assert record["gap"]["centroid_distance"] != record["gap_before"]["centroid_distance"]

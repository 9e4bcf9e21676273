"""The benchmark runner: which modules it finds, what it prints, and that figures come from alternating rounds.

Run: python -m pytest tests/test_benchmarks_table.py
"""

from __future__ import annotations

from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as runner
from benchmarks import retrieval_matrix
from benchmarks.measure import alternate, unit_vectors
from benchmarks.row import Row


def test_rows_of_the_module_asked_for(monkeypatch, capsys):
    asked = []
    stub = SimpleNamespace(rows=lambda quick: asked.append(quick) or [Row("a work", "a rival", 0.123, "<= 1", "note")])
    monkeypatch.setattr(runner, "import_module", lambda name: stub)
    assert runner.main(["--only", "standardizing", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert asked == [True] and "smaller sizes" in printed
    assert all(part in printed for part in ("a work", "a rival", "0.12", "<= 1", "note"))
    assert max(map(len, printed.splitlines()[1:])) <= 120
    assert runner.main(["--only", "standardizing"]) == 0
    assert "smaller sizes" not in capsys.readouterr().out


def test_every_module_found_can_be_asked_for_rows():
    modules = runner.find_modules()
    assert {"retrieval_rivals", "retrieval_matrix", "standardizing", "train_step"} <= set(modules)
    for name, module in modules.items():
        assert list(signature(module.rows).parameters) == ["quick"], name


def test_unknown_module_lists_the_known(capsys):
    assert runner.main(["--only", "measure"]) == 2
    error = capsys.readouterr().err
    assert "--only measure" in error and "retrieval_matrix" in error and "standardizing" in error


def test_rounds_alternate():
    calls = []
    _, _, ratios = alternate(lambda: calls.append("ours"), lambda: calls.append("rival"), 3)
    assert calls == ["ours", "rival"] * 3 and len(ratios) == 3


def test_missing_rival_is_said_and_skipped(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(retrieval_matrix, "RIVAL_FILE", tmp_path / "gone.py")
    monkeypatch.setattr(retrieval_matrix, "_against_product", lambda n: [Row(str(n), "product", 1.0, "")])
    assert [row.work for row in retrieval_matrix.rows(quick=False)] == ["100000"]
    assert "Clone LAION-AI/CLIP_benchmark into Github/" in capsys.readouterr().err


def test_features_are_unit_vectors_made_by_blocks():
    made = unit_vectors(5000, seed=0)
    assert made.shape == (5000, 512) and np.linalg.norm(made, axis=1) == pytest.approx(1, abs=1e-5)

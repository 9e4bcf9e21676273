"""Several processes and chunks: the loss and gradients of one undivided batch, for every recipe.

Run: python -m pytest tests/training/test_distributed_training.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gradients_of_processes import RECIPES, gradients

from i0t import I0TError
from i0t.paths import REPO
from i0t.training.accelerator import make_accelerator, require_even_batch

LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", str(REPO / "configs/accelerate/cpu_2proc.yaml")]


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Results of two gloo processes, each with half of the batch."""
    path = tmp_path_factory.mktemp("two") / "found.pt"
    _launch("gradients_of_processes.py", path)
    found = torch.load(path, weights_only=True)
    assert found["processes"] == 2
    return found


def _launch(program: str, path: Path) -> str:
    """Run a program of tests/support in two processes; return their output."""
    command = [sys.executable, *LAUNCH, str(REPO / "tests/support" / program), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # Relative to the whole tensor: batch norm of near-equal features magnifies float32's rounding.
        assert float((found[key] - value).norm()) <= 2e-4 * float(value.norm()) + 1e-6, key


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_are_one_of_twice_the_batch(two_processes, name, chunk):
    expected = gradients(name, make_accelerator("cpu"))
    assert any(key.startswith("grad") and float(value.abs().max()) > 0 for key, value in expected.items())
    assert_same(two_processes[f"{name} {chunk}"], expected)


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("name", RECIPES)
def test_chunks_are_the_undivided_batch(name, chunk):
    """8 pairs in chunks of 3 leave one of 2; a chunk of all is the plain backward pass."""
    accelerator = make_accelerator("cpu")
    assert_same(gradients(name, accelerator, chunk), gradients(name, accelerator))


@pytest.mark.parametrize("name", ["lccom", "bn"])
def test_second_pass_over_a_chunk_repeats_its_dropout(name, monkeypatch):
    """With dropout the chunks' gradients are those of autograd through the first pass itself."""
    from i0t.training import step as module

    accelerator = make_accelerator("cpu")
    cached = gradients(name, accelerator, chunk_size=4, dropout=0.5)

    def with_graph(self: module.TrainingStep, chunks: list) -> dict:
        parts = []
        for chunk in chunks:
            *features, scale = self.encode(*chunk.inputs)
            parts.append([self._by_view(part) for part in features])
        whole = [torch.cat(kind, dim=1).flatten(0, 1) for kind in zip(*parts, strict=True)]
        losses = self._losses(whole, scale)
        torch.stack(list(losses.values())).sum().backward()
        return losses

    monkeypatch.setattr(module.TrainingStep, "_cached", with_graph)
    assert_same(cached, gradients(name, accelerator, chunk_size=4, dropout=0.5))
    plain = gradients(name, accelerator, chunk_size=4)
    assert not torch.allclose(plain["contrastive_loss"], cached["contrastive_loss"]), "dropout did something"


def test_batch_that_cannot_be_shared_evenly_is_refused():
    class Three:
        num_processes = 3

    require_even_batch(9, Three())
    with pytest.raises(I0TError, match="batch_size=8 .* 3 processes .* Use batch_size=9"):
        require_even_batch(8, Three())


def test_processes_resume_from_the_same_step_when_one_part_is_damaged(tmp_path):
    said = _launch("states_of_processes.py", tmp_path)
    loaded = [json.loads((tmp_path / f"loaded-{rank}.json").read_text()) for rank in (0, 1)]
    assert loaded == [[{"step": 500}, {"rank": 0}], [{"step": 500}, {"rank": 1}]]
    assert "step-00001000: cannot be read (process 1: " in said

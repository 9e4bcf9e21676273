"""The program of `benchmarks.cuda` itself, on the CPU: what it counts, times, compares, reports and survives.

Run: python -m pytest tests/test_cuda_benchmark.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cuda, cuda_agreement, cuda_encoding, cuda_training
from benchmarks.cuda_project import TINY, Check, Setting, bare_model


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """The CPU in the place of a card."""
    folder = tmp_path_factory.mktemp("cuda")
    return Setting(torch.device("cpu"), quick=True, tiny=True, workers=0, folder=Path(folder))


def test_without_a_card_it_says_so_and_ends_well(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda.main(["--quick"]) == 0
    assert capsys.readouterr().out == "no CUDA device: nothing to measure here.\n"


def test_failing_check_is_a_row_and_the_others_go_on(monkeypatch, capsys, tmp_path):
    def fails() -> list[Check]:
        raise RuntimeError("CUDA error: no kernel image\nCompile with ...")

    found = {"broken": fails, "whole": lambda: [Check("whole", 1.0, 2.0)], "over": lambda: [Check("over", 3.0, 2.0)]}
    monkeypatch.setattr(cuda, "jobs", lambda _: found)
    path = tmp_path / "new" / "cuda.json"
    assert cuda.main(["--device", "cpu", "--tiny", "--traceback", "--output", str(path)]) == 1
    printed = capsys.readouterr()
    assert "RuntimeError: CUDA error: no kernel image" in printed.out
    assert "3 checks, 2 missed" in printed.out
    assert "Traceback" in printed.err
    rows = json.loads(path.read_text())["checks"]
    assert [(row["what"], row["measured"], row["passed"]) for row in rows] == [
        ("broken", None, False),
        ("whole", 1.0, True),
        ("over", 3.0, False),
    ]
    assert cuda.main(["--device", "cpu", "--tiny", "--only", "whole"]) == 0


def test_check_that_the_time_does_not_reach_is_not_passed():
    (check,) = cuda.run({"late": list}, limit=-1, show_traceback=False, done=lambda _: None)
    assert not check.passed and "not begun" in check.note and math.isnan(check.measured)


def test_flops_are_those_that_torch_counts(setting):
    model = bare_model(TINY, 248, 0.0, setting.device)
    pixels, tokens = torch.zeros(1, 3, 64, 64), torch.ones(1, 248, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # it knows no fused one of the CPU
        sum(part.sum() for part in (model.encode_image(pixels), model.encode_text(tokens))).backward()
    # Torch counts no gradient of the pixels.
    assert cuda_training.pair_flops(TINY, 248) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_bare_loop_computes_the_recipes_loss(setting):
    """And chunks repeat their dropout; with other dropout the gradient would be another."""
    loss, gradient = cuda_agreement.chunks_with_dropout(setting, "fp32")
    assert loss.passed and gradient.passed, (loss, gradient)
    assert loss.measured < 1e-6


def test_steps_of_both_are_timed(setting):
    (speed,) = cuda_training.throughput(setting, 2, 77, "fp32")
    assert 0 < speed.measured < math.inf and "images/s" in speed.note


def test_encoding_is_timed(setting):
    ratio, waits = cuda_encoding.images(setting)
    assert ratio.measured > 0 and 0 <= waits.measured <= 1
    (ratio,) = cuda_encoding.texts(setting)
    assert ratio.measured > 0


@pytest.mark.slow
def test_vectors_steps_chunks_and_resumed_runs_agree(setting):
    checks = [*cuda_agreement.vectors(setting, "fp32"), *cuda_agreement.one_step(setting, "fp32")]
    checks += [*cuda_agreement.chunks(setting, "fp32"), *cuda_agreement.resumed(setting, "fp32", False)]
    assert len(checks) == 8
    assert all(check.passed for check in checks), checks

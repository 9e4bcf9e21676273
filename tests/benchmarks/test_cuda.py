"""`benchmarks.cuda`: the program itself on the CPU, and with a card the CUDA path at the sample's small model.

Run: python -m pytest tests/benchmarks/test_cuda.py
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import cuda, cuda_agreement, cuda_speed
from benchmarks.cuda_setup import Check, Setting
from benchmarks.encoding_setup import photos
from i0t.versions import versions

NO_CARD = "no CUDA device: run it on a machine with a card"
needs_card = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CARD)]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=needs_card)])
def setting(request) -> Iterator[Setting]:
    """The CPU in place of a card, and a card if there is one."""
    with photos(8, train=320) as roots:
        yield Setting(torch.device(request.param), roots, tiny=True)
    AcceleratorState._reset_state(reset_partial_state=True)  # or other tests would train in the last precision


def test_without_a_card_it_says_so_and_ends_well(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda.main([]) == 0
    assert capsys.readouterr().out == "no CUDA device: nothing to measure here.\n"


def test_failing_check_is_a_row_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    def fails() -> list[Check]:
        raise RuntimeError("CUDA error: no kernel image\nCompile with ...")

    figures = {"per second": 714.3, "MFU": 0.137, "peak GB": 13.94}
    found = {"broken": fails, "whole": lambda: [Check("whole", 1.0, 2.0, "as fast", figures)]}
    found["over"] = lambda: [Check("over", 3.0, 2.0)]
    monkeypatch.setattr(cuda, "jobs", lambda _: found)
    monkeypatch.setattr(cuda, "TENSORS", tmp_path)
    assert cuda.main(["--device", "cpu", "--tiny"]) == 1
    printed = capsys.readouterr()
    assert "RuntimeError: CUDA error: no kernel image" in printed.err and "Traceback" in printed.err
    assert "FAIL  3 <= 2               over\n" in printed.err and "3 checks, 2 missed" in printed.out
    rows = [re.sub(r" +", " ", line) for line in printed.out.splitlines() if line.startswith("|")]
    assert rows[0] == "| check | measured | bound | passed | per second | MFU | peak GB |"
    assert rows[2:] == [
        "| broken | nan | nan | NO | | | |",
        "| whole | 1 | 2 | yes | 714 | 14% | 13.9 |",
        "| over | 3 | 2 | NO | | | |",
    ]

    content = json.loads((tmp_path / "cuda.json").read_text())
    assert content["missed"] == 2 and content["versions"] == versions() and content["seconds"] > 0
    assert content["checks"][0]["measured"] is None and "no kernel image" in content["checks"][0]["note"]
    whole = {"what": "whole", "measured": 1, "bound": 2, "note": "as fast", "figures": figures, "passed": True}
    assert content["checks"][1] == whole
    named = tmp_path / "here.json"
    assert cuda.main(["--device", "cpu", "--tiny", "--only", "whole", "--json", str(named)]) == 0
    assert [check["what"] for check in json.loads(named.read_text())["checks"]] == ["whole"]
    assert json.loads((tmp_path / "cuda.json").read_text()) == content, "a part does not replace the whole"


def test_check_that_the_time_does_not_reach_is_not_passed():
    (check,) = cuda.run("late", list, spent=cuda.LIMIT + 1)
    assert not check.passed and "not started" in check.note and math.isnan(check.measured)


def test_flops_are_those_of_the_layers(setting):
    """A layer of width W over L positions has 24 L W^2 + 4 L^2 W, and backward twice that."""
    longer, shorter = (cuda_speed.pair_flops(setting, tokens) for tokens in (248, 77))
    config = cuda_speed.setup.base("tiny").architecture["model"]["text_cfg"]
    per_layer = [24 * tokens * config["width"] ** 2 + 4 * tokens**2 * config["width"] for tokens in (248, 77)]
    assert shorter > 0 and longer - shorter == pytest.approx(
        3 * config["layers"] * (per_layer[0] - per_layer[1]), rel=1e-3
    )


def test_bare_loop_computes_the_recipes_loss(setting):
    """Chunks repeat their dropout; with other dropout the gradient would differ."""
    loss, gradient = cuda_agreement.chunks_with_dropout(setting, "fp32")
    assert loss.passed and gradient.passed, (loss, gradient)


def test_speeds_are_measured(setting):
    speed, *memory = cuda_speed.training(setting, 2, 77, "bf16")
    assert 0 < speed.measured < math.inf and len(memory) == setting.is_cuda
    pictures, waits = cuda_speed.images(setting)
    assert pictures.measured > 0 and 0 <= waits.measured <= 1
    (texts,) = cuda_speed.texts(setting)
    assert set(speed.figures) == {"per second", "MFU", "peak GB"}
    assert pictures.figures["bare forward"] > 0 and texts.figures["per second"] > 0


@pytest.mark.slow
def test_vectors_steps_chunks_and_resumed_runs_agree(setting, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    checks = [*cuda_agreement.vectors(setting, "fp32"), *cuda_agreement.one_step(setting, "bf16")]
    checks += [*cuda_agreement.chunks(setting, "fp32"), *cuda_agreement.resumed(setting, "bf16", True)]
    assert len(checks) == 8
    assert all(check.passed for check in checks), checks

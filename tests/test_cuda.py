"""The CUDA path on a card, with the sample's small model; `python -m benchmarks.cuda` does the same at ViT-B/32.

Run on a machine with a card: python -m pytest tests/test_cuda.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import cuda_agreement
from benchmarks.cuda_project import Setting

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """The first card, two decoding processes."""
    folder = tmp_path_factory.mktemp("cuda")
    return Setting(torch.device("cuda"), quick=True, tiny=True, workers=2, folder=Path(folder))


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("bf16", 2e-3)])
def test_encoding_on_the_card_equals_the_cpu(setting, precision, bound):
    images, texts = cuda_agreement.vectors(setting, precision)
    assert images.measured <= bound, images
    assert texts.measured <= bound, texts


def test_training_step_in_bf16_is_that_of_the_cpu(setting):
    for check in cuda_agreement.one_step(setting, "bf16"):
        assert check.passed, check


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_run_that_was_stopped_and_resumed_ends_with_the_same_bits(setting, precision, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    (check,) = cuda_agreement.resumed(setting, precision, deterministic=True)
    assert check.passed, check

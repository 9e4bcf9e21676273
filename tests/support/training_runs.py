"""A model that trains quickly, and training runs of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from i0t.encoders.checkpoint import training_of
from i0t.paths import REPO
from i0t.training.__main__ import main as train

STEPS = 6

# MCSIE's dropout, so that the random state matters; validation and states at different steps.
FLAGS = ["--recipe", "lccom", "--base", "tiniest", f"steps={STEPS}", "batch_size=8", "validate_every=3", "save_every=2"]
MODEL = """\
loader: i0t.encoders.openclip:build_encoder
architecture:
  small: true
  model:
    embed_dim: 16
    quick_gelu: true
    vision_cfg: {image_size: 32, patch_size: 16, layers: 1, width: 32, head_width: 16}
    text_cfg: {context_length: 248, vocab_size: 49408, layers: 1, width: 32, heads: 2}
"""


def flags_of(*more: str) -> list[str]:
    """`FLAGS` with other values, which replace those of the same keys."""
    keys = {flag.partition("=")[0] for flag in more if "=" in flag}
    return [flag for flag in FLAGS if flag.partition("=")[0] not in keys] + list(more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The result of the last checkpoint."""
    (path,) = folder.glob("*-last.safetensors")
    assert training_of(path)["step"] == STEPS
    return load_file(path)


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [key for key, value in one.items() if not value.equal(other[key])]
    assert not different


def environment(configs: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO), "I0T_CONFIGS": str(configs), "OMP_NUM_THREADS": "1"}


def stopped_in_step(monkeypatch: pytest.MonkeyPatch, flags: list[str], by: int = signal.SIGTERM) -> None:
    """Train, and get a signal in the middle of the first step."""
    from i0t.training.objectives import CyClip

    plain = CyClip.forward

    def stopped(self, *features):
        os.kill(os.getpid(), by)
        return plain(self, *features)

    with monkeypatch.context() as patch:
        patch.setattr(CyClip, "forward", stopped)
        assert train(flags) == (130 if by == signal.SIGINT else 0)

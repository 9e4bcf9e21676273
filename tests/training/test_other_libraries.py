"""Training from models of other libraries: heads on any of them, stage 1 from any of open_clip's, refusals.

Run: python -m pytest tests/training/test_other_libraries.py
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from library_models import CONTEXT, TEXTS, make
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_clip import largest

from i0t import I0TError, load_encoder
from i0t.encoders.checkpoint import load_checkpoint, save_checkpoint
from i0t.encoders.heads import NormHeads
from i0t.training.__main__ import main as train

SHORT = ["steps=2", "batch_size=8", "warmup_steps=1", "validate_every=0"]
OWN_LENGTH = f"context_length={CONTEXT}"
ONE_VIEW = ["views=1", "attention_dropout=0"]


def trained(base: str, folder: Path, *flags: str) -> Path:
    flags = ("--base", base, "--output", str(folder), "--workers", "0", "--device", "cpu", *SHORT, OWN_LENGTH, *flags)
    assert train(list(flags)) == 0
    (path,) = folder.glob("*-last.safetensors")
    return path


@pytest.mark.parametrize("kind", ["clip", "siglip", "align"])
def test_heads_are_trained_on_a_model_of_transformers(kind, configs, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in noise]
    folder = make(kind, tmp_path)
    if kind == "siglip":  # as the published ones: above CLIP's limit of 100
        path = folder / "model.safetensors"
        save_file(load_file(path) | {"logit_scale": torch.tensor([4.77])}, path, metadata={"format": "pt"})
    base = load_encoder(folder)
    path = trained(f"hf:{folder}", tmp_path / "run", "--recipe", "bn_async_no_mcsie", *ONE_VIEW)
    with safe_open(path, "pt") as file:
        assert all(key.startswith("heads.") for key in file.keys()), "only what is ours"  # noqa: SIM118
    encoder = load_encoder(path)
    assert encoder.heads.kind == "batch_norm" and int(encoder.heads.image.num_batches_tracked) == 2
    assert encoder.match_probability(np.zeros(1)) is None, "heads move the cosines of the bias"
    for modality, found, before in (
        ("image", encoder.encode_images(pictures), base.encode_images(pictures)),
        ("text", encoder.encode_texts(TEXTS), base.encode_texts(TEXTS)),
    ):
        assert largest(found - encoder.heads(before, modality)) <= 1e-6
        assert largest(found - before) > 1e-3


def test_heads_on_other_weights_than_they_were_trained_on_are_refused(tmp_path):
    encoder = load_encoder(make("clip", tmp_path))
    with pytest.raises(I0TError, match="can only keep heads"):
        save_checkpoint(tmp_path / "none.safetensors", encoder, {})
    encoder.heads = NormHeads("layer_norm", encoder.embed_dim)
    path = save_checkpoint(tmp_path / "a.safetensors", encoder, {})
    assert load_checkpoint(path).fingerprint == encoder.fingerprint
    model = encoder.model.model
    with torch.no_grad():
        model.text_projection.weight[0] += 1
    model.save_pretrained(tmp_path / "clip")
    with pytest.raises(I0TError, match=r"a\.safetensors: heads on .*clip with fingerprint"):
        load_checkpoint(path)
    (tmp_path / "clip").rename(tmp_path / "moved")
    with pytest.raises(I0TError, match=r"a\.safetensors: heads on another model, which cannot be loaded: .*clip"):
        load_checkpoint(path)
    encoder.name = "hf:owner/name:trust_remote_code=true"
    with pytest.raises(I0TError, match="would run code of a repository"):
        load_checkpoint(save_checkpoint(path, encoder, {}))


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("clip", ["--recipe", "lccom"], "only models of open_clip are trained further. Train heads on it"),
        ("clip", ["--recipe", "bn_async", OWN_LENGTH], "whose dropout can be set.*views=1 attention_dropout=0"),
        (
            "siglip",
            ["--recipe", "bn_async_no_mcsie", *ONE_VIEW, "context_length=248"],
            "Use context_length=24, its own",
        ),
    ],
)
def test_what_a_model_does_not_have_is_refused_with_the_remedy(kind, flags, message, configs, tmp_path, capsys):
    folder = make(kind, tmp_path)
    assert train(["--base", str(folder), "--output", str(tmp_path / "run"), *SHORT, *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error


SIGLIP = """\
loader: i0t.encoders.openclip:build_encoder
architecture:
  small: true
  model:
    embed_dim: 16
    custom_text: true
    init_logit_bias: -10
    vision_cfg: {image_size: 32, patch_size: 16, layers: 1, width: 32, head_width: 16}
    text_cfg:
      {context_length: 24, vocab_size: 49408, layers: 1, width: 32, heads: 2, no_causal_mask: true, pool_type: last}
"""


@pytest.mark.parametrize("recipe", ["lccom", "lcco"])
def test_stage_one_starts_from_a_sigmoid_model_of_open_clip(recipe, configs, tmp_path):
    """With dropout in both towers where they have it; every text in full length."""
    (configs / "models" / "sigmoid.yaml").write_text(SIGLIP)
    path = trained("sigmoid", tmp_path / "run", "--recipe", recipe, *(ONE_VIEW if recipe == "lcco" else []))
    encoder = load_encoder(path)
    assert encoder.tokenize(["a"]).shape == (1, 24) and encoder.text_length(encoder.tokenize(["a"])) == 24
    assert float(encoder.logit_bias.detach()) == -10, "no objective has a bias"

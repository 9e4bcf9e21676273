"""Kinds of open_clip models: embeddings are those of its own documented calls, and mistakes with SigLIP are noticed.

Run: python -m pytest tests/encoders/test_open_clip_kinds.py
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from library_models import CONTEXT, TEXTS
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip_models import KINDS, documented, make_open_clip
from small_clip import largest

from i0t import Encoder, load_encoder
from i0t.encoders import EncodeOptions
from i0t.encoders.checkpoint import load_checkpoint, save_checkpoint
from i0t.encoders.encode import encode_texts
from i0t.encoders.openclip import build_encoder

PLAIN = EncodeOptions(cache=False, progress=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a kind, made once."""
    root, made = tmp_path_factory.mktemp("open_clip"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_open_clip(kind, root)
        return made[kind]

    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_documented_calls(kind, saved, mixed_pictures):
    place = f"local-dir:{saved(kind)}"
    encoder = load_encoder(place)
    images, texts = documented(place, TEXTS, mixed_pictures)
    assert images.shape[1] == encoder.embed_dim
    assert largest(images[0] - images[1]) > 1e-4 and largest(texts[0] - texts[1]) > 1e-3
    for batch_size in (1, 3, 64):
        assert largest(encoder.encode_images(mixed_pictures, batch_size=batch_size) - images) <= 1e-6
        assert largest(encoder.encode_texts(TEXTS, batch_size=batch_size) - texts) <= 1e-6
    assert largest(encoder.encode_texts(TEXTS[::-1], batch_size=2).flip(0) - texts) <= 1e-6
    assert largest(encoder.encode_images(mixed_pictures[::-1], batch_size=2).flip(0) - images) <= 1e-6
    for precision in ("fp16", "bf16"):
        assert largest(encoder.encode_texts(TEXTS, precision=precision) - texts) <= 5e-3
        assert largest(encoder.encode_images(mixed_pictures, precision=precision) - images) <= 5e-3
    assert encode_texts(encoder, ["a cat", "", "cat " * (CONTEXT + 9)], PLAIN).truncated == 1
    assert (encoder.logit_bias is not None) == kind.startswith("siglip")


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_ours_has_the_same_tokens_and_embeddings(kind, saved, mixed_pictures, tmp_path):
    encoder = load_encoder(f"local-dir:{saved(kind)}")
    again = load_checkpoint(save_checkpoint(tmp_path / "a.safetensors", encoder, {}))
    assert again.fingerprint == encoder.fingerprint
    assert again.tokenize(TEXTS).equal(encoder.tokenize(TEXTS))
    assert largest(again.encode_texts(TEXTS) - encoder.encode_texts(TEXTS)) <= 1e-6
    assert largest(again.encode_images(mixed_pictures) - encoder.encode_images(mixed_pictures)) <= 1e-6


# --- mistakes that are easy to make --------------------------------------------------------------


def unpadded(encoder: Encoder) -> None:
    encoder.model.hides_padding = True  # so that batches are cut to their longest text


def canonicalised_no_more(encoder: Encoder) -> None:
    encoder.tokenize.clean_fn = lambda text: text


def cropped(encoder: Encoder) -> None:
    settings = {**encoder.architecture["preprocess"], "resize_mode": "shortest"}
    encoder.preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)


def without_bias(encoder: Encoder) -> None:
    with torch.no_grad():
        encoder.model.logit_bias.zero_()


@pytest.mark.parametrize("mistake", [unpadded, canonicalised_no_more, cropped, without_bias])
def test_siglip_without_one_of_its_rules_is_noticed(mistake, saved, mixed_pictures):
    place = f"local-dir:{saved('siglip')}"
    encoder = load_encoder(place)
    images, texts = documented(place, TEXTS, mixed_pictures)
    short = [0, 1, 3]  # with the over-long text, all would be padded to the context
    probability = float(encoder.match_probability(np.array(0.1)))

    def error() -> float:
        of_short = largest(encoder.encode_texts([TEXTS[row] for row in short]) - texts[short])
        of_texts = max(of_short, largest(encoder.encode_texts(TEXTS) - texts))
        of_images = largest(encoder.encode_images(mixed_pictures) - images)
        return max(of_texts, of_images, abs(float(encoder.match_probability(np.array(0.1))) - probability))

    assert error() <= 1e-6
    mistake(encoder)
    assert error() > 1e-3


# --- towers --------------------------------------------------------------------------------------


def test_coca_is_used_through_its_contrastive_towers(saved, pictures):
    encoder = load_encoder(f"local-dir:{saved('coca')}")
    with torch.no_grad():
        image, text, *_ = encoder.model(
            torch.stack([encoder.preprocess(picture) for picture in pictures[:2]]), encoder.tokenize(TEXTS[:2])
        ).values()
    assert largest(encoder.encode_images(pictures[:2]) - image) <= 1e-6
    assert largest(encoder.encode_texts(TEXTS[:2]) - text) <= 1e-6


def test_no_weight_of_a_new_model_is_left_as_the_memory_was(monkeypatch):
    """As the projection of CoCa's decoder is by open_clip: a checkpoint of it would not load."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(float("nan")))
    for kind in ("clip", "siglip", "coca"):
        config = deepcopy(KINDS[kind][0])
        for key in ("hf_tokenizer_name", "tokenizer_kwargs"):
            config["text_cfg"].pop(key, None)
        encoder = build_encoder({"model": config}, name=kind)
        assert not [key for key, value in encoder.named_parameters() if not value.isfinite().all()]

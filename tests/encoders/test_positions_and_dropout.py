"""Changes of an encoder for training: more text positions, the first of them kept, and dropout of attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_clip import TEXTS, largest, words
from torch import nn
from torch.nn import functional as F

from i0t import Encoder, I0TError, load_encoder
from i0t.encoders import EncodeOptions
from i0t.encoders.checkpoint import load_checkpoint, save_checkpoint
from i0t.encoders.encode import encode_texts
from i0t.encoders.openclip import build_encoder, set_attention_dropout, set_context_length
from i0t.encoders.positions import stretch_positions, stretch_text_positions
from i0t.training.model_setup import build_optimizer, freeze, prepare_encoder
from i0t.training.recipe import Recipe

PLAIN = EncodeOptions(cache=False, progress=False)

# --- stretched positions ---------------------------------------------------------------------


def long_clip(positions: torch.Tensor) -> torch.Tensor:
    """Long-CLIP's rule: 20 rows kept, four rows for each other one, the last slope at the end."""
    rows = list(positions[:20])
    for i in range(20, len(positions)):
        here = positions[i]
        slope = positions[i + 1] - here if i + 1 < len(positions) else here - positions[i - 1]
        rows += [here + slope * quarter / 4 for quarter in range(4)]
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_stretch_is_long_clips_rule(dtype):
    positions = torch.randn(77, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).to(dtype)
    before = positions.clone()
    stretched = stretch_positions(positions, 248)
    assert stretched.shape == (248, 5) and stretched.dtype == dtype
    torch.testing.assert_close(stretched, long_clip(positions), atol=1e-6, rtol=0)
    assert stretched[:20].equal(positions[:20])
    assert stretched[20::4].equal(positions[20:])
    assert positions.equal(before)


def test_stretch_hand_worked():
    """Rows 5 | 1, 3, 4 by 2: halfway between, and with the slope of 1 after the last."""
    stretched = stretch_positions(torch.tensor([[5.0], [1.0], [3.0], [4.0]]), 7, kept=1)
    assert stretched.flatten().tolist() == [5, 1, 2, 3, 3.5, 4, 4.5]
    assert stretch_positions(torch.eye(5), 5, kept=2).equal(torch.eye(5))


@pytest.mark.parametrize("length", [247, 249, 100, 76, 20, 0])
def test_lengths_that_are_no_whole_stretch_are_refused(length):
    with pytest.raises(I0TError, match=rf"77 rows cannot be stretched to {length}; .* 20 \+ a multiple of 57"):
        stretch_positions(torch.zeros(77, 2), length)
    with pytest.raises(I0TError, match="21 rows cannot be stretched"):
        stretch_positions(torch.zeros(21, 2), 24)  # one row has no slope


def test_stretched_encoder_knows_short_texts_as_before_and_reads_longer_ones(small):
    short, long = ["a red star", words(18)], words(200)  # words(18) fills the 20 rows that are kept
    before = small.encode_texts(short)
    assert encode_texts(small, [long], PLAIN).truncated == 1
    set_context_length(small, 248)
    assert small.context_length == 248
    assert largest(small.encode_texts(short) - before) <= 1e-6
    found = encode_texts(small, [long, words(199)], PLAIN)
    assert found.truncated == 0
    features = torch.from_numpy(found.features)
    assert largest(features[0] - features[1]) > 1e-5
    rebuilt = build_encoder(small.architecture)  # the description was stretched as well
    rebuilt.load_state_dict(small.state_dict())
    assert rebuilt.encode_texts([long, words(199)]).equal(features)


def test_only_clips_own_text_encoder_is_stretched():
    with pytest.raises(I0TError, match="Linear: only CLIP's own text encoder"):
        stretch_text_positions(nn.Linear(2, 2), 248)


def recipe(**changes: Any) -> Recipe:
    """Stage 1 without dropout."""
    values = {"name": "r", "objective": "i0t.training.objectives:Contrastive", "objective_args": {}, "base": "x"}
    return Recipe(**{**values, "trains": "encoders", "learning_rate": 1e-2, "weight_decay": 0.5, **changes})


def position_gradient(encoder: Encoder) -> torch.Tensor:
    """(L,) how far training moves each text position, of a base that is prepared for stage 1."""
    settings = recipe(context_length=encoder.context_length)
    prepare_encoder(encoder, settings)
    freeze(encoder, settings)
    images, texts = encoder(torch.randn(2, 3, 32, 32), encoder.tokenize([words(60), words(30) + " red"]))
    F.cross_entropy(10 * images @ texts.T, torch.arange(2)).backward()
    return encoder.model.positional_embedding.grad.abs().amax(dim=1)


def test_positions_stretched_by_an_earlier_run_stay_kept(small, tmp_path):
    set_context_length(small, 248)
    again = load_checkpoint(save_checkpoint(tmp_path / "stage1.safetensors", small, {}))
    assert again.architecture["stretched_from"] == 77
    moved = position_gradient(again)
    assert not moved[:20].any() and (moved[20:62] > 0).all()


def test_positions_that_nothing_stretched_are_trained(small, tmp_path):
    """The same holds for checkpoints from before it was recorded."""
    assert (position_gradient(small)[:62] > 0).all()
    set_context_length(small, 248)
    del small.architecture["stretched_from"]
    old = load_checkpoint(save_checkpoint(tmp_path / "old.safetensors", small, {}))
    assert (position_gradient(old)[:62] > 0).all()
    assert "stretched_from" not in load_encoder("tiny").architecture


def test_frozen_encoders_with_stretched_positions_can_be_given_heads(small):
    set_context_length(small, 248)
    settings = recipe(trains="heads", heads="batch_norm")
    for _ in range(2):  # the second time the positions are frozen already
        prepare_encoder(small, settings)
        assert all(parameter.shape == (16,) for parameter in freeze(small, settings))
        small.heads = None


def test_a_base_without_temperature_is_refused_before_training(small):
    small.model.logit_scale = None
    with pytest.raises(I0TError, match="hold no temperature. Take a model that has one"):
        prepare_encoder(small, recipe(trains="heads", heads="batch_norm"))


def test_kept_positions_stay_bit_identical_in_training_while_all_else_moves(small):
    settings = recipe()
    prepare_encoder(small, settings)
    assert small.context_length == 248
    optimizer = build_optimizer(small, freeze(small, settings), settings)
    before = {key: value.detach().clone() for key, value in small.model.named_parameters()}
    tokens = small.tokenize([words(60), "a red star " * 20, words(40) + " red"])
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    for _ in range(3):
        images, texts = small(pixels, tokens)
        optimizer.zero_grad()
        F.cross_entropy(10 * images @ texts.T, torch.arange(3)).backward()
        optimizer.step()
    after = dict(small.model.named_parameters())
    positions = after["positional_embedding"] - before["positional_embedding"]
    assert after["positional_embedding"][:20].equal(before["positional_embedding"][:20])
    assert (positions[20:62].abs().amax(dim=1) > 0).all()  # all that the longest text of 62 tokens uses
    for key, value in after.items():
        assert key == "logit_scale" or largest(value - before[key]) > 0, key
    unused = "token_embedding.weight"
    decayed = before[unused][5] * (1 - 1e-2 * 0.5) ** 3  # weight decay is on, only not for positions
    torch.testing.assert_close(after[unused][5], decayed)


# --- attention dropout -----------------------------------------------------------------------


def test_attention_dropout_gives_two_views_in_train_mode_only(small, pictures):
    assert set_attention_dropout(small, 0.5) == 4
    pixels = torch.stack([small.preprocess(picture) for picture in pictures])
    tokens = small.tokenize(TEXTS)
    with torch.no_grad():
        small.train()
        for one, other in zip(small(pixels, tokens), small(pixels, tokens), strict=True):
            assert ((one - other).abs().amax(dim=1) > 1e-5).all(), "every item, in both encoders"
        set_attention_dropout(small, 0.0)
        plain = small(pixels, tokens)
        for one, other in zip(plain, small(pixels, tokens), strict=True):
            assert one.equal(other)
        set_attention_dropout(small, 0.5)
        small.eval()
        for one, other in zip(plain, small(pixels, tokens), strict=True):
            assert largest(one - other) <= 1e-6


def test_dropout_is_refused_for_an_encoder_without_it():
    """A ResNet has no attention layers, so both views of an image would be one."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "layers": 1, "width": 16, "heads": 2}
    encoder = build_encoder({"model": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}}, name="resnet")
    assert set_attention_dropout(encoder, 0.0) == 1
    with pytest.raises(I0TError, match="resnet: no attention layers"):
        set_attention_dropout(encoder, 0.1)

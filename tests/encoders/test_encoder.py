"""Encoding texts and images of all kinds, and the encoder's own description."""

from __future__ import annotations

import copy
import random

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from small_clip import TEXTS, largest, words
from torch.nn import functional as F

from i0t import Encoder, I0TError, load_encoder
from i0t.data.items import open_image
from i0t.encoders import EncodeOptions
from i0t.encoders import encode as module
from i0t.encoders.encode import encode_pictures, encode_texts
from i0t.encoders.heads import NormHeads
from i0t.encoders.openclip import build_encoder, set_attention_dropout
from i0t.encoders.text_batches import token_lengths
from i0t.encoders.tokenizers import END_OF_TEXT, WordTokenizer
from i0t.errors import NoPictureError

PLAIN = EncodeOptions(cache=False, progress=False)


def uncut(encoder: Encoder, tokens: torch.Tensor) -> torch.Tensor:
    """Text features as open_clip gives them, all positions computed."""
    return F.normalize(encoder.model.encode_text(tokens), dim=-1)


# --- texts -----------------------------------------------------------------------------------


def test_text_cut_to_the_longest_of_its_batch_is_the_uncut_encoding(tiny):
    tokens = tiny.tokenize(TEXTS)
    with torch.no_grad():
        assert largest(tiny.features_of_tokens(tokens) - uncut(tiny, tokens)) <= 1e-6
        assert largest(tiny.features_of_tokens(tokens[:1]) - uncut(tiny, tokens[:1])) <= 1e-6
        full = tiny.tokenize([words(300), "a red star"])
        assert largest(tiny.features_of_tokens(full) - uncut(tiny, full)) <= 1e-6


def test_cut_text_gives_the_gradients_of_the_uncut(tiny):
    tokens = tiny.tokenize(TEXTS)
    parameters = {name: p for name, p in tiny.model.named_parameters() if not name.startswith("visual")}
    parameters.pop("logit_scale")
    direction = torch.randn(len(TEXTS), tiny.embed_dim, generator=torch.Generator().manual_seed(2))
    cut, whole = (
        torch.autograd.grad((features * direction).sum(), list(parameters.values()))
        for features in (tiny.features_of_tokens(tokens), uncut(tiny, tokens))
    )
    for name, one, other in zip(parameters, cut, whole, strict=True):
        assert largest(other) > 0, name
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_only_the_tokens_of_the_longest_are_computed(tiny):
    tokens = tiny.tokenize(["a red star", "a big green square above"])
    widths = []
    handle = tiny.model.token_embedding.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    tiny.features_of_tokens(tokens)
    handle.remove()
    assert widths == [7]
    assert token_lengths(tokens).tolist() == [5, 7]
    assert tiny.model.positional_embedding.shape[0] == tiny.model.context_length == 248  # exchanged for one call


@pytest.mark.parametrize("batch_size", [1, 3])
def test_texts_do_not_depend_on_batch_size_and_order(tiny, batch_size):
    whole = tiny.encode_texts(TEXTS, batch_size=64)
    assert whole.dtype == torch.float32 and whole.shape == (len(TEXTS), 128)
    assert largest(whole.norm(dim=1) - 1) < 1e-6
    assert largest(tiny.encode_texts(TEXTS, batch_size=batch_size) - whole) <= 1e-6
    backwards = tiny.encode_texts(TEXTS[::-1], batch_size=batch_size).flip(0)
    assert largest(backwards - whole) <= 1e-6
    cosines = whole @ whole.T - torch.eye(len(TEXTS))
    cosines[1, 6] = cosines[6, 1] = 0  # the text that stands twice
    assert cosines.max() < 0.999, "texts with equal embeddings prove nothing"


def test_vectors_before_the_last_normalisation_are_the_models_own(tiny):
    raw = tiny.encode_texts(TEXTS, normalize=False)
    with torch.no_grad():
        assert largest(raw - tiny.model.encode_text(tiny.tokenize(TEXTS))) < 1e-5
    assert largest(F.normalize(raw, dim=-1) - tiny.encode_texts(TEXTS)) < 1e-6


def test_equal_texts_get_equal_bits(tiny):
    """Ties in a ranking must stay ties, wherever the texts stand."""
    texts = ["a red star", *TEXTS, words(100), "a red star"] * 3
    features = tiny.encode_texts(texts, batch_size=2)
    for text in set(texts):
        rows = [row for row, other in enumerate(texts) if other == text]
        assert all(features[row].equal(features[rows[0]]) for row in rows)


def test_truncation_keeps_the_end_token_and_is_counted(tiny):
    fits, over = words(246), words(247)  # with start and end: 248, the context, and one more
    tokens = tiny.tokenize([fits, over])
    assert tokens.shape == (2, 248)
    assert tokens[:, -1].tolist() == [END_OF_TEXT] * 2
    found = encode_texts(tiny, [fits, over, "short", over, words(400)], PLAIN)
    assert found.truncated == 2  # distinct texts
    assert np.abs(found.features[1] - found.features[0]).max() <= 1e-6  # what is kept is the beginning
    assert encode_texts(tiny, [fits], PLAIN).truncated == 0


def test_tokenizer_that_remembers_words_gives_open_clips_ids():
    plain, generator = open_clip.SimpleTokenizer(context_length=77), random.Random(0)
    ranges = [range(32, 127), range(160, 0x2FFF), range(0x1F300, 0x1F6FF)]
    odd = ["".join(chr(generator.choice(generator.choice(ranges))) for _ in range(40)) for _ in range(500)]
    texts = [*TEXTS, "", "<end_of_text> a <START_OF_TEXT>", "it's \u0130 \u017f don't", "&amp;lt; x", *odd, *TEXTS]
    assert WordTokenizer(plain)(texts).equal(plain(texts))


def test_workers_tokenise_many_texts_to_the_same_ids_and_leave_the_random_state(tiny, monkeypatch):
    monkeypatch.setattr(module, "TOKENIZED_TOGETHER", 2)
    before = torch.get_rng_state()
    assert module._tokenized(tiny, TEXTS, 2).equal(tiny.tokenize(TEXTS))
    assert torch.get_rng_state().equal(before)


def test_no_text_is_an_error(tiny):
    with pytest.raises(I0TError, match="no text to encode"):
        tiny.encode_texts([])


# --- images --------------------------------------------------------------------------------


def test_images_from_path_and_from_memory_are_equal(tiny, pictures, tmp_path):
    for row, picture in enumerate(pictures):
        picture.save(tmp_path / f"{row}.png")
    features = tiny.encode_images(pictures)
    assert features.dtype == torch.float32 and features.shape == (len(pictures), 128)
    assert largest(features.norm(dim=1) - 1) < 1e-6
    assert tiny.encode_images([tmp_path / f"{row}.png" for row in range(5)]).equal(features)
    assert tiny.encode_images([str(tmp_path / f"{row}.png") for row in range(5)]).equal(features)
    found = encode_pictures(tiny, pictures, PLAIN)
    assert torch.from_numpy(found.features).equal(features)
    assert found.kept == list(range(5)) and found.unreadable == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_images_do_not_depend_on_batch_size_and_order(tiny, pictures, batch_size):
    whole = tiny.encode_images(pictures)
    assert largest(tiny.encode_images(pictures, batch_size=batch_size) - whole) <= 1e-6
    assert largest(tiny.encode_images(pictures[::-1], batch_size=batch_size).flip(0) - whole) <= 1e-6
    assert largest(whole[0] - whole[1]) > 1e-3, "images with equal embeddings prove nothing"


COLOURS = np.array([[[255, 0, 0], [0, 255, 255]], [[9, 200, 31], [255, 255, 255]]], np.uint8)  # (2, 2, 3)
GREYS = np.array([[0, 255], [77, 128]], np.uint8)


def picture_of_mode(mode: str) -> tuple[Image.Image, np.ndarray]:
    """An image and its RGB pixels."""
    colour, grey = Image.fromarray(COLOURS), Image.fromarray(GREYS)
    shown = np.stack([GREYS] * 3, axis=-1)
    if mode == "P":
        return colour.quantize(4), COLOURS
    if mode == "RGBA":
        return Image.fromarray(np.dstack([COLOURS, np.full((2, 2), 255, np.uint8)])), COLOURS
    if mode == "CMYK":
        return Image.fromarray(np.dstack([255 - COLOURS, np.zeros((2, 2), np.uint8)]), mode="CMYK"), COLOURS
    if mode == "LA":
        return Image.merge("LA", [grey, Image.new("L", (2, 2), 255)]), shown
    if mode == "1":
        return Image.fromarray(GREYS > 100), np.where(shown > 100, 255, 0)
    if mode == "I;16":
        return Image.fromarray(GREYS.astype(np.uint16) * 257), shown
    return grey, shown


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "LA", "1", "L", "I;16"])
def test_images_of_every_mode_show_their_colours(tiny, tmp_path, mode):
    picture, shown = picture_of_mode(mode)
    assert picture.mode == mode
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    picture.save(path)
    assert Image.open(path).mode == mode
    for source in (path, picture):
        read = open_image(source)
        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), shown)
    expected = tiny.encode_images([Image.fromarray(shown.astype(np.uint8))])
    assert tiny.encode_images([path]).equal(expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_named_or_skipped_and_counted(tiny, spoiled, workers):
    with pytest.raises(I0TError, match=r"1\.jpg: unreadable image.*--skip-unreadable"):
        tiny.encode_images(spoiled, batch_size=2, workers=workers)
    found = encode_pictures(tiny, spoiled, EncodeOptions(2, workers, skip_unreadable=True, cache=False, progress=False))
    assert found.kept == [0, 2, 6]
    reasons = ["1.jpg: unreadable", "3.jpg: unreadable", "4.jpg: unreadable", "5.jpg: no such image"]
    for reason, error in zip(reasons, found.unreadable, strict=True):
        assert reason in error
    readable = encode_pictures(tiny, [spoiled[row] for row in (0, 2, 6)], PLAIN)
    assert np.abs(found.features - readable.features).max() <= 1e-6
    assert readable.unreadable == []


def test_no_image_left_is_an_error(tiny, spoiled):
    with pytest.raises(NoPictureError, match="no image to encode: 2 listed, 2 unreadable") as caught:
        tiny.encode_images(spoiled[3:5], skip_unreadable=True)
    assert len(caught.value.unreadable) == 2 and "3.jpg: unreadable" in caught.value.unreadable[0]
    with pytest.raises(I0TError, match="no image to encode: 0 listed"):
        tiny.encode_images([])


# --- state and heads -------------------------------------------------------------------------


def test_encoding_is_in_eval_mode_whatever_was_before(small, pictures):
    set_attention_dropout(small, 0.5)
    small.heads = NormHeads("batch_norm", 16)
    expected = small.encode_texts(TEXTS), small.encode_images(pictures)
    for row, encode in enumerate((lambda: small.encode_texts(TEXTS), lambda: small.encode_images(pictures))):
        small.train()
        assert encode().equal(expected[row])
    assert int(small.heads.image.num_batches_tracked) == int(small.heads.text.num_batches_tracked) == 0


def test_heads_are_part_of_the_features(small, pictures):
    plain = small.encode_texts(TEXTS), small.encode_images(pictures)
    small.heads = NormHeads("layer_norm", 16)
    with torch.no_grad():
        small.heads.image.weight[0] = 5
        small.heads.text.bias[1] = 5
        expected = small.heads(plain[0], "text"), small.heads(plain[1], "image")
    assert largest(small.encode_texts(TEXTS) - expected[0]) <= 1e-6
    assert largest(small.encode_images(pictures) - expected[1]) <= 1e-6


# --- which model it is -----------------------------------------------------------------------


def test_fingerprint_changes_with_any_weight(small):
    small.heads = NormHeads("batch_norm", 16)
    before = small.fingerprint
    prints = {before}
    state = small.state_dict()
    for value in state.values():
        entry = value.view(-1)[-1:]
        old = entry.clone()
        entry += 1 if value.dtype == torch.int64 else 1e-3
        prints.add(small.fingerprint)
        entry.copy_(old)
    assert len(state) > 70
    assert len(prints) == len(state) + 1
    assert small.fingerprint == before, "all is as it was"
    assert all(len(fingerprint) == 16 for fingerprint in prints)


def test_fingerprint_is_that_of_the_weights_as_they_are(small):
    """It is that of the present weights, not of those at the first call."""
    twin = copy.deepcopy(small)
    assert twin.fingerprint == small.fingerprint
    with torch.no_grad():
        twin.model.ln_final.weight[0] += 1
    assert twin.fingerprint != small.fingerprint


def test_fingerprint_tells_activations_apart(small):
    """ViT-B-32/openai and ViT-B-32-quickgelu/openai: the same weights, other features."""
    model = {**small.architecture["model"], "quick_gelu": True}
    other = build_encoder({**small.architecture, "model": model})
    other.load_state_dict(small.state_dict())
    assert largest(other.encode_texts(TEXTS) - small.encode_texts(TEXTS)) > 1e-5
    assert other.fingerprint != small.fingerprint


def test_same_seed_gives_the_same_model():
    prints = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        prints.append(load_encoder("tiny").fingerprint)
    assert prints[0] == prints[1] != prints[2]

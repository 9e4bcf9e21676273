"""Encoding: cut texts, batches, pictures of all kinds, stretched positions, dropout, names and errors.

Run: python -m pytest tests/test_encoder.py
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from i0t import Encoder, I0TError, load_encoder
from i0t.data.images import open_image
from i0t.encoders import EncodeOptions
from i0t.encoders.checkpoint import load_checkpoint, save_checkpoint
from i0t.encoders.encode import encode_pictures, encode_texts
from i0t.encoders.encoder import END_OF_TEXT, token_lengths
from i0t.encoders.heads import NormHeads
from i0t.encoders.openclip import build_encoder, set_attention_dropout, set_context_length
from i0t.encoders.positions import stretch_positions, stretch_text_tower
from i0t.errors import NoPictureError
from i0t.training.prepare import build_optimizer, freeze, prepare_encoder
from i0t.training.recipe import Recipe

PLAIN = EncodeOptions(cache=False, progress=False)

TEXTS = [
    "",
    "a red star",
    "two small blue circles in the lower left corner of a white field",
    "A photo depicts " + "a big green square above a yellow triangle, " * 4,
    "one <end_of_text> two",  # an end token within the text
    "größer ☃",
    "a red star",
    "! ! !",  # token 0 is also the padding
]


def jittered(encoder: Encoder) -> Encoder:
    """Move biases, norms and positions off their starting values, which hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.ndim == 1 or "positional" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return encoder


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    """The sample's architecture; tests leave it as it is."""
    torch.manual_seed(0)
    return jittered(load_encoder("tiny"))


@pytest.fixture
def small() -> Encoder:
    """A CLIP of a few thousand weights (and its vocabulary) with 77 text positions, to be changed at will."""
    vision = {"image_size": 32, "patch_size": 16, "layers": 2, "width": 16, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "layers": 2, "width": 16, "heads": 2}
    torch.manual_seed(1)
    return jittered(build_encoder({"model": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}}))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Noise pictures of several sizes."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (80, 50), (33, 90), (64, 64), (200, 200)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def largest(difference: torch.Tensor) -> float:
    return float(difference.detach().abs().max())


def uncut(encoder: Encoder, tokens: torch.Tensor) -> torch.Tensor:
    """Text features as open_clip gives them, all positions computed."""
    return F.normalize(encoder.model.encode_text(tokens), dim=-1)


def words(count: int) -> str:
    """A text of so many tokens, start and end not counted."""
    return " ".join(["star"] * count)


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
    assert cosines.max() < 0.999, "texts that cannot be told apart prove nothing"


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


def test_no_text_is_an_error(tiny):
    with pytest.raises(I0TError, match="no text to encode"):
        tiny.encode_texts([])


# --- pictures --------------------------------------------------------------------------------


def test_pictures_from_path_and_from_memory_are_equal(tiny, pictures, tmp_path):
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
def test_pictures_do_not_depend_on_batch_size_and_order(tiny, pictures, batch_size):
    whole = tiny.encode_images(pictures)
    assert largest(tiny.encode_images(pictures, batch_size=batch_size) - whole) <= 1e-6
    assert largest(tiny.encode_images(pictures[::-1], batch_size=batch_size).flip(0) - whole) <= 1e-6
    assert largest(whole[0] - whole[1]) > 1e-3, "pictures that cannot be told apart prove nothing"


COLOURS = np.array([[[255, 0, 0], [0, 255, 255]], [[9, 200, 31], [255, 255, 255]]], np.uint8)  # (2, 2, 3)
GREYS = np.array([[0, 255], [77, 128]], np.uint8)


def picture_of_mode(mode: str) -> tuple[Image.Image, np.ndarray]:
    """A picture and the RGB pixels that it shows."""
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
def test_pictures_of_every_mode_show_their_colours(tiny, tmp_path, mode):
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


@pytest.fixture
def spoiled(pictures: list[Image.Image], tmp_path: Path) -> list[Path]:
    """Good pictures in rows 0, 2 and 6; between them what can be wrong with a picture."""
    paths = [tmp_path / f"{row}.jpg" for row in range(7)]
    for row in (0, 1, 2, 6):
        pictures[row % 5].save(paths[row])
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    paths[3].write_text("<html>404 not found</html>")
    paths[4].mkdir()
    return paths


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_pictures_are_named_or_skipped_and_counted(tiny, spoiled, workers):
    with pytest.raises(I0TError, match=r"1\.jpg: unreadable picture.*--skip-unreadable"):
        tiny.encode_images(spoiled, batch_size=2, workers=workers)
    found = encode_pictures(tiny, spoiled, EncodeOptions(2, workers, skip_unreadable=True, cache=False, progress=False))
    assert found.kept == [0, 2, 6]
    reasons = ["1.jpg: unreadable", "3.jpg: unreadable", "4.jpg: unreadable", "5.jpg: no such picture"]
    for reason, error in zip(reasons, found.unreadable, strict=True):
        assert reason in error
    readable = encode_pictures(tiny, [spoiled[row] for row in (0, 2, 6)], PLAIN)
    assert np.abs(found.features - readable.features).max() <= 1e-6
    assert readable.unreadable == []


def test_no_picture_left_is_an_error(tiny, spoiled):
    with pytest.raises(NoPictureError, match="no picture to encode: 2 listed, 2 unreadable") as caught:
        tiny.encode_images(spoiled[3:5], skip_unreadable=True)
    assert len(caught.value.unreadable) == 2 and "3.jpg: unreadable" in caught.value.unreadable[0]
    with pytest.raises(I0TError, match="no picture to encode: 0 listed"):
        tiny.encode_images([])


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
    """Rows 5 | 1, 3, 4 by 2: halfway between, and after the last on with its slope of 1."""
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


def test_only_clips_own_text_tower_is_stretched():
    with pytest.raises(I0TError, match="Linear: only CLIP's own text tower"):
        stretch_text_tower(nn.Linear(2, 2), 248)


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
    """As are those of checkpoints from before it was recorded."""
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
            assert ((one - other).abs().amax(dim=1) > 1e-5).all(), "every item, in both towers"
        set_attention_dropout(small, 0.0)
        plain = small(pixels, tokens)
        for one, other in zip(plain, small(pixels, tokens), strict=True):
            assert one.equal(other)
        set_attention_dropout(small, 0.5)
        small.eval()
        for one, other in zip(plain, small(pixels, tokens), strict=True):
            assert largest(one - other) <= 1e-6


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


def test_dropout_is_refused_where_a_tower_cannot_drop():
    """A ResNet has no attention layers, so both views of a picture would be one."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "layers": 1, "width": 16, "heads": 2}
    encoder = build_encoder({"model": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}}, name="resnet")
    assert set_attention_dropout(encoder, 0.0) == 1
    with pytest.raises(I0TError, match="resnet: no attention layers"):
        set_attention_dropout(encoder, 0.1)


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
    """Not of the weights as they were when it was first asked for."""
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


# --- names and errors ------------------------------------------------------------------------


def test_loaded_encoder_is_ready():
    encoder = load_encoder("tiny", "cpu")
    assert not encoder.training
    assert (encoder.name, encoder.embed_dim, encoder.context_length, encoder.is_small) == ("tiny", 128, 248, True)
    assert encoder.device == torch.device("cpu")
    assert float(encoder.logit_scale.detach()) == pytest.approx(1 / 0.07, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinny", r"tinny: no such model\. .*there are: .*tiny"),
        ("ViT-B-32", r"ViT-B-32: no such model\..*ARCH/TAG"),
        ("", "no such model"),
        ("ViT-B-32/", "ViT-B-32: no weights .*openai"),
        ("ViT-B-32/no-such-tag", "ViT-B-32: no weights 'no-such-tag'.*openai.*random"),
        ("No-Such-Arch/openai", "No-Such-Arch: not an open_clip architecture"),
        ("gone.safetensors", r"gone\.safetensors: no such checkpoint"),
        ("checkpoints/gone.pt", r"gone\.pt: no such checkpoint"),
    ],
)
def test_unknown_models_are_refused_with_what_is_known(name, message):
    with pytest.raises(I0TError, match=message):
        load_encoder(name)


LOADER = "loader: i0t.encoders.openclip:build_encoder\n"
VISION = "{image_size: 32, patch_size: 16, layers: 1, width: 16, head_width: 8}"
TEXT = "{context_length: 77, layers: 1, width: 16, heads: 2}"


def architecture(dim: str = "24", vision: str = VISION, text: str = TEXT, more: str = "") -> str:
    """A spec of a small CLIP, with what is to be wrong with it."""
    model = f"{{embed_dim: {dim}, vision_cfg: {vision}, text_cfg: {text}}}"
    return f"{LOADER}architecture: {{model: {model}{more}}}\n"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "- tiny",
        "loader: [unclosed",
        "architecture: {}",
        "loader: ''",
        "loader: no.such.module:load",
        "loader: i0t.encoders.openclip:no_such_function",
        "loader: 3",
        LOADER,
        f"{LOADER}architecture: {{}}\nunknown: 1",
        f"{LOADER}architecture: {{}}",
        f"{LOADER}architecture: {{model: {{}}}}",
        f"{LOADER}architecture:",
        f"{LOADER}architecture: [model]",
        f"{LOADER}architecture: {{model: }}",
        architecture(dim="two"),
        architecture(dim="-2"),
        architecture(vision="{imagesize: 32}"),
        architecture(vision=VISION.replace("width: 16, head_width: 8", "width: 20, head_width: 6")),  # 20 / 3 a head
        architecture(vision=VISION.replace("head_width: 8", "head_width: 0")),
        architecture(text=""),
        architecture(more=", preprocess: {sizes: 32}"),
        architecture(more=", preprocess: {interpolation: none}"),
    ],
)
def test_bad_spec_is_refused_by_name(tmp_path, monkeypatch, spec):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text(spec)
    monkeypatch.setenv("I0T_CONFIGS", str(tmp_path))
    with pytest.raises(I0TError, match="mine"):
        load_encoder("mine")


@pytest.mark.parametrize("name", ["tiny:heads", "tiny:heads=[1", "tiny:no_such_value=1"])
def test_changed_value_that_cannot_be_read_is_shown(name):
    with pytest.raises(I0TError, match=r"--model tiny:"):
        load_encoder(name)


def test_spec_of_the_users_own_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text(architecture())
    monkeypatch.setenv("I0T_CONFIGS", str(tmp_path))
    encoder = load_encoder("mine")
    assert (encoder.name, encoder.embed_dim, encoder.is_small) == ("mine", 24, False)
    with pytest.raises(I0TError, match=r"there are: mine\)"):
        load_encoder("tiny")


@pytest.mark.parametrize("error", [RuntimeError("offline\nand more"), OSError("no route to host")])
def test_weights_that_cannot_be_had_are_told_with_the_remedy(monkeypatch, capsys, error):
    def offline(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(open_clip, "create_model_and_transforms", offline)
    with pytest.raises(I0TError) as caught:
        load_encoder("clip")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("ViT-B-32-quickgelu/openai", str(error).splitlines()[0], "cache", "--base tiny"):
        assert part in message
    assert capsys.readouterr().out == ""

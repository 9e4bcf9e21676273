"""BLIP and BLIP-2 against LAVIS: tokens, pixels, embeddings and similarities, and that mistakes would show.

Run: python -m pytest tests/test_parity_blip.py
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from parity_fixture import TOLERANCE, Fixture, largest_difference, write_vocabulary
from safetensors.torch import load_file, save_file
from torch import nn

from baselines import blip, blip2, lavis_layout
from baselines.lavis_text import LavisTokenizer, clean_caption
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_texts
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError

VISION_LAYERS = 3  # of the fixtures' image encoder


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocabulary(tmp_path_factory.mktemp("bert") / "vocab.txt")


@pytest.fixture(scope="session", params=["blip", "blip2", "blip2_pretrained"])
def rival(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, vocabulary: Path):
    """(name, what LAVIS returned, a function that loads the checkpoint or another one like it)."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    fixture = Fixture.read(name)
    path = fixture.save(folder / "checkpoint.pth")
    options = {"vocabulary": vocabulary}
    if name == "blip2_pretrained":
        options |= {"vision_file": fixture.save(folder / "eva.pth", "eva"), "vision_layers": VISION_LAYERS}
    module = blip if name == "blip" else blip2
    return name, fixture, lambda file=path, **changes: module.load(name, file, **options | changes)


def wrong_by(encoder: Encoder, fixture: Fixture) -> float:
    """Largest difference of the embeddings of the fixture's pixels and tokens."""
    with torch.no_grad():
        images, texts = encoder(fixture.tensor("pixels"), fixture.tensor("tokens"))
    return max(
        largest_difference(images, fixture.arrays["image_embeddings"]),
        largest_difference(texts, fixture.arrays["text_embeddings"]),
    )


def test_embeddings_equal_the_original(rival):
    _, fixture, load = rival
    encoder = load()
    assert wrong_by(encoder, fixture) < TOLERANCE
    # From images and captions, through our own preprocessing, tokenizer and batching.
    images = encoder.encode_images(fixture.pictures, batch_size=3)
    found = encode_texts(encoder, fixture.captions, EncodeOptions(batch_size=2, cache=False))
    texts = torch.from_numpy(found.features)
    assert largest_difference(images, fixture.arrays["image_embeddings"]) < TOLERANCE
    assert largest_difference(texts, fixture.arrays["text_embeddings"]) < TOLERANCE
    assert images.shape[-1] == encoder.embed_dim
    assert found.truncated == 2  # the captions of more than 50 words
    assert encoder.context_length == 512


def test_pixels_and_tokens_equal_the_original(rival):
    _, fixture, load = rival
    encoder = load()
    pixels = torch.stack([encoder.preprocess(picture.convert("RGB")) for picture in fixture.pictures])
    assert largest_difference(pixels, fixture.arrays["pixels"]) < 1e-6
    assert [clean_caption(caption) for caption in fixture.captions] == fixture.spec["processed_captions"]
    tokens = encoder.tokenize(fixture.captions)
    assert tokens.equal(fixture.tensor("tokens"))
    assert (tokens != 0).long().equal(fixture.tensor("attention_mask"))


@pytest.mark.parametrize("name", ["blip2", "blip2_pretrained"])
def test_similarity_is_the_best_over_queries(name, tmp_path, vocabulary):
    from i0t.metrics.caption_scores import SCORES
    from i0t.metrics.ranking import score_blocks

    fixture = Fixture.read(name)
    images, texts = fixture.arrays["image_embeddings"], fixture.arrays["text_embeddings"]
    ours = np.concatenate([scores for _, scores in score_blocks(images, texts)])
    assert np.abs(ours - fixture.arrays["similarity"]).max() < TOLERANCE
    rows, columns = np.divmod(np.arange(ours.size), len(texts))
    scores = SCORES["i0t_s"].reference_free(images[rows], texts[columns])
    assert np.abs(scores - fixture.arrays["similarity"].ravel()).max() < TOLERANCE


def test_padding_changes_nothing(rival):
    _, fixture, load = rival
    encoder, tokens = load(), fixture.tensor("tokens")
    with torch.no_grad():
        padded = encoder.features_of_tokens(nn.functional.pad(tokens, (0, 40)))
        assert padded.equal(encoder.features_of_tokens(tokens))


def test_every_key_is_used_and_every_parameter_filled(rival, tmp_path):
    name, fixture, load = rival
    too_many = fixture.save(tmp_path / "too_many.pth", **{"strange.weight": torch.zeros(2)})
    with pytest.raises(I0TError, match=r"too_many\.pth: .*left over: strange\.weight"):
        load(too_many)
    with pytest.raises(I0TError, match=r"too_few\.pth: .*missing: text_proj(ection)?\.bias"):
        load(fixture.save(tmp_path / "too_few.pth", **{"text_proj.bias": None}))
    with pytest.raises(I0TError, match=r"no_width\.pth: .*missing: vision_proj(ection)?\.weight"):
        load(fixture.save(tmp_path / "no_width.pth", **{"vision_proj.weight": None}))
    if name == "blip":
        unused = {"text_decoder.bert.x": torch.zeros(1), "visual_encoder_m.norm.weight": torch.zeros(1)}
        unused |= {"image_queue": torch.zeros(1), "queue_ptr": torch.zeros(1), "itm_head.bias": torch.zeros(2)}
        assert load(fixture.save(tmp_path / "whole.pth", **unused)).fingerprint == load().fingerprint


def test_mistakes_would_be_seen(rival, monkeypatch):
    name, fixture, load = rival
    encoder = load()
    with torch.no_grad():  # an id that is no padding and no text, so that padding is attended to
        unmasked = encoder.features_of_tokens(torch.where(fixture.tensor("tokens") == 0, 1, fixture.tensor("tokens")))
    assert largest_difference(unmasked, fixture.arrays["text_embeddings"]) > 10 * TOLERANCE
    lavis_layout.set_eps(encoder.model.model.vision_model, 1e-5)  # transformers' own for BLIP
    assert wrong_by(encoder, fixture) > 10 * TOLERANCE
    module, constant = (blip, "BERT_HEAD_WIDTH") if name == "blip" else (blip2, "EVA_HEAD_WIDTH")
    with monkeypatch.context() as patch:
        patch.setattr(module, constant, getattr(module, constant) // 2)
        assert wrong_by(load(), fixture) > 10 * TOLERANCE
    encoder = load()
    for layer in encoder.model.modules():
        if isinstance(layer, nn.LayerNorm) and layer.eps == 1e-12:
            layer.eps = 1e-5  # BERT's
    assert wrong_by(encoder, fixture) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["blip2", "blip2_pretrained"])
def test_ln_vision_keeps_its_own_epsilon(name, tmp_path, vocabulary):
    fixture = Fixture.read(name)
    files = {"vision_file": fixture.save(tmp_path / "eva.pth", "eva")} if name == "blip2_pretrained" else {}
    load = partial(blip2.load, name, fixture.save(tmp_path / "c.pth"), vocabulary, vision_layers=VISION_LAYERS)
    encoder = load(**files)
    encoder.model.model.vision_model.post_layernorm.eps = lavis_layout.VISION_EPS
    assert wrong_by(encoder, fixture) > 2 * TOLERANCE


def test_the_image_encoder_is_needed_once(tmp_path, vocabulary):
    whole, headless = Fixture.read("blip2"), Fixture.read("blip2_pretrained")
    eva = headless.save(tmp_path / "eva.pth", "eva")
    with pytest.raises(I0TError, match=r"headless\.pth: needs vision_file"):
        blip2.load("blip2", headless.save(tmp_path / "headless.pth"), vocabulary)
    with pytest.raises(I0TError, match=r"whole\.pth: has its own image encoder"):
        blip2.load("blip2", whole.save(tmp_path / "whole.pth"), vocabulary, eva)
    with pytest.raises(I0TError, match=r"eva\.pth: 4 blocks, 39 are needed"):
        blip2.load("blip2", tmp_path / "headless.pth", vocabulary, eva)


@pytest.mark.parametrize("rival", ["blip", "blip2"], indirect=True)
def test_hub_checkpoints_equal_lavis_own(rival, tmp_path, vocabulary):
    name, fixture, load = rival
    ours = load().model.model
    # What the hub holds: transformers' layout with the matching head, and transformers' epsilons.
    ours.config.vision_config.layer_norm_eps = 1e-5
    theirs = type(ours)(ours.config)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    theirs.save_pretrained(tmp_path / "hub")
    encoder = {"blip": blip, "blip2": blip2}[name].load_hub(name, str(tmp_path / "hub"), vocabulary)
    assert wrong_by(encoder, fixture) < TOLERANCE
    assert encoder.architecture == load().architecture
    with pytest.raises(I0TError, match="hold no temperature"):
        _ = encoder.logit_scale
    weights = load_file(tmp_path / "hub" / "model.safetensors")
    del weights["query_tokens" if name == "blip2" else "text_proj.bias"]
    save_file(weights, tmp_path / "hub" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(I0TError, match=r"hub: not a Blip2?ForImageTextRetrieval\. Keys missing: (query|text_proj)"):
        {"blip": blip, "blip2": blip2}[name].load_hub(name, str(tmp_path / "hub"), vocabulary)


def test_the_hub_is_used_only_by_name_and_its_absence_is_reported(monkeypatch, tmp_path):
    def no_network(*arguments: object, **options: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(I0TError, match=r"no <data_dir>/bert-base-uncased/vocab\.txt exists.*no network"):
        LavisTokenizer("bert-base-uncased", 512)
    monkeypatch.setattr(blip.BlipForImageTextRetrieval, "from_pretrained", no_network)
    with pytest.raises(
        I0TError, match="blip-itm-base-coco: neither in the cache.*HF_HUB_OFFLINE is set.*authors' own file"
    ):
        blip.load_hub("blip", "Salesforce/blip-itm-base-coco", tmp_path)


def test_tokenizer_refuses_another_vocabulary_and_cuts(tmp_path, vocabulary):
    other = tmp_path / "vocab.txt"
    other.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    with pytest.raises(I0TError, match="not bert-base-uncased's vocabulary"):
        LavisTokenizer(other, 512)
    tokenizer = LavisTokenizer(vocabulary, 6)
    ids = tokenizer(["a red ball on a table", ""])
    assert ids.tolist()[0][-1] == 102
    assert ids.tolist()[1] == [101, 102, 0, 0, 0, 0]
    assert [tokenizer.is_cut(text) for text in ("a red ball", "a red ball on a", "")] == [False, True, False]
    assert LavisTokenizer(vocabulary, 512).is_cut("a " * 51)
    assert not LavisTokenizer(vocabulary, 512).is_cut("a " * 50)

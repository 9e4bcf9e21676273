"""Architectures of open_clip with random weights: each loads, encodes, and reports no text as cut that is not.

A few by default, with one layer; with I0T_MATRIX=all every one, with all its layers where they fit into 2 GB and with
one layer otherwise (about half an hour on two cores, 6 GB of memory):
I0T_MATRIX=all python -m pytest tests/encoders/test_open_clip_matrix.py
"""

from __future__ import annotations

import gc
import os
from typing import Any

import open_clip
import pytest
import timm
import torch
import transformers as tf
from library_models import bert_tokenizer, make, xlm_tokenizer
from PIL import Image

from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_pictures, encode_texts
from i0t.encoders.openclip import load_pretrained

PLAIN = EncodeOptions(batch_size=2, cache=False, progress=False)
LARGEST = 2 * 1024**3  # bytes of float32 weights
VOCABULARY = 49408  # CLIP's; no tokenizer here needs more
# A ResNet, no causal mask and the last position (CLIPA), end tokens found by their id, CoCa, SigLIP with a ViT of timm,
# other towers of timm, text models of transformers with and without a decoder.
FEW = (
    "RN50", "ViT-L-14-CLIPA", "ViT-L-14-worldwide", "coca_ViT-B-32", "ViT-B-16-SigLIP", "convnext_tiny",
    "MobileCLIP-S1", "PE-Core-T-16-384", "roberta-ViT-B-32", "mt5-base-ViT-B-32", "nllb-clip-base-siglip",
)  # fmt: skip
ALL = os.environ.get("I0T_MATRIX") == "all"
ROBERTA = {"max_position_embeddings": 514, "layer_norm_eps": 1e-5}
WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
# The decoders, of one layer here, are made and thrown away.
MT5 = {"vocab_size": 250112, "num_decoder_layers": 1, "feed_forward_proj": "gated-gelu"}
NLLB = {"vocab_size": 256206, "decoder_layers": 1, "max_position_embeddings": 1024, "scale_embedding": True}
TEXT_MODELS = {  # sizes of the text towers of the hub, as their publishers state them in config.json
    "roberta-base": tf.RobertaConfig(vocab_size=50265, type_vocab_size=1, **ROBERTA),
    "xlm-roberta-base": tf.XLMRobertaConfig(vocab_size=250002, type_vocab_size=1, **ROBERTA),
    "xlm-roberta-large": tf.XLMRobertaConfig(vocab_size=250002, type_vocab_size=1, **ROBERTA, **WIDE),
    "google/mt5-base": tf.MT5Config(d_model=768, d_ff=2048, num_layers=12, num_heads=12, **MT5),
    "google/mt5-xl": tf.MT5Config(d_model=2048, d_ff=5120, num_layers=24, num_heads=32, **MT5),
    "facebook/nllb-200-distilled-600M": tf.M2M100Config(encoder_layers=12, **NLLB),
    "facebook/nllb-200-distilled-1.3B": tf.M2M100Config(encoder_layers=24, encoder_ffn_dim=8192, **NLLB),
}
LAYERS = ("num_hidden_layers", "num_layers", "encoder_layers")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("tokenizers")
    siglip = tf.AutoTokenizer.from_pretrained(make("siglip", root))
    return {"siglip": siglip, "bert": bert_tokenizer(), "xlm": xlm_tokenizer()}


@pytest.fixture
def no_hub(tokenizers, monkeypatch) -> None:
    """Small tokenizers and configurations in place of the hub's, with the padding of those."""

    def tokenizer(name: str, **_: Any) -> Any:
        kind = "bert" if "bert-" in name and "roberta" not in name else "siglip" if "SigLIP" in name else "xlm"
        return tokenizers[kind]

    monkeypatch.setattr(tf.AutoTokenizer, "from_pretrained", tokenizer)
    monkeypatch.setattr(tf.AutoConfig, "from_pretrained", lambda name, **_: TEXT_MODELS[name])
    for name in ("normal_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_"):  # slow, for nothing
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor.data.uniform_(-0.03, 0.03))


def make_shallow(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Build this configuration with one layer of each kind, and no more than CLIP's vocabulary."""
    text_model, create = config["text_cfg"].get("hf_model_name"), timm.create_model
    if not text_model:
        config["text_cfg"]["vocab_size"] = min(config["text_cfg"].get("vocab_size", VOCABULARY), VOCABULARY)
    for part in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        layers = config.get(part, {}).get("layers", 1)
        config.get(part, {})["layers"] = [1] * 4 if isinstance(layers, list) else 1
    if text_model:
        sizes = {key: 1 for key in LAYERS if hasattr(TEXT_MODELS[text_model], key)}
        small = {**TEXT_MODELS[text_model].to_dict(), **sizes, "vocab_size": VOCABULARY}
        monkeypatch.setitem(TEXT_MODELS, text_model, type(TEXT_MODELS[text_model]).from_dict(small))

    def one_block(name: str, **settings: Any) -> Any:
        for depth in ({"depth": 1}, {"depths": (1, 1, 1, 1)}, {"layers": (1, 1, 1, 1)}):
            try:
                return create(name, **settings, **depth)
            except TypeError:  # another family of timm
                continue
        return create(name, **settings)

    monkeypatch.setattr(timm, "create_model", one_block)
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: config)


def size_of(architecture: str) -> int:
    """Bytes of the weights, from a model without memory."""
    with torch.device("meta"):
        model = open_clip.create_model(architecture, device="meta", load_weights=False, pretrained_text=False)
    return sum(parameter.numel() * 4 for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", open_clip.list_models() if ALL else FEW)
def test_every_architecture_loads_and_encodes(architecture, no_hub, monkeypatch):
    config = open_clip.get_model_config(architecture)
    if not ALL or size_of(architecture) > LARGEST:
        make_shallow(config, monkeypatch)
    encoder = load_pretrained(architecture, "random", architecture)
    try:
        images = encode_pictures(encoder, [Image.new("RGB", (90, 70), colour) for colour in ("red", "green")], PLAIN)
        texts = ["a cat", "", "two dogs"]  # one SigLIP takes 16 tokens
        found = encode_texts(encoder, texts, PLAIN)
        assert images.features.shape == (2, config["embed_dim"]) and found.features.shape == (3, config["embed_dim"])
        assert found.truncated == 0, "no text is cut"
        assert encode_texts(encoder, [*texts, "cat " * 400], PLAIN).truncated == 1
        assert (encoder.logit_bias is not None) == ("init_logit_bias" in config)
    finally:
        del encoder
        gc.collect()

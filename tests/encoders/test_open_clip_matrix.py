"""Architectures of open_clip with random weights: each loads, encodes, and reports no text as cut that is not.

A few by default; all that fit into 2 GB with I0T_MATRIX=all (about half an hour on two cores):
I0T_MATRIX=all python -m pytest tests/encoders/test_open_clip_matrix.py
"""

from __future__ import annotations

import gc
import os
from typing import Any

import open_clip
import pytest
import torch
import transformers
from library_models import bert_tokenizer, make, xlm_tokenizer
from PIL import Image

from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_pictures, encode_texts
from i0t.encoders.openclip import load_pretrained

PLAIN = EncodeOptions(batch_size=2, cache=False, progress=False)
LARGEST = 2 * 1024**3  # bytes of float32 weights
# A ResNet, no causal mask and the last position (CLIPA), end tokens found by their id, CoCa: with one layer.
FEW = ("RN50", "ViT-L-14-CLIPA", "ViT-L-14-worldwide", "coca_ViT-B-32")
ALL = os.environ.get("I0T_MATRIX") == "all"
TEXT_MODELS = {  # sizes of the text towers of the hub, which are not at hand
    "roberta-base": transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "xlm-roberta-base": transformers.XLMRobertaConfig(vocab_size=250002, max_position_embeddings=514),
}
TOO_LARGE = ("xlm-roberta-large", "mt5-xl", "mt5-base")  # their configurations are not at hand


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("tokenizers")
    siglip = transformers.AutoTokenizer.from_pretrained(make("siglip", root))
    return {"siglip": siglip, "bert": bert_tokenizer(), "xlm": xlm_tokenizer()}


@pytest.fixture
def no_hub(tokenizers, monkeypatch) -> None:
    """Small tokenizers and configurations in place of the hub's, with the padding of those."""

    def tokenizer(name: str, **_: Any) -> Any:
        kind = "bert" if "bert-" in name and "roberta" not in name else "siglip" if "SigLIP" in name else "xlm"
        return tokenizers[kind]

    def config(name: str, **_: Any) -> Any:
        if name not in TEXT_MODELS:
            pytest.skip(f"the configuration of {name} is on the hub")
        return TEXT_MODELS[name]

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", tokenizer)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", config)
    for name in ("normal_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_"):  # slow, for nothing
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor.data.uniform_(-0.03, 0.03))


def shallow(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with one layer of each kind, and no more than CLIP's vocabulary."""
    config["text_cfg"]["vocab_size"] = min(config["text_cfg"].get("vocab_size", 49408), 49408)
    for part in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        layers = config.get(part, {}).get("layers", 1)
        config.get(part, {})["layers"] = [1] * 4 if isinstance(layers, list) else 1
    return config


def size_of(architecture: str) -> int:
    """Bytes of the weights, from a model without memory."""
    with torch.device("meta"):
        model = open_clip.create_model(architecture, load_weights=False, pretrained_text=False)
    return sum(parameter.numel() * 4 for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", open_clip.list_models() if ALL else FEW)
def test_every_architecture_loads_and_encodes(architecture, no_hub, monkeypatch):
    config = open_clip.get_model_config(architecture)
    if ALL:
        try:
            size = size_of(architecture)
        except (NotImplementedError, RuntimeError, TypeError) as error:
            size = 0
            print(architecture, "has no size on meta:", str(error)[:80])
        if size > LARGEST:
            pytest.skip(f"{size / 1024**3:.1f} GB")
    else:
        monkeypatch.setattr(open_clip, "get_model_config", lambda _: shallow(config))
    encoder = load_pretrained(architecture, "random", architecture)
    try:
        images = encode_pictures(encoder, [Image.new("RGB", (90, 70), colour) for colour in ("red", "green")], PLAIN)
        texts = ["a cat", "", "two dogs on the grass"]
        found = encode_texts(encoder, texts, PLAIN)
        assert images.features.shape == (2, config["embed_dim"]) and found.features.shape == (3, config["embed_dim"])
        assert found.truncated == 0, "no text is cut"
        assert encode_texts(encoder, [*texts, "cat " * 400], PLAIN).truncated == 1
        assert (encoder.logit_bias is not None) == ("init_logit_bias" in config)
    finally:
        del encoder
        gc.collect()

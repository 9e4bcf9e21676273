"""Common parts of LAVIS' checkpoints of BLIP and BLIP-2: parameter names, and sizes read from shapes.

Shapes: W width of an encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn

from baselines.state_dicts import count_indices, grid_side, head_count, need
from i0t.data.items import Preprocess

BERT_HEAD_WIDTH = 64  # also of BLIP's image encoder; 768 / 12
VISION_EPS = 1e-6  # of every LayerNorm in both image encoders; transformers' default for BLIP is 1e-5

# LAVIS' (timm's) names in an image encoder -> transformers' names.
VISION_NAMES = {
    r"^cls_token$": "embeddings.class_embedding",
    r"^pos_embed$": "embeddings.position_embedding",
    r"^patch_embed\.proj\.": "embeddings.patch_embedding.",
    r"^blocks\.": "encoder.layers.",
    r"\.norm([12])\.": r".layer_norm\1.",
    r"\.attn\.qkv\.": ".self_attn.qkv.",
    r"\.attn\.proj\.": ".self_attn.projection.",
    r"^norm\.": "post_layernorm.",
}


def vision_sizes(vision: Mapping[str, Tensor], head_width: int) -> dict[str, Any]:
    """Read the sizes of an image encoder with transformers' names, as arguments of its configuration.

    Raises:
        I0TError: a tensor is missing.
    """
    width, _, _, patch = need(vision, "embeddings.patch_embedding.weight").shape
    return {
        "hidden_size": width,
        "num_attention_heads": head_count(width, head_width),
        "num_hidden_layers": count_indices(vision, r"encoder\.layers\.(\d+)\."),
        "intermediate_size": len(need(vision, "encoder.layers.0.mlp.fc1.weight")),
        "patch_size": patch,
        "image_size": patch * grid_side(need(vision, "embeddings.position_embedding")[0]),
        "layer_norm_eps": VISION_EPS,
    }


def bert_sizes(bert: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the sizes of a BERT with LAVIS' names, as arguments of a configuration.

    Raises:
        I0TError: a tensor is missing.
    """
    vocabulary, width = need(bert, "embeddings.word_embeddings.weight").shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_attention_heads": head_count(width, BERT_HEAD_WIDTH),
        "num_hidden_layers": count_indices(bert, r"encoder\.layer\.(\d+)\."),
        "intermediate_size": len(need(bert, "encoder.layer.0.intermediate.dense.weight")),
        "max_position_embeddings": len(need(bert, "embeddings.position_embeddings.weight")),
    }


def log_scale(temperature: Tensor | None) -> nn.Parameter | None:
    """Convert LAVIS' temperature (a divisor) to the log of `Encoder`'s scale (a factor)."""
    return None if temperature is None else nn.Parameter(-torch.log(temperature.float()))


def set_eps(module: nn.Module, eps: float) -> None:
    """Set the epsilon of every LayerNorm in a module."""
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.eps = eps


def squashing_preprocess(image_size: int) -> Preprocess:
    """LAVIS' image preprocessing: resized to a square without a crop, CLIP's mean and deviation."""
    return image_transform_v2(PreprocessCfg(size=image_size, resize_mode="squash"), is_train=False)

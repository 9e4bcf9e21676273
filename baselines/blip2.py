"""BLIP-2's first stage, as in LAVIS: Q vectors per image (one per query token), one per caption.

Loads LAVIS' `blip2_pretrained.pth` (with `eva_vit_g.pth`), `blip2_finetune_coco.pth`, or a model of the
Hugging Face hub into transformers' classes. Source: salesforce/LAVIS, `blip2_models/blip2_qformer.py`.

Shapes: B batch, L tokens, Q queries, D embedding dimensions, W width of an encoder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2Config, Blip2ForImageTextRetrieval, Blip2QFormerConfig, Blip2VisionConfig

from baselines.hub import from_hub
from baselines.lavis_layout import (
    VISION_EPS,
    VISION_NAMES,
    bert_sizes,
    log_scale,
    set_eps,
    squashing_preprocess,
    vision_sizes,
)
from baselines.lavis_text import LavisTokenizer, cut_and_mask
from baselines.state_dicts import StateDict, below, count_indices, load_exactly, naming, need, read_state_dict, renamed
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError

EVA_HEAD_WIDTH = 88  # of EVA-CLIP's ViT-g; 1408 / 16
LN_VISION_EPS = 1e-5  # the norm after the image encoder has PyTorch's default, unlike the encoder

# Not needed for embeddings: matching head, language head, position ids.
_UNUSED = re.compile(r"itm_head\.|Qformer\.cls\.|Qformer\.bert\.embeddings\.position_ids$")
# Layers of the separate EVA file after its blocks; BLIP-2 uses the output before them.
_EVA_UNUSED = re.compile(r"(norm|fc_norm|head)\.(weight|bias)$")
_NAMES = {
    r"^ln_vision\.": "vision_model.post_layernorm.",
    r"^(vision|text)_proj\.": r"\1_projection.",
    r"^Qformer\.bert\.embeddings\.LayerNorm\.": "qformer.layernorm.",
    r"^Qformer\.bert\.embeddings\.": "embeddings.",
    r"^Qformer\.bert\.": "qformer.",
    r"attention\.self\.": "attention.attention.",
}


def load(
    name: str,
    file: str | Path,
    vocabulary: str | Path,
    vision_file: str | Path | None = None,
    vision_layers: int = 39,
) -> Encoder:
    """Load a BLIP-2 first-stage checkpoint in LAVIS' layout.

    LAVIS does not save frozen parameters, so the pretrained model has no image encoder; it comes from a
    second file. Models with a trained image encoder, such as the COCO model, need one file only.

    Args:
        name: name for records and errors.
        file: the checkpoint with the Q-Former.
        vocabulary: BERT's vocab.txt, or its name on the hub.
        vision_file: EVA-CLIP's file, for a checkpoint without an image encoder.
        vision_layers: number of its blocks that BLIP-2 uses; the file has one more.

    Raises:
        I0TError: another layout (with missing and unexpected keys), no image encoder or two, or no vocabulary.
    """
    with naming(file):
        source = {key: value for key, value in read_state_dict(file, "model").items() if not _UNUSED.match(key)}
        temperature = source.pop("temp", None)
        vision_state = below(source, "visual_encoder.")
        if bool(vision_state) == (vision_file is not None):
            have = "has its own image encoder: leave vision_file empty" if vision_state else "needs vision_file"
            raise I0TError(f"{have} (--model SPEC:vision_file=PATH).")
    if vision_file is not None:
        with naming(vision_file):
            vision_state = _eva_blocks(read_state_dict(vision_file), vision_layers)
    with naming(file):
        rest = {key: value for key, value in source.items() if not key.startswith("visual_encoder.")}
        vision = _fuse_biases(renamed(vision_state, VISION_NAMES))
        state = renamed(rest, _NAMES) | {f"vision_model.{key}": value for key, value in vision.items()}
        model = Blip2ForImageTextRetrieval(_config(source, state))
        model.add_module("itm_head", nn.Identity())
        load_exactly(model, state)
    return _encoder(name, model, log_scale(temperature), vocabulary)


def load_hub(name: str, hub: str, vocabulary: str | Path) -> Encoder:
    """Load a BLIP-2 of the Hugging Face hub, with the epsilons that BLIP-2 was trained with.

    Args:
        name: name for records and errors.
        hub: e.g. "Salesforce/blip2-itm-vit-g", downloaded on first use; or a folder.
        vocabulary: BERT's vocab.txt, or its name on the hub.

    Raises:
        I0TError: it cannot be downloaded, is not a BLIP-2 with projections, or no vocabulary.
    """
    model = from_hub(Blip2ForImageTextRetrieval, hub)
    model.itm_head = nn.Identity()
    return _encoder(name, model, None, vocabulary)


class Blip2(nn.Module):
    """BLIP-2's image encoder and Q-Former with the interface of `open_clip.CLIP`, with Q vectors per image."""

    def __init__(self, model: Blip2ForImageTextRetrieval, logit_scale: nn.Parameter | None) -> None:
        super().__init__()
        self.model, self.logit_scale = model, logit_scale
        config: Any = model.config  # transformers' types allow dicts
        self.context_length = config.qformer_config.max_position_embeddings

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to features (B, Q, D), not normalised."""
        seen = self.model.vision_model(pixels).last_hidden_state  # (B, 1 + patches, W)
        queries = self.model.query_tokens.expand(len(seen), -1, -1)
        hidden = self.model.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state  # (B, Q, W)
        return self.model.vision_projection(hidden)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L), padded with 0, to features (B, D) of [CLS], not normalised."""
        tokens, mask = cut_and_mask(tokens)
        embedded = self.model.embeddings(input_ids=tokens)
        hidden = self.model.qformer(query_embeds=embedded, query_length=0, attention_mask=mask).last_hidden_state
        return self.model.text_projection(hidden[:, 0])


def _encoder(
    name: str, model: Blip2ForImageTextRetrieval, logit_scale: nn.Parameter | None, vocabulary: str | Path
) -> Encoder:
    set_eps(model.vision_model, VISION_EPS)
    model.vision_model.post_layernorm.eps = LN_VISION_EPS
    config: Any = model.config  # transformers' types allow dicts
    vision, text = config.vision_config, config.qformer_config
    encoders = Blip2(model, logit_scale)
    sizes = {
        "embed_dim": model.vision_projection.out_features,
        "image_size": vision.image_size,
        "queries": model.query_tokens.shape[1],
        "vision": [vision.num_hidden_layers, vision.hidden_size],
        "text": [text.num_hidden_layers, text.hidden_size],
    }
    tokenize = LavisTokenizer(vocabulary, encoders.context_length)
    preprocess = squashing_preprocess(vision.image_size)
    return Encoder(encoders, preprocess, tokenize, {"family": "BLIP-2", "model": sizes}, name=name).eval()


def _eva_blocks(eva: StateDict, layers: int) -> StateDict:
    """The first blocks of an EVA file in float32; the published file has fp16."""
    found = count_indices(eva, r"blocks\.(\d+)\.")
    if found < layers:
        raise I0TError(f"{found} blocks, {layers} are needed.")
    beyond = tuple(f"blocks.{index}." for index in range(layers, found))
    kept = {key: value for key, value in eva.items() if not key.startswith(beyond) and not _EVA_UNUSED.match(key)}
    return {key: value.float() for key, value in kept.items()}


def _fuse_biases(vision: StateDict) -> StateDict:
    """Join the biases of query, key and value, as in transformers; EVA's key has none."""
    fused = dict(vision)
    for query_key in [key for key in vision if key.endswith(".attn.q_bias")]:
        layer = query_key.removesuffix("attn.q_bias")
        need(vision, f"{layer}attn.v_bias")
        query, value = fused.pop(query_key), fused.pop(f"{layer}attn.v_bias")
        fused[f"{layer}self_attn.qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    return fused


def _config(source: StateDict, state: StateDict) -> Blip2Config:
    bert = below(source, "Qformer.bert.")
    sizes = bert_sizes(bert)
    crossed = sorted({int(m[1]) for key in bert if (m := re.match(r"encoder\.layer\.(\d+)\.crossattention\.", key))})
    every = crossed[1] - crossed[0] if len(crossed) > 1 else sizes["num_hidden_layers"]
    text = Blip2QFormerConfig(**sizes, cross_attention_frequency=every, use_qformer_text_input=True)
    return Blip2Config(
        vision_config=Blip2VisionConfig(**vision_sizes(below(state, "vision_model."), EVA_HEAD_WIDTH)).to_dict(),
        qformer_config=text.to_dict(),
        num_query_tokens=need(state, "query_tokens").shape[1],
        image_text_hidden_size=len(need(state, "vision_projection.weight")),
    )

"""BLIP, as in LAVIS' feature extractor: one vector per image and per caption.

Loads LAVIS' `model_base_capfilt_large.pth` or a BLIP of the Hugging Face hub into transformers' classes.
Source: salesforce/LAVIS, `blip_models/blip_feature_extractor.py`.

Shapes: B batch, L tokens, D embedding dimensions, W width of an encoder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import BlipConfig, BlipForImageTextRetrieval, BlipTextConfig, BlipVisionConfig

from baselines.hub import from_hub
from baselines.lavis_layout import (
    BERT_HEAD_WIDTH,
    VISION_EPS,
    VISION_NAMES,
    bert_sizes,
    log_scale,
    set_eps,
    squashing_preprocess,
    vision_sizes,
)
from baselines.lavis_text import LavisTokenizer, cut_and_mask
from baselines.state_dicts import StateDict, below, load_exactly, naming, need, read_state_dict, renamed
from i0t.encoders.encoder import Encoder

# Not needed for embeddings: matching head, decoder, momentum copies, queues.
_UNUSED = re.compile(
    r"itm_head\.|text_decoder\.|(visual_encoder|text_encoder|vision_proj|text_proj)_m\.|(image|text|idx)_queue$"
    r"|(queue_ptr|ptr_queue)$|text_encoder\.embeddings\.position_ids$"
)


def load(name: str, file: str | Path, vocabulary: str | Path) -> Encoder:
    """Load a BLIP checkpoint in LAVIS' layout.

    Args:
        name: name for records and errors.
        file: the checkpoint.
        vocabulary: BERT's vocab.txt, or its name on the hub.

    Raises:
        I0TError: another layout (with missing and unexpected keys), or no vocabulary.
    """
    with naming(file):
        state = {key: value for key, value in read_state_dict(file, "model").items() if not _UNUSED.match(key)}
        temperature = state.pop("temp", None)
        vision = renamed(below(state, "visual_encoder."), VISION_NAMES)
        rest = {key: value for key, value in state.items() if not key.startswith("visual_encoder.")}
        state = rest | {f"vision_model.{key}": value for key, value in vision.items()}
        model = BlipForImageTextRetrieval(_config(state))
        model.add_module("itm_head", nn.Identity())
        load_exactly(model, state)
    return _encoder(name, model, log_scale(temperature), vocabulary)


def load_hub(name: str, hub: str, vocabulary: str | Path) -> Encoder:
    """Load a BLIP of the Hugging Face hub, with the epsilon that BLIP was trained with.

    Args:
        name: name for records and errors.
        hub: e.g. "Salesforce/blip-itm-base-coco", downloaded on first use; or a folder.
        vocabulary: BERT's vocab.txt, or its name on the hub.

    Raises:
        I0TError: it cannot be downloaded, is not a BLIP with projections, or no vocabulary.
    """
    model = from_hub(BlipForImageTextRetrieval, hub)
    model.itm_head = nn.Identity()
    return _encoder(name, model, None, vocabulary)


class Blip(nn.Module):
    """BLIP's image and text encoder with the interface of `open_clip.CLIP`."""

    def __init__(self, model: BlipForImageTextRetrieval, logit_scale: nn.Parameter | None) -> None:
        super().__init__()
        self.model, self.logit_scale = model, logit_scale
        config: Any = model.config  # transformers' types allow dicts
        self.context_length = config.text_config.max_position_embeddings

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to features (B, D) of the [CLS] position, not normalised."""
        hidden = self.model.vision_model(pixels).last_hidden_state  # (B, 1 + patches, W)
        return self.model.vision_proj(hidden[:, 0])

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L), padded with 0, to features (B, D) of [CLS], not normalised."""
        tokens, mask = cut_and_mask(tokens)
        hidden = self.model.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state  # (B, L, W)
        return self.model.text_proj(hidden[:, 0])


def _encoder(
    name: str, model: BlipForImageTextRetrieval, logit_scale: nn.Parameter | None, vocabulary: str | Path
) -> Encoder:
    set_eps(model.vision_model, VISION_EPS)
    config: Any = model.config  # transformers' types allow dicts
    vision, text = config.vision_config, config.text_config
    encoders = Blip(model, logit_scale)
    sizes = {
        "embed_dim": model.vision_proj.out_features,
        "image_size": vision.image_size,
        "vision": [vision.num_hidden_layers, vision.hidden_size],
        "text": [text.num_hidden_layers, text.hidden_size],
    }
    tokenize = LavisTokenizer(vocabulary, encoders.context_length)
    preprocess = squashing_preprocess(vision.image_size)
    return Encoder(encoders, preprocess, tokenize, {"family": "BLIP", "model": sizes}, name=name).eval()


def _config(state: StateDict) -> BlipConfig:
    vision = vision_sizes(below(state, "vision_model."), BERT_HEAD_WIDTH)
    text = bert_sizes(below(state, "text_encoder."))
    return BlipConfig(
        vision_config=BlipVisionConfig(**vision).to_dict(),
        text_config=BlipTextConfig(**text, encoder_hidden_size=vision["hidden_size"]).to_dict(),
        image_text_hidden_size=len(need(state, "vision_proj.weight")),
    )

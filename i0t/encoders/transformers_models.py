"""Dual encoders of Hugging Face transformers as `Encoder`s: CLIP, SigLIP, AltCLIP, Chinese-CLIP, ALIGN, GroupViT, ...

Everything is the model's own: weights, image processor, tokenizer, and its rules of padding and truncation.

Shapes: B batch, L tokens, D embedding dimensions.
"""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

from i0t.encoders.encoder import Encoder
from i0t.encoders.hub import FOREIGN_ERRORS, hub_calls, not_at_hand, require_no_adapter, source_of, why
from i0t.encoders.text_batches import require_known
from i0t.encoders.transformers_text import ModelTokenizer, text_rules
from i0t.errors import I0TError, first_line

# Families that have the two calls, but no pair of vectors behind them: why, and what to take.
REFUSED = {
    "siglip2": "takes pictures of any shape (NaFlex); take a fixed resolution, such as google/siglip2-base-patch16-224",
    "blip": "transformers' BlipModel lacks BLIP's contrastive layers; take --model Salesforce/blip-itm-base-coco",
    "blip-2": "transformers' Blip2Model lacks BLIP-2's contrastive layers; take --model Salesforce/blip2-itm-vit-g",
}
# Families whose causal mask transformers drops for a batch without padding, unless attention is computed step by step.
EAGER = ("aimv2",)
VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")  # of a configuration: not the model
CODE_OF_ITS_OWN = "trust_remote_code"


class TransformersModel(nn.Module):
    """A dual encoder of transformers with the interface of `open_clip.CLIP`.

    Args:
        model: with `get_image_features` and `get_text_features`.
        tokenize: its tokenizer, which marks padding that the model's mask hides.
    """

    def __init__(self, model: nn.Module, tokenize: ModelTokenizer) -> None:
        super().__init__()
        self.model: Any = model
        self.context_length, self.hides_padding = tokenize.context_length, tokenize.may_be_cut
        self._pad_id, self._has_mask = tokenize.fill, tokenize.has_mask
        temperature = getattr(model, "temperature", None)  # ALIGN divides by it
        self.own_scale = nn.Parameter(-temperature.detach().log()) if temperature is not None else None

    @property
    def logit_scale(self) -> nn.Parameter | None:
        """The logarithm of the factor on cosines."""
        return getattr(self.model, "logit_scale", self.own_scale)

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """SigLIP's bias of logits."""
        return getattr(self.model, "logit_bias", None)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to features (B, D), not normalised."""
        return _pooled(self.model.get_image_features(pixel_values=pixels))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (B, L) of `ModelTokenizer` to features (B, D), not normalised."""
        if not self._has_mask:
            return _pooled(self.model.get_text_features(input_ids=tokens))
        mask = tokens >= 0
        ids = tokens.where(mask, self._pad_id)
        return _pooled(self.model.get_text_features(input_ids=ids, attention_mask=mask.long()))


def load(place: str, name: str = "", trust_remote_code: bool = False, revision: str | None = None) -> Encoder:
    """Load a folder that transformers saved, or a repository of the hub.

    Args:
        place: the folder, or owner/name.
        name: name for records and errors.
        trust_remote_code: whether Python code of the repository itself may run.
        revision: branch, tag or commit of the repository.

    Raises:
        I0TError: it is not there, needs code of its own, is not a dual encoder, or lacks weights.
    """
    name = name or place
    options = {CODE_OF_ITS_OWN: trust_remote_code, "revision": revision or "main"}
    try:
        with hub_calls(not os.path.isdir(place)) as silence:
            config = AutoConfig.from_pretrained(place, **options)
            require_no_adapter(place, name, revision)
            if config.model_type in REFUSED:
                raise I0TError(f"{name}: {REFUSED[config.model_type]}.")
            attention = {"attn_implementation": "eager"} if config.model_type in EAGER else {}
            model, info = AutoModel.from_pretrained(
                place, config=config, dtype=torch.float32, output_loading_info=True, **attention, **options
            )
            _check(name, model, info["missing_keys"])
            tokenizer, images, defaults = _processors(place, options)
    except FOREIGN_ERRORS as error:
        raise I0TError(_refusal(place, name, error, silence)) from None
    try:
        tokenize = ModelTokenizer(tokenizer, text_rules(model, tokenizer, defaults))
    except (I0TError, TypeError) as error:  # a tokenizer without a padding token
        raise I0TError(f"{name}: {first_line(error)}") from None
    wrapped = TransformersModel(model, tokenize).eval()
    preprocess = Preprocess(images)
    architecture = {
        "family": "transformers",
        "model": {"embed_dim": _embed_dim(name, wrapped, tokenize, preprocess)},
        "config": {key: value for key, value in json.loads(config.to_json_string()).items() if key not in VOLATILE},
    }
    encoder = Encoder(wrapped, preprocess, tokenize, architecture, name=name)
    encoder.source = source_of("transformers", place, revision)
    return encoder.eval()


class Preprocess:
    """PIL image to pixels (3, H, W), by the model's own image processor."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Pixels (3, H, W) of an RGB image."""
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]


def _processors(place: str, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """(tokenizer, image processor, defaults of text) of a model; some have no common processor."""
    try:
        both = AutoProcessor.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError):
        both = None
    tokenizer = getattr(both, "tokenizer", None) or AutoTokenizer.from_pretrained(place, **options)
    images = getattr(both, "image_processor", None) or AutoImageProcessor.from_pretrained(place, **options)
    return tokenizer, images, getattr(both, "text_kwargs", None) or {}


def _pooled(output: Any) -> torch.Tensor:
    """Features of what the calls return: since transformers 5 an object with hidden states."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _check(name: str, model: nn.Module, missing: list[str]) -> None:
    calls = ("get_image_features", "get_text_features")
    lacking = [call for call in calls if not hasattr(model, call)]
    if lacking:
        raise I0TError(
            f"{name}: {type(model).__name__} is no dual encoder of images and texts: it has no {' and '.join(lacking)}."
        )
    if missing:
        raise I0TError(
            f"{name}: its weights lack {', '.join(sorted(missing)[:5])}, which {type(model).__name__} needs and would "
            "fill with random values."
        )


@torch.no_grad()
def _embed_dim(name: str, model: TransformersModel, tokenize: ModelTokenizer, preprocess: Preprocess) -> int:
    """D, from one picture and one text.

    Raises:
        I0TError: they do not give one vector each, of the same length, or the text's depends on its batch.
    """
    try:
        image = model.encode_image(preprocess(Image.new("RGB", (64, 48)))[None])
        texts = tokenize(["a", "a b c d e"])
        require_known(model, texts, name)
        text, in_batch = model.encode_text(tokenize(["a"])), model.encode_text(texts)[:1]
    except I0TError:
        raise
    except FOREIGN_ERRORS as error:
        raise I0TError(f"{name}: cannot encode one picture or one text alone ({why(error)}).") from error
    if image.ndim != 2 or image.shape != text.shape:
        shapes = f"{tuple(image.shape)} and {tuple(text.shape)}"
        raise I0TError(f"{name}: a picture and a text give features {shapes}, not one vector of the same length each.")
    if float((F.normalize(in_batch, dim=-1) - F.normalize(text, dim=-1)).abs().max()) > 1e-3:
        raise I0TError(f"{name}: a text's features depend on the other texts of its batch, so they mean nothing alone.")
    return int(image.shape[1])


def _refusal(place: str, name: str, error: Exception, silence: str) -> str:
    if isinstance(error, I0TError):
        return str(error)
    if CODE_OF_ITS_OWN in str(error):
        return (
            f"{name}: needs Python code of its own repository, which is not run unasked. Read that code; if you trust "
            f"it, write hf:{place}:{CODE_OF_ITS_OWN}=true."
        )
    if isinstance(error, OSError) and not os.path.isdir(place):
        return not_at_hand(place, error, silence)
    return f"{name}: transformers cannot load it ({why(error)})."

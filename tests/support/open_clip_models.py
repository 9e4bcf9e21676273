"""Tiny random models of open_clip, saved as its `push_to_hf_hub` saves them, and its own documented calls."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers as tf
from library_models import CONTEXT, TOWER, bert_tokenizer, jitter, siglip2_tokenizer, siglip_tokenizer, xlm_tokenizer
from open_clip.model import set_model_preprocess_cfg
from open_clip.push_to_hf_hub import save_config_for_hf, save_for_hf
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from torch.nn import functional as F

VISION = {"image_size": 32, "patch_size": 16, "layers": 2, "width": 32, "head_width": 16}
TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SIGLIP_TEXT = {
    **TEXT, "vocab_size": 100, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6}, "hf_tokenizer_name": "somewhere/on-the-hub",
    "tokenizer_kwargs": {"clean": "canonicalize"},
}  # fmt: skip
SIGLIP = {
    "embed_dim": 128, "init_logit_bias": -10, "custom_text": True, "vision_cfg": VISION, "text_cfg": SIGLIP_TEXT,
}  # fmt: skip
COCA_TEXT = {**TEXT, "context_length": CONTEXT - 1, "embed_cls": True, "output_tokens": True}
COCA = {
    "embed_dim": 32, "custom_text": True, "vision_cfg": {**VISION, "attentional_pool": True, "output_tokens": True},
    "text_cfg": COCA_TEXT, "multimodal_cfg": {**TEXT, "context_length": CONTEXT - 1},
}  # fmt: skip
SQUASH = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "resize_mode": "squash"}


def _clip(vision: dict[str, Any] | None = None, **text: Any) -> dict[str, Any]:
    config = {"embed_dim": 128, "vision_cfg": vision or VISION, "text_cfg": {**TEXT, **text}}
    return config | ({"custom_text": True} if vision and "timm_model_name" in vision else {})


def _of_hub(**text: Any) -> dict[str, Any]:
    return {"vocab_size": 160, "hf_tokenizer_name": "somewhere/on-the-hub", **text}


# kind -> (configuration, tokenizer of the hub or None, preprocessing)
KINDS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "clip": (_clip(), None, {}),
    "resnet": (_clip({"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}), None, {}),
    "timm": (
        _clip({"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"}),
        None,
        {"resize_mode": "longest"},
    ),
    "siglip": (SIGLIP, siglip_tokenizer, SQUASH),
    "siglip2": (SIGLIP | {"text_cfg": SIGLIP_TEXT | {"vocab_size": 160}}, siglip2_tokenizer, SQUASH),
    "clipa": (
        _clip(**_of_hub(no_causal_mask=True, pool_type="last", tokenizer_kwargs={"strip_sep_token": True})),
        bert_tokenizer,
        SQUASH,
    ),
    "worldwide": (
        _clip(**_of_hub(pool_type="eos", eos_id=2, tokenizer_kwargs={"clean": "canonicalize"})),
        xlm_tokenizer,
        {},
    ),
    "text_of_transformers": (
        {
            "embed_dim": 128,
            "vision_cfg": VISION,
            "text_cfg": {
                "context_length": CONTEXT,
                "hf_model_name": "somewhere/text",
                "hf_tokenizer_name": "somewhere/on-the-hub",
                "hf_pooler_type": "mean_pooler",
            },
        },
        xlm_tokenizer,
        {},
    ),
    "coca": (COCA, None, {}),
}


def make_open_clip(kind: str, root: Path) -> Path:
    """Save a model of a kind in a folder of that name below `root`."""
    config, make_tokenizer, preprocess = KINDS[kind]
    root.mkdir(exist_ok=True)
    if "hf_model_name" in config["text_cfg"]:  # open_clip reads its sizes from the hub, or from a folder
        sizes = tf.XLMRobertaConfig(**TOWER, vocab_size=160, max_position_embeddings=CONTEXT + 2)
        sizes.save_pretrained(root / "text")
        config = config | {"text_cfg": config["text_cfg"] | {"hf_model_name": str(root / "text")}}
    return save_open_clip(root / kind, config, make_tokenizer() if make_tokenizer else None, preprocess)


def save_open_clip(folder: Path, config: dict[str, Any], tokenizer: Any, preprocess: dict[str, Any]) -> Path:
    """A random model of open_clip, saved as its `push_to_hf_hub` saves it."""
    torch.manual_seed(3)
    folder.mkdir(parents=True)
    kind = {key: value for key, value in config.items() if key != "custom_text"}
    if "hf_model_name" in config["text_cfg"]:
        kind["text_cfg"] = kind["text_cfg"] | {"hf_model_pretrained": False}
    custom = "custom_text" in config or "hf_model_name" in config["text_cfg"]
    model_class = (
        open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    )
    model = model_class(**kind)
    if isinstance(model, open_clip.CoCa):  # open_clip leaves it as the memory was, NaN at times
        torch.nn.init.normal_(model.text_decoder.text_projection)
    jitter(model)
    set_model_preprocess_cfg(
        model, {**asdict(PreprocessCfg()), "size": config["vision_cfg"]["image_size"], **preprocess}
    )
    if tokenizer is not None:
        save_for_hf(model, tokenizer, config, str(folder), safe_serialization=True)
    else:  # CLIP's own is in open_clip
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
        save_config_for_hf(model, folder / "open_clip_config.json", model_config=config)
    return folder


def documented(place: str, texts: list[str], pictures: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """(image features, text features) by open_clip's own calls, which resize a palette picture before its colours."""
    model, preprocess = open_clip.create_model_from_pretrained(place)
    tokenizer = open_clip.get_tokenizer(place)
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([preprocess(picture.convert("RGB")) for picture in pictures])
        images = model.encode_image(pixels)
        return F.normalize(images, dim=-1), F.normalize(model.encode_text(tokenizer(texts)), dim=-1)

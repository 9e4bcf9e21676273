"""open_clip's CLIP as transformers' CLIPModel: names of parameters, configuration, tokenizer and image processor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg
from torch.nn import functional as F

from i0t.encoders.encoder import Encoder
from i0t.encoders.tokenizers import END_OF_TEXT, WordTokenizer
from i0t.errors import I0TError
from i0t.files import ensure_folder

# What CLIPModel can express; any other entry of a configuration is of another architecture.
MODEL_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale"}
VISION_KEYS = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"}
TEXT_KEYS = {"context_length", "vocab_size", "width", "layers", "heads", "mlp_ratio"}
LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
RENAMED = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
START, END = "<|startoftext|>", "<|endoftext|>"  # transformers' names of the two last tokens
TOLERANCE = 1e-5


def save_for_transformers(encoder: Encoder, folder: Path) -> None:
    """Write what `AutoModel.from_pretrained(FOLDER)` and `AutoProcessor` read.

    The image processor is transformers' own. With `backend="pil"` it resizes like open_clip's; without, some pixels
    differ by one grey level. Where an odd number of pixels is cut off, its crop lies one pixel beside.

    Raises:
        I0TError: another architecture than CLIP's, with a vision transformer.
    """
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    config = _require_clip(encoder)
    model = CLIPModel(CLIPConfig(**_config(config)))
    model.load_state_dict(_renamed(encoder.model.state_dict()), strict=True)
    _require_equal(encoder, model.eval())
    settings = {**asdict(PreprocessCfg()), **encoder.architecture["preprocess"]}
    size = config["vision_cfg"]["image_size"]
    images = CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(settings["mean"]),
        image_std=list(settings["std"]),
    )
    model.save_pretrained(ensure_folder(folder))
    CLIPProcessor(image_processor=images, tokenizer=_tokenizer(encoder.tokenize)).save_pretrained(folder)


def _require_clip(encoder: Encoder) -> dict[str, Any]:
    config = encoder.architecture["model"]
    other = sorted(
        [
            *(config.keys() - MODEL_KEYS),
            *(f"vision_cfg.{key}" for key in config["vision_cfg"].keys() - VISION_KEYS),
            *(f"text_cfg.{key}" for key in config["text_cfg"].keys() - TEXT_KEYS),
        ]
    )
    if isinstance(config["vision_cfg"].get("layers"), list):
        other.append("ResNet")
    settings = encoder.architecture["preprocess"]
    if settings.get("resize_mode", "shortest") != "shortest" or settings.get("interpolation", "bicubic") != "bicubic":
        other.append("its resizing of pictures")
    if other or not isinstance(encoder.tokenize, WordTokenizer):
        what = ", ".join(other) or "its tokenizer"
        raise I0TError(
            f"{encoder.name}: transformers' CLIPModel has no {what}. Export it with --to open_clip, which takes every "
            "architecture."
        )
    return config


def _config(config: dict[str, Any]) -> dict[str, Any]:
    """CLIPConfig's arguments from open_clip's configuration."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"

    def tower(part: dict[str, Any], heads: int) -> dict[str, Any]:
        return {
            "hidden_size": part["width"],
            "intermediate_size": int(part["width"] * part.get("mlp_ratio", 4.0)),
            "num_hidden_layers": part["layers"],
            "num_attention_heads": heads,
            "hidden_act": activation,
        }

    ends = {"bos_token_id": END_OF_TEXT - 1, "eos_token_id": END_OF_TEXT, "pad_token_id": END_OF_TEXT}
    of_text = {"max_position_embeddings": text.get("context_length", 77), "vocab_size": text.get("vocab_size", 49408)}
    of_vision = {"image_size": vision["image_size"], "patch_size": vision["patch_size"]}
    return {
        "projection_dim": config["embed_dim"],
        "text_config": {**tower(text, text.get("heads", 8)), **of_text, **ends},
        "vision_config": {**tower(vision, vision["width"] // vision.get("head_width", 64)), **of_vision},
    }


def _renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters under transformers' names; query, key and value apart; projections turned."""
    found = {new: state[old].detach().cpu() for old, new in RENAMED.items()}
    found["visual_projection.weight"] = state["visual.proj"].detach().cpu().T
    found["text_projection.weight"] = state["text_projection"].detach().cpu().T
    for key, value in state.items():
        before, dot, rest = key.partition("transformer.resblocks.")
        if not dot:
            continue
        number, _, rest = rest.partition(".")
        layer = f"{'vision_model' if before else 'text_model'}.encoder.layers.{number}."
        part, _, kind = rest.rpartition(".")
        if part == "attn":  # in_proj_weight or in_proj_bias
            thirds = value.detach().cpu().chunk(3)
            kind = kind.removeprefix("in_proj_")
            found |= {f"{layer}self_attn.{name}_proj.{kind}": third for name, third in zip("qkv", thirds, strict=True)}
        else:
            found[f"{layer}{LAYER[part]}.{kind}"] = value.detach().cpu()
    return {key: value.clone().contiguous() for key, value in found.items()}


def _tokenizer(tokenize: Any) -> Any:
    """CLIP's tokenizer for transformers, with the same ids."""
    from transformers import CLIPTokenizer

    own = {tokenize.sot_token_id: START, tokenize.eot_token_id: END}
    vocabulary = {own.get(row, piece): row for piece, row in tokenize.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(tokenize.bpe_ranks), model_max_length=tokenize.context_length)


@torch.no_grad()
def _require_equal(encoder: Encoder, model: Any) -> None:
    """Check that the copy gives the same vectors, before it is written."""
    size = encoder.architecture["model"]["vision_cfg"]["image_size"]
    pixels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = encoder.tokenize(["a photo of a cat", "two dogs on the grass"])
    pairs = (
        (encoder.model.encode_image(pixels.to(encoder.device)), model.get_image_features(pixels)),
        (encoder.model.encode_text(tokens.to(encoder.device)), model.get_text_features(tokens)),
    )
    for ours, theirs in pairs:
        difference = (F.normalize(ours, dim=-1).cpu() - F.normalize(theirs.pooler_output, dim=-1)).abs().max()
        if not float(difference) <= TOLERANCE:
            raise I0TError(
                f"{encoder.name}: transformers' CLIPModel gives other vectors (by {float(difference):.1e}). Export it "
                "with --to open_clip."
            )

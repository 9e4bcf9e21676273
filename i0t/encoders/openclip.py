"""open_clip models as `Encoder`s: by architecture and tag, or by a plain configuration.

An architecture is a dict {"model": open_clip's configuration, "preprocess": its image settings}, from
which the module can be rebuilt without a network. "stretched_from" is the number of text positions
before they were stretched, if they were.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import asdict
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from open_clip.transform import PreprocessCfg, image_transform_v2

from i0t.encoders.encoder import Encoder
from i0t.encoders.heads import NormHeads
from i0t.encoders.hub import FOREIGN_ERRORS, hub_calls, not_at_hand, source_of, why
from i0t.encoders.tokenizer_files import with_folder
from i0t.encoders.tokenizers import own_tokenizer, tokenizer_of
from i0t.errors import I0TError, first_line
from i0t.paths import say

RANDOM = "random"  # tag for untrained weights


def load_pretrained(architecture: str, pretrained: str, name: str = "") -> Encoder:
    """Load an open_clip architecture with the weights of a tag.

    Args:
        architecture: e.g. "ViT-B-32-quickgelu".
        pretrained: a tag of `open_clip.list_pretrained()`, or "random" for untrained weights.
        name: name for records and errors.

    Raises:
        I0TError: no such architecture or tag, or the weights cannot be downloaded.
    """
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise I0TError(f"{architecture}: not an open_clip architecture. `open_clip.list_models()` lists them.")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained == RANDOM:
        return build_encoder({"model": config}, name=name)
    if pretrained not in tags:
        raise I0TError(
            f"{architecture}: no weights {pretrained or '(none named)'!r}. Write {architecture}/TAG with one of: "
            f"{', '.join([*tags, RANDOM])}."
        )
    say(f"Weights: open_clip {architecture}/{pretrained} (downloaded on first use).")
    try:
        with hub_calls() as silence:
            model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=pretrained)
            tokenize = own_tokenizer(open_clip.get_tokenizer(architecture))
    except (RuntimeError, OSError) as error:
        raise I0TError(
            f"{architecture}/{pretrained}: weights or tokenizer can be neither found in the cache of the Hugging Face "
            f"hub ({HF_HUB_CACHE}) nor downloaded ({silence or first_line(error, 160)}). Connect once, or copy the "
            "cache of a machine that has them; without them start from the small model: --base tiny."
        ) from None
    return Encoder(
        model,
        preprocess,
        tokenize,
        {"model": config, "preprocess": _plain(model.visual.preprocess_cfg)},
        name=name,
    )


def load_folder_or_repository(place: str, name: str = "") -> Encoder:
    """Load "hf-hub:owner/name" or "local-dir:/path", with open_clip's configuration, weights and tokenizer.

    Raises:
        I0TError: it is not there, is no model of open_clip, or holds no weights.
    """
    is_repository = place.startswith("hf-hub:")
    asked, silence = "", ""
    try:
        asked = place.removeprefix("hf-hub:") if is_repository else _text_model(open_clip.get_model_config(place))
        with hub_calls(bool(asked)) as silence:
            model = open_clip.create_model(place, require_pretrained=True)
            config = open_clip.get_model_config(place)
            asked = (config["text_cfg"].get("hf_tokenizer_name") if is_repository else "") or asked
            tokenize = own_tokenizer(open_clip.get_tokenizer(place))
    except FOREIGN_ERRORS as error:
        of_hub = (OSError, RuntimeError) if is_repository else OSError  # open_clip wraps errors of the network
        if asked and isinstance(error, of_hub):
            raise I0TError(f"{name or place}: {not_at_hand(asked, error, silence)}") from None
        raise I0TError(f"{name or place}: open_clip cannot load it ({why(error)}).") from None
    settings = _plain(model.visual.preprocess_cfg)
    preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    encoder = Encoder(model, preprocess, tokenize, {"model": config, "preprocess": settings}, name=name or place)
    encoder.source = source_of("open_clip", place)
    return encoder.eval()


def build_encoder(
    architecture: dict[str, Any],
    heads: str | None = None,
    name: str = "",
    tokenizer: TemporaryDirectory[str] | None = None,
) -> Encoder:
    """Build an architecture with random weights, for training or for the weights of a checkpoint.

    Args:
        architecture: {"model": configuration, "preprocess": settings (optional)}.
        heads: kind of normalisation heads, if any.
        name: name for records and errors.
        tokenizer: folder of the tokenizer's files, instead of the hub's that the configuration names.

    Raises:
        I0TError: not a configuration of open_clip, or the hub cannot give its tokenizer.
    """
    try:
        config = _without_downloads(architecture["model"])
        text_config = with_folder(config["text_cfg"], tokenizer)
        with hub_calls(bool(_hub_names(text_config))) as silence:
            tokenize = tokenizer_of(text_config)
            tokenize.folder = tokenizer  # some tokenizers read their files again, in a worker
            model = _model_class(config)(**config)
            _fill_decoder(model)
        settings = {"size": model.visual.image_size, **architecture.get("preprocess", {})}
        preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    except I0TError as error:  # of the tokenizer
        raise I0TError(f"{name or 'model'}: {error}") from None
    except OSError as error:  # the configuration names a text model or tokenizer of the hub
        raise I0TError(not_at_hand(_hub_names(text_config), error, silence)) from None
    except FOREIGN_ERRORS as error:
        raise I0TError(
            f"{name or 'model'}: not an open_clip configuration ({error!r}). See configs/models/tiny.yaml."
        ) from None
    complete = {**architecture, "preprocess": _plain(settings)}
    norm_heads = NormHeads(heads, config["embed_dim"]) if heads else None
    return Encoder(model.eval(), preprocess, tokenize, complete, norm_heads, name)


def set_context_length(encoder: Encoder, length: int) -> None:
    """Stretch the text positions of an encoder to `length`, in place (Long-CLIP; section 4.1).

    Its architecture says so, because training does not change the first rows of stretched positions.
    """
    from i0t.encoders.positions import stretch_text_positions

    before = encoder.context_length
    try:
        stretch_text_positions(encoder.model, length)
    except I0TError as error:
        raise I0TError(f"{encoder.name or 'model'}: {error} Use context_length={before}, its own.") from None
    encoder.architecture.setdefault("stretched_from", before)
    text_config = {**encoder.architecture["model"]["text_cfg"], "context_length": length}
    encoder.architecture["model"] = {**encoder.architecture["model"], "text_cfg": text_config}
    encoder.tokenize = tokenizer_of(text_config)


def set_attention_dropout(encoder: Encoder, rate: float) -> int:
    """Set the dropout of every attention layer (active in train mode; MCSIE, section 4.2); return their number.

    Raises:
        I0TError: one of the two encoders has no attention layer of torch, so its two views would be equal.
    """
    layers = [module for module in encoder.model.modules() if isinstance(module, torch.nn.MultiheadAttention)]
    visual = getattr(encoder.model, "visual", None)
    in_vision = [module for module in visual.modules() if module in layers] if visual is not None else []
    if rate and len(in_vision) in (0, len(layers)):
        part = "text" if in_vision else "image"
        raise I0TError(
            f"{encoder.name}: no attention layers in its {part} encoder whose dropout can be set, so dropout cannot "
            "give two views of it (MCSIE). Use views=1 attention_dropout=0."
        )
    for layer in layers:
        layer.dropout = rate
    return len(layers)


def _without_downloads(config: dict[str, Any]) -> dict[str, Any]:
    """Copy a configuration, to be built without the weights that its parts had before training: others follow."""
    config = deepcopy(config)
    for part, keys in (("vision_cfg", ("timm_model_name", "timm_model_pretrained")),
                       ("text_cfg", ("hf_model_name", "hf_model_pretrained"))):  # fmt: skip
        if config[part].get(keys[0]):
            config[part][keys[1]] = False
    return config


def _model_class(config: dict[str, Any]) -> Any:
    """Choose open_clip's class for a configuration, as open_clip does; takes the key that is only for this choice."""
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    if custom and "multimodal_cfg" in config:
        return open_clip.CoCa
    return open_clip.CustomTextCLIP if custom else open_clip.CLIP


def _fill_decoder(model: torch.nn.Module) -> None:
    """Start the projection of CoCa's decoder, which open_clip leaves as the memory was: NaN, or other at every run."""
    projection = getattr(getattr(model, "text_decoder", None), "text_projection", None)
    if projection is not None:
        torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)


def _text_model(config: dict[str, Any]) -> str:
    """The text model whose sizes open_clip reads from the hub; "" if it needs none, or has it in a folder."""
    name = str(config["text_cfg"].get("hf_model_name", ""))
    return "" if os.path.isdir(name) else name


def _hub_names(text_config: dict[str, Any]) -> str:
    names = (text_config.get("hf_model_name"), text_config.get("hf_tokenizer_name"))
    return ", ".join(dict.fromkeys(name for name in names if name and not os.path.isdir(name)))


def _plain(settings: Any) -> dict[str, Any]:
    settings = settings if isinstance(settings, dict) else asdict(settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}

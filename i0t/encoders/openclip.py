"""open_clip models as `Encoder`s: by architecture and tag, or by a plain configuration.

An architecture is a dict {"model": open_clip's configuration, "preprocess": its image settings}, from
which the module can be rebuilt without a network. "stretched_from" is the number of text positions
before they were stretched, if they were.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from i0t.encoders.encoder import Encoder
from i0t.encoders.heads import NormHeads
from i0t.errors import I0TError, first_line
from i0t.paths import say

# Raised by open_clip and torch if a configuration has wrong keys, types or sizes.
CONFIGURATION_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
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
        with _quiet("huggingface_hub", "root"):
            model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=pretrained)
    except (RuntimeError, OSError) as error:
        raise I0TError(
            f"{architecture}/{pretrained}: the weights can be neither found in the cache nor downloaded "
            f"({first_line(error)[:160]}). Connect once, or copy the Hugging Face cache of a machine that "
            "has them; without them start from the small model: --base tiny."
        ) from None
    return Encoder(
        model,
        preprocess,
        _with_word_cache(open_clip.get_tokenizer(architecture)),
        {"model": config, "preprocess": _plain(model.visual.preprocess_cfg)},
        name=name,
    )


def build_encoder(architecture: dict[str, Any], heads: str | None = None, name: str = "") -> Encoder:
    """Build an architecture with random weights, for training or for the weights of a checkpoint.

    Args:
        architecture: {"model": configuration, "preprocess": settings (optional)}.
        heads: kind of normalisation heads, if any.
        name: name for records and errors.

    Raises:
        I0TError: not a configuration of open_clip.
    """
    try:
        config = dict(architecture["model"])
        custom = config.pop("custom_text", False) or "hf_model_name" in config.get("text_cfg", {})
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
        settings = {"size": model.visual.image_size, **architecture.get("preprocess", {})}
        preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)
        tokenize = _tokenizer(config)
    except CONFIGURATION_ERRORS as error:
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
    stretch_text_positions(encoder.model, length)
    encoder.architecture.setdefault("stretched_from", before)
    text_config = {**encoder.architecture["model"]["text_cfg"], "context_length": length}
    encoder.architecture["model"] = {**encoder.architecture["model"], "text_cfg": text_config}
    encoder.tokenize = _tokenizer(encoder.architecture["model"])


def set_attention_dropout(encoder: Encoder, rate: float) -> int:
    """Set the dropout of every attention layer (active in train mode; MCSIE, section 4.2); return their number.

    Raises:
        I0TError: one of the two encoders has no attention layer, so its two views would be equal.
    """
    layers = [module for module in encoder.model.modules() if isinstance(module, torch.nn.MultiheadAttention)]
    in_vision = [module for module in encoder.model.visual.modules() if module in layers]
    if rate and len(in_vision) in (0, len(layers)):
        part = "text" if in_vision else "image"
        raise I0TError(
            f"{encoder.name}: no attention layers in its {part} encoder, so dropout cannot give two views of it "
            "(MCSIE). Use views=1 attention_dropout=0."
        )
    for layer in layers:
        layer.dropout = rate
    return len(layers)


def _tokenizer(config: dict[str, Any]) -> Any:
    text_config = config.get("text_cfg", {})
    length = text_config.get("context_length", 77)
    hub_name = text_config.get("hf_tokenizer_name")
    if hub_name:
        return open_clip.tokenizer.HFTokenizer(hub_name, context_length=length)
    return _with_word_cache(open_clip.SimpleTokenizer(context_length=length))


class WordTokenizer(open_clip.SimpleTokenizer):  # type: ignore[misc]
    """CLIP's tokenizer with a cache of the ids of each word: twice as fast, because captions repeat few words."""

    def __init__(self, plain: open_clip.SimpleTokenizer) -> None:
        self.__dict__.update(plain.__dict__)
        self.ids_of_word: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without start and end."""
        ids: list[int] = []
        for word in self.pat.findall(self.clean_fn(text)):
            if word not in self.ids_of_word:
                letters = "".join(self.byte_encoder[byte] for byte in word.encode())
                self.ids_of_word[word] = [self.encoder[part] for part in self.bpe(letters).split(" ")]
            ids += self.ids_of_word[word]
        return ids


def _with_word_cache(tokenizer: Any) -> Any:
    return WordTokenizer(tokenizer) if type(tokenizer) is open_clip.SimpleTokenizer else tokenizer


def _plain(settings: Any) -> dict[str, Any]:
    settings = settings if isinstance(settings, dict) else asdict(settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Silence the log of libraries: the error of this project says the same in one line."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

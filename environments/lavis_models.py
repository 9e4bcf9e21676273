"""LAVIS' BLIP and BLIP-2 as i0t encoders, from local files or with LAVIS' own download.

Source: salesforce/LAVIS 1.0.2, `load_model_and_preprocess`, `blip_feature_extractor`, `blip2_qformer`. Its code does
everything, except that local files replace its downloads.

Shapes: M texts, B batch, Q = 32 vectors per image (BLIP-2's queries), D = 256 dimensions.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.utils.rnn import pad_sequence

from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.paths import say

MODELS = {  # LAVIS' name and kind, and its file under <data_dir>
    "blip": ("blip_feature_extractor", "base", "blip/model_base_capfilt_large.pth"),
    "blip2": ("blip2_feature_extractor", "pretrain", "blip2/blip2_pretrained.pth"),
    "blip2coco": ("blip2_feature_extractor", "coco", "blip2/blip2_finetune_coco.pth"),
}
EVA = "blip2/eva_vit_g.pth"  # the image encoder, which blip2_pretrained.pth does not have
VOCABULARY = "bert-base-uncased/vocab.txt"


@dataclass(frozen=True)
class LocalFiles:
    """Files that LAVIS would download."""

    checkpoint: Path  # {"model": state dict}, as LAVIS publishes it
    vision: Path | None  # EVA-CLIP's image encoder, for a BLIP-2 checkpoint without one
    vocabulary: Path | None  # vocab.txt of bert-base-uncased


class LavisText:
    """Captions as token ids: here UTF-8 bytes plus one, because LAVIS' models tokenize captions themselves.

    Args:
        clean: LAVIS' caption processor: lower case, without punctuation, at most 50 words.
    """

    def __init__(self, clean: Callable[[str], str]) -> None:
        self.clean, self.uncut = clean, type(clean)(max_words=sys.maxsize)

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """(B, L) ids of the cleaned captions, padded with 0."""
        rows = [torch.tensor([byte + 1 for byte in self.clean(text).encode()], dtype=torch.int64) for text in texts]
        return pad_sequence(rows, batch_first=True)

    def decode(self, tokens: torch.Tensor) -> list[str]:
        """Decode ids (B, L) to cleaned captions."""
        return [bytes(token - 1 for token in row if token).decode() for row in tokens.tolist()]

    def is_cut(self, text: str) -> bool:
        """Whether a caption is cut."""
        return self.uncut(text) != self.clean(text)


class LavisEncoder(Encoder):
    """LAVIS' feature extractor as an i0t encoder. It chooses the precision itself."""

    def __init__(self, name: str, model: torch.nn.Module, preprocess: Callable, clean: Callable[[str], str]) -> None:
        architecture = {"family": "LAVIS", "model": {"embed_dim": model.vision_proj.out_features}}
        super().__init__(model, preprocess, LavisText(clean), architecture, name=name)

    def features_of_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to unit features: of [CLS], (B, D), or of BLIP-2's queries, (B, Q, D)."""
        with torch.autocast(self.device.type, enabled=False):
            features = self.model.extract_features({"image": pixels}, mode="image").image_embeds_proj
        return features if hasattr(self.model, "query_tokens") else features[:, 0]

    def features_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ids (B, L) of `LavisText` to unit features of [CLS], (B, D)."""
        captions = {"text_input": self.tokenize.decode(tokens)}
        with torch.autocast(self.device.type, enabled=False):
            return self.model.extract_features(captions, mode="text").text_embeds_proj[:, 0]

    def raw_features_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Raise an error: LAVIS only returns unit vectors."""
        raise I0TError("LAVIS gives unit vectors only: use --prompt-mean normalised.")


def load_lavis(name: str, files: LocalFiles | None, device: str = "cpu") -> LavisEncoder:
    """Load a model of `MODELS`, from local files or with LAVIS' own download.

    Raises:
        I0TError: LAVIS is not installed, weights cannot be downloaded, or a file is incomplete.
    """
    try:
        from lavis.common.registry import registry
        from lavis.models import load_preprocess
        from omegaconf import OmegaConf
    except ImportError as error:
        raise I0TError(f"{sys.executable}: no LAVIS ({error}). Run scripts/setup_lavis.sh first.") from None
    architecture, kind, _ = MODELS[name]
    model_class = registry.get_model_class(architecture)
    config = OmegaConf.load(model_class.default_config_path(kind))
    model = _downloaded(model_class, name) if files is None else _from_files(model_class, config.model, files)
    images, texts = load_preprocess(config.preprocess)
    model = (model.float() if device == "cpu" else model).to(device)  # as LAVIS' load_model_and_preprocess
    return LavisEncoder(f"lavis-{name}", model, images["eval"], texts["eval"]).eval()


def _downloaded(model_class: Any, name: str) -> torch.nn.Module:
    architecture, kind, _ = MODELS[name]
    say(f"Weights: LAVIS' {architecture}/{kind}, which LAVIS downloads on first use.")
    try:
        return model_class.from_pretrained(model_type=kind)
    except (OSError, RuntimeError, ValueError) as error:
        raise I0TError(
            f"LAVIS' {architecture}/{kind} cannot be downloaded ({_first_line(error)}). Connect once, or give its "
            "files with --checkpoint, --vocabulary and, for blip2, --vision-checkpoint; see docs/lavis.md."
        ) from None


def _from_files(model_class: Any, config: Any, files: LocalFiles) -> torch.nn.Module:
    """Build and load with LAVIS' code; check that no tensor stays random, which LAVIS does not report."""
    if files.vocabulary is None:
        raise I0TError(f"no BERT vocabulary: put one at <data_dir>/{VOCABULARY}, or give --vocabulary FILE.")
    has_vision = any(key.startswith("visual_encoder.") for key in _read(files.checkpoint, "model"))
    if not has_vision and files.vision is None:
        raise I0TError(
            f"{files.checkpoint}: it has no image encoder; BLIP-2's pretrained file needs eva_vit_g.pth. Put that at "
            f"<data_dir>/{EVA}, or give --vision-checkpoint FILE."
        )
    model = _built(model_class, config, None if has_vision else files.vision, files.vocabulary)
    try:
        missing = set(model.load_from_pretrained(str(files.checkpoint)).missing_keys)
    except (KeyError, RuntimeError, ValueError) as error:
        raise I0TError(f"{files.checkpoint}: not this model's checkpoint ({_first_line(error)}).") from None
    if not has_vision:
        missing -= {f"visual_encoder.{key}" for key in _read(files.vision)}
    if missing := sorted(key for key in missing if not key.endswith("position_ids")):
        raise I0TError(f"{files.checkpoint}: {len(missing)} tensors are missing or of other shapes: {missing[:3]} ...")
    return model


def _built(model_class: Any, config: Any, vision: Path | None, vocabulary: Path) -> torch.nn.Module:
    """Build the model before loading its checkpoint, with local files instead of LAVIS' downloads."""
    from lavis.models import eva_vit
    from lavis.models.blip2_models import blip2
    from transformers import BertTokenizer

    config.pretrained = None
    with ExitStack() as stack:
        if vision is None:  # LAVIS reads EVA's file even if the checkpoint replaces all of it
            vision = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "empty.pth"
            torch.save({}, vision)
        for place, name, local in (
            (BertTokenizer, "from_pretrained", lambda *_: BertTokenizer(str(vocabulary))),
            (blip2.BertConfig, "from_pretrained", lambda *_: blip2.BertConfig()),  # its defaults are bert-base-uncased
            (blip2.BertLMHeadModel, "from_pretrained", lambda _, config: blip2.BertLMHeadModel(config)),
            (eva_vit, "download_cached_file", lambda *_, **__: str(vision)),
            (model_class, "load_checkpoint_from_config", lambda *_: None),
        ):
            stack.enter_context(patch.object(place, name, local))
        return model_class.from_config(config)


def _read(path: Path, entry: str | None = None) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return content[entry] if entry else content
    except Exception as error:  # torch.load raises many kinds
        raise I0TError(f"{path}: not weights as LAVIS publishes them ({_first_line(error)}).") from None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]

"""A model of open_clip as a folder that open_clip or transformers loads, without this package.

Shapes: D embedding dimensions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from i0t.encoders.encoder import Encoder
from i0t.encoders.export_transformers import save_for_transformers
from i0t.encoders.hub import quiet
from i0t.encoders.tokenizers import HubTokenizer
from i0t.errors import I0TError
from i0t.files import ensure_folder

Affine = tuple[np.ndarray, np.ndarray]  # matrix (D, D) and bias (D,), float64


def export_encoder(encoder: Encoder, folder: Path, library: str) -> None:
    """Write the model below the heads into a new or empty folder.

    Args:
        encoder: a model of open_clip.
        folder: where to write.
        library: "open_clip" or "transformers".

    Raises:
        I0TError: not open_clip's model, the folder has files, or transformers has no such architecture.
    """
    if not encoder.is_open_clip:
        own = encoder.source.get("library")
        raise I0TError(
            f"{encoder.name}: not a model of open_clip, so {library} cannot load it."
            + (f" Its own library does from where it is; --to {own} writes heads on it." if own else "")
        )
    if library not in ("open_clip", "transformers"):
        raise I0TError(f"{encoder.name}: {library} has no such model. Export it with --to open_clip.")
    require_new(folder)
    with quiet():
        (save_for_open_clip if library == "open_clip" else save_for_transformers)(encoder, folder)


def require_new(folder: Path) -> None:
    """Refuse a folder that holds files.

    Raises:
        I0TError: it does, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise I0TError(f"{folder}: not empty. Name a new folder.")


def is_only_heads(encoder: Encoder, library: str) -> bool:
    """Whether of a model that `library` itself has, all that is ours are its heads."""
    return not encoder.is_open_clip and encoder.heads is not None and encoder.source.get("library") == library


def save_for_open_clip(encoder: Encoder, folder: Path) -> None:
    """Write what `open_clip.create_model("local-dir:FOLDER")` reads."""
    config = {"model_cfg": encoder.architecture["model"], "preprocess_cfg": encoder.architecture["preprocess"]}
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.model.state_dict().items()}
    ensure_folder(folder)
    save_file(state, folder / "open_clip_model.safetensors")
    if isinstance(encoder.tokenize, HubTokenizer):
        encoder.tokenize.tokenizer.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def heads_as_maps(encoder: Encoder) -> dict[str, Affine]:
    """The heads as x' = N(A N(x) + b), for "image" and "text"; N divides by the length.

    Raises:
        I0TError: LayerNorm heads, whose mean and variance are those of each vector.
    """
    maps: dict[str, Affine] = {}
    for modality in ("image", "text"):
        head: Any = getattr(encoder.heads, modality)
        if not isinstance(head, torch.nn.BatchNorm1d) or head.running_var is None or head.running_mean is None:
            raise I0TError(
                f"{encoder.name}: LayerNorm heads are no affine map, which other libraries could apply. Export the "
                "checkpoint that they were trained on, and keep this one for `--model`."
            )
        parts = (head.weight, head.bias, head.running_mean, head.running_var)
        weight, bias, mean, variance = (part.detach().cpu().double().numpy() for part in parts)
        scale = weight / np.sqrt(variance + head.eps)
        maps[modality] = np.diag(scale), bias - scale * mean
    return maps

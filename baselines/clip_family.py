"""CLIP, Long-CLIP, PAC-S, CLOOB, CyCLIP and the first public I0T checkpoints as open_clip models.

All use OpenAI's architecture with QuickGELU and, after renaming, OpenAI's parameter names. Sizes are read
from the shapes, so that a small checkpoint loads like a real one. Based on the authors' code: openai/CLIP,
beichenzbc/Long-CLIP, aimagelab/pacscore, ml-jku/cloob,
goel-shashank/CyCLIP, xfactlab/I0T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_clip.transform import PreprocessCfg
from torch import Tensor

from baselines.clip_layouts import LAYOUTS, POSITIONS_OF_CLIP, rounded_like_openai, split_heads
from baselines.state_dicts import count_indices, grid_side, head_count, load_exactly, naming, need, read_state_dict
from i0t.encoders.encoder import Encoder
from i0t.encoders.openclip import build_encoder
from i0t.errors import I0TError

HEAD_WIDTH = 64  # of an attention head, in every published model of the family
RESNET_SHRINKS = 32  # pixels per position of a ResNet
# CLIP's own, written out as by open_clip, because fingerprints include it.
PREPROCESS = {key: value for key, value in asdict(PreprocessCfg()).items() if key != "size"}


def load(name: str, file: str | Path, layout: str, round_fp16: bool = False) -> Encoder:
    """Load a published checkpoint of the family.

    Args:
        name: name for records and errors.
        file: the checkpoint as published, or only its state dict.
        layout: "openai" (CLIP, PAC-S, CyCLIP), "longclip" (also the first public I0T) or "cloob".
        round_fp16: round weights to fp16 first, as the loaders of CLIP and Long-CLIP do, for the same bits as
            published numbers.

    Returns:
        An `Encoder`, with heads if the file has those of I0T.

    Raises:
        I0TError: no such layout, or the file has another one (with missing and unexpected keys).
    """
    if layout not in LAYOUTS:
        raise I0TError(f"{name}: layout {layout!r}, choose one of {', '.join(LAYOUTS)}.")
    with naming(file):
        state, heads = split_heads(read_state_dict(file, entry="state_dict"))
        state = LAYOUTS[layout](state)
        if round_fp16:
            state = rounded_like_openai(state)
        architecture: dict[str, Any] = {"model": clip_config(state), "preprocess": PREPROCESS}
        if layout == "longclip":  # further training does not change its first positions, as in its authors' code
            architecture["stretched_from"] = POSITIONS_OF_CLIP
        encoder = build_encoder(architecture, heads="batch_norm" if heads else None, name=name)
        load_exactly(encoder.model, state)
        if encoder.heads is not None:
            load_exactly(encoder.heads, heads)
    return encoder.eval()


def clip_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read open_clip's configuration from the shapes of a state dict with OpenAI's names.

    Raises:
        I0TError: a tensor is missing.
    """
    context_length, width = need(state, "positional_embedding").shape
    return {
        "embed_dim": need(state, "text_projection").shape[1],
        "quick_gelu": True,
        "vision_cfg": _vision_config(state),
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": len(need(state, "token_embedding.weight")),
            "width": width,
            "heads": head_count(width, HEAD_WIDTH),
            "layers": count_indices(state, r"transformer\.resblocks\.(\d+)\."),
        },
    }


def _vision_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if "visual.proj" in state:  # a vision transformer
        width, _, _, patch = need(state, "visual.conv1.weight").shape
        return {
            "image_size": patch * grid_side(need(state, "visual.positional_embedding")),
            "patch_size": patch,
            "width": width,
            "layers": count_indices(state, r"visual\.transformer\.resblocks\.(\d+)\."),
        }
    return {
        "image_size": RESNET_SHRINKS * grid_side(need(state, "visual.attnpool.positional_embedding")),
        "width": len(need(state, "visual.layer1.0.conv1.weight")),
        "patch_size": None,
        "layers": [count_indices(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in range(1, 5)],
    }

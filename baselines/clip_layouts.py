"""Rename rivals' parameters to OpenAI's names: state dict in, state dict out.

Shapes: L tokens, W width of the text encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch

from baselines.state_dicts import StateDict, below, need
from i0t.encoders.positions import KEPT_ROWS
from i0t.errors import I0TError

POSITIONS_OF_CLIP = 77  # before Long-CLIP stretches them
# OpenAI's archives have these sizes beside the weights.
RECORDED_SIZES = ("input_resolution", "context_length", "vocab_size")
HEAD_NAMES = {"image": "bn_final_image.", "text": "bn_final_text."}

# Parameters that OpenAI's loader converts to fp16: convolutions, linear and attention layers, projections; not
# embeddings and norms.
_ROUNDED = re.compile(
    r"(^|\.)(proj|text_projection|in_proj_weight|in_proj_bias|conv\d\.weight|downsample\.0\.weight"
    r"|(out_proj|c_fc|c_proj|q_proj|k_proj|v_proj)\.(weight|bias))$"
)


def from_openai(state: StateDict) -> StateDict:
    """CLIP, PAC-S, CyCLIP: keep the names, and remove the sizes that OpenAI's archives have.

    Raises:
        I0TError: a size contradicts the shapes.
    """
    implied = {
        "context_length": len(need(state, "positional_embedding")),
        "vocab_size": len(need(state, "token_embedding.weight")),
    }
    for key, size in implied.items():
        if key in state and int(state[key]) != size:
            raise I0TError(f"{key} is recorded as {int(state[key])}, but the shapes say {size}.")
    return {key: value for key, value in state.items() if key not in RECORDED_SIZES}


def from_longclip(state: StateDict) -> StateDict:
    """Long-CLIP and the first public I0T: join the two tables of text positions.

    The first 20 rows come from the frozen table, all others from the trained one (`_res`).

    Raises:
        I0TError: the trained table is missing or has another shape.

    Example:
        >>> state = {"positional_embedding": torch.zeros(22, 1), "positional_embedding_res": torch.ones(22, 1)}
        >>> merged = from_longclip({**state, "token_embedding.weight": torch.zeros(5, 1)})["positional_embedding"]
        >>> merged[19:21].tolist(), len(merged)
        ([[0.0], [1.0]], 22)
    """
    state = from_openai(state)
    frozen, trained = state["positional_embedding"], need(state, "positional_embedding_res")  # (L, W) each
    if trained.shape != frozen.shape:
        raise I0TError(f"positional_embedding_res is {tuple(trained.shape)}, expected {tuple(frozen.shape)}.")
    del state["positional_embedding_res"]
    state["positional_embedding"] = torch.cat([frozen[:KEPT_ROWS], trained[KEPT_ROWS:]])
    return state


def from_cloob(state: StateDict) -> StateDict:
    """CLOOB: its text encoder is `transformer.transformer`; log(1 / tau) is the logit scale.

    The scale of the Hopfield retrieval is only for the loss and is removed.
    """
    lifted = {key.removeprefix("transformer."): value for key, value in state.items()}
    lifted.pop("logit_scale_hopfield", None)
    lifted["logit_scale"] = need(lifted, "logit_inv_tau")
    del lifted["logit_inv_tau"]
    return lifted


LAYOUTS: Mapping[str, Callable[[StateDict], StateDict]] = {
    "openai": from_openai,
    "longclip": from_longclip,
    "cloob": from_cloob,
}


def split_heads(state: StateDict) -> tuple[StateDict, StateDict]:
    """Split off I0T's BatchNorm heads.

    Returns:
        The rest, and the heads with the names of `NormHeads` (empty if there are none).
    """
    prefixes = tuple(HEAD_NAMES.values())
    rest = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    heads = {
        f"{modality}.{key}": value
        for modality, prefix in HEAD_NAMES.items()
        for key, value in below(state, prefix).items()
    }
    return rest, heads


def rounded_like_openai(state: StateDict) -> StateDict:
    """Round weights with OpenAI's names to fp16 and back, as the loaders of OpenAI and Long-CLIP do."""
    return {key: value.half().to(value.dtype) if _ROUNDED.search(key) else value for key, value in state.items()}

"""Batches of texts without the padding that no feature depends on.

The tokenizer says which id is padding (`pad_id_of`), and the model whether its text features depend on padding. They do
if attention sees it, as in SigLIP, or if the last position is taken; such batches keep their full length.

Shapes: B batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from i0t.encoders.clip_model import ClipModel
from i0t.errors import I0TError

Tokenize = Callable[[list[str]], torch.Tensor]  # texts to token ids (B, L)


def pad_id_of(tokenize: Tokenize) -> int:
    """The id that a tokenizer fills rows with: its `pad_id`, 0 (CLIP's) if it does not say."""
    return int(getattr(tokenize, "pad_id", 0))


def token_lengths(tokens: torch.Tensor, pad_id: int = 0) -> torch.Tensor:
    """(B,) number of ids per row of (B, L), without the padding at the end.

    A padding id inside a text (0 is also CLIP's "!") does not end it.
    """
    filled = tokens != pad_id
    return torch.where(filled.any(dim=1), tokens.shape[1] - filled.flip(1).int().argmax(dim=1), 0)


def are_full(tokens: torch.Tensor, pad_id: int) -> torch.Tensor:
    """(B,) bool: rows of (B, L) that are filled, and so may have been cut.

    One padding id at either end does not count, because in some vocabularies it is the end token, too (SigLIP's 1).
    """
    ends = tokens == pad_id
    return ~(ends[:, -2:].all(dim=1) | ends[:, :2].all(dim=1))


def require_known(model: nn.Module, tokens: torch.Tensor, name: str) -> None:
    """Refuse token ids (B, L) beyond the largest table of the model: on a card they would end the process.

    Raises:
        I0TError: the tokenizer is that of another model.
    """
    rows = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    largest = int(tokens.max())
    if rows and largest >= max(rows):
        raise I0TError(
            f"{name}: its tokenizer gives the id {largest}, but its model has {max(rows)} tokens at most. Is it the "
            "tokenizer of another model?"
        )


def text_length(model: ClipModel, tokens: torch.Tensor, pad_id: int = 0) -> int:
    """Number of columns of token ids (B, L) that matter: up to the longest text, if the model hides padding.

    Call it while the ids are on the CPU: a card would first finish all earlier work.
    """
    return max(int(token_lengths(tokens, pad_id).max()), 1) if hides_padding(model) else tokens.shape[1]


def hides_padding(model: ClipModel) -> bool:
    """Whether text features do not depend on the padding at the end: so says the model, or it is causal."""
    return bool(getattr(model, "hides_padding", _is_causal(model)))


def encode_cut_text(model: ClipModel, tokens: torch.Tensor, length: int) -> torch.Tensor:
    """`model.encode_text` on tokens cut to their `text_length`.

    The result is the same, because the model hides padding from the tokens before it; at 248 tokens it
    is several times faster. `open_clip.CLIP` adds all its positions, so positions and mask are replaced by
    their first rows for this call (with gradients).
    """
    if length == model.context_length or not hides_padding(model):
        return model.encode_text(tokens)
    if not _is_causal(model):
        return model.encode_text(tokens[:, :length])
    cut = {
        "positional_embedding": model.positional_embedding[:length],
        "attn_mask": model.attn_mask[:length, :length],
    }
    exchanged = {f"model.{name}": value for name, value in cut.items()}
    # Looking for tied weights takes milliseconds, and these two are not tied.
    return torch.func.functional_call(_TextModel(model), exchanged, tokens[:, :length], tie_weights=False)


def _is_causal(model: ClipModel) -> bool:
    return getattr(model, "text_pool_type", "") == "argmax" and getattr(model, "attn_mask", None) is not None


class _TextModel(nn.Module):
    """`encode_text` as `forward`, for `functional_call`."""

    def __init__(self, model: ClipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unnormalised text features (B, D)."""
        return self.model.encode_text(tokens)

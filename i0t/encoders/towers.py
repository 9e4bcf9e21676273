"""What the two towers make of one batch: pixels and token ids to features, before any head.

Shapes: B batch, L tokens, D embedding dimensions; Q vectors an image of models with several.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

END_OF_TEXT = 49407  # of CLIP's byte-pair vocabulary: the largest id


def unit_image_features(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) to unit features (B, D) before any head; with gradients, for training."""
    return F.normalize(model.encode_image(pixels).float(), dim=-1)


def unit_text_features(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids (B, L) to unit features (B, D) before any head, cut to the batch's longest; with gradients."""
    return F.normalize(encode_cut_text(model, tokens).float(), dim=-1)


def encode_cut_text(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """`model.encode_text` on tokens cut to the longest of the batch.

    Equal to the uncut result, because the causal mask keeps padding out of all that comes before
    it; at 248 tokens it is several times faster. `open_clip.CLIP` adds all its positions, so they
    and the mask are exchanged for their first rows for this one call (gradients pass through).
    """
    if not _is_causal(model):
        return model.encode_text(tokens)
    length = int(token_lengths(tokens).max())
    if length == model.context_length:
        return model.encode_text(tokens)
    cut = {
        "positional_embedding": model.positional_embedding[:length],
        "attn_mask": model.attn_mask[:length, :length],
    }
    return torch.func.functional_call(_TextTower(model), {f"model.{k}": v for k, v in cut.items()}, tokens[:, :length])


def token_lengths(tokens: torch.Tensor) -> torch.Tensor:
    """(B,) number of ids without the padding, which is the zeros at the end of each row of (B, L).

    A 0 within a text (CLIP's "!") does not end it.
    """
    filled = tokens != 0
    return torch.where(filled.any(dim=1), tokens.shape[1] - filled.flip(1).int().argmax(dim=1), 0)


def stack_padded(chunks: list[torch.Tensor]) -> torch.Tensor:
    """One (M, L) array of token ids from chunks that may be padded to different lengths."""
    length = max(chunk.shape[1] for chunk in chunks)
    return torch.cat([F.pad(chunk, (0, length - chunk.shape[1])) for chunk in chunks])


def _is_causal(model: nn.Module) -> bool:
    return getattr(model, "text_pool_type", "") == "argmax" and getattr(model, "attn_mask", None) is not None


class _TextTower(nn.Module):
    """`encode_text` as `forward`, which is what `functional_call` calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unnormalised text features (B, D)."""
        return self.model.encode_text(tokens)

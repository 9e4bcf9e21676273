"""Long-CLIP's stretched text positions: 77 to 248, the first 20 rows kept (Zhang et al. 2024)."""

from __future__ import annotations

import torch
from torch import nn

from i0t.encoders.clip_model import ClipModel
from i0t.errors import I0TError

KEPT_ROWS = 20  # the rows that short captions use; CLIP has learned these well


def stretch_positions(positions: torch.Tensor, length: int, kept: int = KEPT_ROWS) -> torch.Tensor:
    """Keep the first rows and stretch the others linearly by a whole factor.

    Args:
        positions: (L, W) text position embeddings, L = 77 for CLIP.
        length: new length; `kept` + a multiple of the rest, e.g. 20 + 4 * 57 = 248.
        kept: number of rows that do not change.

    Returns:
        (length, W): old row `kept` + i becomes new row `kept` + factor * i, rows between are interpolated
        linearly, and rows after the last continue its slope.

    Raises:
        I0TError: `length` is not `kept` + a multiple of the rest.

    Example:
        >>> stretch_positions(torch.arange(4.0)[:, None], 7, kept=1).flatten().tolist()
        [0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    """
    rest = len(positions) - kept
    factor, remainder = divmod(length - kept, max(rest, 1))
    if rest < 2 or factor < 1 or remainder:
        raise I0TError(
            f"text positions: {len(positions)} rows cannot be stretched to {length}; "
            f"the length must be {kept} + a multiple of {rest}."
        )
    tail = positions[kept:]
    # One more row, so that the rows after the last have a slope.
    tail = torch.cat([tail, tail[-1:] + (tail[-1:] - tail[-2:-1])])
    steps = torch.arange(length - kept, device=positions.device) / factor
    low = steps.floor().long()
    weight = (steps - low).unsqueeze(1).to(positions.dtype)
    return torch.cat([positions[:kept], torch.lerp(tail[low], tail[low + 1], weight)])


def stretch_text_positions(model: ClipModel, length: int) -> None:
    """Give an `open_clip.CLIP` a longer text context, in place.

    Raises:
        I0TError: the model has no plain causal text encoder, or a wrong `length`.
    """
    if not isinstance(getattr(model, "positional_embedding", None), nn.Parameter):
        raise I0TError(f"{type(model).__name__}: only CLIP's own text encoder can be stretched.")
    stretched = stretch_positions(model.positional_embedding.detach(), length)
    model.positional_embedding = nn.Parameter(stretched)
    model.context_length = length
    mask = torch.full((length, length), float("-inf"), device=stretched.device).triu_(1)
    model.register_buffer("attn_mask", mask, persistent=False)


def freeze_first_positions(model: ClipModel, kept: int = KEPT_ROWS) -> None:
    """Set the gradient of the first rows to 0 (Long-CLIP trains only the stretched rows).

    Weight decay must be off for this parameter, or it would still shrink these rows.
    """

    def mask(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient[:kept] = 0
        return gradient

    model.positional_embedding.register_hook(mask)

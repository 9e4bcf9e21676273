"""Training objectives: unit features in, named losses out. The training step calls the encoders.

An objective is a module with `forward(image_features, text_features, logit_scale)`; with
`needs_short_captions = True` it gets the features of the short captions as a fourth argument. It returns
a dict of named scalars, which are summed. A recipe names it by dotted path, so that `baselines` can hold
the objectives of rivals.

Shapes: B batch, D embedding dimensions. Each row of images matches the same row of texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from i0t.training.objectives.contrastive import Contrastive, CyClip, Losses
from i0t.training.objectives.long_clip import LongClip

__all__ = ["Contrastive", "CyClip", "LongClip", "Losses", "multi_view"]


def multi_view(
    objective: nn.Module,
    image_views: Sequence[torch.Tensor],
    text_views: Sequence[torch.Tensor],
    logit_scale: torch.Tensor,
    short_views: Sequence[torch.Tensor] | None = None,
) -> Losses:
    """MCSIE: the objective averaged over all combinations of views (section 4.2).

    With two dropout views per modality, these are the four combinations {I, I_aug} x {T, T_aug}; with one
    view, it is the objective itself.

    Args:
        objective: computes the losses of one pair of views.
        image_views: V tensors (B, D).
        text_views: V tensors (B, D).
        logit_scale: scalar.
        short_views: V tensors (B, D) of the short captions, for an objective that needs them; each is used
            with the text view of the same number.
    """
    texts = [(view,) for view in text_views] if short_views is None else list(zip(text_views, short_views, strict=True))
    combinations = [objective(images, long, logit_scale, *short) for images in image_views for long, *short in texts]
    return {key: torch.stack([losses[key] for losses in combinations]).mean() for key in combinations[0]}

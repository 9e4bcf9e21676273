"""L_CLIP and CyCLIP's cyclic terms (rows LCO and LCCO of the ladder)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

Losses = dict[str, torch.Tensor]


class Contrastive(nn.Module):
    """CLIP's symmetric cross-entropy, L_CLIP (LCO: on long captions alone; section 4.1).

    Args:
        label_smoothing: as in `torch.nn.functional.cross_entropy`.

    Example:
        >>> losses = Contrastive()(torch.eye(2), torch.eye(2), torch.tensor(1.0))
        >>> round(float(losses["contrastive_loss"]), 3)  # log(1 + 1 / e)
        0.313
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor, logit_scale: torch.Tensor) -> Losses:
        """{"contrastive_loss": scalar} of (B, D) unit features; `logit_scale` is the factor itself, not its log."""
        logits = logit_scale * image_features @ text_features.T  # (B, B)
        targets = torch.arange(len(logits), device=logits.device)
        per_image = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        per_text = F.cross_entropy(logits.T, targets, label_smoothing=self.label_smoothing)
        return {"contrastive_loss": (per_image + per_text) / 2}


class CyClip(nn.Module):
    """L = L_CLIP + w_I L_I-cyclic + w_C L_C-cyclic (LCCO; CyCLIP, Goel et al. 2022).

    In-modal: mean over (i, j) of (cos(x_i, x_j) - cos(y_i, y_j))^2, times B.
    Cross-modal: mean over (i, j) of (cos(x_i, y_j) - cos(x_j, y_i))^2, times B.

    Args:
        in_modal_weight: w_I.
        cross_modal_weight: w_C.
        label_smoothing: of L_CLIP.
    """

    def __init__(
        self, in_modal_weight: float = 0.25, cross_modal_weight: float = 0.25, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.contrastive = Contrastive(label_smoothing)
        self.in_modal_weight, self.cross_modal_weight = in_modal_weight, cross_modal_weight

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor, logit_scale: torch.Tensor) -> Losses:
        """The three weighted terms; arguments as in `Contrastive`."""
        batch = len(image_features)
        in_modal = image_features @ image_features.T - text_features @ text_features.T  # (B, B)
        cosines = image_features @ text_features.T  # (B, B)
        return {
            **self.contrastive(image_features, text_features, logit_scale),
            "in_modal_cyclic_loss": self.in_modal_weight * in_modal.square().mean() * batch,
            "cross_modal_cyclic_loss": self.cross_modal_weight * (cosines - cosines.T).square().mean() * batch,
        }

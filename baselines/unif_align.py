"""Unif-Align, a rival of Table 2: L_CLIP with the alignment and uniformity of Wang & Isola (2020) as losses.

Shapes: B batch, D embedding dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from i0t.training.objectives import Contrastive, Losses


def uniformity_loss(features: torch.Tensor) -> torch.Tensor:
    """Log mean_{i<j} exp(-2 ||z_i - z_j||^2) of (B, D) unit vectors: Wang & Isola's uniformity with t = 2."""
    # Squared distances of unit vectors as 2 - 2 cos: `pdist` has an infinite gradient if two rows are equal.
    rows, columns = torch.triu_indices(len(features), len(features), 1, device=features.device)
    cosines = (features @ features.T)[rows, columns]
    return torch.logsumexp(4 * cosines - 4, dim=0) - math.log(len(cosines))


class UnifAlign(nn.Module):
    """L = L_CLIP + mean ||x_i - y_i||^2 + uniformity of images + uniformity of texts.

    Args:
        label_smoothing: of L_CLIP; 0.1 as in LCO.
        align_weight: of the alignment term.
        uniform_weight: of the two uniformity terms.
    """

    def __init__(self, label_smoothing: float = 0.1, align_weight: float = 1.0, uniform_weight: float = 1.0) -> None:
        super().__init__()
        self.contrastive = Contrastive(label_smoothing)
        self.align_weight, self.uniform_weight = align_weight, uniform_weight

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor, logit_scale: torch.Tensor) -> Losses:
        """The three weighted terms of (B, D) unit features; `logit_scale` as in `Contrastive`."""
        alignment = (image_features - text_features).square().sum(dim=1).mean()
        uniformity = uniformity_loss(image_features) + uniformity_loss(text_features)
        return {
            **self.contrastive(image_features, text_features, logit_scale),
            "alignment_loss": self.align_weight * alignment,
            "uniformity_loss": self.uniform_weight * uniformity,
        }

"""CLOOB's objective (Fuerst et al. 2022), a rival of Table 2: modern Hopfield retrieval and InfoLOOB.

Shapes: B batch, D embedding dimensions.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from i0t.training.objectives import Losses


def hopfield_retrieval(states: torch.Tensor, stored: torch.Tensor, scaling: float) -> torch.Tensor:
    """Retrieve a stored pattern for each state: N(softmax(scaling * states stored^T) stored), all (B, D) unit."""
    return F.normalize(torch.softmax(scaling * states @ stored.T, dim=-1) @ stored, dim=-1)


def info_loob(anchors: torch.Tensor, candidates: torch.Tensor, inv_tau: float) -> torch.Tensor:
    """InfoLOOB: as InfoNCE, but the positive is left out of the denominator.

    tau * mean_i (log sum_{j != i} exp(s_ij / tau) - s_ii / tau), with s the inner products.

    Args:
        anchors: (B, D), B >= 2.
        candidates: (B, D); row i is the positive of anchor i.
        inv_tau: 1 / tau.

    Example:
        >>> eye = torch.eye(2)
        >>> info_loob(eye, eye, inv_tau=1.0).item(), info_loob(eye, eye.flip(0), inv_tau=1.0).item()
        (-1.0, 1.0)
    """
    logits = inv_tau * anchors @ candidates.T  # (B, B)
    positive = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    negatives = torch.logsumexp(logits.masked_fill(positive, float("-inf")), dim=1)
    return (negatives - logits.diagonal()).mean() / inv_tau


class Cloob(nn.Module):
    """L = InfoLOOB of the images' retrievals + InfoLOOB of the texts' (CLOOB, eq. 8).

    Images and texts both retrieve from the images; the two unit vectors per pair are then matched. The same is
    done with the texts. The temperature is fixed, as in CLOOB: `logit_scale` is not used.

    Args:
        scaling: of the Hopfield retrieval; 14.3 in the paper.
        inv_tau: of InfoLOOB; 1 / 0.07 in the first public code.
    """

    def __init__(self, scaling: float = 14.3, inv_tau: float = 1 / 0.07) -> None:
        super().__init__()
        self.scaling, self.inv_tau = scaling, inv_tau

    def forward(self, image_features: torch.Tensor, text_features: torch.Tensor, logit_scale: torch.Tensor) -> Losses:
        """{"image_loob_loss", "text_loob_loss"} of (B, D) unit features."""
        sides = {"image": (image_features, text_features), "text": (text_features, image_features)}
        return {
            f"{name}_loob_loss": info_loob(
                hopfield_retrieval(own, own, self.scaling), hopfield_retrieval(other, own, self.scaling), self.inv_tau
            )
            for name, (own, other) in sides.items()
        }

"""Normalisation heads on top of an encoder: BN* of I0T_async, and the LN ablation (section 4.2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from i0t.errors import I0TError

KINDS = ("batch_norm", "layer_norm")


class NormHeads(nn.Module):
    """One normalisation layer per modality on the *normalised* embedding; the result is normalised again.

    BatchNorm: x^ = N(W (x - mu) / sqrt(var + 1e-5) + b), momentum 0.1, running statistics at
    inference (App. E). Table 1's +BN* and +LN* train only these 2 x 2 x D parameters.

    Args:
        kind: "batch_norm" or "layer_norm".
        embed_dim: D.
    """

    def __init__(self, kind: str, embed_dim: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise I0TError(f"normalisation head {kind!r}: choose one of {', '.join(KINDS)}.")
        self.kind = kind
        self.image: nn.Module
        self.text: nn.Module
        if kind == "batch_norm":
            self.image = nn.BatchNorm1d(embed_dim, eps=1e-5, momentum=0.1)
            self.text = nn.BatchNorm1d(embed_dim, eps=1e-5, momentum=0.1)
        else:
            self.image = nn.LayerNorm(embed_dim, eps=1e-5)
            self.text = nn.LayerNorm(embed_dim, eps=1e-5)

    def forward(self, features: torch.Tensor, modality: str) -> torch.Tensor:
        """Features (B, D) of one modality, "image" or "text", to unit features (B, D), in float32."""
        return F.normalize(self.unnormalized(features, modality), dim=-1)

    def unnormalized(self, features: torch.Tensor, modality: str) -> torch.Tensor:
        """`forward` before the last normalisation."""
        # float32 even under autocast: the batch variance of unit vectors is only about 1/D.
        with torch.autocast(features.device.type, enabled=False):
            return getattr(self, modality)(features.float())

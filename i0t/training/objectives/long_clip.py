"""Long-CLIP's objective (row LC of the ladder): a second term matches short captions with the image's main parts.

The main parts of a batch's image features are their reconstruction from the first 32 principal components
(Zhang et al. 2024, section 3.3). Autograd through an SVD gives NaN if two singular values are equal. But the
reconstruction depends only on the *subspace* of the first components, and its gradient is finite if the last
kept and the first dropped value differ. `_TopProjector` computes that gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from i0t.training.objectives.contrastive import Contrastive, Losses

COMPONENTS = 32
# Eigenvalues with a smaller difference, relative to the largest, are equal within the precision of float32 features.
CLOSEST_GAP = 1e-6
COLLAPSED = 1e-6  # if the largest eigenvalue is smaller, all unit features are one point


class _TopProjector(torch.autograd.Function):
    """Projector onto the eigenvectors of the k largest eigenvalues of a symmetric (B, B) matrix."""

    @staticmethod
    def forward(ctx: Any, gram: torch.Tensor, components: int) -> torch.Tensor:
        """P = U_k U_k^T."""
        values, vectors = torch.linalg.eigh(gram)  # ascending
        top = vectors[:, -components:]
        ctx.save_for_backward(values, vectors)
        ctx.components = components
        return top @ top.T

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """First-order perturbation: only pairs (kept i, dropped j) change P, by 1 / (value_i - value_j)."""
        values, vectors = ctx.saved_tensors
        rest, top = vectors[:, : -ctx.components], vectors[:, -ctx.components :]
        gaps = values[-ctx.components :][:, None] - values[: -ctx.components][None, :]  # (k, B - k), >= 0
        # If the last kept and the first dropped value are equal, the subspace is ambiguous; the weight of such
        # a pair goes to 0, not to infinity: 1/g becomes g / (g^2 + e^2).
        smallest = CLOSEST_GAP * values[-1].clamp_min(COLLAPSED)
        weights = gaps / (gaps.square() + smallest.square())
        symmetric = (gradient + gradient.T) / 2
        mixed = top @ (weights * (top.T @ symmetric @ rest)) @ rest.T
        return mixed + mixed.T, None


def pca_reconstruction(features: torch.Tensor, components: int = COMPONENTS) -> torch.Tensor:
    """Rebuild features from their mean and first principal components, as Long-CLIP does.

    Args:
        features: (B, D); computed in float64, differentiable everywhere.
        components: number of components; with B - 1 or more, nothing is lost.

    Returns:
        (B, D), of the same dtype, not normalised.

    Example:
        >>> square = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> pca_reconstruction(square, 1).round().abs().tolist()
        [[2.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    if components >= len(features) - 1:
        return features
    exact = features.double()
    mean = exact.mean(dim=0)
    centred = exact - mean
    # The (B, B) Gram matrix has the same non-zero spectrum as the (D, D) covariance, and is smaller.
    projector = _TopProjector.apply(centred @ centred.T, components)
    return (projector @ centred + mean).to(features.dtype)


class LongClip(nn.Module):
    """L = L_CLIP(images, long captions) + L_CLIP(PCA of the images, short captions) (row LC).

    Both terms have label smoothing 0.1, as in Long-CLIP's training. The components are those of the whole
    batch over all processes (in Long-CLIP: of each process).

    Args:
        components: of the PCA.
        label_smoothing: of both terms.
    """

    needs_short_captions = True

    def __init__(self, components: int = COMPONENTS, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.contrastive = Contrastive(label_smoothing)
        self.components = components

    def forward(
        self,
        image_features: torch.Tensor,
        text_features: torch.Tensor,
        logit_scale: torch.Tensor,
        short_text_features: torch.Tensor,
    ) -> Losses:
        """{"contrastive_loss", "short_contrastive_loss"}; arguments as in `Contrastive`, and (B, D) short captions."""
        main_parts = pca_reconstruction(image_features, self.components)
        short = self.contrastive(main_parts, short_text_features, logit_scale)
        return {
            **self.contrastive(image_features, text_features, logit_scale),
            "short_contrastive_loss": short["contrastive_loss"],
        }

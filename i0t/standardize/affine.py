"""Removers that scale or turn the centred vectors: per-dimension z-scores and shrinkage whitening.

Shapes: D dimensions.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from i0t.errors import I0TError
from i0t.features import Features, check_shape, is_torch, l2_normalize
from i0t.standardize.moments import DiagonalMoments, FullMoments
from i0t.standardize.remover import GapRemover, Modality

CONSTANT = 1e-12  # variance below which a dimension of unit vectors only holds rounding


class AffineRemover(GapRemover):
    """x' = N(A (x - mean)), with a factor A of the modality's own second moments.

    Example:
        >>> factor, bias = ZScore().fit(np.array([[1.0, 0.0], [0.8, 0.6]]), np.eye(2)).affine("image")
        >>> factor.round(2).tolist(), bias.round(2).tolist()
        ([2.0, 0.67], [-1.8, -0.2])
    """

    statistics = DiagonalMoments

    def __init__(self) -> None:
        super().__init__()
        self._factors: dict[Modality, tuple[DiagonalMoments, int, np.ndarray]] = {}

    def affine(self, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
        """Factor (D,) or (D, D) and bias (D,); see `GapRemover.affine`."""
        factor, offset = self._factor(modality), self._offset(modality)
        return factor, factor * offset if factor.ndim == 1 else factor @ offset

    def _offset(self, modality: Modality) -> np.ndarray:
        return -self._mean(modality)

    def _factor(self, modality: Modality) -> np.ndarray:
        self._mean(modality)  # raises unless fitted
        held = self._sums[modality]
        assert isinstance(held, DiagonalMoments)
        kept = self._factors.get(modality)
        if kept is None or kept[0] is not held or kept[1] != held.count:
            if held.count < 2:
                raise I0TError(f"{type(self).__name__}: one {modality} vector has no spread; fit at least two.")
            if held.variance().max() < CONSTANT:
                raise I0TError(f"{type(self).__name__}: all {held.count} fitted {modality} vectors are equal.")
            kept = self._factors[modality] = held, held.count, self._learned_factor(held)
        return kept[2]

    @abstractmethod
    def _learned_factor(self, held: DiagonalMoments) -> np.ndarray:
        """(D,) or symmetric (D, D) A."""

    def _transform(self, features: Features, modality: Modality) -> Features:
        name = f"{modality}_features"
        factor, offset = self._factor(modality), self._offset(modality)
        check_shape(features, name, len(offset))
        hint = f"becomes a zero vector under {self!r}: it equals the fitted mean and has no direction left"
        if is_torch(features):
            import torch

            work = features.float() if features.element_size() < 4 else features
            shift, scale = (torch.as_tensor(part, device=work.device).to(work.dtype) for part in (offset, factor))
        else:
            work = features.astype(np.float32) if features.dtype == np.float16 else features
            shift, scale = offset.astype(work.dtype), factor.astype(work.dtype)
        centred = l2_normalize(work, name) + shift
        moved = l2_normalize(centred * scale if factor.ndim == 1 else centred @ scale, name, hint=hint)
        return moved.to(features.dtype) if is_torch(features) else moved.astype(features.dtype, copy=False)


class ZScore(AffineRemover):
    """x' = N((x - mean) / standard deviation), dimension by dimension and modality by modality.

    Beyond centring it takes from the dimensions that vary most in one modality their power over
    every cosine. A dimension that never varied where it was fitted says nothing, and becomes 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> images, texts = rng.normal(1, 1, (200, 8)), rng.normal(-1, 1, (200, 8))
        >>> remover = ZScore().fit(images[:100], texts[:100])
        >>> remover.transform_image(images[100:]).shape
        (100, 8)
    """

    name = "z_score"

    def _learned_factor(self, held: DiagonalMoments) -> np.ndarray:
        deviation = np.sqrt(held.variance())
        varies = deviation**2 >= CONSTANT
        # The mean factor is 1: cosines do not see it, and float16 vectors stay in its range.
        return np.where(varies, deviation[varies].mean() / np.where(varies, deviation, 1.0), 0.0)


class Whitening(AffineRemover):
    """x' = N(S^(-1/2) (x - mean)), S = (1 - r) Cov + r (tr Cov / D) I, modality by modality.

    The symmetric root (ZCA) stays as near to the given axes as any, so images and texts still
    meet. Without shrinkage r the directions of least variance, mostly noise, would rule: on 250
    COCO pairs by CLIP, r = 0.9 costs no R@1 and the estimate of OAS, 0.17, costs fifteen points.
    S follows from second moments alone, so shards merge exactly.

    Args:
        shrinkage: r in 0..1 (1: centring alone); None estimates it by OAS (Chen et al. 2010), the
            best r for the covariance, which is not the best one for search.

    Raises:
        I0TError: r outside 0..1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> images, texts = rng.normal(1, 1, (200, 8)), rng.normal(-1, 1, (200, 8))
        >>> Whitening(0.5).fit(images, texts).transform_text(texts[:2]).shape
        (2, 8)
    """

    name = "whitening"
    statistics = FullMoments

    def __init__(self, shrinkage: float | None = 0.9) -> None:
        super().__init__()
        if shrinkage is not None and not 0 <= shrinkage <= 1:
            raise I0TError(f"shrinkage: {shrinkage} is outside 0..1.")
        self.shrinkage = shrinkage

    def parameters(self) -> dict[str, float | None]:
        """`shrinkage`, for records and files."""
        return {"shrinkage": self.shrinkage}

    def _learned_factor(self, held: DiagonalMoments) -> np.ndarray:
        assert isinstance(held, FullMoments)
        covariance = held.covariance()
        scale = np.trace(covariance) / len(covariance)
        shrinkage = oas_shrinkage(covariance, held.count) if self.shrinkage is None else self.shrinkage
        values, vectors = np.linalg.eigh(covariance / scale)
        values = (1 - shrinkage) * np.maximum(values, 0.0) + shrinkage
        # Only shrinkage 0 leaves directions without variance; like ZScore's constants they say nothing.
        roots = np.where(values >= CONSTANT, 1 / np.sqrt(np.maximum(values, CONSTANT)), 0.0)
        return (vectors * roots) @ vectors.T


def oas_shrinkage(covariance: np.ndarray, count: int) -> float:
    """Oracle-approximating shrinkage towards a multiple of the identity, 0..1 (Chen et al. 2010, eq. 23).

    Without its terms 2 / D, which scikit-learn leaves out as well.

    Args:
        covariance: (D, D) population covariance.
        count: vectors it was estimated from.

    Example:
        >>> oas_shrinkage(np.eye(3), 10)
        1.0
    """
    dim, trace = len(covariance), np.trace(covariance)
    squares = np.sum(covariance**2)
    excess = (count + 1) * (squares - trace**2 / dim)
    return float(min(1.0, (squares + trace**2) / excess)) if excess > 0 else 1.0

"""I0T-S as a torchmetrics metric, for evaluation loops on one or many processes.

Shapes: B pairs of a batch, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from i0t.errors import I0TError
from i0t.features import check_shape
from i0t.metrics.caption_scores import PREFIX
from i0t.standardize import GapRemover

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder


class I0TScore(Metric):
    """Mean I0T-S of images with their captions: the cosine of standardised features (paper App. D).

    It has no factor and no clipping, so it ranges from -1 to 1. The mean over several processes is exact: float64
    sums and counts are added.

    Args:
        standardizer: fitted to other pairs, encoded by the same model (with the same prefix).
        encoder: for images and texts; not needed for features.
        prefix: put before texts.
        upright: turn images as their EXIF orientation says, as `i0t score` does; published benchmarks do not.
        **kwargs: arguments of `torchmetrics.Metric`.

    Raises:
        I0TError: the standardiser is not fitted.

    Example:
        >>> from i0t import Standardizer
        >>> generator = torch.Generator().manual_seed(0)
        >>> images, texts = torch.randn(2, 100, 8, generator=generator) + torch.tensor([[[2.0]], [[-2.0]]])
        >>> metric = I0TScore(Standardizer().fit(images, texts))
        >>> metric.update(images[:10], images[:10] - 4)
        >>> metric.update(images[10:20], images[10:20] - 4)
        >>> bool(metric.compute() > 0.5)
        True
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound, plot_upper_bound = -1.0, 1.0

    total: torch.Tensor
    count: torch.Tensor
    encoder: Encoder | None

    def __init__(
        self,
        standardizer: GapRemover,
        encoder: Encoder | None = None,
        prefix: str = PREFIX,
        upright: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        standardizer.image_mean_, standardizer.text_mean_  # noqa: B018 (raises unless fitted)
        self.standardizer, self.prefix, self.upright = standardizer, prefix, upright
        # Not as a submodule: the metric's device, state and `reset` must not affect the model.
        object.__setattr__(self, "encoder", encoder)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: torch.Tensor | Sequence[Any], texts: torch.Tensor | Sequence[str]) -> None:
        """Add pairs.

        Args:
            images: (B, D) or (B, Q, D) features as encoded; or, with an encoder, B paths or PIL images.
            texts: (B, D) features as encoded; or, with an encoder, B captions without the prefix.

        Raises:
            I0TError: different numbers of images and texts, items without an encoder, or a bad row or image.
        """
        image_features, text_features = self._image_features(images), self._text_features(texts)
        check_shape(text_features, "text features", dim=image_features.shape[-1])
        if len(image_features) != len(text_features):
            raise I0TError(f"I0TScore: {len(image_features)} images for {len(text_features)} texts. Give pairs.")
        moved = self.standardizer.transform_image(image_features).double()
        texts_moved = self.standardizer.transform_text(text_features.to(moved.device)).double()
        cosines = torch.einsum("b...d,bd->b...", moved, texts_moved)
        if cosines.ndim == 2:  # (B, Q): the best of an image's vectors counts
            cosines = cosines.amax(dim=1)
        self.total += cosines.sum().to(self.total.device)
        self.count += len(cosines)

    def compute(self) -> torch.Tensor:
        """Mean over all pairs of all processes, a scalar in -1..1; NaN before the first pair."""
        return (self.total / self.count).float()

    def _image_features(self, images: Any) -> torch.Tensor:
        if isinstance(images, torch.Tensor):
            check_shape(images, "image features")
            return images
        return self._need_encoder("images").encode_images(_listed(images, "images"), upright=self.upright)

    def _text_features(self, texts: Any) -> torch.Tensor:
        if isinstance(texts, torch.Tensor):
            return texts
        return self._need_encoder("texts").encode_texts([self.prefix + text for text in _listed(texts, "texts")])

    def _need_encoder(self, what: str) -> Encoder:
        if self.encoder is None:
            raise I0TError(f"I0TScore: {what} need an encoder, I0TScore(standardizer, encoder); or give features.")
        return self.encoder


def _listed(items: Any, name: str) -> list[Any]:
    if isinstance(items, (str, bytes)) or not isinstance(items, Sequence) or not len(items):
        raise I0TError(f"I0TScore: {name} must be features (a tensor) or a list that is not empty, got {items!r:.60}.")
    return list(items)

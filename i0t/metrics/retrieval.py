"""Recall@K and ranks of image-text retrieval (paper App. D), with ties counted as chance.

Shapes: N images, M texts, Q vectors an image (BLIP-2 queries), D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import to_numpy
from i0t.metrics.both_ways import tied_ranks_both_ways
from i0t.metrics.ranking import unit_rows


def retrieval_metrics(
    image_features: Any, text_features: Any, image_of_text: Any, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall@K in percent and ranks, image to text and text to image (paper App. D).

    Scores are cosines (the features are L2-normalised first), with the maximum over Q for (N, Q, D)
    images. An image counts as found when ANY of its texts is in the top K (CLIP's recall, which is
    torchmetrics' hit rate); a text has one right image. Ties count with their expected hit.

    Args:
        image_features: (N, D) or (N, Q, D) array or tensor.
        text_features: (M, D) array or tensor.
        image_of_text: (M,) int, the row of each text's image; -1 for a text of no image, which
            stands among the candidates and is not itself a query.
        ks: the K's.

    Returns:
        `i2t_r{K}` and `t2i_r{K}` in percent for each K; `i2t_median_rank`, `i2t_mean_rank`,
        `t2i_median_rank`, `t2i_mean_rank` as ranks, where 1 is best.

    Raises:
        I0TError: shapes that do not fit, an image without any text, an index out of range, K < 1.

    Example:
        >>> scores = retrieval_metrics(np.eye(4), np.eye(4)[[1, 0, 2, 3]], [0, 1, 2, 3], ks=(1,))
        >>> scores["i2t_r1"], scores["i2t_mean_rank"]
        (50.0, 2.0)
    """
    images = unit_rows(image_features, "image_features")
    texts = unit_rows(text_features, "text_features", dim=images.shape[-1])
    owner = _checked_owner(image_of_text, len(images), len(texts))
    if any(k < 1 for k in ks):
        raise I0TError(f"ks: each K must be 1 or more, got {tuple(ks)}.")
    directions = dict(zip(("i2t", "t2i"), tied_ranks_both_ways(images, texts, owner)))
    metrics = {
        f"{direction}_r{k}": 100.0 * float(ranks.hit_probability(k).mean())
        for direction, ranks in directions.items()
        for k in ks
    }
    for direction, ranks in directions.items():
        metrics[f"{direction}_median_rank"] = float(np.median(ranks.expected()))
        metrics[f"{direction}_mean_rank"] = float(ranks.expected().mean())
    return metrics


def _checked_owner(image_of_text: Any, n_images: int, n_texts: int) -> np.ndarray:
    owner = to_numpy(image_of_text)
    if owner.shape != (n_texts,) or not np.issubdtype(owner.dtype, np.integer):
        raise I0TError(
            f"image_of_text: expected {n_texts} integers, one for each text, got {owner.dtype} {owner.shape}."
        )
    if not -1 <= owner.min() <= owner.max() < n_images:
        raise I0TError(f"image_of_text: must lie in -1..{n_images - 1}, got {owner.min()}..{owner.max()}.")
    bare = np.setdiff1d(np.arange(n_images), owner)
    if len(bare):
        raise I0TError(
            f"image_of_text: image {bare[0]} has no text ({len(bare)} such images). Leave images without a text out."
        )
    return owner

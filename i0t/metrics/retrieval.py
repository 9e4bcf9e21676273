"""Recall@K and ranks of image-text retrieval (paper App. D), with ties counted as chance.

Shapes: N images, M texts, Q vectors an image (BLIP-2 queries), D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import to_numpy
from i0t.metrics.bootstrap import bootstrap_means, bootstrap_medians, percentile_interval
from i0t.metrics.both_ways import tied_ranks_both_ways
from i0t.metrics.ranking import unit_rows


def retrieval_metrics(
    image_features: Any,
    text_features: Any,
    image_of_text: Any,
    ks: Sequence[int] = (1, 5, 10),
    *,
    bootstrap: int = 0,
    seed: int = 0,
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
        bootstrap: resamples for 95 % intervals; images are drawn, each with all its texts.
        seed: of the resamples.

    Returns:
        `i2t_r{K}` and `t2i_r{K}` in percent for each K; `i2t_median_rank`, `i2t_mean_rank`,
        `t2i_median_rank`, `t2i_mean_rank` as ranks, where 1 is best. With `bootstrap`, each also as `..._low` and
        `..._high`: the percentile interval over the queries. The candidates stay as they are.

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
    clusters = {"i2t": np.arange(len(images)), "t2i": owner[owner >= 0]}
    metrics: dict[str, float] = {}
    for direction, ranks in directions.items():
        values = {f"{direction}_r{k}": 100.0 * ranks.hit_probability(k) for k in ks}
        expected = ranks.expected()
        metrics |= {name: float(value.mean()) for name, value in values.items()}
        metrics[f"{direction}_median_rank"] = float(np.median(expected))
        metrics[f"{direction}_mean_rank"] = float(expected.mean())
        if bootstrap:
            values[f"{direction}_mean_rank"] = expected
            metrics |= _intervals(values, f"{direction}_median_rank", expected, clusters[direction], bootstrap, seed)
    return metrics


def _intervals(
    values: dict[str, np.ndarray], median_name: str, ranks: np.ndarray, cluster: np.ndarray, resamples: int, seed: int
) -> dict[str, float]:
    """`..._low` and `..._high` of the means of values and of the median of the ranks."""
    means = bootstrap_means(np.stack(list(values.values()), axis=1), cluster, resamples, seed)
    medians = bootstrap_medians(ranks, cluster, resamples, seed)
    ends = percentile_interval(np.concatenate([means, medians[:, None]], axis=1))
    names = [*values, median_name]
    return {
        f"{name}_{end}": float(value) for end, found in zip(("low", "high"), ends) for name, value in zip(names, found)
    }


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
    return owner.astype(np.int64)

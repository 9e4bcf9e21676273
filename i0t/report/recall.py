"""R@1 of several versions of the same items, with intervals that show what the number of queries allows."""

from __future__ import annotations

import numpy as np

from i0t.embeddings import Embeddings
from i0t.metrics.ranking import tied_ranks, unit_rows
from i0t.metrics.resampling import means_of_counts, percentile_interval, resampled_counts

RESAMPLES = 2000


def recall_at_1(
    versions: dict[str, Embeddings], groups: np.ndarray, seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """R@1 in percent, image to text and text to image, with 95 % bootstrap intervals.

    Queries are resampled by linked group, the candidates stay; all versions see the same resamples,
    so that the interval of a difference is that of paired queries.

    Args:
        versions: name to embeddings of the same items; differences are to the first.
        groups: (N,) linked group of each image.
        seed: of the resamples.

    Returns:
        "i2t" and "t2i", each name to [value, low, high, difference, low, high]; empty without pairs.
    """
    first = next(iter(versions.values()))
    if not len(first.pairs):
        return {}
    group = np.unique(groups, return_inverse=True)[1]
    counts = resampled_counts(int(group.max()) + 1, RESAMPLES, seed)
    found: dict[str, dict[str, list[float]]] = {"i2t": {}, "t2i": {}}
    base: dict[str, tuple[float, np.ndarray]] = {}
    for name, embeddings in versions.items():
        for direction, (image, hits) in _query_hits(embeddings).items():
            resampled = 100 * means_of_counts(hits[:, None], group[image], counts)[:, 0]
            value = 100 * float(hits.mean())
            first_value, first_resampled = base.setdefault(direction, (value, resampled))
            own, change = (map(float, percentile_interval(of)) for of in (resampled, resampled - first_resampled))
            found[direction][name] = [value, *own, value - first_value, *change]
    return found


def _query_hits(embeddings: Embeddings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By direction: (A,) the image each query belongs to, and its expected hit at rank 1 in 0..1 (ties as chance).

    Queries are the images that have a text ("i2t") or the texts that have an image ("t2i"); all
    items of the other side are candidates.
    """
    images = unit_rows(embeddings.image_features, "image_features")
    texts = unit_rows(embeddings.text_features, "text_features")
    image, text = embeddings.pairs.T
    asking, row = np.unique(image, return_inverse=True)
    i2t = tied_ranks(images[asking], texts, np.stack([row, text], axis=1))
    asking_texts, first, row = np.unique(text, return_index=True, return_inverse=True)
    t2i = tied_ranks(texts[asking_texts], images, np.stack([row, image], axis=1))
    return {"i2t": (asking, i2t.hit_probability(1)), "t2i": (image[first], t2i.hit_probability(1))}

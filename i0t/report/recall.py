"""R@1 of several versions of the same items, with intervals that show what the number of queries allows."""

from __future__ import annotations

import numpy as np

from i0t.embeddings import Embeddings
from i0t.metrics.ranking import tied_ranks, unit_rows

RESAMPLES = 2000


def recall_at_1(versions: dict[str, Embeddings], groups: np.ndarray, seed: int = 0) -> dict[str, dict[str, list]]:
    """R@1 in percent, image to text and text to image, with 95 % bootstrap intervals.

    Queries are resampled by linked group, the candidates stay; all versions see the same resamples,
    so that the interval of a difference is that of paired queries.

    Args:
        versions: name to embeddings of the same items; differences are to the first.
        groups: (N,) linked group of each image.
        seed: of the resamples.

    Returns:
        "i2t" and "t2i", each name to [value, low, high, difference, low, high]; empty without pairs.

    Example:
        >>> eye, names = np.eye(4, dtype=np.float32), list("abcd")
        >>> right = Embeddings(eye, eye, np.arange(4), names, names)
        >>> found = recall_at_1({"right": right, "wrong": right.with_features(eye, eye[::-1])}, np.arange(4))
        >>> found["i2t"]["right"][0], found["i2t"]["wrong"][3]
        (100.0, -100.0)
    """
    first = next(iter(versions.values()))
    if not len(first.pairs):
        return {}
    group, n_groups = np.unique(groups, return_inverse=True)[1], len(np.unique(groups))
    weights = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=RESAMPLES)
    found: dict[str, dict[str, list]] = {}
    for direction in ("i2t", "t2i"):
        base = None
        found[direction] = {}
        for name, embeddings in versions.items():
            query, hits = query_hits(embeddings, direction)
            in_group = np.zeros((2, n_groups))
            np.add.at(in_group[0], group[query], hits)
            np.add.at(in_group[1], group[query], 1)
            resampled = 100 * (weights @ in_group[0]) / np.maximum(weights @ in_group[1], 1)
            value = 100 * float(hits.mean())
            base = (value, resampled) if base is None else base
            intervals = [_interval(resampled), _interval(resampled - base[1])]
            found[direction][name] = [value, *intervals[0], value - base[0], *intervals[1]]
    return found


def query_hits(embeddings: Embeddings, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """(A,) the image each query belongs to, and its expected hit at rank 1 in 0..1 (ties as chance).

    Queries are the images that have a text ("i2t") or the texts that have an image ("t2i"); all
    items of the other side are candidates.

    Example:
        >>> eye = np.eye(2, dtype=np.float32)
        >>> image, hits = query_hits(Embeddings(eye, eye[[0, 0]], np.arange(2), ["a", "b"], ["c", "d"]), "i2t")
        >>> image.tolist(), hits.tolist()  # both texts lie equally near
        ([0, 1], [0.5, 0.5])
    """
    images = unit_rows(embeddings.image_features, "image_features")
    texts = unit_rows(embeddings.text_features, "text_features")
    image, text = embeddings.pairs.T
    if direction == "i2t":
        asked, row = np.unique(image, return_inverse=True)
        ranks = tied_ranks(images[asked], texts, np.stack([row, text], axis=1))
        return asked, ranks.hit_probability(1)
    asked, first, row = np.unique(text, return_index=True, return_inverse=True)
    ranks = tied_ranks(texts[asked], images, np.stack([row, image], axis=1))
    return image[first], ranks.hit_probability(1)


def _interval(values: np.ndarray) -> list[float]:
    return [float(edge) for edge in np.percentile(values, [2.5, 97.5])]

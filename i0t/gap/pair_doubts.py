"""Reasons to doubt what is measured on known pairs: rows in another order, and copies."""

from __future__ import annotations

import numpy as np

from i0t.embeddings import Embeddings
from i0t.gap.trust import doubt_of_order
from i0t.gap.unit_pairs import UnitPairs
from i0t.standardize.overlap import row_hashes

COPIES = 0.01  # share of the items from which copies are worth a line
DRAWN = 1000  # pairs, at most, that are tested


def pair_doubts(embeddings: Embeddings, seed: int = 0) -> list[str]:
    """Return one line per reason; none for images in classes, or where no pairs are known.

    Args:
        embeddings: the measured pairs.
        seed: of the pairs that are tested.
    """
    pairs = embeddings.pairs
    if embeddings.labels is not None or not len(pairs):
        return []
    image, text = np.random.default_rng(seed).permutation(pairs)[:DRAWN].T
    order = doubt_of_order(UnitPairs.of(embeddings.image_features[image], embeddings.text_features[text]), seed)
    sides = {"images": (embeddings.image_features, np.arange(len(embeddings.image_features)))}
    sides["texts"] = embeddings.text_features, embeddings.image_of_text
    copies = {what: copies_of_others(*side) for what, side in sides.items()}
    return order + [
        f"{found} of {len(sides[what][1])} {what} are copies of {what} of other pairs, and count as wrong for them: "
        "quality looks lower, and a cutoff higher, than it is"
        for what, found in copies.items()
        if found > COPIES * len(sides[what][1])
    ]


def copies_of_others(features: np.ndarray, owner: np.ndarray) -> int:
    """Number of rows (N, ...) whose vector is also that of a row of another owner (N,)."""
    _, vector, rows = np.unique(row_hashes(features), return_inverse=True, return_counts=True)
    owners = np.unique(np.stack([vector, owner], axis=1), axis=0)[:, 0]
    several = np.bincount(owners, minlength=len(rows)) > 1
    return int(rows[several].sum())

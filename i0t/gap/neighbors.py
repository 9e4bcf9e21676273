"""Who the neighbours are in an index that holds both modalities.

Arguments, shapes and errors of each are those of `modality_gap`.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.gap.items import units
from i0t.metrics.ranking import TiedRanks, score_blocks


def first_cross_modal_rank(features: Any, other_features: Any) -> tuple[float, float]:
    """Where the other modality first shows up when a mixed index is searched.

    Each item is a query to all the others, of both modalities; ties count as broken at random.
    Without a gap the mean rank is about (A + B) / (B + 1), so compare only equal counts.

    Args:
        features: (A, D) the modality of the queries.
        other_features: (B, D) the other modality.

    Returns:
        Mean rank of the first item of the other modality, 1 (right at the top) to A (after all of
        the query's own), and the share, 0..1, of queries whose nearest neighbour is such an item.

    Example:
        >>> first_cross_modal_rank(np.eye(2)[[0, 0, 1]], np.eye(2)[[0, 1]])
        (1.3333333333333333, 0.6666666666666666)
    """
    z, others = (side.astype(np.float32) for side in units(features, other_features))
    n = len(z)
    counts = np.zeros((3, n), dtype=np.int64)
    for rows, cosines in score_blocks(z, np.concatenate([z, others])):
        cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = -np.inf  # not its own neighbour
        best = cosines[:, n:].max(axis=1, keepdims=True)
        counts[0, rows] = np.count_nonzero(cosines > best, axis=1)
        counts[1, rows] = np.count_nonzero(cosines == best, axis=1)
        counts[2, rows] = np.count_nonzero(cosines[:, n:] == best, axis=1)
    ranks = TiedRanks(*counts)
    return float(ranks.expected().mean()), float(ranks.hit_probability(1).mean())

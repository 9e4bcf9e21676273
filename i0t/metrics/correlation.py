"""Kendall's tau between a metric's scores and human ratings of captions (paper App. D).

Shapes: N rated captions, with one score and one rating each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import to_numpy


def correlation_metrics(scores: Any, ratings: Any, prefix: str = "") -> dict[str, float]:
    """Kendall's tau-b and tau-c, times 100 (paper App. D, Tables 1 and 2).

    Tau-b corrects for ties in both variables, the convention on Flickr8k-CF; tau-c for the
    different number of distinct values, the convention on Flickr8k-Expert:
    tau_b = (C - D) / sqrt((C + D + T) (C + D + U)), tau_c = 2 (C - D) / (N^2 (m - 1) / m), with C, D
    concordant and discordant pairs, T, U pairs tied in one variable only, m the smaller number of
    distinct values. Equal images and captions must have bit-equal scores: encode each distinct item
    once. Clipping scores at 0 makes ties, which changes both.

    Args:
        scores: (N,) the metric's score of each rated caption.
        ratings: (N,) the human ratings; leave out NaN ratings and their scores first.
        prefix: put before the names, e.g. "ref_" for reference-based scores.

    Returns:
        `{prefix}tau_b` and `{prefix}tau_c`, -100..100; both NaN if all scores or all ratings are equal
        (the paper prints NaN for Mind-the-Gap with -0.5).

    Raises:
        I0TError: different lengths, not one-dimensional, empty, or a NaN.
    """
    from scipy.stats import kendalltau

    x, y = _values(scores, "scores"), _values(ratings, "ratings")
    if len(x) != len(y):
        raise I0TError(f"scores and ratings: {len(x)} scores for {len(y)} ratings.")
    if len(x) == 1:
        return {f"{prefix}tau_b": float("nan"), f"{prefix}tau_c": float("nan")}
    return {
        f"{prefix}tau_{variant}": 100.0 * float(kendalltau(x, y, variant=variant).statistic) for variant in ("b", "c")
    }


def _values(values: Any, name: str) -> np.ndarray:
    array = to_numpy(values)
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.number):
        raise I0TError(f"{name}: expected a list of numbers, got {array.dtype} of shape {array.shape}.")
    if np.isnan(array).any():
        row = int(np.isnan(array).argmax())
        raise I0TError(f"{name}: entry {row} is NaN. Drop NaN ratings together with their scores first.")
    return array

"""The remaining gap against the number of calibration items (paper Table 3).

The paper tests on the set that gave the means; here calibration and test items share no pair. The
remaining gap then follows CD = c * sqrt(1/n + 1/m) for n calibration and m test pairs, because means of
different items are never equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.gap import centroid_distance
from i0t.report.splits import Groups, centred

FEWEST = 8  # calibration items at the start of the curve, if there are enough items
DRAWS = 10


@dataclass(frozen=True)
class CalibrationCurve:
    """Centroid distances after I0T_post with means of n items, tested on the other m."""

    n: np.ndarray  # (K,) int
    m: np.ndarray  # (K,) int
    distances: np.ndarray  # (K, draws)
    c: float  # of the law, from `fit_law`

    @property
    def worst_misfit(self) -> float:
        """Largest |mean distance / law - 1| over the K points; 0 if no gap is left."""
        if not self.c:
            return 0.0
        return float(np.abs(self.distances.mean(axis=1) / (self.c * spread(self.n, self.m)) - 1).max())

    def record(self) -> dict[str, Any]:
        """Return plain lists and numbers, for the page and the figures."""
        arrays = {"n": self.n.tolist(), "m": self.m.tolist(), "distances": self.distances.tolist()}
        return {**arrays, "c": self.c, "worst_misfit": self.worst_misfit}


def calibration_curve(groups: Groups, seed: int = 0, draws: int = DRAWS) -> CalibrationCurve:
    """Measure the curve at n = 8, 16, 32, ... up to half of the items, and fit the law.

    If few images have a text, the curve starts at `groups.fewest`: smaller n would all have one text, and the
    remaining gap would not depend on n.

    Args:
        groups: the items.
        seed: of the draws.
        draws: random choices of calibration items per n, to show the spread.
    """
    rng = np.random.default_rng(seed)
    n = sizes(len(groups.counted))
    n = n[n >= groups.fewest]  # at least one n is left: a report needs four groups with a text
    distances = np.array([[_left_over(*groups.draw(int(count), rng)) for _ in range(draws)] for count in n])
    m = len(groups.counted) - n
    return CalibrationCurve(n, m, distances, fit_law(n, m, distances))


def sizes(total: int) -> np.ndarray:
    """Numbers of calibration items: doubling, and half of the total at the end."""
    half = total // 2
    start = FEWEST if half >= 4 * FEWEST else 2
    doubling = start * 2 ** np.arange(int(np.log2(max(half, start) / start)) + 1)
    return np.array([*doubling[doubling < 0.75 * half], half], dtype=np.int64)


def fit_law(n: np.ndarray, m: np.ndarray, distances: np.ndarray) -> float:
    """The c of E[CD^2] = c^2 (1/n + 1/m): root mean square of CD / sqrt(1/n + 1/m), for n, m (K,) and CD (K, draws).

    In squares, since the law is exact for the mean of CD^2: two independent means of vectors with covariance
    S have the mean squared distance tr S (1/n + 1/m). Each n has the same weight.
    """
    return float(np.sqrt(np.mean((distances / spread(n, m)[:, None]) ** 2)))


def spread(n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """sqrt(1/n + 1/m)."""
    return np.sqrt(1 / np.asarray(n) + 1 / np.asarray(m))


def _left_over(calibration: Embeddings, tested: Embeddings) -> float:
    moved = centred(tested, calibration)
    return centroid_distance(moved.image_features, moved.text_features)

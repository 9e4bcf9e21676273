"""The gap that is left, against the number of items the means were taken from (paper Table 3).

The paper tests on the very set that gave the means; here calibration and test items share no pair,
so that what is left follows CD = c * sqrt(1/n + 1/m) for n calibration and m tested pairs: two means
of different items never agree exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.gap import centroid_distance
from i0t.report.splits import Groups, centred

FEWEST = 8  # calibration items where the curve starts, if half of the items are more than that
DRAWS = 10


@dataclass(frozen=True)
class CalibrationCurve:
    """Centroid distances after I0T_post with means of n items, tested on the other m.

    Attributes:
        n, m: (K,) ints.
        distances: (K, draws).
        c: of the law, fitted by `fit_law`.
    """

    n: np.ndarray
    m: np.ndarray
    distances: np.ndarray
    c: float

    @property
    def worst_misfit(self) -> float:
        """Largest |mean distance / law - 1| over the K points; 0 where nothing is left at all."""
        if not self.c:
            return 0.0
        return float(np.abs(self.distances.mean(axis=1) / (self.c * spread(self.n, self.m)) - 1).max())

    def record(self) -> dict[str, Any]:
        """Plain lists and numbers, for the page and the figures."""
        arrays = {"n": self.n.tolist(), "m": self.m.tolist(), "distances": self.distances.tolist()}
        return {**arrays, "c": self.c, "worst_misfit": self.worst_misfit}


def calibration_curve(groups: Groups, seed: int = 0, draws: int = DRAWS) -> CalibrationCurve:
    """Measure the curve at n = 8, 16, 32, ... up to half of the items, and fit the law.

    Where few images have a text, it begins at an n that has one in proportion: with one text at
    every smaller n, too, what is left would not follow n.

    Args:
        groups: of G counted items (pairs, mostly).
        seed: of the draws.
        draws: random choices of calibration items at each n; the spread shows the luck of one choice.
    """
    rng = np.random.default_rng(seed)
    n = sizes(len(groups.counted))
    n = n[n >= groups.fewest]  # half of the items is among them: a report needs four groups with a text
    distances = np.array([[_left_over(*groups.draw(int(count), rng)) for _ in range(draws)] for count in n])
    m = len(groups.counted) - n
    return CalibrationCurve(n, m, distances, fit_law(n, m, distances))


def sizes(total: int) -> np.ndarray:
    """Doubling numbers of calibration items, and half of the total at the end.

    Example:
        >>> sizes(500).tolist(), sizes(20).tolist()
        ([8, 16, 32, 64, 128, 250], [2, 4, 10])
    """
    half = total // 2
    start = FEWEST if half >= 4 * FEWEST else 2
    doubling = start * 2 ** np.arange(int(np.log2(max(half, start) / start)) + 1)
    return np.array([*doubling[doubling < 0.75 * half], half], dtype=np.int64)


def fit_law(n: np.ndarray, m: np.ndarray, distances: np.ndarray) -> float:
    """The c of E[CD^2] = c^2 (1/n + 1/m): root mean square of CD / sqrt(1/n + 1/m), for n, m (K,) and CD (K, draws).

    Squares, since it is CD^2 whose mean the law gives exactly: two independent means of vectors with
    covariance S differ by tr S (1/n + 1/m) in the mean square. Each n counts alike.
    """
    return float(np.sqrt(np.mean((distances / spread(n, m)[:, None]) ** 2)))


def spread(n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """sqrt(1/n + 1/m)."""
    return np.sqrt(1 / np.asarray(n) + 1 / np.asarray(m))


def _left_over(calibration: Embeddings, tested: Embeddings) -> float:
    moved = centred(tested, calibration)
    return centroid_distance(moved.image_features, moved.text_features)

"""The gap that is left, against the number of samples the means were taken from (paper Table 3).

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
from i0t.report.halves import Groups
from i0t.standardize import Standardizer

FEWEST = 8  # calibration items where the curve starts, if half of the items are more than that
DRAWS = 10


@dataclass(frozen=True)
class Curve:
    """Centroid distances after I0T_post with means of n items, tested on the other m.

    Attributes:
        n, m: (K,) ints.
        distances: (K, draws).
        c: of the law, fitted by `fit_law`.

    Example:
        >>> n, m = np.array([10, 40]), np.array([90, 60])
        >>> curve = Curve(n, m, 1.1 * spread(n, m)[:, None], c=1.0)
        >>> curve.law.round(3).tolist(), round(curve.worst_misfit, 3)
        ([0.333, 0.204], 0.1)
    """

    n: np.ndarray
    m: np.ndarray
    distances: np.ndarray
    c: float

    @property
    def law(self) -> np.ndarray:
        """(K,) c * sqrt(1/n + 1/m)."""
        return self.c * spread(self.n, self.m)

    @property
    def worst_misfit(self) -> float:
        """Largest |mean distance / law - 1| over the K points; 0 where nothing is left at all."""
        if not self.c:
            return 0.0
        return float(np.abs(self.distances.mean(axis=1) / self.law - 1).max())

    def record(self) -> dict[str, Any]:
        """Plain lists and numbers, for the page and the figures."""
        arrays = {"n": self.n.tolist(), "m": self.m.tolist(), "distances": self.distances.tolist()}
        return {**arrays, "c": self.c, "worst_misfit": self.worst_misfit}


def calibration_curve(groups: Groups, seed: int = 0, draws: int = DRAWS) -> Curve:
    """Measure the curve at n = 8, 16, 32, ... up to half of the items, and fit the law.

    Where few images have a text, it begins at an n that has one in proportion: with one text at
    every smaller n, too, what is left would not follow n.

    Args:
        groups: of G counted items (pairs, mostly).
        seed: of the draws.
        draws: random choices of calibration items at each n; the spread shows the luck of one choice.

    Example:
        >>> rows, names = np.random.default_rng(0).normal(size=(2, 20, 8)).astype(np.float32), ["a"] * 20
        >>> curve = calibration_curve(Groups(Embeddings(*rows, np.arange(20), names, names)), draws=3)
        >>> curve.n.tolist(), curve.m.tolist(), curve.distances.shape, round(curve.c, 1)
        ([2, 4, 10], [18, 16, 10], (3, 3), 1.1)
    """
    rng = np.random.default_rng(seed)
    n = sizes(len(groups.counted))
    n = n[n >= groups.fewest]  # half of the items is among them: a report needs four groups with a text
    distances = np.array([[_left_over(*groups.draw(int(count), rng)) for _ in range(draws)] for count in n])
    m = len(groups.counted) - n
    return Curve(n, m, distances, fit_law(n, m, distances))


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
    """The c of E[CD^2] = c^2 (1/n + 1/m): root mean square of CD / sqrt(1/n + 1/m).

    Squares, since it is CD^2 whose mean the law gives exactly; each n counts alike.

    Args:
        n: (K,) calibration items.
        m: (K,) tested items.
        distances: (K, draws).

    Example:
        >>> n, m = np.array([10, 40]), np.array([90, 60])
        >>> round(fit_law(n, m, 1.1 * spread(n, m)[:, None]), 6)
        1.1
    """
    return float(np.sqrt(np.mean((distances / spread(n, m)[:, None]) ** 2)))


def spread(n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """sqrt(1/n + 1/m).

    Example:
        >>> spread(np.array([2, 8]), np.array([2, 8])).tolist()
        [1.0, 0.5]
    """
    return np.sqrt(1 / np.asarray(n) + 1 / np.asarray(m))


def _left_over(calibration: Embeddings, tested: Embeddings) -> float:
    standardizer = Standardizer().fit(calibration.image_features, calibration.text_features)
    return centroid_distance(
        standardizer.transform_image(tested.image_features), standardizer.transform_text(tested.text_features)
    )

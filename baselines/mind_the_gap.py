"""Mind-the-Gap (Liang et al. 2022): shift both modalities along the unit gap vector."""

from __future__ import annotations

import numpy as np

from i0t.errors import I0TError
from i0t.features import SMALLEST_NORM
from i0t.standardize import GapRemover, Modality


class MindTheGap(GapRemover):
    """x' = N(x - lambda u), y' = N(y + lambda u), u = (image mean - text mean) / its length.

    The paper's Table 2 prints lambda times the gap vector, but its figures fit the *unit* vector
    (METHOD, "Rivals post hoc"). The vector is estimated once, in `fit`; never per batch.

    Args:
        shift_lambda: how far to go; 0.375, 0.5 and -0.5 in Table 2.

    Example:
        >>> images, texts = np.array([[1.0, 0.0], [0.8, 0.6]]), np.array([[0.0, 1.0], [0.6, 0.8]])
        >>> MindTheGap(0.0).fit(images, texts).transform_image(images)
        array([[1. , 0. ],
               [0.8, 0.6]])
    """

    name = "mind_the_gap"

    def __init__(self, shift_lambda: float = 0.375) -> None:
        super().__init__()
        self.shift_lambda = float(shift_lambda)

    def parameters(self) -> dict[str, float]:
        """`shift_lambda`, for records and files."""
        return {"shift_lambda": self.shift_lambda}

    def _offset(self, modality: Modality) -> np.ndarray:
        gap = self._mean("image") - self._mean("text")
        length = np.linalg.norm(gap)
        if length < SMALLEST_NORM:
            raise I0TError("Mind-the-Gap: the two means coincide, so there is no gap direction to shift along.")
        sign = -1.0 if modality == "image" else 1.0
        return sign * self.shift_lambda * gap / length

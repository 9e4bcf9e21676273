"""Mind-the-Gap (Liang et al. 2022): shift both modalities along the unit gap vector."""

from __future__ import annotations

import numpy as np

from i0t.errors import I0TError
from i0t.features import SMALLEST_NORM
from i0t.standardize import AffineMap, GapRemover, Modality


class MindTheGap(GapRemover):
    """x' = N(x - lambda u), y' = N(y + lambda u), u = (image mean - text mean) / its length.

    The paper's Table 2 prints lambda times the gap vector, but its numbers fit the *unit* vector. The vector is
    estimated once, in `fit`, not per batch.

    Args:
        shift_lambda: length of the shift; 0.375, 0.5 and -0.5 in Table 2.
    """

    name = "mind_the_gap"

    def __init__(self, shift_lambda: float = 0.375) -> None:
        super().__init__()
        self.shift_lambda = float(shift_lambda)

    def map(self, modality: Modality) -> AffineMap:
        """Shift towards the other modality."""
        gap = self.mean("image") - self.mean("text")
        length = np.linalg.norm(gap)
        if length < SMALLEST_NORM:
            raise I0TError("Mind-the-Gap: the two means coincide, so there is no gap direction to shift along.")
        sign = -1.0 if modality == "image" else 1.0
        return AffineMap(sign * self.shift_lambda * gap / length)

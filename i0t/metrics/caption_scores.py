"""Caption scores: CLIP-S, PAC-S and I0T-S, each with and without references (paper App. D).

Shapes: R rated (image, candidate) pairs, Q vectors per image (BLIP-2 queries), D embedding dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PREFIX = "A photo depicts "


@dataclass(frozen=True)
class CaptionScore:
    """One score of the family."""

    name: str
    w: float  # factor on the cosine
    clip: bool  # whether negative cosines count as 0 (which makes ties)
    prefix: str = PREFIX  # put before every candidate and reference

    def reference_free(self, image_features: np.ndarray, candidate_features: np.ndarray) -> np.ndarray:
        """W * cos, or w * max(cos, 0).

        Args:
            image_features: (R, D), L2-normalised; or (R, Q, D), of which the best cosine counts.
            candidate_features: (R, D), L2-normalised.

        Returns:
            (R,) scores.
        """
        cosines = np.einsum("r...d,rd->r...", image_features, candidate_features)
        if cosines.ndim == 2:  # (R, Q)
            cosines = cosines.max(axis=1)
        return self.of_cosines(cosines)

    def of_cosines(self, cosines: np.ndarray) -> np.ndarray:
        """Compute the score from cosines of any shape."""
        return self.w * (np.maximum(cosines, 0) if self.clip else cosines)

    def with_references(self, scores: np.ndarray, best_reference_cosines: np.ndarray) -> np.ndarray:
        """Harmonic mean of the score and the best candidate-reference cosine, both as max(., 0); 0 and 0 give 0.

        This is the formula of RefCLIP-S (Hessel et al. 2021). The published code of CLIP-S and PAC-S does not
        clip the reference cosine, which is the same for positive cosines, as of raw CLIP. For standardised
        features it may be negative, and a harmonic mean has a pole where its terms cancel.

        Args:
            scores: (R,) from `reference_free`.
            best_reference_cosines: (R,) largest cosine of each candidate with its references.

        Example:
            >>> SCORES["pac_s"].with_references(np.array([1.2, 0.5]), np.array([0.4, -0.49])).round(2).tolist()
            [0.6, 0.0]
        """
        references, scores = np.maximum(best_reference_cosines, 0), np.maximum(scores, 0)
        total = scores + references
        safe = np.where(total == 0, 1, total)
        return np.where(total == 0, 0, 2 * scores * references / safe)


SCORES = {
    "clip_s": CaptionScore("clip_s", w=2.5, clip=True),
    "pac_s": CaptionScore("pac_s", w=2.0, clip=True),
    "i0t_s": CaptionScore("i0t_s", w=1.0, clip=False),
}

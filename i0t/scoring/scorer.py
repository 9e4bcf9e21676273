"""`PairScorer`: CLIP-S, PAC-S and I0T-S of any two items; each distinct item is encoded once.

Shapes: R pairs, D embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from i0t.encoders import EncodeOptions
from i0t.errors import NoPictureError
from i0t.metrics.caption_scores import PREFIX, SCORES
from i0t.scoring.pairs import ScoredPair
from i0t.scoring.percentiles import IMAGE_TEXT, Calibration, pair_cosines

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

SCORE_NAMES = tuple(SCORES)
REF_NAMES = tuple(f"ref_{name}" for name in SCORES)
PROBABILITY = "match_probability"
PERCENTILES = ("matched_percentile", "unmatched_percentile", "same_kind_percentile")

Features = tuple[np.ndarray, np.ndarray]  # as encoded, and standardised


class PairScorer:
    """Scores pairs of images and texts with one model and one calibration.

    CLIP-S and PAC-S are 2.5 and 2 times max(cos, 0) of the features as encoded; I0T-S is the cosine of standardised
    features (paper App. D). The formulas are defined for an image and a caption; they are applied to two texts or two
    images as well, which shows that only I0T-S has one scale for all. With references, `ref_` scores are the harmonic
    mean with the best caption-reference cosine.

    Args:
        encoder: the model.
        calibration: of the same model and prefix.
        prefix: put before every text.
        options: options of encoding; with `skip_unreadable`, pairs with an unreadable image get an `error` instead
            of scores.
    """

    def __init__(
        self,
        encoder: Encoder,
        calibration: Calibration,
        prefix: str = PREFIX,
        options: EncodeOptions = EncodeOptions(progress=False),  # noqa: B008 (frozen)
    ) -> None:
        self.encoder, self.calibration, self.prefix, self.options = encoder, calibration, prefix, options
        self.errors: dict[str, str] = {}  # by image
        self._images: dict[str, Features] = {}
        self._texts: dict[str, Features] = {}

    def score(self, pairs: Sequence[ScoredPair]) -> list[dict[str, Any]]:
        """Score pairs; return one row per pair, in order.

        Returns:
            `kind`, `first`, `second`, the scores (`ref_` ones with references), the percentiles of
            `Calibration.place`, of an image with a text `match_probability` if the model defines one (SigLIP), and
            `error`: None, or why there are no scores.

        Raises:
            I0TError: an image cannot be read and is not to be skipped.
        """
        self._encode_new(pairs)
        rows = []
        for pair in pairs:
            error = next((self.errors[image] for image in pair.images if image in self.errors), None)
            first, second = (*pair.images, *pair.texts)
            row: dict[str, Any] = {"kind": pair.kind, "first": first, "second": second}
            rows.append({**row, **({} if error else self._scores(pair)), "error": error})
        return rows

    def _scores(self, pair: ScoredPair) -> dict[str, float]:
        sides = [self._images[image] for image in pair.images] + [self._texts[text] for text in pair.texts]
        (raw, moved), (other_raw, other_moved) = sides
        cosines = {
            name: pair_cosines(moved[None], other_moved[None])
            if name == "i0t_s"
            else pair_cosines(raw[None], other_raw[None])
            for name in SCORE_NAMES
        }
        scores = {name: SCORES[name].of_cosines(cosines[name]) for name in SCORE_NAMES}
        found = {**scores, **self.calibration.place(scores["i0t_s"], pair.kind)}
        if pair.kind == IMAGE_TEXT:
            probability = self.encoder.match_probability(pair_cosines(raw[None], other_raw[None]))
            found |= {} if probability is None else {PROBABILITY: probability}
        if pair.references:
            for name in SCORE_NAMES:
                side = 1 if name == "i0t_s" else 0
                best = self._best_reference(pair, side)
                found[f"ref_{name}"] = SCORES[name].with_references(scores[name], best)
        return {name: float(value[0]) for name, value in found.items()}

    def _best_reference(self, pair: ScoredPair, side: int) -> np.ndarray:
        """(1,) best cosine of the caption with its references, as encoded (side 0) or standardised (1)."""
        caption = self._texts[pair.texts[0]][side]
        return np.array([max(float(caption @ self._texts[text][side]) for text in pair.references)])

    def _encode_new(self, pairs: Sequence[ScoredPair]) -> None:
        images = [image for pair in pairs for image in pair.images]
        new = [image for image in dict.fromkeys(images) if image not in self._images and image not in self.errors]
        if new:
            self._encode_images(new)
        texts = [text for pair in pairs for text in (*pair.texts, *pair.references)]
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            from i0t.encoders.encode import encode_texts

            features = encode_texts(self.encoder, [self.prefix + text for text in new], self.options).features
            self._texts |= zip(new, zip(features, self.calibration.remover.transform_text(features)))

    def _encode_images(self, new: list[str]) -> None:
        from i0t.encoders.encode import encode_pictures

        # For few images, starting workers takes longer than decoding.
        workers = self.options.workers if len(new) > 2 * self.options.batch_size else 0
        try:
            found = encode_pictures(self.encoder, new, replace(self.options, workers=workers))
            kept = [new[row] for row in found.kept]
            moved = self.calibration.remover.transform_image(found.features)
            self._images |= zip(kept, zip(found.features, moved))
            errors = found.unreadable
        except NoPictureError as error:
            if not self.options.skip_unreadable:
                raise
            errors = error.unreadable
        unreadable = (image for image in new if image not in self._images)
        self.errors |= dict(zip(unreadable, errors))

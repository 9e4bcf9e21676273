"""Whether image-text cosines are on one scale with image-image and text-text cosines.

With a modality gap, an image is further from its own caption than from any other image, so that one threshold
or one ranking for all kinds of pairs makes no sense (paper section 1, Fig. 5).

Shapes: N images x, M texts y, P pairs, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape
from i0t.metrics.ranking import score_blocks, unit_rows


def one_scale_auc(image_features: Any, text_features: Any) -> dict[str, float]:
    """How often the cosine of a matched pair exceeds that of a random pair of each kind.

    For pair i and another pair j drawn at random, the probability (an area under the curve; ties count half) that
    cos(x_i, y_i) is larger than

    - `above_picture`: cos(x_i, x_j), the image with another image;
    - `above_text`: cos(y_i, y_j), the caption with another caption;
    - `above_unmatched`: cos(x_i, y_j), the image with another caption. This one needs no common scale.

    Args:
        image_features: (P, D) array or tensor; one row per image, as equal images would count as random pairs.
        text_features: (P, D); row i is the caption of image i.

    Returns:
        The three probabilities, 0..1. 0.5 is chance; 0 means that every random pair is closer.

    Raises:
        I0TError: shapes that do not pair up, fewer than two pairs, or a bad row.
    """
    wins = _wins(image_features, text_features)
    return {name: float(won.sum() / (len(won) * (len(won) - 1))) for name, won in wins.items()}


def one_scale_shares(image_features: Any, text_features: Any) -> dict[str, np.ndarray]:
    """The probabilities of `one_scale_auc` for each pair i, (P,) each; arguments and errors as there."""
    return {name: won / (len(won) - 1) for name, won in _wins(image_features, text_features).items()}


def _wins(image_features: Any, text_features: Any) -> dict[str, np.ndarray]:
    """(P,) number of other pairs that each matched pair exceeds, by name."""
    check_shape(image_features, "image_features")
    if len(image_features.shape) != 2 or tuple(image_features.shape) != tuple(getattr(text_features, "shape", ())):
        raise I0TError(
            f"one_scale_auc: {tuple(image_features.shape)} images and {tuple(text_features.shape)} texts do not pair "
            "up row by row. Give (P, D) of each."
        )
    images, texts = unit_rows(image_features, "image_features"), unit_rows(text_features, "text_features")
    if len(images) < 2:
        raise I0TError("one_scale_auc: one pair has no other to compare with. Give two or more.")
    above_picture, above_unmatched = _above(images, texts)
    above_text, _ = _above(texts, images)
    return {"above_picture": above_picture, "above_text": above_text, "above_unmatched": above_unmatched}


def _above(anchors: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """(2, n) number of other anchors, and of other partners, that are further from anchor i than its partner.

    All cosines of an anchor come from one matrix product: another product may differ in the last bit, and with
    equal vectors every pair or none would win.
    """
    n = len(anchors)
    wins = np.zeros((2, n))
    for rows, cosines in score_blocks(anchors, np.concatenate([anchors, partners])):
        line, own = np.arange(len(cosines)), np.arange(rows.start, rows.stop)
        matched = cosines[line, n + own][:, None]
        for kind, others in enumerate((cosines[:, :n], cosines[:, n:])):
            others[line, own] = np.inf  # never won
            wins[kind, rows] = np.count_nonzero(others < matched, axis=1)
            wins[kind, rows] += 0.5 * np.count_nonzero(others == matched, axis=1)
    return wins

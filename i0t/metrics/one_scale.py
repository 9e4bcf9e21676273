"""Do image-text cosines stand on one scale with image-image and text-text ones?

Where there is a modality gap a caption is further from its own picture than any other picture is, so that one
threshold or one ranking for all kinds of pairs makes no sense (paper section 1, Fig. 5).

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

    - `above_picture`: cos(x_i, x_j), the same picture with another picture;
    - `above_text`: cos(y_i, y_j), the same caption with another caption;
    - `above_unmatched`: cos(x_i, y_j), the same picture with another's caption. This one needs no common scale.

    Args:
        image_features: (P, D) array or tensor; row i belongs to row i of
        text_features: (P, D). One row per picture: equal pictures would count as random ones.

    Returns:
        The three probabilities, 0..1: 0.5 is chance, 0 means every random pair is nearer.

    Raises:
        I0TError: shapes that do not pair up, fewer than two pairs, or a bad row.

    Example:
        >>> one_scale_auc(np.eye(3), np.eye(3)) == {"above_picture": 1.0, "above_text": 1.0, "above_unmatched": 1.0}
        True
    """
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


def _above(anchors: np.ndarray, partners: np.ndarray) -> tuple[float, float]:
    """Mean over i of the share of others that are farther from anchor i than its partner: anchors, then partners.

    All cosines of an anchor come from one product. Computed elsewhere, the same cosine may differ in its last bit,
    and of vectors that are all equal every pair or none would win.
    """
    n = len(anchors)
    wins = np.zeros(2)
    for rows, cosines in score_blocks(anchors, np.concatenate([anchors, partners])):
        line, own = np.arange(len(cosines)), np.arange(rows.start, rows.stop)
        matched = cosines[line, n + own][:, None]
        for kind, others in enumerate((cosines[:, :n], cosines[:, n:])):
            others[line, own] = np.inf  # never won
            wins[kind] += np.count_nonzero(others < matched) + 0.5 * np.count_nonzero(others == matched)
    above_anchors, above_partners = wins / (n * (n - 1))
    return float(above_anchors), float(above_partners)

"""Percentiles of standardised scores among known pairs: matching pairs, and pairs that do not match.

Shapes: N images, M texts, P pairs, K reference scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics.cutoff import conformal_cutoff, conformal_p_values, disjoint_pairs
from i0t.metrics.resampling import random_split
from i0t.standardize import GapRemover, Standardizer

IMAGE_TEXT, TEXT_TEXT, IMAGE_IMAGE = "image-text", "text-text", "image-image"
KINDS = (IMAGE_TEXT, TEXT_TEXT, IMAGE_IMAGE)
MOST_UNMATCHED = 100_000  # reference scores per kind: enough for percentiles in steps of 0.001


@dataclass(frozen=True)
class Calibration:
    """A fitted standardiser, and held-out standardised cosines of known pairs.

    Attributes:
        remover: fitted to all calibration items.
        matched: (K,) sorted, of images with their own texts.
        unmatched: kind to (K,) sorted, of items that do not match.
        n_pairs: number of calibration pairs.
        independent: kind to (K,) of items that do not match, no two of which share an item, for cutoffs.
    """

    remover: GapRemover
    matched: np.ndarray
    unmatched: dict[str, np.ndarray]
    n_pairs: int
    independent: dict[str, np.ndarray]

    def cutoffs(self, false_alarms: float) -> dict[str, float]:
        """Score by kind that at most this share of pairs that do not match exceed; infinity if not decidable.

        Conformal, on average over calibration sets (`i0t.metrics.conformal_cutoff`). The calibration scores are
        cross-fitted, each half by means of the other, while new pairs are scored by means of all: the promise is
        as good as these means are alike, so close, not exact.
        """
        return {kind: conformal_cutoff(scores, false_alarms) for kind, scores in self.independent.items()}

    def known_cutoffs(self, false_alarms: float) -> dict[str, float | None]:
        """`cutoffs` for a record: None where they are not decidable."""
        return {kind: end if math.isfinite(end) else None for kind, end in self.cutoffs(false_alarms).items()}

    def judged(self, row: dict[str, Any], false_alarms: float) -> dict[str, Any]:
        """`p_value` of a scored pair, and whether it is `above_cutoff`; both None for one without scores."""
        if row["error"]:
            return {"p_value": None, "above_cutoff": None}
        score, unmatched = row["i0t_s"], self.independent[row["kind"]]
        above = score > conformal_cutoff(unmatched, false_alarms)
        return {"p_value": float(conformal_p_values(np.array([score]), unmatched)[0]), "above_cutoff": bool(above)}

    def place(self, scores: np.ndarray, kind: str) -> dict[str, np.ndarray]:
        """Percentiles, 0..100, of standardised cosines.

        Args:
            scores: (R,) standardised cosines.
            kind: "image-text", "text-text" or "image-image".

        Returns:
            `matched_percentile` among images with their own texts, `unmatched_percentile` among images with
            other texts (one scale for every kind of pair), and `same_kind_percentile` among pairs of this kind that
            do not match.
        """
        return {
            "matched_percentile": percentiles(scores, self.matched),
            "unmatched_percentile": percentiles(scores, self.unmatched[IMAGE_TEXT]),
            "same_kind_percentile": percentiles(scores, self.unmatched[kind]),
        }


def percentiles(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Share of `reference` (K,), sorted, below each of the scores (R,), in percent; equal values count half.

    Example:
        >>> percentiles(np.array([0.0, 0.2, 0.9]), np.array([0.1, 0.2, 0.3, 0.4])).tolist()
        [0.0, 37.5, 100.0]
    """
    below = np.searchsorted(reference, scores, side="left")
    upto = np.searchsorted(reference, scores, side="right")
    return 50.0 * (below + upto) / len(reference)


def pair_cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(R,) cosines of row i with row i, of unit vectors (R, D) or (R, Q, D), maximised over Q."""
    first, second = (side[:, None] if side.ndim == 2 else side for side in (first, second))
    return np.einsum("rpd,rqd->rpq", first, second).max(axis=(1, 2))


def calibrate(embeddings: Embeddings, make: Callable[[], GapRemover] = Standardizer, seed: int = 0) -> Calibration:
    """Fit a standardiser to pairs, and score these pairs.

    The scores are cross-fitted: the pairs are split in two parts, and each part is scored with a standardiser fitted
    to the other, since fitting and scoring the same pairs would give higher scores than new pairs have. The
    standardiser that is returned is fitted to all pairs.

    Args:
        embeddings: pairs like those to be scored, encoded by the same model with the same prefix.
        make: makes a remover.
        seed: of the split and of the unmatched pairs.

    Raises:
        I0TError: fewer than four images with a text.
    """
    pairs = embeddings.pairs
    owners = np.unique(pairs[:, 0])
    if len(owners) < 4:
        raise I0TError(
            f"calibration: {len(owners)} images with a text are too few. Four are the least, a hundred the least that "
            "makes sense."
        )
    rng = np.random.default_rng(seed)
    one, other = random_split(owners, rng)
    found = [_held_out_scores(embeddings, *parts, make(), rng, seed) for parts in ((one, other), (other, one))]
    return Calibration(
        remover=make().fit_embeddings(embeddings),
        matched=np.sort(np.concatenate([matched for matched, _, _ in found])),
        unmatched={kind: np.sort(np.concatenate([unmatched[kind] for _, unmatched, _ in found])) for kind in KINDS},
        n_pairs=len(pairs),
        independent={kind: np.concatenate([single[kind] for _, _, single in found]) for kind in KINDS},
    )


def _held_out_scores(
    embeddings: Embeddings,
    fitted_on: np.ndarray,
    scored: np.ndarray,
    remover: GapRemover,
    rng: np.random.Generator,
    seed: int,
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Cosines of `scored` images, standardised on `fitted_on` images: matched; by kind, unmatched and disjoint ones."""
    pairs = embeddings.pairs
    own = pairs[np.isin(pairs[:, 0], fitted_on)]
    remover.fit(embeddings.image_features[fitted_on], embeddings.text_features[own[:, 1]])
    held_out = pairs[np.isin(pairs[:, 0], scored)]
    images = remover.transform_image(embeddings.image_features[held_out[:, 0]])
    texts = remover.transform_text(embeddings.text_features[held_out[:, 1]])
    one, other = _unmatched_rows(held_out[:, 0], MOST_UNMATCHED // 2, rng)
    sides = {IMAGE_TEXT: (images, texts), TEXT_TEXT: (texts, texts), IMAGE_IMAGE: (images, images)}
    unmatched = {kind: _in_blocks(*pair, one, other) for kind, pair in sides.items()}
    _, firsts = np.unique(held_out[:, 0], return_index=True)
    single = tuple(firsts[rows] for rows in disjoint_pairs(len(firsts), seed))
    return pair_cosines(images, texts), unmatched, {kind: _in_blocks(*pair, *single) for kind, pair in sides.items()}


def _unmatched_rows(owner: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows of different images: all if they are few, else a random sample."""
    n = len(owner)
    if n * n <= 2 * most:
        one, other = (rows.ravel() for rows in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    else:
        one, other = rng.integers(n, size=(2, most))
    differs = owner[one] != owner[other]
    return one[differs], other[differs]


def _in_blocks(first: np.ndarray, second: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines of chosen rows in blocks, to save memory."""
    starts = range(0, len(one), 8192)
    return np.concatenate([pair_cosines(first[one[i : i + 8192]], second[other[i : i + 8192]]) for i in starts])

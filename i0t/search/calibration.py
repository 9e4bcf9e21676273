"""Scores of pairs that do and do not match, by kind pair, for cutoffs with a stated share of false alarms.

Shapes: N images, M texts, K scores of pairs that do not match, P of pairs that do, A queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.features import row_slices
from i0t.metrics.cutoff import disjoint_pairs
from i0t.metrics.ranking import score_blocks
from i0t.metrics.resampling import bootstrap_means, percentile_interval
from i0t.search.index import require_one_vector
from i0t.search.pair_quality import MOST_PAIRS, best_scores, rejection_values
from i0t.search.results import RESAMPLES
from i0t.search.scores import ScoreStandardizer

IMAGE_TEXT, IMAGE_IMAGE, TEXT_TEXT = "image-text", "image-image", "text-text"
ROWS = 4096  # pairs at once


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairScores:
    """Calibration scores of one kind pair.

    Attributes:
        unmatched: (K,) of pairs that do not match, no two of which share an item.
        items_per_score: items of a kind that one of the K takes, 1 or 2.
        matched: (P,) of pairs that match; None if none are known.
        image_of_match: (P,) rows: pairs of one image depend on each other.
    """

    unmatched: np.ndarray
    items_per_score: int
    matched: np.ndarray | None = None
    image_of_match: np.ndarray | None = None

    def kept(self, cutoff: float) -> Estimate | None:
        """Share of matching pairs above the cutoff, with its interval; None if none are known."""
        if self.matched is None or self.image_of_match is None:
            return None
        return mean_of((self.matched > cutoff).astype(float), self.image_of_match)


class Scorer:
    """Cosines, or standardised scores, of rows with rows and of all with all.

    Args:
        standardizer: fitted to other items; None: cosines.
    """

    def __init__(self, standardizer: ScoreStandardizer | None = None) -> None:
        self.standardizer = standardizer

    def pairs(self, one: np.ndarray, kind: str, other: np.ndarray, other_kind: str) -> np.ndarray:
        """(N,) scores of row i with row i."""
        parts = [self._pairs(one[rows], kind, other[rows], other_kind) for rows in row_slices(len(one), ROWS)]
        return np.concatenate(parts)

    def blocks(
        self, queries: np.ndarray, kind: str, items: np.ndarray, other_kind: str
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield scores of a block of queries with all items."""
        if self.standardizer is None:
            return score_blocks(queries, items)
        return self.standardizer.score_blocks(queries, kind, items, other_kind)

    def _pairs(self, one: np.ndarray, kind: str, other: np.ndarray, other_kind: str) -> np.ndarray:
        if self.standardizer is None:
            return np.einsum("nd,nd->n", one, other)
        return self.standardizer.pair_scores(one, kind, other, other_kind)


def pair_scores(embeddings: Embeddings, scorer: Scorer, seed: int = 0) -> dict[str, PairScores]:
    """Score pairs of items at random, each item in one pair at most, and the pairs that match.

    With known pairs, an image and the text of another image do not match; one text per image counts. Without them, a
    random image and a random text are taken as not matching: if a few do, the cutoff is too high rather than too low.

    Args:
        embeddings: unit vectors.
        scorer: not fitted to these items.
        seed: of the pairs.

    Raises:
        I0TError: several vectors per item, fewer than four images or texts, or images in classes.
    """
    if embeddings.labels is not None:
        raise I0TError("The images are in classes, whose names are right for many of them.")
    require_one_vector(embeddings.image_features, "images")
    images, texts = embeddings.image_features, embeddings.text_features
    rng, pairs = np.random.default_rng(seed), embeddings.pairs
    if len(pairs):
        chosen = _one_text_each(pairs, rng)
        own_images, own_texts = images[chosen[:, 0]], texts[chosen[:, 1]]
        crossed = disjoint_pairs(len(chosen), seed)
    else:
        own_images, own_texts = images, texts
        k = min(len(images), len(texts))
        crossed = rng.permutation(len(images))[:k], rng.permutation(len(texts))[:k]
    if min(len(own_images), len(own_texts)) < 4:
        raise I0TError(f"cutoff: {len(own_images)} images and {len(own_texts)} texts are too few; give a few hundred.")
    of_images, of_texts = disjoint_pairs(len(own_images), seed), disjoint_pairs(len(own_texts), seed)
    score: Callable[..., np.ndarray] = scorer.pairs
    again = _two_texts_each(pairs, rng)
    found = {
        IMAGE_TEXT: PairScores(
            score(own_images[crossed[0]], "image", own_texts[crossed[1]], "text"), 2 if len(pairs) else 1
        ),
        IMAGE_IMAGE: PairScores(score(own_images[of_images[0]], "image", own_images[of_images[1]], "image"), 2),
        TEXT_TEXT: PairScores(score(own_texts[of_texts[0]], "text", own_texts[of_texts[1]], "text"), 2),
    }
    if len(pairs):
        matched = score(images[pairs[:, 0]], "image", texts[pairs[:, 1]], "text")
        found[IMAGE_TEXT] = replace(found[IMAGE_TEXT], matched=matched, image_of_match=pairs[:, 0])
    if len(again):
        matched = score(texts[again[:, 0]], "text", texts[again[:, 1]], "text")
        found[TEXT_TEXT] = replace(found[TEXT_TEXT], matched=matched, image_of_match=np.arange(len(again)))
    return found


def rejection(embeddings: Embeddings, scorer: Scorer, seed: int = 0) -> dict[str, Estimate] | None:
    """Search the images with one text each, with and without the right image; None without known pairs.

    Returns:
        Means of `rejection_values` with 95 % intervals: measured, not promised.
    """
    if len(embeddings.pairs) < 4:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(_one_text_each(embeddings.pairs, rng))[:MOST_PAIRS]
    images, texts = embeddings.image_features[chosen[:, 0]], embeddings.text_features[chosen[:, 1]]
    scores = np.concatenate([block.copy() for _, block in scorer.blocks(texts, "text", images, "image")])
    values = rejection_values(*best_scores(scores), seed)
    return {name: mean_of(held, np.arange(len(held))) for name, held in values.items() if not np.isnan(held).any()}


def mean_of(values: np.ndarray, groups: np.ndarray) -> Estimate:
    """Mean of (P,) values with its 95 % bootstrap interval over groups."""
    low, high = percentile_interval(bootstrap_means(values[:, None], groups, RESAMPLES, seed=0))
    return Estimate(float(values.mean()), float(low[0]), float(high[0]))


def _one_text_each(pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) images that have texts, with one of these at random."""
    shuffled = rng.permutation(pairs)
    return shuffled[np.unique(shuffled[:, 0], return_index=True)[1]]


def _two_texts_each(pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P, 2) two texts at random of each image that has several."""
    shuffled = rng.permutation(pairs)
    shuffled = shuffled[np.argsort(shuffled[:, 0], kind="stable")]
    starts = np.unique(shuffled[:, 0], return_index=True)[1]
    starts = starts[np.diff(np.append(starts, len(shuffled))) > 1]
    return np.stack([shuffled[starts, 1], shuffled[starts + 1, 1]], axis=1) if len(starts) else np.empty((0, 2), int)

"""Scores of pairs that do and do not match, by kind pair, for cutoffs with a stated share of false alarms.

Shapes: N images, M texts, K scores of pairs that do not match, P of pairs that do, A queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.features import row_slices
from i0t.metrics.cutoff import conformal_cutoff, disjoint_pairs
from i0t.metrics.ranking import score_blocks
from i0t.search.index import require_one_vector
from i0t.search.scores import ScoreStandardizer

IMAGE_TEXT, IMAGE_IMAGE, TEXT_TEXT = "image-text", "image-image", "text-text"
MOST_QUERIES = 2000  # for rejection, whose scores grow with their square
ROWS = 4096  # pairs at once


@dataclass(frozen=True)
class PairScores:
    """Calibration scores of one kind pair.

    Attributes:
        unmatched: (K,) of pairs that do not match, no two of which share an item.
        matched: (P,) of pairs that match; None if none are known.
        items_per_score: items of a kind that one of the K takes, 1 or 2.
    """

    unmatched: np.ndarray
    matched: np.ndarray | None
    items_per_score: int

    def kept(self, cutoff: float) -> float:
        """Share of matching pairs above the cutoff; NaN if none are known."""
        return float("nan") if self.matched is None else float(np.mean(self.matched > cutoff))


@dataclass(frozen=True)
class Rejection:
    """Whether the best score of a text query tells that no image of the index matches: measured, not promised.

    Attributes:
        absent: (A,) best scores of queries whose image is not in the index.
        present: (A,) best scores with their image.
    """

    absent: np.ndarray
    present: np.ndarray = field(repr=False)

    @property
    def auroc(self) -> float:
        """How often the best score is higher with a match than, of another query, without; 0.5 is chance."""
        ascending = np.sort(self.absent)
        places = [np.searchsorted(ascending, self.present, side) for side in ("left", "right")]
        return float(np.mean(places) / len(ascending))

    def kept(self, share: float) -> float:
        """Share of answerable queries that are not rejected, if a share of the unanswerable ones is let through."""
        return float(np.mean(self.present > conformal_cutoff(self.absent, share)))


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
        I0TError: several vectors per item, or fewer than four images or texts.
    """
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
    return {
        IMAGE_TEXT: PairScores(
            score(own_images[crossed[0]], "image", own_texts[crossed[1]], "text"),
            score(images[pairs[:, 0]], "image", texts[pairs[:, 1]], "text") if len(pairs) else None,
            2 if len(pairs) else 1,
        ),
        IMAGE_IMAGE: PairScores(score(own_images[of_images[0]], "image", own_images[of_images[1]], "image"), None, 2),
        TEXT_TEXT: PairScores(
            score(own_texts[of_texts[0]], "text", own_texts[of_texts[1]], "text"),
            score(texts[again[:, 0]], "text", texts[again[:, 1]], "text") if len(again) else None,
            2,
        ),
    }


def rejection(embeddings: Embeddings, scorer: Scorer, seed: int = 0) -> Rejection | None:
    """Search the images with one text each, with and without the right image; None without known pairs."""
    if len(embeddings.pairs) < 4:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(_one_text_each(embeddings.pairs, rng))[:MOST_QUERIES]
    images, texts = embeddings.image_features[chosen[:, 0]], embeddings.text_features[chosen[:, 1]]
    absent, present = np.empty(len(chosen)), np.empty(len(chosen))
    for rows, scores in scorer.blocks(texts, "text", images, "image"):
        present[rows] = scores.max(axis=1)
        scores[np.arange(len(scores)), np.arange(rows.start, rows.stop)] = -np.inf
        absent[rows] = scores.max(axis=1)
    return Rejection(absent, present)


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

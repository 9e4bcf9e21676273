"""What the tested pairs themselves tell of a method: R@1, one scale, matches above one cutoff, and rejection.

All are values of each image, so that their means have intervals as those of queries have.

Shapes: T tested pairs.
"""

from __future__ import annotations

import numpy as np

from i0t.metrics.cutoff import conformal_cutoff
from i0t.metrics.one_scale import one_scale_shares
from i0t.metrics.ranking import score_blocks, unit_rows
from i0t.metrics.resampling import random_split
from i0t.search.methods import Method
from i0t.search.scores import ScoreStandardizer
from i0t.standardize import GapRemover

ALARMS = 0.01  # share of the pairs that do not match above the cutoff of `kept`
LET_THROUGH = 0.05  # stated share of queries without an answer above the cutoff of the best score
MOST_PAIRS = 2000  # all values grow with their square


def pair_quality(method: Method, images: np.ndarray, texts: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Measure a method on pairs that it was not fitted to.

    Args:
        method: None, a gap remover or scores.
        images: (T, D).
        texts: (T, D), row i a text of image i.
        seed: of the halves of `rejection_values`.

    Returns:
        (T,) each, in 0..1:

        - `i2t_r1`, `t2i_r1`: R@1 among the pairs, ties broken at random.
        - `above_picture`: how often the image scores higher with its text than with another image.
        - `kept`: whether the pair scores above the score that `ALARMS` of the pairs that do not match exceed.
        - those of `rejection_values`.
    """
    scores = _scores(method, images, texts)
    wrong = scores[~np.eye(len(scores), dtype=bool)]
    return {
        "i2t_r1": _first(scores),
        "t2i_r1": _first(scores.T),
        "above_picture": _above_picture(method, images, texts),
        "kept": (np.diag(scores) > np.quantile(wrong, 1 - ALARMS)).astype(float),
        **rejection_values(*best_scores(scores.T), seed),
    }


def best_scores(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) best score of each query (row) without its own item, and with it, from all scores (T, T)."""
    absent = scores.copy()
    np.fill_diagonal(absent, -np.inf)
    return absent.max(axis=1), scores.max(axis=1)


def rejection_values(absent: np.ndarray, present: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Measure whether the best score of a query tells that nothing in the index matches.

    The cutoff for the best score is conformal (`i0t.metrics.conformal_cutoff`), from one random half of the queries,
    and measured on the other half, and the reverse.

    Args:
        absent: (T,) best scores without the query's own item in the index.
        present: (T,) with it.
        seed: of the halves.

    Returns:
        (T,) each:

        - `auroc`: their mean is how often a best score is higher with a match than, of another query, without. A value
          is the query's part as one and as the other, so that the spread of the values is that of the mean.
        - `let_through`: whether it exceeds the cutoff without its item, which `LET_THROUGH` should. NaN with fewer
          than 38 queries, which cannot decide a cutoff.
        - `answered`: whether it does with its item.
    """
    higher, lower = _placed(present, absent), 1 - _placed(absent, present)
    found = {
        "auroc": higher + lower - higher.mean(),
        "let_through": np.full(len(absent), np.nan),
        "answered": np.full(len(absent), np.nan),
    }
    halves = random_split(len(absent), np.random.default_rng(seed))
    for known, later in (halves, halves[::-1]):
        cutoff = conformal_cutoff(absent[known], LET_THROUGH) if len(known) else np.inf
        if np.isfinite(cutoff):
            found["let_through"][later] = absent[later] > cutoff
            found["answered"][later] = present[later] > cutoff
    return found


def _placed(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others` below each value; ties count half."""
    ascending = np.sort(others)
    return np.mean([np.searchsorted(ascending, values, side) for side in ("left", "right")], axis=0) / len(ascending)


def _scores(method: Method, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(T, T) scores of all images with all texts."""
    if isinstance(method, ScoreStandardizer):
        return method.scores(images, "image", texts, "text")
    blocks = score_blocks(*_moved(method, images, texts))
    return np.concatenate([block.copy() for _, block in blocks])


def _above_picture(method: Method, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(T,) share of other images that score lower with an image than its own text does; ties count half."""
    if not isinstance(method, ScoreStandardizer):
        return one_scale_shares(*_moved(method, images, texts))["above_picture"]
    others = method.scores(images, "image", images, "image")
    np.fill_diagonal(others, np.inf)  # never won
    own = method.pair_scores(images, "image", texts, "text")[:, None]
    return (np.sum(others < own, axis=1) + 0.5 * np.sum(others == own, axis=1)) / (len(images) - 1)


def _moved(method: Method, images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(method, GapRemover):
        return method.transform_image(images), method.transform_text(texts)
    return unit_rows(images, "images"), unit_rows(texts, "texts")


def _first(scores: np.ndarray) -> np.ndarray:
    """(T,) chance that the match of each row is first, ties broken at random."""
    best = scores.max(axis=1)
    return (np.diag(scores) == best) / (scores == best[:, None]).sum(axis=1)

"""Mixed search before and after removing the gap, with what removes it fitted on other pairs.

Shapes: N images, M texts, P pairs, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics.resampling import percentile_interval, random_split, resampled_rows
from i0t.search.layout import MixedLayout
from i0t.search.quality import pair_quality, search_quality, summary
from i0t.standardize import GapRemover

Fitted = Mapping[str, "GapRemover | None"]  # method to remover; None leaves the features as they are
Fit = Callable[[np.ndarray, np.ndarray], Fitted]  # image features and text features of the calibration pairs


@dataclass
class MethodResult:
    """What one method reached, over one or more splits.

    Attributes:
        splits: metrics of each split, in 0..1.
        query_ndcg: NDCG of every query, averaged over the splits that asked it.
        index: what faiss built, of the last split.

    Example:
        >>> result = MethodResult([{"ndcg": 0.2}, {"ndcg": 0.4}], np.array([0.0, 0.3, 0.6]))
        >>> round(result.mean()["ndcg"], 2), round(result.deviation()["ndcg"], 2)
        (0.3, 0.1)
        >>> low, high = result.ndcg_interval()
        >>> 0 <= low < 0.3 < high <= 0.6
        True
    """

    splits: list[dict[str, float]] = field(default_factory=list)
    query_ndcg: np.ndarray = field(default_factory=lambda: np.zeros(0))
    index: dict[str, object] = field(default_factory=dict)

    def mean(self) -> dict[str, float]:
        """Every metric averaged over the splits."""
        return {name: float(np.mean([split[name] for split in self.splits])) for name in self.splits[0]}

    def deviation(self) -> dict[str, float]:
        """Standard deviation of every metric between the splits; 0 with one split."""
        return {name: float(np.std([split[name] for split in self.splits])) for name in self.splits[0]}

    def ndcg_interval(self, level: float = 0.95, resamples: int = 2000) -> tuple[float, float]:
        """Bootstrap interval of NDCG over the queries: how far other queries of the kind might have moved it."""
        scores = self.query_ndcg
        means = [scores[rows].mean() for rows in resampled_rows(len(scores), resamples, seed=0)]
        low, high = percentile_interval(np.array(means), level)
        return float(low), float(high)


def first_pairs(embeddings: Embeddings) -> np.ndarray:
    """(P, 2) every image that has a text, with its first: one caption a picture, so that queries are independent.

    Raises:
        I0TError: no image has a text.

    Example:
        >>> eye = np.eye(2, dtype=np.float32)
        >>> embeddings = Embeddings(eye, eye[[0, 0, 1]], np.array([0, 0, 1]), ["a", "b"], ["", "", ""])
        >>> first_pairs(embeddings).tolist()
        [[0, 0], [1, 2]]
    """
    pairs = embeddings.pairs
    if not len(pairs):
        raise I0TError("no text has an image (image_of_text is -1 throughout), so nothing pairs up.")
    _, first = np.unique(pairs[:, 0], return_index=True)
    return pairs[first]


def moved(remover: GapRemover | None, images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides with the gap removed; as they are where nothing removes it.

    Example:
        >>> moved(None, np.eye(2), np.eye(2))[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if remover is None:
        return images, texts
    return remover.transform_image(images), remover.transform_text(texts)


def evaluate_splits(
    embeddings: Embeddings,
    fit: Fit,
    splits: int = 20,
    seed: int = 0,
    kind: str = "flat",
    k: int = 10,
    progress: bool = False,
) -> dict[str, MethodResult]:
    """Fit on a random half of the pairs, search among the other half; repeat.

    Args:
        embeddings: images, each with its first text.
        fit: makes the removers of every method from calibration features.
        splits: how many random halves.
        seed: of the halves.
        kind: of `VectorIndex`.
        k: how far down one looks.
        progress: show a bar.

    Returns:
        Method to result. Each split also has the areas of `one_scale_auc`.

    Raises:
        I0TError: fewer than four pairs.

    Example:
        >>> from i0t import Standardizer
        >>> rows, names = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32), [""] * 40
        >>> embeddings = Embeddings(rows + 2, rows - 2, np.arange(40), names, names)
        >>> fit = lambda images, texts: {"raw": None, "centred": Standardizer().fit(images, texts)}
        >>> results = evaluate_splits(embeddings, fit, splits=3)
        >>> results["raw"].mean()["ndcg"] < 0.1 < results["centred"].mean()["ndcg"]
        True
    """
    pairs = first_pairs(embeddings)
    if len(pairs) < 4:
        raise I0TError(f"{len(pairs)} pairs are too few to split in two halves that both hold both modalities.")
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    results: dict[str, MethodResult] = {}
    total, asked = {}, np.zeros(len(pairs))
    for split in tqdm(range(splits), desc="splits", disable=None if progress else True, leave=False):
        fitted_on, tested = random_split(len(pairs), np.random.default_rng([seed, split]))
        asked[tested] += 1
        for method, remover in fit(images[fitted_on], texts[fitted_on]).items():
            sides = moved(remover, images[tested], texts[tested])
            scores, per_query, index = pair_quality(*sides, kind, k)
            result = results.setdefault(method, MethodResult())
            result.splits.append(scores)
            result.index = index
            total.setdefault(method, np.zeros(len(pairs)))[tested] += per_query["ndcg"]
    for method, result in results.items():
        result.query_ndcg = total[method][asked > 0] / asked[asked > 0]
    return results


def evaluate_fitted(embeddings: Embeddings, fitted: Fitted, kind: str = "flat", k: int = 10) -> dict[str, MethodResult]:
    """Search among all pairs of a set with removers that were fitted elsewhere.

    Args:
        embeddings: images, each with its first text.
        fitted: method to remover.
        kind: of `VectorIndex`.
        k: how far down one looks.

    Example:
        >>> eye, names = np.eye(4, dtype=np.float32), ["a", "b", "c", "d"]
        >>> embeddings = Embeddings(eye, eye, np.arange(4), names, names)
        >>> evaluate_fitted(embeddings, {"raw": None}, k=1)["raw"].mean()["ndcg"]
        1.0
    """
    pairs = first_pairs(embeddings)
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    results = {}
    for method, remover in fitted.items():
        scores, per_query, index = pair_quality(*moved(remover, images, texts), kind, k)
        results[method] = MethodResult([scores], per_query["ndcg"], index)
    return results


def evaluate_layout(
    images: np.ndarray, texts: np.ndarray, layout: MixedLayout, fitted: Fitted, kind: str = "flat", k: int = 10
) -> dict[str, MethodResult]:
    """Search a corpus of one's own, whose layout comes from judgments; no pairs, so no `one_scale_auc`.

    Example:
        >>> layout = MixedLayout(2, np.array([0, 1, 3]), np.array([2]), np.array([[0, 0]]), np.array([1.0]))
        >>> evaluate_layout(np.eye(2), np.eye(2), layout, {"raw": None}, k=1)["raw"].mean()["recall"]
        1.0
    """
    results = {}
    for method, remover in fitted.items():
        per_query, index = search_quality(*moved(remover, images, texts), layout, kind, k)
        results[method] = MethodResult([summary(per_query, layout)], per_query["ndcg"], index)
    return results

"""All methods on splits of a user's pairs, and on judgments: results with what intervals need.

Shapes: N images, M texts, P pairs, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics.resampling import random_split
from i0t.search.methods import Method, MixedTask, mean_of_known, scores_of, summary, with_document_rivals
from i0t.search.mixed_index import MixedLayout, either_kind
from i0t.search.pair_quality import MOST_PAIRS, pair_quality
from i0t.search.results import MethodResult, Totals
from i0t.search.rivals import RULES
from i0t.search.scores import FORMS, Form, ScoreStandardizer
from i0t.standardize import GapRemover

Fitted = Mapping[str, Method]  # None: vectors as they are
Fit = Callable[[np.ndarray, np.ndarray], Fitted]  # image features and text features of the calibration items


def all_methods(
    removers: Mapping[str, GapRemover], images: np.ndarray, texts: np.ndarray, forms: Sequence[Form] = FORMS
) -> Fitted:
    """All methods of a table: raw vectors, the rivals, removers, and standardised scores of raw and of moved vectors.

    Args:
        removers: fitted.
        images: (N, D) unlabelled images to fit the scores to.
        texts: (M, D) unlabelled texts.
        forms: of `ScoreStandardizer`.
    """
    cohorts = {"image": images, "text": texts}
    scores: dict[str, Method] = {
        scores_of(name, form): ScoreStandardizer(remover, form).partial_fit(cohorts)
        for name, remover in {"": None, **removers}.items()
        for form in forms
    }
    return {"raw": None, **{name: name for name in RULES}, **removers, **scores}


def first_pairs(embeddings: Embeddings) -> np.ndarray:
    """(P, 2) images with their first text: one caption per image, so that queries are independent.

    Raises:
        I0TError: no image has a text, or images are in classes.
    """
    if embeddings.labels is not None:
        raise I0TError("The images are in classes, whose names are right for many of them.")
    pairs = embeddings.pairs
    if not len(pairs):
        raise I0TError("no text has an image (image_of_text is -1 throughout), so nothing pairs up.")
    _, first = np.unique(pairs[:, 0], return_index=True)
    return pairs[first]


def evaluate_splits(
    embeddings: Embeddings,
    fit: Fit,
    splits: int = 20,
    seed: int = 0,
    kind: str = "flat",
    k: int = 10,
    documents: bool = False,
    progress: bool = False,
) -> dict[str, MethodResult]:
    """Fit to a random half of the images and search among the other half, for several random splits.

    Args:
        embeddings: images with texts; with several texts per image, relevant items are of either kind.
        fit: fits all methods to calibration features, the first text per image.
        splits: number of random splits.
        seed: of the splits.
        kind: of `VectorIndex`.
        k: number of results that count.
        documents: of `either_kind`.
        progress: show a progress bar.

    Returns:
        Result by method; rules have no `pair_quality`.

    Raises:
        I0TError: fewer than four images with a text.
    """
    pairs = first_pairs(embeddings)
    if len(pairs) < 4:
        raise I0TError(f"{len(pairs)} pairs are too few for two parts with both modalities.")
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    runs = SplitRuns(embeddings, kind, k, documents)
    for split in tqdm(range(splits), desc="splits", disable=None if progress else True, leave=False):
        fitted_on, tested = random_split(len(pairs), np.random.default_rng([seed, split]))
        runs.add(fit(images[fitted_on], texts[fitted_on]), pairs[tested], [seed, split])
    return runs.results()


def evaluate_fitted(
    embeddings: Embeddings, fitted: Fitted, seed: int = 0, kind: str = "flat", k: int = 10, documents: bool = False
) -> dict[str, MethodResult]:
    """Search among all images with a text, with fitted methods; `seed` chooses among the texts of an image."""
    runs = SplitRuns(embeddings, kind, k, documents)
    runs.add(fitted, first_pairs(embeddings), seed)
    return runs.results()


class SplitRuns:
    """Searches splits of an Embeddings with all methods, and keeps what they find."""

    def __init__(
        self,
        embeddings: Embeddings,
        kind: str = "flat",
        k: int = 10,
        documents: bool = False,
        pair_metrics: bool = True,
    ) -> None:
        self._from, self._kind, self._k, self._documents = embeddings, kind, k, documents
        self._pair_metrics = pair_metrics
        self._totals: dict[str, Totals] = {}
        self._splits: dict[str, list[dict[str, float]]] = {}
        self._index: dict[str, dict[str, object]] = {}
        images, pairs = np.unique(embeddings.pairs[:, 0]), embeddings.pairs
        order = np.argsort(pairs[:, 0], kind="stable")
        starts = np.searchsorted(pairs[order, 0], images)
        self._texts_of = dict(zip(images.tolist(), np.split(order, starts[1:])))

    def add(self, fitted: Fitted, tested: np.ndarray, seed: int | Sequence[int]) -> None:
        """Search among tested (P, 2) pairs, images with their first text, with all texts of these images."""
        of_images, of_texts = self._from.image_features, self._from.text_features
        rows = np.concatenate([self._texts_of[image] for image in tested[:, 0].tolist()])
        layout = either_kind(self._from.pairs[rows], len(of_images), seed, self._documents)
        task = MixedTask(of_images, of_texts, layout, self._kind)
        assert layout.group_of_query is not None
        paired = np.random.default_rng(seed).permutation(tested)[:MOST_PAIRS]
        for name, method in with_document_rivals(fitted, layout).items():
            per_query = task.quality(method, self._k)
            means = summary(per_query, layout)
            totals = self._totals.setdefault(name, Totals(self._from.pairs[:, 0]))
            totals.add(per_query, layout.group_of_query)
            if self._pair_metrics and not isinstance(method, str):
                per_image = pair_quality(method, of_images[paired[:, 0]], of_texts[paired[:, 1]])
                totals.add(per_image, paired[:, 0])
                means |= {metric: mean_of_known(values) for metric, values in per_image.items()}
            self._splits.setdefault(name, []).append(means)
            self._index[name] = task.description

    def results(self) -> dict[str, MethodResult]:
        """Result by method."""
        return {name: self._totals[name].result(found, self._index[name]) for name, found in self._splits.items()}


def evaluate_layout(
    images: np.ndarray, texts: np.ndarray, layout: MixedLayout, fitted: Fitted, kind: str = "flat", k: int = 10
) -> dict[str, MethodResult]:
    """Search a corpus with a layout from judgments; without pairs, there is no `pair_quality`."""
    task = MixedTask(images, texts, layout, kind)
    results = {}
    groups = np.arange(len(layout.queries)) if layout.group_of_query is None else layout.group_of_query
    for name, method in with_document_rivals(fitted, layout).items():
        per_query, totals = task.quality(method, k), Totals(groups)
        totals.add(per_query, groups)
        results[name] = totals.result([summary(per_query, layout)], task.description)
    return results

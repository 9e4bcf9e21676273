"""Evaluate mixed search before and after removing the gap, with removers fitted to other pairs.

Shapes: N images, M texts, P pairs, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from i0t.digests import file_sha256, list_sha256
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.metrics.cutoff import conformal_cutoff, disjoint_pairs
from i0t.metrics.one_scale import one_scale_auc
from i0t.metrics.resampling import random_split
from i0t.paths import TENSORS, say
from i0t.search.calibration import Scorer
from i0t.search.methods import RULES, Method, MixedTask, summary
from i0t.search.mixed_index import MixedLayout, either_kind
from i0t.search.qrels import layout_of_qrels, read_placed, without_relevant
from i0t.search.results import MethodResult, Totals
from i0t.search.scores import FORMS, Form, ScoreStandardizer
from i0t.standardize import GapRemover
from i0t.standardize.registry import RemoverChoice, fit_to_files, vectors_to_fit

Fitted = Mapping[str, Method]  # None: vectors as they are
Fit = Callable[[np.ndarray, np.ndarray], Fitted]  # image features and text features of the calibration items

ALARMS = 0.01  # share of pairs that do not match above the cutoff of `kept_share`
SPLITS = 20  # random splits, if no other pairs are fitted on


@dataclass(frozen=True)
class SearchOptions:
    """Options of an evaluation of search."""

    source: tuple[str, ...]  # files of the vectors
    choices: tuple[RemoverChoice, ...]  # removers, besides none
    fit_on: tuple[str, ...] = ()  # files to fit on; empty: random splits of the source
    splits: int = SPLITS
    seed: int = 0  # of the splits
    index: str = "flat"  # kind of `VectorIndex`
    k: int = 10  # number of results that count
    qrels: str | None = None  # file of judgments; None: one relevant item per query
    queries: tuple[str, ...] = ()  # files of the queries' vectors; empty: items of the source
    output: str = str(TENSORS)  # folder of the record


def evaluate(source: Embeddings, options: SearchOptions) -> tuple[dict[str, MethodResult], dict[str, Any]]:
    """Evaluate all methods; return results by method, and the protocol."""
    how: dict[str, Any] = {"kind": options.index, "k": options.k}
    if options.qrels:
        results, protocol = _by_judgments(source, options, how)
    elif options.fit_on:
        fitted, protocol = _fitted(options, source)
        results = evaluate_fitted(source, fitted, options.seed, **how)
        protocol |= _task_of(source)
    else:

        def fit(images: np.ndarray, texts: np.ndarray) -> Fitted:
            return all_methods(
                {choice.name: choice.make().fit(images, texts) for choice in options.choices}, images, texts
            )

        results = evaluate_splits(source, fit, options.splits, options.seed, progress=True, **how)
        protocol = {**_task_of(source), "fit_on": "a random half of the pairs", "splits": options.splits}
        protocol |= {"seed": options.seed, "means_leak": False}
    fixed = {"k": options.k, "index": options.index, "ndcg_gain": "grade", "interval": "bootstrap over queries"}
    return results, {**protocol, **fixed}


def _task_of(source: Embeddings) -> dict[str, Any]:
    """Name the task: with one text per image, no relevant item is of the query's own kind."""
    several = len(source.pairs) > len(first_pairs(source))
    return {"task": "either kind" if several else "half and half"}


def _by_judgments(
    source: Embeddings, options: SearchOptions, how: dict[str, Any]
) -> tuple[dict[str, MethodResult], dict[str, Any]]:
    assert options.qrels is not None
    if not options.fit_on:
        raise I0TError(
            "--qrels needs --fit-on FILE: vectors of other items of the same model. Without such vectors, name SOURCE "
            "itself: its means are then those of the evaluated items, and the record says so."
        )
    queries = load_embeddings(options.queries) if options.queries else None
    judgments, places = read_placed(options.qrels)
    layout, images, texts = layout_of_qrels(judgments, source, queries, places)
    left_out = without_relevant(judgments)
    if left_out:
        asked = len(layout.queries) + len(left_out)
        say(
            f"{options.qrels}: {len(left_out)} of {asked} queries have no relevant document and are left out, first "
            f"{left_out[0]}"
        )
    fitted, protocol = _fitted(options, source, queries)
    protocol |= {"task": "judgments", "qrels": options.qrels, "qrels_sha256": file_sha256(options.qrels)}
    protocol |= {"queries_without_relevant": len(left_out)}
    protocol |= {
        "queries": list(options.queries) or None,
        "queries_sha256": items_sha256(queries) if queries else None,
    }
    return evaluate_layout(images, texts, layout, fitted, **how), protocol


def _fitted(
    options: SearchOptions, source: Embeddings, queries: Embeddings | None = None
) -> tuple[Fitted, dict[str, Any]]:
    """Fit the removers to the files of --fit-on, and look for evaluated items among the fitted ones."""
    evaluated = {"overlap": source, **({} if queries is None else {"overlap_of_queries": queries})}
    fitted = fit_to_files(options.choices, options.fit_on, list(evaluated.values()), flag="--removers")
    fit_files = {Path(path).resolve() for path in options.fit_on}
    leak, overlaps = False, {}
    for name, embeddings in evaluated.items():
        overlaps[name] = found = next(iter(fitted.values())).overlap(embeddings)
        if found or fit_files == {Path(path).resolve() for path in embeddings.files}:
            leak = True
            what = "queries" if embeddings is queries else "items that are evaluated"
            say(f"fitted on {what}, so results look better than they are: {found}")
    known = leak or overlaps["overlap"].image_share is not None
    protocol = {
        "fit_on": list(options.fit_on),
        "fit_fingerprints": {name: remover.fingerprint for name, remover in fitted.items()},
        "means_leak": leak if known else None,
        **{name: found.record() for name, found in overlaps.items()},
    }
    vectors = vectors_to_fit(options.fit_on)
    if vectors is None:
        say("standardised scores are left out: --fit-on names a fitted remover, and they need vectors")
        return {"raw": None, **{name: name for name in RULES}, **fitted}, protocol
    return all_methods(fitted, vectors.image_features, vectors.text_features), protocol


def items_sha256(embeddings: Embeddings) -> str:
    """Hash of all that a result depends on: vectors, and what the rows are."""
    return list_sha256([embeddings.features_sha256, embeddings.items_sha256])


def first_pairs(embeddings: Embeddings) -> np.ndarray:
    """(P, 2) images with their first text: one caption per image, so that queries are independent.

    Raises:
        I0TError: no image has a text.
    """
    pairs = embeddings.pairs
    if not len(pairs):
        raise I0TError("no text has an image (image_of_text is -1 throughout), so nothing pairs up.")
    _, first = np.unique(pairs[:, 0], return_index=True)
    return pairs[first]


def all_methods(
    removers: Mapping[str, GapRemover], images: np.ndarray, texts: np.ndarray, forms: Sequence[Form] = FORMS
) -> Fitted:
    """All methods of a table: raw vectors, the rivals, removers, and standardised scores of raw vectors.

    Args:
        removers: fitted.
        images: (N, D) unlabelled images to fit the scores to.
        texts: (M, D) unlabelled texts.
        forms: of `ScoreStandardizer`.
    """
    cohorts = {"image": images, "text": texts}
    scores: dict[str, Method] = {form: ScoreStandardizer(form=form).fit(cohorts) for form in forms}
    return {"raw": None, **{name: name for name in RULES}, **removers, **scores}


def evaluate_splits(
    embeddings: Embeddings,
    fit: Fit,
    splits: int = 20,
    seed: int = 0,
    kind: str = "flat",
    k: int = 10,
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
        progress: show a progress bar.

    Returns:
        Result by method. Vectors of row-aligned pairs also have the areas of `one_scale_auc`.

    Raises:
        I0TError: fewer than four images with a text.
    """
    pairs = first_pairs(embeddings)
    if len(pairs) < 4:
        raise I0TError(f"{len(pairs)} pairs are too few for two parts with both modalities.")
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    runs = SplitRuns(embeddings, kind, k)
    for split in tqdm(range(splits), desc="splits", disable=None if progress else True, leave=False):
        fitted_on, tested = random_split(len(pairs), np.random.default_rng([seed, split]))
        runs.add(fit(images[fitted_on], texts[fitted_on]), pairs[tested], [seed, split])
    return runs.results()


def evaluate_fitted(
    embeddings: Embeddings, fitted: Fitted, seed: int = 0, kind: str = "flat", k: int = 10
) -> dict[str, MethodResult]:
    """Search among all images with a text, with fitted methods; `seed` chooses among the texts of an image."""
    runs = SplitRuns(embeddings, kind, k)
    runs.add(fitted, first_pairs(embeddings), seed)
    return runs.results()


class SplitRuns:
    """Searches splits of an Embeddings with all methods, and keeps what they find."""

    def __init__(self, embeddings: Embeddings, kind: str = "flat", k: int = 10) -> None:
        self._from, self._kind, self._k = embeddings, kind, k
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
        layout = either_kind(self._from.pairs[rows], len(of_images), seed)
        task = MixedTask(of_images, of_texts, layout, self._kind)
        for name, method in fitted.items():
            per_query = task.quality(method, self._k)
            means = summary(per_query, layout)
            if not isinstance(method, str):
                pairs = of_images[tested[:, 0]], of_texts[tested[:, 1]]
                means |= {"kept": kept_share(method, *pairs)}
                means |= {} if isinstance(method, ScoreStandardizer) else one_scale_auc(*_moved(method, *pairs))
            self._splits.setdefault(name, []).append(means)
            self._index[name] = task.description
            assert layout.group_of_query is not None
            self._totals.setdefault(name, Totals(self._from.pairs[:, 0])).add(per_query, layout.group_of_query)

    def results(self) -> dict[str, MethodResult]:
        """Result by method."""
        return {name: self._totals[name].result(found, self._index[name]) for name, found in self._splits.items()}


def evaluate_layout(
    images: np.ndarray, texts: np.ndarray, layout: MixedLayout, fitted: Fitted, kind: str = "flat", k: int = 10
) -> dict[str, MethodResult]:
    """Search a corpus with a layout from judgments; without pairs, there is no `one_scale_auc`."""
    task = MixedTask(images, texts, layout, kind)
    results = {}
    groups = np.arange(len(layout.queries)) if layout.group_of_query is None else layout.group_of_query
    for name, method in fitted.items():
        per_query, totals = task.quality(method, k), Totals(groups)
        totals.add(per_query, groups)
        results[name] = totals.result([summary(per_query, layout)], task.description)
    return results


def kept_share(method: Method, images: np.ndarray, texts: np.ndarray) -> float:
    """Share of matches above one cutoff that, on average, `ALARMS` of the pairs that do not match exceed.

    The cutoff is conformal, from the image of one pair with the text of another, each item in one pair only.

    Args:
        method: None, a gap remover or scores, fitted to other items.
        images: (T, D).
        texts: (T, D), row i the text of image i.

    Returns:
        NaN if the T pairs are too few to decide: fewer than 198.
    """
    scorer = Scorer(method if isinstance(method, ScoreStandardizer) else None)
    if isinstance(method, GapRemover):
        images, texts = _moved(method, images, texts)
    one, other = disjoint_pairs(len(images))
    cutoff = conformal_cutoff(scorer.pairs(images[one], "image", texts[other], "text"), ALARMS)
    matched = scorer.pairs(images, "image", texts, "text")
    return float(np.mean(matched > cutoff)) if np.isfinite(cutoff) else float("nan")


def _moved(remover: GapRemover | None, images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if remover is None:
        return images, texts
    return remover.transform_image(images), remover.transform_text(texts)

"""Evaluate mixed search before and after removing the gap, with removers fitted to other pairs.

Shapes: N images, M texts, P pairs, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.files import file_sha256, list_sha256
from i0t.metrics.resampling import percentile_interval, random_split, resampled_rows
from i0t.paths import TENSORS, say
from i0t.search.mixed_index import MixedLayout, pair_quality, search_quality, summary
from i0t.search.qrels import layout_of_qrels, read_placed
from i0t.standardize import GapRemover
from i0t.standardize.registry import RemoverChoice, fit_to_files

Fitted = Mapping[str, "GapRemover | None"]  # method to remover; None: raw features
Fit = Callable[[np.ndarray, np.ndarray], Fitted]  # image features and text features of the calibration pairs

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


@dataclass
class MethodResult:
    """Results of one method over one or more splits.

    Attributes:
        splits: metrics of each split, in 0..1.
        query_ndcg: NDCG of each query, averaged over the splits in which it was a query.
        index: description of the faiss index of the last split.
    """

    splits: list[dict[str, float]] = field(default_factory=list)
    query_ndcg: np.ndarray = field(default_factory=lambda: np.zeros(0))
    index: dict[str, object] = field(default_factory=dict)

    def mean(self) -> dict[str, float]:
        """Mean of every metric over the splits."""
        return {name: float(np.mean([split[name] for split in self.splits])) for name in self.splits[0]}

    def deviation(self) -> dict[str, float]:
        """Standard deviation of every metric over the splits; 0 with one split."""
        return {name: float(np.std([split[name] for split in self.splits])) for name in self.splits[0]}

    def ndcg_interval(self, level: float = 0.95, resamples: int = 2000) -> tuple[float, float]:
        """Bootstrap interval of NDCG over queries."""
        means = [self.query_ndcg[rows].mean() for rows in resampled_rows(len(self.query_ndcg), resamples, seed=0)]
        low, high = percentile_interval(np.array(means), level)
        return float(low), float(high)


def evaluate(source: Embeddings, options: SearchOptions) -> tuple[dict[str, MethodResult], dict[str, Any]]:
    """Evaluate all methods; return results by method, and the protocol."""
    how: dict[str, Any] = {"kind": options.index, "k": options.k}
    if options.qrels:
        results, protocol = _by_judgments(source, options, how)
    elif options.fit_on:
        fitted, protocol = _fitted(options, source)
        results = evaluate_fitted(source, fitted, **how)
        protocol["task"] = "half and half"
    else:

        def fit(images: np.ndarray, texts: np.ndarray) -> Fitted:
            return {"raw": None, **{choice.name: choice.make().fit(images, texts) for choice in options.choices}}

        results = evaluate_splits(source, fit, options.splits, options.seed, progress=True, **how)
        protocol = {"task": "half and half", "fit_on": "a random half of the pairs", "splits": options.splits}
        protocol |= {"seed": options.seed, "means_leak": False}
    fixed = {"k": options.k, "index": options.index, "ndcg_gain": "grade", "interval": "bootstrap over queries"}
    return results, {**protocol, **fixed}


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
    fitted, protocol = _fitted(options, source, queries)
    protocol |= {"task": "judgments", "qrels": options.qrels, "qrels_sha256": file_sha256(options.qrels)}
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
    fitted = fit_to_files(options.choices, options.fit_on, list(evaluated.values()), flag="--methods")
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
    return {"raw": None, **fitted}, protocol


def items_sha256(embeddings: Embeddings) -> str:
    """Hash of all that a result depends on: vectors, pairs, and ids."""
    ids = [embeddings.image_ids, embeddings.metadata.get("text_ids"), embeddings.image_of_text.tolist()]
    return list_sha256([embeddings.features_sha256, json.dumps(ids)])


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


def evaluate_splits(
    embeddings: Embeddings,
    fit: Fit,
    splits: int = 20,
    seed: int = 0,
    kind: str = "flat",
    k: int = 10,
    progress: bool = False,
) -> dict[str, MethodResult]:
    """Fit to a random half of the pairs and search among the other half, for several random splits.

    Args:
        embeddings: images; the first text per image is used.
        fit: fits the removers of all methods to calibration features.
        splits: number of random splits.
        seed: of the splits.
        kind: of `VectorIndex`.
        k: number of results that count.
        progress: show a progress bar.

    Returns:
        Result by method. Each split also has the areas of `one_scale_auc`.

    Raises:
        I0TError: fewer than four pairs.
    """
    pairs = first_pairs(embeddings)
    if len(pairs) < 4:
        raise I0TError(f"{len(pairs)} pairs are too few for two parts with both modalities.")
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    results: dict[str, MethodResult] = {}
    total: dict[str, np.ndarray] = {}
    searched = np.zeros(len(pairs))
    for split in tqdm(range(splits), desc="splits", disable=None if progress else True, leave=False):
        fitted_on, tested = random_split(len(pairs), np.random.default_rng([seed, split]))
        searched[tested] += 1
        for method, remover in fit(images[fitted_on], texts[fitted_on]).items():
            scores, per_query, index = pair_quality(*_moved(remover, images[tested], texts[tested]), kind, k)
            result = results.setdefault(method, MethodResult())
            result.splits.append(scores)
            result.index = index
            total.setdefault(method, np.zeros(len(pairs)))[tested] += per_query["ndcg"]
    for method, result in results.items():
        result.query_ndcg = total[method][searched > 0] / searched[searched > 0]
    return results


def evaluate_fitted(embeddings: Embeddings, fitted: Fitted, kind: str = "flat", k: int = 10) -> dict[str, MethodResult]:
    """Search among all pairs (first text per image), with fitted removers."""
    pairs = first_pairs(embeddings)
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    results = {}
    for method, remover in fitted.items():
        scores, per_query, index = pair_quality(*_moved(remover, images, texts), kind, k)
        results[method] = MethodResult([scores], per_query["ndcg"], index)
    return results


def evaluate_layout(
    images: np.ndarray, texts: np.ndarray, layout: MixedLayout, fitted: Fitted, kind: str = "flat", k: int = 10
) -> dict[str, MethodResult]:
    """Search a corpus with a layout from judgments; without pairs, there is no `one_scale_auc`."""
    results = {}
    for method, remover in fitted.items():
        per_query, index = search_quality(*_moved(remover, images, texts), layout, kind, k)
        results[method] = MethodResult([summary(per_query, layout)], per_query["ndcg"], index)
    return results


def _moved(remover: GapRemover | None, images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if remover is None:
        return images, texts
    return remover.transform_image(images), remover.transform_text(texts)

"""Mixed search before and after removing the gap, with removers fitted on other pairs than those searched.

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

Fitted = Mapping[str, "GapRemover | None"]  # method to remover; None leaves the features as they are
Fit = Callable[[np.ndarray, np.ndarray], Fitted]  # image features and text features of the calibration pairs


SPLITS = 20  # random halves that are averaged, where nothing else is fitted on


@dataclass(frozen=True)
class SearchOptions:
    """What to search, and by what.

    Attributes:
        source: files of the vectors.
        choices: removers, beside none.
        fit_on: files to fit on; empty for random halves of the source.
        splits: how many halves.
        seed: of the halves.
        index: kind of `VectorIndex`.
        k: how many of the first results count.
        qrels: file of judgments; None for one relevant item per pair.
        queries: files of the queries' vectors; empty where they are items of the source.
        output: folder of the record.
    """

    source: tuple[str, ...]
    choices: tuple[RemoverChoice, ...]
    fit_on: tuple[str, ...] = ()
    splits: int = SPLITS
    seed: int = 0
    index: str = "flat"
    k: int = 10
    qrels: str | None = None
    queries: tuple[str, ...] = ()
    output: str = str(TENSORS)


@dataclass
class MethodResult:
    """What one method reached, over one or more splits.

    Attributes:
        splits: metrics of each split, in 0..1.
        query_ndcg: NDCG of every query, averaged over the splits that it was a query in.
        index: what faiss built, of the last split.
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
        means = [self.query_ndcg[rows].mean() for rows in resampled_rows(len(self.query_ndcg), resamples, seed=0)]
        low, high = percentile_interval(np.array(means), level)
        return float(low), float(high)


def evaluate(source: Embeddings, options: SearchOptions) -> tuple[dict[str, MethodResult], dict[str, Any]]:
    """Results by method, and the protocol: the task, and where what removes the gap was fitted."""
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
            "--qrels: say what to fit on, --fit-on FILE, vectors of other items by the same model. The SOURCE itself "
            "will do where there are none: its means are then those of the evaluated items, and the record says so."
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
    """Removers of every method by --fit-on, after looking for evaluated items among what they were fitted to."""
    evaluated = {"overlap": source, **({} if queries is None else {"overlap_of_queries": queries})}
    fitted = fit_to_files(options.choices, options.fit_on, list(evaluated.values()), flag="--methods")
    fit_files = {Path(path).resolve() for path in options.fit_on}
    leak, overlaps = False, {}
    for name, embeddings in evaluated.items():
        overlaps[name] = found = next(iter(fitted.values())).overlap(embeddings)
        if found or fit_files == {Path(path).resolve() for path in embeddings.files}:
            leak = True
            what = "queries" if embeddings is queries else "items that are evaluated"
            say(f"fitted on {what}, which flatters: {found}")
    known = leak or overlaps["overlap"].image_share is not None
    protocol = {
        "fit_on": list(options.fit_on),
        "fit_fingerprints": {name: remover.fingerprint for name, remover in fitted.items()},
        "means_leak": leak if known else None,
        **{name: found.record() for name, found in overlaps.items()},
    }
    return {"raw": None, **fitted}, protocol


def items_sha256(embeddings: Embeddings) -> str:
    """Hash of all that a result may rest on: vectors, what pairs up, and the ids that judgments name."""
    ids = [embeddings.image_ids, embeddings.metadata.get("text_ids"), embeddings.image_of_text.tolist()]
    return list_sha256([embeddings.features_sha256, json.dumps(ids)])


def first_pairs(embeddings: Embeddings) -> np.ndarray:
    """(P, 2) every image that has a text, with its first: one caption per image, so that queries are independent.

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
        k: how many of the first results count.
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
    """Search among all pairs of a set, images each with its first text, with removers that were fitted elsewhere."""
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
    """Search a corpus whose layout comes from judgments; there are no pairs, so no `one_scale_auc`."""
    results = {}
    for method, remover in fitted.items():
        per_query, index = search_quality(*_moved(remover, images, texts), layout, kind, k)
        results[method] = MethodResult([summary(per_query, layout)], per_query["ndcg"], index)
    return results


def _moved(remover: GapRemover | None, images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if remover is None:
        return images, texts
    return remover.transform_image(images), remover.transform_text(texts)

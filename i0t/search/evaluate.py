"""Evaluate mixed search before and after removing the gap, with removers fitted to other pairs: `i0t search-eval`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i0t.digests import file_sha256, list_sha256
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.paths import TENSORS, say
from i0t.search.judged_layout import Documents, documents_of_ids, documents_of_pairs, layout_of_qrels
from i0t.search.qrels import read_documents, read_placed, without_relevant
from i0t.search.results import MethodResult
from i0t.search.rivals import RULES
from i0t.search.splits import Fitted, all_methods, evaluate_fitted, evaluate_layout, evaluate_splits, first_pairs
from i0t.standardize.fitting import fit_to_files, vectors_to_fit
from i0t.standardize.registry import RemoverChoice

DOCUMENTS: dict[str, Callable[[Embeddings], Documents]] = {"pairs": documents_of_pairs, "ids": documents_of_ids}
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
    documents: str | None = None  # "pairs", "ids", or a file of documents with several items; None: there are none
    details: bool = False  # print all tables
    output: str = str(TENSORS)  # folder of the record


def evaluate(source: Embeddings, options: SearchOptions) -> tuple[dict[str, MethodResult], dict[str, Any]]:
    """Evaluate all methods; return results by method, and the protocol."""
    how: dict[str, Any] = {"kind": options.index, "k": options.k}
    if options.qrels:
        results, protocol = _by_judgments(source, options, how)
    elif options.fit_on:
        fitted, protocol = _fitted(options, source)
        results = evaluate_fitted(source, fitted, options.seed, documents=_of_pairs(source, options), **how)
        protocol |= _task_of(source)
    else:

        def fit(images: np.ndarray, texts: np.ndarray) -> Fitted:
            removers = {choice.name: choice.make().fit(images, texts) for choice in options.choices}
            return all_methods(removers, images, texts)

        documents = _of_pairs(source, options)
        results = evaluate_splits(source, fit, options.splits, options.seed, documents=documents, progress=True, **how)
        protocol = {**_task_of(source), "fit_on": "a random half of the pairs", "splits": options.splits}
        protocol |= {"seed": options.seed, "means_leak": False}
    fixed = {"k": options.k, "index": options.index, "ndcg_gain": "grade", "interval": "bootstrap over queries"}
    fixed |= {"documents": options.documents, "document_score": "best item"} if options.documents else {}
    return results, {**protocol, **fixed}


def _of_pairs(source: Embeddings, options: SearchOptions) -> bool:
    """Whether an image and a text are one document, in the task without judgments.

    Raises:
        I0TError: other documents, or no image with several texts.
    """
    if options.documents is None:
        return False
    if options.documents != "pairs":
        raise I0TError(f"--documents {options.documents}: needs --qrels. Without judgments, only 'pairs' has answers.")
    if _task_of(source)["task"] != "either kind":
        raise I0TError(
            "--documents pairs: one text per image; with it in the index, none is left to ask. Give several texts per "
            "image, or judgments (--qrels)."
        )
    return True


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
    layout, images, texts = layout_of_qrels(judgments, source, queries, places, _documents(source, options.documents))
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
    if options.documents and options.documents not in DOCUMENTS:
        protocol |= {"documents_sha256": file_sha256(options.documents)}
    return evaluate_layout(images, texts, layout, fitted, **how), protocol


def _documents(source: Embeddings, given: str | None) -> Documents | None:
    """Documents of --documents."""
    if given is None:
        return None
    return DOCUMENTS[given](source) if given in DOCUMENTS else read_documents(given)


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

"""Program: how well one index of images and texts is searched, before and after removing the gap. `i0t search-eval`."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from i0t.cli import program
from i0t.commands.vectors import SOURCE_HELP, read_vectors, same_files
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.files import ensure_folder, file_sha256, list_sha256, write_json
from i0t.paths import TENSORS, say
from i0t.search.evaluate import Fitted, MethodResult, evaluate_fitted, evaluate_layout, evaluate_splits
from i0t.search.qrels import layout_of_qrels, read_qrels
from i0t.standardize import fitted_origin
from i0t.standardize.fitting import fit_to_files
from i0t.standardize.registry import add_remover_flags, own_names, remover_choices, remover_class

DESCRIPTION = """\
Search an index that holds images and texts together, and say what it finds: NDCG@10, recall@10, and which modality
fills the first ten. Of n pairs the index holds the image of the first half and the text of the second; the other
side of every pair asks, so each query has one right item, of the other modality. Or bring your own judgments.

What removes the gap is fitted on pairs that are not searched: a random half, --splits times over, or --fit-on FILE.
"""
EPILOG = """\
columns (k is 10 unless --k says other)
  NDCG@k    over all queries; its ideal ranks all relevant items, returned or not. In brackets, 95 %: how far other
            queries of the kind might move it (bootstrap over queries; not other corpora or other calibration pairs)
  R@k       share of a query's relevant items among the first k
  texts in top k   share of texts among what text queries and what image queries get first: without a preference
            for a modality it is the share of texts in the corpus, which the line below the table tells
  AUC       how often a picture's own caption is nearer to it than another picture is: 0.5 is chance

examples
  i0t search-eval embeddings.safetensors
  i0t search-eval images.npy texts.npy --fit-on calibration.safetensors --index ivfpq
  i0t search-eval corpus.safetensors --qrels judged.qrels --queries asked.safetensors --fit-on calibration.safetensors

judgments (--qrels): a TREC file; BEIR's .tsv; .json {"query": {"document": grade}}; .parquet with query_id, doc_id,
  relevance. Ids are image_ids, entries of the metadata's list text_ids, or image:ROW and text:ROW.
"""
TESTED = ("ndcg", "recall", "text_share_text_queries", "text_share_image_queries")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of the program."""
    parser = argparse.ArgumentParser(
        prog="i0t search-eval",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=SOURCE_HELP)
    add_remover_flags(parser, "--methods", default=own_names(), several=True)
    parser.add_argument(
        "--fit-on",
        nargs="+",
        metavar="FILE",
        help="vectors of other pairs by the same model, to fit on instead of random halves. The SOURCE itself is "
        "taken too, as a leak that is told",
    )
    parser.add_argument("--splits", type=int, default=20, metavar="N", help="random halves to average (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the halves (default 0)")
    parser.add_argument(
        "--index", default="flat", metavar="KIND", help="flat (exact; default), ivfpq, or a faiss.index_factory string"
    )
    parser.add_argument("--k", type=int, default=10, metavar="K", help="how far down to look (default 10)")
    parser.add_argument("--qrels", metavar="FILE", help="judgments over the items of SOURCE; needs --fit-on")
    parser.add_argument("--queries", nargs="+", metavar="FILE", help="with --qrels: vectors that ask, if not in SOURCE")
    parser.add_argument("--output", default=str(TENSORS), metavar="DIR", help="where the record goes (default tensors)")
    arguments = parser.parse_args(argv)
    if arguments.splits < 1 or arguments.k < 1:
        parser.error("--splits and --k must be 1 or more")
    if arguments.queries and not arguments.qrels:
        parser.error("--queries needs --qrels, which say what is relevant to them")
    return arguments


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    arguments = parse(argv)
    started = time.perf_counter()
    ensure_folder(arguments.output)
    source = read_vectors(arguments.source)
    results, protocol = _evaluate(source, arguments)
    protocol |= {"k": arguments.k, "index": arguments.index, "ndcg_gain": "grade", "interval": "bootstrap over queries"}
    print(results_table(results, protocol))
    print(_save(source, results, protocol, arguments, time.perf_counter() - started))
    return 0


def _evaluate(source: Embeddings, arguments: argparse.Namespace) -> tuple[dict[str, MethodResult], dict[str, Any]]:
    """Results by method, and where what removes the gap was fitted."""
    where = {"kind": arguments.index, "k": arguments.k}
    if arguments.qrels:
        return _of_judgments(source, arguments, where)
    if arguments.fit_on:
        fitted, protocol = _fitted(source, arguments)
        return evaluate_fitted(source, fitted, **where), {**protocol, "task": "half and half"}

    choices = remover_choices(arguments, arguments.methods)

    def fit(images: np.ndarray, texts: np.ndarray) -> Fitted:
        return {"raw": None, **{choice.name: choice.make().fit(images, texts) for choice in choices}}

    results = evaluate_splits(source, fit, arguments.splits, arguments.seed, progress=True, **where)
    protocol = {"task": "half and half", "fit_on": "a random half of the pairs", "splits": arguments.splits}
    return results, {**protocol, "seed": arguments.seed, "means_leak": False}


def _of_judgments(
    source: Embeddings, arguments: argparse.Namespace, where: dict[str, Any]
) -> tuple[dict[str, MethodResult], dict[str, Any]]:
    if not arguments.fit_on:
        raise I0TError(
            "--qrels: say what to fit on, --fit-on FILE, vectors of other items by the same model. The SOURCE itself "
            "will do where there are none: its means are then those of the evaluated items, and the record says so."
        )
    queries = read_vectors(arguments.queries) if arguments.queries else None
    layout, images, texts = layout_of_qrels(read_qrels(arguments.qrels), source, queries)
    fitted, protocol = _fitted(source, arguments, queries)
    protocol |= {"task": "judgments", "qrels": arguments.qrels, "qrels_sha256": file_sha256(arguments.qrels)}
    protocol |= {"queries": arguments.queries, "queries_sha256": _items_sha256(queries) if queries else None}
    return evaluate_layout(images, texts, layout, fitted, **where), protocol


def _fitted(
    source: Embeddings, arguments: argparse.Namespace, queries: Embeddings | None = None
) -> tuple[Fitted, dict[str, Any]]:
    """Removers of every method by --fit-on, after looking for evaluated items among what they were fitted to."""
    evaluated = {"overlap": (source, arguments.source)}
    if queries is not None:
        evaluated["overlap_of_queries"] = queries, arguments.queries
    choices = remover_choices(arguments, arguments.methods)
    fitted = fit_to_files(choices, arguments.fit_on, [embeddings for embeddings, _ in evaluated.values()])
    leak, overlaps = False, {}
    for name, (embeddings, files) in evaluated.items():
        overlaps[name] = found = next(iter(fitted.values())).overlap(embeddings)
        if found or same_files(arguments.fit_on, files):
            leak = True
            what = "queries" if embeddings is queries else "items that are evaluated"
            say(f"fitted on {what}, which flatters: {found}")
    known = leak or overlaps["overlap"].image_share is not None
    protocol = {
        "fit_on": arguments.fit_on,
        "fit_fingerprints": {name: remover.fingerprint for name, remover in fitted.items()},
        "means_leak": leak if known else None,
        **{name: found.record() for name, found in overlaps.items()},
    }
    return {"raw": None, **fitted}, protocol


def _items_sha256(embeddings: Embeddings) -> str:
    """Hash of all that a result may rest on: vectors, what pairs up, and the ids that judgments name."""
    ids = [embeddings.image_ids, embeddings.metadata.get("text_ids"), embeddings.image_of_text.tolist()]
    return list_sha256([embeddings.features_sha256, json.dumps(ids)])


def results_table(results: dict[str, MethodResult], protocol: dict[str, Any]) -> str:
    """One row a method, at most 100 columns wide, and what is needed to read it."""
    k, first = protocol["k"], next(iter(results.values())).mean()
    with_auc = "above_picture" in first
    headers = ["", f"NDCG@{k} (95 %)", f"R@{k}", f"texts in top {k}:\nof text queries", "\nof image queries"]
    rows = []
    for name, result in results.items():
        label = name if name == "raw" else remover_class(name).label or name
        means, (low, high) = result.mean(), result.ndcg_interval()
        shown = [f"{means['ndcg']:.3f} ({low:.3f}-{high:.3f})", f"{means['recall']:.3f}"]
        shown += ["-" if np.isnan(means[name]) else f"{100 * means[name]:.0f} %" for name in TESTED[2:]]
        rows.append([label, *shown, *([f"{means['above_picture']:.3f}"] if with_auc else [])])
    table = tabulate(rows, headers=[*headers, *(["AUC"] if with_auc else [])], disable_numparse=True)
    times = f", mean of {protocol['splits']} random halves" if "splits" in protocol else ""
    leak = {True: " - these items are evaluated: a leak", None: " - whether they overlap is unknown"}
    fit_on = protocol["fit_on"] if isinstance(protocol["fit_on"], str) else " ".join(protocol["fit_on"])
    index = next(iter(results.values())).index
    return (
        f"{table}\n\n{len(next(iter(results.values())).query_ndcg)} queries{times}; "
        f"{100 * first['corpus_text_share']:.0f} % of the corpus are texts. "
        f"Index: {', '.join(str(value) if key == 'factory' else f'{key} {value}' for key, value in index.items())}.\n"
        f"Fitted on: {fit_on}{leak.get(protocol['means_leak'], '')}."
    )


def _save(
    source: Embeddings,
    results: dict[str, MethodResult],
    protocol: dict[str, Any],
    arguments: argparse.Namespace,
    seconds: float,
) -> Path:
    """Write the record; its name differs whenever the content of any file or the protocol does."""
    from i0t.records import environment  # imports torch, after the table is printed

    origin = {**fitted_origin(source).as_dict(), "items_sha256": _items_sha256(source)}
    methods = {name: _record_of(result) for name, result in results.items()}
    digest = hashlib.sha256(json.dumps([protocol, origin["items_sha256"], sorted(methods)]).encode()).hexdigest()[:8]
    path = Path(arguments.output) / f"search-{source.metadata['dataset']}-{digest}.json"
    write_json(
        path,
        {
            "task": "mixed search",
            "source": [str(Path(file).absolute()) for file in arguments.source],
            "methods": methods,
            "protocol": protocol,
            "data": origin,
            "seconds": round(seconds, 2),
            "environment": environment(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    )
    return path


def _record_of(result: MethodResult) -> dict[str, Any]:
    """Metrics in 0..1: mean, standard deviation between splits, and the interval of NDCG."""
    known = {name: None if np.isnan(value) else value for name, value in result.mean().items()}  # JSON has no NaN
    return {
        "metrics": known,
        "standard_deviation_of_splits": result.deviation() if len(result.splits) > 1 else None,
        "ndcg_95": result.ndcg_interval(),
        "queries": len(result.query_ndcg),
        "index": result.index,
    }


if __name__ == "__main__":
    sys.exit(main())

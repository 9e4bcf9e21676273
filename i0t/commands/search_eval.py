"""Program: measure search in a mixed index of images and texts, before and after gap removers. `i0t search-eval`."""

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

from i0t.cli import add_remover_flags, not_negative, positive, program, remover_choices
from i0t.embeddings import PAIRED, Embeddings, load_embeddings
from i0t.files import ensure_folder, file_stem, write_json
from i0t.gap import centroid_distance
from i0t.paths import TENSORS
from i0t.search.evaluate import SPLITS, MethodResult, SearchOptions, evaluate, items_sha256
from i0t.standardize import fitted_origin
from i0t.standardize.registry import own_names, remover_class

DESCRIPTION = """\
Search an index of images and texts and measure the results: NDCG@10, recall@10, and the modality of the top ten. The
index has the image of the first n/2 pairs and the text of the others. The other item of every pair is a query, so each
query has one relevant item, of the other modality. Or use your own judgments (--qrels).

Gap removers are fitted to pairs that are not searched: a random half of the pairs (--splits times), or --fit-on FILE.
"""
EPILOG = """\
columns (k is 10, or --k)
  NDCG@k    mean over queries; its ideal ranks all relevant items, returned or not. In brackets: the 95 % interval
            for other queries (bootstrap over queries; not for other corpora or calibration pairs)
  R@k       share of a query's relevant items in the top k
  texts in top k   share of texts in the top k of text queries and of image queries. Without a preference for a
            modality it is the share of texts in the corpus, which is below the table
  AUC       how often an image is closer to its caption than to another image: 0.5 is chance

examples
  i0t search-eval embeddings.safetensors
  i0t search-eval images.npy texts.npy --fit-on calibration.safetensors --index ivfpq
  i0t search-eval corpus.safetensors --qrels judged.qrels --queries asked.safetensors --fit-on calibration.safetensors

judgments (--qrels): a TREC file; a BEIR .tsv; .json {"query": {"document": grade}}; .parquet with query_id, doc_id,
  relevance. Ids are image_ids, entries of the metadata's list text_ids, or image:ROW and text:ROW.
"""
TEXT_SHARES = ("text_share_text_queries", "text_share_image_queries")


def parse(argv: Sequence[str] | None) -> SearchOptions:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="i0t search-eval",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=PAIRED)
    add_remover_flags(parser, "--methods", default=own_names(), several=True)
    parser.add_argument(
        "--fit-on",
        nargs="+",
        default=[],
        metavar="FILE",
        help="vectors of other pairs of the same model, to fit on instead of random splits. SOURCE itself is allowed, "
        "and reported as a leak",
    )
    parser.add_argument("--splits", type=positive, metavar="N", help=f"number of random splits (default {SPLITS})")
    parser.add_argument("--seed", type=not_negative, help="of the splits (default 0)")
    parser.add_argument(
        "--index", default="flat", metavar="KIND", help="flat (exact; default), ivfpq, or a faiss.index_factory string"
    )
    parser.add_argument("--k", type=positive, default=10, metavar="K", help="number of results that count (default 10)")
    parser.add_argument("--qrels", metavar="FILE", help="judgments over the items of SOURCE; needs --fit-on")
    parser.add_argument(
        "--queries",
        nargs="+",
        default=[],
        metavar="FILE",
        help="with --qrels: vectors of the queries, if they are not in SOURCE",
    )
    parser.add_argument("--output", default=str(TENSORS), metavar="DIR", help="folder of the record (default tensors)")
    arguments = parser.parse_args(argv)
    splits, seed = (SPLITS if arguments.splits is None else arguments.splits), arguments.seed or 0
    if arguments.queries and not arguments.qrels:
        parser.error("--queries needs --qrels")
    if arguments.fit_on and (arguments.splits, arguments.seed) != (None, None):
        parser.error("--splits and --seed are for random splits, which --fit-on replaces")
    return SearchOptions(
        tuple(arguments.source),
        tuple(remover_choices(arguments, arguments.methods, none=False)),
        tuple(arguments.fit_on),
        splits,
        seed,
        arguments.index,
        arguments.k,
        arguments.qrels,
        tuple(arguments.queries),
        arguments.output,
    )


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    started = time.perf_counter()
    source = load_embeddings(options.source)
    ensure_folder(options.output)
    results, protocol = evaluate(source, options)
    print(results_table(results, protocol))
    print(_save(source, results, protocol, options, time.perf_counter() - started))
    return 0


def results_table(results: dict[str, MethodResult], protocol: dict[str, Any]) -> str:
    """Format one row per method, at most 100 columns wide, and notes below."""
    k, first = protocol["k"], next(iter(results.values())).mean()
    with_auc = "above_picture" in first
    headers = ["", f"NDCG@{k} (95 %)", f"R@{k}", f"texts in top {k}:\nof text queries", "\nof image queries"]
    rows = []
    for name, result in results.items():
        label = name if name == "raw" else remover_class(name).label or name
        means, (low, high) = result.mean(), result.ndcg_interval()
        shown = [f"{means['ndcg']:.3f} ({low:.3f}-{high:.3f})", f"{means['recall']:.3f}"]
        shown += ["-" if np.isnan(means[name]) else f"{100 * means[name]:.0f} %" for name in TEXT_SHARES]
        rows.append([label, *shown, *([f"{means['above_picture']:.3f}"] if with_auc else [])])
    table = tabulate(rows, headers=[*headers, *(["AUC"] if with_auc else [])], disable_numparse=True)
    times = f", mean of {protocol['splits']} random splits" if "splits" in protocol else ""
    leak = {True: " - these items are evaluated: a leak", None: " - whether they overlap is unknown"}
    fit_on = protocol["fit_on"] if isinstance(protocol["fit_on"], str) else " ".join(protocol["fit_on"])
    index, queries = next(iter(results.values())).index, len(next(iter(results.values())).query_ndcg)
    return (
        f"{table}\n\n{queries} {'query' if queries == 1 else 'queries'}{times}; "
        f"{100 * first['corpus_text_share']:.0f} % of the corpus are texts. "
        f"Index: {', '.join(str(value) if key == 'factory' else f'{key} {value}' for key, value in index.items())}.\n"
        f"Fitted on: {fit_on}{leak.get(protocol['means_leak'], '')}."
    )


def _save(
    source: Embeddings,
    results: dict[str, MethodResult],
    protocol: dict[str, Any],
    options: SearchOptions,
    seconds: float,
) -> Path:
    """Write the record; another protocol or other files give another name."""
    from i0t.results.record import Record  # slow import of torch: after the table

    origin = {**fitted_origin(source).as_dict(), "dataset": source.name, "items_sha256": items_sha256(source)}
    methods = {name: _figures_of(result) for name, result in results.items()}
    record = Record(
        task="mixed search",
        dataset=source.name,
        metrics={f"{name}_{key}": value for name, of in methods.items() for key, value in of["metrics"].items()},
        gap={"centroid_distance": centroid_distance(source.image_features, source.text_features)},
        protocol={**protocol, "remove_gap": "none"},  # each method has its own metrics
        config={"model": {"name": origin.get("model"), "fingerprint": origin.get("fingerprint")}},
        data={**origin, "sha256": origin["items_sha256"]},
        seconds=round(seconds, 2),
        headline=tuple(f"{name}_ndcg" for name in methods),
        sections={"source": [str(Path(file).absolute()) for file in options.source], "methods": methods},
    )
    digest = hashlib.sha256(json.dumps([protocol, origin["items_sha256"], sorted(methods)]).encode()).hexdigest()[:8]
    path = Path(options.output) / f"{file_stem(('search', source.name), last=digest)}.json"
    write_json(path, record.as_dict())
    return path


def _figures_of(result: MethodResult) -> dict[str, Any]:
    """Metrics in 0..1: mean, standard deviation over splits, and the interval of NDCG."""
    return {
        "metrics": result.mean(),
        "standard_deviation_of_splits": result.deviation() if len(result.splits) > 1 else None,
        "ndcg_95": result.ndcg_interval(),
        "queries": len(result.query_ndcg),
        "index": result.index,
    }


if __name__ == "__main__":
    sys.exit(main())

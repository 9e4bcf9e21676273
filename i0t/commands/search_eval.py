"""Program: measure search in a mixed index of images and texts, before and after gap removers. `i0t search-eval`."""

from __future__ import annotations

import hashlib
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from i0t.cli import Parser, add_remover_flags, positive, program, remover_choices, seed_number
from i0t.embeddings import PAIRED, Embeddings, load_embeddings
from i0t.files import ensure_folder, file_stem, write_json
from i0t.gap import centroid_distance
from i0t.paths import TENSORS
from i0t.search.evaluate import SPLITS, SearchOptions, evaluate, items_sha256
from i0t.search.methods import label_of
from i0t.search.results import MethodResult, best_rival, differences, intervals
from i0t.standardize import fitted_origin
from i0t.standardize.registry import own_names

DESCRIPTION = """\
Search an index of images and texts and measure the results: NDCG@10, recall@10, and the modality of the top ten. The
index has the image of half of the images, and a text of each of the others; another text asks, and the image where a
text is in the index. With one text per image (or .npy files) all relevant items are of the other modality. Or use your
own judgments (--qrels).

Gap removers and standardised scores are fitted to images that are not searched: a random half of them (--splits times),
or --fit-on FILE. Rivals need no fitting: raw vectors, only the query's own kind, only the other kind, reciprocal rank
fusion of one index per kind (k = 60), and equal quotas.
"""
EPILOG = """\
columns (k is 10, or --k)
  NDCG@k    mean over queries; its ideal ranks all relevant items, returned or not. `own`: for relevant items of the
            query's own modality, `other`: of the other
  R@k       share of a query's relevant items in the top k
  texts in top k   share of texts in the top k of text queries and of image queries; below the table, among their
            relevant items
  AUC       how often an image is closer to its caption than to another image: 0.5 is chance
  kept      share of images with their caption above the cutoff with 1 % of false alarms (`i0t cutoff`): one cutoff for
            all queries. "-" with fewer than 198 tested pairs
In brackets: the 95 % interval for other queries (bootstrap over images, paired for differences; not for other corpora
or calibration items).

examples
  i0t search-eval embeddings.safetensors
  i0t search-eval images.npy texts.npy --fit-on calibration.safetensors --index ivfpq
  i0t search-eval corpus.safetensors --qrels judged.qrels --queries asked.safetensors --fit-on calibration.safetensors

judgments (--qrels): a TREC file; a BEIR .tsv; .json {"query": {"document": grade}}; .parquet with query_id, doc_id,
relevance. Ids are image_ids, entries of the metadata's list text_ids, or image:ROW and text:ROW.
"""
ONE_KIND = (
    "No relevant item is of the query's own kind (one text per image), so only half of the question can be judged: "
    'what of the other kind is found. "other kind only" is then right by construction; of its own kind it finds none.'
)
TEXT_SHARES = ("text_share_text_queries", "text_share_image_queries")


def parse(argv: Sequence[str] | None) -> SearchOptions:
    """Parse the command line."""
    parser = Parser(
        prog="i0t search-eval",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=PAIRED)
    add_remover_flags(parser, "--removers", default=own_names(), several=True)
    parser.add_argument(
        "--fit-on",
        nargs="+",
        default=[],
        metavar="FILE",
        help="vectors of other pairs of the same model, to fit on instead of random splits. SOURCE itself is allowed, "
        "and reported as a leak",
    )
    parser.add_argument("--splits", type=positive, metavar="N", help=f"number of random splits (default {SPLITS})")
    parser.add_argument("--seed", type=seed_number, help="of the splits (default 0)")
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
        tuple(remover_choices(arguments, arguments.removers, none=False)),
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
    """Format two tables of one row per method, at most 100 columns wide, and notes below."""
    return f"{_levels(results, protocol['k'])}\n\n{_compared(results, protocol['k'])}\n\n{_notes(results, protocol)}"


def _levels(results: dict[str, MethodResult], k: int) -> str:
    """Format the metrics; columns without a value are left out."""
    columns = {
        "ndcg": f"NDCG@{k}",
        "ndcg_own": "\nown",
        "ndcg_other": "\nother",
        "recall": f"R@{k}",
        "recall_own": "\nown",
        "recall_other": "\nother",
        "text_share_text_queries": f"texts in top {k}:\nof texts",
        "text_share_image_queries": "\nof images",
        "above_picture": "AUC",
        "kept": "kept",
    }
    means = {name: result.mean() for name, result in results.items()}
    by_kind = not any(np.isnan(held[name]) for held in means.values() for name in ("ndcg_own", "ndcg_other"))
    shown = [name for name in columns if by_kind or not name.endswith(("_own", "_other"))]
    shown = [name for name in shown if any(name in held for held in means.values())]
    rows = [[label_of(name), *(_shown(held, metric) for metric in shown)] for name, held in means.items()]
    return tabulate(rows, ["", *(columns[metric] for metric in shown)], disable_numparse=True)


def _shown(means: dict[str, float], metric: str) -> str:
    value = means.get(metric, float("nan"))
    if np.isnan(value):
        return "-"
    return f"{100 * value:.0f} %" if metric in TEXT_SHARES else f"{value:.3f}"


def _compared(results: dict[str, MethodResult], k: int) -> str:
    """Format NDCG with its interval, and its paired differences to raw and to the best rival."""
    held, means = list(results.values()), [result.mean()["ndcg"] for result in results.values()]
    ranges = intervals(held, "ndcg")
    columns = {f"NDCG@{k} (95 %)": [f"{mean:.3f} ({low:.3f}-{high:.3f})" for mean, (low, high) in zip(means, ranges)]}
    for base in dict.fromkeys(["raw", best_rival(results)]):
        gains = [mean - results[base].mean()["ndcg"] for mean in means]
        ranges = differences(held, results[base], "ndcg")
        cells = [f"{gain:+.3f} ({low:+.3f} {high:+.3f})" for gain, (low, high) in zip(gains, ranges)]
        columns[f"against {label_of(base)}"] = ["" if name == base else cell for name, cell in zip(results, cells)]
    return tabulate({"": list(map(label_of, results)), **columns}, headers="keys", disable_numparse=True)


def _notes(results: dict[str, MethodResult], protocol: dict[str, Any]) -> str:
    """Tell what was searched and fitted, and what the tables cannot tell."""
    result = next(iter(results.values()))
    means, times = result.mean(), f", mean of {protocol['splits']} random splits" if "splits" in protocol else ""
    relevant = {who: means[f"relevant_{name}"] for name, who in zip(TEXT_SHARES, ("text queries", "image queries"))}
    asked = " and ".join(f"{100 * share:.0f} % for {who}" for who, share in relevant.items() if not np.isnan(share))
    leak = {True: " - these items are evaluated: a leak", None: " - whether they overlap is unknown"}
    fit_on = protocol["fit_on"] if isinstance(protocol["fit_on"], str) else " ".join(protocol["fit_on"])
    index = ", ".join(str(value) if key == "factory" else f"{key} {value}" for key, value in result.index.items())
    several = "images and their texts" if protocol["task"] == "either kind" else "queries"
    notes = [
        *([ONE_KIND] if np.isnan(means["ndcg_own"]) else []),
        f"{result.groups} {'query' if result.groups == 1 else several}{times}; "
        f"{100 * means['corpus_text_share']:.0f} % of the corpus are texts, and of the relevant items {asked}.",
        f"Index: {index}. Fitted on: {fit_on}{leak.get(protocol['means_leak'], '')}.",
    ]
    return "\n".join(textwrap.fill(note, 100) for note in notes)


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
        "queries": result.groups,
        "index": result.index,
    }


if __name__ == "__main__":
    sys.exit(main())

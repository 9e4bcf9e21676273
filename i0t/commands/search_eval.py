"""Program: measure search in a mixed index of images and texts, before and after gap removers. `i0t search-eval`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i0t.cli import Parser, add_remover_flags, positive, program, remover_choices, seed_number
from i0t.embeddings import PAIRED, Embeddings, load_embeddings
from i0t.files import ensure_folder, file_stem, write_json
from i0t.gap import centroid_distance
from i0t.gap.pair_doubts import pair_doubts
from i0t.paths import TENSORS, say
from i0t.search.evaluate import SPLITS, SearchOptions, evaluate, items_sha256
from i0t.search.results import MethodResult, all_intervals, differences, rivals_in
from i0t.search.search_tables import results_table
from i0t.standardize import fitted_origin
from i0t.standardize.registry import own_names

DESCRIPTION = """\
Search an index of images and texts and measure the results: NDCG@10, recall@10, and the modality of the top ten. The
index has the image of half of the images, and a text of each of the others; another text asks, and the image where a
text is in the index. With one text per image (or .npy files) all relevant items are of the other modality. Or use your
own judgments (--qrels).

Gap removers and standardised scores are fitted to images that are not searched: a random half of them (--splits times),
or --fit-on FILE. Rivals need no fitting: raw vectors, only the own kind, only the other kind, and fusions of one
index per kind: by reciprocal ranks (k = 60), by min-max or distribution-based scores of its best 100, in equal quotas.
"""
EPILOG = """\
columns (k is 10, or --k)
  NDCG@k    mean over queries; its ideal ranks all relevant items, returned or not. `own`: for relevant items of the
            query's own modality, `other`: of the other, `both`: documents with an image and a text
  against raw   paired difference to raw vectors
  against the best rival    raw vectors, filters, fusion or quotas, whichever is best in each resample: an interval
            above 0 says better than all of them; below 0 it leans to the rivals, as the best of several is partly
            lucky. A rival is compared with the others. Each interval is of its row alone: to pick the best of all
            rows, use `i0t advise`, whose intervals hold for all at once
  R@k       share of a query's relevant items in the top k
  texts in top k   share of texts in the top k of text queries and of image queries; below the table, among their
            relevant items
with --details
  AUC       how often an image scores higher with its caption than with another image: 0.5 is chance
  R@1       image to text and text to image, among the tested pairs
  kept      share of images with their caption above the score that 1 % of the other tested pairs exceed: one cutoff for
            all queries (`i0t cutoff` finds one with a promise)
  nothing matches   whether the best score of a text query tells that its image is not in the index: measured, not
            promised. AUROC: how often it is higher with the image than, of another query, without. Then a cutoff from
            half of the queries, for 5 % of false alarms: those without their image that it lets through, and the share
            of the others that are answered. "-" with fewer than 38 tested pairs
In brackets the 95 % interval for other queries, after "±" half of it (bootstrap over images, paired for differences;
not for other corpora or calibration items, and given the cutoffs). ±.000: all n images agree, and up to 3 / n of others
may not. All of --details but R@k: among at most 2 000 pairs.

documents (--documents)
  A document may own images and texts, as a listing its photograph and title. It is found once, at the rank of its best
    item. Further rivals: fusions that add up what it has in each list, and one index of the mean vectors of documents.
  pairs     an image with its texts. Without --qrels (several texts per image), a third of the images are in the index
            with one text, the others as before
  ids       images and texts of one id, with --qrels
  FILE      with --qrels: .json {"document": ["item", ...]}, or two columns, tab separated: document, item

judgments (--qrels): a TREC file; a BEIR .tsv; .json {"query": {"document": grade}}; .parquet with query_id, doc_id,
relevance. Ids are image_ids, entries of the metadata's list text_ids, image:ROW and text:ROW, or names of documents.

examples
  i0t search-eval embeddings.safetensors
  i0t search-eval images.npy texts.npy --fit-on calibration.safetensors --index ivfpq
  i0t search-eval corpus.safetensors --qrels judged.qrels --queries asked.safetensors --fit-on calibration.safetensors
  i0t search-eval listings.safetensors --documents ids --qrels judged.tsv --queries asked.safetensors --fit-on fit.npy
"""


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
    _add_judgment_flags(parser)
    parser.add_argument(
        "--details",
        action="store_true",
        help="print the tables that are only in the record, too: R@k by kind, AUC, R@1, kept, nothing matches",
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
        arguments.documents,
        arguments.details,
        arguments.output,
    )


def _add_judgment_flags(parser: Parser) -> None:
    parser.add_argument("--qrels", metavar="FILE", help="judgments over the items of SOURCE; needs --fit-on")
    parser.add_argument(
        "--queries",
        nargs="+",
        default=[],
        metavar="FILE",
        help="with --qrels: vectors of the queries, if they are not in SOURCE",
    )
    parser.add_argument(
        "--documents",
        metavar="HOW",
        help="a document has an image and a text, such as a listing: pairs (an image with its texts), ids (equal ids, "
        "with --qrels) or a file (with --qrels)",
    )


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    started = time.perf_counter()
    source = load_embeddings(options.source)
    for doubt in [] if options.qrels else pair_doubts(source):
        say(doubt)
    ensure_folder(options.output)
    results, protocol = evaluate(source, options)
    print(results_table(results, protocol, options.details))
    print(_save(source, results, protocol, options, time.perf_counter() - started))
    return 0


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
    methods = _figures(results)
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


def _figures(results: dict[str, MethodResult]) -> dict[str, dict[str, Any]]:
    """By method: metrics in 0..1, their standard deviation over splits, 95 % intervals, and differences of NDCG."""
    ranges, gains = all_intervals(results), {}
    for name, rivals in {"raw": ["raw"], "the_best_rival": rivals_in(results)}.items():
        gains[f"ndcg_against_{name}"] = differences(results, rivals, "ndcg")
    return {
        name: {
            "metrics": result.mean(),
            "standard_deviation_of_splits": result.deviation() if len(result.splits) > 1 else None,
            "intervals_95": ranges[name],
            **{key: found.get(name) for key, found in gains.items()},
            "queries": result.groups,
            "index": result.index,
        }
        for name, result in results.items()
    }


if __name__ == "__main__":
    sys.exit(main())

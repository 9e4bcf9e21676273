"""Program: measure the modality gap of embeddings, with intervals and warnings. `i0t gap`."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import fill
from typing import TYPE_CHECKING, Any

from i0t import processes
from i0t.cli import (
    Parser,
    add_common_flags,
    add_encoding_flags,
    add_partial_flag,
    device_of,
    encode_options,
    not_negative,
    program,
    roots_of,
)
from i0t.data.datasets import datasets_of
from i0t.errors import I0TError
from i0t.report import DEFAULTS, ReportOptions, add_report_flags, report_options

if TYPE_CHECKING:
    from i0t.embeddings import Embeddings
    from i0t.results.record import Record

DESCRIPTION = """Measure the modality gap of embeddings: how far apart images and texts are, with 95 % intervals,
which dimensions carry the gap, and reasons to doubt the numbers.

  i0t gap clip.safetensors                     an Embeddings file
  i0t gap images.npy texts.npy                 arrays (N, D), row i with row i; or one .npy (2, N, D)
  i0t gap --model clip --dataset flickr        a model and a data set, encoded here"""

# Measure: name in the table, and meaning of its value.
ROWS = {
    "centroid_distance": ("centroid distance", "0 no gap, 2 opposite; at this number"),
    "centroid_distance_debiased": ("centroid distance, de-biased", "without what finite samples add"),
    "linear_separability": ("linear separability", "1 separable, about 0.75 no gap"),
    "separability_auc": ("held-out separability", "1 separable, 0.5 none, below: leak"),
    "min_cosine_distance": ("min. cosine distance", "closest image and text; no interval"),
    "relative_modality_gap": ("relative modality gap", "0.5: pairs as far as strangers"),
    "alignment": ("alignment", "mean squared distance of pairs"),
    "uniformity_image": ("uniformity of images", "0 one point, -4 even on the sphere"),
    "uniformity_text": ("uniformity of texts", "likewise"),
    "first_cross_modal_rank_image": ("first text for an image", "rank in a mixed index; 1 is the top"),
    "first_cross_modal_rank_text": ("first image for a text", "likewise"),
    "cross_modal_neighbor_share": ("cross-modal neighbours", "share whose nearest is of the other kind"),
}
TOP = 10  # dimensions listed
HEADLINE = ("centroid_distance_debiased", "relative_modality_gap", "separability_auc", "cross_modal_neighbor_share")


@dataclass(frozen=True)
class GapOptions:
    """Options of the program."""

    bootstrap: int = 1000  # resamples for the intervals; 0 gives none
    seed: int = 0  # of splits, resamples and the report
    json: str | None = None  # file for all results
    output: str | None = None  # folder for a record
    report: str | None = None  # folder of the page
    report_options: ReportOptions = DEFAULTS
    flags: Mapping[str, Any] = field(default_factory=dict)  # for the record


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        I0TError: flags that contradict one another.
    """
    flags = Parser(prog="i0t gap", description=DESCRIPTION)
    flags.add_argument("source", nargs="*", metavar="SOURCE", help="one .safetensors, one .npy, or two .npy")
    flags.add_argument("--model", metavar="NAME|CHECKPOINT", help="instead of files: a model (docs/models.md)")
    flags.add_argument("--dataset", choices=datasets_of("captions"), help="data set to encode")
    flags.add_argument("--captions-per-image", type=int, choices=(1, 5), default=1, help="with --dataset (default 1)")
    add_partial_flag(flags)
    flags.add_argument(
        "--bootstrap",
        type=not_negative,
        default=1000,
        metavar="N",
        help="resamples for the intervals (default 1000); 0: no intervals (quick)",
    )
    flags.add_argument("--json", metavar="FILE", help="write all results as JSON; --output DIR writes a record")
    flags.add_argument("--report", metavar="DIR", help="write a page with figures, for any browser")
    add_report_flags(flags)
    add_encoding_flags(flags)
    add_common_flags(flags)
    flags.set_defaults(seed=0)
    arguments = flags.parse_args(argv)
    encodes = arguments.model is not None or arguments.dataset is not None
    if bool(arguments.source) == encodes or (encodes and None in (arguments.model, arguments.dataset)):
        raise I0TError("i0t gap: give embeddings (SOURCE), or both --model and --dataset. --help shows examples.")
    if 0 < arguments.bootstrap < 100:
        raise I0TError(f"--bootstrap {arguments.bootstrap}: give 0 for no intervals, or at least 100 resamples.")
    return arguments


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    started, arguments = time.perf_counter(), parse(argv)
    named = {name: getattr(arguments, name) for name in ("bootstrap", "seed", "json", "output", "report")}
    options = GapOptions(**named, report_options=report_options(arguments), flags=vars(arguments))
    from i0t.embeddings import load_embeddings
    from i0t.files import check_outputs, ensure_folder

    check_outputs({"--json": options.json}, [*arguments.source, arguments.model])
    if options.output:
        ensure_folder(options.output)  # before encoding, which may take hours
    if arguments.source:
        run(load_embeddings(arguments.source), options, started)
        return 0
    import torch

    from i0t.data.datasets import load_dataset
    from i0t.encoders import load_encoder
    from i0t.encoders.encode import encode

    arguments.device = processes.join(arguments.device)
    with processes.first_here():  # one process makes the sample
        roots = roots_of(arguments)
    dataset: Any = load_dataset(arguments.dataset, roots, arguments.allow_partial)  # a CaptionSet, as are all choices
    torch.manual_seed(options.seed)  # for untrained models such as tiny
    encoder = load_encoder(arguments.model, device_of(arguments), roots)
    embeddings = encode(encoder, dataset.items(arguments.captions_per_image), encode_options(arguments))
    if processes.is_main():  # the others have encoded their share
        run(embeddings, options, started)
    return 0


def run(embeddings: Embeddings, options: GapOptions, started: float) -> None:
    """Measure, print and write; `started` is the time of `time.perf_counter` at the beginning."""
    found = measure(embeddings, options.bootstrap, options.seed)
    print(table(found))
    if options.json:
        from i0t.files import write_json
        from i0t.results.record import plain

        write_json(options.json, plain(found))
        print(options.json)
    if options.output:
        print(record(found, embeddings, options, time.perf_counter() - started).save(options.output))
    if options.report:
        from i0t.report.page import write_report

        print(write_report(embeddings, options.report, options.report_options))


def record(found: dict[str, Any], embeddings: Embeddings, options: GapOptions, seconds: float) -> Record:
    """Make a record of the result of `measure`, as the evaluations do."""
    from i0t.digests import list_sha256
    from i0t.results.record import Record

    known, measures = embeddings.metadata, found["measures"]
    ends = {f"{name}_{end}": one[end] for name, one in measures.items() for end in ("low", "high") if end in one}
    values = {name: one["value"] for name, one in measures.items()}
    return Record(
        task="gap",
        dataset=embeddings.name,
        metrics={**values, **ends},
        gap={**values, "severity": found["severity"], **found["counts"]},
        protocol={
            **found["protocol"],
            "split": known.get("part"),
            "precision": known.get("precision"),
            "remove_gap": (known.get("gap_removed") or {}).get("remover", "none"),
        },
        config={
            "model": {"name": known.get("model"), "fingerprint": known.get("fingerprint"), "files": embeddings.files},
            "flags": dict(options.flags),
        },
        data={
            "images": len(embeddings.image_features),
            "texts": len(embeddings.text_features),
            "source": known.get("source") or ", ".join(embeddings.files),
            "sha256": list_sha256([embeddings.items_sha256, embeddings.features_sha256]),
            "images_sha256": known.get("images_sha256"),
        },
        seconds=round(seconds, 3),
        headline=HEADLINE,
        headline_joined=HEADLINE[:2],
        sections={name: found[name] for name in ("severity_range", "dimensions", "top_share", "trust", "origin")},
    )


def measure(embeddings: Embeddings, n_bootstrap: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Compute all results of `i0t gap`.

    Returns:
        `measures` (name to value, low, high, method), `severity` and `severity_range`, `dimensions`
        (largest part of the gap first), `top_share` (of 1, 5, 10 dimensions), `trust` (lines), counts, origin.

    Raises:
        I0TError: a bad row.
    """
    from i0t.gap.intervals import intervals_of, severity_range
    from i0t.gap.measures import measures_of
    from i0t.gap.trust import dimensions_of, doubts_of
    from i0t.gap.unit_pairs import UnitPairs

    items = UnitPairs.of(embeddings.image_features, embeddings.text_features, embeddings.pairs)
    values = measures_of(items, seed)
    intervals = intervals_of(items, seed, n_bootstrap, values) if n_bootstrap else {}
    names = [name for name, value in values.items() if isinstance(value, float)]
    debiased = intervals.get("centroid_distance_debiased")
    dimensions = dimensions_of(items)
    return {
        "measures": {
            name: {"value": values[name], **(asdict(intervals[name]) if name in intervals else {})} for name in names
        },
        "severity": values["severity"],
        "severity_range": severity_range(debiased) if debiased and debiased.low == debiased.low else None,
        "dimensions": [asdict(part) for part in dimensions[:TOP]],
        "top_share": {str(k): sum(part.share for part in dimensions[:k]) for k in (1, 5, 10)},
        "trust": doubts_of(items, seed),
        "counts": {name: values[name] for name in ("n_images", "n_texts", "n_pairs")} | {"dim": len(dimensions)},
        "origin": {key: embeddings.metadata.get(key) for key in ("model", "fingerprint", "dataset", "split")},
        "protocol": {"seed": seed, "bootstrap": n_bootstrap, "level": 0.95},
    }


def table(found: dict[str, Any]) -> str:
    """Format the result of `measure` for a terminal, 100 columns wide."""
    from tabulate import tabulate

    counts, rows = found["counts"], []
    for name, (title, meaning) in ROWS.items():
        one = found["measures"][name]
        rows.append((title, _number(one["value"]), _interval(one), meaning))
    headers = ("", "value", "95 % interval" if found["protocol"]["bootstrap"] else "", "meaning")
    listed = [
        (part["dimension"], f"{100 * part['share']:.1f}", f"{part['image_mean']:+.3f}", f"{part['text_mean']:+.3f}")
        for part in found["dimensions"][:5]
    ]
    shares = ", ".join(f"{100 * share:.0f} % in {k}" for k, share in found["top_share"].items())
    words, trust = found["severity_range"], found["trust"] or ["nothing speaks against these numbers"]
    severity = f"severity: {found['severity']}" + (f" (95 %: {words})" if words else "")
    return "\n".join(
        [
            "{n_images} images, {n_texts} texts, {n_pairs} pairs, {dim} dimensions".format(**counts),
            tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", "right", "left", "left")),
            "",
            severity,
            *(fill(f"trust: {line}", 98, subsequent_indent="       ") for line in trust),
            "",
            f"share of the squared centroid distance: {shares} of {counts['dim']} dimensions",
            tabulate(
                listed,
                headers=("dimension", "share, %", "mean of images", "mean of texts"),
                disable_numparse=True,
                colalign=("right",) * 4,
            ),
        ]
    )


def _interval(one: dict[str, Any]) -> str:
    if "low" not in one:
        return ""
    return "-" if math.isnan(one["low"]) else f"{_number(one['low'])} .. {_number(one['high'])}"


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())

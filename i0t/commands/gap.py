"""`i0t gap`: every measure of the modality gap of embeddings, with error bars and what to trust."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from i0t import processes
from i0t.cli import add_common_flags, add_encoding_flags, add_partial_flag, device_of, encode_options, program
from i0t.data.datasets import datasets_of
from i0t.errors import I0TError
from i0t.report import DEFAULTS, ReportOptions, add_report_flags, report_options

if TYPE_CHECKING:
    from i0t.embeddings import Embeddings
    from i0t.encoders import EncodeOptions

DESCRIPTION = """Measure the modality gap of embeddings: how far images and texts lie apart, with 95 % intervals,
which dimensions carry the gap, and what the numbers can be trusted for.

  i0t gap clip.safetensors                     an Embeddings file
  i0t gap images.npy texts.npy                 arrays (N, D) whose rows pair up; or one .npy (2, N, D)
  i0t gap --model clip --dataset flickr        a model and a data set, encoded here"""

# Measure, its name in the table, and what its value means.
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


@dataclass(frozen=True)
class GapOptions:
    """What `i0t gap` is to do.

    Attributes:
        sources: files of embeddings; else `model` encodes the first `captions_per_image` captions of `dataset`,
            which may be incomplete if `allow_partial`.
        bootstrap: resamples for the intervals; 0 gives none.
        seed: of splits, resamples and the report.
        json: file, and `output` folder, for all that was found.
        report: folder of the report, made as `report_options` say.
        encoding, device, data_dir, data_dir_sub: how, where and from which folders to encode.
    """

    sources: tuple[str, ...] = ()
    model: str | None = None
    dataset: str | None = None
    captions_per_image: int = 1
    allow_partial: bool = False
    bootstrap: int = 1000
    seed: int = 0
    json: str | None = None
    output: str | None = None
    report: str | None = None
    report_options: ReportOptions = DEFAULTS
    encoding: EncodeOptions | None = None
    device: str | None = None
    data_dir: str | None = None
    data_dir_sub: str | None = None


def parse(argv: Sequence[str] | None = None) -> GapOptions:
    """The flags.

    Raises:
        I0TError: flags that contradict one another.
    """
    flags = argparse.ArgumentParser(
        prog="i0t gap", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("source", nargs="*", metavar="SOURCE", help="one .safetensors, one .npy, or two .npy")
    flags.add_argument("--model", metavar="NAME|CHECKPOINT", help="instead of files: a model (docs/models.md)")
    flags.add_argument("--dataset", choices=datasets_of("captions"), help="what the model encodes")
    flags.add_argument("--captions-per-image", type=int, choices=(1, 5), default=1, help="with --dataset (default 1)")
    add_partial_flag(flags)
    flags.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="resamples for the intervals (default 1000); 0 gives no intervals, and is quick",
    )
    flags.add_argument("--json", metavar="FILE", help="write all of it as JSON; --output DIR names the file itself")
    flags.add_argument("--report", metavar="DIR", help="write a page with pictures that opens in any browser")
    add_report_flags(flags)
    add_encoding_flags(flags)
    add_common_flags(flags)
    arguments = flags.parse_args(argv)
    encodes = arguments.model is not None or arguments.dataset is not None
    if bool(arguments.source) == encodes or (encodes and None in (arguments.model, arguments.dataset)):
        raise I0TError("i0t gap: give embeddings (SOURCE), or both --model and --dataset. --help shows examples.")
    if arguments.bootstrap < 0 or 0 < arguments.bootstrap < 100:
        raise I0TError(f"--bootstrap {arguments.bootstrap}: give 0 for no intervals, or at least 100 resamples.")
    same = ("model", "dataset", "captions_per_image", "allow_partial", "bootstrap", "json", "output", "report")
    return GapOptions(
        sources=tuple(arguments.source),
        seed=arguments.seed or 0,
        report_options=report_options(arguments),
        encoding=encode_options(arguments) if encodes else None,
        **{name: getattr(arguments, name) for name in (*same, "device", "data_dir", "data_dir_sub")},
    )


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for."""
    options = parse(argv)
    from i0t.embeddings import load_embeddings
    from i0t.files import ensure_folder, write_json

    folder = ensure_folder(options.output) if options.output else None  # before hours of encoding, not after
    embeddings = load_embeddings(options.sources) if options.sources else _encoded(options)
    if not processes.is_main():
        return 0  # it has encoded its share
    found = measure(embeddings, options.bootstrap, options.seed)
    print(table(found))
    for path in [*([options.json] if options.json else []), *([folder / _file_name(embeddings)] if folder else [])]:
        write_json(path, _plain(found))
        print(path)
    if options.report:
        from i0t.report.page import write_report

        print(write_report(embeddings, options.report, options.report_options))
    return 0


def _encoded(options: GapOptions) -> Embeddings:
    """Embeddings of the data set by the model."""
    import torch

    from i0t.cli import resolve_roots
    from i0t.data.datasets import load_dataset
    from i0t.encoders import load_encoder
    from i0t.encoders.encode import encode

    options = replace(options, device=processes.join(options.device))
    with processes.first_here():  # which may make the sample
        roots = resolve_roots(options.data_dir, options.data_dir_sub)
    items = load_dataset(options.dataset, roots, options.allow_partial).items(options.captions_per_image)
    torch.manual_seed(options.seed)  # for models without trained weights, such as tiny
    return encode(load_encoder(options.model, device_of(options), roots), items, options.encoding)


def _file_name(embeddings: Embeddings) -> str:
    """Of the JSON in `--output`: after data set and model."""
    parts = ("gap", embeddings.name, Path(str(embeddings.metadata.get("model") or "")).stem)
    return "-".join(re.sub(r"[^\w.+-]+", "-", part) for part in dict.fromkeys(parts) if part) + ".json"


def measure(embeddings: Embeddings, n_bootstrap: int = 1000, seed: int = 0) -> dict[str, Any]:
    """All that `i0t gap` says of an Embeddings.

    Args:
        embeddings: images and texts.
        n_bootstrap: resamples; 0 leaves the intervals out.
        seed: of splits and resamples.

    Returns:
        `measures` (name to value, low, high, method), `severity` and `severity_range`, `dimensions`
        (largest part in the gap first), `top_share` (of 1, 5, 10 dimensions), `trust` (lines), counts, origin.

    Raises:
        I0TError: a bad row.

    Example:
        >>> import numpy as np
        >>> from i0t import Embeddings
        >>> rows, names = np.random.default_rng(0).normal(size=(2, 60, 8)) + 1, [str(row) for row in range(60)]
        >>> found = measure(Embeddings(rows[0], -rows[1], np.arange(60), names, names), n_bootstrap=0)
        >>> found["severity"], len(found["dimensions"]), found["trust"]
        ('severe', 8, ['rough: error bars from fewer than 100 pairs are themselves uncertain'])
    """
    from i0t.gap.intervals import intervals_of, severity_range
    from i0t.gap.measures import measures_of
    from i0t.gap.trust import dimensions_of, doubts_of
    from i0t.gap.unit_pairs import UnitPairs

    items = UnitPairs.of(embeddings.image_features, embeddings.text_features, embeddings.pairs)
    values = measures_of(items, seed)
    intervals = intervals_of(items, seed, n_bootstrap) if n_bootstrap else {}
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
    """What `measure` found, for a terminal of 100 columns."""
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


def _plain(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

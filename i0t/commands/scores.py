"""Program: fit standardised scores, and write what a store keeps with each item. `i0t scores`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from i0t.cli import Parser, add_remover_flags, program, remover_choices, share_number
from i0t.embeddings import Embeddings, load_embeddings
from i0t.files import check_outputs, ensure_folder, write_npy
from i0t.locks import only_writer
from i0t.search.scores import FORMS, Form, ScoreStandardizer
from i0t.standardize import MODALITIES
from i0t.standardize.registry import NONE, RemoverChoice
from i0t.standardize.swapped import require_own_sides, side_means

DESCRIPTION = """\
Fit standardised scores, which rank images and texts in one list, to vectors without labels, and write them, with the
two numbers (mean, deviation) that a store keeps with each item for each kind of query. Measure them with
`i0t search-eval` or `i0t advise` first; docs/search.md has the recipes for faiss, LanceDB, Qdrant and PostgreSQL.
"""
EPILOG = """\
files in DIR
  scores.safetensors    for i0t.search.ScoreStandardizer.load, and `i0t cutoff --scores`
  image_scales.npy, text_scales.npy    (N, 2, 2) float32, form adaptive: item, kind of query (image, text), mean and
                        deviation

examples
  i0t scores images.npy texts.npy --output scores
  i0t scores index.safetensors --fit-on calibration.safetensors --form constants --output scores
"""
SCORES = "scores.safetensors"
SCALES = {kind: f"{kind}_scales.npy" for kind in MODALITIES}


@dataclass(frozen=True)
class ScoresOptions:
    """Options of the program."""

    source: tuple[str, ...]  # the index
    output: str  # folder
    fit_on: tuple[str, ...] = ()  # vectors to fit on; empty: the index itself
    hold_out: float | None = None  # share of the items to leave out
    form: Form = "adaptive"
    choice: RemoverChoice = RemoverChoice(NONE)


def parse(argv: Sequence[str] | None) -> ScoresOptions:
    """Parse the command line."""
    parser = Parser(prog="i0t scores", description=DESCRIPTION, epilog=EPILOG)
    what = "the index: an Embeddings file (.safetensors), or images.npy texts.npy, of any lengths"
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=what)
    parser.add_argument(
        "--fit-on",
        nargs="+",
        default=[],
        metavar="FILE",
        help="other vectors of the same model (default: SOURCE itself)",
    )
    parser.add_argument(
        "--hold-out",
        type=share_number,
        metavar="SHARE",
        help="fit without this share of the images, with their texts, drawn at random; `i0t cutoff` uses these",
    )
    parser.add_argument("--form", choices=FORMS, default="adaptive", help="default adaptive")
    add_remover_flags(parser, "--remover")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to, made if missing")
    given = parser.parse_args(argv)
    (choice,) = remover_choices(given, [given.remover])
    return ScoresOptions(tuple(given.source), given.output, tuple(given.fit_on), given.hold_out, given.form, choice)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    folder = Path(options.output)
    written = {name: folder / name for name in (SCORES, *SCALES.values())}
    check_outputs({f"--output ({name})": path for name, path in written.items()}, [*options.source, *options.fit_on])
    source = load_embeddings(options.source, paired=False)
    cohorts = load_embeddings(options.fit_on, paired=False) if options.fit_on else source
    cohorts.origin.require_same_model(source.origin, "the vectors of --fit-on", "the index")
    require_own_sides(side_means(cohorts), source, " ".join(options.fit_on or options.source))
    remover = None if options.choice.name == NONE else options.choice.make()
    fitted = ScoreStandardizer(remover, options.form).fit_embeddings(_without(cohorts, options.hold_out))
    features = {"image": source.image_features, "text": source.text_features}
    scales = {
        kind: np.stack([fitted.scales(features[kind], kind, asking) for asking in MODALITIES], axis=1)
        for kind in (MODALITIES if options.form == "adaptive" else ())
    }
    ensure_folder(folder)
    fitted_on = " and ".join(f"{count} {kind}s" for kind, count in fitted.counts.items())
    with only_writer(written[SCORES]):  # scores of one run and scales of another would not fit together
        rows = [[fitted.save(written[SCORES]), f"form {options.form}, fitted on {fitted_on}"]]
        for kind, values in scales.items():
            write_npy(written[SCALES[kind]], values.astype(np.float32))
            rows.append([written[SCALES[kind]], f"{values.shape} float32"])
    print(tabulate(rows, headers=["written", ""]))
    return 0


def _without(cohorts: Embeddings, share: float | None) -> Embeddings:
    """Leave a share of the images out, with their texts; with unknown pairs, the same rows of both."""
    if share is None:
        return cohorts
    owner = np.where(cohorts.image_of_text >= 0, cohorts.image_of_text, np.arange(len(cohorts.text_features)))
    rows = np.random.default_rng(0).permutation(max(len(cohorts.image_features), int(owner.max(initial=-1)) + 1))
    left_out = rows[: round(share * len(rows))]
    return cohorts.subset(~np.isin(np.arange(len(cohorts.image_features)), left_out), ~np.isin(owner, left_out))


if __name__ == "__main__":
    sys.exit(main())

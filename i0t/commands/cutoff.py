"""Program: the score above which at most a stated share of non-matching pairs lie. `i0t cutoff`."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from i0t.cli import Parser, not_negative, program, share_number
from i0t.embeddings import PAIRED, Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.files import check_outputs, write_json
from i0t.gap.pair_doubts import pair_doubts
from i0t.metrics.cutoff import conformal_cutoff, least_scores
from i0t.paths import say
from i0t.search.calibration import Estimate, PairScores, Scorer, pair_scores, rejection
from i0t.search.pair_quality import LET_THROUGH
from i0t.search.scores import ScoreStandardizer
from i0t.standardize import MODALITIES
from i0t.standardize.swapped import require_own_sides

DESCRIPTION = """\
Find the score above which at most a stated share of the pairs lie that do not match (false alarms), for image-text,
image-image and text-text pairs, from your vectors: with known pairs, or without (--unpaired).

The promise holds for any distribution of scores, if the vectors are drawn as those of later use, and the scores were
not fitted to them (conformal prediction). Each item counts in one pair only, as pairs that share one depend on each
other: n known pairs give n / 2 scores.
"""
EPILOG = """\
columns
  scores     K, number of independent scores of pairs that do not match
  on average   cutoff that a new pair exceeds with a chance of at most the share, averaged over calibration sets
  with 95 %    cutoff above which at most the share of all such pairs lies, for 95 % of calibration sets (--confidence)
  kept       share of the known matching pairs above the cutoff, with half of its 95 % interval
A pair is an alarm if its score is larger than the cutoff. In Python: `i0t.metrics.conformal_cutoff` and, for a p-value
per pair, `conformal_p_values`; the scores to compare with are in the file of --json.

examples
  i0t cutoff embeddings.safetensors --false-alarms 0.01 0.001
  i0t cutoff images.npy texts.npy --unpaired --scores scores.safetensors --json cutoffs.json
"""


@dataclass(frozen=True)
class CutoffOptions:
    """Options of the program."""

    source: tuple[str, ...]
    paired: bool = True
    scores: str | None = None  # file of a `ScoreStandardizer`; None: cosines
    shares: tuple[float, ...] = (0.01,)  # of false alarms
    confidence: float = 0.95
    seed: int = 0  # of the pairs
    json: str | None = None  # file to write


def parse(argv: Sequence[str] | None) -> CutoffOptions:
    """Parse the command line."""
    parser = Parser(prog="i0t cutoff", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=PAIRED)
    parser.add_argument("--unpaired", action="store_true", help="images and texts do not pair up row by row")
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help="standardised scores (default: cosines); the items of their fit are left out",
    )
    parser.add_argument(
        "--false-alarms", type=share_number, nargs="+", default=[0.01], metavar="SHARE", help="in 0..1 (default 0.01)"
    )
    parser.add_argument("--confidence", type=share_number, default=0.95, metavar="SHARE", help="in 0..1 (default 0.95)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the pairs (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write cutoffs and calibration scores")
    given = parser.parse_args(argv)
    check_outputs({"--json": given.json}, [*given.source, given.scores])
    return CutoffOptions(
        tuple(given.source),
        not given.unpaired,
        given.scores,
        tuple(given.false_alarms),
        given.confidence,
        given.seed,
        given.json,
    )


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    source = load_embeddings(options.source, options.paired)
    for doubt in pair_doubts(source):
        say(doubt)
    standardizer = _fitted_scores(options, source)
    if standardizer is not None:
        source = _others(standardizer, source, options)
    scorer = Scorer(standardizer)
    found, rejected = pair_scores(source, scorer, options.seed), rejection(source, scorer, options.seed)
    print(_table(found, options))
    print(textwrap.fill(_notes(rejected, options), 100))
    if options.json:
        write_json(options.json, _content(found, rejected, options))
        print(options.json)
    return 0


def _fitted_scores(options: CutoffOptions, source: Embeddings) -> ScoreStandardizer | None:
    if options.scores is None:
        return None
    fitted = ScoreStandardizer.load(options.scores)
    fitted.origin.require_same_model(source.origin, "these scores")
    require_own_sides({side: fitted.mean(side) for side in MODALITIES}, source, options.scores)
    return fitted


def _others(fitted: ScoreStandardizer, source: Embeddings, options: CutoffOptions) -> Embeddings:
    """The items that the scores were not fitted to, as nothing is promised for the others.

    Raises:
        I0TError: too few are left.
    """
    images, texts = (~rows for rows in fitted.fitted_rows(source))
    others = source
    if source.labels is None and not (images.all() and texts.all()):
        fitted_to = f"{(~images).sum()} of these {len(images)} images and {(~texts).sum()} of {len(texts)} texts"
        said = f"{options.scores}: fitted to {fitted_to}"
        if min(images.sum(), texts.sum()) < 4:
            raise I0TError(f"{said}; too few others for a cutoff. Give others, or fit with i0t scores --hold-out 0.5.")
        say(f"{said}; the cutoffs are from the others")
        others = source.subset(images, texts)
    overlap = fitted.overlap(others)
    if overlap:
        say(f"{options.scores}: {overlap}; the promise needs other items than the scores were fitted to")
    return others


def _table(found: dict[str, PairScores], options: CutoffOptions) -> str:
    rows = []
    for share in options.shares:
        for kind, scores in found.items():
            cells = []
            for confidence in (None, options.confidence):
                cutoff = conformal_cutoff(scores.unmatched, share, confidence)
                if math.isinf(cutoff):
                    needed = scores.items_per_score * least_scores(share, confidence)
                    cells += ["not decidable", f"needs {needed} items"]
                else:
                    kept = scores.kept(cutoff)
                    cells += [f"{cutoff:.4f}", "-" if kept is None else _percent(kept)]
            rows.append([f"{100 * share:g} %", kind, str(len(scores.unmatched)), *cells])
    confident = f"with {100 * options.confidence:g} %"
    headers = ["false alarms", "pairs", "scores", "on average", "kept", confident, "kept"]
    return tabulate(rows, headers, disable_numparse=True)


def _percent(share: Estimate) -> str:
    return f"{100 * share.mean:.1f} ±{50 * (share.high - share.low):.1f} %"


def _notes(rejected: dict[str, Estimate] | None, options: CutoffOptions) -> str:
    what = "Standardised scores" if options.scores else "Cosines"
    text = f"{what}. Above the cutoff lie at most the stated share of pairs that do not match."
    if rejected is None:
        return text
    area = rejected["auroc"]
    text += (
        " Measured, not promised: the best score of a text among the images tells whether its image is there with "
        f"AUROC {area.mean:.3f} ±{(area.high - area.low) / 2:.3f}."
    )
    if "answered" in rejected:
        text += (
            f" A cutoff for {100 * LET_THROUGH:g} % of the texts without their image, from half of the texts, let "
            f"{_percent(rejected['let_through'])} of the others without theirs through, and "
            f"{_percent(rejected['answered'])} of those with it."
        )
    return text


def _content(
    found: dict[str, PairScores], rejected: dict[str, Estimate] | None, options: CutoffOptions
) -> dict[str, Any]:
    """Values for JSON; null where a cutoff is not decidable."""
    kinds = {}
    for kind, scores in found.items():
        cutoffs = []
        for share in options.shares:
            for confidence in (None, options.confidence):
                cutoff = conformal_cutoff(scores.unmatched, share, confidence)
                decided = math.isfinite(cutoff)
                kept = scores.kept(cutoff)
                cutoffs.append(
                    {
                        "false_alarms": share,
                        "confidence": confidence,
                        "cutoff": cutoff if decided else None,
                        "matches_kept": kept._asdict() if decided and kept else None,
                    }
                )
        kinds[kind] = {"cutoffs": cutoffs, "unmatched": sorted(scores.unmatched.tolist())}
    measured = None if rejected is None else {name: held._asdict() for name, held in rejected.items()}
    return {"source": list(options.source), "scores": options.scores, "pairs": kinds, "rejection": measured}


if __name__ == "__main__":
    sys.exit(main())

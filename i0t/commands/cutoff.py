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
from i0t.files import check_outputs, write_json
from i0t.metrics.cutoff import conformal_cutoff, least_scores
from i0t.paths import say
from i0t.search.calibration import PairScores, Rejection, Scorer, pair_scores, rejection
from i0t.search.scores import ScoreStandardizer

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
  kept       share of the known matching pairs above the cutoff
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
        "--scores", metavar="FILE", help="standardised scores (default: cosines), fitted to other items"
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
    scorer = Scorer(_fitted_scores(options, source))
    found, rejected = pair_scores(source, scorer, options.seed), rejection(source, scorer, options.seed)
    print(_table(found, options))
    print(textwrap.fill(_notes(found, rejected, options), 100))
    if options.json:
        write_json(options.json, _content(found, rejected, options))
        print(options.json)
    return 0


def _fitted_scores(options: CutoffOptions, source: Embeddings) -> ScoreStandardizer | None:
    """Load the scores; scores that were fitted to these very items promise nothing."""
    if options.scores is None:
        return None
    fitted = ScoreStandardizer.load(options.scores)
    fitted.origin.require_same_model(source.origin, "these scores")
    overlap = fitted.overlap(source)
    if overlap:
        say(f"{options.scores}: {overlap}; the promise needs other items than the scores were fitted to")
    return fitted


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
                    cells += [f"{cutoff:.4f}", "-" if math.isnan(kept) else f"{100 * kept:.1f} %"]
            rows.append([f"{100 * share:g} %", kind, str(len(scores.unmatched)), *cells])
    confident = f"with {100 * options.confidence:g} %"
    headers = ["false alarms", "pairs", "scores", "on average", "kept", confident, "kept"]
    return tabulate(rows, headers, disable_numparse=True)


def _notes(found: dict[str, PairScores], rejected: Rejection | None, options: CutoffOptions) -> str:
    what = "Standardised scores" if options.scores else "Cosines"
    text = f"{what}. Above the cutoff lie at most the stated share of pairs that do not match."
    if rejected is None:
        return text
    return (
        f"{text} Measured, not promised: the best score of a text among the images tells whether its image is there "
        f"with AUROC {rejected.auroc:.2f}; letting 5 % of queries without an answer through keeps "
        f"{100 * rejected.kept(0.05):.0f} % of the others."
    )


def _content(found: dict[str, PairScores], rejected: Rejection | None, options: CutoffOptions) -> dict[str, Any]:
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
                        "matches_kept": kept if decided and not math.isnan(kept) else None,
                    }
                )
        kinds[kind] = {"cutoffs": cutoffs, "unmatched": sorted(scores.unmatched.tolist())}
    auroc = None if rejected is None else rejected.auroc
    return {"source": list(options.source), "scores": options.scores, "pairs": kinds, "rejection_auroc": auroc}


if __name__ == "__main__":
    sys.exit(main())

"""Program: which gap remover and which scores to use for your vectors. `i0t advise`."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from i0t.cli import Parser, add_remover_flags, not_negative, positive, program, remover_choices
from i0t.embeddings import PAIRED, load_embeddings
from i0t.search.advice import ALARMS, PLAIN, Advice, advise
from i0t.search.methods import LABELS
from i0t.search.results import differences
from i0t.standardize.registry import NONE, RemoverChoice, own_names

DESCRIPTION = """\
Try every gap remover with cosines and with standardised scores, fitted on one random half of your images and measured
on the other, and name one choice with the commands that put it to work; or say that nothing beats the vectors as they
are and the rivals that need no fitting.
"""
EPILOG = """\
columns
  NDCG@10    mixed search, mean over queries (`i0t search-eval`); then with fewer calibration images
  against RIVAL    paired difference to the best rival, with the 95 % interval over images
  R@1        image to text and text to image among the tested pairs, with the paired interval of the difference to raw
  kept       share of right pairs above the threshold that 1 % of the wrong ones exceed, for a cutoff on all queries
  serving    what has to be stored and done

examples
  i0t advise images.npy texts.npy
  i0t advise embeddings.safetensors --splits 20
"""
SERVING = {PLAIN: [], "constants": ["merge"], "adaptive": ["merge, 2 numbers per item"]}


@dataclass(frozen=True)
class AdviseOptions:
    """Options of the program."""

    source: tuple[str, ...]
    choices: tuple[RemoverChoice, ...]
    splits: int = 10
    seed: int = 0


def parse(argv: Sequence[str] | None) -> AdviseOptions:
    """Parse the command line."""
    parser = Parser(prog="i0t advise", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=PAIRED)
    add_remover_flags(parser, "--removers", default=own_names(), several=True)
    parser.add_argument("--splits", type=positive, default=10, metavar="N", help="number of random halves (default 10)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the halves (default 0)")
    given = parser.parse_args(argv)
    choices = remover_choices(given, given.removers, none=False)
    return AdviseOptions(tuple(given.source), tuple(choices), given.splits, given.seed)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    source = load_embeddings(options.source)
    advice = advise(source, options.choices, options.splits, seed=options.seed, progress=True)
    print(f"{advice_table(advice)}\n\n{_verdict(advice, options)}")
    return 0


def advice_table(advice: Advice) -> str:
    """Format one row per method, rivals first."""
    held = list(advice.mixed.values())
    gains = differences(held, advice.mixed[advice.rival], "ndcg")
    raw = advice.pairs["raw"]
    rival = advice.mixed[advice.rival].mean()["ndcg"]
    rows = []
    for (name, result), (low, high) in zip(advice.mixed.items(), gains):
        ndcg = result.mean()["ndcg"]
        row = [LABELS.get(name, name), f"{ndcg:.3f}", *(_known(found.get(name)) for found in advice.sizes.values())]
        row.append("" if name == advice.rival else f"{ndcg - rival:+.3f} ({low:+.3f} {high:+.3f})")
        pairs = advice.pairs.get(name)
        for metric in ("i2t_r1", "t2i_r1"):
            if pairs is None:
                row.append("-")
                continue
            ((low_r1, high_r1),) = differences([pairs], raw, metric)
            change = "" if name == "raw" else f" ({low_r1:+.3f} {high_r1:+.3f})"
            row.append(f"{pairs.mean()[metric]:.3f}{change}")
        row += [_known(pairs.mean()["kept"] if pairs else None), _serving(advice, name)]
        rows.append(row)
    sizes = [f"on {size}" for size in advice.sizes]
    headers = ["", "NDCG@10", *sizes, f"against {LABELS.get(advice.rival, advice.rival)}"]
    headers += ["R@1 to text", "R@1 to image", f"kept at {100 * ALARMS:g} %", "serving"]
    return tabulate(rows, headers, disable_numparse=True)


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _serving(advice: Advice, name: str) -> str:
    candidate = advice.candidates.get(name)
    if candidate is None:
        return "two searches"
    moves = [] if candidate.choice.name == NONE else ["moved vectors"]
    return ", ".join([*moves, *SERVING[candidate.form]]) or "one search"


def _verdict(advice: Advice, options: AdviseOptions) -> str:
    """Name the choice, the reason and the commands."""
    notes = []
    if advice.only_other:
        notes.append(
            "One text per image: no relevant item is of the query's own kind, so only half of the question is judged, "
            "and filters by kind are no rivals here. If your users only ever want the other kind, search only that."
        )
    if advice.choice is None:
        notes.append(f"Recommended: keep your vectors and cosines, or use {advice.rival}: {advice.reason}.")
        return "\n".join(textwrap.fill(note, 100) for note in notes)
    notes.append(f"Recommended: {LABELS.get(advice.choice, advice.choice)}: {advice.reason}.")
    lines = [textwrap.fill(note, 100) for note in notes]
    return "\n".join([*lines, *(f"  {command}" for command in _commands(advice, options))])


def _commands(advice: Advice, options: AdviseOptions) -> list[str]:
    """Two commands that put the choice to work."""
    assert advice.choice is not None
    candidate, files = advice.candidates[advice.choice], shlex.join(options.source)
    remover = "" if candidate.choice.name == NONE else candidate.choice.name
    parameters = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in candidate.choice.parameters.items())
    commands = []
    if remover:
        commands.append(
            f"i0t apply {files} --fit-on {files} --remover {remover} {parameters}".rstrip() + " --output corrected"
        )
    if candidate.form != PLAIN:
        given = f" --remover {remover} {parameters}".rstrip() if remover else ""
        commands.append(f"i0t scores {files} --form {candidate.form}{given} --output scores")
    if len(commands) < 2 and candidate.form != PLAIN:
        commands.append("i0t cutoff OTHER_PAIRS --scores scores/scores.safetensors")
    elif len(commands) < 2:
        commands.append(f"i0t search-eval {files} --removers {remover}")
    return commands


if __name__ == "__main__":
    sys.exit(main())

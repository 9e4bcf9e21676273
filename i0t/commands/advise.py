"""Program: which gap remover and which scores to use for your vectors. `i0t advise`."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from i0t.cli import Parser, add_remover_flags, not_negative, positive, program, remover_choices
from i0t.commands.scores import SCORES
from i0t.embeddings import PAIRED, load_embeddings
from i0t.gap.pair_doubts import pair_doubts
from i0t.paths import say
from i0t.search.advice import PLAIN, Advice, advise
from i0t.search.method_tables import Columns, cells, method_table
from i0t.search.methods import label_of
from i0t.search.pair_quality import ALARMS
from i0t.search.results import MethodResult, differences
from i0t.standardize.registry import NONE, RemoverChoice, all_parameters, own_names

DESCRIPTION = """\
Try every gap remover with cosines and with standardised scores, fitted on one random half of your images and measured
on the other, and name one choice with the commands that put it to work; or say that nothing beats the vectors as they
are and the rivals that need no fitting.
"""
EPILOG = """\
columns
  NDCG@10    mixed search, mean over queries, as in `i0t search-eval`. "on 32": with that many calibration images
  against the best rival    paired difference to the best of raw vectors and the rules below them, in each resample
  R@1        image to text and text to image among the tested pairs, with the interval of the difference to raw
  kept       share of right pairs above the score that 1 % of the wrong ones exceed: one cutoff for all queries
  serving    merge: one search per kind, merged by score. 2 numbers an item: stored with it for each kind of query
After "±" half of a 95 % interval, in brackets its ends (bootstrap over images, paired for differences).

examples
  i0t advise images.npy texts.npy
  i0t advise embeddings.safetensors --splits 20
"""
SERVING = {PLAIN: [], "constants": ["merge"], "adaptive": ["merge", "2 numbers an item"]}


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
    for doubt in pair_doubts(source):
        say(doubt)
    advice = advise(source, options.choices, options.splits, seed=options.seed, progress=True)
    print(f"{advice_table(advice)}\n\n{_verdict(advice, options)}")
    return 0


def advice_table(advice: Advice) -> str:
    """Format three tables of one row per method, rivals first, at most 100 columns wide."""
    gains = differences(advice.results, advice.rivals, "ndcg")
    quality: Columns = {"NDCG@10": cells(advice.results, "ndcg"), "against the best rival": gains}
    scored = {name: result for name, result in advice.results.items() if name in advice.candidates}
    pairs: Columns = {
        "R@1 to text": _recall(scored, "i2t_r1"),
        "R@1 to image": _recall(scored, "t2i_r1"),
        f"kept at {100 * ALARMS:g} %": cells(scored, "kept"),
    }
    sizes = {f"NDCG on {size}": cells(results, "ndcg") for size, results in advice.sizes.items()}
    serving: Columns = {**sizes, "serving": {name: _serving(advice, name) for name in scored}}
    return "\n\n".join(method_table(columns) for columns in (quality, pairs, serving))


def _recall(results: Mapping[str, MethodResult], metric: str) -> dict[str, str]:
    """R@1 with the interval of its difference to raw; that of raw with half of its own."""
    changes = differences(results, ["raw"], metric)
    return {
        "raw": cells(results, metric)["raw"],
        **{name: f"{results[name].mean()[metric]:.3f} ({found.ends})" for name, found in changes.items()},
    }


def _serving(advice: Advice, name: str) -> str:
    candidate = advice.candidates[name]
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
        notes.append(f"Recommended: keep your vectors and cosines, or use a rival of the table: {advice.reason}")
        return "\n".join(textwrap.fill(note, 100) for note in notes)
    notes.append(f"Recommended: {label_of(advice.choice)}: {advice.reason}")
    lines = [textwrap.fill(note, 100) for note in notes]
    return "\n".join([*lines, *(f"  {command}" for command in _commands(advice, options))])


def _commands(advice: Advice, options: AdviseOptions) -> list[str]:
    """Two commands that put the choice to work."""
    assert advice.choice is not None
    candidate, files = advice.candidates[advice.choice], shlex.join(options.source)
    remover = "" if candidate.choice.name == NONE else candidate.choice.name
    parameters = _flags_of(candidate.choice.parameters)
    given = f" --remover {remover} {parameters}".rstrip() if remover else ""
    fit = f"i0t scores {files} --form {candidate.form}{given}"
    if remover and candidate.form == PLAIN:
        again = given.replace("--remover", "--removers")
        return [f"i0t apply {files} --fit-on {files}{given} --output corrected", f"i0t search-eval {files}{again}"]
    if remover:
        return [f"i0t apply {files} --fit-on {files}{given} --output corrected", f"{fit} --output scores"]
    return [f"{fit} --hold-out 0.5 --output scores", f"i0t cutoff {files} --scores scores/{SCORES}"]


def _flags_of(parameters: Mapping[str, Any]) -> str:
    """The flags that give a remover its parameters: its own, or --set for a remover of somebody else."""
    known = all_parameters()
    own = [part for name in parameters if name in known for part in (f"--{name.replace('_', '-')}", parameters[name])]
    others = [f"{name}={value}" for name, value in parameters.items() if name not in known]
    return shlex.join(map(str, [*own, *(["--set", *others] if others else [])]))


if __name__ == "__main__":
    sys.exit(main())

"""Check that two versions of the code give the same numbers, bit by bit: `python -m benchmarks.same_numbers`.

    record FOLDER [--checkout DIR]    run every program of a checkout, seeded and small, and keep its results
    compare A B                       list what differs from A or is missing in B; exit status 1 if anything does

Programs of a checkout are called by their command lines alone, so that one script can record versions before and after
a change. Both recordings must be made on one machine.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recorded import LENIENT, facts_of, read_recording
from benchmarks.recording import record
from i0t.cli import Parser, program

ALLOWED = {  # pattern of "file field": reason why it may differ
    "* config.flags.*": "the flags as a program calls them; the protocol states what was done",
    "report*page.captions.*": "words of the page",
    "report*page.glossary.*": "words of the page",
    "report*page.method.*": "words of the page",
}
SHOWN = 5  # differences per file


def compare(first: Path, second: Path) -> int:
    """Print differences by kind; return 1 if anything of `first` is different or missing in `second`.

    Printed, but no failure: fields in ALLOWED, fields that only `second` has, headers of tensor files, tables, figures.
    """
    facts, others = facts_of(first), facts_of(second)
    if facts["machine"] != others["machine"]:
        print(f"not one machine: {', '.join(facts['machine'])} and {', '.join(others['machine'])}")
    for folder, run in ((first, facts), (second, others)):
        print(f"{folder}: commit {run['commit']}{', failed: ' + ', '.join(run['failed']) if run['failed'] else ''}")
    old, new = read_recording(first), read_recording(second)
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for place in {**old, **new}:
        before, after = old.get(place, {}), new.get(place, {})
        for field in {**before, **after}:
            if field in before and field in after and _same(before[field], after[field]):
                continue
            kind = "missing" if field not in after else "extra" if field not in before else "different"
            part = field.partition(".")[0]
            allowed = [f"allowed, {why}" for pattern, why in ALLOWED.items() if fnmatch(f"{place} {field}", pattern)]
            kind = (allowed or [part if part in LENIENT else kind])[0]
            found[kind][place].append(f"{field}: {_difference(before.get(field), after.get(field))}")
    for kind, places in found.items():
        print(f"{kind} ({sum(map(len, places.values()))})")
        for place, lines in places.items():
            rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            print(f"  {place}", *lines[:SHOWN], *rest, sep="\n    ")
    failed = bool({"different", "missing"} & set(found))
    print(f"{len(old)} files, {sum(map(len, old.values()))} fields: {'NOT ' if failed else ''}the same")
    return int(failed)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)  # -0.0 is not 0.0
    return type(one) is type(other) and one == other


def _difference(one: Any, other: Any) -> str:
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return " -> ".join(f"{'none' if value is None else value!s:.60}" for value in (one, other))
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.dtype} {one.shape} -> {other.dtype} {other.shape}"
    return f"{(one != other).sum()} of {one.size} differ, by up to {np.abs(one.astype(float) - other).max():.1e}"


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(prog="python -m benchmarks.same_numbers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, help="`COMMAND --help` explains each")
    what = {"record": "run the programs and keep what they write", "compare": "compare two recorded folders"}
    recording, comparison = (commands.add_parser(name, help=text, description=text) for name, text in what.items())
    recording.add_argument("folder", type=Path, help="new folder for all results")
    recording.add_argument("--checkout", type=Path, default=Path(__file__).parents[1], help="default: this one")
    comparison.add_argument("first", type=Path, help="recorded before")
    comparison.add_argument("second", type=Path, help="recorded after")
    options = parser.parse_args(argv)
    if options.command == "record":
        return record(options.folder.resolve(), options.checkout.resolve())
    return compare(options.first, options.second)


if __name__ == "__main__":
    sys.exit(main())

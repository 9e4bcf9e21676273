"""Run all benchmarks and print one table of ratios: `python -m benchmarks`.

Ours and the rival run in turn on this machine; a ratio is the median over the rounds (for peak memory: one
fresh process each). A module of this folder with `rows(quick) -> list[Row]` adds its rows.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from tabulate import tabulate

import benchmarks
from benchmarks.row import Row
from i0t.cli import Parser, program
from i0t.errors import I0TError

WIDTHS = [34, 24, 7, 14, 24]


def find_modules(only: Sequence[str] = ()) -> dict[str, ModuleType]:
    """Find the modules of this folder that have rows.

    Raises:
        I0TError: a named module has none.
    """
    names = [entry.name for entry in pkgutil.iter_modules(benchmarks.__path__) if entry.name != "__main__"]
    modules = {name: import_module(f"benchmarks.{name}") for name in (only or names) if name in names}
    found = {name: module for name, module in modules.items() if hasattr(module, "rows")}
    unknown = [name for name in only if name not in found]
    if unknown:
        known = [name for name in names if hasattr(import_module(f"benchmarks.{name}"), "rows")]
        raise I0TError(f"--only {unknown[0]}: no such benchmark. There are {', '.join(known)}.")
    return found


def table(rows: list[Row]) -> str:
    """Format rows, at most 110 columns wide."""
    cells = [[row.work, row.rival, f"{row.ratio:.2f}", row.goal, row.note] for row in rows]
    headers = ["work", "rival", "ratio", "goal", "measured"]
    return tabulate(cells, headers, tablefmt="simple_grid", maxcolwidths=WIDTHS, disable_numparse=True)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a first look; other ratios")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="one module; may be repeated")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    for name, module in find_modules(options.only).items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += module.rows(options.quick)
    if options.quick:
        print("--quick: smaller sizes than those of the goals; the ratios may differ.")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

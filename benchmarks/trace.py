"""Trace one run: files entered, functions, lines; JSON files parsed; vectors normalised.

    python -m benchmarks.trace evaluation.retrieval --model tiny --dataset flickr --remove-gap i0t_post --fit-on train
    python -m benchmarks.trace i0t gap images.npy texts.npy

A file counts as entered if one of its functions runs; imports are not counted. The program runs in this process,
with its own flags; add --data-dir and --data-dir-sub for a small sample.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from i0t.cli import Parser, program
from i0t.paths import REPO

ROOMS = ("i0t", "evaluation", "baselines")


@dataclass
class Trace:
    """Counts of one run."""

    functions: Counter[tuple[str, str, int]] = field(default_factory=Counter)  # by (file, qualified name, first line)
    parsed: Counter[str] = field(default_factory=Counter)  # parsed JSON files
    normalised: Counter[str] = field(default_factory=Counter)  # normalised arrays of several vectors, by calling room
    _files: dict[CodeType, str | None] = field(default_factory=dict, repr=False)

    @property
    def files(self) -> list[str]:
        """Project files that were entered, in alphabetical order."""
        return sorted({file for file, _, _ in self.functions})

    @property
    def lines(self) -> int:
        """Number of lines in these files."""
        return sum(len((REPO / file).read_text(encoding="utf-8").splitlines()) for file in self.files)

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Count a call (the profiler's hook)."""
        code = frame.f_code
        if event != "call" or not code.co_flags & inspect.CO_OPTIMIZED:  # not for bodies of modules and classes
            return
        if code not in self._files:
            self._files[code] = _project_file(code.co_filename)
        file = self._files[code]
        if file is None:
            return
        self.functions[
            file, code.co_qualname if sys.version_info >= (3, 11) else code.co_name, code.co_firstlineno
        ] += 1
        if code.co_name == "read_json":
            self.parsed[Path(str(frame.f_locals["path"])).name] += 1
        if code.co_name == "l2_normalize" and len(frame.f_locals["features"]) > 1:
            caller = frame.f_back
            while caller is not None and _project_file(caller.f_code.co_filename) in (None, file):
                caller = caller.f_back
            room = _project_file(caller.f_code.co_filename) if caller is not None else None
            self.normalised[str(Path(room).parent) if room else "outside"] += 1


def _project_file(name: str) -> str | None:
    path = Path(name)
    if not path.is_absolute() or not path.is_relative_to(REPO):
        return None
    relative = path.relative_to(REPO)
    return relative.as_posix() if relative.parts[0] in ROOMS else None


def trace(module: str, argv: Sequence[str]) -> tuple[Trace, int]:
    """Run a program's `main` with flags; return the counts, and the exit status."""
    main = import_module("i0t.__main__" if module == "i0t" else module).main
    found = Trace()
    threading.setprofile(found)
    sys.setprofile(found)
    try:
        status = main(list(argv))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return found, status


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Trace the program that the first argument names; returns its exit status."""
    parser = Parser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("module", help="the program, e.g. evaluation.retrieval or i0t")
    parser.add_argument("flags", nargs=argparse.REMAINDER, metavar="...", help="its flags")
    arguments = parser.parse_args(argv)
    found, status = trace(arguments.module, arguments.flags)
    print(*found.files, sep="\n")
    print(f"{len(found.files)} files entered, {len(found.functions)} functions, {found.lines} lines in those files.")
    print("JSON parsed:", ", ".join(f"{name} {count} x" for name, count in found.parsed.items()) or "none")
    print("Normalised:", ", ".join(f"{room} {count} x" for room, count in found.normalised.items()) or "none")
    return status


if __name__ == "__main__":
    sys.exit(main())

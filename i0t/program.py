"""`program`: how every program ends, on bad input, Ctrl-C, full disks and faults of its own: with one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Protocol

from i0t.errors import I0TError, first_line
from i0t.processes import rank

TRACEBACK_FLAG, TRACEBACK_VARIABLE = "--traceback", "I0T_TRACEBACK"
PACKAGES = ("i0t", "evaluation", "baselines", "benchmarks")
FILE_NAMES = ("path", "source", "file", "image", "shard", "target", "folder")  # local variables that name a file
BAD_INPUT, FAULT, INTERRUPTED, CLOSED_PIPE = 2, 1, 130, 141  # exit statuses


class Program(Protocol):
    """A function from a command line (default: that of the process) to an exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the program."""


def program(main: Callable[[Sequence[str] | None], int]) -> Program:
    """End a program with one line and an exit status: 2 on bad input, 130 on Ctrl-C, 1 on a fault of its own.

    With `--traceback`, or the environment variable I0T_TRACEBACK (as in the tests), a fault keeps its traceback.
    """

    @wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8, half surrogate pairs
        try:
            status = main(argv)
            sys.stdout.flush()  # at exit, a full disk would be noticed too late for one line
            return status
        except I0TError as error:
            return _end(str(error), BAD_INPUT)
        except KeyboardInterrupt as stop:
            where = str(stop) or "what was finished stays, and the same command starts again"
            print(f"stopped: {where}.", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
            _silence_output()
            return CLOSED_PIPE
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE) or TRACEBACK_FLAG in (sys.argv[1:] if argv is None else argv):
                raise
            _silence_output()
            return _end(_explained(error), FAULT)

    return run


@contextmanager
def on_stop(where: Callable[[], str]) -> Iterator[None]:
    """If Ctrl-C stops what is within, say where it stands and how to go on; the innermost that knows is heard."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or where()) from None


def _end(message: str, status: int) -> int:
    # Of several processes any may be the one that fails, e.g. on a machine without the data.
    print(f"error{f' (process {rank()})' if rank() else ''}: {message}", file=sys.stderr)
    return status


def _silence_output() -> None:
    """Write what is left for standard output nowhere: Python would complain at exit that it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explained(error: Exception) -> str:
    """Say in one line what failed unexpectedly, where, and with which file, if that is known."""
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        return f"cannot write or read ({error.strerror}): the disk, or what the output goes to, is full or gone."
    own = [frame for frame, _ in walk_tb(error.__traceback__) if _module(frame).split(".")[0] in PACKAGES]
    lines = [line for line in str(error).splitlines() if line.strip()]
    # An error of a worker has the worker's traceback in its message.
    message = lines[-1].strip() if "Traceback" in str(error) else first_line(error)
    where = f", in {own[-1].f_code.co_name} of {_module(own[-1])}" if own else ""
    file = getattr(error, "filename", None) or next(filter(None, map(_file_of, reversed(own))), "")
    remedy = " Give a smaller --batch-size or fewer --workers." if "emory" in type(error).__name__ else ""
    return (
        f"unexpected {type(error).__name__}: {message}{where}{f', with {file}' if file else ''}.{remedy} Files written "
        f"before are whole. {TRACEBACK_FLAG} shows the rest, for a report of the fault."
    )


def _module(frame: FrameType) -> str:
    name = str(frame.f_globals.get("__name__", ""))
    spec = frame.f_globals.get("__spec__")
    return str(spec.name) if name == "__main__" and spec else name


def _file_of(frame: FrameType) -> str:
    """The file that a function is at, by the names of its variables."""
    found = (frame.f_locals.get(name) for name in FILE_NAMES)
    return next((str(value) for value in found if isinstance(value, (str, Path)) and str(value)), "")

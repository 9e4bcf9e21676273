"""`program`: how every program ends, on bad input, Ctrl-C, SIGTERM, full disks and faults of its own: with one line."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import threading
import time
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
from i0t.scripts import as_called_here

TRACEBACK_FLAG, TRACEBACK_VARIABLE = "--traceback", "I0T_TRACEBACK"
PACKAGES = ("i0t", "evaluation", "baselines", "benchmarks")
TOGETHER = 1.0  # seconds within which two SIGTERM are one: `timeout` sends it to the program and to its group
FILE_NAMES = ("path", "source", "file", "image", "shard", "target", "folder")  # local variables that name a file
BAD_INPUT, FAULT, INTERRUPTED, CLOSED_PIPE, TERMINATED = 2, 1, 130, 141, 143  # exit statuses
TO_FINISH = "what was finished stays, and the same command starts again"
CAUSES: dict[str, tuple[int, ...]] = {  # of errors that name no file: what is short, and what helps
    "the disk, or what the output goes to, is full or gone": (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
    ),
    "too many files are open: give fewer --workers or --jobs, or allow more (ulimit -n 4096)": (
        errno.EMFILE,
        errno.ENFILE,
    ),
    "memory is short: give a smaller --batch-size, or fewer --workers or --jobs": (errno.ENOMEM,),
    "no more processes may start: give fewer --workers or --jobs, or allow more (ulimit -u)": (errno.EAGAIN,),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, e.g. of a scheduler: the program ends as on Ctrl-C."""


class Program(Protocol):
    """A function from a command line (default: that of the process) to an exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the program."""


def program(main: Callable[[Sequence[str] | None], int]) -> Program:
    """End a program with one line and a status: 2 on bad input, 130 on Ctrl-C, 143 on SIGTERM, 1 on a fault of its own.

    With `--traceback`, or the environment variable I0T_TRACEBACK (as in the tests), a fault keeps its traceback.
    """

    @wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        if sys.stdout is None:  # closed by the caller (`>&-`)
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8, half surrogate pairs
        try:
            with _sigterm_as_stop():
                status = main(argv)
            sys.stdout.flush()  # at exit, a full disk would be noticed too late for one line
            return status
        except I0TError as error:
            return _end(str(error), BAD_INPUT)
        except KeyboardInterrupt as stop:
            return _stopped(stop)
        except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
            _silence_output()
            return CLOSED_PIPE
        except Exception as error:
            if isinstance(error.__cause__, KeyboardInterrupt):  # in compiled code, such as UMAP's, it is a SystemError
                return _stopped(error.__cause__)
            if os.environ.get(TRACEBACK_VARIABLE) or TRACEBACK_FLAG in (sys.argv[1:] if argv is None else argv):
                raise
            _silence_output()
            return _end(_explained(error), FAULT)

    return run


@contextmanager
def on_stop(where: Callable[[], str]) -> Iterator[None]:
    """If Ctrl-C or SIGTERM stops what is within, say where it stands and how to go on; the innermost is heard."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise type(stop)(str(stop) or where()) from None


@contextmanager
def _sigterm_as_stop() -> Iterator[None]:
    """Let the first SIGTERM raise `Terminated`; where somebody handles it already, or in a thread, nothing changes."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    process, first = os.getpid(), math.inf

    def receive(*_: object) -> None:
        nonlocal first
        now, forked = time.monotonic(), os.getpid() != process
        # A forked child, such as a pool's worker, dies as it did; a later second one ends the program at once.
        if forked or now > first + TOGETHER:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if now < first:
            first = now
            raise Terminated

    signal.signal(signal.SIGTERM, receive)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is receive:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stopped(stop: KeyboardInterrupt) -> int:
    print(f"stopped: {str(stop) or TO_FINISH}.", file=sys.stderr)
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def _end(message: str, status: int) -> int:
    # Of several processes any may be the one that fails, e.g. on a machine without the data.
    print(f"error{f' (process {rank()})' if rank() else ''}: {as_called_here(message)}", file=sys.stderr)
    return status


def _silence_output() -> None:
    """Write what is left for standard output nowhere: Python would complain at exit that it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explained(error: Exception) -> str:
    """Say in one line what failed unexpectedly, where, and with which file, if that is known."""
    cause = next((text for text, numbers in CAUSES.items() if getattr(error, "errno", None) in numbers), "")
    if cause and isinstance(error, OSError) and error.filename is None:
        return f"cannot go on ({error.strerror}): {cause}."
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

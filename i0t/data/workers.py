"""Worker processes that decode images: their signals, their end, and which image one was at when it died."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch
from torch.utils.data import get_worker_info

from i0t.errors import I0TError

LONGEST_NAME = 1_000  # bytes; of a longer name the end is kept
DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([^.]*)|exited unexpectedly)")


class ImagesInHand:
    """The image that each worker is decoding, in memory that the workers share with the main process."""

    def __init__(self, workers: int) -> None:
        self.names = torch.zeros(workers, LONGEST_NAME, dtype=torch.uint8).share_memory_()
        self.pids = torch.zeros(workers, dtype=torch.int64).share_memory_()

    def note(self, name: str) -> None:
        """Note what this worker decodes from now on; does nothing in the main process."""
        worker = get_worker_info()
        if worker is not None and worker.id < len(self.pids):
            text = os.fsencode(name)[-LONGEST_NAME:].ljust(LONGEST_NAME, b"\0")
            self.pids[worker.id] = os.getpid()
            self.names[worker.id] = torch.frombuffer(bytearray(text), dtype=torch.uint8)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn torch's error for a dead worker into one that names the image.

        Raises:
            I0TError: a worker died inside the block.
        """
        try:
            yield
        except RuntimeError as error:
            died = DIED.search(str(error))
            if died is None:
                raise
            raise I0TError(self._explain([int(pid) for pid in died[1].split(",")], (died[2] or "").strip())) from None

    def _explain(self, pids: list[int], how: str) -> str:
        names = [
            os.fsdecode(bytes(name.tolist()).rstrip(b"\0"))
            for pid, name in zip(self.pids.tolist(), self.names, strict=True)
            if pid in pids
        ]
        at = f"while it decoded {' or '.join(names)}" if names else "before its first image"
        return (
            f"a worker process died{f' ({how})' if how else ''} {at}. If the system killed it for want of memory, use "
            "fewer --workers; if the image is damaged, replace it. --workers 0 shows the error itself."
        )


def end_workers() -> None:
    """Kill the workers at exit: they ignore SIGTERM, so a program that fails would wait for them forever."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def quiet_if_main_stops(_: int) -> None:
    """Say nothing in a worker if the main process, stopped while it takes a batch from shared memory, hangs up."""
    shown = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, (ConnectionError, EOFError)):
            shown(kind, error, traceback)

    sys.excepthook = show  # of the thread that shares memory; errors of decoding do not come here


def leave_signals_to_main(worker: int) -> None:
    """Ignore SIGTERM and Ctrl-C in a worker: it may get them, too, but the last step still needs it."""
    quiet_if_main_stops(worker)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Locks of outputs: two runs that would write the same files are told apart. A dead process holds none."""

from __future__ import annotations

import fcntl
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from i0t.errors import I0TError
from i0t.remote import is_remote

SHOWN = 100  # characters of the other run's command
PAUSE = 0.05  # seconds between looks at a lock that another run holds
_held: set[int] = set()  # descriptors


@contextmanager
def only_writer(
    target: str | Path, remedy: str = "Wait for it, or choose another output.", wait: bool = False
) -> Iterator[None]:
    """Hold the lock of an output while it is made: a hidden file beside it, `.NAME.lock`, removed at the end.

    Args:
        target: the file or folder to write, which need not exist; its parent must.
        remedy: what to do if another run holds the lock.
        wait: until it is free, where writing takes moments.

    Raises:
        I0TError: another run holds it (without `wait`); names its process, machine, time of start and command.
    """
    if is_remote(target):  # stores have no locks
        yield
        return
    target = Path(target)
    path = target.parent / f".{target.name}.lock"
    try:
        while (handle := try_lock(path)) is None and wait:
            time.sleep(PAUSE)
    except OSError as error:
        raise I0TError(f"{target}: cannot be written ({error.strerror}). Choose another output.") from None
    if handle is None:
        raise I0TError(f"{target}: another run is writing it ({_holder(path)}). {remedy}")
    _held.add(handle)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, _about_this_run().encode("utf-8", "backslashreplace"))
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is free: the next run would lose its own
        _held.discard(handle)
        os.close(handle)


def try_lock(path: Path) -> int | None:
    """Lock a file, made if missing, until its descriptor is closed or the process dies; None if another holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            return handle  # a file system without locks
        if _is_at(handle, path):
            return handle
        os.close(handle)  # removed by the run before, between opening and locking


def _release_in_child() -> None:
    """A forked worker may outlive its killed parent for seconds, and must not hold the lock for it."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _about_this_run() -> str:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    shown = command if len(command) <= SHOWN else f"{command[: SHOWN - 3]}..."
    return f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}: {shown}"


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") or "just started"
    except OSError:
        return "it ended this moment"

"""`SavedStates`: states to resume a run from, written atomically; the newest are kept, damaged ones skipped.

A state is a folder `step-00000500` with `shared.pt` (weights, optimizer, step, best score) and one
`process-0.pt` per process (its random state). It is written under another name and renamed when complete.
The learning rate and the order of the pairs are functions of the step and need no state.

`Accelerator.save_state` is not used: its `load_state` is silent if it cannot restore the random state, leaves
a model partly loaded if a later file is damaged, and it writes frozen encoders, too.
"""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from i0t.errors import I0TError, first_line
from i0t.files import ensure_folder
from i0t.paths import say
from i0t.processes import from_main, gather

SHARED, PROCESS = "shared.pt", "process-{}.pt"
PREFIX, UNFINISHED = "step-", ".unfinished-"
# Raised by torch.load for a truncated file, or another file.
DAMAGED = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError)


class SavedStates:
    """The newest `keep` states of one run, in a folder that all machines see."""

    def __init__(self, folder: Path, keep: int, accelerator: Accelerator) -> None:
        self.folder, self.keep, self.accelerator = folder, keep, accelerator

    def steps(self) -> list[int]:
        """Steps of the complete states, ascending."""
        found = (path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*"))
        return sorted(int(name) for name in found if name.isdigit())

    def path(self, step: int) -> Path:
        """Folder of the state of a step."""
        return self.folder / f"{PREFIX}{step:08d}"

    @property
    def newest(self) -> Path | None:
        """The last complete state, or None."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def save(self, step: int, shared: dict[str, Any], own: dict[str, Any]) -> None:
        """Write a state: the shared part, and the part of each process; all processes must call this.

        Raises:
            I0TError: the disk is full, or another machine does not see the folder.
        """
        main = self.accelerator.is_main_process
        unfinished = self.folder / f"{UNFINISHED}{step:08d}"
        if main:
            shutil.rmtree(unfinished, ignore_errors=True)
            ensure_folder(unfinished)
        self.accelerator.wait_for_everyone()
        if not unfinished.is_dir():
            raise I0TError(f"{self.folder}: not seen by every machine. Let --output name a folder that all share.")
        if main:
            _write(unfinished / SHARED, shared)
        _write(unfinished / PROCESS.format(self.accelerator.process_index), own)
        self.accelerator.wait_for_everyone()
        if main:
            shutil.rmtree(self.path(step), ignore_errors=True)
            unfinished.replace(self.path(step))
            _sync(self.folder)
            steps = self.steps()
            here = steps.index(step) + 1
            # Later states could not be read when the run was resumed; if kept, they would replace complete ones.
            for other in steps[: max(0, here - self.keep)] + steps[here:]:
                shutil.rmtree(self.path(other))

    def load(self) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
        """Load the newest state that every process can read: the shared part, and this process's own part.

        All processes must call this, and get the same step. The own part is None if the run had fewer
        processes. Returns None if there is no such state.
        """
        for step in reversed(from_main(self.steps())):
            found, problem = self._read(step)
            problems = [f"process {rank}: {text}" for rank, text in enumerate(gather([problem])) if text]
            if not problems:
                return found
            say(f"{self.path(step)}: cannot be read ({problems[0]}); trying the state before it.")
        return None

    def _read(self, step: int) -> tuple[tuple[dict[str, Any], dict[str, Any] | None] | None, str]:
        """Read a state; return it, and what is wrong with it ("" if nothing)."""
        own = self.path(step) / PROCESS.format(self.accelerator.process_index)
        try:
            return (_load(self.path(step) / SHARED), _load(own) if own.is_file() else None), ""
        except DAMAGED as error:
            return None, first_line(error)

    def clear(self) -> None:
        """Remove all states of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Check that the disk of `folder` has `needed` bytes free, for `what`.

    Raises:
        I0TError: it has not.
    """
    free = shutil.disk_usage(ensure_folder(folder)).free
    if free < needed:
        raise I0TError(
            f"{folder}: {free / 1e9:.1f} GB free, but {what} may need {needed / 1e9:.1f} GB. Free some, or choose "
            "another disk with --output."
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        with open(path, "wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:  # torch's own writer reports a full disk as a RuntimeError
        shutil.rmtree(path.parent, ignore_errors=True)
        raise I0TError(
            f"{path}: cannot be written ({first_line(error)}). The states before it are whole: free some "
            "space and give the same command again."
        ) from None


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""`SavedStates`: states to resume a run from, written atomically; the newest are kept, damaged ones skipped.

A state is a folder `step-00000500` with `shared.pt` (weights, optimizer, step, best score), one
`process-0.pt` per process (its random state), and `sha256.json` with the SHA-256 of each of these. It is written
under another name and renamed when complete.
The learning rate and the order of the pairs are functions of the step and need no state.

`Accelerator.save_state` is not used: its `load_state` is silent if it cannot restore the random state, leaves
a model partly loaded if a later file is damaged, and it writes frozen encoders, too.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from i0t.errors import I0TError, first_line
from i0t.files import ensure_folder, file_sha256, sync_to_disk
from i0t.paths import say
from i0t.processes import from_main, gather

SHARED, PROCESS, DIGESTS = "shared.pt", "process-{}.pt", "sha256.json"
PREFIX, UNFINISHED = "step-", ".unfinished-"
# Raised for a file that is missing, truncated, changed, or another.
DAMAGED = (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError)


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
        own_name = PROCESS.format(self.accelerator.process_index)
        parts = {**({SHARED: shared} if main else {}), own_name: own}
        digests = gather([_write(unfinished / name, content) for name, content in parts.items()])
        if main:
            _write(unfinished / DIGESTS, dict(digests))
            sync_to_disk(unfinished)
            shutil.rmtree(self.path(step), ignore_errors=True)
            unfinished.replace(self.path(step))
            sync_to_disk(self.folder)
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
        own = PROCESS.format(self.accelerator.process_index)
        try:
            digests = json.loads((self.path(step) / DIGESTS).read_text())
            found = {name: _load(self.path(step) / name, digests[name]) for name in (SHARED, own) if name in digests}
            return (found[SHARED], found.get(own)), ""
        except DAMAGED as error:
            return None, first_line(error)

    def remove_unfinished(self) -> None:
        """Remove states that a killed run did not complete."""
        for left in self.folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

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


def _write(path: Path, content: dict[str, Any]) -> tuple[str, str]:
    """Write one file of a state; return its name and SHA-256."""
    try:
        if path.suffix == ".json":
            path.write_text(json.dumps(content))
        else:
            with open(path, "wb") as stream:  # torch does not report every failure of a file that it opens itself
                torch.save(content, stream)
        sync_to_disk(path)
        return path.name, file_sha256(path)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(path.parent, ignore_errors=True)
        # Torch's own writer hides a full disk behind a RuntimeError about positions.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = (isinstance(cause, OSError) and cause.strerror) or first_line(error)
        raise I0TError(
            f"{path}: cannot be written ({reason}). The states before it are whole: free some "
            "space and give the same command again."
        ) from None


def _load(path: Path, digest: str) -> dict[str, Any]:
    if file_sha256(path) != digest:
        raise ValueError(f"{path.name} is damaged: it is not what was written")
    return torch.load(path, map_location="cpu", weights_only=True)

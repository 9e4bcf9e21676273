"""`RunFiles`: name, checkpoints and states of one run, and their size on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from i0t.encoders.checkpoint import save_checkpoint, training_of
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import below, ensure_folder
from i0t.locks import only_writer
from i0t.paths import say
from i0t.processes import from_main
from i0t.training.accelerator import random_state, restore_random_state
from i0t.training.recipe import Recipe
from i0t.training.saved_states import SavedStates, require_space


class RunFiles:
    """The files that a run writes and resumes from.

    A run is identified by its recipe and by the fingerprints of its base and data (`inputs`). The main process
    writes checkpoints; each process writes its part of a state.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        inputs: dict[str, str],
        total_steps: int,
        encoder: Encoder,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
    ) -> None:
        self.folder, self.recipe, self.inputs, self.total_steps = ensure_folder(folder), recipe, inputs, total_steps
        self.encoder, self.optimizer, self.accelerator = encoder, optimizer, accelerator
        # A state has only what changes: not frozen encoders.
        heads = encoder.heads if recipe.trains == "heads" else None
        self._trained: torch.nn.Module = encoder if heads is None else heads
        name = recipe.run_name(*inputs.values())
        self.stem = below(folder, name)  # owner/name is in a subfolder
        ensure_folder(self.stem.parent)
        self.states = SavedStates(folder / "states" / name, recipe.keep_states, accelerator)
        self.last_path = self.stem.with_name(
            f"{self.stem.name}-last.safetensors"
        )  # the checkpoint of the last validated step
        self.best_path = self.stem.with_name(f"{self.stem.name}-best.safetensors")  # of the best validation R@1
        self.log_folder = folder / "runs" / name  # TensorBoard's
        # Part of every state.
        self.progress: dict[str, Any] = {"step": 0, "best": {}, "skipped": 0, "seconds": 0.0}

    @property
    def finished_summary(self) -> dict[str, Any] | None:
        """The training summary of this run, if it is finished."""
        summary = training_of(self.last_path)
        return summary if summary.get("step") == self.total_steps else None

    @contextmanager
    def only_run(self) -> Iterator[None]:
        """Keep other processes from the same run; what a killed one left is removed. All processes must call this.

        Raises:
            I0TError: it is under way; names the process, machine and time of its start.
        """
        with ExitStack() as held:
            problem = ""
            if self.accelerator.is_main_process:
                try:
                    held.enter_context(only_writer(self.stem, "Wait for it, or choose another --output."))
                    self.states.remove_unfinished()
                except I0TError as error:
                    problem = str(error)
            if problem := from_main(problem):
                raise I0TError(problem)
            yield

    def remove(self, checkpoints: bool) -> None:
        """Remove the states, and optionally the checkpoints; all processes must call this."""
        if self.accelerator.is_main_process:
            for path in (self.last_path, self.best_path) if checkpoints else ():
                path.unlink(missing_ok=True)
            self.states.clear()
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Resume from the newest state, if there is one."""
        found = self.states.load()
        if found is None:
            if self.last_path.is_file() and not training_of(self.last_path):
                say(f"{self.last_path}: damaged, so this run starts anew and will replace it.")
            return
        shared, own = found
        self._trained.load_state_dict(shared["weights"])
        self.optimizer.load_state_dict(shared["optimizer"])
        if self.accelerator.scaler and shared["scaler"]:
            self.accelerator.scaler.load_state_dict(shared["scaler"])
        self.progress = shared["progress"]
        if self.progress["best"] and not training_of(self.best_path):
            say(f"{self.best_path}: missing or damaged: the best checkpoint will be one of the steps to come.")
            self.progress["best"] = {}
        if own is not None and shared["processes"] == self.accelerator.num_processes:
            restore_random_state(own, self.accelerator.device)
        else:
            say(f"{shared['processes']} processes before, now {self.accelerator.num_processes}: dropout draws anew.")
        say(f"{self.recipe.name}: resumes after step {self.progress['step']} of {self.total_steps} (--fresh: anew)")

    def save_state(self) -> None:
        """Write a state to resume from; all processes must call this.

        Raises:
            I0TError: the disk is full.
        """
        require_space(self.folder, self._state_bytes, "the next state")
        scaler = self.accelerator.scaler
        shared = {
            "weights": self._trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
            "progress": self.progress,
            "processes": self.accelerator.num_processes,
        }
        self.states.save(self.progress["step"], shared, random_state(self.accelerator.device))

    def save_checkpoint(self, metrics: dict[str, float], n_validation: int) -> None:
        """Write the last checkpoint, and the best one if this is the best; only for the main process."""
        is_best = _score(metrics) > _score(self.progress["best"])
        if is_best:
            self.progress["best"] = metrics
        summary = {
            "recipe": self.recipe.model_dump(),
            "step": self.progress["step"],
            "total_steps": self.total_steps,
            "validation": metrics,
            "n_validation": n_validation,
            "seconds": round(self.progress["seconds"], 1),
            "skipped_pictures": self.progress["skipped"],
            "processes": self.accelerator.num_processes,
            "mixed_precision": self.accelerator.mixed_precision,
            "exif_orientation": "applied",  # photographs are turned upright, in validation, too
            **self.inputs,
        }
        self.encoder.training_summary = summary
        for path in [self.last_path] + [self.best_path] * is_best:
            save_checkpoint(path, self.encoder, summary)

    def require_space_for_run(self) -> None:
        """Check that the disk has space for the run.

        Raises:
            I0TError: it has not.
        """
        # A new state or checkpoint is complete before it replaces an old one.
        states = max(0, self.recipe.keep_states + 1 - len(self.states.steps()))
        checkpoints = 1 + sum(not path.is_file() for path in (self.last_path, self.best_path))
        require_space(self.folder, states * self._state_bytes + checkpoints * _bytes(self.encoder), "this run")

    @property
    def _state_bytes(self) -> int:
        trained = sum(p.numel() * p.element_size() for p in self.encoder.parameters() if p.requires_grad)
        return _bytes(self._trained) + 2 * trained  # AdamW keeps two moments


def _bytes(module: torch.nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())


def _score(metrics: dict[str, float]) -> float:
    return metrics["i2t_r1"] + metrics["t2i_r1"] if metrics else -1.0

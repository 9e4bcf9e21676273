"""`Trainer`: the training loop, with validation and saving."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from i0t.data.workers import ImagesInHand
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_pictures, encode_texts
from i0t.encoders.encoder import Encoder
from i0t.encoders.precision import Fetched
from i0t.errors import I0TError
from i0t.gap import centroid_distance
from i0t.metrics import retrieval_metrics
from i0t.training.accelerator import require_even_batch, summed
from i0t.training.batches import BatchOptions, PairSource, ValidationPairs, readable
from i0t.training.model_setup import (
    build_objective,
    build_optimizer,
    freeze,
    needs_short_captions,
    prepare_encoder,
    set_train_mode,
    warmup_cosine,
)
from i0t.training.progress import ProgressLog, stop_signal
from i0t.training.recipe import Recipe
from i0t.training.run_files import RunFiles
from i0t.training.step import TrainingStep

LARGEST_LOGIT_SCALE = 100.0  # CLIP's own limit; beyond it training becomes unstable
Numbers = tuple[list[str], Fetched]  # names and values of a step's numbers


class Trainer:
    """Train an encoder with a recipe, resuming an earlier run; one object per process.

    Args:
        encoder: the base; changed in place.
        recipe: see `Recipe`.
        source: training pairs.
        validation_pairs: held-out pairs.
        folder: for checkpoints, states and TensorBoard logs.
        accelerator: processes and precision.
        workers: decoding processes.
        skip_unreadable: replace pairs with unreadable images by other pairs.

    Raises:
        I0TError: the folder cannot be written, or there are fewer pairs than a batch.
    """

    def __init__(
        self,
        encoder: Encoder,
        recipe: Recipe,
        source: PairSource,
        validation_pairs: ValidationPairs,
        folder: Path,
        accelerator: Accelerator,
        workers: int = 0,
        skip_unreadable: bool = False,
    ) -> None:
        self.recipe, self.source, self.validation_pairs = recipe, source, validation_pairs
        self.accelerator, self.workers, self.skip_unreadable = accelerator, workers, skip_unreadable
        require_even_batch(recipe.batch_size, accelerator)
        if len(source) < recipe.batch_size:
            raise I0TError(
                f"{len(source)} training pairs are fewer than a batch of {recipe.batch_size}. "
                f"Use batch_size={max(2, len(source) // 2)} or more data."
            )
        self.total_steps = recipe.steps or recipe.epochs * (len(source) // recipe.batch_size)
        inputs = {"base_fingerprint": encoder.fingerprint, "data_digest": source.digest}
        prepare_encoder(encoder, recipe)
        self.encoder = encoder.to(accelerator.device)
        self.parameters = freeze(encoder, recipe)
        self.optimizer = accelerator.prepare_optimizer(build_optimizer(encoder, self.parameters, recipe))
        self.objective = build_objective(recipe)
        self.training_step = TrainingStep(encoder, self.objective, accelerator, recipe.views, recipe.chunk_size)
        self.stopped_by: int | None = None  # the signal that stopped `run` before the last step
        self.files = RunFiles(folder, recipe, inputs, self.total_steps, encoder, self.optimizer, accelerator)

    def run(self) -> dict[str, Any] | None:
        """Train from the newest state, validate and save.

        Returns:
            The training summary, as in the checkpoint; None if a signal stopped the run before the last step, see
            `stopped_by`.

        Raises:
            I0TError: a loss that is not finite, an unreadable image, a full disk.
        """
        self.files.resume()
        self.files.require_space_for_run()
        if not self._train():
            return None
        self.accelerator.wait_for_everyone()
        self.files.remove(checkpoints=False)  # a finished run needs no states
        return self.files.finished_summary

    def validate(self) -> dict[str, float]:
        """R@1 in both directions and centroid distance of the validation set, in the recipe's precision."""
        pairs = self.validation_pairs
        options = EncodeOptions(
            128, self.workers, self.recipe.precision, self.skip_unreadable, cache=False, progress=False, upright=True
        )
        with torch.random.fork_rng(devices=[]):  # only one process validates, and a loader changes the random state
            found = encode_pictures(self.encoder, pairs.images, options)
            images = found.features
            texts = encode_texts(self.encoder, [pairs.captions[row] for row in found.kept], options).features
        metrics = retrieval_metrics(images, texts, torch.arange(len(images)).numpy())
        return {
            "i2t_r1": metrics["i2t_r1"],
            "t2i_r1": metrics["t2i_r1"],
            "centroid_distance": centroid_distance(images, texts),
        }

    def _train(self) -> bool:
        """Run the remaining steps; False if a signal stopped them before the last."""
        options = self._batch_options(self.files.progress["step"])
        with stop_signal() as stop, options.in_hand.explained():
            return self._train_on(readable(self.source.batches(options)), stop)

    def _train_on(self, batches: Iterator[dict[str, Any]], stop: SimpleNamespace) -> bool:
        first, recipe, files = self.files.progress["step"], self.recipe, self.files
        self._began = time.perf_counter() - files.progress["seconds"]
        set_train_mode(self.encoder, recipe)
        shown = self.accelerator.is_main_process
        log = ProgressLog(files.log_folder, recipe.name, first, self.total_steps, recipe.batch_size, shown)
        with log as self.log:
            before = None  # numbers of the step before
            for step in range(first + 1, self.total_steps + 1):
                numbers = self._step(step, next(batches), stop)
                stopping = self._read(step - 1, before)
                validating, saving = self._due(step, recipe.validate_every), self._due(step, recipe.save_every)
                before = numbers
                if not (stopping or validating or saving):
                    continue
                stopping, before = self._read(step, numbers) or stopping, None
                self.source.check()
                if validating:
                    self._validate_and_save()
                if step < self.total_steps and (saving or stopping):
                    files.save_state()
                    if stopping:
                        self.stopped_by = stop.received or signal.SIGTERM  # which another process got
                        return False
        return True

    def _step(self, step: int, batch: dict[str, Any], stop: SimpleNamespace) -> Numbers:
        """Launch one step.

        Its numbers are read after the next step was launched. Nothing here may wait for the GPU: launching a
        step takes about as long as computing it.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.training_step(batch["pixels"], batch["tokens"])
        norm = self._clipped_norm()
        self.optimizer.step()
        scale = self.encoder.log_scale
        if self.recipe.trains != "heads":  # SigLIP's own is larger, and is to stay
            with torch.no_grad():
                scale.clamp_(max=math.log(LARGEST_LOGIT_SCALE))
        stops, skipped = summed([int(stop.received is not None), len(batch["errors"])], self.accelerator)
        numbers = {"loss": torch.stack(list(losses.values())).sum(), **losses, "grad_norm": norm}
        numbers |= {"logit_scale": scale.exp().reshape(()), "stops": stops, "skipped": skipped}
        return list(numbers), Fetched(torch.stack([value.detach().float() for value in numbers.values()]))

    def _rate(self, step: int) -> float:
        return self.recipe.learning_rate * warmup_cosine(step - 1, self.recipe.warmup_steps, self.total_steps)

    def _clipped_norm(self) -> torch.Tensor:
        """Return the norm of the gradient, a scalar; clip the gradient if the recipe says so."""
        self.accelerator.unscale_gradients(self.optimizer)
        limit = self.recipe.max_grad_norm
        if limit is not None:
            return nn.utils.clip_grad_norm_(self.parameters, limit)
        return nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    def _read(self, step: int, numbers: Numbers | None) -> bool:
        """Wait for a step's numbers, check and show them; return whether a process got SIGTERM."""
        if numbers is None:
            return False
        values = dict(zip(numbers[0], numbers[1].wait().tolist(), strict=True))
        # fp16 overflows until its loss scale is small enough; accelerate skips such steps.
        if not (math.isfinite(values["loss"]) and (math.isfinite(values["grad_norm"]) or self.accelerator.scaler)):
            last = self.files.last_path if self.files.last_path.is_file() else "none yet"
            raise I0TError(
                f"recipe {self.recipe.name}: the loss is {values['loss']} and the gradient's norm "
                f"{values['grad_norm']} at step {step}. Lower learning_rate; the last good checkpoint is "
                f"{self.files.states.newest or last}."
            )
        stopping = values.pop("stops") > 0
        self.files.progress["skipped"] += int(values.pop("skipped"))
        self.files.progress["step"] = step
        self.log.step(step, {**values, "learning_rate": self._rate(step)})
        return stopping

    def _validate_and_save(self) -> None:
        progress = self.files.progress
        if self.accelerator.is_main_process:
            metrics = self.validate()
            progress["seconds"] = time.perf_counter() - self._began
            self.log.scalars(progress["step"], metrics, "validation/")
            self.files.save_checkpoint(metrics, len(self.validation_pairs))
        set_train_mode(self.encoder, self.recipe)

    def _due(self, step: int, every: int) -> bool:
        return step == self.total_steps or (every > 0 and step % every == 0)

    def _batch_options(self, first: int) -> BatchOptions:
        return BatchOptions(
            preprocess=self.encoder.preprocess,
            tokenize=self.encoder.tokenize,
            short_captions=needs_short_captions(self.objective),
            batch_size=self.recipe.batch_size,
            first_step=first,
            total_steps=self.total_steps,
            seed=self.recipe.seed,
            workers=self.workers,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            skip_unreadable=self.skip_unreadable,
            in_hand=ImagesInHand(self.workers),
        )

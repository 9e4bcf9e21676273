"""The same numbers by another way: on the card as on the CPU, in chunks as undivided, resumed as undisturbed."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.cuda_project import (
    DTYPES,
    MODEL,
    ONE_VIEW,
    TINY,
    Check,
    Setting,
    apart,
    flat,
    new_encoder,
    new_trainer,
    sample_batch,
    sample_pairs,
    sample_source,
)
from benchmarks.cuda_training import VIEWS, cyclip

CPU = torch.device("cpu")
VECTOR_BOUNDS = {"fp32": 1e-5, "bf16": 1e-3, "fp16": 1e-3}
# Of a step, relative: its loss, its gradient, what AdamW makes of that. Where a gradient is nearly 0, rounding
# decides its sign, and AdamW's first update is all sign: hence the wide bounds of the last.
STEP_BOUNDS = {"fp32": (1e-4, 2e-3, 0.05), "bf16": (1e-2, 0.05, 0.3), "fp16": (1e-2, 0.05, 0.3)}
# Of chunks, relative: loss and gradient. Against one graph the products are the same, and only their sums differ.
CHUNK_BOUNDS = {"fp32": (1e-5, 1e-4), "bf16": (1e-2, 0.05), "fp16": (1e-2, 0.05)}
ONE_GRAPH_BOUNDS = {"fp32": (1e-5, 1e-4), "bf16": (1e-3, 0.02)}
SCALER_TRIES = 24  # fp16 begins with a loss scale of 65536 and halves it until nothing overflows


@dataclass
class Step:
    """One step of training: total loss, gradient and change of all trained weights, one after another."""

    loss: float
    gradient: torch.Tensor
    update: torch.Tensor


def vectors(setting: Setting, precision: str) -> list[Check]:
    """Embeddings of the card against those of the CPU in fp32."""
    found = _encoded(setting, setting.device, precision)
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        plain = _encoded(setting, setting.device, precision)
    finally:
        torch.backends.cudnn.allow_tf32 = before
    checks = []
    for kind, ours, without, theirs in zip(("image", "text"), found, plain, _reference(setting), strict=True):
        largest, spread = float((ours - theirs).abs().max()), float((ours - theirs).square().mean(1).sqrt().max())
        cosine = float((1 - (ours * theirs).sum(1)).max())
        details = {"largest_entry": largest, "root_mean_square": spread, "one_minus_cosine": cosine}
        details["largest_entry_without_tf32"] = float((without - theirs).abs().max())
        note = f"largest entry {largest:.1e} (without TF32 {details['largest_entry_without_tf32']:.1e}), "
        measure = "largest entry" if precision == "fp32" else "worst vector's r.m.s."
        what, measured = f"{kind} embeddings, {precision} / CPU fp32: {measure}", spread
        if precision == "fp32":
            measured = largest
        checks.append(Check(what, measured, VECTOR_BOUNDS[precision], f"{note}1 - cosine {cosine:.1e}", details))
    return checks


def one_step(setting: Setting, precision: str) -> list[Check]:
    """Loss, gradient and AdamW's update of one step on the card against the CPU in fp32."""
    count = _step_size(setting)
    ours, theirs = _step(setting, setting.device, precision, count), _cpu_step(setting, count)
    what, bounds = f"one step of {count} pairs, {precision} / CPU fp32", STEP_BOUNDS[precision]
    return [
        *_compared(what, ours, theirs, bounds),
        Check(f"{what}: AdamW's update", apart(ours.update, theirs.update), bounds[2], "relative length of difference"),
    ]


def chunks(setting: Setting, precision: str) -> list[Check]:
    """A batch in four chunks against the undivided one, without dropout."""
    count = _step_size(setting)
    parts, whole = (_step(setting, setting.device, precision, count, size) for size in (count // 4, None))
    what = f"{count} pairs in chunks of {count // 4} / undivided, {precision}"
    return _compared(what, parts, whole, CHUNK_BOUNDS[precision])


def chunks_with_dropout(setting: Setting, precision: str) -> list[Check]:
    """Recipe lccom in chunks against one graph over the very same chunks: its second pass repeats the dropout."""
    count = _step_size(setting)
    size = count // 4
    trainer = new_trainer(setting, sample_source(setting), precision, batch_size=count, chunk_size=size, steps=9)
    encoder, parameters = trainer.encoder.train(), trainer.parameters
    pixels, tokens = (part.to(setting.device) for part in sample_batch(setting, count))
    torch.manual_seed(1)
    losses = trainer.training_step(pixels, (tokens,))
    ours = _noted(losses, parameters)
    encoder.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    parts = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        with torch.autocast(setting.device.type, DTYPES[precision], enabled=precision != "fp32"):
            features = encoder(pixels[rows].repeat(VIEWS, 1, 1, 1), tokens[rows].repeat(VIEWS, 1))
        parts.append([part.unflatten(0, (VIEWS, -1)) for part in features])
    images, texts = (torch.cat(kind, dim=1) for kind in zip(*parts, strict=True))  # (views, count, D)
    pairs = [(one, other) for one in images for other in texts]
    loss = torch.stack([cyclip(one, other, encoder.logit_scale) for one, other in pairs]).mean()
    loss.backward()
    what = f"{count} pairs, two dropout views, chunks of {size} / one graph, {precision}"
    return _compared(what, ours, _noted({"loss": loss}, parameters), ONE_GRAPH_BOUNDS[precision])


def resumed(setting: Setting, precision: str, deterministic: bool) -> list[Check]:
    """A run that SIGTERM stopped and the same command went on with, against runs that nothing disturbed."""
    how = "deterministic kernels" if deterministic else "kernels as they are"
    what = f"stopped and resumed / undisturbed, {precision}, {how}"
    with _deterministic(deterministic):
        start, first = _run(setting, precision)
        _, stopped = _run(setting, precision, stop_at=4)
        again = first if deterministic else _run(setting, precision)[1]
    moved = float((first - start).norm())
    if not moved > 0:
        raise RuntimeError(f"training moved the weights by {moved}: nothing is shown by their being equal")
    largest, difference = float((stopped - first).abs().max()), float((stopped - first).norm()) / moved
    details = {"largest_difference": largest, "relative_to_training": difference}
    if deterministic:
        differ = int((stopped != first).sum())
        note = f"{len(first):,} weights, all moved by {moved:.1e}"
        return [Check(f"{what}: weights that differ", differ, 0, note, details)]
    repeated = float((again - first).norm()) / moved
    details["two_undisturbed_runs"] = repeated
    same = "bitwise equal" if largest == 0 else f"largest difference {largest:.1e}"
    note = f"{same}; two undisturbed runs differ by {repeated:.1e}, three times that is the bound"
    return [Check(f"{what}: difference / training's own", difference, 3 * repeated, note, details)]


@dataclass(frozen=True)
class StoppedSource:
    """The sample's pairs; SIGTERM comes with a certain step's batch."""

    pairs: Any
    stop_at: int | None

    @property
    def digest(self) -> str:
        """That of the pairs: the same run."""
        return self.pairs.digest

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def batches(self, feed: Any) -> Iterator[dict[str, Any]]:
        """Those of the pairs."""
        for step, batch in enumerate(self.pairs.batches(feed), start=feed.first_step + 1):
            if step == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def _run(setting: Setting, precision: str, stop_at: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights before and after a run; with `stop_at` it is stopped there and resumed."""
    folder = Path(tempfile.mkdtemp(dir=setting.folder))
    values = {"batch_size": 16, "steps": 8, "warmup_steps": 1, "learning_rate": 1e-4}
    before, finished = torch.empty(0), False
    for stop in [stop_at, None] if stop_at else [None]:
        source = StoppedSource(sample_source(setting), stop)
        model = TINY if setting.quick or setting.tiny else MODEL
        trainer = new_trainer(setting, source, precision, folder=folder, model=model, **values)
        torch.manual_seed(2)  # of dropout; a resumed run takes it from its state instead
        before = flat(trainer.parameters, trainer.parameters)
        finished = trainer.run() is not None
        if finished is (stop is not None):
            raise RuntimeError(f"the run was to {'stop' if stop else 'finish'} and did not")
    shutil.rmtree(folder)
    return before, flat(trainer.parameters, trainer.parameters)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _encoded(setting: Setting, device: torch.device, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    encoder, pairs = new_encoder(setting.model).to(device), sample_pairs(setting, "validation")
    images = encoder.encode_images(pairs.images, 16, setting.workers, precision=precision)
    return images, encoder.encode_texts(list(pairs.captions), 16, precision=precision)


@cache
def _reference(setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    return _encoded(setting, CPU, "fp32")


def _step_size(setting: Setting) -> int:
    return setting.size(32, 16, 8)


@cache
def _cpu_step(setting: Setting, count: int) -> Step:
    return _step(setting, CPU, "fp32", count)


def _step(setting: Setting, device: torch.device, precision: str, count: int, chunk: int | None = None) -> Step:
    """The first step from the same weights on the sample's first pairs, one view and no dropout."""
    values = {"batch_size": count, "chunk_size": chunk, "steps": 1000, "learning_rate": 1e-3, **ONE_VIEW}
    trainer = new_trainer(setting, sample_source(setting), precision, device, **values)
    trainer.encoder.train()
    parameters = trainer.parameters
    before = flat(parameters, parameters)
    pixels, tokens = (part.to(device) for part in sample_batch(setting, count))
    for _ in range(SCALER_TRIES):  # in fp16 a step that overflows is left out
        trainer.optimizer.zero_grad(set_to_none=True)
        losses = trainer.training_step(pixels, (tokens,))
        trainer.accelerator.unscale_gradients(trainer.optimizer)
        step = _noted(losses, parameters)
        trainer.optimizer.step()
        if step.gradient.isfinite().all():
            break
    step.update = flat(parameters, parameters) - before
    return step


def _noted(losses: dict[str, torch.Tensor], parameters: list[torch.nn.Parameter]) -> Step:
    gradient = flat([parameter.grad for parameter in parameters], parameters)
    return Step(sum(float(loss.detach()) for loss in losses.values()), gradient, torch.empty(0))


def _compared(what: str, ours: Step, theirs: Step, bounds: tuple[float, ...]) -> list[Check]:
    losses = f"{ours.loss:.6f} and {theirs.loss:.6f}"
    return [
        Check(f"{what}: loss", abs(ours.loss - theirs.loss) / abs(theirs.loss), bounds[0], losses),
        Check(f"{what}: gradient", apart(ours.gradient, theirs.gradient), bounds[1], "relative length of difference"),
    ]

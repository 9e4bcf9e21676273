"""Agreement: card and CPU, chunks and undivided batches, resumed and uninterrupted runs."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks import cuda_setup as setup
from benchmarks.cuda_setup import VIEWS, Check, Setting, flat
from i0t.training.batches import BatchOptions, DiskPairs

CPU = torch.device("cpu")
VECTOR_BOUNDS = {"fp32": 1e-5, "bf16": 1e-3, "fp16": 1e-3}
# Of a step, relative: loss, gradient, AdamW's update. If a gradient is nearly 0, rounding decides its sign, and
# AdamW's first update depends only on the sign: hence the wide bounds of the update.
STEP_BOUNDS = {"fp32": (1e-4, 2e-3, 0.05), "bf16": (1e-2, 0.05, 0.3), "fp16": (1e-2, 0.05, 0.3)}
# Of chunks, relative: loss and gradient. Compared with one graph, only the order of sums differs.
CHUNK_BOUNDS = {"fp32": (1e-5, 1e-4), "bf16": (1e-2, 0.05), "fp16": (1e-2, 0.05)}
ONE_GRAPH_BOUNDS = {"fp32": (1e-5, 1e-4), "bf16": (1e-3, 0.02)}
SCALER_TRIES = 24  # fp16 starts with a loss scale of 65536 and halves it until nothing overflows
Step = tuple[torch.Tensor, ...]  # total loss; gradient and update of all trained weights, flat


def vectors(setting: Setting, precision: str) -> list[Check]:
    """Compare embeddings of the card with those of the CPU in fp32."""
    checks = []
    found, reference = _encoded(setting, setting.device, precision), _encoded(setting, CPU, "fp32")
    for kind, ours, theirs in zip(("image", "text"), found, reference, strict=True):
        largest, spread = float((ours - theirs).abs().max()), float((ours - theirs).square().mean(1).sqrt().max())
        measure, measured = ("largest entry", largest) if precision == "fp32" else ("worst vector's r.m.s.", spread)
        note = f"largest entry {largest:.1e}, 1 - cosine {float((1 - (ours * theirs).sum(1)).max()):.1e}"
        what = f"{kind} embeddings, {precision} / CPU fp32: {measure}"
        checks.append(Check(what, measured, VECTOR_BOUNDS[precision], note))
    return checks


def one_step(setting: Setting, precision: str) -> list[Check]:
    """Compare loss, gradient and AdamW's update of one step with the CPU in fp32."""
    count = setting.size(32, 8)
    ours, theirs = _step(setting, setting.device, precision), _step(setting, CPU, "fp32")
    return _compared(f"one step of {count} pairs, {precision} / CPU fp32", ours, theirs, STEP_BOUNDS[precision])


def chunks(setting: Setting, precision: str) -> list[Check]:
    """Compare a batch in four chunks with the undivided batch, without dropout."""
    count = setting.size(32, 8)
    parts, whole = (_step(setting, setting.device, precision, size) for size in (count // 4, None))
    what = f"{count} pairs in chunks of {count // 4} / undivided, {precision}"
    return _compared(what, parts, whole, CHUNK_BOUNDS[precision])


def chunks_with_dropout(setting: Setting, precision: str) -> list[Check]:
    """Compare recipe lccom in chunks with one graph over the same chunks: the second pass must repeat the dropout."""
    count = setting.size(32, 8)
    size = count // 4
    trainer = setup.new_trainer(setting, precision, batch_size=count, chunk_size=size, steps=9)
    encoder, parameters = trainer.encoder.train(), trainer.parameters
    pixels, tokens = setup.sample_batch(setting, count)
    torch.manual_seed(1)
    ours = _noted(trainer.training_step(pixels, (tokens,)), parameters)
    encoder.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    parts = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        with setting.autocast(precision):
            features = encoder(pixels[rows].repeat(VIEWS, 1, 1, 1).to(setting.device), tokens[rows].repeat(VIEWS, 1))
        parts.append([part.unflatten(0, (VIEWS, -1)) for part in features])
    images, texts = (torch.cat(kind, dim=1) for kind in zip(*parts, strict=True))  # (views, count, D)
    loss = setup.cyclip(images, texts, encoder.logit_scale)
    loss.backward()
    what = f"{count} pairs, two dropout views, chunks of {size} / one graph, {precision}"
    return _compared(what, ours, _noted({"loss": loss}, parameters), ONE_GRAPH_BOUNDS[precision])


def resumed(setting: Setting, precision: str, deterministic: bool) -> list[Check]:
    """Compare a run that was stopped by SIGTERM and resumed with uninterrupted runs."""
    torch.use_deterministic_algorithms(deterministic)
    try:
        start, first = _run(setting, precision)
        _, stopped = _run(setting, precision, stop_at=4)
        again = first if deterministic else _run(setting, precision)[1]
    finally:
        torch.use_deterministic_algorithms(False)
    moved, largest = float((first - start).norm()), float((stopped - first).abs().max())
    if not moved > 0:
        raise RuntimeError(f"training moved the weights by {moved}: so their equality shows nothing")
    what = f"stopped and resumed / undisturbed, {precision}, "
    if deterministic:
        note = f"{len(first):,} weights, all moved by {moved:.1e}"
        return [Check(f"{what}deterministic kernels: weights that differ", int((stopped != first).sum()), 0, note)]
    difference, repeated = (float((other - first).norm()) / moved for other in (stopped, again))
    same = "bitwise equal" if largest == 0 else f"largest difference {largest:.1e}"
    note = f"{same}; two undisturbed runs differ by {repeated:.1e}, three times that is the bound"
    return [Check(f"{what}kernels as they are: difference / training's own", difference, 3 * repeated, note)]


class StoppedPairs(DiskPairs):
    """The sample's pairs; SIGTERM is sent with the batch of step `stop_at`."""

    stop_at: int | None = None

    def batches(self, options: BatchOptions) -> Iterator[dict[str, Any]]:
        """Yield the batches of the pairs."""
        for step, batch in enumerate(super().batches(options), start=options.first_step + 1):
            if step == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def _run(setting: Setting, precision: str, stop_at: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights before and after a run; with `stop_at`, it is stopped there and resumed."""
    folder, before = Path(tempfile.mkdtemp(dir=setting.roots.data_dir)), torch.empty(0)
    values = {"batch_size": 16, "steps": 8, "warmup_steps": 1, "learning_rate": 1e-4, "folder": folder}
    for stop in [stop_at, None] if stop_at else [None]:
        source = StoppedPairs(setup.sample_pairs(setting, "train"))
        source.stop_at = stop
        trainer = setup.new_trainer(setting, precision, source, **values)
        torch.manual_seed(2)  # of dropout; a resumed run gets it from its state
        before = flat(trainer.parameters, trainer.parameters)
        if (trainer.run() is None) is (stop is None):
            raise RuntimeError(f"the run was to {'stop' if stop else 'finish'} and did not")
    shutil.rmtree(folder)
    return before, flat(trainer.parameters, trainer.parameters)


@cache
def _encoded(setting: Setting, device: torch.device, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    encoder, pairs = copy.deepcopy(setup.base(setting.model)).to(device), setup.sample_pairs(setting, "validation")
    images = encoder.encode_images(pairs.images, 16, setting.workers, precision=precision)
    return images, encoder.encode_texts(list(pairs.captions), 16, precision=precision)


@cache
def _step(setting: Setting, device: torch.device, precision: str, chunk: int | None = None) -> Step:
    """Compute loss, gradient and update of the first step on the first pairs, with one view and no dropout."""
    count = setting.size(32, 8)
    chance = {"views": 1, "attention_dropout": 0}
    values = {"batch_size": count, "chunk_size": chunk, "steps": 1000, "learning_rate": 1e-3, **chance}
    trainer = setup.new_trainer(setting, precision, device=device, **values)
    trainer.encoder.train()
    before = flat(trainer.parameters, trainer.parameters)
    pixels, tokens = setup.sample_batch(setting, count)
    for _ in range(SCALER_TRIES):  # in fp16, steps that overflow are skipped
        trainer.optimizer.zero_grad(set_to_none=True)
        losses = trainer.training_step(pixels, (tokens,))
        trainer.accelerator.unscale_gradients(trainer.optimizer)
        loss, gradient = _noted(losses, trainer.parameters)
        trainer.optimizer.step()
        if gradient.isfinite().all():
            break
    return loss, gradient, flat(trainer.parameters, trainer.parameters) - before


def _noted(losses: dict[str, torch.Tensor], parameters: list[torch.nn.Parameter]) -> Step:
    gradient = flat([parameter.grad for parameter in parameters], parameters)
    return torch.stack(list(losses.values())).detach().double().sum().cpu(), gradient


def _compared(what: str, ours: Step, theirs: Step, bounds: tuple[float, ...]) -> list[Check]:
    checks = []
    for name, one, other, bound in zip(("loss", "gradient", "AdamW's update"), ours, theirs, bounds):
        note = f"{one:.6f} and {other:.6f}" if name == "loss" else "relative length of difference"
        checks.append(Check(f"{what}: {name}", float((one - other).norm() / other.norm()), bound, note))
    return checks

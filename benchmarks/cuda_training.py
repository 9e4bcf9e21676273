"""Stage 1 on a card: seconds and memory of a step beside a bare loop of open_clip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.cuda_project import DTYPES, Check, Setting, bare_model, configuration, new_trainer
from i0t.encoders.encoder import END_OF_TEXT

VIEWS, DROPOUT = 2, 0.1  # of recipe lccom
# Dense bf16 and fp16 with fp32 accumulation, from the maker's data sheets; the first name that fits counts.
PEAK_FLOPS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
SLOWER, LARGER = 1.05, 1.10  # what our step may take, as a multiple of the bare loop's seconds and memory


class Enough(Exception):  # noqa: N818 (no error: the measurement is complete)
    """Ends a trainer's run when its steps have been timed."""


class BareLoop:
    """Plain open_clip: forward of both views under autocast, the recipe's loss, backward, AdamW."""

    def __init__(self, setting: Setting, tokens: int, precision: str) -> None:
        self.device, self.precision = setting.device, precision
        self.model = bare_model(setting.model, tokens, DROPOUT, setting.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=1e-2, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")

    def step(self, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
        """One step, launched and not waited for."""
        pixels = pixels.to(self.device, non_blocking=True).repeat(VIEWS, 1, 1, 1)
        tokens = tokens.to(self.device, non_blocking=True).repeat(VIEWS, 1)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            images = self.model.encode_image(pixels)
            texts = self.model.encode_text(tokens)
        images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
        self.scaler.scale(self.loss(images, texts)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def loss(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """CyCLIP's over all four pairs of views."""
        scale = self.model.logit_scale.exp()
        pairs = [(one, other) for one in images.chunk(VIEWS) for other in texts.chunk(VIEWS)]
        return torch.stack([cyclip(one, other, scale) for one, other in pairs]).mean()


def cyclip(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """L_CLIP + 0.25 L_I-cyclic + 0.25 L_C-cyclic."""
    cosines, targets = images @ texts.T, torch.arange(len(images), device=images.device)
    in_modal = (images @ images.T - texts @ texts.T).square().mean() * len(images)
    cross_modal = (cosines - cosines.T).square().mean() * len(images)
    clip = (F.cross_entropy(scale * cosines, targets) + F.cross_entropy(scale * cosines.T, targets)) / 2
    return clip + 0.25 * in_modal + 0.25 * cross_modal


@dataclass
class Stopwatch:
    """One batch for ever, as a trainer's source: times blocks of its steps, and of bare ones after each.

    Attributes:
        ours, theirs: seconds a step, block by block; a first block of each is not counted.
        memory: peak bytes of ours and of the bare loop, each without the other.
    """

    setting: Setting
    batch: int
    tokens: int
    precision: str
    block: int
    rounds: int
    digest: str = "benchmark"
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Pairs of an epoch."""
        return self.batch

    def batches(self, feed: Any) -> Iterator[dict[str, Any]]:
        """The same batch again and again, until all is measured."""
        pixels, tokens = self._pair()
        bare, held = None, 0
        for number in range(self.rounds + 1):
            self._begin()
            for _ in range(self.block):
                yield {"pixels": pixels, "tokens": (tokens,), "errors": [], "lost": False}
            ours = self._end(0)
            if bare is None:
                held = self._allocated()
                bare = BareLoop(self.setting, self.tokens, self.precision)
            self._begin()
            for _ in range(self.block):
                bare.step(pixels, tokens[:, : self.tokens])
            theirs = self._end(held)
            if number:
                self.ours.append(ours)
                self.theirs.append(theirs)
        raise Enough

    def _pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        side = configuration(self.setting.model)["vision_cfg"]["image_size"]
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(self.batch, 3, side, side, generator=generator)
        tokens = torch.randint(1, 40_000, (self.batch, 248), generator=generator)
        tokens[:, self.tokens - 1], tokens[:, self.tokens :] = END_OF_TEXT, 0
        return (pixels.pin_memory(), tokens.pin_memory()) if self.setting.device.type == "cuda" else (pixels, tokens)

    def _begin(self) -> None:
        self.setting.wait()
        if self.setting.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.setting.device)
        self._started = time.perf_counter()

    def _end(self, held: int) -> float:
        self.setting.wait()
        seconds = (time.perf_counter() - self._started) / self.block
        if len(self.memory) < 2 and self.setting.device.type == "cuda":
            self.memory.append(torch.cuda.max_memory_allocated(self.setting.device) - held)
        return seconds

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated(self.setting.device) if self.setting.device.type == "cuda" else 0


def throughput(setting: Setting, batch: int, tokens: int, precision: str) -> list[Check]:
    """Seconds and memory of our step, as multiples of the bare loop's."""
    block, rounds = setting.size(8, 5, 1), setting.size(4, 3, 1)
    watch = Stopwatch(setting, batch, tokens, precision, block, rounds)
    trainer = new_trainer(setting, watch, precision, batch_size=batch, steps=1000)
    with suppress(Enough):
        trainer.run()
    seconds, bare = median(watch.ours), median(watch.theirs)
    ratios = [one / other for one, other in zip(watch.ours, watch.theirs, strict=True)]
    details = {"images_per_second": batch / seconds, "bare_images_per_second": batch / bare, "ratios": ratios}
    details |= {"seconds": seconds, "flops_per_step": batch * VIEWS * pair_flops(setting.model, tokens)}
    note = f"{batch / seconds:.0f} images/s"
    peak = peak_flops(setting.device)
    if peak:
        details["model_flops_utilisation"] = details["flops_per_step"] / seconds / peak
        details["bare_model_flops_utilisation"] = details["flops_per_step"] / bare / peak
        note += f", MFU {details['model_flops_utilisation']:.0%}"
    what = f"stage-1 step, batch {batch}, {tokens} tokens, {precision}"
    note += f"; rounds {min(ratios):.2f}-{max(ratios):.2f}"
    checks = [Check(f"{what}: seconds / bare loop", median(ratios), SLOWER, note, details)]
    if watch.memory:
        own, others = watch.memory
        note = f"peak {own / 1e9:.1f} GB, bare {others / 1e9:.1f} GB"
        memory = {"peak_bytes": own, "bare_peak_bytes": others}
        checks.append(Check(f"{what}: memory / bare loop", own / others, LARGER, note, memory))
    return checks


def pair_flops(model: str, tokens: int) -> float:
    """Floating-point operations of a picture and its text, forward and backward.

    A multiply-add counts as two, backward as twice forward. A layer of width W over L positions has
    24 L W^2 (projections and MLP) and 4 L^2 W (attention, the causal half not taken off); patches and
    output projections are added. Normalisation, softmax, loss and optimizer are left out.
    """
    config = configuration(model)
    vision, text = config["vision_cfg"], config["text_cfg"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    forward = 2 * 3 * vision["patch_size"] ** 2 * vision["width"] * patches
    for tower, length in ((vision, patches + 1), (text, tokens)):
        width = tower["width"]
        forward += tower["layers"] * (24 * length * width**2 + 4 * length**2 * width) + 2 * width * config["embed_dim"]
    return 3.0 * forward


def peak_flops(device: torch.device) -> float | None:
    """What the card could do at most in bf16 and fp16; None where that is not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((flops for card, flops in PEAK_FLOPS.items() if card in name), None)

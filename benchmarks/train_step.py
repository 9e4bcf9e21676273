"""A step of stage 1 against a bare loop of open_clip: forward, the same loss, backward, AdamW.

    python benchmarks/train_step.py               # ViT-B/32, 248 tokens, batch 8, recipe lcco
    python benchmarks/train_step.py --batch 64    # on a GPU: bf16, with images/s and model FLOPs utilisation

Both run in turn in one process on the same batch: when the trainer needs a batch, its source measures the time since
the last batch, then runs a bare step. The ratio is the median over the rounds. Captions have two lengths: all 248
tokens, and 100, about ShareGPT4V's mean, where cutting a batch to its longest caption saves time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # may be run as a file

import torch
from PIL import Image
from tabulate import tabulate
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.row import Row
from i0t.cli import Parser, positive, program
from i0t.encoders import load_encoder
from i0t.encoders.openclip import set_context_length
from i0t.encoders.precision import autocast
from i0t.encoders.tokenizers import END_OF_TEXT
from i0t.training.accelerator import make_accelerator
from i0t.training.batches import BatchOptions, ValidationPairs
from i0t.training.loop import Trainer
from i0t.training.recipe import load_recipe

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16, from the data sheets


class BareLoop:
    """Forward, CyCLIP's loss, backward and AdamW, and nothing else."""

    def __init__(self, architecture: str, context_length: int, device: torch.device) -> None:
        encoder = load_encoder(architecture)
        set_context_length(encoder, context_length)
        self.model, self.device = encoder.model.to(device).train(), device
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=1e-2, fused=True)

    def loss(self, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """L_CLIP + 0.25 L_I-cyclic + 0.25 L_C-cyclic."""
        with autocast(self.device):
            images = F.normalize(self.model.encode_image(pixels).float(), dim=-1)
            texts = F.normalize(self.model.encode_text(tokens).float(), dim=-1)
        cosines, targets = images @ texts.T, torch.arange(len(pixels), device=self.device)
        logits = self.model.logit_scale.exp() * cosines
        in_modal = (images @ images.T - texts @ texts.T).square().mean() * len(pixels)
        cross_modal = (cosines - cosines.T).square().mean() * len(pixels)
        clip = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        return clip + 0.25 * in_modal + 0.25 * cross_modal

    def step(self, pixels: torch.Tensor, tokens: torch.Tensor) -> float:
        """One step; returns its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(pixels.to(self.device), tokens.to(self.device))
        loss.backward()
        self.optimizer.step()
        return loss.item()


class TimedSource:
    """A `PairSource` that repeats one batch, times the trainer's steps and runs a bare step after each."""

    digest = "benchmark"

    def __init__(self, bare: BareLoop, batch: int, tokens: int) -> None:
        self.bare, self.batch = bare, batch
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(batch, 3, 224, 224, generator=generator)
        self.tokens = torch.randint(1, 40_000, (batch, 248), generator=generator)
        self.tokens[:, tokens - 1], self.tokens[:, tokens:] = END_OF_TEXT, 0
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def __len__(self) -> int:
        return self.batch

    def check(self) -> None:
        """Nothing is read."""

    def batches(self, options: BatchOptions) -> Iterator[dict[str, Any]]:
        """Yield the same batch forever."""
        while True:
            started = time.perf_counter()
            yield {"pixels": self.pixels, "tokens": (self.tokens,), "errors": [], "lost": False}
            self._wait()
            self.ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            self.bare.step(self.pixels, self.tokens)
            self._wait()
            self.theirs.append(time.perf_counter() - started)

    def _wait(self) -> None:
        if self.bare.device.type == "cuda":
            torch.cuda.synchronize()


def measure(architecture: str, batch: int, tokens: int, rounds: int, device: str) -> TimedSource:
    """Measure seconds of both, without a warm-up round."""
    source = TimedSource(BareLoop(architecture, 248, torch.device(device)), batch, tokens)
    recipe = load_recipe("lcco", {"steps": rounds + 2, "batch_size": batch, "validate_every": 0})
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.new("RGB", (224, 224)).save(image)
        pairs = ValidationPairs([image] * 2, ["one", "two"])
        encoder, accelerator = load_encoder(architecture), make_accelerator(device)
        Trainer(encoder, recipe, source, pairs, Path(folder) / "out", accelerator).run()
    source.ours, source.theirs = source.ours[1:], source.theirs[1:]
    return source


def rows(quick: bool) -> list[Row]:
    """Rows of the table: the ratio at full length, where cutting saves nothing."""
    source = measure("ViT-B-32/random", 8, 248, 2 if quick else 5, "cuda" if torch.cuda.is_available() else "cpu")
    ratio = median(one / other for one, other in zip(source.ours, source.theirs, strict=True))
    note = f"ViT-B/32, batch 8, 248 tokens, {len(source.ours)} rounds"
    return [Row("training step, recipe lcco", "bare loop of open_clip", ratio, "<= 1.05", note)]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument(
        "--architecture", default="ViT-B-32/random", help="ARCH/TAG of open_clip (default ViT-B-32/random)"
    )
    parser.add_argument("--batch", type=positive, default=8, help="pairs per step (default 8)")
    parser.add_argument("--rounds", type=positive, default=5, help="of ours and the bare loop in turn (default 5)")
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu, cuda, ... (default: cuda if there)",
    )
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Print both step times and their ratio."""
    arguments = parse(argv)
    rows = []
    for tokens in (248, 100):
        source = measure(arguments.architecture, arguments.batch, tokens, arguments.rounds, arguments.device)
        ours, theirs = median(source.ours), median(source.theirs)
        ratio = median(one / other for one, other in zip(source.ours, source.theirs, strict=True))
        rows.append([tokens, ours, theirs, ratio, arguments.batch / ours, _utilisation(source, ours)])
    headers = ["tokens", "ours s", "bare s", "ratio", "images/s", "MFU"]
    print(f"{arguments.architecture}, batch {arguments.batch}, {arguments.device}, {arguments.rounds} rounds")
    print(tabulate(rows, headers=headers, floatfmt=("d", ".3f", ".3f", ".3f", ".1f", "")))
    return 0


def _utilisation(source: TimedSource, seconds: float) -> str:
    """Model FLOPs utilisation; a dash if the card's peak is unknown."""
    name = torch.cuda.get_device_name() if source.bare.device.type == "cuda" else ""
    peak = next((flops for card, flops in PEAK_FLOPS.items() if card in name), None)
    if peak is None:
        return "-"
    with FlopCounterMode(display=False) as counter:
        source.bare.loss(source.pixels.cuda(), source.tokens.cuda()).backward()
    return f"{counter.get_total_flops() / seconds / peak:.0%}"


if __name__ == "__main__":
    sys.exit(main())

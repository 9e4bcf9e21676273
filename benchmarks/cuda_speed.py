"""Speed on a card: a step of stage 1 against a bare loop of open_clip, and images and texts encoded per second."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Any

import open_clip
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Subset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import ImageFolder

from benchmarks import cuda_setup as setup
from benchmarks.cuda_setup import CONTEXT, VIEWS, Check, Setting
from benchmarks.encoding_setup import PHOTO
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_pictures, encode_texts
from i0t.encoders.tokenizers import END_OF_TEXT

BATCH = 128  # of encoding
PHOTOS = "PnP-VQA/lavis/flickr30k/images"  # of the sample
# Dense bf16 and fp16 with fp32 accumulation, from the data sheets; the first matching name counts.
PEAK_FLOPS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
SLOWER, LARGER = 1.05, 1.10  # bounds of our step, as multiples of the bare loop's time and memory
SLOWER_IMAGES, SLOWER_TEXTS, MORE_WAITING = 1.15, 1.05, 0.10


class Enough(Exception):  # noqa: N818 (no error: the measurement is complete)
    """Ends a trainer's run when its steps have been timed."""


class Stopwatch:
    """A trainer's source that repeats one batch, and times blocks of the trainer's steps and of bare steps in turn.

    `seconds` has (ours, bare) per step and block, without the first block; `memory` has the peak bytes of each.
    """

    digest = "benchmark"

    def __init__(self, setting: Setting, batch: int, tokens: int, precision: str) -> None:
        self.setting, self.batch, self.tokens, self.precision = setting, batch, tokens, precision
        self.seconds: list[tuple[float, float]] = []
        self.memory = [0, 0]

    def __len__(self) -> int:
        """Pairs per epoch."""
        return self.batch

    def batches(self, _: Any) -> Iterator[dict[str, Any]]:
        """Yield the same batch until all is measured."""
        setting, block = self.setting, self.setting.size(8, 1)
        pixels, tokens = _random_batch(setting, self.batch)
        tokens[:, self.tokens - 1], tokens[:, self.tokens :] = END_OF_TEXT, 0
        cut = tokens[:, : self.tokens].contiguous()
        if setting.is_cuda:
            pixels, tokens, cut = (part.pin_memory() for part in (pixels, tokens, cut))
        bare, _ = None, setting.peak_bytes()
        for number in range(setting.size(5, 2)):
            started = setting.now()
            yield from [{"pixels": pixels, "tokens": (tokens,), "errors": [], "lost": False}] * block
            ours, self.memory[0] = setting.now() - started, self.memory[0] or setting.peak_bytes()
            held = setting.peak_bytes()
            bare = bare or bare_step(setting, self.tokens, self.precision)
            theirs = setting.seconds(lambda bare=bare: [bare(pixels, cut) for _ in range(block)])
            self.memory[1] = self.memory[1] or setting.peak_bytes() - held
            if number:
                self.seconds.append((ours / block, theirs / block))
        raise Enough


def bare_step(setting: Setting, tokens: int, precision: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Make a step in plain open_clip: forward of both views under autocast, the recipe's loss, backward, AdamW."""
    model, device = setup.bare_model(setting, tokens, setup.DROPOUT), setting.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=1e-2, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(pixels: torch.Tensor, tokens: torch.Tensor) -> None:
        pixels = pixels.to(device, non_blocking=True).repeat(VIEWS, 1, 1, 1)
        tokens = tokens.to(device, non_blocking=True).repeat(VIEWS, 1)
        optimizer.zero_grad(set_to_none=True)
        with setting.autocast(precision):
            features = model.encode_image(pixels), model.encode_text(tokens)
        images, texts = (F.normalize(part.float(), dim=-1).unflatten(0, (VIEWS, -1)) for part in features)
        scaler.scale(setup.cyclip(images, texts, model.logit_scale.exp())).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def training(setting: Setting, batch: int, tokens: int, precision: str) -> list[Check]:
    """Measure time and memory of our step, as multiples of the bare loop's."""
    watch = Stopwatch(setting, batch, tokens, precision)
    with suppress(Enough):
        setup.new_trainer(setting, precision, watch, batch_size=batch, steps=1000).run()
    ratios = [ours / bare for ours, bare in watch.seconds]
    seconds, (own, others) = median(ours for ours, _ in watch.seconds), watch.memory
    mfu = batch * VIEWS * pair_flops(setting, tokens) / seconds / peak_flops(setting)
    figures = {setup.PER_SECOND: batch / seconds, "MFU": mfu, "peak GB": own / 1e9}
    what, span = f"stage-1 step, batch {batch}, {tokens} tokens, {precision}", f"{min(ratios):.2f}-{max(ratios):.2f}"
    note = f"{batch / seconds:.0f} images/s, MFU {mfu:.0%}; rounds {span}"
    checks = [Check(f"{what}: seconds / bare loop", median(ratios), SLOWER, note, figures)]
    if setting.is_cuda:
        note = f"peak {own / 1e9:.1f} GB, bare {others / 1e9:.1f} GB"
        checks.append(Check(f"{what}: memory / bare loop", own / others, LARGER, note))
    return checks


def pair_flops(setting: Setting, tokens: int) -> float:
    """Floating-point operations per image and text, forward and backward, as torch counts them."""
    model = setup.bare_model(replace(setting, device=torch.device("meta")), tokens, 0.0)
    pixels, ids = (part.to("meta") for part in _random_batch(setting, 1))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # it does not count all fused kernels
        (model.encode_image(pixels).sum() + model.encode_text(ids[:, :tokens]).sum()).backward()
    return float(counter.get_total_flops())


def peak_flops(setting: Setting) -> float:
    """Peak FLOP/s of the card in bf16 and fp16; NaN if unknown."""
    name = torch.cuda.get_device_name(setting.device) if setting.is_cuda else ""
    return next((flops for card, flops in PEAK_FLOPS.items() if card in name), float("nan"))


def images(setting: Setting) -> list[Check]:
    """Compare `encode_pictures` from JPEG files with the slower of decoding and bare forward passes."""
    encoder, options = copy.deepcopy(setup.base(setting.model)).to(setting.device), _options(setting)
    photos, size = ImageFolder(setting.roots.data_dir_sub / PHOTOS, encoder.preprocess), setting.size(64, 1)
    count = size * BATCH
    rows = [row % len(photos) for row in range(count)]
    paths = [photos.imgs[row][0] for row in rows]
    bare, pixels = setup.bare_model(setting, CONTEXT, 0.0).eval(), _random_batch(setting, BATCH)[0].to(setting.device)

    def passes() -> None:
        with torch.no_grad(), setting.autocast(options.precision):
            for _ in range(size):
                bare.encode_image(pixels, normalize=True)

    works = (
        lambda: encode_pictures(encoder, paths, options),
        lambda: list(map(len, DataLoader(Subset(photos, rows), BATCH, num_workers=setting.workers))),
        passes,
    )
    seconds, alone, forward = _medians(setting, works, setting.size(3, 1))
    busy: list[float] = []
    encoder.model.visual.register_forward_pre_hook(lambda *_: busy.append(-setting.now()))
    encoder.model.visual.register_forward_hook(lambda *_: busy.append(setting.now()))
    watched = setting.seconds(works[0])
    unavoidable, slower = max(0.0, 1 - forward / max(alone, forward)), max(alone, forward)
    what = f"encoding {count} images of {PHOTO[0]}x{PHOTO[1]}, {options.precision}, {setting.workers} workers"
    waits = f"{unavoidable:.2f} is unavoidable if decoding takes {alone / forward:.1f} times the forward passes"
    note, figures = _rates("images", count / seconds, "decoding", count / alone, count / forward)
    return [
        Check(f"{what}: seconds / slower part", seconds / slower, SLOWER_IMAGES, note, figures),
        Check(f"{what}: card waits", 1 - sum(busy) / watched, min(1.0, unavoidable + MORE_WAITING), waits),
    ]


def texts(setting: Setting) -> list[Check]:
    """Compare `encode_texts` with open_clip's tokenizer and plain forward passes on the same texts."""
    encoder, options = copy.deepcopy(setup.base(setting.model)).to(setting.device), _options(setting)
    captions, count = setup.sample_pairs(setting, "train").captions, setting.size(8192, 64)
    sentences = [f"{number}. {captions[number % len(captions)]}" for number in range(count)]
    tokenize = open_clip.SimpleTokenizer(context_length=encoder.context_length)
    bare, tokens = setup.bare_model(setting, encoder.context_length, 0.0).eval(), tokenize(sentences)

    def passes() -> None:
        with torch.no_grad(), setting.autocast(options.precision):
            for batch in tokens.split(BATCH):
                bare.encode_text(batch.to(setting.device), normalize=True)

    works = (lambda: encode_texts(encoder, sentences, options), lambda: tokenize(sentences), passes)
    seconds, alone, forward = _medians(setting, works, setting.size(5, 1))
    note, figures = _rates("texts", count / seconds, "tokenising", count / alone, count / forward)
    what = f"encoding {count} texts, context {encoder.context_length}, {options.precision}"
    ratio = seconds / (alone + forward)
    return [Check(f"{what}: seconds / tokenising + bare forward", ratio, SLOWER_TEXTS, note, figures)]


def _rates(kind: str, ours: float, work: str, alone: float, forward: float) -> tuple[str, dict[str, float]]:
    note = f"{ours:.0f} {kind}/s; {work} alone {alone:.0f}, bare forward {forward:.0f}"
    return note, {setup.PER_SECOND: ours, setup.ALONE: alone, setup.FORWARD: forward}


def _medians(setting: Setting, works: tuple[Callable[[], object], ...], rounds: int) -> list[float]:
    """Median seconds of each work, in turn; the first round is not counted."""
    taken = [[setting.seconds(work) for work in works] for _ in range(rounds + 1)]
    return [median(column) for column in zip(*taken[1:], strict=True)]


def _options(setting: Setting) -> EncodeOptions:
    precision = "bf16" if setting.is_cuda else "fp32"
    return EncodeOptions(BATCH, setting.workers, precision, cache=False, progress=False)


def _random_batch(setting: Setting, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and token ids on the CPU."""
    side = setup.base(setting.model).architecture["model"]["vision_cfg"]["image_size"]
    return torch.randn(count, 3, side, side), torch.randint(1, 40_000, (count, CONTEXT))

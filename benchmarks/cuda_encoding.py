"""Encoding on a card: pictures a second from the disk, texts a second, and how long the card waits for decoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.cuda_project import DTYPES, Check, Setting, bare_model, configuration, new_encoder, sample_pairs

BATCH = 128
PHOTO = (500, 375)  # as most of Flickr30k and COCO are
SLOWER_IMAGES, SLOWER_TEXTS, MORE_WAITING = 1.15, 1.05, 0.10


class Decoded(Dataset):
    """Pictures as the encoder's own transform gives them, by plain Pillow and torch."""

    def __init__(self, paths: list[Path], preprocess: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths, self.preprocess = paths, preprocess

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        """(3, H, W) pixels."""
        with Image.open(self.paths[row]) as picture:
            return self.preprocess(picture.convert("RGB"))


class Busy:
    """Seconds that a module's forward passes take on the device, from hooks around each.

    Args:
        module: what is watched.
        setting: says on which device.
    """

    def __init__(self, module: torch.nn.Module, setting: Setting) -> None:
        self.setting, self.cuda = setting, setting.device.type == "cuda"
        self.marks: list[tuple[object, object]] = []
        module.register_forward_pre_hook(lambda *_: self._begin())
        module.register_forward_hook(lambda *_: self.marks.append((self._begun, self._now())))

    def _begin(self) -> None:
        self._begun = self._now()

    def _now(self) -> object:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> float:
        """Seconds since this was last asked."""
        self.setting.wait()
        marks, self.marks = self.marks, []
        if self.cuda:
            return sum(begun.elapsed_time(ended) for begun, ended in marks) / 1000
        return sum(ended - begun for begun, ended in marks)


def images(setting: Setting) -> list[Check]:
    """`encode_images` from JPEG files against the slower of decoding alone and bare forward passes alone."""
    encoder = new_encoder(setting.model).to(setting.device)
    paths, busy = _photos(setting), Busy(encoder.model.visual, setting)
    precision, count = _precision(setting), setting.size(8192, 2048, 64)
    paths = [paths[row % len(paths)] for row in range(count)]

    def ours() -> None:
        encoder.encode_images(paths, BATCH, setting.workers, precision=precision)

    def decoding() -> None:
        for _ in DataLoader(Decoded(paths, encoder.preprocess), BATCH, num_workers=setting.workers):
            pass

    forward = count * _forward_seconds(setting, "image", precision)
    ours()
    busy.take()
    rounds = setting.size(3, 2, 1)
    taken, waited = [], []
    for _ in range(rounds):
        seconds = _seconds(setting, ours)
        taken.append((seconds, _seconds(setting, decoding)))
        waited.append(max(0.0, 1 - busy.take() / seconds))
    seconds, alone = (median(column) for column in zip(*taken, strict=True))
    unavoidable = max(0.0, 1 - forward / max(alone, forward))
    what = f"encoding {count} pictures of {PHOTO[0]}x{PHOTO[1]}, {precision}, {setting.workers} workers"
    details = {"images_per_second": count / seconds, "decoded_per_second": count / alone}
    details |= {"bare_forward_per_second": count / forward, "ratio_to_bare_forward": seconds / forward}
    note = (
        f"{count / seconds:.0f} images/s; decoding alone {count / alone:.0f}, bare forward {count / forward:.0f} "
        f"(ratio {seconds / forward:.2f})"
    )
    waits = f"{unavoidable:.2f} is unavoidable where decoding takes {alone / forward:.1f} times the forward passes"
    ratio = seconds / max(alone, forward)
    return [
        Check(f"{what}: seconds / slower half", ratio, SLOWER_IMAGES, note, details),
        Check(f"{what}: card waits", median(waited), min(1.0, unavoidable + MORE_WAITING), waits),
    ]


def texts(setting: Setting) -> list[Check]:
    """`encode_texts` against tokenising the same texts and plain forward passes over them."""
    encoder, precision = new_encoder(setting.model).to(setting.device), _precision(setting)
    captions, count = sample_pairs(setting, "train").captions, setting.size(8192, 2048, 64)
    sentences = [f"{number}. {captions[number % len(captions)]}" for number in range(count)]
    context = configuration(setting.model)["text_cfg"]["context_length"]
    bare = bare_model(setting.model, context, 0.0, setting.device).eval()

    def forward(tokens: torch.Tensor) -> None:
        for batch in tokens.split(BATCH):
            with torch.no_grad(), torch.autocast(setting.device.type, DTYPES[precision], enabled=precision != "fp32"):
                features = bare.encode_text(batch.to(setting.device), normalize=True).float()
        features.cpu()

    def ours() -> None:
        encoder.encode_texts(sentences, BATCH, precision=precision)

    tokens = encoder.tokenize(sentences)
    ours()
    forward(tokens)
    taken = []
    for _ in range(setting.size(5, 3, 1)):
        tokenising = _seconds(setting, lambda: encoder.tokenize(sentences))
        taken.append((_seconds(setting, ours), tokenising, _seconds(setting, lambda: forward(tokens))))
    seconds, tokenising, passes = (median(column) for column in zip(*taken, strict=True))
    details = {"texts_per_second": count / seconds, "bare_forward_per_second": count / passes}
    details |= {"ratio_to_bare_forward": seconds / passes, "tokenising_seconds": tokenising}
    note = (
        f"{count / seconds:.0f} texts/s; bare forward {count / passes:.0f} (ratio {seconds / passes:.2f}), "
        f"tokenising takes {tokenising / seconds:.0%}"
    )
    what = f"encoding {count} texts, context {context}, {precision}"
    ratio = seconds / (tokenising + passes)
    return [Check(f"{what}: seconds / tokenising + bare forward", ratio, SLOWER_TEXTS, note, details)]


def _forward_seconds(setting: Setting, kind: str, precision: str) -> float:
    """Of one item in bare forward passes over a batch that is already on the device."""
    config = configuration(setting.model)
    bare = bare_model(setting.model, config["text_cfg"]["context_length"], 0.0, setting.device).eval()
    side, size = config["vision_cfg"]["image_size"], setting.size(BATCH, BATCH, 16)
    pixels = torch.randn(size, 3, side, side).to(setting.device)

    def passes() -> None:
        with torch.no_grad(), torch.autocast(setting.device.type, DTYPES[precision], enabled=precision != "fp32"):
            for _ in range(setting.size(20, 10, 2)):
                bare.encode_image(pixels, normalize=True)

    passes()
    return min(_seconds(setting, passes) for _ in range(3)) / setting.size(20, 10, 2) / size


def _precision(setting: Setting) -> str:
    return "bf16" if setting.device.type == "cuda" else "fp32"


def _seconds(setting: Setting, work: Callable[[], object]) -> float:
    setting.wait()
    started = time.perf_counter()
    work()
    setting.wait()
    return time.perf_counter() - started


@cache
def _photos(setting: Setting) -> list[Path]:
    """The sample's pictures in a photo's size."""
    folder = setting.folder / "photos"
    folder.mkdir()
    made = []
    for path in sample_pairs(setting, "train").images[:64]:
        with Image.open(path) as picture:
            picture.convert("RGB").resize(PHOTO).save(folder / path.name, quality=90)
        made.append(folder / path.name)
    return made

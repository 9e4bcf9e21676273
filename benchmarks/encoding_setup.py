"""Shared by the encoding benchmarks: images of the size of photos, rounds in turn, our whole evaluation."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from PIL import Image

from evaluation.options import EvaluationOptions
from evaluation.run import encode_dataset, evaluate
from evaluation.task import Task
from i0t.data.datasets import load_dataset
from i0t.data.sample import SampleSize, data_dir, data_dir_sub, make_sample
from i0t.encoders import EncodeOptions
from i0t.encoders.cache import VARIABLE
from i0t.encoders.encoder import Encoder
from i0t.paths import Roots

MODEL = "ViT-B-32-quickgelu/random"
BATCH = 64
PHOTO = (500, 375)  # as most images of Flickr30k and COCO


@contextmanager
def photos(flickr: int, judged: int = 2, train: int = 20) -> Iterator[Roots]:
    """Make a sample with images of the size of photos, so that decoding takes a realistic time."""
    size = SampleSize(train=train, flickr=flickr, coco=1, nocaps=1, birdsnap_per_class=1, judged=judged)
    with tempfile.TemporaryDirectory() as folder:
        root = make_sample(Path(folder), size)
        roots = Roots(data_dir(root), data_dir_sub(root), is_sample=True)
        for part in (roots.data_dir_sub / "PnP-VQA", roots.data_dir / "pacscore_datasets"):
            for path in part.rglob("*.jpg"):
                with Image.open(path) as image:
                    image.resize(PHOTO).save(path, quality=90)
        yield roots


def in_turn(ours: Callable[[], object], rival: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """Seconds of (ours, rival) per round; they take turns to start, and a first run of ours is not counted."""
    ours()
    taken = []
    for number in range(rounds):
        first, second = (ours, rival) if number % 2 == 0 else (rival, ours)
        times = seconds(first), seconds(second)
        taken.append(times if number % 2 == 0 else times[::-1])
    return taken


def times_faster(taken: list[tuple[float, float]]) -> float:
    """Median over the rounds of the rival's time divided by ours."""
    return median(rival / ours for ours, rival in taken)


def spread(taken: list[tuple[float, float]]) -> str:
    """Lowest and highest ratio of the rounds."""
    ratios = sorted(rival / ours for ours, rival in taken)
    return f"{len(ratios)} rounds, {ratios[0]:.2f} to {ratios[-1]:.2f}"


def seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def uncached(precision: str = "auto") -> EncodeOptions:
    """Options without the cache."""
    return EncodeOptions(BATCH, precision=precision, cache=False)


def evaluation(task: Task, encoder: Encoder, dataset: str, roots: Roots, encoding: EncodeOptions) -> Callable[[], None]:
    """Make our whole evaluation: reading the data, encoding, metrics, all gap measures, the record."""
    options = EvaluationOptions(task, encoding)

    def run() -> None:
        encoder._fingerprint = None  # hashing the weights is part of every run
        loaded = load_dataset(dataset, roots)
        evaluate(encode_dataset(encoder, loaded, options)[0], loaded, options, encoder)

    return run


@contextmanager
def empty_cache() -> Iterator[None]:
    """Use an empty cache inside the block."""
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before

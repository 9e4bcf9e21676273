"""R@K of features: against CLIP_benchmark's matrix code, and against the matrix product alone.

    python -m benchmarks --only retrieval_matrix

The first rival is `evaluate` of the user's clone, `Github/CLIP_benchmark` (github.com/LAION-AI/CLIP_benchmark),
with a model that returns the features unchanged, and batches of 64. The second is NumPy's float32 product in
blocks with as many threads, which any exact evaluation needs.
"""

from __future__ import annotations

import json
import math
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.measure import alternate, in_fresh_process, peak_growth, spread, unit_vectors
from benchmarks.row import Row
from i0t.metrics import retrieval_metrics
from i0t.paths import REPO

RIVAL_FILE = REPO / "Github" / "CLIP_benchmark" / "clip_benchmark" / "metrics" / "zeroshot_retrieval.py"
THIS = "benchmarks.retrieval_matrix"
CAPTIONS = 5
BLOCK = (1024, 8192)  # of the product: the fastest shape that was tried
BATCH = 64
MIB = 2**20


def rows(quick: bool) -> list[Row]:
    """Rows of the table; the first two need the rival's clone."""
    table = []
    n_images, n_square = (1000, 10_000) if quick else (5000, 100_000)
    if RIVAL_FILE.is_file():
        table += _against_clip_benchmark(n_images)
    else:
        print(f"skipped: {RIVAL_FILE} is missing. Clone LAION-AI/CLIP_benchmark into Github/.", file=sys.stderr)
    return [*table, *_against_product(n_square)]


def _against_clip_benchmark(n_images: int) -> list[Row]:
    work = f"R@1, 5, 10 in both directions, {CAPTIONS * n_images} texts x {n_images} images, d 512"
    times = in_fresh_process(THIS, "race", n_images)
    memory = {who: in_fresh_process(THIS, who, n_images) for who in ("ours", "rival")}
    # Small sizes need less memory than the imports, so no growth is measured.
    saved = memory["ours"] / memory["rival"] if memory["rival"] else math.nan
    note = f"above inputs and imports, ours {memory['ours'] / MIB:.0f} MiB, its {memory['rival'] / MIB:.0f}"
    faster = sorted(1 / ratio for ratio in times["ratios"])
    return [
        Row(work, "CLIP_benchmark, time", times["rival"] / times["ours"], ">= 3 x faster", spread(faster)),
        Row(work, "CLIP_benchmark, peak memory", saved, "<= 0.2", note),
    ]


def _against_product(n: int) -> list[Row]:
    found = in_fresh_process(THIS, "square", n)
    work = f"R@1, 5, 10 in both directions, {n} x {n}, d 512"
    note = f"{spread(found['ratios'])}; ours {found['bytes'] / MIB:.0f} MiB above the inputs (goal <= 1024)"
    return [Row(work, "the matrix product alone, in blocks", found["ours"] / found["rival"], "<= 1.3", note)]


def _features(n_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images = unit_vectors(n_images, seed=0)
    owner = np.repeat(np.arange(n_images), CAPTIONS)
    texts = unit_vectors(len(owner), seed=1)
    for start in range(0, len(owner), 4096):
        texts[start : start + 4096] += 0.15 * images[owner[start : start + 4096]]
    return images, texts, owner


def _rival_module() -> ModuleType:
    spec = spec_from_file_location("clip_benchmark_retrieval", RIVAL_FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run_rival(module: ModuleType, images: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    """Run its `evaluate` on features."""
    import torch

    class Identity:
        encode_image = encode_text = staticmethod(lambda features: features)

    loader = [
        (
            torch.from_numpy(images[start : start + BATCH]),
            [
                list(range(CAPTIONS * row, CAPTIONS * (row + 1)))
                for row in range(start, min(start + BATCH, len(images)))
            ],
        )
        for start in range(0, len(images), BATCH)
    ]
    tokens = torch.from_numpy(texts)
    return module.evaluate(
        Identity(), loader, lambda numbers: tokens[numbers], "cpu", amp=False, recall_k_list=[1, 5, 10]
    )


def _race(n_images: int, rounds: int = 3) -> dict[str, Any]:
    images, texts, owner = _features(n_images)
    module = _rival_module()
    ours, theirs = retrieval_metrics(images, texts, owner), _run_rival(module, images, texts)  # both warm
    for direction, name in (("i2t", "text"), ("t2i", "image")):
        for k in (1, 5, 10):
            apart = abs(ours[f"{direction}_r{k}"] - 100 * theirs[f"{name}_retrieval_recall@{k}"])
            assert apart < 0.05, f"{direction}_r{k}: ours and CLIP_benchmark's differ by {apart} points"
    timed = alternate(
        lambda: retrieval_metrics(images, texts, owner), lambda: _run_rival(module, images, texts), rounds
    )
    return dict(zip(("ours", "rival", "ratios"), timed))


def _square(n: int) -> dict[str, Any]:
    images, texts, owner = unit_vectors(n, seed=0), unit_vectors(n, seed=1), np.arange(n)
    first: list[int] = []

    def ours() -> None:
        growth = peak_growth(lambda: retrieval_metrics(images, texts, owner))
        first.append(growth)  # of the first run, before the rival's blocks

    def product() -> None:
        out = np.empty(BLOCK, dtype=np.float32)
        for top in range(0, n, BLOCK[0]):
            for left in range(0, n, BLOCK[1]):
                rows, columns = texts[top : top + BLOCK[0]], images[left : left + BLOCK[1]]
                np.matmul(rows, columns.T, out=out[: len(rows), : len(columns)])

    timed = alternate(ours, product, rounds=2 if n > 20_000 else 5)
    return {**dict(zip(("ours", "rival", "ratios"), timed)), "bytes": first[0]}


def _memory(who: str, n_images: int) -> int:
    images, texts, owner = _features(n_images)
    if who == "ours":
        return peak_growth(lambda: retrieval_metrics(images, texts, owner))
    module = _rival_module()
    _run_rival(module, images[:BATCH], texts[: CAPTIONS * BATCH])  # torch loads libraries on first use
    return peak_growth(lambda: _run_rival(module, images, texts))


if __name__ == "__main__":
    what, size = sys.argv[1], int(sys.argv[2])
    print(
        json.dumps(
            {"race": _race, "square": _square}[what](size) if what in ("race", "square") else _memory(what, size)
        )
    )

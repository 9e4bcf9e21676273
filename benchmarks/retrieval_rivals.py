"""A whole retrieval evaluation against CLIP_benchmark, and with the cache.

    python -m benchmarks.retrieval_rivals --pairs 256 --rounds 3

Rivals do less: they only report recalls, while ours also measures the gap and writes a record. All use the same
model object, images (500 x 375 JPEG), captions and, if possible, batch size. All decode images in the same
process. ViT-B/32 with random weights: the speed does not depend on them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.encoding_setup import (
    BATCH,
    MODEL,
    empty_cache,
    evaluation,
    in_turn,
    photos,
    seconds,
    spread,
    times_faster,
    uncached,
)
from benchmarks.row import Row
from evaluation.retrieval import Retrieval
from i0t.cli import Parser, positive, program
from i0t.data.captions import CaptionSet
from i0t.data.datasets import load_dataset
from i0t.data.items import open_image
from i0t.encoders import EncodeOptions, load_encoder
from i0t.encoders.encoder import Encoder
from i0t.paths import REPO, Roots, say

CLIP_BENCHMARK = REPO / "Github" / "CLIP_benchmark" / "clip_benchmark" / "metrics" / "zeroshot_retrieval.py"


def rows(quick: bool) -> list[Row]:
    """Rows of the table; a missing rival is skipped, with a message."""
    return measure(16 if quick else 256, 1 if quick else 3)


def measure(pairs: int, rounds: int, only: str = "") -> list[Row]:
    """Measure all rows, or those of one part: "fp32", "bf16" or "cache"."""
    torch.manual_seed(0)
    encoder = load_encoder(MODEL)
    result: list[Row] = []
    with photos(pairs) as roots:
        for precision, goal in (("fp32", ">= 1.3"), ("bf16", ">= 1.1")):
            if only in ("", precision):
                result += against_clip_benchmark(encoder, roots, pairs, rounds, precision, goal)
        if only in ("", "cache"):
            result.append(from_cache(encoder, roots, pairs, rounds))
    return result


def against_clip_benchmark(
    encoder: Encoder, roots: Roots, pairs: int, rounds: int, precision: str, goal: str
) -> list[Row]:
    """Compare with LAION's zeroshot_retrieval, if its clone is in Github."""
    module = _clip_benchmark()
    if module is None:
        say("skipped: no Github/CLIP_benchmark. Clone https://github.com/LAION-AI/CLIP_benchmark there.")
        return []
    captions = load_dataset("flickr", roots, allow_partial=True)
    ours = evaluation(Retrieval(), encoder, "flickr", roots, uncached(precision))
    amp = precision == "bf16"

    def rival() -> None:
        loader = DataLoader(_Pairs(encoder, captions), BATCH, collate_fn=_collate)
        module.evaluate(encoder.model, loader, encoder.tokenize, "cpu", amp=amp, recall_k_list=[1, 5, 10])

    taken = in_turn(ours, rival, rounds)
    return [
        Row(
            f"retrieval evaluation, {pairs} pairs, ViT-B/32, {precision}, CPU",
            "CLIP_benchmark",
            times_faster(taken),
            f"{goal} x faster",
            spread(taken),
        )
    ]


def from_cache(encoder: Encoder, roots: Roots, pairs: int, rounds: int) -> Row:
    """Time of a second run as a share of the first run."""
    shares = []
    run = evaluation(Retrieval(), encoder, "flickr", roots, EncodeOptions(BATCH, precision="fp32"))
    for _ in range(rounds):
        with empty_cache():
            first, second = seconds(run), seconds(run)
        shares.append(second / first)
    shares.sort()
    note = f"model loaded, weights hashed anew; {rounds} rounds, {shares[0]:.3f} to {shares[-1]:.3f}"
    work = f"retrieval evaluation, {pairs} pairs, ViT-B/32, second run"
    return Row(work, "its first run", shares[len(shares) // 2], "<= 0.05 of it", note)


class _Pairs(torch.utils.data.Dataset):
    """(pixels, [caption]), as in CLIP_benchmark's data sets."""

    def __init__(self, encoder: Encoder, captions: CaptionSet) -> None:
        self.preprocess, self.captions = encoder.preprocess, captions

    def __len__(self) -> int:
        return len(self.captions.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, list[str]]:
        return self.preprocess(open_image(self.captions.images[index])), self.captions.captions[index][:1]


def _collate(items: list[tuple[torch.Tensor, list[str]]]) -> tuple[torch.Tensor, list[list[str]]]:
    return torch.stack([pixels for pixels, _ in items]), [texts for _, texts in items]


def _clip_benchmark() -> ModuleType | None:
    if not CLIP_BENCHMARK.is_file():
        return None
    spec = importlib.util.spec_from_file_location("zeroshot_retrieval", CLIP_BENCHMARK)
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Print the lines."""
    parser = Parser(prog="python -m benchmarks.retrieval_rivals", description=__doc__)
    parser.add_argument("--pairs", type=positive, default=256, help="images with a caption (default 256)")
    parser.add_argument("--rounds", type=positive, default=3, help="of ours and the rival in turn (default 3)")
    parser.add_argument("--only", default="", choices=("fp32", "bf16", "cache"), help="one comparison (default: all)")
    arguments = parser.parse_args(argv)
    for row in measure(arguments.pairs, arguments.rounds, arguments.only):
        print(f"{row.ratio:.3f} ({row.goal}): {row.work}; against {row.rival}; {row.note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a retrieval evaluation costs beyond the forward passes it cannot avoid.

    python -m benchmarks.retrieval_cost --pairs 256

The rival is the bare model on the same pictures and captions: decode and preprocess all of them,
then `encode_image` and `encode_text` in batches of the same size, with uncut tokens, as most code
calls them. Ours is the whole evaluation: reading the layout, encoding, R@K, every gap measure.
Both run in turn in one process; the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from tabulate import tabulate

from evaluation.gap_removal import GapRemoval
from evaluation.retrieval import Retrieval
from evaluation.run import evaluate, parse
from i0t.data.datasets import load_dataset
from i0t.data.images import open_image
from i0t.data.sample import SampleSize, data_dir, data_dir_sub, make_sample
from i0t.encoders import load_encoder
from i0t.encoders.encoder import Encoder
from i0t.paths import Roots


def bare_seconds(encoder: Encoder, roots: Roots, batch_size: int) -> float:
    """Seconds of decoding plus plain batched forward passes."""
    captions = load_dataset("flickr", roots, allow_partial=True)
    texts = captions.items().texts
    started = time.perf_counter()
    pixels = torch.stack([encoder.preprocess(open_image(path)) for path in captions.images])
    tokens = encoder.tokenize(texts)
    with torch.no_grad():
        for start in range(0, len(texts), batch_size):
            encoder.model.encode_image(pixels[start : start + batch_size], normalize=True)
            encoder.model.encode_text(tokens[start : start + batch_size], normalize=True)
    return time.perf_counter() - started


def our_seconds(encoder: Encoder, roots: Roots, batch_size: int, workers: int) -> float:
    """Seconds of a whole evaluation."""
    options = parse(Retrieval(), ["--dataset", "flickr", "--batch-size", str(batch_size), "--workers", str(workers)])
    started = time.perf_counter()
    evaluate(Retrieval(), encoder, "flickr", roots, options, GapRemoval(encoder, roots, options))
    return time.perf_counter() - started


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32-quickgelu/random", help="default: ViT-B/32, random weights")
    parser.add_argument("--pairs", type=int, default=256, help="pictures with one caption each (default 256)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0, help="decoding processes of ours (default 0)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        size = SampleSize(train=20, flickr=arguments.pairs, coco=1, nocaps=1, birdsnap_per_class=1, judged=2)
        root = make_sample(Path(folder), size)
        roots = Roots(data_dir(root), data_dir_sub(root), is_sample=True)
        rounds = [
            (
                our_seconds(encoder, roots, arguments.batch_size, arguments.workers),
                bare_seconds(encoder, roots, arguments.batch_size),
            )
            for _ in range(arguments.rounds)
        ]
    rows = [(number, ours, bare, ours / bare) for number, (ours, bare) in enumerate(rounds, start=1)]
    print(tabulate(rows, headers=["round", "evaluation, s", "bare, s", "ratio"], floatfmt=".2f"))
    print(f"{arguments.model}, {arguments.pairs} pairs: median ratio {median(row[-1] for row in rows):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Correlation with ratings against the loop of the pacscore repository, which encodes every row of a rating again.

    python -m benchmarks.correlation_rival --pictures 8 --rounds 3

pacscore makes one row per rating (Flickr8k-Expert: 5 664 captions x 3 ratings), and encodes the image and the
caption (all 77 tokens) of every row, in batches of 64 and 256. It is reimplemented here without references and
other metrics. Ours encodes each distinct image, caption and reference once, scores with and without references,
and measures the gap. Both decode images in the same process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import kendalltau

from benchmarks.encoding_setup import MODEL, evaluation, in_turn, photos, spread, times_faster, uncached
from benchmarks.row import Row
from evaluation.correlation import Correlation
from i0t.cli import Parser, positive, program
from i0t.data.datasets import load_dataset
from i0t.data.items import open_image
from i0t.data.ratings import RatedCaptions
from i0t.encoders import load_encoder
from i0t.encoders.encoder import Encoder
from i0t.metrics.caption_scores import PREFIX

EXPERT = 5664


def rows(quick: bool) -> list[Row]:
    """Rows of the table."""
    return measure(2 if quick else 24, 1 if quick else 3)


def measure(pictures: int, rounds: int) -> list[Row]:
    """Measure on a sample with this number of rated images."""
    torch.manual_seed(0)
    encoder = load_encoder(MODEL)
    with photos(flickr=1, judged=pictures) as roots:
        judgments = load_dataset("flickr8k_expert", roots, allow_partial=True)
        ours = evaluation(Correlation(score="pac_s"), encoder, "flickr8k_expert", roots, uncached())
        taken = in_turn(ours, lambda: pacscore_loop(encoder, judgments), rounds)
    distinct = len(set(zip(judgments.image_of_rating, judgments.candidates)))
    note = (
        f"measured with {len(judgments.ratings)} ratings of {distinct} captions of {pictures} images: time of both "
        f"is proportional to the number of images; {spread(taken)}"
    )
    work = f"correlation evaluation, {EXPERT} expert captions x 3 ratings, ViT-B/32, fp32, CPU"
    return [Row(work, "pacscore's loop, restated", times_faster(taken), ">= 2 x faster", note)]


@torch.no_grad()
def pacscore_loop(encoder: Encoder, judgments: RatedCaptions) -> float:
    """Compute PAC-S of every row, and Kendall's tau-c with the ratings."""
    images = [judgments.images[row] for row in judgments.image_of_rating]
    captions = [PREFIX + text for text in judgments.candidates]
    image_features = _encoded(
        images, 64, lambda batch: torch.stack([encoder.preprocess(open_image(path)) for path in batch]), encoder, True
    )
    text_features = _encoded(captions, 256, encoder.tokenize, encoder, False)
    scores = 2.0 * np.clip((image_features * text_features).sum(axis=1), 0, None)
    return float(kendalltau(scores, judgments.ratings, variant="c").statistic)


def _encoded(items: list, batch_size: int, inputs: object, encoder: Encoder, images: bool) -> np.ndarray:
    encode = encoder.model.encode_image if images else encoder.model.encode_text
    starts = range(0, len(items), batch_size)
    features = np.vstack([encode(inputs(items[start : start + batch_size])).numpy() for start in starts])
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Print the line."""
    parser = Parser(prog="python -m benchmarks.correlation_rival", description=__doc__)
    parser.add_argument("--pictures", type=positive, default=24, help="rated images (default 24)")
    parser.add_argument("--rounds", type=positive, default=3, help="of ours and the rival in turn (default 3)")
    arguments = parser.parse_args(argv)
    for row in measure(arguments.pictures, arguments.rounds):
        print(f"{row.ratio:.2f} ({row.goal}): {row.work}; against {row.rival}; {row.note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

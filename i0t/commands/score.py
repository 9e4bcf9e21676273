"""Program: score captions, texts and images against one another on one scale. `i0t score`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from i0t.cli import (
    Parser,
    add_common_flags,
    add_encoding_flags,
    add_remover_flags,
    encode_options,
    positive,
    program,
    remover_choices,
    share_number,
)
from i0t.files import check_outputs
from i0t.metrics.caption_scores import PREFIX
from i0t.paths import TENSORS
from i0t.reading import has_words
from i0t.scoring.models import DATASETS, SAMPLE
from i0t.scoring.output import scores_table
from i0t.scoring.pairs import all_pairs, read_pairs
from i0t.scoring.run import RECORD, ScoreOptions, score

CALIBRATION_PAIRS = 1000
FLAGS = ("output", "csv", "json", "false_alarms", "device", "seed", "data_dir", "data_dir_sub")
DESCRIPTION = """\
Score an image with a caption, or a list of such pairs. I0T-S is the cosine after the modality gap is removed, so that
image-caption, caption-caption and image-image pairs are on one scale. Its percentiles say what a score means: the
share of matching pairs, and of pairs that do not match, with a lower score.
"""
EPILOG = """\
columns
  CLIP-S, PAC-S    2.5 and 2 times max(cosine, 0) by this model (PAC-S proper is that of --model pacscore)
  I0T-S            cosine of standardised features
  matched %        share of the calibration set's image-caption pairs with a lower score
  unmatched %      the same for images with the captions of other images: 99 is above all but 1 in 100 wrong captions
  p, *             with --false-alarms: chance of such a score without a match, and whether it is above the cutoff
  Calibration scores are held out: each part was standardised with the means of the other part.

a list (--pairs FILE.csv or FILE.json, a list of objects) has the columns
  image, caption            and references, a JSON list or one text, for the reference-based scores
  image, other_image        two images
  caption, other_caption    two texts
  Other columns are named and left out. Relative paths of images start at the folder of FILE, or at --images DIR.
  With --csv FILE or --json FILE, an interrupted run can be resumed by the same command: until it ends, FILE.partial
    keeps the scores. --output DIR always gets scores.json: all scores, and the protocol.

  Photographs are turned as their EXIF orientation says, before they are encoded; evaluations do not turn images.

examples
  i0t score --image photo.jpg --caption "a dog on the grass" --model ViT-B-32-quickgelu/openai
  i0t score --image a.jpg --caption "a dog" --caption "a cat"          all pairs of these
  i0t score --pairs captions.csv --images pictures --csv scores.csv
"""


def parse(argv: Sequence[str] | None) -> ScoreOptions:
    """Parse the command line."""
    arguments = _parsed(argv)
    calibrate_on = tuple(arguments.calibrate_on)
    if arguments.pairs:
        pairs = read_pairs(arguments.pairs, arguments.images)
    else:
        pairs = all_pairs(arguments.image, arguments.caption)
    inputs = [arguments.pairs, arguments.model, *calibrate_on, *(image for pair in pairs for image in pair.images)]
    check_outputs({"--csv": arguments.csv, "--json": arguments.json}, inputs)
    check_outputs({"--output": Path(arguments.output) / RECORD}, [*inputs, arguments.csv])
    return ScoreOptions(
        pairs=tuple(pairs),
        is_list=bool(arguments.pairs),
        model=arguments.model,
        calibrate_on=calibrate_on,
        calibration_pairs=arguments.calibration_pairs or CALIBRATION_PAIRS,
        choice=remover_choices(arguments, [arguments.remover], none=False)[0],
        prefix=arguments.prefix,
        encoding=replace(encode_options(arguments, share=False), upright=True),
        **{name: getattr(arguments, name) for name in FLAGS},
    )


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags, and refuse those that contradict one another."""
    parser = Parser(prog="i0t score", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="an image; may be repeated")
    parser.add_argument("--caption", action="append", default=[], metavar="TEXT", help="a text; may be repeated")
    parser.add_argument("--pairs", metavar="FILE", help="a list to score: .csv or .json, see below")
    parser.add_argument("--images", metavar="DIR", help="with --pairs: folder of its images")
    parser.add_argument(
        "--model",
        default=SAMPLE,
        metavar="NAME",
        help="a checkpoint, a spec of configs/models, or ARCH/TAG of open_clip; sample (default): the last checkpoint, "
        "or the sample's small model, trained for a minute",
    )
    parser.add_argument(
        "--calibrate-on",
        nargs="+",
        default=(),
        metavar="WHAT",
        help=f"vectors of pairs (a .safetensors or .npy files), or one of {', '.join(DATASETS)} (default: the first "
        "of these that is present; the built-in sample if no path is configured)",
    )
    parser.add_argument(
        "--calibration-pairs", type=positive, metavar="N", help="number of pairs of a data set (default 1000)"
    )
    marks = "p-values, and a mark for pairs above the cutoff that this share of the pairs that do not match exceed"
    parser.add_argument("--false-alarms", type=share_number, metavar="SHARE", help=marks)
    add_remover_flags(parser, "--remover", default="i0t_post")
    parser.add_argument("--prefix", default=PREFIX, help=f"put before every text (default {PREFIX!r})")
    parser.add_argument("--json", metavar="FILE", help="write scores and protocol here")
    parser.add_argument("--csv", metavar="FILE", help="write scores here, one row per pair, in order")
    add_encoding_flags(parser)
    add_common_flags(parser)
    parser.set_defaults(output=str(TENSORS / "score"), batch_size=64, seed=0)
    arguments = parser.parse_args(argv)
    if bool(arguments.pairs) == bool(arguments.image or arguments.caption):
        parser.error("give --image and --caption, or --pairs FILE")
    if not arguments.pairs and len(arguments.image) + len(arguments.caption) < 2:
        parser.error("one item cannot be compared: give two or more --image or --caption")
    if not all(map(has_words, arguments.caption)):
        parser.error("--caption: a text of which nothing shows")
    if arguments.images and not arguments.pairs:
        parser.error("--images is the folder of the images in --pairs FILE")
    named = arguments.calibrate_on
    if arguments.calibration_pairs and named and named[0] not in DATASETS:
        parser.error("--calibration-pairs is for data sets; of vectors, all pairs are used")
    return arguments


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    rows, protocol = score(parse(argv))
    print(scores_table(rows, protocol))
    return 0


if __name__ == "__main__":
    sys.exit(main())

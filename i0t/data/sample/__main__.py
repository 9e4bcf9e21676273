"""Command line: `python -m i0t.data.sample --output DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from i0t.cli import Parser, not_negative, program, seed_number
from i0t.data.sample.writer import DEFAULT_SIZE, SampleSize, data_dir, data_dir_sub, make_sample

DESCRIPTION = """\
Draw the built-in sample: 64 x 64 images of coloured shapes with long captions (with places), short
captions (without places), class folders and caption ratings, in the layouts of the real data sets.
The ratings are computed from what is right in a caption; they are not human.
"""
EPILOG = """\
The programs make a sample while configs/root.txt is empty. Use this command for another size or seed,
then write the two folders that it prints to configs/root.txt and configs/subroot.txt.

examples:
  python -m i0t.data.sample --output /tmp/sample
  python -m i0t.data.sample --output /tmp/tiny --train 200 --flickr 50 --judged 20
"""
HELP = {
    "train": "records in the ShareGPT4V file; the first 1000 (of fewer than 10000, a tenth) are validation",
    "flickr": "test images as Flickr30k, five short captions each",
    "coco": "test images as COCO val2014, five short captions each",
    "nocaps": "test images as NoCaps, ten short captions each",
    "birdsnap_per_class": "test images in each of the 48 class folders (colour x shape)",
    "judged": "images with rated captions, as Flickr8k-Expert and Flickr8k-CF",
}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = Parser(
        prog="python -m i0t.data.sample",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--seed", type=seed_number, default=0, help="another seed gives other scenes (default 0)")
    for name, text in HELP.items():
        default = getattr(DEFAULT_SIZE, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=not_negative,
            default=default,
            metavar="N",
            help=f"{text} (default {default})",
        )
    return parser


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Make the sample and print the lines for the path files."""
    arguments = build_parser().parse_args(argv)
    size = SampleSize(**{name: getattr(arguments, name) for name in HELP})
    root = make_sample(arguments.output, size, arguments.seed).resolve()
    print(f"configs/root.txt:    {data_dir(root)}\nconfigs/subroot.txt: {data_dir_sub(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Program: check whether the data sets are present, complete and readable. `scripts/check_data.sh`."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from i0t.cli import Parser, add_root_flags, not_negative, program, roots_of, workers_of
from i0t.data.datasets import DATASETS, USABLE, Census, census, shown, unit_of
from i0t.paths import Roots

DESCRIPTION = """\
One row per data set: is it there, how many of the expected images and captions it has, and whether its images can
be read. Below the table: what is missing and where to get it. A built-in sample is compared with its own counts.
"""
EPILOG = """\
Exit status: 0 if the data sets that are there are complete and readable, 1 if not, 2 for bad input. An absent data
set counts only if --dataset names it.
"""
SAMPLED = 100
BATCH = 32
WIDTH = 100


@dataclass(frozen=True)
class CheckOptions:
    """Options of the command line; no data set named means all."""

    roots: Roots
    datasets: tuple[str, ...]
    full: bool
    as_json: bool
    workers: int


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    rows = [_check(name, options) for name in options.datasets or DATASETS]
    rows = [row for row in rows if options.datasets or row[0].state != "absent" or not row[0].expected.optional]
    if options.as_json:
        print(json.dumps([_plain(*row) for row in rows], indent=2))
    else:
        print(_table(rows, options.roots))
    wrong = [row for row in rows if row[2] or row[0].state not in (*USABLE, *(() if options.datasets else ("absent",)))]
    return 1 if wrong else 0


def parse(argv: Sequence[str] | None) -> CheckOptions:
    """Parse the command line."""
    parser = Parser(
        prog="scripts/check_data.sh",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "--dataset",
        action="append",
        choices=tuple(DATASETS),
        metavar="NAME",
        help=f"may be repeated (default: all): {', '.join(DATASETS)}",
    )
    parser.add_argument("--full", action="store_true", help=f"decode every image, not {SAMPLED} per data set")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--workers",
        type=not_negative,
        metavar="N",
        help="processes that decode images (default: number of cores, at most 8)",
    )
    add_root_flags(parser)
    arguments = parser.parse_args(argv)
    return CheckOptions(
        roots_of(arguments), tuple(arguments.dataset or ()), arguments.full, arguments.json, workers_of(arguments)
    )


def _check(name: str, options: CheckOptions) -> tuple[Census, int, list[str]]:
    """Return the census of a data set, the number of images that were decoded, and their errors."""
    found = census(name, options.roots)
    # CIFAR-100 is one file, which a checksum has covered.
    images: Sequence[Any] = found.dataset.images if found.dataset and found.expected.root != "cache" else ()
    if not options.full and len(images) > SAMPLED:
        rows = random.Random(0).sample(range(len(images)), SAMPLED)  # the same sample every time
        images = [images[row] for row in sorted(rows)]
    workers = options.workers if len(images) > 10 * SAMPLED else 0  # for few images, starting processes costs more
    return found, len(images), unreadable(images, workers, name)


def unreadable(images: Sequence[Path], workers: int, name: str = "") -> list[str]:
    """Decode images fully; return one error per image that cannot be read."""
    if not len(images):
        return []
    from i0t.data.items import image_loader  # torch takes seconds to import, and --help needs none

    batches = [range(len(images))[start : start + BATCH] for start in range(0, len(images), BATCH)]
    errors = []
    bar = tqdm(total=len(images), desc=f"{name}: decoding", unit=" images", disable=None)
    with bar, image_loader(images, _nothing, batches, workers) as loader:
        for _, messages, _ in loader:
            errors += [message for message in messages if message]
            bar.update(len(messages))
    return errors


def _nothing(image: Any) -> Any:
    """Stand in for the preprocessed pixels, which are not needed here."""
    import torch

    return torch.empty(0)


def _table(rows: list[tuple[Census, int, list[str]]], roots: Roots) -> str:
    cells = [
        [
            found.expected.name,
            found.state,
            f"{found.images} / {shown(found.expected.images)}",
            f"{found.texts} / {shown(found.expected.texts)} {unit_of(found.expected)}",
            f"{len(errors)} of {checked}" if checked else "",
        ]
        for found, checked, errors in rows
    ]
    headers = ["data set", "state", "images", "texts", "unreadable"]
    head = f"<data_dir> {roots.main or 'not set'}\n<data_dir_sub> {roots.sub or 'not set'}"
    if any(found.built_in_sample for found, _, _ in rows):
        head += "\nexpected counts are those of the built-in sample (sample.json); its judgments are constructed"
    notes = "\n".join(line for row in rows for line in _notes(*row))
    table = tabulate(cells, headers=headers, disable_numparse=True)
    return "\n\n".join(filter(None, (head, table, notes)))


def _notes(found: Census, checked: int, errors: list[str]) -> list[str]:
    name, preparation = found.expected.name, found.expected.preparation
    lines = [f"{name}: {found.problem}"] if found.problem else []
    if found.state not in USABLE and found.built_in_sample:
        lines.append("    make the sample again: python -m i0t.data.sample --help")
    elif found.state not in USABLE and preparation:
        pages = wrap(preparation.pages, WIDTH, initial_indent="    get: ", subsequent_indent="    ")
        lines += [*pages, f"    then: {preparation.command}"]
    lines += [f"{name}: {error}" for error in errors[:3]]
    if len(errors) > 3:
        lines.append(f"{name}: ... and {len(errors) - 3} more unreadable (--json lists all)")
    return lines


def _plain(found: Census, checked: int, errors: list[str]) -> dict[str, Any]:
    preparation = found.expected.preparation
    get = {"get": preparation.pages} if preparation and found.state not in USABLE else {}
    return {
        "dataset": found.expected.name,
        **found.counts(),
        "built_in_sample": found.built_in_sample,
        "source": str(found.source),
        "problem": found.problem,
        "note": found.expected.note,
        "decoded": checked,
        "unreadable": errors,
        **get,
    }


if __name__ == "__main__":
    sys.exit(main())

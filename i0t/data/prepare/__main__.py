"""Command line: `python -m i0t.data.prepare NAME --from FOLDER`. `scripts/prepare_data.sh`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from i0t.cli import Parser, add_root_flags, program
from i0t.data.datasets import DATASETS, USABLE, census, sample_size
from i0t.data.entries import DatasetEntry
from i0t.data.prepare.job import Job
from i0t.errors import I0TError
from i0t.files import is_writable
from i0t.paths import Roots, configs_folder, configured_roots
from i0t.scripts import as_called_here

DESCRIPTION = """\
Put a data set into the paper's layout, from the files that its owners publish. Images are linked, not copied.
Files that exist are kept, so an interrupted run can be run again. Nothing is downloaded without --download.
"""
EPILOG = """\
Where to write: configs/root.txt names <data_dir>, configs/subroot.txt <data_dir_sub> (or --data-dir, --data-dir-sub).
Exit status: 0 for a complete data set, 1 if the counts differ from its owners', 2 for bad input.
docs/data.md says where to get the files and what to expect.

examples:
  bash scripts/prepare_data.sh coco --from ~/downloads/coco    # dataset_coco.json, captions_val2014.json, val2014/
  bash scripts/prepare_data.sh flickr30k --from ~/karpathy --images ~/flickr30k-images
  bash scripts/prepare_data.sh cifar100 --download

data sets, and what --from must contain:
"""
PROGRAM = as_called_here("scripts/prepare_data.sh")
WAYS = {entry.name: entry.preparation for entry in DATASETS.values() if entry.preparation}
NAMES = tuple(dict.fromkeys(way.name for way in WAYS.values()))
FILES = {"main": ("root.txt", "<data_dir>", "--data-dir"), "sub": ("subroot.txt", "<data_dir_sub>", "--data-dir-sub")}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    names = [way.command.partition(PROGRAM)[2].partition(" --from")[0].strip() for way in WAYS.values()]
    needs = "".join(f"  {name + ':':23} {way.needs}\n" for name, way in zip(names, WAYS.values()))
    parser = Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG + needs,
    )
    parser.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="where the owners' files are")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="where the images are, if not below --from")
    parser.add_argument("--split", help="coco: test (Karpathy's, default) or val2017; flickr30k: test (default) or val")
    parser.add_argument("--copy", action="store_true", help="copy images instead of linking them")
    parser.add_argument("--overwrite", action="store_true", help="replace a list that exists and differs")
    parser.add_argument("--allow-partial", action="store_true", help="go on without missing images")
    parser.add_argument("--download", action="store_true", help="download the files (cifar100 only)")
    add_root_flags(parser)
    return parser


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a data set and print its counts beside the expected ones."""
    job, run = parse(argv)
    print(*run(job), sep="\n")
    found = census(job.dataset, job.roots)
    if found.state == "broken":
        raise I0TError(found.problem)
    print(f"{job.dataset}: {found.summary()}: {found.state}")
    if found.problem not in found.summary():
        print(f"{job.dataset}: {found.problem}")
    if found.expected.note:
        print(f"{job.dataset}: {found.expected.note}")
    if found.state in USABLE:
        return 0
    print(f"{job.dataset}: evaluations of it will need --allow-partial.")
    return 0 if job.allow_partial else 1


def parse(argv: Sequence[str] | None) -> tuple[Job, Callable[[Job], list[str]]]:
    """Parse the command line into a job and the function that does it."""
    arguments = build_parser().parse_args(argv)
    datasets = {way.split: name for name, way in WAYS.items() if way.name == arguments.name}
    split = arguments.split or next(iter(datasets))
    if split not in datasets:
        raise I0TError(f"--split {split}: {arguments.name} has {', '.join(datasets)}.")
    entry, preparation = DATASETS[datasets[split]], WAYS[datasets[split]]
    if arguments.download and arguments.name != "cifar100":
        raise I0TError(f"--download: only cifar100 can be downloaded. {arguments.name}: {preparation.pages}.")
    if arguments.source is None and not arguments.download:
        raise I0TError(f"{arguments.name}: say where the owners' files are: --from FOLDER ({preparation.needs}).")
    for folder in filter(None, (arguments.source, arguments.images)):
        if not folder.expanduser().is_dir():
            raise I0TError(f"{folder}: no such folder.")
    job = Job(
        dataset=entry.name,
        source=arguments.source and arguments.source.expanduser(),
        roots=_roots(entry, configured_roots(arguments.data_dir, arguments.data_dir_sub)),
        pictures=arguments.images and arguments.images.expanduser(),
        copy=arguments.copy,
        overwrite=arguments.overwrite,
        allow_partial=arguments.allow_partial,
        download=arguments.download,
    )
    return job, preparation.load()


def _roots(entry: DatasetEntry, roots: Roots) -> Roots:
    """Check where to write; never into the built-in sample, which empty path files mean elsewhere."""
    if entry.root == "cache":
        return roots
    root, (file, what, flag) = roots.folder(entry.root), FILES[entry.root]
    if root is None:
        raise I0TError(
            f"{configs_folder() / file}: empty. Write into it the folder that {entry.name} is to be put in ({what}), "
            f"or pass {flag} FOLDER."
        )
    if sample_size(root) is not None:
        raise I0TError(f"{root}: belongs to the built-in sample. Name another folder in {configs_folder() / file}.")
    if not is_writable(root):
        raise I0TError(f"{root}: cannot be written to. Name another folder in {configs_folder() / file}.")
    return roots


if __name__ == "__main__":
    sys.exit(main())

"""Program: the report page of embeddings. `python -m i0t.report FILE... --output DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from i0t.cli import program
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.paths import TENSORS
from i0t.report.page import write_report
from i0t.report.sphere import PROJECTIONS


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m i0t.report",
        description="Write one HTML page, and figures for papers beside it, that show the modality gap of "
        "embeddings before and after I0T_post. The page needs no network.",
        epilog="example: python -m i0t.report images.npy texts.npy --output tensors/mine",
    )
    parser.add_argument(
        "embeddings",
        nargs="+",
        metavar="FILE",
        help="an Embeddings file (.safetensors), or images.npy texts.npy, or one .npy of shape (2, N, D)",
    )
    parser.add_argument("--output", metavar="DIR", help="folder of the report (default: tensors/report-NAME)")
    parser.add_argument("--projection", choices=PROJECTIONS, default="umap", help="of the sphere (default umap)")
    parser.add_argument("--neighbors", type=int, default=15, metavar="K", help="of a point in UMAP (default 15)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Read, measure, write; print the page's path."""
    options = parse(argv)
    if options.neighbors < 2:
        raise I0TError(f"--neighbors {options.neighbors}: UMAP needs 2 or more.")
    embeddings = read_embeddings(options.embeddings)
    folder = options.output or TENSORS / f"report-{Path(options.embeddings[0]).stem}"
    print(
        write_report(embeddings, folder, projection=options.projection, seed=options.seed, neighbors=options.neighbors)
    )
    return 0


def read_embeddings(paths: Sequence[str]) -> Embeddings:
    """Embeddings of files named on the command line, as unit vectors.

    Raises:
        I0TError: other files, or what is wrong with these.
    """
    given = load_embeddings(paths)
    given.metadata.setdefault("files", [str(path) for path in paths])
    return given


if __name__ == "__main__":
    sys.exit(main())

"""The report: a page and figures that show the gap before and after removing it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from i0t.errors import I0TError
from i0t.parser import positive

PROJECTIONS = ("umap", "pca")


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report."""

    projection: str = PROJECTIONS[0]  # for the sphere: "umap" (as in the paper) or "pca" (quick)
    neighbors: int = 15  # per point in UMAP's graph
    seed: int = 0  # of the split, the draws, the projection and the resamples


DEFAULTS = ReportOptions()


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--projection` and `--neighbors`."""
    parser.add_argument(
        "--projection", choices=PROJECTIONS, default="umap", help="projection to the sphere (default umap)"
    )
    parser.add_argument(
        "--neighbors", type=positive, default=15, metavar="K", help="neighbours per point in UMAP (default 15)"
    )


def report_options(arguments: argparse.Namespace) -> ReportOptions:
    """Read the flags of `add_report_flags`, and `--seed`.

    Raises:
        I0TError: too few neighbours.
    """
    if arguments.neighbors < 2:
        raise I0TError(f"--neighbors {arguments.neighbors}: UMAP needs 2 or more.")
    return ReportOptions(arguments.projection, arguments.neighbors, arguments.seed or 0)

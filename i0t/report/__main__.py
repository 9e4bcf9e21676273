"""Program: write the report page of embeddings, as `i0t gap --report`. `python -m i0t.report FILE...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from i0t.cli import Parser, program, seed_number
from i0t.embeddings import PAIRED, load_embeddings
from i0t.files import file_stem
from i0t.paths import TENSORS
from i0t.report import add_report_flags, report_options
from i0t.report.page import write_report


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(
        prog="python -m i0t.report",
        description="Write one HTML page, and figures for papers beside it, that show the modality gap of embeddings\n"
        "before and after I0T_post, as `i0t gap --report DIR` does. The page needs no network.",
        epilog="example: python -m i0t.report images.npy texts.npy --output tensors/mine",
    )
    parser.add_argument("embeddings", nargs="+", metavar="FILE", help=PAIRED)
    parser.add_argument("--output", metavar="DIR", help="folder of the report (default: tensors/report-NAME-DIGEST)")
    parser.add_argument("--seed", type=seed_number, default=0, help="of everything random (default 0)")
    add_report_flags(parser)
    arguments = parser.parse_args(argv)
    options = report_options(arguments)
    embeddings = load_embeddings(arguments.embeddings)
    stem, digest = Path(arguments.embeddings[0]).stem, embeddings.features_sha256[:8]  # many files are called x.npy
    print(write_report(embeddings, arguments.output or TENSORS / file_stem(["report", stem], digest), options))
    return 0


if __name__ == "__main__":
    sys.exit(main())

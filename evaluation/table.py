"""Program: tables from the records of runs, which never mix protocols unseen. `scripts/table.sh`.

    python -m evaluation.table tensors/*.json              # one table per data set, one row per model and gap remover
    python -m evaluation.table tensors/*.json --join       # one row per model and gap remover over all data sets

What differs between the protocols of a data set's records becomes a column of its own and is said below
the table; what all share stands there in one line. --join has no room for such columns and refuses to mix.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from i0t.cli import program
from i0t.results.comparison import read_record
from i0t.results.tables import by_dataset, dataset_table, joined_table

FORMATS = {"text": "simple", "markdown": "github", "latex": "latex_booktabs", "tsv": "tsv"}


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", nargs="+", metavar="RECORD.json", help="what the evaluation programs wrote")
    parser.add_argument("--join", action="store_true", help="all data sets in one table; refuses to mix protocols")
    parser.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="instead of each task's own two")
    parser.add_argument("--format", choices=tuple(FORMATS), default="text")
    arguments = parser.parse_args(argv)
    records = [read_record(path) for path in arguments.records]
    style = FORMATS[arguments.format]
    groups = [records] if arguments.join else by_dataset(records).values()
    table = joined_table if arguments.join else dataset_table
    print("\n\n".join(table(group, arguments.metrics, style) for group in groups))
    return 0


if __name__ == "__main__":
    sys.exit(main())

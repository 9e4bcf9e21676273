"""Program: tables of records, which show differences between protocols. `scripts/table.sh`.

    python -m evaluation.table tensors/*.json              # one table per data set, one row per model and gap remover
    python -m evaluation.table tensors/*.json --join       # one row per model and gap remover over all data sets

If the protocols of a data set's records differ, each difference is a column, and a note below the table names it.
The shared protocol is below the table. --join has no such columns, so it raises an error if protocols differ.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from i0t.cli import Parser, program
from i0t.results.comparison import read_record
from i0t.results.tables import by_dataset, dataset_table, joined_table

FORMATS = {"text": "simple", "markdown": "github", "latex": "latex_booktabs", "tsv": "tsv"}


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(prog="table", description=__doc__)
    parser.add_argument("records", nargs="+", metavar="RECORD.json", help="records of the evaluation programs")
    parser.add_argument("--join", action="store_true", help="all data sets in one table; protocols must not differ")
    parser.add_argument(
        "--metrics", nargs="+", default=[], metavar="NAME", help="instead of the two main metrics of each task"
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
    arguments = parser.parse_args(argv)
    records = [read_record(path) for path in arguments.records]
    style = FORMATS[arguments.format]
    groups = [records] if arguments.join else by_dataset(records).values()
    table = joined_table if arguments.join else dataset_table
    print("\n\n".join(table(group, arguments.metrics, style) for group in groups))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Program: tables from the records of runs, which never mix protocols unseen. `scripts/table.sh`.

    python -m evaluation.table tensors/*.json              # one table a data set, a row a contestant
    python -m evaluation.table tensors/*.json --join       # one row a contestant over all data sets

A contestant is a model with a gap remover. What differs between the protocols of a data set's records
becomes a column of its own and is said below the table; what all share stands there in one line. --join
has no room for such columns and refuses to mix.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from evaluation.comparison import differing, labels_of, protocol_of, read_record, shown_value
from i0t.cli import program
from i0t.errors import I0TError

FORMATS = {"text": "simple", "markdown": "github", "latex": "latex_booktabs", "tsv": "tsv"}
HEADLINE = {
    "retrieval": ("i2t_r1", "t2i_r1"),
    "classification": ("accuracy", "balanced_accuracy"),
    "correlation": ("tau_b", "tau_c"),
}
WIDTH = 100


def dataset_table(records: Sequence[dict[str, Any]], metrics: Sequence[str], style: str = "simple") -> str:
    """The table of one data set, with what differs as columns and what is shared below.

    Args:
        records: of one task and data set.
        metrics: names; those of the paper where empty.
        style: of tabulate.

    Raises:
        I0TError: two records that nothing tells apart have different figures, or a metric is unknown.

    Example:
        >>> record = {"task": "retrieval", "dataset": "coco", "config": {"model": {"name": "tiny"}}, "path": "a.json"}
        >>> record |= {"protocol": {"remove_gap": "none", "clip": True}, "data": {}}
        >>> record |= {"gap": {"centroid_distance": 0.5}, "metrics": {"i2t_r1": 25.0}}
        >>> print(dataset_table([record], ["i2t_r1"], "github"))
        retrieval, coco
        | model   |   CD |   i2t_r1 |
        |---------|------|----------|
        | tiny    | 0.50 |    25.00 |
        All rows: clip: True.
    """
    fields = differing(records)
    labels, names = labels_of(records), metrics or HEADLINE[records[0]["task"]]
    rows: dict[tuple, tuple[list[Any], str]] = {}
    for record, label in zip(records, labels, strict=True):
        key = (*label, *(shown_value(protocol_of(record), field) for field in fields))
        figures = _figures(record, names)
        if key in rows and rows[key][0] != figures:
            raise I0TError(
                f"{rows[key][1]} and {record['path']}: the same model, remover and protocol, but different figures. "
                "Give one of them."
            )
        rows.setdefault(key, (figures, record["path"]))
    wrapped = [field.replace("data ", "data\n").replace("_per_", "\nper ") for field in fields]
    headers = ["model", "gap removed", "means of", *wrapped, "CD", *names]
    body = [[*key, *figures] for key, (figures, _) in rows.items()]
    shown = [column for column in range(len(headers)) if column > 2 or any(row[column] != "-" for row in body)]
    table = tabulate(
        [[row[column] for column in shown] for row in body],
        headers=[headers[column] for column in shown],
        tablefmt=style,
        floatfmt=".2f",
        disable_numparse=list(range(len(shown) - 1 - len(names))),
    )
    note = f"\nNOT ONE PROTOCOL: the rows differ in {', '.join(fields)}." if fields else ""
    shared = {key: value for key, value in protocol_of(records[0]).items() if key not in fields and value is not None}
    same = "; ".join(f"{key}: {shown_value(shared, key)}" for key in shared)
    same = textwrap.fill(f"All rows: {same}.", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return f"{records[0]['task']}, {records[0]['dataset']}\n{table}{note}\n{same}"


def joined_table(records: Sequence[dict[str, Any]], metrics: Sequence[str], style: str = "simple") -> str:
    """One row a contestant, with the figures of all data sets side by side.

    Raises:
        I0TError: a data set was measured by two protocols, or twice with different figures.

    Example:
        >>> record = {"task": "retrieval", "config": {"model": {"name": "tiny"}}, "path": "a.json", "data": {}}
        >>> record |= {"protocol": {"remove_gap": "none"}, "gap": {"centroid_distance": 0.5}}
        >>> record |= {"metrics": {"i2t_r1": 25.0}}
        >>> joined_table([{**record, "dataset": name} for name in ("coco", "flickr")], ["i2t_r1"], "tsv").split()[-7:]
        ['tiny', '-', '-', '0.50', '25.00', '0.50', '25.00']
    """
    groups = _by_dataset(records)
    columns: dict[tuple[str, str], None] = {}
    rows: dict[tuple, dict[tuple[str, str], Any]] = {}
    labels = {record["path"]: label for record, label in zip(records, labels_of(records), strict=True)}
    for (task, dataset), group in groups.items():
        fields = differing(group)
        if fields:
            raise I0TError(
                f"{dataset} ({task}): the records differ in {', '.join(fields)}, so one table would mix protocols. "
                "Leave some out, or leave out --join to see the differences."
            )
        names = [name for name in metrics or HEADLINE[task] if name in group[0]["metrics"]]
        if not metrics and task == "correlation":
            names = [group[0]["protocol"].get("tau") or "tau_c"]
        for record in group:
            cells = rows.setdefault(labels[record["path"]], {})
            for name, figure in zip(("CD", *names), _figures(record, names), strict=True):
                if cells.setdefault((dataset, name), figure) != figure:
                    raise I0TError(
                        f"{record['path']}: this contestant has another {name} on {dataset}. Give one record."
                    )
                columns[dataset, name] = None
    header = ["model", "gap removed", "means of", *(f"{dataset}\n{name}" for dataset, name in columns)]
    body = [[*label, *(cells.get(column, "") for column in columns)] for label, cells in rows.items()]
    return tabulate(body, headers=header, tablefmt=style, floatfmt=".2f", disable_numparse=[0, 1, 2])


def _figures(record: dict[str, Any], names: Sequence[str]) -> list[Any]:
    for name in names:
        if name not in record["metrics"]:
            raise I0TError(f"{record['path']}: no metric {name}. It has {', '.join(record['metrics'])}.")
    return [record["gap"]["centroid_distance"], *(record["metrics"][name] for name in names)]


def _by_dataset(records: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["task"], record["dataset"]), []).append(record)
    return groups


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
    if arguments.join:
        print(joined_table(records, arguments.metrics, style))
    else:
        groups = _by_dataset(records).values()
        print("\n\n".join(dataset_table(group, arguments.metrics, style) for group in groups))
    return 0


if __name__ == "__main__":
    sys.exit(main())

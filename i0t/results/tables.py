"""Tables of records: one data set with its protocols, and several data sets side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from i0t.errors import I0TError
from i0t.results.comparison import (
    Content,
    differing,
    headline_of,
    protocol_of,
    row_labels,
    shown_value,
)
from i0t.results.record import with_interval

WIDTH = 100
NAME_WIDTH = 12  # of a metric at the head of its column


def dataset_table(records: Sequence[Content], metrics: Sequence[str] = (), style: str = "simple") -> str:
    """Format the table of one data set; differing protocol fields are columns, shared ones are below.

    Args:
        records: of one task and data set.
        metrics: names; empty: the record's headline.
        style: of tabulate.

    Raises:
        I0TError: two records with the same label and protocol have different numbers, or a metric is unknown.
    """
    fields = differing(records)
    names = tuple(metrics or dict.fromkeys(name for record in records for name in headline_of(record)))
    rows: dict[tuple[str, ...], tuple[list[Any], Content]] = {}
    for record, label in zip(records, row_labels(records), strict=True):
        key = (*label, *(shown_value(protocol_of(record), field) for field in fields))
        figures = _figures(record, names, required=bool(metrics))
        if key in rows and rows[key][0] != figures:
            raise I0TError(
                f"{rows[key][1]['path']} and {record['path']}: the same model, remover and protocol, but different "
                "figures. Leave one of them out."
            )
        rows.setdefault(key, (figures, record))
    wrapped = [field.replace("data ", "data\n").replace("_per_", "\nper ") for field in fields]
    shown_names = [_wrapped(name) for name in names] if style == "simple" else names
    headers = ["model", "gap removed", "means of", *wrapped, "CD", *shown_names]
    body = [
        [*key, figures[0], *(with_interval(record["metrics"], name) for name in names)]
        for key, (figures, record) in rows.items()
    ]
    shown = [column for column in range(len(headers)) if column > 2 or any(row[column] != "-" for row in body)]
    table = tabulate(
        [[row[column] for column in shown] for row in body],
        headers=[headers[column] for column in shown],
        tablefmt=style,
        floatfmt=".2f",
        missingval="-",
        disable_numparse=list(range(len(shown) - 1 - len(names))),
    )
    note = f"\nNOT ONE PROTOCOL: the rows differ in {', '.join(fields)}." if fields else ""
    shared = {key: value for key, value in protocol_of(records[0]).items() if key not in fields and value is not None}
    same = "; ".join(f"{key}: {shown_value(shared, key)}" for key in shared)
    same = textwrap.fill(f"All rows: {same}.", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return f"{records[0]['task']}, {records[0]['dataset']}\n{table}{note}\n{same}"


def _wrapped(name: str) -> str:
    """A metric's name in lines of at most `NAME_WIDTH` characters, if its words are no longer."""
    lines = textwrap.wrap(name.replace("_", "_ "), NAME_WIDTH, break_long_words=False)
    return "\n".join(line.replace("_ ", "_") for line in lines)


def joined_table(records: Sequence[Content], metrics: Sequence[str] = (), style: str = "simple") -> str:
    """Format one row per model and remover, with the numbers of all data sets side by side.

    Raises:
        I0TError: a data set was measured with two protocols, or twice with different numbers.
    """
    columns: dict[tuple[str, str], None] = {}
    rows: dict[tuple[str, ...], dict[tuple[str, str], Any]] = {}
    labels = {record["path"]: label for record, label in zip(records, row_labels(records), strict=True)}
    for (task, dataset), group in by_dataset(records).items():
        fields = differing(group)
        if fields:
            raise I0TError(
                f"{dataset} ({task}): the records differ in {', '.join(fields)}, so one table would mix protocols. "
                "Leave some out, or leave out --join to see the differences."
            )
        headlines = dict.fromkeys(name for record in group for name in headline_of(record, joined=True))
        names = [name for name in metrics or headlines if any(name in record["metrics"] for record in group)]
        for record in group:
            cells = rows.setdefault(labels[record["path"]], {})
            for name, figure in zip(("CD", *names), _figures(record, names, required=False), strict=True):
                if cells.setdefault((dataset, name), figure) != figure:
                    raise I0TError(
                        f"{record['path']}: this model and remover have another {name} on {dataset}. "
                        "Leave one record out."
                    )
                columns[dataset, name] = None
    header = ["model", "gap removed", "means of", *(f"{dataset}\n{name}" for dataset, name in columns)]
    body = [[*label, *(cells.get(column, "") for column in columns)] for label, cells in rows.items()]
    return tabulate(body, headers=header, tablefmt=style, floatfmt=".2f", missingval="-", disable_numparse=[0, 1, 2])


def by_dataset(records: Sequence[Content]) -> dict[tuple[str, str], list[Content]]:
    """Group records by task and data set, in order."""
    groups: dict[tuple[str, str], list[Content]] = {}
    for record in records:
        groups.setdefault((record["task"], record["dataset"]), []).append(record)
    return groups


def _figures(record: Content, names: Sequence[str], required: bool) -> list[Any]:
    """CD and the metrics; a missing one is None, or an error if required."""
    for name in names:
        if required and name not in record["metrics"]:
            raise I0TError(f"{record['path']}: no metric {name}. It has {', '.join(record['metrics'])}.")
    return [record["gap"].get("centroid_distance"), *(record["metrics"].get(name) for name in names)]

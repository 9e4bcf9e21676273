"""Program: tables from the records of runs, which never mix protocols unseen. `scripts/table.sh`.

    python -m evaluation.table tensors/*.json              # one table a data set, a row a contestant
    python -m evaluation.table tensors/*.json --join       # one row a contestant over all data sets

A contestant is a model with a gap remover. Records of one data set are compared in all that their
protocol states (captions per image, split, prompts, score, precision ...) and in the data they were
measured on. What differs becomes a column of its own and is said below the table; what all share
stands there in one line. --join has no room for such columns and refuses to mix.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from evaluation.record import leak_of
from i0t.cli import program
from i0t.errors import I0TError
from i0t.files import read_json

FORMATS = {"text": "simple", "markdown": "github", "latex": "latex_booktabs", "tsv": "tsv"}
NEEDED = ("task", "dataset", "metrics", "gap", "protocol", "config", "data")
# What makes the contestant, and so its label, and not the protocol.
REMOVER = ("remove_gap", "remover_parameters", "fit_on", "fit_dataset", "n_fit_images", "n_fit_texts", "means_leak")
ABSENT = {*REMOVER, "fit_file", "fit_overlap", "means_fingerprint"}  # of the protocol's fields, those not compared
# What of the data must agree as well.
DATA = ("sha256", "built_in_sample", "images", "texts", "ratings_used")
HEADLINE = {
    "retrieval": ("i2t_r1", "t2i_r1"),
    "classification": ("accuracy", "balanced_accuracy"),
    "correlation": ("tau_b", "tau_c"),
}
UNKNOWN = "not recorded"
WIDTH = 100


def read_record(path: str | Path) -> dict[str, Any]:
    """A record of an evaluation, with its `path`.

    Raises:
        I0TError: not one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.json").write_text(json.dumps(dict.fromkeys(NEEDED, "")))
        ...     Path(read_record(f"{folder}/a.json")["path"]).name
        'a.json'
    """
    content = read_json(path, "the record of an evaluation")
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise I0TError(f"{path}: not the record of an evaluation ({', '.join(missing)} left out).")
    return {**content, "path": str(path)}


def protocol_of(record: dict[str, Any]) -> dict[str, Any]:
    """All that two records of a data set must share to be comparable; the contestant is not part of it.

    Example:
        >>> protocol_of({"protocol": {"clip": True, "remove_gap": "none"}, "data": {"images": 8, "seconds": 3}})
        {'clip': True, 'data images': 8}
    """
    stated = {key: value for key, value in record["protocol"].items() if key not in ABSENT}
    measured = {f"data {key}": record["data"][key] for key in DATA if record["data"].get(key) is not None}
    state = record["data"].get("completeness", {}).get("state")  # "partial" where pictures are known to lack
    return {**stated, **measured, **({"data completeness": state} if state else {})}


def differing(records: Sequence[dict[str, Any]]) -> list[str]:
    """Protocol fields in which records of one data set differ; one that lacks a field differs from those that do not.

    Example:
        >>> blank = {"protocol": {"clip": True}, "data": {}}
        >>> differing([blank, {"protocol": {"clip": False}, "data": {}}])
        ['clip']
    """
    protocols = [protocol_of(record) for record in records]
    fields = dict.fromkeys(field for protocol in protocols for field in protocol)
    return [field for field in fields if len({_text(protocol, field) for protocol in protocols}) > 1]


def contestant_of(record: dict[str, Any]) -> tuple[str, str, str]:
    """(model, gap remover, where its means came from) as they are printed.

    Example:
        >>> protocol = {"remove_gap": "whitening", "remover_parameters": {"shrinkage": 0.9}}
        >>> protocol |= {"fit_on": "test", "n_fit_images": 8, "means_leak": True}
        >>> contestant_of({"protocol": protocol, "config": {"model": {"name": "/runs/mine.safetensors"}}})
        ('mine', 'whitening 0.9', 'test (8, leak)')
    """
    protocol, model = record["protocol"], record["config"]["model"]
    name = str(model.get("name"))
    name = Path(name).stem if name.endswith(".safetensors") else name
    remover = str(protocol.get("remove_gap"))
    if remover == "none":
        return name, "-", "-"
    parameters = (protocol.get("remover_parameters") or {}).values()  # their names would not fit into the line
    remover = " ".join([remover, *(str(value) for value in parameters if value is not None)])
    means = str(protocol.get("fit_dataset") if protocol.get("fit_on") != "test" else "test")
    leak = leak_of(protocol)
    return name, remover, f"{means} ({protocol.get('n_fit_images')}{f', {leak}' if leak else ''})"


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
    labels, names = _labels(records), metrics or HEADLINE[records[0]["task"]]
    rows: dict[tuple, tuple[list[Any], str]] = {}
    for record, label in zip(records, labels, strict=True):
        key = (*label, *(_text(protocol_of(record), field) for field in fields))
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
    same = "; ".join(f"{key}: {_text(shared, key)}" for key in shared)
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
    labels = {record["path"]: label for record, label in zip(records, _labels(records), strict=True)}
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


def _labels(records: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Contestants; models of one name but different weights are told apart by their fingerprints."""
    prints: dict[str, set[str]] = {}
    for record in records:
        prints.setdefault(contestant_of(record)[0], set()).add(_print(record))
    labels = []
    for record in records:
        name, *rest = contestant_of(record)
        labels.append((f"{name} [{_print(record)[:6]}]" if len(prints[name]) > 1 else name, *rest))
    return labels


def _print(record: dict[str, Any]) -> str:
    model = record["config"]["model"]
    return str(model.get("fingerprint") or model.get("features_sha256"))


def _figures(record: dict[str, Any], names: Sequence[str]) -> list[Any]:
    for name in names:
        if name not in record["metrics"]:
            raise I0TError(f"{record['path']}: no metric {name}. It has {', '.join(record['metrics'])}.")
    return [record["gap"]["centroid_distance"], *(record["metrics"][name] for name in names)]


def _text(protocol: dict[str, Any], field: str) -> str:
    """A value in a few letters: long lists by their number and digest, so that different ones look different."""
    if field not in protocol:
        return UNKNOWN
    value = protocol[field]
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]
    if isinstance(value, (list, dict)):
        return f"{len(value)} [{digest}]"
    if field == "data sha256":
        return str(value)[:6]
    return UNKNOWN if value is None else repr(value) if value == "" or str(value) != str(value).strip() else str(value)


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

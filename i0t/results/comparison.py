"""What tables ask of records: which row they belong to, by which protocol, and in what the protocols differ.

A row is a model with a gap remover. Records of one data set are compared in all that their
protocol states (captions per image, split, prompts, score, precision ...) and in the data they were
measured on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from i0t.errors import I0TError
from i0t.files import read_json
from i0t.results.record import leak_of

Content = dict[str, Any]  # of a record's file

NEEDED = ("task", "dataset", "metrics", "gap", "protocol", "config", "data")
# What makes the row's label, and so is not compared.
REMOVER = ("remove_gap", "remover_parameters", "fit_on", "fit_dataset", "n_fit_images", "n_fit_texts", "means_leak")
NOT_COMPARED = {*REMOVER, "fit_file", "fit_overlap", "means_fingerprint"}
# What of the data must agree as well.
DATA = ("sha256", "built_in_sample", "images", "texts", "ratings_used")
UNKNOWN = "not recorded"
# Of records written before they said so themselves.
HEADLINE = {
    "retrieval": ("i2t_r1", "t2i_r1"),
    "classification": ("accuracy", "balanced_accuracy"),
    "correlation": ("tau_b", "tau_c"),
}


def read_record(path: str | Path) -> Content:
    """The record of an evaluation, with its `path`.

    Raises:
        I0TError: not one.
    """
    content = read_json(path, "the record of an evaluation")
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise I0TError(f"{path}: not the record of an evaluation ({', '.join(missing)} left out).")
    return {**content, "path": str(path)}


def headline_of(record: Content, joined: bool = False) -> tuple[str, ...]:
    """The metrics that a table shows of a record: of one data set, or joined with others."""
    if joined and (record.get("headline_joined") or record["protocol"].get("tau")):
        return tuple(record.get("headline_joined") or (record["protocol"]["tau"],))
    return tuple(record.get("headline") or HEADLINE.get(record["task"]) or list(record["metrics"])[:2])


def protocol_of(record: Content) -> Content:
    """All that two records of a data set must share to be comparable; model and remover are not part of it.

    Example:
        >>> protocol_of({"protocol": {"clip": True, "remove_gap": "none"}, "data": {"images": 8, "seconds": 3}})
        {'clip': True, 'data images': 8}
    """
    stated = {key: value for key, value in record["protocol"].items() if key not in NOT_COMPARED}
    measured = {f"data {key}": record["data"][key] for key in DATA if record["data"].get(key) is not None}
    state = record["data"].get("completeness", {}).get("state")  # "partial" where pictures are known to lack
    return {**stated, **measured, **({"data completeness": state} if state else {})}


def differing(records: Sequence[Content]) -> list[str]:
    """Protocol fields in which records of one data set differ; one that lacks a field differs from those that do not.

    Example:
        >>> blank = {"protocol": {"clip": True}, "data": {}}
        >>> differing([blank, {"protocol": {"clip": False}, "data": {}}])
        ['clip']
    """
    protocols = [protocol_of(record) for record in records]
    fields = dict.fromkeys(field for protocol in protocols for field in protocol)
    return [field for field in fields if len({shown_value(protocol, field) for protocol in protocols}) > 1]


def row_label(record: Content) -> tuple[str, str, str]:
    """(model, gap remover, where its means came from) as they are printed.

    Example:
        >>> protocol = {"remove_gap": "whitening", "remover_parameters": {"shrinkage": 0.9}}
        >>> protocol |= {"fit_on": "test", "n_fit_images": 8, "means_leak": True}
        >>> row_label({"protocol": protocol, "config": {"model": {"name": "/runs/mine.safetensors"}}})
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


def row_labels(records: Sequence[Content]) -> list[tuple[str, str, str]]:
    """Of each record; models of one name but different weights are told apart by their fingerprints."""
    prints: dict[str, set[str]] = {}
    for record in records:
        prints.setdefault(row_label(record)[0], set()).add(_print(record))
    labels = []
    for record in records:
        name, remover, means = row_label(record)
        labels.append((f"{name} [{_print(record)[:6]}]" if len(prints[name]) > 1 else name, remover, means))
    return labels


def shown_value(protocol: Content, field: str) -> str:
    """A value in a few letters: long lists by their number and digest, so that different ones look different.

    Example:
        >>> [shown_value({"clip": True, "prefix": " "}, field) for field in ("clip", "prefix", "split")]
        ['True', "' '", 'not recorded']
    """
    if field not in protocol:
        return UNKNOWN
    value = protocol[field]
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]
    if isinstance(value, (list, dict)):
        return f"{len(value)} [{digest}]"
    if field == "data sha256":
        return str(value)[:6]
    return UNKNOWN if value is None else repr(value) if value == "" or str(value) != str(value).strip() else str(value)


def _print(record: Content) -> str:
    model = record["config"]["model"]
    return str(model.get("fingerprint") or model.get("features_sha256"))

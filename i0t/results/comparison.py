"""Compare records for tables: the row of a record, its protocol, and differences between protocols.

A row is a model with a gap remover. Records of one data set must share their protocol (captions per
image, split, prompts, score, precision ...) and their data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from i0t.errors import I0TError
from i0t.reading import check_json, read_json
from i0t.results.record import leak_of

Content = dict[str, Any]  # of a record's file

NEEDED = ("task", "dataset", "metrics", "gap", "protocol", "config", "data")
# In the label of the row, so not compared.
REMOVER = ("remove_gap", "remover_parameters", "fit_on", "fit_dataset", "n_fit_images", "n_fit_texts", "means_leak")
NOT_COMPARED = {*REMOVER, "fit_file", "fit_overlap", "means_fingerprint"}
# Entries of the data that must agree as well.
DATA = ("sha256", "built_in_sample", "images", "texts", "ratings_used")
UNKNOWN = "not recorded"
# For older records, which do not name their headline.
HEADLINE = {
    "retrieval": ("i2t_r1", "t2i_r1"),
    "classification": ("accuracy", "balanced_accuracy"),
    "correlation": ("tau_b", "tau_c"),
}


class ModelForm(TypedDict, total=False):
    """What tables read of `config.model`, for pydantic."""

    name: str | None
    fingerprint: str | None
    features_sha256: str | None


class ConfigForm(TypedDict):
    """What tables read of `config`."""

    model: ModelForm


class ProtocolForm(TypedDict, total=False):
    """What tables read of `protocol`."""

    tau: str | None
    remover_parameters: dict[str, Any] | None
    fit_overlap: dict[str, float] | None


class DataForm(TypedDict, total=False):
    """What tables read of `data`."""

    completeness: dict[str, Any]


class RecordForm(TypedDict):
    """What tables read of a record; other entries are free."""

    task: str
    dataset: str
    metrics: dict[str, float | None]
    gap: dict[str, Any]
    protocol: ProtocolForm
    config: ConfigForm
    data: DataForm
    headline: NotRequired[list[str] | None]
    headline_joined: NotRequired[list[str] | None]


def read_record(path: str | Path) -> Content:
    """Read the record of an evaluation; adds its `path`.

    Raises:
        I0TError: not such a record.
    """
    content = read_json(path, "the record of an evaluation")
    missing = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise I0TError(f"{path}: not the record of an evaluation ({', '.join(missing)} left out).")
    check_json(RecordForm, content, path, "the record of an evaluation")
    return {**content, "path": str(path)}


def headline_of(record: Content, joined: bool = False) -> tuple[str, ...]:
    """Names of the metrics in a table of one data set, or (`joined`) of several."""
    if joined and (record.get("headline_joined") or record["protocol"].get("tau")):
        return tuple(record.get("headline_joined") or (record["protocol"]["tau"],))
    return tuple(record.get("headline") or HEADLINE.get(record["task"]) or list(record["metrics"])[:2])


def protocol_of(record: Content) -> Content:
    """Collect what two records of a data set must share to be comparable, without model and remover."""
    stated = {key: value for key, value in record["protocol"].items() if key not in NOT_COMPARED}
    measured = {f"data {key}": record["data"][key] for key in DATA if record["data"].get(key) is not None}
    state = record["data"].get("completeness", {}).get("state")  # "partial" if images are missing
    return {**stated, **measured, **({"data completeness": state} if state else {})}


def differing(records: Sequence[Content]) -> list[str]:
    """Protocol fields in which records of one data set differ; a missing field is a difference."""
    protocols = [protocol_of(record) for record in records]
    fields = dict.fromkeys(field for protocol in protocols for field in protocol)
    return [field for field in fields if len({shown_value(protocol, field) for protocol in protocols}) > 1]


def row_label(record: Content) -> tuple[str, str, str]:
    """(model, gap remover, where its means come from), for printing."""
    protocol, model = record["protocol"], record["config"]["model"]
    name = str(model.get("name") or UNKNOWN)
    name = Path(name).stem if name.endswith(".safetensors") else name
    remover = str(protocol.get("remove_gap"))
    if remover == "none":
        return name, "-", "-"
    parameters = (protocol.get("remover_parameters") or {}).values()  # no names: they would not fit into the line
    remover = " ".join([remover, *(str(value) for value in parameters if value is not None)])
    means = str(protocol.get("fit_dataset") if protocol.get("fit_on") != "test" else "test")
    leak = leak_of(protocol)
    return name, remover, f"{means} ({protocol.get('n_fit_images')}{f', {leak}' if leak else ''})"


def row_labels(records: Sequence[Content]) -> list[tuple[str, str, str]]:
    """Labels of all records; models with the same name but different weights get their fingerprint."""
    prints: dict[str, set[str]] = {}
    for record in records:
        prints.setdefault(row_label(record)[0], set()).add(_print(record))
    labels = []
    for record in records:
        name, remover, means = row_label(record)
        labels.append((f"{name} [{_print(record)[:6]}]" if len(prints[name]) > 1 else name, remover, means))
    return labels


def shown_value(protocol: Content, field: str) -> str:
    """Format a value in a few letters; lists as length and digest, so that different lists look different."""
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

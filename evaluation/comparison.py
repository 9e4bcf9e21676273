"""What tables ask of records: whose they are, by which protocol, and in what the protocols differ.

A contestant is a model with a gap remover. Records of one data set are compared in all that their
protocol states (captions per image, split, prompts, score, precision ...) and in the data they were
measured on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.record import leak_of
from i0t.errors import I0TError
from i0t.files import read_json

NEEDED = ("task", "dataset", "metrics", "gap", "protocol", "config", "data")
# What makes the contestant, and so its label, and not the protocol.
REMOVER = ("remove_gap", "remover_parameters", "fit_on", "fit_dataset", "n_fit_images", "n_fit_texts", "means_leak")
ABSENT = {*REMOVER, "fit_file", "fit_overlap", "means_fingerprint"}  # of the protocol's fields, those not compared
# What of the data must agree as well.
DATA = ("sha256", "built_in_sample", "images", "texts", "ratings_used")
UNKNOWN = "not recorded"


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
    return [field for field in fields if len({shown_value(protocol, field) for protocol in protocols}) > 1]


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


def labels_of(records: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Contestants; models of one name but different weights are told apart by their fingerprints.

    Example:
        >>> models = [{"name": "tiny", "fingerprint": print_} for print_ in ("abcdefgh", "12345678")]
        >>> records = [{"protocol": {"remove_gap": "none"}, "config": {"model": model}} for model in models]
        >>> [name for name, _, _ in labels_of(records)]
        ['tiny [abcdef]', 'tiny [123456]']
    """
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


def shown_value(protocol: dict[str, Any], field: str) -> str:
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

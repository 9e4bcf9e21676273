"""Read a recording as fields by name: JSON, CSV, tensors, numbers of the report page, training logs, tables."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from benchmarks.recording import RECORDED

NOT_COMPARED = ("kept", "cache", "configs", RECORDED)  # copies, and data about the run
IGNORED = {  # fields that differ between equal runs
    *("seconds", "created", "environment", "versions", "peak_memory_bytes", "images_per_second", "from_cache"),
    *("written", "source_stamp"),  # times of change
}
LENIENT = ("metadata", "printed")  # first part of a name: headers of tensor files; tables and figures
DIGEST = re.compile(r"-[0-9a-f]{6,40}(?=[-./]|$)")
TIMED = re.compile(r"seconds |\d+ s\. ")  # start of printed lines with the time of a run
PAGE_DATA = re.compile(r'<script type="application/json"[^>]*>(.*?)</script>', re.DOTALL)


def facts_of(folder: Path) -> dict[str, Any]:
    """Read where a recording was made, of which commit, and what failed."""
    return json.loads((folder / RECORDED).read_text())


def read_recording(folder: Path) -> dict[str, dict[str, Any]]:
    """Fields of all files of a recording, by a name of the file without digests.

    Records are named by step, task and data set, our tensors by their header; files with the same name are numbered,
    in the order of gap remover, calibration set and file name.
    """
    about = facts_of(folder)
    places = [f"{about['folder']}/", f"{about['checkout']}/"]
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = path.relative_to(folder)
        if relative.parts[0] in NOT_COMPARED or (content := _content(path)) is None:
            continue
        name, order = _identity(DIGEST.sub("", relative.as_posix()), content)
        fields = ((field, _plain(value, places)) for field, value in _fields(content))
        groups[name].append((order, {field: value for field, value in fields if value is not NOT_COMPARED}))
    named = {}
    for name, group in groups.items():
        ranked = sorted(group, key=lambda one: one[0])
        named |= {f"{name}{f' #{rank}' if rank else ''}": fields for rank, (_, fields) in enumerate(ranked)}
    return named


def _content(path: Path) -> Any:
    """Read a file as dicts, lists and arrays; None for kinds without numbers."""
    if path.name.startswith("events.out.tfevents"):
        return _logged(path)
    if path.name == "printed.txt":
        found = _parsed(path.read_text())
        if not isinstance(found, str):
            return found
        return {"printed": [DIGEST.sub("", line) for line in found.splitlines() if not TIMED.match(line)]}
    if path.suffix in (".jpg", ".png"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"sha256" if path.suffix == ".jpg" else "printed": digest}  # .png: figures, drawn from numbers
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text().splitlines()))
    if path.suffix == ".npy":
        return {"array": np.load(path)}
    if path.suffix == ".html":
        return {"page": json.loads(PAGE_DATA.findall(path.read_text())[0])}
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, framework="numpy") as file:
        header = {key: _parsed(value) for key, value in (file.metadata() or {}).items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    return {"metadata": header, "tensors": tensors}


def _logged(path: Path) -> dict[str, list[float]]:
    """Read the scalars of a TensorBoard log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(path))
    log.Reload()
    return {tag: [event.value for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def _identity(name: str, content: Any) -> tuple[str, str]:
    """Name of a file in a comparison, and its order among files with the same name."""
    name = re.sub(r"events\.out\.tfevents.*", "log", name)
    if not isinstance(content, dict):
        return name, name
    header, step = content.get("metadata", {}), name.partition("/")[0]
    if content.get("task") == "mixed search":  # older records of search do not name the data set
        return f"{step}: record mixed search", name
    parts = (content, header.get("metadata"), header.get("provenance"))
    about = next((part for part in parts if isinstance(part, dict) and "dataset" in part), None)
    if about is None:
        return name, name
    kind = str(header.get("format", "record")).rstrip("-0123456789")
    stated = [kind, *(about[key] for key in ("task", "dataset", "fit_on") if about.get(key))]
    protocol = content.get("protocol", {})
    return f"{step}: {' '.join(stated)}", f"{protocol.get('remove_gap')} {protocol.get('fit_on')} {name}"


def _fields(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of nested content."""
    if isinstance(content, (dict, list)):
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            if key not in IGNORED:
                yield from _fields(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, content


def _plain(value: Any, places: Sequence[str]) -> Any:
    """Remove folders of the recording and digests from a text; NOT_COMPARED for other paths."""
    if not isinstance(value, str):
        return value
    for place in places:
        value = value.replace(place, "")
    if value.startswith("/"):
        return NOT_COMPARED
    return DIGEST.sub("", value) if "/" in value or ".safetensors" in value else value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text

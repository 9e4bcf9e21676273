"""`Record`: a result as JSON, with all that is needed to understand and repeat it."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from i0t.files import file_stem, write_json
from i0t.paths import IS_CHECKOUT, REPO
from i0t.versions import versions

DRAWN = ("seed", "bootstrap")  # flags of random draws


@dataclass
class Record:
    """One result, mostly of a model on a data set.

    Attributes:
        task: e.g. "retrieval".
        dataset: its name.
        metrics: of evaluations in percent, except ranks.
        protocol: what two comparable results share: captions per image, prefix, w, clip, calibration set.
        config: flags and model.
        data: counts, sources and hashes; `sha256` covers all that the metrics read, `images_sha256` the bytes of the
            image files.
        seconds: wall time from loading the data to the last metric.
        gap: `modality_gap` of the scored features.
        gap_before: `modality_gap` before removing the gap; empty if nothing was removed.
        headline: names of the metrics in a table of one data set.
        headline_joined: names of the metrics in a table of several data sets.
        sections: further top-level entries of the file.
    """

    task: str
    dataset: str
    metrics: dict[str, float]
    protocol: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]
    seconds: float
    gap: dict[str, Any] = field(default_factory=dict)
    gap_before: dict[str, Any] = field(default_factory=dict)
    headline: tuple[str, ...] = ()
    headline_joined: tuple[str, ...] = ()
    sections: dict[str, Any] = field(default_factory=dict)
    peak_memory_bytes: int = field(default_factory=lambda: peak_memory_bytes())
    environment: dict[str, Any] = field(default_factory=lambda: environment())
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    @property
    def stem(self) -> str:
        """File name without suffix; results that may differ have different names."""
        model = self.config.get("model") or {}
        # Seed and resamples change numbers, but are not part of the protocol.
        drawn = {key: self.config.get("flags", {}).get(key) for key in DRAWN}
        # Vectors of a file are whatever its writer made of model and images, so they count themselves.
        vectors = [model["features_sha256"]] if model.get("features_sha256") else []
        content = [self.protocol, model.get("fingerprint"), self.data["sha256"], drawn, *vectors]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        name = str(model.get("name") or "")
        name = Path(name).stem if name.endswith(".safetensors") else name
        return file_stem((self.task, self.dataset, name, self.protocol.get("remove_gap")), last=digest)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        content = asdict(self)
        sections = content.pop("sections")
        return plain({**content, **sections})

    def save(self, folder: str | Path) -> Path:
        """Write the record into a folder and return its path."""
        path = Path(folder) / f"{self.stem}.json"
        write_json(path, self.as_dict())
        return path


def run_table(records: Sequence[Record], names: Sequence[str]) -> str:
    """Format the records of one model and gap remover: one row per data set, at most 80 columns wide, and notes."""
    headers = ["data set", "CD", *(name.replace("balanced_accuracy", "balanced") for name in names)]
    rows, notes = [], []
    for record in records:
        complete = record.data.get("completeness", {})
        partial = " (partial)" if complete.get("state") == "partial" else ""
        figures = (with_interval(record.metrics, name) for name in names)
        rows.append([record.dataset + partial, f"{record.gap['centroid_distance']:.3f}", *figures])
        if "images" in complete and "why" in complete:
            notes.append(f"{record.dataset}: {complete['state']}: {complete['why']}")
        if left_out := record.data.get("unreadable_pictures"):
            notes.append(f"{record.dataset}: {left_out} unreadable images left out; the record names them")
    protocol = records[0].protocol
    title = [str(records[0].config["model"]["name"]), f"remove_gap={protocol['remove_gap']}"]
    title += [f"{key}={protocol[key]}" for key in ("fit_on", "score") if key in protocol]
    title += [f"means of evaluated items: {leak_of(protocol)}"] if protocol.get("means_leak") else []
    table = tabulate(rows, headers=headers, floatfmt=".2f", disable_numparse=[0, 1])
    return "\n".join([", ".join(title), table, *notes])


def with_interval(metrics: dict[str, Any], name: str) -> Any:
    """Return a metric for a table, as text with its 95 % interval if there is one; None if there is no such metric."""
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return metrics.get(name)
    return f"{metrics[name]:.2f} [{low:.1f}, {high:.1f}]"


def leak_of(protocol: dict[str, Any]) -> str:
    """Say in a few words whether the means come from evaluated items; empty if they do not."""
    if not protocol.get("means_leak"):
        return "" if protocol.get("means_leak") is False else "leak unknown"
    share = max((protocol.get("fit_overlap") or {}).values(), default=0.0)
    # Without a share, the leak is known from the name of the data set: items may be encoded differently.
    return f"leak of {100 * share:.2g} %" if 0 < share < 1 else "leak"


def environment() -> dict[str, Any]:
    """Collect versions, git commit and machine."""
    import torch  # not needed for tables of records

    return {
        "git_commit": git_commit(),
        "platform": platform.platform(),
        "versions": versions(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "command": " ".join(sys.argv),
    }


def git_commit() -> str | None:
    """Commit of the checkout, with "+changes" if files differ from it; None outside a checkout."""
    if not IS_CHECKOUT:  # a repository around the installed package would be another project's
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}+changes" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, without workers."""
    status = Path("/proc/self/status")
    if status.is_file():  # of this program alone: getrusage begins with the peak of the process that started it
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(REPO), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def plain(value: Any) -> Any:
    """Convert a value for JSON: NaN and infinity become null, paths and NumPy numbers plain values."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)

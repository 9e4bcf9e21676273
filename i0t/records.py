"""A result is a JSON record: numbers together with all that is needed to trust and repeat them."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from i0t.files import write_json
from i0t.paths import REPO

PACKAGES = (
    "i0t",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
)

DRAWN = ("seed", "bootstrap")  # flags of what is drawn at random: by which seed, and how many resamples


@dataclass
class Record:
    """One evaluation of one model on one data set.

    Attributes:
        task: retrieval, classification or correlation.
        dataset: its name.
        metrics: in percent, except ranks.
        gap: `modality_gap` of the features that were scored.
        gap_before: the same before the gap was removed; empty where nothing was removed.
        protocol: what makes two results comparable: captions per image, prefix, w, clip, fitting set.
        config: the flags and the model.
        data: counts, sources and hashes.
        seconds: wall time from loading the data to the last metric.

    Example:
        >>> config = {"model": {"name": "tiny", "fingerprint": "0123"}}
        >>> parts = {"protocol": {"remove_gap": "i0t_post"}, "config": config, "data": {"sha256": "4567"}}
        >>> Record("retrieval", "coco", {"i2t_r1": 50.0}, gap={}, gap_before={}, seconds=1.0, **parts).stem
        'retrieval-coco-tiny-i0t_post-921a0a8c'
    """

    task: str
    dataset: str
    metrics: dict[str, float]
    gap: dict[str, Any]
    gap_before: dict[str, Any]
    protocol: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]
    seconds: float
    peak_memory_bytes: int = field(default_factory=lambda: peak_memory_bytes())
    environment: dict[str, Any] = field(default_factory=lambda: environment())
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    @property
    def stem(self) -> str:
        """File name without suffix: readable, and different whenever the results may be."""
        remover, model = self.protocol["remove_gap"], str(self.config["model"]["name"])
        model = Path(model).stem if model.endswith(".safetensors") else re.sub(r"[^\w.+-]+", "-", model)[:100]
        # Intervals and what is drawn at random change figures, but not what may stand in one table: no protocol.
        drawn = {key: self.config.get("flags", {}).get(key) for key in DRAWN}
        content = [self.protocol, self.config["model"]["fingerprint"], self.data["sha256"], drawn]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.task}-{self.dataset}-{model}-{remover}-{digest}"

    def save(self, folder: str | Path) -> Path:
        """Write the record into a folder and return its path."""
        path = Path(folder) / f"{self.stem}.json"
        write_json(path, _plain(asdict(self)))
        return path


def environment() -> dict[str, Any]:
    """Versions, git commit, machine.

    Example:
        >>> sorted(environment())
        ['command', 'device', 'git_commit', 'packages', 'platform', 'python']
    """
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "command": " ".join(sys.argv),
    }


def git_commit() -> str | None:
    """Commit of the checkout, with "+changes" where files differ from it; None outside a checkout.

    Example:
        >>> commit = git_commit()
        >>> commit is None or len(commit.removesuffix("+changes")) == 40
        True
    """
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}+changes" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository: installed elsewhere
        return None


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, workers not counted.

    Example:
        >>> 10**7 < peak_memory_bytes() < 10**13  # in bytes, on Linux as on macOS
        True
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(REPO), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _plain(value: Any) -> Any:
    """JSON has neither NaN nor infinity: they become null. Paths and NumPy numbers become plain values."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)

"""Versions in use, for records, checkpoints and `i0t --version`; read from the installed files, nothing is imported."""

from __future__ import annotations

import platform
import runpy
from importlib.metadata import PackageNotFoundError, distribution

from i0t import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "timm",
    "accelerate",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "safetensors",
    "pyarrow",
    "faiss-cpu",
)


def versions() -> dict[str, str | None]:
    """Collect versions by name: i0t, python, `PACKAGES` (None: not installed), cuda (of torch; None: built without)."""
    found: dict[str, str | None] = {"i0t": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = distribution(package).version
        except PackageNotFoundError:
            found[package] = None
    return {**found, "cuda": _cuda_build()}


def _cuda_build() -> str | None:
    """CUDA version in torch/version.py, a file of constants; torch itself takes seconds to import."""
    try:
        file = str(distribution("torch").locate_file("torch/version.py"))
        return runpy.run_path(file).get("cuda")
    except (PackageNotFoundError, OSError):
        return None


def versions_text() -> str:
    """Format `versions`, one name a line."""
    found = versions()
    cuda = found.pop("cuda")
    build = f" (built for {f'CUDA {cuda}' if cuda else 'the CPU'})"
    shown = {name: f"{version}{build}" if name == "torch" and version else version for name, version in found.items()}
    width = max(map(len, shown))
    return "\n".join(f"{name:{width}} {version or 'not installed'}" for name, version in shown.items())

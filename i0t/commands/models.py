"""Program: list the models that can be loaded, with files, size, licence, and whether they are here. `i0t models`.

They are the specs of configs/models and the checkpoints in <data_dir>/checkpoints and tensors/checkpoints. A licence is
what the publisher states for the weights, or else for their repository; "not stated": no statement was found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from i0t.cli import Parser, add_root_flags, program
from i0t.encoders.load import files_of, known_models, read_spec
from i0t.paths import CHECKPOINT_FOLDER, TENSORS, Roots, configured_roots

UNKNOWN = "not stated"
BESIDES = """Besides: open_clip:ARCH/TAG, such as ViT-B-16/laion2b_s34b_b88k; hf-hub:OWNER/NAME (open_clip);
hf:OWNER/NAME (transformers); st:OWNER/NAME (sentence-transformers); a folder that such a library
saved; any checkpoint file of ours."""


class Part(NamedTuple):
    """A file of a model, or a repository of the Hugging Face hub."""

    place: str
    size: str
    is_here: bool


def parts_of(spec: dict[str, Any], data_dir: Path | None) -> Iterator[Part]:
    """Yield the files and repositories that a spec needs; none for random weights."""
    for file in files_of(spec).values():
        path = Path(file["path"]).expanduser()
        path = path if data_dir is None else data_dir / path
        hub = file.get("hub")
        here = (path.is_absolute() and path.is_file()) or bool(hub and is_cached(hub))
        yield Part(f"{file['path']}{f', or hub {hub}' if hub else ''}", str(file.get("size", "-")), here)
    about = spec.get("about") or {}
    if hub := about.get("hub") or spec.get("hub"):
        yield Part(f"hub {hub}", str(about.get("size", "-")), is_cached(hub))


def is_cached(repository: str) -> bool:
    """Whether files of a repository are in the cache of huggingface_hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(path.is_file() for path in snapshots.glob("*/*"))


def listing(roots: Roots) -> str:
    """Format the table: a row per model, and below it one per file or repository that it needs."""
    rows: list[list[str]] = []
    for name in known_models():
        spec = read_spec(name)
        parts = list(parts_of(spec, roots.main))
        licence = (spec.get("about") or {}).get("licence", UNKNOWN)
        rows.append([name, "" if parts else "random weights", licence, _yes(all(part.is_here for part in parts))])
        rows += [[f"└ {place}", size, "", _yes(is_here)] for place, size, is_here in parts]
    folders = [folder / CHECKPOINT_FOLDER for folder in (roots.main, TENSORS) if folder]
    for path in (path for folder in folders for path in sorted(folder.glob("*.safetensors"))):
        rows.append([str(path), f"{path.stat().st_size / 1e9:.2f} GB", "yours", _yes(True)])
    return tabulate(rows, headers=["model", "size", "licence", "here"], disable_numparse=True)


def _yes(is_here: bool) -> str:
    return "yes" if is_here else "no"


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(prog="i0t models", description=__doc__)
    add_root_flags(parser)
    arguments = parser.parse_args(argv)
    print(listing(configured_roots(arguments.data_dir, arguments.data_dir_sub)), BESIDES, sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

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
WIDTHS = [31, 30, 12, 12, 4]  # characters of each column; longer cells are wrapped
BESIDES = """Besides: ARCH/TAG of open_clip, e.g. ViT-B-16/laion2b_s34b_b88k; hf:NAME (transformers), st:NAME
(sentence-transformers), hf-hub:OWNER/NAME, a folder that such a library saved;
any checkpoint file of ours."""


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
    """Format the table: a row per file of a model, at most 100 columns wide."""
    rows = []
    for name in known_models():
        spec = read_spec(name)
        licence = (spec.get("about") or {}).get("licence", UNKNOWN)
        for place, size, is_here in list(parts_of(spec, roots.main)) or [Part("none: random weights", "-", True)]:
            rows.append([name, place, size, licence, "yes" if is_here else "no"])
            name = licence = ""  # once a model
    folders = [folder / CHECKPOINT_FOLDER for folder in (roots.main, TENSORS) if folder]
    for path in (path for folder in folders for path in sorted(folder.glob("*.safetensors"))):
        rows.append([path.name, str(path), f"{path.stat().st_size / 1e9:.2f} GB", "yours", "yes"])
    headers = ["model", "weights", "size", "licence", "here"]
    return tabulate(rows, headers=headers, disable_numparse=True, maxcolwidths=WIDTHS)


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

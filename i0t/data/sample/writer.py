"""Write the sample below a folder, once.

`sample.json` is written last, with size, seed and version: if it is missing or differs, the sample is
made (again). A lock keeps two processes from writing at once.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from i0t.data.datasets import SAMPLE_MARKER as MARKER
from i0t.data.sample.annotations import OWNED, write_annotations
from i0t.data.sample.drawing import draw_all
from i0t.data.sample.parts import Part
from i0t.data.sample.scenes import KINDS
from i0t.errors import I0TError
from i0t.files import ensure_folder, write_json
from i0t.reading import read_json

VERSION = 2  # increase it when a seed gives other bytes than before
LOCK = ".sample.lock"


@dataclass(frozen=True)
class SampleSize:
    """Number of scenes per part.

    Raises:
        I0TError: a number is negative.
    """

    train: int = 10_000  # records in the ShareGPT4V file, the tenth for validation included
    flickr: int = 1_000
    coco: int = 200
    nocaps: int = 100
    birdsnap_per_class: int = 10  # of 48 classes
    judged: int = 300

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise I0TError(f"Sample size {field.name}: {getattr(self, field.name)}. Give 0 or more.")

    def counts(self) -> dict[Part, int]:
        """Scenes by part. Validation is as in the reader: the first 1 000 records, or a tenth if that is less."""
        validation = min(1_000, self.train // 10)
        return {
            Part.VALIDATION: validation,
            Part.TRAIN: self.train - validation,
            Part.FLICKR: self.flickr,
            Part.COCO: self.coco,
            Part.NOCAPS: self.nocaps,
            Part.JUDGED: self.judged,
            Part.CLASSES: self.birdsnap_per_class * len(KINDS),
        }


DEFAULT_SIZE = SampleSize()


def data_dir(root: str | Path) -> Path:
    """The sample's `<data_dir>`, as `configs/root.txt` would name it."""
    return Path(root) / "data_dir"


def data_dir_sub(root: str | Path) -> Path:
    """The sample's `<data_dir_sub>`, as `configs/subroot.txt` would name it."""
    return Path(root) / "data_dir_sub"


def make_sample(root: str | Path, size: SampleSize = DEFAULT_SIZE, seed: int = 0) -> Path:
    """Write the sample below `root`, unless the same sample is already there; return `root`.

    An unfinished sample, or one of another size, seed or version, is replaced; other files below
    `root`, such as checkpoints, stay. If several processes call this at once, one writes and the others
    wait.

    Raises:
        I0TError: the folder cannot be written, or holds other data.
    """
    if seed < 0:
        raise I0TError(f"Sample seed: {seed}. Give 0 or more.")
    root = Path(root)
    marker = {
        "version": VERSION,
        "size": asdict(size),
        "seed": seed,
        "judgments": "constructed, not human",
    }
    if _marker_of(root) == marker:
        return root
    _refuse_foreign(ensure_folder(root))
    with _only_writer(root):
        if _marker_of(root) != marker:  # another process may have made it while we waited
            (root / MARKER).unlink(missing_ok=True)
            for folder in OWNED:
                shutil.rmtree(root / folder, ignore_errors=True)
            write_annotations(root, draw_all(root, size.counts(), seed), seed)
            write_json(root / MARKER, marker)
    return root


def _marker_of(root: Path) -> object:
    """Content of the marker; None if there is none."""
    return read_json(root / MARKER, "the built-in sample's marker") if (root / MARKER).exists() else None


def _refuse_foreign(root: Path) -> None:
    """Raise an error rather than remove files of others: the sample's own come with a marker or a lock."""
    if (root / MARKER).exists() or (root / LOCK).exists():
        return
    for folder in OWNED:
        if (root / folder).exists():
            raise I0TError(f"{root / folder}: exists and was not made by the built-in sample. Choose another folder.")


@contextmanager
def _only_writer(root: Path) -> Iterator[None]:
    """Hold the sample's lock; the system releases it if the process is killed."""
    with open(root / LOCK, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

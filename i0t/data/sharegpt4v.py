"""ShareGPT4V: pictures with long captions, the training data of the paper (section 4.1)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from i0t.data.caption_index import CaptionIndex, Rows, open_index
from i0t.errors import I0TError

FILE = "sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json"
IMAGES = "sharegpt4v/data"
VALIDATION_RECORDS = 1_000
SMALL_FILE = 10_000  # below this a tenth is validation, so that something is left to train on
SHOWN_MISSING = 10

Split = Literal["train", "validation"]


@dataclass(frozen=True)
class LongCaptions:
    """N pictures, each with one long caption, read from the index when asked for.

    Attributes:
        names: N picture names, as the JSON has them.
        captions: N long captions, without line breaks.
        folder: what the names are relative to.
        source: the JSON file.
        digest: which pairs these are: of the JSON's content, the split, the subset and what was left out.
        missing: names left out because there is no such picture.

    Example:
        >>> pairs = LongCaptions(["coco/a.jpg"], ["A red bus. It is parked."], Path("/data"), Path("s.json"), "12ab")
        >>> pairs.image(0).as_posix(), pairs.short_captions()
        ('/data/coco/a.jpg', ['A red bus'])
    """

    names: Sequence[str]
    captions: Sequence[str]
    folder: Path
    source: Path
    digest: str
    missing: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """N."""
        return len(self.names)

    def image(self, row: int) -> Path:
        """Path of one picture."""
        return self.folder / self.names[row]

    @property
    def images(self) -> list[Path]:
        """N picture paths, made anew: for a large set ask for `image(row)`."""
        return [self.folder / name for name in self.names]

    def short_captions(self) -> list[str]:
        """The text before the first ". " of each caption."""
        return [short_caption(caption) for caption in self.captions]


def short_caption(caption: str) -> str:
    """First sentence of a long caption.

    Example:
        >>> short_caption("A red bus. It is parked.")
        'A red bus'
    """
    return caption.split(". ")[0]


def load_sharegpt4v(data_dir: Path, split: Split, subset: str = "coco", skip_missing: bool = False) -> LongCaptions:
    """One split of the JSON file.

    Args:
        data_dir: `<data_dir>` of the README.
        split: the first 1 000 records are "validation" (a tenth of a file under 10 000 records).
        subset: first folder of the training image paths, e.g. "coco", "llava", "sam"; or "all".
            Validation takes its records from all folders, as the first public code does; pictures of
            other folders than the subset's may be missing and are then left out.
        skip_missing: leave out pictures that are not there instead of refusing them.

    Raises:
        I0TError: missing or malformed file, an empty split, or pictures that are not there: how many,
            and the first ten.

    Example:
        >>> import tempfile
        >>> from i0t.files import write_json
        >>> record = {"image": "coco/a.jpg", "conversations": [{}, {"value": "A dog. It runs."}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder, FILE), [record] * 10)
        ...     Path(folder, IMAGES, "coco").mkdir(parents=True)
        ...     Path(folder, IMAGES, "coco", "a.jpg").touch()
        ...     pairs = load_sharegpt4v(Path(folder), "train")
        >>> len(pairs), pairs.captions[0]
        (9, 'A dog. It runs.')
    """
    source = data_dir / FILE
    index = open_index(source)
    held_out = VALIDATION_RECORDS if len(index) >= SMALL_FILE else len(index) // 10
    if split == "validation":
        rows = np.arange(held_out)
    else:
        rows = np.arange(held_out, len(index))
        if subset != "all":
            rows = rows[np.asarray(pc.starts_with(index.images, f"{subset}/"))[held_out:]]
    if not len(rows):
        raise I0TError(f"{source}: no {split} record in the subset {subset!r}.")
    there = pictures_there(index, rows, data_dir / IMAGES)
    missing = [index.images[int(row)].as_py() for row in rows[~there]]
    needed = [name for name in missing if subset == "all" or name.startswith(f"{subset}/")]
    if (needed and not skip_missing) or not there.any():
        raise I0TError(_missing_text(source, len(rows), needed or missing))
    kept = rows[there]
    what = "\0".join([index.digest, split, subset, *missing])
    return LongCaptions(
        Rows(index, "images", kept),
        Rows(index, "captions", kept),
        data_dir / IMAGES,
        source,
        hashlib.sha256(what.encode()).hexdigest(),
        missing,
    )


def pictures_there(index: CaptionIndex, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Whether the pictures of some records are there.

    Every folder is listed once, which is quicker than to ask for each file.

    Args:
        index: of the JSON.
        rows: (N,) numbers of records.
        folder: what the picture names are relative to.

    Returns:
        (N,) bool.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> from types import SimpleNamespace
        >>> index = SimpleNamespace(images=pa.chunked_array([["a.jpg", "b.jpg", "c.jpg"]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "b.jpg").touch()
        ...     pictures_there(index, np.array([1, 2]), Path(folder)).tolist()
        [True, False]
    """
    listed: dict[str, set[str]] = {}
    there = np.empty(len(rows), dtype=bool)
    for place, name in enumerate(index.images.take(rows).to_pylist()):
        parent, _, file = name.rpartition("/")
        if parent not in listed:
            listed[parent] = set(os.listdir(folder / parent)) if (folder / parent).is_dir() else set()
        there[place] = file in listed[parent]
    return there


def _missing_text(source: Path, listed: int, missing: list[str]) -> str:
    first = "\n  ".join(missing[:SHOWN_MISSING])
    return (
        f"{source}: {len(missing)} of the {listed} pictures it lists are missing below {source.parent / 'data'}. "
        f"Complete the download, correct configs/root.txt, or train without them: --skip-unreadable. "
        f"The first {min(len(missing), SHOWN_MISSING)}:\n  {first}"
    )

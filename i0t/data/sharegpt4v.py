"""ShareGPT4V: images with long captions, the training data of the paper (section 4.1)."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from i0t.data.caption_index import CaptionIndex, Rows, open_index
from i0t.data.datasets import DATASETS, Dataset
from i0t.data.entries import DatasetEntry
from i0t.data.items import Items
from i0t.errors import I0TError
from i0t.paths import Roots
from i0t.reading import has_words

NAME = "sharegpt4v"
VALIDATION_RECORDS = 1_000
SMALL_FILE = 10_000  # below this a tenth is validation, so that something is left to train on
SHOWN_MISSING = 10
STAT_THREADS, STAT_NAMES = 16, 2_000  # and images that each looks at in one go

Split = Literal["train", "validation"]


@dataclass(frozen=True, kw_only=True)
class LongCaptions(Dataset):
    """N images, each with one long caption, read from the index on access.

    Attributes:
        captions: N long captions, without line breaks.
        digest: identifies the pairs: SHA-256 of the JSON's content, split, subset, missing images, and size and time of
            change of the others.
    """

    images: Sequence[Path]
    captions: Sequence[str]
    digest: str

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    def count_texts(self, per_image: int | None = None) -> int:
        """Number of listed captions, with or without their image."""
        return len(self.captions) + len(self.missing)

    def lacks(self) -> str:
        """How many images are missing, by folder."""
        folders = Counter(str(name).split("/")[0] for name in self.missing)
        return super().lacks() + f" ({', '.join(f'{n} of {folder}' for folder, n in folders.items())})" * bool(folders)

    def metadata(self) -> dict[str, Any]:
        """Return the entries for `Embeddings.metadata`."""
        return {**super().metadata(), "split": self.split}

    def items(self, rows: Sequence[int] | None = None, prefix: str = "") -> Items:
        """Return images with their captions.

        Args:
            rows: which pairs; None for all.
            prefix: put before every caption.
        """
        rows = range(len(self)) if rows is None else rows
        return Items(
            images=[self.images[row] for row in rows],
            image_ids=[self.image_ids[row] for row in rows],
            texts=[self.captions[row] for row in rows],
            owners=[(place,) for place in range(len(rows))],
            prefix=prefix,
            metadata=self.metadata(),
        )


def short_caption(caption: str) -> str:
    """Return the first sentence of a long caption that has words."""
    return next(filter(has_words, caption.split(". ")), caption)


def load_sharegpt4v(data_dir: Path, split: Split, subset: str = "coco", skip_missing: bool = False) -> LongCaptions:
    """Read one split of the JSON file.

    Args:
        data_dir: `<data_dir>` of the README.
        split: the first 1 000 records are "validation" (a tenth of a file under 10 000 records).
        subset: first folder of the training image paths, e.g. "coco", "llava", "sam"; or "all".
            Validation takes records of all folders, as the first public code does; images outside the
            subset may be missing and are then left out.
        skip_missing: leave out missing images instead of raising an error.

    Raises:
        I0TError: missing or malformed file, an empty split, or missing images: their number, and the first ten.
    """
    entry, roots = DATASETS[NAME], Roots(data_dir, None)
    source = roots.below(entry.root, entry.file)
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
    pairs = _pairs(entry, roots, index, rows, split, subset)
    needed = [name for name in pairs.missing if subset == "all" or str(name).startswith(f"{subset}/")]
    if (needed and not skip_missing) or not len(pairs):
        raise I0TError(_missing_text(source, len(rows), needed or pairs.missing))
    return pairs


def read_all_records(entry: DatasetEntry, roots: Roots) -> LongCaptions:
    """Read every record of the JSON file whose image exists.

    Raises:
        I0TError: missing or malformed file.
    """
    index = open_index(roots.below(entry.root, entry.file))
    return _pairs(entry, roots, index, np.arange(len(index)), entry.split, "all")


def _pairs(
    entry: DatasetEntry, roots: Roots, index: CaptionIndex, rows: np.ndarray, split: str, subset: str
) -> LongCaptions:
    folder = roots.below(entry.root, entry.pictures)
    states = _image_states(index, rows, folder)
    there = states[:, 0] >= 0
    kept, missing = rows[there], [index.images[int(row)].as_py() for row in rows[~there]]
    digest = hashlib.sha256("\0".join([index.digest, split, subset, *missing]).encode())
    digest.update(states.tobytes())
    return LongCaptions(
        name=entry.name,
        split=split,
        source=roots.below(entry.root, entry.file),
        images=Rows(index, "images", kept, folder),
        image_ids=Rows(index, "images", kept),
        missing=missing,
        captions=Rows(index, "captions", kept),
        digest=digest.hexdigest(),
    )


def _image_states(index: CaptionIndex, rows: np.ndarray, folder: Path) -> np.ndarray:
    """(N, 2) int64: size and time of change, in ns, of the images of some records; -1 where there is none.

    In threads, because a network drive takes its time for each file.
    """

    def state(name: str) -> tuple[int, int]:
        try:
            found = os.stat(f"{folder}/{name}")
        except (OSError, ValueError):  # or no name of a file, e.g. with a NUL
            return -1, -1
        return (found.st_size, found.st_mtime_ns) if S_ISREG(found.st_mode) else (-1, -1)

    def states(first: int) -> np.ndarray:
        names = index.images.take(rows[first : first + STAT_NAMES]).to_pylist()
        return np.array([state(name) for name in names], dtype=np.int64).reshape(-1, 2)

    with ThreadPoolExecutor(STAT_THREADS) as pool:
        return np.concatenate([np.empty((0, 2), np.int64), *pool.map(states, range(0, len(rows), STAT_NAMES))])


def _missing_text(source: Path, listed: int, missing: Sequence[Path | str]) -> str:
    first = "\n  ".join(map(str, missing[:SHOWN_MISSING]))
    return (
        f"{source}: {len(missing)} of the {listed} images it lists are missing below {source.parent / 'data'}. "
        f"Complete the download, correct configs/root.txt, or train without them: --skip-unreadable. "
        f"The first {min(len(missing), SHOWN_MISSING)}:\n  {first}"
    )

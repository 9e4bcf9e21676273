"""ShareGPT4V: pictures with long captions, the training data of the paper (section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i0t.data.captions import require_files
from i0t.errors import I0TError
from i0t.files import read_json

FILE = "sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json"
IMAGES = "sharegpt4v/data"
VALIDATION_RECORDS = 1_000
SMALL_FILE = 10_000  # below this a tenth is validation, so that something is left to train on

Split = Literal["train", "validation"]


@dataclass(frozen=True)
class LongCaptions:
    """N pictures, each with one long caption.

    Attributes:
        images: N picture paths.
        captions: N long captions, without line breaks.
        source: the JSON file.
    """

    images: list[Path]
    captions: list[str]
    source: Path

    def __len__(self) -> int:
        """N."""
        return len(self.images)

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


def load_sharegpt4v(data_dir: Path, split: Split, subset: str = "coco") -> LongCaptions:
    """Read one split of the JSON file.

    Args:
        data_dir: `<data_dir>` of the README.
        split: the first 1 000 records are "validation" (a tenth of a file under 10 000 records).
        subset: first folder of the training image paths, e.g. "coco", "llava", "sam"; or "all".
            Validation takes its records from all folders, as the first public code does.

    Raises:
        I0TError: missing or malformed file, an empty split, or pictures that are not there.
    """
    source = data_dir / FILE
    records = read_json(source, "the ShareGPT4V captions")
    if not isinstance(records, list):
        raise I0TError(f"{source}: not in ShareGPT4V's form (a list of records).")
    held_out = VALIDATION_RECORDS if len(records) >= SMALL_FILE else len(records) // 10
    records = records[:held_out] if split == "validation" else records[held_out:]
    keep = "all" if split == "validation" else subset
    try:
        chosen = [
            (data_dir / IMAGES / record["image"], _caption(record))
            for record in records
            if "all" in (subset, keep) or record["image"].split("/")[0] == subset
        ]
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise I0TError(f"{source}: not in ShareGPT4V's form ({error!r}).") from None
    if not chosen:
        raise I0TError(f"{source}: no {split} record in the subset {subset!r}.")
    images = [path for path, _ in chosen]
    require_files(images, source)
    return LongCaptions(images, [caption for _, caption in chosen], source)


def _caption(record: dict) -> str:
    return record["conversations"][1]["value"].replace("\n", " ")

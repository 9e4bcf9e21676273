"""Flickr8k-Expert and Flickr8k-CF: captions that people rated, in the pacscore layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from i0t.data.captions import Words, look_for, refuse_same_file
from i0t.data.datasets import Dataset
from i0t.data.entries import DatasetEntry
from i0t.data.items import Items
from i0t.errors import I0TError
from i0t.paths import Roots
from i0t.reading import REMEDY, check_json, read_json


@dataclass(frozen=True, kw_only=True)
class RatedCaptions(Dataset):
    """R ratings of (image, candidate caption) pairs.

    Attributes:
        references: N lists of reference captions.
        image_of_rating: R rows of `images`.
        candidates: R candidate captions.
        ratings: R numbers, 1..4 (Expert, one per annotator, not averaged) or 0..1 (CF).
        n_dropped: number of NaN ratings that were left out.
    """

    images: Sequence[Path]
    references: Sequence[Sequence[str]]
    image_of_rating: Sequence[int]
    candidates: Sequence[str]
    ratings: Sequence[float]
    n_dropped: int = 0

    def count_texts(self, per_image: int | None = None) -> int:
        """Number of ratings, with the NaN ones."""
        return len(self.ratings) + self.n_dropped

    def items(self, prefix: str = "") -> Items:
        """Return the images, and every distinct reference and candidate once.

        A text belongs to the images that it is a reference of; a candidate also stands without an image.

        Args:
            prefix: put before every text.
        """
        owners: dict[str, list[int]] = {}
        for row, references in enumerate(self.references):
            for reference in references:
                owners.setdefault(reference, []).append(row)
        for candidate in self.candidates:
            if -1 not in owners.setdefault(candidate, []):
                owners[candidate].append(-1)
        return Items(
            images=self.images,
            image_ids=self.image_ids,
            texts=list(owners),
            owners=list(owners.values()),
            prefix=prefix,
            metadata=self.metadata(),
        )


class Rating(BaseModel):
    """One rating of a candidate caption, possibly NaN."""

    caption: Words
    rating: float


class RatedImage(BaseModel):
    """One image of a file in the pacscore form."""

    image_path: str
    ground_truth: list[Words]
    human_judgement: list[Rating]

    @property
    def file_name(self) -> str:
        """Base name."""
        return Path(self.image_path).name


def check_ratings(content: Any, source: Path, scale: tuple[float, float]) -> dict[str, RatedImage]:
    """Check a file in the pacscore form and return its images by key.

    Raises:
        I0TError: it has another form, an image has no references or is listed twice, or a rating that is not NaN is
            off the scale; names the entry.
    """
    rated = check_json(dict[str, RatedImage], content, source, "the pacscore form")
    for key, image in rated.items():
        if not image.ground_truth:
            raise I0TError(f'{source}: {key}: {image.file_name} has no references ("ground_truth"). {REMEDY}')
        for row in image.human_judgement:
            if math.isinf(row.rating) or row.rating < scale[0] or row.rating > scale[1]:  # NaN passes, and is dropped
                expected = f"{scale[0]:g} to {scale[1]:g}"
                raise I0TError(f"{source}: {key}: a rating of {row.rating:g}, the scale is {expected}. {REMEDY}")
    refuse_same_file([image.image_path for image in rated.values()], source)
    return rated


def read_ratings(entry: DatasetEntry, roots: Roots) -> RatedCaptions:
    """Read human ratings; runs of white space become one blank.

    Raises:
        I0TError: missing or malformed file, no rating left, an image without references, or no image file exists.
    """
    source, folder = roots.below(entry.root, entry.file), roots.below(entry.root, entry.pictures)
    content = read_json(source, f"the ratings of {entry.name}")
    listed = list(check_ratings(content, source, entry.scale).values())
    there, missing = look_for([folder / image.file_name for image in listed], source)
    rated = list(compress(listed, there))
    rows = [(row, judged) for row, image in enumerate(rated) for judged in image.human_judgement]
    kept = [(row, judged) for row, judged in rows if not math.isnan(judged.rating)]
    if not kept:
        raise I0TError(f"{source}: no rating left ({len(rows)} were NaN). Download the file again.")
    return RatedCaptions(
        name=entry.name,
        split=entry.split,
        source=source,
        images=[folder / image.file_name for image in rated],
        image_ids=[image.file_name for image in rated],
        missing=missing,
        references=[[_clean(text) for text in image.ground_truth] for image in rated],
        image_of_rating=[row for row, _ in kept],
        candidates=[_clean(judged.caption) for _, judged in kept],
        ratings=[judged.rating for _, judged in kept],
        n_dropped=len(rows) - len(kept),
    )


def _clean(text: str) -> str:
    return " ".join(text.split())

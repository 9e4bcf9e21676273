"""Retrieval sets: COCO, Flickr30k and NoCaps captions in the paper's GOLD layouts.

COCO_GOLD and Flickr_GOLD list `{"image_id", "captions": [5]}`, where only the base name of
`image_id` is used. NoCaps_GOLD is the official validation file, joined by image id.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticCustomError

from i0t.data.datasets import Dataset
from i0t.data.entries import DatasetEntry
from i0t.data.items import Items
from i0t.errors import I0TError
from i0t.paths import Roots, say
from i0t.reading import REMEDY, check_json, has_words, read_json


@dataclass(frozen=True, kw_only=True)
class CaptionSet(Dataset):
    """N images and their captions."""

    images: Sequence[Path]
    captions: Sequence[Sequence[str]]  # one list per image

    def count_texts(self, per_image: int | None = None) -> int:
        """Number of captions, at most `per_image` per image."""
        return sum(len(captions[:per_image]) for captions in self.captions)

    def items(self, captions_per_image: int = 1) -> Items:
        """Return the images with their first captions.

        Args:
            captions_per_image: 1 (the paper's protocol, App. D) or 5.

        Raises:
            I0TError: an image has fewer captions.
        """
        for name, captions in zip(self.image_ids, self.captions, strict=True):
            if len(captions) < captions_per_image:
                raise I0TError(
                    f"{self.source}: {name} has {len(captions)} captions, --captions-per-image "
                    f"{captions_per_image} needs more. Use --captions-per-image 1 or correct the file."
                )
        return Items(
            images=self.images,
            image_ids=self.image_ids,
            texts=[text for captions in self.captions for text in captions[:captions_per_image]],
            owners=[(row,) for row in range(len(self.images)) for _ in range(captions_per_image)],
            metadata={**self.metadata(), "captions": "the first of each image, in the file's order"},
        )


def _words(value: str) -> str:
    if not has_words(value):
        raise PydanticCustomError("words", "a text with words")
    return value


Words = Annotated[str, AfterValidator(_words)]  # a caption, candidate or reference of any data set


class GoldImage(BaseModel):
    """One image of a GOLD file."""

    image_id: str
    captions: list[Words]


def _identity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("identity", "a number or a string")
    return str(value)  # 7 and "7" are one id


Identity = Annotated[Any, AfterValidator(_identity)]


class CocoImage(BaseModel):
    """One image of a file in COCO's format."""

    id: Identity
    file_name: str


class CocoCaption(BaseModel):
    """One caption of a file in COCO's format."""

    image_id: Identity
    caption: Words


class CocoCaptions(BaseModel):
    """A caption file in COCO's format, which NoCaps uses too."""

    images: list[CocoImage]
    annotations: list[CocoCaption]

    def by_image(self, source: Path) -> dict[str, list[str]]:
        """Return the captions by image id, in the file's order.

        Raises:
            I0TError: a caption belongs to no image, or an id or a picture is listed twice.
        """
        captions: dict[str, list[str]] = {}
        for number, image in enumerate(self.images):
            if image.id in captions:
                raise I0TError(f'{source}: "images"[{number}]: the id {image.id!r:.60} is listed twice. {REMEDY}')
            captions[image.id] = []
        refuse_same_file([image.file_name for image in self.images], source)
        for number, row in enumerate(self.annotations):
            if row.image_id not in captions:
                place = f'{source}: "annotations"[{number}]'
                raise I0TError(f"{place} is of image {row.image_id!r:.60}, which the file does not list. {REMEDY}")
            captions[row.image_id].append(row.caption)
        return captions


def read_gold(entry: DatasetEntry, roots: Roots) -> CaptionSet:
    """Read a set in the GOLD layout; runs of white space become one blank.

    A file with one entry per caption is understood, too: entries of one picture are joined.

    Raises:
        I0TError: the file is missing or has another form, an image has no captions, a picture with several captions
            is listed twice, or no image file exists.
    """
    source = roots.below(entry.root, entry.file)
    content = read_json(source, f"the captions of {entry.name}")
    rows = check_json(list[GoldImage], content, source, 'a list of {"image_id", "captions"}')
    return _caption_set(entry, roots, list(_joined(rows, source).items()))


def _joined(rows: list[GoldImage], source: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    several = {row.image_id for row in rows if len(row.captions) != 1}
    for number, row in enumerate(rows):
        if row.image_id not in captions:
            captions[row.image_id] = list(row.captions)
        elif row.image_id in several:
            raise I0TError(
                f"{source}: entry {number}: {row.image_id} is listed twice. Put its captions into one entry, or one "
                "caption into each."
            )
        else:
            captions[row.image_id] += row.captions
    if len(captions) < len(rows):
        say(f"{source}: {len(rows)} entries of {len(captions)} pictures: captions of one picture are joined.")
    refuse_same_file(captions, source)
    return captions


def refuse_same_file(names: Iterable[str], source: Path) -> None:
    """Refuse two names of one base name, which alone is looked for.

    Raises:
        I0TError: names both.
    """
    seen: dict[str, str] = {}
    for name in names:
        base = Path(name).name
        if base in seen:
            both = f"{name} is listed twice" if seen[base] == name else f"{seen[base]} and {name} would be one file"
            raise I0TError(
                f"{source}: {both}: only the base name counts. Give every picture one entry and its own name."
            )
        seen[base] = name


def read_nocaps(entry: DatasetEntry, roots: Roots) -> CaptionSet:
    """Read a set in COCO's own format; images and captions are joined by id.

    Raises:
        I0TError: as `read_gold`, or a caption belongs to no image.
    """
    source = roots.below(entry.root, entry.file)
    content = read_json(source, f"the captions of {entry.name}")
    file = check_json(CocoCaptions, content, source, 'NoCaps\' official file, with lists "images" and "annotations"')
    captions = file.by_image(source)
    return _caption_set(entry, roots, [(image.file_name, captions[image.id]) for image in file.images])


def _caption_set(entry: DatasetEntry, roots: Roots, rows: list[tuple[str, list[str]]]) -> CaptionSet:
    source, folder = roots.below(entry.root, entry.file), roots.below(entry.root, entry.pictures)
    if not rows:
        raise I0TError(f"{source}: lists no image.")
    for name, captions in rows:
        if not captions:
            raise I0TError(f"{source}: {Path(name).name} has no captions. Remove the entry or complete the file.")
    there, missing = look_for([folder / Path(name).name for name, _ in rows], source)
    images = [folder / Path(name).name for name, _ in compress(rows, there)]
    return CaptionSet(
        name=entry.name,
        split=entry.split,
        source=source,
        images=images,
        image_ids=[path.name for path in images],
        missing=missing,
        captions=[[" ".join(text.split()) for text in captions] for _, captions in compress(rows, there)],
    )


def look_for(paths: Sequence[Path], source: Path) -> tuple[list[bool], list[Path]]:
    """Check which of the listed images exist; return one flag per image, and the missing ones.

    Raises:
        I0TError: none exists; the message has their number and the first path.
    """
    there = [os.path.isfile(path) for path in paths]  # Path's fails for long names
    if paths and not any(there):
        raise I0TError(
            f"{source}: {len(paths)} of the {len(paths)} images it lists are missing, first {paths[0]}. "
            "Complete the download, or correct the path files."
        )
    return there, [path for path, found in zip(paths, there, strict=True) if not found]

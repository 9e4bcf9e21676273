"""Images and texts to encode (`Items`), and loading images as batches of pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from i0t.errors import I0TError

Preprocess = Callable[[Image.Image], torch.Tensor]
ImageSource = str | Path | Image.Image


@dataclass(frozen=True)
class Items:
    """N images and M texts, and which images each text belongs to.

    Attributes:
        images: N paths or PIL images.
        image_ids: N names, as in `Embeddings.image_ids`.
        texts: M texts, as in `Embeddings.texts`; class names for classification.
        owners: indices of the images that each text belongs to, in order. A text whose images are all
            unreadable is left out, unless its owners include -1, which means "also stands without an image".
        labels: class of each image, or None.
        prompts: K sentences per text, encoded in its place: the feature of the text is their normalised mean.
            None: the text itself is encoded.
        normalize_prompts: whether each sentence is normalised before the mean.
        prefix: put before every text, in `Embeddings.texts` too.
        metadata: for `Embeddings.metadata` (dataset, split, source, ...).

    Raises:
        I0TError: counts differ, or an owner is not an image.
    """

    images: Sequence[ImageSource]
    image_ids: Sequence[str]
    texts: Sequence[str]
    owners: Sequence[Sequence[int]]
    labels: Sequence[int] | None = None
    prompts: Sequence[Sequence[str]] | None = None
    normalize_prompts: bool = True
    prefix: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the counts."""
        per_item = (("image_ids", "images"), ("labels", "images"), ("owners", "texts"), ("prompts", "texts"))
        for name, of in per_item:
            values, items = getattr(self, name), getattr(self, of)
            if values is not None and len(values) != len(items):
                raise I0TError(f"{len(items)} {of}, but {len(values)} {name}: one per item is needed.")
        if len({len(prompts) for prompts in self.prompts or ()}) > 1:
            raise I0TError("prompts: every text must have as many prompts as the others.")
        for row, owners in enumerate(self.owners):
            if not owners or not all(-1 <= owner < len(self.images) for owner in owners):
                raise I0TError(
                    f"owners of text {row} are {list(owners)[:5]}: they must be indices of the {len(self.images)} "
                    "images, or -1 for a text that stands without an image."
                )


def open_image(source: ImageSource | IO[bytes]) -> Image.Image:
    """Decode an image fully, as RGB (before resizing, which would spoil palette images).

    Args:
        source: a path, an open file, or a PIL image, which is only converted.

    Raises:
        I0TError: the file is missing, truncated or not an image.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    try:
        with Image.open(source) as image:
            return _to_rgb(image)
    except FileNotFoundError:
        raise I0TError(f"{source}: no such image, but the data list names it. Complete the download.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise I0TError(
            f"{source}: unreadable image ({error}). Replace it, or go on without it: --skip-unreadable."
        ) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit greys at 255, not scale them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


class ImageDataset(Dataset[torch.Tensor | str]):
    """Preprocessed images by index; for an unreadable image its error message.

    Errors are returned, because an exception in a worker would reach the user as a traceback.
    """

    def __init__(self, sources: Sequence[ImageSource], preprocess: Preprocess) -> None:
        self.sources, self.preprocess = sources, preprocess

    def __len__(self) -> int:
        """Number of images."""
        return len(self.sources)

    def __getitem__(self, index: int) -> torch.Tensor | str:
        """(3, H, W) float32 pixels, or the error message."""
        try:
            return self.preprocess(open_image(self.sources[index]))
        except I0TError as error:
            return str(error)


def collate_images(items: list[torch.Tensor | str]) -> tuple[torch.Tensor | None, list[str | None]]:
    """Stack the readable images: pixels (B', 3, H, W) or None, and one error or None per image."""
    pixels = [item for item in items if not isinstance(item, str)]
    errors = [item if isinstance(item, str) else None for item in items]
    return (torch.stack(pixels) if pixels else None), errors


def image_loader(
    sources: Sequence[ImageSource],
    preprocess: Preprocess,
    batches: Sequence[Sequence[int]],
    workers: int,
    pin_memory: bool = False,
) -> DataLoader[torch.Tensor | str]:
    """Load batches of images, in this order.

    Each worker prepares two batches ahead and computes in one thread (torch's own rule).

    Args:
        sources: paths or PIL images.
        preprocess: the encoder's transform.
        batches: rows of `sources` per batch.
        workers: decoding processes; 0 decodes in this process, which is quicker for few images.
        pin_memory: page-locked pixels, which a graphics card can copy while it computes.
    """
    return DataLoader(
        ImageDataset(sources, preprocess),
        batch_sampler=batches,  # type: ignore[arg-type]  # torch asks for lists, but takes any rows
        num_workers=min(workers, len(batches)),
        collate_fn=collate_images,
        pin_memory=pin_memory,
    )

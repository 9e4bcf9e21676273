"""Images and texts to encode (`Items`), and loading images as batches of pixels."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from i0t.data.workers import ImagesInHand, quiet_if_main_stops
from i0t.digests import file_sha256
from i0t.errors import I0TError, first_line

Preprocess = Callable[[Image.Image], torch.Tensor]
ImageSource = str | Path | Image.Image
Decoded = tuple[torch.Tensor, str]  # (3, H, W) float32 pixels, and the SHA-256 of the image
ORIENTATION = 274  # tag of EXIF
TURNS = {  # its values, and what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LONGEST = 200  # long side of an image over its short side
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value


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


def open_image(source: ImageSource | IO[bytes], upright: bool = False) -> Image.Image:
    """Decode an image fully, as RGB (before resizing, which would spoil palette images).

    16-bit greys are scaled to 8 bits.

    Args:
        source: a path, an open file, or a PIL image, which is only converted.
        upright: turn the image as its EXIF orientation says, as photographs are shown. Published benchmarks are
            measured without, so evaluations do not.

    Raises:
        I0TError: the file is missing, truncated or not an image, its white is unknown (32 bits, float), or it is longer
            than `LONGEST` times its short side.
    """
    try:
        return decoded(source, upright)
    except FileNotFoundError:
        raise I0TError(f"{source}: no such image, but the data list names it. Complete the download.") from None
    except Exception as error:  # decoders raise errors of any type for damaged files
        raise _unreadable(source, error) from None


def load_pixels(source: ImageSource | IO[bytes], preprocess: Preprocess, upright: bool = False) -> torch.Tensor:
    """Decode and preprocess an image; `upright` as for `open_image`.

    Raises:
        I0TError: as `open_image`, or the preprocessing fails, e.g. for want of memory.
    """
    image = open_image(source, upright)
    try:
        return preprocess(image)
    except Exception as error:  # a user's preprocessing may raise any type, and decodes lazily
        raise _unreadable(source, error) from None


def decoded(source: ImageSource | IO[bytes], upright: bool = False) -> Image.Image:
    """`open_image` with errors of any type."""
    if isinstance(source, Image.Image):
        return _to_rgb(source, upright)
    with Image.open(source) as image:
        return _to_rgb(image, upright)


def image_sha256(source: ImageSource, upright: bool = False) -> str:
    """SHA-256 of the bytes of an image file, or of the pixels of an image in memory.

    Raises:
        I0TError: an image in memory that `open_image` refuses.
        OSError: a file that cannot be read.
    """
    if not isinstance(source, Image.Image):
        return file_sha256(source)
    rgb = open_image(source, upright)
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


def _unreadable(source: ImageSource | IO[bytes], error: Exception) -> I0TError:
    why = first_line(error)
    return I0TError(f"{source}: unreadable image ({why}). Replace it, or go on without it: --skip-unreadable.")


def _to_rgb(image: Image.Image, upright: bool) -> Image.Image:
    width, height = image.size
    if max(width, height) > LONGEST * min(width, height):  # resizing its short side would take gigabytes
        raise ValueError(f"{width} x {height} px: longer than {LONGEST} times its short side")
    turn = _turn_of(image) if upright else None
    # Pillow would clip deeper greys at 255, not scale them. It reads 16-bit PGM, in old versions PNG, as "I".
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        tags = getattr(image, "tag_v2", {})  # TIFF has 12-bit greys, too, and some whose 0 is white
        grey = (np.asarray(image) >> (tags.get(BITS_PER_SAMPLE, (16,))[0] - 8)).astype(np.uint8)
        image = Image.fromarray(255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey)
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}, 32 bits: its black and white are unknown; save it with 8 or 16 bits")
    rgb = image.convert("RGB")
    return rgb if turn is None else rgb.transpose(turn)


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    image.load()  # PNG may have its EXIF behind the pixels; TIFF is turned by Pillow here
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except (ValueError, TypeError, SyntaxError, LookupError, OSError, struct.error):
        return None  # damaged EXIF says nothing; the pixels are whole


class ImageDataset(Dataset[Decoded | str]):
    """Preprocessed images by index, with their SHA-256; for an unreadable image its error message.

    Errors are returned, because an exception in a worker would reach the user as a traceback.
    """

    def __init__(
        self, sources: Sequence[ImageSource], preprocess: Preprocess, upright: bool = False, workers: int = 0
    ) -> None:
        self.sources, self.preprocess, self.upright = sources, preprocess, upright
        self.in_hand = ImagesInHand(workers)  # names the image if a worker dies

    def __len__(self) -> int:
        """Number of images."""
        return len(self.sources)

    def __getitem__(self, index: int) -> Decoded | str:
        """(3, H, W) float32 pixels and the image's SHA-256, or the error message."""
        source = self.sources[index]
        self.in_hand.note(str(source))
        try:
            # Hashed here, where the file has just been read: later it would be read from the disk again.
            return load_pixels(source, self.preprocess, self.upright), image_sha256(source, self.upright)
        except (I0TError, OSError) as error:
            return str(error)


def collate_images(items: list[Decoded | str]) -> tuple[torch.Tensor | None, list[str | None], list[str]]:
    """Stack the readable images: pixels (B', 3, H, W) or None, one error or None per image, and B' SHA-256."""
    readable = [item for item in items if not isinstance(item, str)]
    errors = [item if isinstance(item, str) else None for item in items]
    digests = [digest for _, digest in readable]
    return (torch.stack([pixels for pixels, _ in readable]) if readable else None), errors, digests


@contextmanager
def image_loader(
    sources: Sequence[ImageSource],
    preprocess: Preprocess,
    batches: Sequence[Sequence[int]],
    workers: int,
    pin_memory: bool = False,
    upright: bool = False,
) -> Iterator[DataLoader[Decoded | str]]:
    """Yield a loader of batches of images, in this order.

    Each worker prepares two batches ahead and computes in one thread (torch's own rule).

    Args:
        sources: paths or PIL images.
        preprocess: the encoder's transform.
        batches: rows of `sources` per batch.
        workers: decoding processes; 0 decodes in this process, which is quicker for few images.
        pin_memory: page-locked pixels, which a graphics card can copy while it computes.
        upright: as for `open_image`.

    Raises:
        I0TError: a worker died meanwhile; names its image.
    """
    workers = min(workers, len(batches))
    dataset = ImageDataset(sources, preprocess, upright, workers)
    loader = DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # torch asks for lists, but takes any rows
        num_workers=workers,
        collate_fn=collate_images,
        pin_memory=pin_memory,
        worker_init_fn=quiet_if_main_stops,
    )
    with dataset.in_hand.explained():  # torch raises the error wherever this process is
        yield loader

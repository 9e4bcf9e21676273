"""`Items`: what an encoder is to encode, whatever data set it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from i0t.errors import I0TError

if TYPE_CHECKING:
    from i0t.data.images import ImageSource


@dataclass(frozen=True)
class Items:
    """N images and M texts, and which images each text belongs to.

    Attributes:
        images: N paths or PIL images.
        image_ids: N names, as `Embeddings.image_ids` has them.
        texts: M texts, as `Embeddings.texts` has them; names of classes for classification.
        owners: per text the images it belongs to, by index into `images`, in order. A text whose images
            are all unreadable is left out, unless its owners include -1: "also stands without an image".
        labels: per image its class, or None.
        prompts: per text K sentences that are encoded for it, as many as for the others; its feature is their
            mean, normalised. None: the text itself is encoded.
        normalize_prompts: whether each sentence is normalised before the mean.
        prefix: put before every text, in `Embeddings.texts` too.
        metadata: goes into `Embeddings.metadata` (dataset, split, source, ...).

    Raises:
        I0TError: counts that do not agree, or an owner that is no image.
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

"""Program: image-text retrieval on COCO, Flickr30k and NoCaps. `scripts/evaluate_retrieval.sh`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from evaluation.run import run_task
from evaluation.task import Task
from i0t.cli import not_negative, program
from i0t.data.captions import CaptionSet
from i0t.data.entries import Kind
from i0t.data.items import Items
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import retrieval_metrics


@dataclass(frozen=True)
class Retrieval(Task):
    """R@1, R@5 and R@10, image to text and text to image; the paper uses the first caption per image (App. D)."""

    captions_per_image: int = field(
        default=1,
        metadata={
            "of_items": True,
            "choices": (1, 5),
            "help": "1: the first caption, the paper's protocol (default); 5: all five",
        },
    )
    bootstrap: int = field(
        default=0,
        metadata={
            "type": not_negative,
            "metavar": "N",
            "help": "95 %% intervals from N resamples of the images, in the record (1000 is usual; default: none)",
        },
    )

    name: ClassVar[str] = "retrieval"
    kind: ClassVar[Kind] = "captions"
    needs_data: ClassVar[bool] = False
    printed: ClassVar[tuple[str, ...]] = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
    headline: ClassVar[tuple[str, ...]] = ("i2t_r1", "t2i_r1")

    def items(self, dataset: CaptionSet) -> Items:
        """All images and their captions."""
        return dataset.items(self.captions_per_image)

    def measure(self, embeddings: Embeddings, dataset: Any, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
        """Compute recalls and ranks."""
        metrics = retrieval_metrics(
            embeddings.image_features,
            embeddings.text_features,
            embeddings.image_of_text,
            bootstrap=self.bootstrap,
            seed=seed,
        )
        return metrics, {"bootstrap_resamples": self.bootstrap} if self.bootstrap else {}

    def check(self, embeddings: Embeddings, dataset: Any) -> None:
        """Require a text for every image."""
        bare = np.setdiff1d(np.arange(len(embeddings.image_ids)), embeddings.image_of_text)
        if len(bare):
            raise I0TError(
                f"{', '.join(embeddings.files)}: {len(bare)} images have no text, first "
                f"{embeddings.image_ids[bare[0]]}. Retrieval needs a text for every image (image_of_text)."
            )

    def protocol(self, embeddings: Embeddings) -> dict[str, Any]:
        """Captions per image (a range if images differ), and which captions, if known."""
        owners = embeddings.image_of_text[embeddings.image_of_text >= 0]
        counts = np.bincount(owners, minlength=len(embeddings.image_features))
        least, most = int(counts.min()), int(counts.max())
        return {
            "captions_per_image": most if least == most else f"{least}-{most}",
            "captions": embeddings.metadata.get("captions"),
        }


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return run_task(Retrieval, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Program: image-text retrieval on COCO, Flickr30k and NoCaps. `scripts/evaluate_retrieval.sh`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.run import run_task
from evaluation.task import Task
from i0t.cli import program
from i0t.data.datasets import DATASETS, datasets_of, is_present, load_dataset
from i0t.data.items import Items
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import retrieval_metrics
from i0t.paths import Roots


class Retrieval(Task):
    """R@1, R@5 and R@10 both ways; the paper takes the first caption of every image (App. D)."""

    name = "retrieval"
    datasets = datasets_of("captions")
    needs_data = False
    splits = {name: DATASETS[name].split for name in datasets_of("captions")}
    headline = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """`--captions-per-image`."""
        parser.add_argument(
            "--captions-per-image",
            type=int,
            choices=(1, 5),
            default=1,
            help="1: the first caption, the paper's protocol (default); 5: all five",
        )
        parser.add_argument(
            "--bootstrap",
            type=int,
            default=0,
            metavar="N",
            help="95 %% intervals from N resamples of the images, in the record (1000 is usual; default: none)",
        )

    def is_present(self, dataset: str, roots: Roots) -> bool:
        """Whether the captions file is there."""
        return is_present(dataset, roots)

    def items(self, dataset: str, roots: Roots, options: argparse.Namespace) -> Items:
        """All images and their captions."""
        return load_dataset(dataset, roots, options.allow_partial).items(options.captions_per_image)

    def measure(
        self, embeddings: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Recalls and ranks."""
        if options.bootstrap < 0:
            raise I0TError(f"--bootstrap {options.bootstrap}: a number of resamples, 0 for none.")
        metrics = retrieval_metrics(
            embeddings.image_features,
            embeddings.text_features,
            embeddings.image_of_text,
            bootstrap=options.bootstrap,
            seed=options.seed,
        )
        return metrics, {"bootstrap_resamples": options.bootstrap} if options.bootstrap else {}

    def check(self, given: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace) -> None:
        """Every picture with a text."""
        bare = np.setdiff1d(np.arange(len(given.image_ids)), given.image_of_text)
        if len(bare):
            raise I0TError(
                f"{', '.join(given.metadata['files'])}: {len(bare)} pictures have no text, first "
                f"{given.image_ids[bare[0]]}. Retrieval asks each of them for its own (image_of_text)."
            )

    def protocol(self, options: argparse.Namespace, embeddings: Embeddings) -> dict[str, Any]:
        """Captions per image: those that there are, a range where images differ; and which, if that is known."""
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
    return run_task(Retrieval(), argv)


if __name__ == "__main__":
    sys.exit(main())

"""Program: zero-shot classification of CIFAR-100 and Birdsnap. `scripts/evaluate_classification.sh`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from evaluation.run import run_task
from evaluation.task import Task, require_images
from i0t.cli import program
from i0t.data.class_sets import ClassSet
from i0t.data.entries import Kind
from i0t.data.items import Items
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import classification_metrics

PROMPT_MEANS = {
    "normalised": "mean of normalised prompts, normalised",
    "raw": "mean of prompts as encoded, normalised",
}


@dataclass(frozen=True)
class Classification(Task):
    """Zero-shot classification by the nearest class embedding, the mean of its normalised prompts (App. D).

    With --prompt-mean raw, prompts are not normalised before the mean, so longer vectors weigh more, as in the first
    public code on CIFAR-100. Both means are normalised. The gap is removed from the class embeddings, after the mean,
    as in the first public code.
    """

    prompt_mean: str = field(
        default="normalised",
        metadata={
            "of_items": True,
            "choices": tuple(PROMPT_MEANS),
            "help": "mean of the prompts of a class: after (default) or before they are normalised",
        },
    )

    name: ClassVar[str] = "classification"
    kind: ClassVar[Kind] = "classes"
    printed: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy")
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy")

    def items(self, dataset: ClassSet) -> Items:
        """Images, and the prompts of every class."""
        return dataset.items(self.prompt_mean)

    def measure(self, embeddings: Embeddings, dataset: ClassSet, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
        """Compute accuracies."""
        assert embeddings.labels is not None
        classes = len(embeddings.text_features)
        counts = {"classes": classes, "classes_with_images": len(np.unique(embeddings.labels))}
        return classification_metrics(embeddings.image_features, embeddings.text_features, embeddings.labels), counts

    def check(self, embeddings: Embeddings, dataset: ClassSet) -> None:
        """Require the class names in order, and each image with its label."""
        files = ", ".join(embeddings.files)
        if embeddings.labels is None:
            raise I0TError(f"{files}: no labels. Classification needs an Embeddings file with them (docs/models.md).")
        if embeddings.texts != dataset.class_names:
            raise I0TError(
                f"{files}: its texts must be the {len(dataset.class_names)} class names of {dataset.name} in order."
            )
        labels = dict(zip(dataset.image_ids, dataset.labels, strict=True))
        for name, label in zip(embeddings.image_ids, embeddings.labels.tolist(), strict=True):
            if labels.get(name) != label:
                raise I0TError(f"{files}: image {name} of class {label} is not one of {dataset.source}.")
        require_images(embeddings, labels, dataset.name)

    def protocol(self, embeddings: Embeddings) -> dict[str, Any]:
        """Prompts, and how they become class embeddings; unknown for embeddings of another program."""
        return {
            "templates": embeddings.metadata.get("templates"),
            "class_embedding": PROMPT_MEANS.get(embeddings.metadata.get("prompt_mean", "")),
            "gap_removed_from": "class embeddings, after the mean of prompts",
        }


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return run_task(Classification, argv)


if __name__ == "__main__":
    sys.exit(main())

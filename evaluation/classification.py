"""Program: zero-shot classification of CIFAR-100 and Birdsnap. `scripts/evaluate_classification.sh`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.run import run_task
from evaluation.task import Task, require_pictures
from i0t.cli import program
from i0t.data.datasets import DATASETS, datasets_of, load_dataset
from i0t.data.items import Items
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import classification_metrics
from i0t.paths import Roots

PROMPT_MEANS = {
    "normalised": "mean of normalised prompts, normalised",
    "raw": "mean of prompts as encoded, normalised",
}


class Classification(Task):
    """Nearest class embedding; a class embedding is the mean of its normalised prompts (App. D).

    With --prompt-mean raw it is the mean of the prompts as the model gives them, longer ones weighing more, as the
    first public code does on CIFAR-100. Either mean is normalised. The gap is removed from the class embeddings,
    after that mean, as in the first public code.
    """

    name = "classification"
    datasets = datasets_of("classes")
    headline = ("accuracy", "balanced_accuracy")
    splits = {name: DATASETS[name].split for name in datasets_of("classes")}

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """`--prompt-mean`."""
        parser.add_argument(
            "--prompt-mean",
            choices=tuple(PROMPT_MEANS),
            default="normalised",
            help="a class embedding is the mean of its prompts after (default) or before they are normalised",
        )

    def is_present(self, dataset: str, roots: Roots) -> bool:
        """Whether the pictures are there; a model of the sample is not asked about CIFAR-100."""
        return dataset in datasets_of("classes", roots)

    def items(self, dataset: str, roots: Roots, options: argparse.Namespace) -> Items:
        """Pictures, and the prompts of every class."""
        return load_dataset(dataset, roots, options.allow_partial).items(options.prompt_mean)

    def measure(
        self, embeddings: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Accuracies."""
        assert embeddings.labels is not None
        classes = len(embeddings.text_features)
        counts = {"classes": classes, "classes_with_images": len(np.unique(embeddings.labels))}
        return classification_metrics(embeddings.image_features, embeddings.text_features, embeddings.labels), counts

    def check(self, given: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace) -> None:
        """Class names in order, and each picture with its label."""
        data, files = load_dataset(dataset, roots, options.allow_partial), ", ".join(given.metadata["files"])
        if given.labels is None:
            raise I0TError(f"{files}: no labels. Classification needs an Embeddings file with them (docs/models.md).")
        if given.texts != data.class_names:
            raise I0TError(f"{files}: its texts must be the {len(data.class_names)} class names of {dataset} in order.")
        labels = dict(zip(data.image_ids, data.labels, strict=True))
        for name, label in zip(given.image_ids, given.labels.tolist(), strict=True):
            if labels.get(name) != label:
                raise I0TError(f"{files}: picture {name} of class {label} is not one of {data.source}.")
        require_pictures(given, labels, dataset)

    def protocol(self, options: argparse.Namespace, embeddings: Embeddings) -> dict[str, Any]:
        """The prompts, and how they become class embeddings; unknown where another program made these."""
        return {
            "templates": embeddings.metadata.get("templates"),
            "class_embedding": PROMPT_MEANS.get(embeddings.metadata.get("prompt_mean")),
            "gap_removed_from": "class embeddings, after the mean of prompts",
        }


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return run_task(Classification(), argv)


if __name__ == "__main__":
    sys.exit(main())

"""Program: correlation with human judgments on Flickr8k. `scripts/evaluate_correlation.sh`."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.run import run_task
from evaluation.task import Task, require_pictures
from i0t.cli import program
from i0t.data.datasets import DATASETS, datasets_of, is_present, load_dataset
from i0t.data.items import Items
from i0t.data.ratings import RatedCaptions
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import correlation_metrics
from i0t.metrics.caption_scores import PREFIX, SCORES, CaptionScore
from i0t.paths import Roots

# The figure that the paper prints of each set; records have both.
PAPER_TAU = {"flickr8k_expert": "tau_c", "flickr8k_cf": "tau_b"}


class Correlation(Task):
    """Kendall tau-b and tau-c of caption scores with ratings (App. D).

    Expert ratings are taken one by one, not averaged (report tau-c); CF is reported with tau-b.
    """

    name = "correlation"
    datasets = datasets_of("ratings")
    headline = ("tau_b", "tau_c", "ref_tau_b", "ref_tau_c")
    splits = {name: DATASETS[name].split for name in datasets_of("ratings")}

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """`--score` and `--average-ratings`."""
        parser.add_argument(
            "--score",
            choices=tuple(SCORES),
            default="i0t_s",
            help="i0t_s: plain cosine (default); pac_s: 2.0 max(cos, 0); clip_s: 2.5 max(cos, 0)",
        )
        parser.add_argument(
            "--average-ratings",
            action="store_true",
            help="one rating a picture and caption, the mean of those that people gave (default: each one counts, the "
            "paper's protocol)",
        )

    def is_present(self, dataset: str, roots: Roots) -> bool:
        """Whether the ratings file is there."""
        return is_present(dataset, roots)

    def items(self, dataset: str, roots: Roots, options: argparse.Namespace) -> Items:
        """All pictures, and every distinct candidate and reference once."""
        return load_dataset(dataset, roots, options.allow_partial).items(self.prefix(options))

    def measure(
        self, embeddings: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Correlations, reference-free and reference-based, and how many ratings they rest on."""
        judgments = load_dataset(dataset, roots, options.allow_partial)
        score = SCORES[options.score]
        rated = _RatedRows(judgments, embeddings, score.prefix, options.average_ratings)
        candidates = embeddings.text_features[rated.candidates]  # (R, D)
        scores = score.reference_free(embeddings.image_features[rated.images], candidates)
        with_references = score.with_references(scores, rated.best_reference_cosines(embeddings))
        counts = {
            "ratings_used": rated.n_used,
            "ratings_nan": judgments.n_dropped,
            "ratings_without_picture": len(judgments.ratings) - rated.n_used,
            "scored_captions": len(rated.ratings),
        }
        return {
            **correlation_metrics(scores, rated.ratings),
            **correlation_metrics(with_references, rated.ratings, prefix="ref_"),
        }, counts

    def check(self, given: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace) -> None:
        """Every picture by its base name, every candidate and reference with the prefix."""
        judgments, texts = load_dataset(dataset, roots, options.allow_partial), set(given.texts)
        require_pictures(given, [image.name for image in judgments.images], dataset)
        for text in itertools.chain(judgments.candidates, *judgments.references):
            if PREFIX + text not in texts:
                raise I0TError(
                    f"{', '.join(given.metadata['files'])}: no text {PREFIX + text!r}. Correlation needs every "
                    f"candidate and reference of {dataset}, each after {PREFIX!r}."
                )

    def protocol(self, options: argparse.Namespace, embeddings: Embeddings) -> dict[str, Any]:
        """Score, prefix, w, clip and how ratings are used."""
        score: CaptionScore = SCORES[options.score]
        return {
            "score": score.name,
            "prefix": score.prefix,
            "w": score.w,
            "clip": score.clip,
            "ratings": "mean of each picture and caption" if options.average_ratings else "one by one, not averaged",
            "tau": PAPER_TAU.get(embeddings.metadata.get("dataset")),
        }

    def prefix(self, options: argparse.Namespace) -> str:
        """The prefix of the score."""
        return SCORES[options.score].prefix


class _RatedRows:
    """Rows of the embeddings that each rating is about; ratings of missing pictures are left out.

    With `average` there is one rating a picture and caption: the mean of all that it got.
    """

    def __init__(self, judgments: RatedCaptions, embeddings: Embeddings, prefix: str, average: bool) -> None:
        image_row = {name: row for row, name in enumerate(embeddings.image_ids)}
        text_row = {text: row for row, text in enumerate(embeddings.texts)}
        present = [
            (image_row[judgments.images[image].name], image, prefix + candidate, rating)
            for image, candidate, rating in zip(
                judgments.image_of_rating, judgments.candidates, judgments.ratings, strict=True
            )
            if judgments.images[image].name in image_row
        ]
        self.n_used = len(present)
        if average:
            ratings: dict[tuple[int, int, str], list[float]] = {}
            for *item, rating in present:
                ratings.setdefault(tuple(item), []).append(rating)
            present = [(*item, float(np.mean(given))) for item, given in ratings.items()]
        self.images = [row for row, _, _, _ in present]
        self.candidates = [text_row[text] for _, _, text, _ in present]
        self.ratings = np.array([rating for _, _, _, rating in present])
        self.references = [
            [text_row[prefix + reference] for reference in judgments.references[image]] for _, image, _, _ in present
        ]

    def best_reference_cosines(self, embeddings: Embeddings) -> np.ndarray:
        """(R,) largest cosine of each candidate with the references of its picture."""
        texts = embeddings.text_features
        pairs = zip(self.candidates, self.references, strict=True)
        return np.array([(texts[references] @ texts[candidate]).max() for candidate, references in pairs])


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return run_task(Correlation(), argv)


if __name__ == "__main__":
    sys.exit(main())

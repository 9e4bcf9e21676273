"""Program: correlation with human judgments on Flickr8k. `scripts/evaluate_correlation.sh`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from evaluation.run import run_task
from evaluation.task import Task
from i0t.cli import program
from i0t.data.entries import Kind
from i0t.data.items import Items
from i0t.data.ratings import RatedCaptions
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import correlation_metrics
from i0t.metrics.caption_scores import SCORES, CaptionScore
from i0t.paths import say

# The tau that the paper prints for each set; records have both.
PAPER_TAU = {"flickr8k_expert": "tau_c", "flickr8k_cf": "tau_b"}


@dataclass(frozen=True)
class Correlation(Task):
    """Kendall's tau-b and tau-c between caption scores and ratings (App. D).

    Expert ratings are used one by one, not averaged (the paper reports tau-c); for CF it reports tau-b.
    """

    score: str = field(
        default="i0t_s",
        metadata={
            "choices": tuple(SCORES),
            "help": "i0t_s: plain cosine (default); pac_s: 2.0 max(cos, 0); clip_s: 2.5 max(cos, 0)",
        },
    )
    average_ratings: bool = field(
        default=False,
        metadata={
            "help": "use the mean rating per image and caption (default: every rating counts, the paper's protocol)"
        },
    )

    name: ClassVar[str] = "correlation"
    kind: ClassVar[Kind] = "ratings"
    printed: ClassVar[tuple[str, ...]] = ("tau_b", "tau_c", "ref_tau_b", "ref_tau_c")
    headline: ClassVar[tuple[str, ...]] = ("tau_b", "tau_c")
    headline_of: ClassVar[dict[str, tuple[str, ...]]] = {name: (tau,) for name, tau in PAPER_TAU.items()}

    @property
    def formula(self) -> CaptionScore:
        """The formula of `--score`."""
        return SCORES[self.score]

    def items(self, dataset: RatedCaptions) -> Items:
        """All images, and every distinct candidate and reference once."""
        return dataset.items(self.formula.prefix)

    def measure(
        self, embeddings: Embeddings, dataset: RatedCaptions, seed: int
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Compute correlations, reference-free and reference-based, and count ratings."""
        rated = RatedRows(dataset, embeddings, self.formula.prefix, self.average_ratings)
        if not rated.n_used:
            raise I0TError(
                f"{dataset.source}: none of its {len(dataset.ratings)} ratings is of an image that could be read."
            )
        candidates = embeddings.text_features[rated.candidates]  # (R, D)
        scores = self.formula.reference_free(embeddings.image_features[rated.images], candidates)
        with_references = self.formula.with_references(scores, rated.best_reference_cosines(embeddings))
        _tell_constant(f"{dataset.source}: all ratings", rated.ratings)
        _tell_constant(f"{dataset.name}: all {self.formula.name} scores", scores)
        _tell_constant(f"{dataset.name}: all reference-based {self.formula.name} scores", with_references)
        counts = {
            "ratings_used": rated.n_used,
            "ratings_nan": dataset.n_dropped,
            "ratings_without_picture": len(dataset.ratings) - rated.n_used,
            "scored_captions": len(rated.ratings),
        }
        return {
            **correlation_metrics(scores, rated.ratings),
            **correlation_metrics(with_references, rated.ratings, prefix="ref_"),
        }, counts

    def check(self, embeddings: Embeddings, dataset: RatedCaptions) -> None:
        """Require every image by base name, and every candidate and reference with the prefix."""
        super().check(embeddings, dataset)
        texts = set(embeddings.texts)
        for text in itertools.chain(dataset.candidates, *dataset.references):
            if self.formula.prefix + text not in texts:
                raise I0TError(
                    f"{', '.join(embeddings.files)}: no text {self.formula.prefix + text!r}. Correlation needs every "
                    f"candidate and reference of {dataset.name}, each after {self.formula.prefix!r}."
                )

    def protocol(self, embeddings: Embeddings) -> dict[str, Any]:
        """Score, prefix, w, clip and the use of ratings."""
        return {
            "score": self.formula.name,
            "prefix": self.formula.prefix,
            "w": self.formula.w,
            "clip": self.formula.clip,
            "ratings": "mean of each picture and caption" if self.average_ratings else "one by one, not averaged",
            "tau": PAPER_TAU.get(embeddings.metadata.get("dataset", "")),
        }


def _tell_constant(what: str, values: np.ndarray) -> None:
    if (values == values[0]).all():
        say(f"{what} are {values[0]:g} ({len(values)} of them): no correlation is defined, and tau is nan")


class RatedRows:
    """Rows of the embeddings for each rating, without ratings of missing images.

    With `average` there is one rating per image and caption: the mean of its ratings.
    """

    def __init__(self, dataset: RatedCaptions, embeddings: Embeddings, prefix: str, average: bool) -> None:
        image_row = {name: row for row, name in enumerate(embeddings.image_ids)}
        text_row = {text: row for row, text in enumerate(embeddings.texts)}
        present = [
            (image_row[dataset.images[image].name], image, prefix + candidate, rating)
            for image, candidate, rating in zip(
                dataset.image_of_rating, dataset.candidates, dataset.ratings, strict=True
            )
            if dataset.images[image].name in image_row
        ]
        self.n_used = len(present)
        if average:
            ratings: dict[tuple[int, int, str], list[float]] = {}
            for row, image, text, rating in present:
                ratings.setdefault((row, image, text), []).append(rating)
            present = [(*item, float(np.mean(rated))) for item, rated in ratings.items()]
        self.images = [row for row, _, _, _ in present]
        self.candidates = [text_row[text] for _, _, text, _ in present]
        self.ratings = np.array([rating for _, _, _, rating in present])
        self.references = [
            [text_row[prefix + reference] for reference in dataset.references[image]] for _, image, _, _ in present
        ]

    def best_reference_cosines(self, embeddings: Embeddings) -> np.ndarray:
        """(R,) largest cosine of each candidate with the references of its image."""
        texts = embeddings.text_features
        pairs = zip(self.candidates, self.references, strict=True)
        return np.array([(texts[references] @ texts[candidate]).max() for candidate, references in pairs])


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return run_task(Correlation, argv)


if __name__ == "__main__":
    sys.exit(main())

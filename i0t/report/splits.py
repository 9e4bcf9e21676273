"""Calibration and test items that share no pair: the protocol of the report.

Items that pairs link, directly or not (a picture and its five captions, a class and its pictures),
form a group, and a group never stands on both sides.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.gap.unit_pairs import linked_groups
from i0t.metrics.resampling import random_split
from i0t.standardize import Standardizer

FEWEST_GROUPS = 4  # two on each side: a mean and a spread


class Groups:
    """The linked groups of an embeddings file, and random splits of them.

    Attributes:
        of_image, of_text: (N,) and (M,) number of each item's group.
        counted: (G,) the groups that hold an image: what n and m count.
        captioned, image_only, text_only: the groups of both modalities, and of one. A draw takes of each in
            proportion, so that a few captions among many images are shared out as well.

    Raises:
        I0TError: too few groups for two sides.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self.of_image, self.of_text = groups_of(embeddings)
        self.counted = np.unique(self.of_image)
        self.text_only = np.setdiff1d(self.of_text, self.of_image)
        self.image_only = np.setdiff1d(self.of_image, self.of_text)
        self.captioned = np.setdiff1d(self.counted, self.image_only)
        if len(self.counted) < FEWEST_GROUPS or len(np.unique(self.of_text)) < FEWEST_GROUPS:
            raise I0TError(
                f"{len(self.counted)} linked groups of images and {len(np.unique(self.of_text))} of texts: a report "
                f"needs {FEWEST_GROUPS} or more of each, to take means from one half and test on the other."
            )

    @property
    def unit(self) -> str:
        """What n and m count, in the plural."""
        pairs = self.embeddings.pairs
        if not len(pairs):
            return "images"
        if len(pairs) == len(self.of_image) == len(self.of_text) == len(self.counted):
            return "pairs"
        return "images" if len(self.counted) == len(self.of_image) else "linked groups"

    @property
    def fewest(self) -> int:
        """Least calibration groups among which, in proportion, there is one with a text."""
        return math.ceil(len(self.counted) / (len(self.captioned) + len(self.text_only)))

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Embeddings, Embeddings]:
        """`count` groups for calibration, and all others for testing, at random.

        Raises:
            I0TError: no group, or none left.
        """
        if not 0 < count < len(self.counted):
            raise I0TError(f"{count} of {len(self.counted)} {self.unit} leave a side without an image.")
        share = count / len(self.counted)
        n_captioned, n_texts = round(share * len(self.captioned)), round(share * len(self.text_only))
        # Both sides need a text: of an image if two have one, else one of its own.
        if len(self.captioned) > 1:
            n_captioned = min(max(n_captioned, 1), len(self.captioned) - 1)
        else:
            n_texts = min(max(n_texts, 1), len(self.text_only) - 1)
        n_captioned = max(n_captioned, count - len(self.image_only))
        chosen = ((self.captioned, n_captioned), (self.image_only, count - n_captioned), (self.text_only, n_texts))
        calibrating = np.concatenate([random_split(groups, rng, number)[0] for groups, number in chosen])
        sides = [
            (np.isin(self.of_image, calibrating, invert=other), np.isin(self.of_text, calibrating, invert=other))
            for other in (False, True)
        ]
        calibration, tested = (take(self.embeddings, images, texts) for images, texts in sides)
        return calibration, tested


def groups_of(embeddings: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (M,) number of the linked group of each image and each text."""
    n_images = len(embeddings.image_features)
    group = linked_groups(embeddings.pairs, n_images, len(embeddings.text_features))
    return group[:n_images], group[n_images:]


def take(embeddings: Embeddings, images: np.ndarray, texts: np.ndarray) -> Embeddings:
    """The chosen images (N,) bool and texts (M,) bool; no chosen text may belong to an image left out."""
    new_image, new_text = (np.where(kept, np.cumsum(kept) - 1, -1) for kept in (images, texts))
    owner = embeddings.image_of_text[texts]
    return replace(
        embeddings,
        image_features=embeddings.image_features[images],
        text_features=embeddings.text_features[texts],
        image_of_text=np.where(owner >= 0, new_image[owner], -1),
        image_ids=[name for name, kept in zip(embeddings.image_ids, images) if kept],
        texts=[text for text, kept in zip(embeddings.texts, texts) if kept],
        labels=None if embeddings.labels is None else new_text[embeddings.labels[images]],
    )


def centred(embeddings: Embeddings, fitted_on: Embeddings) -> Embeddings:
    """I0T_post with the means of `fitted_on`; these may be the same items, where a leak is to be shown."""
    standardizer = Standardizer().fit(fitted_on.image_features, fitted_on.text_features)
    return embeddings.with_features(
        standardizer.transform_image(embeddings.image_features), standardizer.transform_text(embeddings.text_features)
    )

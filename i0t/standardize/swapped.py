"""Images given as texts and texts as images: found by where they lie among the vectors that were fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.remote import is_remote
from i0t.standardize.remover import MODALITIES, Modality
from i0t.standardize.shards import Shard

Means = Mapping[Modality, np.ndarray]  # (D,) of the unit vectors of each modality
ERRORS = 3  # standard errors of its mean: a modality that is no farther from its own place may lie there


def require_own_sides(fitted: Means, embeddings: Embeddings, fitted_on: str) -> None:
    """Raise an error if images lie where texts were fitted and texts where images were.

    Without a gap the two places are one, and nothing is found: the distance must halve if they are exchanged, and be
    larger than chance.

    Args:
        fitted: means of the fitted vectors.
        embeddings: vectors to use with what was fitted.
        fitted_on: name of what was fitted, for the error.

    Raises:
        I0TError: they are swapped.
    """
    sizes: dict[Modality, int] = {
        "image": embeddings.image_features[..., 0].size,
        "text": len(embeddings.text_features),
    }
    _require(fitted, side_means(embeddings), sizes, " ".join(embeddings.files) or embeddings.name, fitted_on)


def require_own_shards(fitted: Means, work: Sequence[tuple[Modality, Shard]], fitted_on: str) -> None:
    """`require_own_sides` for the first block of the first shard of each modality; files of this machine only."""
    first = {modality: shard for modality, shard in reversed(work) if not is_remote(shard.path)}
    own: dict[Modality, np.ndarray] = {}
    sizes: dict[Modality, int] = {}
    for modality, shard in first.items():
        _, block = next(iter(shard.blocks()), (0, np.empty((0, 1))))
        vectors = np.asarray(block, dtype=np.float64).reshape(-1, block.shape[-1])
        if len(vectors) and vectors.shape[1] == len(fitted[modality]):  # else applying it says what is wrong
            with np.errstate(all="ignore"):
                own[modality] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
            sizes[modality] = len(vectors)
    files = " ".join(f"--{modality}s {shard.path}" for modality, shard in first.items())
    _require(fitted, own, sizes, files, fitted_on)


def side_means(embeddings: Embeddings) -> dict[Modality, np.ndarray]:
    """(D,) float64 mean of the vectors of each modality."""
    dim = embeddings.text_features.shape[-1]
    sides = zip(MODALITIES, (embeddings.image_features, embeddings.text_features), strict=True)
    return {modality: side.reshape(-1, dim).mean(axis=0, dtype=np.float64) for modality, side in sides}


def _require(fitted: Means, own: Means, sizes: Mapping[Modality, int], files: str, fitted_on: str) -> None:
    other: dict[Modality, Modality] = {"image": "text", "text": "image"}
    straight = sum(float(np.linalg.norm(mean - fitted[modality])) for modality, mean in own.items())
    crossed = sum(float(np.linalg.norm(mean - fitted[other[modality]])) for modality, mean in own.items())
    chance = sum(float(np.sqrt(max(0.0, 1 - float(mean @ mean)) / sizes[modality])) for modality, mean in own.items())
    if crossed < straight / 2 and straight > ERRORS * chance:
        raise I0TError(
            f"{files}: its images lie where the texts of {fitted_on} lie, or its texts where the images do, so one of "
            "the two is swapped. Give images first, then texts, in both."
        )

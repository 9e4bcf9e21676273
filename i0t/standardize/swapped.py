"""Images given as texts and texts as images: found by where they lie among the vectors that were fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError


def require_own_sides(fitted_means: Sequence[np.ndarray], embeddings: Embeddings, fitted_on: str) -> None:
    """Raise an error if images lie where texts were fitted and texts where images were.

    Without a gap the two places are one, and nothing is found: twice the distance must be left if they are exchanged.

    Args:
        fitted_means: (D,) mean of the fitted unit vectors of images, and that of texts.
        embeddings: vectors to use with what was fitted.
        fitted_on: name of what was fitted, for the error.

    Raises:
        I0TError: they are swapped.
    """
    own = mean_vectors(embeddings)
    straight, crossed = (
        sum(float(np.linalg.norm(one - other)) for one, other in zip(own, means, strict=True))
        for means in (fitted_means, fitted_means[::-1])
    )
    if crossed < straight / 2:
        raise I0TError(
            f"{' '.join(embeddings.files) or embeddings.name}: its images lie where the texts of {fitted_on} lie, and "
            "its texts where the images do, so one of the two is swapped. Give images first, then texts, in both."
        )


def mean_vectors(embeddings: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    """(D,) float64 mean of the image vectors, and of the text vectors."""
    dim = embeddings.text_features.shape[-1]
    images, texts = (
        side.reshape(-1, dim).mean(axis=0, dtype=np.float64)
        for side in (embeddings.image_features, embeddings.text_features)
    )
    return images, texts

"""What stands in a mixed index, what asks, and what is right.

All items are numbered through: image i is item i, text j is item N + j.

Shapes: N images, M texts, P pairs, C corpus items, A queries, R judgments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from i0t.errors import I0TError


@dataclass(frozen=True)
class MixedLayout:
    """A search task over the items of N images and M texts.

    Attributes:
        n_images: N.
        corpus: (C,) item numbers in the index.
        queries: (A,) item numbers that ask.
        judged: (R, 2) rows (place in `queries`, place in `corpus`) of relevant items.
        grades: (R,) how relevant, above 0.

    Example:
        >>> layout = MixedLayout(2, np.array([0, 1, 3]), np.array([2]), np.array([[0, 0]]), np.array([1.0]))
        >>> layout.corpus_is_text.tolist(), layout.query_is_text.tolist()
        ([False, False, True], [True])
    """

    n_images: int
    corpus: np.ndarray
    queries: np.ndarray
    judged: np.ndarray
    grades: np.ndarray

    @property
    def corpus_is_text(self) -> np.ndarray:
        """(C,) bool."""
        return self.corpus >= self.n_images

    @property
    def query_is_text(self) -> np.ndarray:
        """(A,) bool."""
        return self.queries >= self.n_images


def half_and_half(pairs: np.ndarray, n_images: int) -> MixedLayout:
    """The mixed index of n pairs: the image of each of the first half, the text of each of the second.

    Every pair's other side asks, so each query has one relevant item, which is of the other modality. Whoever
    ranks its own modality first finds nothing.

    Args:
        pairs: (P, 2) rows (image, text), two or more.
        n_images: N, from which the items of texts count on.

    Raises:
        I0TError: fewer than two pairs.

    Example:
        >>> layout = half_and_half(np.array([[0, 0], [1, 1]]), n_images=2)
        >>> layout.corpus.tolist(), layout.queries.tolist()
        ([0, 3], [2, 1])
    """
    if len(pairs) < 2:
        raise I0TError(f"a mixed index needs two pairs or more to hold both modalities, got {len(pairs)}.")
    images, texts = pairs[:, 0], pairs[:, 1] + n_images
    is_first_half = np.arange(len(pairs)) < len(pairs) // 2
    place = np.arange(len(pairs))
    return MixedLayout(
        n_images=n_images,
        corpus=np.where(is_first_half, images, texts),
        queries=np.where(is_first_half, texts, images),
        judged=np.stack([place, place], axis=1),
        grades=np.ones(len(pairs)),
    )

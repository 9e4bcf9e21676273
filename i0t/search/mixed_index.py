"""Tasks of search in an index that mixes images and texts: corpus, queries, relevant items.

Item numbers: image i is item i, text j is item N + j.

Shapes: N images, M texts, P pairs, C corpus items, A queries, R judgments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from i0t.errors import I0TError


@dataclass(frozen=True)
class MixedLayout:
    """A search task over the items of N images and M texts.

    Attributes:
        n_images: N.
        corpus: (C,) item numbers in the index.
        queries: (A,) item numbers of the queries.
        judged: (R, 2) rows (place in `queries`, place in `corpus`) of relevant items.
        grades: (R,) relevance, above 0.
        group_of_query: (A,) queries with one number depend on each other, as those of one image do; None: none do.
        documents: (C,) for each corpus item the place of the first item of its document: a document may own an image
            and a text, and finding either finds it, once. `judged` then has these places. None: each item is one.
    """

    n_images: int
    corpus: np.ndarray
    queries: np.ndarray
    judged: np.ndarray
    grades: np.ndarray
    group_of_query: np.ndarray | None = None
    documents: np.ndarray | None = None

    @property
    def corpus_is_text(self) -> np.ndarray:
        """(C,) bool."""
        return self.corpus >= self.n_images

    @property
    def query_is_text(self) -> np.ndarray:
        """(A,) bool."""
        return self.queries >= self.n_images

    @property
    def is_both(self) -> np.ndarray | None:
        """(C,) bool, at the place of a document: whether it has items of both kinds; None without documents."""
        if self.documents is None:
            return None
        texts, items = (
            np.bincount(self.documents, weights, len(self.corpus)) for weights in (self.corpus_is_text, None)
        )
        return (texts > 0) & (texts < items)


def either_kind(
    pairs: np.ndarray, n_images: int, seed: int | Sequence[int] = 0, documents: bool = False
) -> MixedLayout:
    """Make a mixed index in which a query's relevant item may be of either modality, from several texts per image.

    Of the first half of the images, the index has the image, and one of its texts asks. Of the others, it has one of
    the texts; the image asks, and another of the texts, whose relevant item is thus of its own modality. If every
    relevant item were of the other modality, "search only the other modality" would win, and prove nothing. With one
    text per image no query finds its own modality: a model that ranks it first finds nothing.

    Args:
        pairs: (P, 2) rows (image, text) of two images or more; images in the order in which they come.
        n_images: N.
        seed: chooses among the texts of an image.
        documents: in a third of the images with several texts, the index has both, the image and one of its texts, as
            one document, and another text asks. The others are divided as above.

    Raises:
        I0TError: fewer than two images.

    Example:
        >>> layout = either_kind(np.array([[0, 0], [1, 1], [1, 2]]), n_images=2)
        >>> layout.queries.tolist()[:2], layout.judged.tolist()
        ([2, 1], [[0, 0], [1, 1], [2, 1]])
    """
    images = list(dict.fromkeys(pairs[:, 0].tolist()))
    if len(images) < 2:
        raise I0TError(f"a mixed index needs two images with a text to hold both modalities, got {len(images)}.")
    order = np.random.default_rng(seed).permutation(len(pairs))
    order = order[np.argsort(pairs[order, 0], kind="stable")]  # by image, its texts in random order
    owners, starts = np.unique(pairs[order, 0], return_index=True)
    texts_of = dict(zip(owners.tolist(), np.split(pairs[order, 1] + n_images, starts[1:])))
    several = [image for image in images if len(texts_of[image]) > 1]
    both = set(several[: len(several) // 3]) if documents else set()
    alone = [image for image in images if image not in both]
    first_half = set(alone[: len(alone) // 2])
    corpus: list[int] = []
    queries: list[int] = []
    owner, places, groups = [], [], []
    for image in images:
        place, (first, *others) = len(corpus), texts_of[image].tolist()
        held = [image, first] if image in both else [image] if image in first_half else [first]
        asking = [first] if image in first_half else others[:1] if image in both else [image, *others[:1]]
        corpus += held
        owner += [place] * len(held)
        queries += asking
        places += [place] * len(asking)
        groups += [image] * len(asking)
    judged = np.stack([np.arange(len(queries)), places], axis=1)
    return MixedLayout(
        n_images,
        np.array(corpus),
        np.array(queries),
        judged,
        np.ones(len(queries)),
        np.array(groups),
        np.array(owner) if documents else None,
    )

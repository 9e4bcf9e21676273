"""A search in an index that mixes images and texts: what it holds, what the queries are, and what they find.

All items are numbered through: image i is item i, text j is item N + j.

Shapes: N images, M texts, P pairs, C corpus items, A queries, R judgments, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from i0t.errors import I0TError
from i0t.metrics.mixed_search import ranked_search_metrics
from i0t.metrics.one_scale import one_scale_auc
from i0t.search.index import VectorIndex, require_one_vector


@dataclass(frozen=True)
class MixedLayout:
    """A search task over the items of N images and M texts.

    Attributes:
        n_images: N.
        corpus: (C,) item numbers in the index.
        queries: (A,) item numbers of the queries.
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

    The other item of every pair is a query, so each query has one relevant item, which is of the other modality.
    A model that ranks a query's own modality first finds nothing.

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
    place = np.arange(len(pairs))
    is_first_half = place < len(pairs) // 2
    return MixedLayout(
        n_images=n_images,
        corpus=np.where(is_first_half, images, texts),
        queries=np.where(is_first_half, texts, images),
        judged=np.stack([place, place], axis=1),
        grades=np.ones(len(pairs)),
    )


def search_quality(
    image_features: np.ndarray, text_features: np.ndarray, layout: MixedLayout, kind: str = "flat", k: int = 10
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Build the index of a layout, search it with all its queries, and judge what it returns.

    Args:
        image_features: (N, D).
        text_features: (M, D).
        layout: what stands in the index, and the queries.
        kind: of `VectorIndex`.
        k: how many of the first results count.

    Returns:
        `ndcg`, `recall` and `text_share`, (A,) each in 0..1; and what faiss built.

    Raises:
        I0TError: several vectors per item, a bad row, or an index that faiss cannot build.
    """
    require_one_vector(image_features, "images")
    require_one_vector(text_features, "texts")
    items = np.concatenate([image_features, text_features])
    index = VectorIndex(items[layout.corpus], kind)
    places, scores = index.search(items[layout.queries], k)
    judged = ranked_search_metrics(places, scores, layout.judged, layout.grades, layout.corpus_is_text, k)
    return judged, index.description


def summary(per_query: Mapping[str, np.ndarray], layout: MixedLayout) -> dict[str, float]:
    """Means over queries: `ndcg`, `recall`, and the share of texts in the first k by the modality of the query.

    `corpus_text_share` is what the shares are without any preference. A share is NaN where no query is of that
    modality.
    """
    is_text, share = layout.query_is_text, per_query["text_share"]
    known = ~np.isnan(share)
    queries = {"text_queries": is_text, "image_queries": ~is_text, "all_queries": np.ones_like(is_text)}
    shares = {
        f"text_share_{which}": float(share[rows & known].mean()) if (rows & known).any() else float("nan")
        for which, rows in queries.items()
    }
    return {
        "ndcg": float(per_query["ndcg"].mean()),
        "recall": float(per_query["recall"].mean()),
        **shares,
        "corpus_text_share": float(layout.corpus_is_text.mean()),
    }


def pair_quality(
    images: np.ndarray, texts: np.ndarray, kind: str = "flat", k: int = 10
) -> tuple[dict[str, float], dict[str, np.ndarray], dict[str, object]]:
    """Metrics of row-aligned pairs (P, D): the mixed search of `half_and_half`, and where matched cosines stand.

    Returns:
        `summary` and `one_scale_auc`; what `search_quality` found for every query; and what faiss built.
    """
    layout = half_and_half(np.stack([np.arange(len(images))] * 2, axis=1), len(images))
    per_query, index = search_quality(images, texts, layout, kind, k)
    return {**summary(per_query, layout), **one_scale_auc(images, texts)}, per_query, index

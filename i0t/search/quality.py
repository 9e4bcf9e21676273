"""What one search in an index of images and texts finds.

Shapes: N images, M texts, P pairs, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from i0t.metrics.mixed_search import ranked_search_metrics
from i0t.metrics.one_scale import one_scale_auc
from i0t.search.index import VectorIndex, require_one_vector
from i0t.search.layout import MixedLayout, half_and_half


def search_quality(
    image_features: np.ndarray, text_features: np.ndarray, layout: MixedLayout, kind: str = "flat", k: int = 10
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Build the index of a layout, ask all its queries, and judge what it returns.

    Args:
        image_features: (N, D).
        text_features: (M, D).
        layout: what stands in the index and what asks.
        kind: of `VectorIndex`.
        k: how far down one looks.

    Returns:
        `ndcg`, `recall` and `text_share`, (A,) each in 0..1; and what faiss built.

    Raises:
        I0TError: several vectors an item, a bad row, or an index that faiss cannot build.

    Example:
        >>> eye = np.eye(4)
        >>> layout = half_and_half(np.stack([np.arange(4)] * 2, axis=1), n_images=4)
        >>> search_quality(eye, eye, layout, k=1)[0]["ndcg"].tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    require_one_vector(image_features, "images")
    require_one_vector(text_features, "texts")
    items = np.concatenate([image_features, text_features])
    index = VectorIndex(items[layout.corpus], kind)
    places, scores = index.search(items[layout.queries], k)
    judged = ranked_search_metrics(places, scores, layout.judged, layout.grades, layout.corpus_is_text, k)
    return judged, index.description


def summary(per_query: Mapping[str, np.ndarray], layout: MixedLayout) -> dict[str, float]:
    """Means over queries: `ndcg`, `recall`, and the share of texts in the first k by the modality that asks.

    `corpus_text_share` is what the shares are without any preference. A share is NaN where that modality asks
    nothing.

    Example:
        >>> layout = half_and_half(np.array([[0, 0], [1, 1]]), n_images=2)  # text 0 asks, then image 1
        >>> per_query = {"ndcg": np.ones(2), "recall": np.ones(2), "text_share": np.array([0.0, 1.0])}
        >>> found = summary(per_query, layout)
        >>> found["text_share_text_queries"], found["text_share_image_queries"], found["corpus_text_share"]
        (0.0, 1.0, 0.5)
    """
    is_text, share = layout.query_is_text, per_query["text_share"]
    known = ~np.isnan(share)
    asked = {"text_queries": is_text, "image_queries": ~is_text, "all_queries": np.ones_like(is_text)}
    shares = {
        f"text_share_{who}": float(share[rows & known].mean()) if (rows & known).any() else float("nan")
        for who, rows in asked.items()
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
    """Metrics of row-aligned pairs: the mixed search, and where matched cosines stand.

    Args:
        images: (P, D).
        texts: (P, D), row by row those of the images.
        kind: of `VectorIndex`.
        k: how far down one looks.

    Returns:
        `summary` and `one_scale_auc`; what `search_quality` found of every query; and what faiss built.

    Example:
        >>> scores, per_query, _ = pair_quality(np.eye(4), np.eye(4), k=1)
        >>> scores["ndcg"], scores["above_picture"], per_query["recall"].tolist()
        (1.0, 1.0, [1.0, 1.0, 1.0, 1.0])
    """
    layout = half_and_half(np.stack([np.arange(len(images))] * 2, axis=1), len(images))
    per_query, index = search_quality(images, texts, layout, kind, k)
    return {**summary(per_query, layout), **one_scale_auc(images, texts)}, per_query, index

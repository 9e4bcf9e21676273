"""Embeddings that the tests of the report share, and a page's own data read back from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings


def cones(n: int = 60, captions: int = 1, dim: int = 24, seed: int = 0, **changes: Any) -> Embeddings:
    """Images and their captions that share content, in two cones: dimensions 3 and 7 peak."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(n, dim))
    images = content + 0.8 * rng.normal(size=(n, dim))
    texts = np.repeat(content, captions, axis=0) + 0.8 * rng.normal(size=(n * captions, dim))
    images[:, 3] += 9
    texts[:, 7] += 9
    unit_images, unit_texts = (
        (side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32) for side in (images, texts)
    )
    parts: dict[str, Any] = {
        "image_features": unit_images,
        "text_features": unit_texts,
        "image_of_text": np.repeat(np.arange(n), captions),
        "image_ids": [f"{row}.jpg" for row in range(n)],
        "texts": [f"caption {row}" for row in range(n * captions)],
        "metadata": {"model": "cones"},
    }
    return Embeddings(**{**parts, **changes})


def page_data(page: str | Path) -> dict[str, Any]:
    """The JSON inside a page, given as text or path."""
    text = page.read_text(encoding="utf-8") if isinstance(page, Path) else page
    _, _, rest = text.partition('<script type="application/json" id="data">')
    return json.loads(rest.partition("</script>")[0])

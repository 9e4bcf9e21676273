"""Ratings or scores that do not vary: the correlation is nan, and a sentence says why.

Run: python -m pytest tests/evaluation/test_constant_ratings.py
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from evaluation.correlation import Correlation
from i0t.data.ratings import RatedCaptions
from i0t.embeddings import Embeddings
from i0t.errors import I0TError

TEXTS = ["a dog", "a cat", "a bird"]


def measured(ratings: list[float], same_texts: bool = False, read: bool = True) -> dict[str, float]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 8))
    texts = rng.normal(size=(1 if same_texts else 3, 8)).repeat(3 if same_texts else 1, axis=0)
    images, texts = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts))
    names = ["a.jpg", "b.jpg"]
    dataset = RatedCaptions(
        name="flickr8k_cf",
        split="test",
        source=Path("ratings.json"),
        images=[Path(name) for name in names],
        image_ids=names,
        missing=[],
        references=[["a dog"], ["a cat"]],
        image_of_rating=[0, 0, 0] if same_texts else [0, 0, 1],
        candidates=TEXTS,
        ratings=ratings,
    )
    task = Correlation()
    encoded = names if read else ["c.jpg", "d.jpg"]
    embeddings = Embeddings(
        images, texts, np.array([0, 1, -1]), encoded, [task.formula.prefix + text for text in TEXTS]
    )
    return task.measure(embeddings, dataset, seed=0)[0]


@pytest.mark.parametrize(
    ("ratings", "same_texts", "sentences"),
    [
        ([0.5, 0.5, 0.5], False, ["ratings.json: all ratings are 0.5 (3 of them)"]),
        ([0.1, 0.5, 0.9], True, ["all i0t_s scores are", "all reference-based i0t_s scores are"]),
        ([0.1, 0.5, 0.9], False, []),
    ],
)
def test_what_is_constant_is_told(capsys, ratings, same_texts, sentences):
    metrics = measured(ratings, same_texts)
    assert all(math.isnan(value) == bool(sentences) for value in metrics.values())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert sentence in line and "tau is nan" in line


def test_no_rated_image_is_one_line():
    with pytest.raises(I0TError, match=r"ratings\.json: none of its 3 ratings is of an image that could be read"):
        measured([0.1, 0.5, 0.9], read=False)

"""Rows in another order and copies are named by every program that measures known pairs.

Run: python -m pytest tests/gap/test_pair_doubts.py
"""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.retrieval import main as retrieval
from i0t.commands.advise import main as advise
from i0t.commands.cutoff import main as cutoff
from i0t.commands.search_eval import main as search_eval
from i0t.embeddings import Embeddings
from i0t.gap.pair_doubts import copies_of_others, pair_doubts


def embeddings(images: np.ndarray, texts: np.ndarray, owner: np.ndarray | None = None) -> Embeddings:
    rows = np.arange(len(texts)) if owner is None else owner
    return Embeddings(images, texts, rows, [str(row) for row in range(len(images))], [""] * len(texts))


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    """120 images, and texts that match them row by row, with a gap."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(120, 16)).astype("float32")
    texts = images + 0.5 * rng.normal(size=images.shape).astype("float32") + 2
    return images / np.linalg.norm(images, axis=1, keepdims=True), texts / np.linalg.norm(texts, axis=1, keepdims=True)


def test_copies_are_counted_among_different_owners_only():
    rows = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [2, 1]], dtype="float32")
    assert copies_of_others(rows, np.arange(6)) == 4
    assert copies_of_others(rows, np.array([0, 0, 1, 2, 3, 4])) == 2  # two equal texts of one image are none
    assert copies_of_others(rows[:1], np.array([0])) == 0


def test_matching_pairs_without_copies_are_not_doubted(sides):
    images, texts = sides
    assert pair_doubts(embeddings(images, texts)) == []
    several = embeddings(images, np.repeat(texts, 2, axis=0), np.repeat(np.arange(120), 2))
    assert pair_doubts(several) == []
    assert pair_doubts(embeddings(images, texts, np.full(120, -1))) == []  # no pairs are known


@pytest.mark.parametrize("program", [search_eval, advise, cutoff, retrieval])
def test_programs_name_what_makes_their_numbers_wrong(sides, tmp_path, monkeypatch, capsys, program):
    monkeypatch.chdir(tmp_path)
    images, texts = sides
    copied = texts.copy()
    copied[:30] = copied[0]
    np.save("a.npy", images)
    for name, side in {"right": texts, "order": texts[::-1], "copies": copied}.items():
        np.save(f"{name}.npy", side)
        quick = {search_eval: ["--splits", "1", "--removers", "i0t_post"], advise: ["--splits", "1"]}.get(program, [])
        where = ["--output", "out"] if program in (search_eval, retrieval) else []
        source = ["--embeddings"] if program is retrieval else []
        assert program([*source, "a.npy", f"{name}.npy", *quick, *where]) == 0
        said = capsys.readouterr().err
        assert ("no nearer than shuffled ones" in said) == (name == "order")
        assert ("30 of 120 texts are copies of texts of other pairs" in said) == (name == "copies")

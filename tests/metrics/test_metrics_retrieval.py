"""Retrieval metrics: hand-worked cases, brute force over tie-breaks, torchmetrics, blocks.

Run: python -m pytest tests/metrics/test_metrics_retrieval.py
"""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_hit_rate

from i0t.errors import I0TError
from i0t.metrics import retrieval as module
from i0t.metrics import retrieval_metrics
from i0t.metrics.ranking import tied_ranks, unit_rows

KS = (1, 2, 5, 10)


def captioned(seed: int, n_images: int = 40, per_image: int = 5, dim: int = 16, noise: float = 2.0) -> tuple:
    """Images with several noisy captions each, in shuffled order."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n_images, dim)).astype(np.float32)
    owner = rng.permutation(np.repeat(np.arange(n_images), per_image))
    texts = images[owner] + noise * rng.normal(size=(len(owner), dim)).astype(np.float32)
    return images, texts, owner


def cosines(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(N, M) float64 cosines, the maximum over Q for (N, Q, D) images."""
    images, texts = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (images.astype(float), texts))
    return np.array([[np.max(image @ text) for text in texts] for image in images])


def brute_force(scores: np.ndarray, right: np.ndarray, k: int) -> tuple[float, float]:
    """Mean hit in percent and mean rank over every order of the candidates as a tie-break."""
    hits, ranks = [], []
    for row, good in zip(scores, right, strict=True):
        for order in itertools.permutations(range(len(row))):
            ranked = sorted(order, key=lambda j: -row[j])
            first = next(rank for rank, j in enumerate(ranked, start=1) if good[j])
            hits.append(first <= k)
            ranks.append(first)
    return 100 * float(np.mean(hits)), float(np.mean(ranks))


def naive(scores: np.ndarray, right: np.ndarray, k: int) -> tuple[float, float, float]:
    """Recall, mean and median rank by a loop, for scores without ties."""
    firsts = [
        min(1 + int((row > row[j]).sum()) for j in np.flatnonzero(good))
        for row, good in zip(scores, right, strict=True)
    ]
    return 100 * float(np.mean(np.array(firsts) <= k)), float(np.mean(firsts)), float(np.median(firsts))


def test_hand_worked() -> None:
    """Two images, three texts; the second image is beaten by a text of the first."""
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = np.array([[0.6, 0.8], [0.8, 0.6], [0.96, -0.28]])  # cosines with image 2: .8, .6, -.28
    metrics = retrieval_metrics(images, texts, np.array([0, 1, 0]), ks=(1, 2))
    # Image 0 scores .6 .8 .96: its text 2 is first. Image 1 scores .8 .6 -.28: its text 1 is second.
    assert metrics["i2t_r1"] == 50 and metrics["i2t_r2"] == 100
    assert metrics["i2t_mean_rank"] == 1.5 and metrics["i2t_median_rank"] == 1.5
    # Texts 0 and 1 prefer the wrong image (.8 to .6 in both directions), text 2 the right one.
    assert metrics["t2i_r1"] == pytest.approx(100 / 3) and metrics["t2i_r2"] == 100
    assert metrics["t2i_mean_rank"] == pytest.approx(5 / 3) and metrics["t2i_median_rank"] == 2


def test_default_keys() -> None:
    """The names of metrics that tables use."""
    assert set(retrieval_metrics(np.eye(3), np.eye(3), np.arange(3))) == {
        f"{way}_{what}" for way in ("i2t", "t2i") for what in ("r1", "r5", "r10", "median_rank", "mean_rank")
    }


@pytest.mark.parametrize("queries", [None, 3])
def test_agrees_with_naive_loop(queries: int | None) -> None:
    """Several captions per image, in shuffled order, with one vector per image and with three."""
    images, texts, owner = captioned(seed=0)
    if queries:
        images = images[:, None] + np.random.default_rng(1).normal(size=(len(images), queries, 16)).astype(np.float32)
    scores, right = cosines(images, texts), np.arange(len(images))[:, None] == owner
    metrics = retrieval_metrics(images, texts, owner, ks=KS)
    for way, s, good in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        for k in KS:
            recall, mean_rank, median_rank = naive(s, good, k)
            assert metrics[f"{way}_r{k}"] == pytest.approx(recall)
        assert metrics[f"{way}_mean_rank"] == pytest.approx(mean_rank)
        assert metrics[f"{way}_median_rank"] == median_rank
    assert 0 < metrics["i2t_r1"] < 100 and 0 < metrics["t2i_r1"] < 100


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_agrees_with_torchmetrics_hit_rate(shift: float) -> None:
    """Also where every cosine is negative, which other torchmetrics recalls would drop."""
    images, texts, owner = captioned(seed=2)
    images = np.concatenate([images, np.full((len(images), 1), shift)], axis=1)
    texts = np.concatenate([texts, np.full((len(texts), 1), -10 * shift)], axis=1)
    scores = torch.from_numpy(cosines(images, texts))
    assert shift == 0 or bool((scores < 0).all())
    right = torch.from_numpy(np.arange(len(images))[:, None] == owner)
    metrics = retrieval_metrics(images, texts, owner, ks=KS)
    for way, s, good in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        for k in KS:
            hits = [float(retrieval_hit_rate(row, target, top_k=k)) for row, target in zip(s, good, strict=True)]
            assert metrics[f"{way}_r{k}"] == pytest.approx(100 * np.mean(hits))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_ties_agree_with_every_tie_break(k: int) -> None:
    """Few distinct vectors, so that positives and negatives tie in every combination."""
    axes = np.eye(3)
    images, texts = axes[[0, 0, 1]], axes[[0, 0, 1, 2, 2, 1]]
    owner = np.array([0, 1, 0, 2, 2, 1])
    scores, right = images @ texts.T, np.arange(3)[:, None] == owner
    metrics = retrieval_metrics(images, texts, owner, ks=(k,))
    for way, s, good in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        recall, mean_rank = brute_force(s, good, k)
        assert metrics[f"{way}_r{k}"] == pytest.approx(recall)
        assert metrics[f"{way}_mean_rank"] == pytest.approx(mean_rank)


@pytest.mark.parametrize("n", [7, 50, 203])
@pytest.mark.parametrize("dim", [3, 512])
def test_constant_features_score_chance(n: int, dim: int) -> None:
    """A collapsed model scores as chance, also at sizes where BLAS computes edge columns in another order."""
    rng = np.random.default_rng(n)
    images, texts = (np.tile(rng.normal(size=(1, dim)).astype(np.float32), (n, 1)) for _ in range(2))
    metrics = retrieval_metrics(images, texts, rng.permutation(n))
    for way in ("i2t", "t2i"):
        for k in (1, 5, 10):
            assert metrics[f"{way}_r{k}"] == pytest.approx(100 * min(k, n) / n)
        assert metrics[f"{way}_mean_rank"] == metrics[f"{way}_median_rank"] == (n + 1) / 2


def test_constant_features_several_captions() -> None:
    """Chance with 5 captions per image: 1 - C(45, K) / C(50, K), here for K = 1 and K = 2."""
    owner = np.repeat(np.arange(10), 5)
    metrics = retrieval_metrics(np.ones((10, 4)), np.ones((50, 4)), owner, ks=(1, 2))
    assert metrics["i2t_r1"] == pytest.approx(10)
    assert metrics["i2t_r2"] == pytest.approx(100 * (1 - 45 * 44 / (50 * 49)))


@pytest.mark.parametrize("queries", [None, 2])
@pytest.mark.parametrize("tile_scores", [1, 40, 700])
def test_tile_size_changes_nothing(monkeypatch: pytest.MonkeyPatch, tile_scores: int, queries: int | None) -> None:
    """Blocks of one score and more, with exact copies among images and texts."""
    images, texts, owner = captioned(seed=3, n_images=30)
    if queries:
        images = np.stack([images, np.random.default_rng(3).normal(size=images.shape)], axis=1)
    images[7], texts[11] = images[3][::-1] if queries else images[3], texts[5]  # vectors of an item have no order
    whole = retrieval_metrics(images, texts, owner)
    monkeypatch.setattr(module, "TILE_SCORES", tile_scores)
    assert retrieval_metrics(images, texts, owner) == pytest.approx(whole)


def test_memory_is_one_tile_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """2000 x 2000 scores are 16 MB at once; tiles of 64 kB must stay far below."""
    rng = np.random.default_rng(4)
    images, texts = rng.normal(size=(2, 2000, 8)).astype(np.float32)
    monkeypatch.setattr(module, "TILE_SCORES", 2**14)
    tracemalloc.start()
    retrieval_metrics(images, texts, np.arange(2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20


@pytest.mark.parametrize("seed", range(4))
def test_both_directions_at_once_agree_with_each_alone(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Copies of images, of texts, across and within images, texts of no image: counts are equal, not close.

    Entries are powers of two, so that every sum is exact and ties are where they should be.
    """
    rng = np.random.default_rng(seed)
    images = rng.integers(-2, 3, size=(23, 4)).astype(np.float32)[rng.integers(0, 12, 23)]
    owner = np.concatenate([rng.permutation(23), rng.integers(-1, 23, 60)])
    texts = rng.integers(-2, 3, size=(83, 4)).astype(np.float32)[rng.integers(0, 40, 83)]
    monkeypatch.setattr(module, "TILE_SCORES", 48)
    i2t, t2i = module.tied_ranks_both_directions(images, texts, owner)
    queries = np.flatnonzero(owner >= 0)
    alone = (
        tied_ranks(images, texts, np.stack([owner[queries], queries], axis=1)),
        tied_ranks(texts[queries], images, np.stack([np.arange(len(queries)), owner[queries]], axis=1)),
    )
    for ours, expected in zip((i2t, t2i), alone, strict=True):
        for name in ("greater", "tied", "positives"):
            assert np.array_equal(getattr(ours, name), getattr(expected, name)), name
        assert (ours.tied > ours.positives).any()


def test_wide_tiles_count_past_a_byte() -> None:
    """More than 255 marks in a column of a tile and 8 x 255 in a row: nothing wraps around."""
    images = unit_rows(np.array([[1.0, 0.0], [0.0, 1.0]]), "images")
    marks = np.ones((700, 2048 + 512), dtype=bool)
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
    assert (module._sum_rows(marks, nothing) == 2560).all() and (module._sum_columns(marks, nothing) == 700).all()
    texts = np.tile(images[:1], (3000, 1))
    i2t, t2i = module.tied_ranks_both_directions(
        images, np.concatenate([texts, images[1:]]), np.array([0] * 3000 + [1])
    )
    assert i2t.tied.tolist() == [3000, 1] and i2t.positives.tolist() == [3000, 1]
    assert (t2i.greater == 0).all() and (t2i.tied == 1).all()


def test_kinds_of_input_agree() -> None:
    """NumPy, torch and lengths of vectors make no difference; inputs stay as they were."""
    images, texts, owner = captioned(seed=5)
    kept = images.copy()
    expected = retrieval_metrics(images, texts, owner)
    assert retrieval_metrics(torch.from_numpy(images), torch.from_numpy(texts), torch.from_numpy(owner)) == expected
    assert retrieval_metrics(4 * images, texts / 8, owner.tolist()) == expected
    assert np.array_equal(images, kept)


def test_text_without_image_is_only_a_candidate() -> None:
    """Such a text can rank above an image's own text but is not a query."""
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    metrics = retrieval_metrics(images, texts, [-1, 0, 1], ks=(1,))
    assert metrics["i2t_r1"] == 50 and metrics["t2i_r1"] == 100


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ([0, 0, 0], "image 1 has no text"),
        ([0, 1], "expected 3 integers"),
        ([0, 1, 2], r"must lie in -1\.\.1"),
        ([0.0, 1.0, 1.0], "expected 3 integers"),
    ],
)
def test_refuses_bad_owners(owner: list, message: str) -> None:
    """The error names the fault."""
    with pytest.raises(I0TError, match=message):
        retrieval_metrics(np.eye(3)[:2], np.eye(3), owner)


def test_refuses_bad_features() -> None:
    """Dimensions that differ, NaN and K = 0."""
    with pytest.raises(I0TError, match="text_features: 4 dimensions, expected 3"):
        retrieval_metrics(np.eye(3), np.eye(4), [0, 1, 2, 2])
    with pytest.raises(I0TError, match="image_features: row 0"):
        retrieval_metrics(np.full((3, 3), np.nan), np.eye(3), [0, 1, 2])
    with pytest.raises(I0TError, match="K must be 1"):
        retrieval_metrics(np.eye(3), np.eye(3), [0, 1, 2], ks=(0,))

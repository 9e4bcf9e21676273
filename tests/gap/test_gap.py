"""Measures of the gap: hand-worked cases, naive references, invariances, real CLIP features.

Run: python -m pytest tests/gap/test_gap.py
"""

from __future__ import annotations

import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest
import torch
from real_data import FEATURES, needs_features

from i0t import gap
from i0t.errors import I0TError
from i0t.metrics import ranking as blocks

NO_PAIRS = np.zeros((0, 2), dtype=int)
PAIR_MEASURES = ("relative_modality_gap", "alignment")


def unit(v: np.ndarray) -> np.ndarray:
    """Normalised along the last axis."""
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def features(
    seed: int, n: int = 60, m: int | None = None, dim: int = 12, offset: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Matched images and texts with a gap along the first axis; more texts repeat the images."""
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(n, dim))
    images = meaning + 0.5 * rng.normal(size=(n, dim)) + offset * np.eye(dim)[0]
    texts = meaning[np.arange(m or n) % n] + 0.5 * rng.normal(size=(m or n, dim)) - offset * np.eye(dim)[0]
    return images, texts


# Hand-worked


def test_hand_worked() -> None:
    """Two images, two texts in the plane, all angles multiples of 90 degrees."""
    images, texts = np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([[0.0, 1.0], [-5.0, 0.0]])
    measured = gap.modality_gap(images, texts)
    expected = {
        "centroid_distance": 1.0,  # (1/2, 1/2) and (-1/2, 1/2)
        "centroid_distance_debiased": 0.0,  # pairs differ by (1, -1) and (1, 1): 1 - (0 + 2) / 2
        "severity": "severe",
        "separability_auc": math.nan,  # two groups, five folds
        "min_cosine_distance": 0.0,  # image 1 is text 0
        "relative_modality_gap": 0.5,  # P = I = T = 1/2
        "alignment": 2.0,
        "uniformity_image": -4.0,
        "uniformity_text": -4.0,
        "first_cross_modal_rank_image": (1.5 + 1) / 2,  # image 0: text 0 ties with image 1; image 1: text 0
        "first_cross_modal_rank_text": (1 + 1.5) / 2,
        "first_cross_modal_rank": 1.25,
        "cross_modal_neighbor_share": 0.75,
        "n_images": 2,
        "n_texts": 2,
        "n_pairs": 2,
    }
    assert set(measured) == {*expected, "linear_separability"}
    for name, value in expected.items():
        assert measured[name] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-6, nan_ok=True))


def test_severity_bounds() -> None:
    """Values at the paper's two thresholds get the more severe word."""
    assert [gap.severity(d) for d in (0.63, 0.6299, 0.19, 0.1899)] == [
        "severe",
        "moderate",
        "moderate",
        "low",
    ]


# Independent references


def test_agrees_with_naive_loops() -> None:
    """Unequal counts, several captions per image in shuffled order."""
    images, texts = features(seed=0, n=20, m=60)
    shuffle = np.random.default_rng(1).permutation(60)
    texts, owner = texts[shuffle], (np.arange(60) % 20)[shuffle]
    pairs = np.stack([owner, np.arange(60)], axis=1)
    measured = gap.modality_gap(images, texts, pairs)
    x, y = unit(images), unit(texts)

    def cosine_distances(left: np.ndarray, right: np.ndarray) -> list[float]:
        return [1 - float(a @ b) for a in left for b in right]

    assert measured["min_cosine_distance"] == pytest.approx(min(cosine_distances(x, y)), abs=1e-6)
    assert measured["alignment"] == pytest.approx(np.mean([np.sum((x[i] - y[j]) ** 2) for i, j in pairs]))
    uniform, apart = [], [np.mean([(1 - x[i] @ y[j]) / 2 for i, j in pairs])]
    for side in (x, y):
        couples = [(side[i], side[j]) for i, j in itertools.combinations(range(len(side)), 2)]
        uniform.append(math.log(np.mean([math.exp(-2 * np.sum((a - b) ** 2)) for a, b in couples])))
        apart.append(np.mean([(1 - a @ b) / 2 for a, b in couples]))
    assert measured["uniformity_image"] == pytest.approx(uniform[0], abs=1e-6)
    assert measured["uniformity_text"] == pytest.approx(uniform[1], abs=1e-6)
    rmg = apart[0] / (apart[0] + (apart[1] + apart[2]) / 2)
    assert measured["relative_modality_gap"] == pytest.approx(rmg)
    for name, own, other in (("image", x, y), ("text", y, x)):
        ranks = []
        for i, query in enumerate(own):
            order = sorted([(-query @ z, 0) for j, z in enumerate(own) if j != i] + [(-query @ z, 1) for z in other])
            ranks.append(1 + [is_other for _, is_other in order].index(1))
        assert measured[f"first_cross_modal_rank_{name}"] == pytest.approx(np.mean(ranks))


def test_linear_separability_is_least_squares() -> None:
    """The same split, the regression by `lstsq` with a column of ones."""
    images, texts = features(seed=2, n=80, offset=0.3)
    vectors, label = np.concatenate([unit(images), unit(texts)]), np.repeat([1.0, 0.0], 80)
    order = np.random.default_rng(7).permutation(160)
    design = np.column_stack([vectors, np.ones(160)])
    weights = np.linalg.lstsq(design[order[:112]], label[order[:112]])[0]
    error = np.mean((design[order[112:]] @ weights - label[order[112:]]) ** 2)
    assert gap.linear_separability(images, texts, seed=7) == pytest.approx(1 - error)


def test_linear_separability_without_gap_is_three_quarters() -> None:
    """Many vectors, few dimensions: the best answer is always 0.5."""
    images, texts = np.random.default_rng(3).normal(size=(2, 3000, 4))
    assert gap.linear_separability(images, texts) == pytest.approx(0.75, abs=5e-3)


def test_debiased_centroid_distance_is_unbiased() -> None:
    """Small samples of vectors with a known gap: CD is too large, its square less the bias is not."""
    rng = np.random.default_rng(4)
    for pairs in (None, NO_PAIRS):
        raw, debiased = [], []
        for _ in range(1500):
            images, texts = unit(rng.normal(size=(2, 30, 40)) + 2 * np.eye(40)[[[0], [1]]])
            raw.append(gap.centroid_distance(images, texts) ** 2)
            debiased.append(gap.centroid_distance_debiased(images, texts, pairs) ** 2)
        big = gap.centroid_distance(*(rng.normal(size=(2, 20000, 40)) + 2 * np.eye(40)[[[0], [1]]])) ** 2
        assert np.mean(debiased) == pytest.approx(big, abs=4e-3)
        assert np.mean(raw) > big + 0.05


def test_debiased_knows_a_matching() -> None:
    """Pairs that share most of their content have little bias; a shuffled matching is one as well."""
    images, texts = features(seed=5)
    shuffle = np.random.default_rng(5).permutation(60)
    matching = np.stack([shuffle, np.arange(60)], axis=1)
    paired = gap.centroid_distance_debiased(images, texts)
    assert gap.centroid_distance_debiased(images, texts[shuffle], matching) == pytest.approx(paired)
    x, y = unit(images), unit(texts)
    bias = np.trace(np.cov((x - y).T)) / 60
    assert paired**2 == pytest.approx(gap.centroid_distance(images, texts) ** 2 - bias)
    unpaired = (np.trace(np.cov(x.T)) + np.trace(np.cov(y.T))) / 60
    expected = gap.centroid_distance(images, texts) ** 2 - unpaired
    assert gap.centroid_distance_debiased(images, texts, NO_PAIRS) ** 2 == pytest.approx(expected, abs=unpaired / 100)
    # One pair not known hardly matters; one image for all texts says nothing of how texts vary.
    assert gap.centroid_distance_debiased(images, texts[shuffle], matching[:-1]) == pytest.approx(paired, abs=1e-3)
    reused = np.stack([np.zeros(60, dtype=int), np.arange(60)], axis=1)
    assert math.isnan(gap.centroid_distance_debiased(images, texts, reused))


def test_debiased_of_captions_hand_worked() -> None:
    """Two images of two captions each are two draws of x - mean y: (1, 1) and (1.1, 1.3), whose product is 2.4."""
    images = np.array([[1.0, 0.0], [0.6, 0.8]])
    texts = np.array([[0.0, -1.0], [0.0, -1.0], [-1.0, 0.0], [0.0, -1.0]])
    pairs = np.array([[0, 0], [0, 1], [1, 2], [1, 3]])
    assert gap.centroid_distance_debiased(images, texts, pairs) ** 2 == pytest.approx(2.4)


@pytest.mark.parametrize("shared", ["captions", "meaning"])
def test_debiased_is_unbiased_with_several_captions(shared: str) -> None:
    """Captions of one image vary together, with one another and with the image."""
    rng = np.random.default_rng(8)
    pairs = np.stack([np.repeat(np.arange(30), 5), np.arange(150)], axis=1)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        meaning, style, noise = rng.normal(size=(3, n, 40))
        images = (style if shared == "captions" else meaning) + 0.5 * noise + np.eye(40)[0]
        return images, np.repeat(meaning, 5, axis=0) + 0.5 * rng.normal(size=(5 * n, 40)) - np.eye(40)[0]

    found = [gap.centroid_distance_debiased(*draw(30), pairs) ** 2 for _ in range(600)]
    assert np.mean(found) == pytest.approx(gap.centroid_distance(*draw(20000)) ** 2, abs=2.5e-3)


# What separability_auc is for


def test_auc_tells_a_leak_from_no_gap_from_a_gap() -> None:
    """Centred on itself below 0.5, no gap 0.5, centred on other data near 0.5, a gap above."""
    rng = np.random.default_rng(6)
    same, leaked, honest, apart = [], [], [], []
    for seed in range(10):
        images, texts = rng.normal(size=(2, 150, 24))
        same.append(gap.separability_auc(images, texts, NO_PAIRS, seed))
        leaked.append(gap.separability_auc(images - images.mean(0), texts - texts.mean(0), NO_PAIRS, seed))
        calibration = rng.normal(size=(2, 5000, 24)).mean(axis=1)
        honest.append(gap.separability_auc(images - calibration[0], texts - calibration[1], NO_PAIRS, seed))
        apart.append(gap.separability_auc(images + 0.2, texts, NO_PAIRS, seed))
    assert np.mean(same) == pytest.approx(0.5, abs=0.04)
    assert np.mean(honest) == pytest.approx(0.5, abs=0.04)
    assert max(leaked) < 0.45
    assert min(apart) > 0.6


def test_auc_keeps_linked_items_in_one_fold() -> None:
    """Images at +u and captions at -u, another u for each group: nothing to learn from other groups."""
    group = np.repeat(np.arange(20), 4)
    images, texts = np.eye(20)[group], -np.eye(20)[group]
    linked = np.argwhere(group[:, None] == group)
    assert gap.separability_auc(images, texts, NO_PAIRS) > 0.9  # siblings are fitted, so all is known
    assert gap.separability_auc(images, texts, linked) < 0.6
    chain = linked[(linked[:, 1] - linked[:, 0]) % 4 <= 1]  # each image linked to two texts, not to all four
    assert gap.separability_auc(images, texts, chain) == gap.separability_auc(images, texts, linked)


def test_auc_needs_a_group_for_each_fold() -> None:
    """Five groups are enough, four are not."""
    images, texts = features(seed=7, n=20)
    for n_groups, enough in ((4, False), (5, True)):
        linked = np.argwhere((np.arange(20) % n_groups)[:, None] == np.arange(20) % n_groups)
        assert math.isnan(gap.separability_auc(images, texts, linked)) != enough


def test_constant_and_mixed_modalities() -> None:
    """All vectors equal: no distance, and a rank and share that guessing would have."""
    measured = gap.modality_gap(np.ones((10, 8)), np.ones((30, 8)), NO_PAIRS)
    assert measured["centroid_distance"] == pytest.approx(0, abs=1e-12)
    assert measured["min_cosine_distance"] == pytest.approx(0, abs=1e-6)
    assert measured["uniformity_image"] == pytest.approx(0, abs=1e-6)
    assert measured["separability_auc"] == 0.5
    assert measured["first_cross_modal_rank_image"] == pytest.approx(40 / 31)
    assert measured["first_cross_modal_rank_text"] == pytest.approx(40 / 11)
    assert measured["cross_modal_neighbor_share"] == pytest.approx((30 / 39 + 10 / 39) / 2)
    assert math.isnan(gap.relative_modality_gap(np.full((9, 7), 0.3), np.full((9, 7), 0.7)))  # 0 / 0


# Invariances


def test_rotation_and_length_change_nothing() -> None:
    """A random rotation of the whole space; every measure is of angles."""
    images, texts = features(seed=8)
    rotation = np.linalg.qr(np.random.default_rng(8).normal(size=(12, 12)))[0]
    rotated = gap.modality_gap(3 * images @ rotation, texts @ rotation / 7)
    assert rotated == pytest.approx(gap.modality_gap(images, texts), abs=1e-6)


@pytest.mark.parametrize("block_bytes", [1, 1000, 9999])
def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    """Blocks of one row of cosines and more, with exact copies among the items."""
    images, texts = features(seed=9)
    images[3], texts[5] = images[8], texts[1]
    whole = gap.modality_gap(images, texts)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    assert gap.modality_gap(images, texts) == pytest.approx(whole, abs=1e-6)


def test_kinds_of_input_agree() -> None:
    """Torch and NumPy alike; float32 to rounding; the input stays as it was; the seed decides."""
    images, texts = features(seed=10, offset=0.2)
    kept = images.copy()
    expected = gap.modality_gap(images, texts, seed=1)
    assert gap.modality_gap(torch.from_numpy(images), torch.from_numpy(texts), seed=1) == expected
    single = gap.modality_gap(images.astype(np.float32), texts.astype(np.float32), seed=1)
    assert single == pytest.approx(expected, abs=1e-4)
    assert gap.modality_gap(images, texts, seed=2)["separability_auc"] != expected["separability_auc"]
    assert np.array_equal(images, kept)


def test_several_vectors_count_as_their_mean() -> None:
    """(N, Q, D) is the normalised mean of the normalised vectors."""
    images, texts = features(seed=11)
    several = images[:, None] * np.array([1.0, 5.0])[:, None] + np.random.default_rng(11).normal(size=(60, 2, 12))
    expected, measured = gap.modality_gap(unit(several).mean(axis=1), texts), gap.modality_gap(several, texts)
    assert measured.pop("severity") == expected.pop("severity")
    assert measured == pytest.approx(expected, rel=1e-12)


def test_no_pairs_known() -> None:
    """Measures of pairs are NaN, all others do not change."""
    measured = gap.modality_gap(*features(seed=12, n=30, m=45), NO_PAIRS)
    assert measured["n_pairs"] == 0
    for name, value in measured.items():
        assert isinstance(value, str) or math.isnan(value) == (name in PAIR_MEASURES), name


# Limits and errors


def test_single_items() -> None:
    """Nothing to compare with is NaN, not an exception or a warning."""
    measured = gap.modality_gap(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert measured["centroid_distance"] == pytest.approx(math.sqrt(2))
    assert measured["first_cross_modal_rank"] == measured["cross_modal_neighbor_share"] == 1
    for name in (
        "centroid_distance_debiased",
        "uniformity_image",
        "relative_modality_gap",
        "separability_auc",
    ):
        assert math.isnan(measured[name])


def test_memory_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """4000 images and 400 texts: 70 MB of cosines at once; blocks of 1 MB must stay far below."""
    rng = np.random.default_rng(13)
    images, texts = rng.normal(size=(4000, 16)), rng.normal(size=(400, 16))
    pairs = np.stack([np.arange(4000), np.arange(4000) % 400], axis=1)
    gap.modality_gap(images[:50], texts[:50])  # imports scikit-learn, which is not ours to measure
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**20)
    tracemalloc.start()
    start = time.perf_counter()
    gap.modality_gap(images, texts, pairs)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20
    assert seconds < 20


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (None, "4 images and 5 texts do not pair up.*Pass pairs"),
        ([[0, 5]], "outside the 4 images and 5 texts"),
        ([[-1, 0]], "outside"),
        ([0, 1], r"expected \(P, 2\) integers"),
        ([[0.0, 1.0]], r"expected \(P, 2\) integers"),
    ],
)
def test_refuses_bad_pairs(pairs: list | None, message: str) -> None:
    """The error says what to pass."""
    with pytest.raises(I0TError, match=message):
        gap.modality_gap(np.eye(6)[:4], np.eye(6)[:5], pairs)


def test_refuses_bad_features() -> None:
    """Different dimensions, a NaN, a zero vector, vectors of one item that cancel out."""
    with pytest.raises(I0TError, match="text_features: 2 dimensions, expected 3"):
        gap.modality_gap(np.eye(3), np.eye(2))
    with pytest.raises(I0TError, match="text_features: row 2"):
        gap.modality_gap(np.eye(3), np.diag([1.0, 1.0, np.nan]))
    with pytest.raises(I0TError, match="image_features: row 1"):
        gap.modality_gap(np.diag([1.0, 0.0]), np.eye(2))
    with pytest.raises(I0TError, match="image_features: row 0 has vectors that cancel out"):
        gap.modality_gap(np.array([[[1.0, 0.0], [-1.0, 0.0]]]), np.eye(2)[:1])


# Real features


@pytest.fixture(scope="module")
def real() -> tuple[np.ndarray, np.ndarray]:
    """500 COCO images and captions by CLIP ViT-B/16."""
    images, texts = np.load(FEATURES)
    return images, texts


@needs_features
def test_real_clip_features(real: tuple[np.ndarray, np.ndarray]) -> None:
    """The known figures of this file."""
    measured = gap.modality_gap(*real)
    assert measured["centroid_distance"] == pytest.approx(0.851, abs=0.5e-3)
    assert 0.848 <= measured["centroid_distance_debiased"] <= 0.852
    assert 0.848 <= gap.centroid_distance_debiased(*real, NO_PAIRS) <= 0.852
    assert measured["relative_modality_gap"] == pytest.approx(0.591, abs=0.5e-3)
    assert measured["first_cross_modal_rank_image"] == pytest.approx(496, abs=0.5)
    assert measured["first_cross_modal_rank_text"] == pytest.approx(476, abs=0.5)
    assert measured["cross_modal_neighbor_share"] == 0
    assert measured["severity"] == "severe" and measured["separability_auc"] == 1


@needs_features
def test_real_leak_is_seen(real: tuple[np.ndarray, np.ndarray]) -> None:
    """I0T_post with the means of the evaluated pairs, and with those of the other pairs."""
    (images, texts), fit, test = (unit(side) for side in real), slice(0, 250), slice(250, 500)
    leaked = [unit(side[test] - side[test].mean(axis=0)) for side in (images, texts)]
    honest = [unit(side[test] - side[fit].mean(axis=0)) for side in (images, texts)]
    assert gap.separability_auc(*leaked) < 0.45 < 0.5 < gap.separability_auc(*honest)
    assert gap.centroid_distance(*leaked) < gap.centroid_distance(*honest) < 0.19

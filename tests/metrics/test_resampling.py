"""Bootstrap intervals: against scipy's, against a full recomputation, and how often they hold the true value.

Run: python -m pytest tests/metrics/test_resampling.py
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from evaluation.retrieval import main
from i0t import Embeddings
from i0t.metrics import resampling as module
from i0t.metrics import retrieval_metrics
from i0t.metrics.resampling import (
    bootstrap_means,
    bootstrap_medians,
    means_of_counts,
    percentile_interval,
    random_blocks,
    random_split,
    resampled_counts,
    resampled_rows,
)


def clustered(seed: int, n: int = 60, per: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Hits of queries whose cluster decides most of it; the true mean is 1/2."""
    rng = np.random.default_rng(seed)
    easy = rng.uniform(size=n) < 0.5
    chance = np.where(easy, 0.9, 0.1)
    cluster = np.repeat(np.arange(n), per)
    return (rng.uniform(size=n * per) < chance[cluster]).astype(float), cluster


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_single_queries_agree_with_scipy(statistic):
    values = np.random.default_rng(0).lognormal(size=80)
    each = np.arange(80)
    ours = {
        "mean": lambda: bootstrap_means(values[:, None], each, 20_000, seed=1)[:, 0],
        "median": lambda: bootstrap_medians(values, each, 20_000, seed=1),
    }[statistic]()
    reference = scipy_bootstrap(
        (values,), getattr(np, statistic), n_resamples=20_000, method="percentile", vectorized=True, rng=2
    )
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert percentile_interval(ours) == pytest.approx(tuple(reference.confidence_interval), abs=0.04 * width)
    assert ours.std(ddof=1) == pytest.approx(reference.standard_error, rel=0.03)


def test_clusters_agree_with_drawing_them_one_by_one(monkeypatch):
    """Unequal clusters, in no order; the same draws, spelled out."""
    monkeypatch.setattr(module, "CHUNK", 50)  # a few resamples at a time
    rng = np.random.default_rng(3)
    cluster = rng.permutation(np.repeat(np.arange(7) * 10, [1, 2, 3, 4, 5, 6, 2]))
    values = rng.normal(size=len(cluster))
    draws = np.random.default_rng(9)
    names, expected = np.unique(cluster), []
    for _ in range(30):
        drawn = names[draws.integers(0, 7, 7)]
        expected.append(np.concatenate([values[cluster == name] for name in drawn]))
    means, medians = bootstrap_means(values[:, None], cluster, 30, 9)[:, 0], bootstrap_medians(values, cluster, 30, 9)
    assert means == pytest.approx([np.mean(drawn) for drawn in expected])
    assert medians == pytest.approx([np.median(drawn) for drawn in expected])


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """About 95 % of 200 data sets; drawing captions instead of images covers the true value far less often."""
    held = {"by image": 0, "by caption": 0}
    for seed in range(200):
        hits, cluster = clustered(seed)
        for way, group in (("by image", cluster), ("by caption", np.arange(len(hits)))):
            low, high = percentile_interval(bootstrap_means(hits[:, None], group, 150, seed)[:, 0])
            held[way] += low <= 0.5 <= high
    assert 0.90 <= held["by image"] / 200 <= 0.98
    assert held["by caption"] / 200 < 0.85


def test_retrieval_has_an_interval_for_every_metric():
    rng = np.random.default_rng(4)
    images = rng.normal(size=(120, 16))
    owner = rng.permutation(np.repeat(np.arange(120), 3))
    texts = images[owner] + 2 * rng.normal(size=(360, 16))
    plain = retrieval_metrics(images, texts, owner)
    metrics = retrieval_metrics(images, texts, owner, bootstrap=300, seed=5)
    assert {name: metrics[name] for name in plain} == plain
    assert set(metrics) == {*plain, *(f"{name}_{end}" for name in plain for end in ("low", "high"))}
    for name, value in plain.items():
        assert metrics[f"{name}_low"] <= value <= metrics[f"{name}_high"]
    assert metrics["t2i_r1_low"] < metrics["t2i_r1_high"]
    assert retrieval_metrics(images, texts, owner, bootstrap=300, seed=5) == metrics
    assert retrieval_metrics(images, texts, owner, bootstrap=300, seed=6) != metrics
    perfect = retrieval_metrics(np.eye(5), np.eye(5), np.arange(5), bootstrap=50)
    assert perfect["i2t_r1_low"] == perfect["i2t_r1_high"] == 100


def test_program_records_it(tmp_path, capsys):
    rows = np.random.default_rng(6).normal(size=(2, 30, 8)).astype(np.float32)
    names = [f"{row}.jpg" for row in range(30)]
    given = Embeddings(*rows, np.arange(30), names, names, metadata={"model": "m", "dataset": "flickr"})
    path = given.save(tmp_path / "given.safetensors")
    arguments = ["--embeddings", str(path), "--output", str(tmp_path / "out"), "--allow-partial"]
    assert main([*arguments, "--bootstrap", "100"]) == 0
    (record,) = [json.loads(file.read_text()) for file in (tmp_path / "out").glob("*.json")]
    assert record["metrics"]["i2t_r10_low"] < record["metrics"]["i2t_r10_high"]
    assert record["data"]["bootstrap_resamples"] == 100
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--bootstrap", "-1"])
    assert "--bootstrap: -1 is negative" in capsys.readouterr().err


def test_splits_and_blocks():
    first, rest = random_split(7, np.random.default_rng(0))
    assert len(first) == 4 and sorted([*first, *rest]) == list(range(7))
    order = np.random.default_rng(1).permutation([10, 20, 30, 40])
    assert np.array_equal(np.concatenate(random_split(np.array([10, 20, 30, 40]), np.random.default_rng(1), 1)), order)
    assert sorted(random_blocks(7, 3, seed=0).tolist()) == [0, 0, 0, 1, 1, 2, 2]


def test_means_of_counts_are_means_of_the_rows_drawn():
    """Unequal groups; the same counts for two columns, so that their difference is paired."""
    rng = np.random.default_rng(2)
    values, group = rng.normal(size=(12, 2)), np.repeat([0, 1, 3], [2, 4, 6])  # group 2 has no row
    counts = resampled_counts(4, 8, seed=0)
    assert (counts.sum(axis=1) == 4).all()
    rows = [np.repeat(np.arange(12), times[group]) for times in counts]
    assert means_of_counts(values, group, counts) == pytest.approx(np.array([values[drawn].mean(0) for drawn in rows]))


def test_rows_are_drawn_as_numpy_draws_them():
    reference = np.random.default_rng(3)
    assert all(np.array_equal(drawn, reference.integers(0, 9, 9)) for drawn in resampled_rows(9, 4, seed=3))

"""Kendall's tau: hand-worked cases, a naive count of pairs, NaN and errors.

Run: python -m pytest tests/test_metrics_correlation.py
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from i0t.errors import I0TError
from i0t.metrics import correlation_metrics


def naive(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Tau-b and tau-c by counting pairs."""
    signs = [(np.sign(a - b), np.sign(c - d)) for (a, c), (b, d) in itertools.combinations(zip(x, y, strict=True), 2)]
    balance = sum(a * b for a, b in signs)
    untied = math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))
    m = min(len(set(x)), len(set(y)))
    return {"tau_b": 100 * balance / untied, "tau_c": 100 * 2 * balance / (len(x) ** 2 * (m - 1) / m)}


def test_hand_worked() -> None:
    """Four judgments: 4 concordant pairs, 1 discordant, 1 tied in the ratings."""
    metrics = correlation_metrics([0.1, 0.2, 0.3, 0.4], [1, 2, 1, 3])
    assert metrics["tau_b"] == pytest.approx(100 * 3 / math.sqrt(6 * 5))
    assert metrics["tau_c"] == pytest.approx(100 * 2 * 3 / (16 * 2 / 3))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pair_count_and_scipy(seed: int) -> None:
    """Few levels of rating, as in Flickr8k-Expert, and clipped scores: many ties in both."""
    rng = np.random.default_rng(seed)
    ratings = rng.integers(1, 5, 80)
    scores = np.maximum(rng.normal(size=80) + 0.5 * ratings - 1, 0).round(1)
    metrics = correlation_metrics(scores, ratings)
    assert metrics == pytest.approx(naive(scores, ratings))
    for variant in "bc":
        assert metrics[f"tau_{variant}"] == pytest.approx(100 * kendalltau(scores, ratings, variant=variant).statistic)


def test_reversed_scores_and_prefix() -> None:
    """A metric with reversed order, under another name; only the order counts."""
    assert correlation_metrics([3.0, 0.2, -5.0], [1, 2, 3], prefix="ref_") == {
        "ref_tau_b": pytest.approx(-100),
        "ref_tau_c": pytest.approx(-100),
    }


@pytest.mark.parametrize(("scores", "ratings"), [([0.0] * 4, [1, 2, 3, 4]), ([0.1, 0.2], [3, 3]), ([0.1], [1])])
def test_nothing_to_rank_is_nan(scores: list, ratings: list) -> None:
    """Constant scores, constant ratings, a single judgment."""
    assert all(math.isnan(tau) for tau in correlation_metrics(scores, ratings).values())


def test_torch_agrees() -> None:
    """Tensors and lists give equal results."""
    assert correlation_metrics(torch.tensor([0.1, 0.4, 0.2]), torch.tensor([1, 2, 3])) == correlation_metrics(
        [0.1, 0.4, 0.2], [1, 2, 3]
    )


@pytest.mark.parametrize(
    ("scores", "ratings", "message"),
    [
        ([0.1, 0.2], [1.0], "2 scores for 1 ratings"),
        ([0.1, 0.2], [1.0, math.nan], "ratings: entry 1 is NaN"),
        ([math.nan, 0.2], [1.0, 2.0], "scores: entry 0 is NaN"),
        ([], [], "scores: expected a list of numbers"),
        ([[0.1]], [[1.0]], "scores: expected a list of numbers"),
        (["a"], [1.0], "scores: expected a list of numbers"),
    ],
)
def test_refuses_bad_input(scores: list, ratings: list, message: str) -> None:
    """The error names the list and the entry."""
    with pytest.raises(I0TError, match=message):
        correlation_metrics(scores, ratings)

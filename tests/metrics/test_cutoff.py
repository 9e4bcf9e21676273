"""Cutoffs: by hand, against binomial tails by enumeration, and coverage over simulated data sets.

Run: python -m pytest tests/metrics/test_cutoff.py
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from i0t.errors import I0TError
from i0t.metrics import conformal_cutoff, conformal_p_values
from i0t.metrics.cutoff import disjoint_pairs, least_scores, least_share


def test_cutoff_of_a_case_by_hand():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 100))  # 1..99
    assert conformal_cutoff(scores, 0.01) == 99  # 100 ranks, and one may be an alarm
    assert conformal_cutoff(scores, 0.019) == 99
    assert conformal_cutoff(scores, 0.02) == 98
    assert conformal_cutoff(scores[scores < 99], 0.01) == math.inf
    # 0.95^99 = .006, and .039 with one above; with two above .12 of calibration sets would break the promise.
    tails = [sum(math.comb(99, m) * 0.05**m * 0.95 ** (99 - m) for m in range(top + 1)) for top in range(3)]
    assert tails[1] < 0.05 < tails[2]
    assert conformal_cutoff(scores, 0.05, confidence=0.95) == 98
    assert conformal_cutoff(torch.tensor(scores), 0.05, confidence=0.95) == 98


@pytest.mark.parametrize("confidence", [None, 0.9, 0.95])
@pytest.mark.parametrize("share", [0.3, 0.05, 0.01])
def test_what_cannot_be_decided_is_infinite_and_one_score_more_decides(share, confidence):
    enough = least_scores(share, confidence)
    assert conformal_cutoff(np.arange(enough), share, confidence) == enough - 1
    assert conformal_cutoff(np.arange(enough - 1), share, confidence) == math.inf
    assert least_share(enough, confidence) <= share < least_share(enough - 1, confidence)


def simulated(rng: np.random.Generator, n: int) -> np.ndarray:
    """(2, n) hubness of n images and n texts; the score of image i and text j is a_i + b_j, so items matter."""
    return rng.normal(size=(2, n))


@pytest.mark.parametrize(("confidence", "n", "share"), [(0.95, 700, 0.01), (0.9, 200, 0.05), (None, 300, 0.05)])
def test_the_promise_holds_over_simulated_data_sets(confidence, n, share):
    rng = np.random.default_rng(1)
    found = []
    for seed in range(300):
        images, texts = simulated(rng, n)
        one, other = disjoint_pairs(n, seed)
        cutoff = conformal_cutoff(images[one] + texts[other], share, confidence)
        found.append(norm.sf(cutoff / math.sqrt(2)))
    if confidence is None:
        assert np.mean(found) <= share * 1.1
        assert np.mean(found) >= share * 0.8  # not needlessly strict
    else:
        assert np.mean(np.array(found) <= share) >= confidence - 0.03  # three standard errors below
        assert np.mean(found) >= share * 0.2


def test_scores_that_share_items_are_no_calibration():
    """All n^2 pairs as if they were independent: hubs break the promise, hence `disjoint_pairs`."""
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(100):
        images, texts = simulated(rng, 60)
        cutoff = conformal_cutoff(images[:, None] + texts, 0.01, 0.95)
        broken += norm.sf(cutoff / math.sqrt(2)) > 0.01
    assert broken > 30


def test_disjoint_pairs_use_no_item_twice():
    one, other = disjoint_pairs(11, seed=3)
    assert len(one) == len(other) == 5 and len({*one, *other}) == 10


def test_p_values_are_ranks_and_uniform():
    rng = np.random.default_rng(0)
    calibration = rng.normal(size=99)
    values = conformal_p_values(calibration, calibration)
    assert sorted(values.tolist()) == pytest.approx([rank / 100 for rank in range(2, 101)])
    shares = [np.mean(conformal_p_values(rng.normal(size=200), rng.normal(size=199)) <= 0.1) for _ in range(100)]
    assert np.mean(shares) <= 0.105
    tensor = conformal_p_values(torch.tensor([[0.0, 9.0]]), torch.tensor([0.0, 1.0, 2.0]))
    assert isinstance(tensor, torch.Tensor) and tensor.tolist() == [[1.0, 0.25]]


def test_bad_scores_and_shares_are_refused():
    with pytest.raises(I0TError, match="1 of them NaN"):
        conformal_cutoff(np.array([0.1, np.nan]), 0.1)
    with pytest.raises(I0TError, match="false_alarms must be between"):
        conformal_cutoff(np.ones(3), 1.0)
    with pytest.raises(I0TError, match="0 calibration scores"):
        conformal_p_values(np.ones(2), np.ones(0))

"""What tested pairs tell of a method: by hand, against scikit-learn, and where nothing matches.

Run: python -m pytest tests/search/test_pair_quality.py
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from i0t.metrics import conformal_cutoff
from i0t.metrics.resampling import random_split
from i0t.search import ScoreStandardizer
from i0t.search.pair_quality import best_scores, pair_quality, rejection_values
from i0t.standardize import ZScore


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, texts that match them, and texts that match nothing."""
    images, noise, other = np.random.default_rng(0).normal(size=(3, 200, 24))
    return unit(images), unit(images + 2 * noise), unit(other)


def test_kept_are_matches_above_the_score_of_one_percent_of_the_others(sides):
    images, texts, other = sides
    scores = (images @ texts.T).astype(np.float32)
    wrong = np.sort(scores[~np.eye(200, dtype=bool)])
    highest = wrong[-1 - len(wrong) // 100]  # which 1 % exceed
    np.testing.assert_array_equal(pair_quality(None, images, texts)["kept"], np.diag(scores) > highest)
    assert pair_quality(None, images, images)["kept"].mean() == 1
    assert pair_quality(None, images, other)["kept"].mean() < 0.04


def test_a_remover_is_measured_by_the_vectors_it_moves_and_scores_by_scores(sides):
    images, texts, _ = sides
    cohorts = {"image": images[:80] + 0.2, "text": texts[:80] - 0.2}
    remover = ZScore().fit(*cohorts.values())
    moved = remover.transform_image(images), remover.transform_text(texts)
    for name, values in pair_quality(remover, images, texts).items():
        np.testing.assert_allclose(values, pair_quality(None, *moved)[name], atol=1e-6)
    # Constants do not change the order of image-text pairs, but put image pairs on their scale.
    found, raw = (pair_quality(how, images, texts) for how in (ScoreStandardizer(form="constants").fit(cohorts), None))
    for name in ("i2t_r1", "t2i_r1", "kept", "let_through", "answered"):
        np.testing.assert_array_equal(found[name], raw[name])
    fitted = ScoreStandardizer().fit(cohorts)
    own, others = (fitted.scores(images, "image", side, kind) for side, kind in ((texts, "text"), (images, "image")))
    each = [(np.delete(others[row], row) < own[row, row]).mean() for row in range(200)]
    np.testing.assert_allclose(pair_quality(fitted, images, texts)["above_picture"], each, atol=1e-4)


def test_rejection_is_that_of_scikit_learn_and_of_a_cutoff_from_the_other_half(sides):
    images, texts, _ = sides
    absent, present = best_scores(texts @ images.T)
    cosines = texts @ images.T
    assert present[3] == cosines[3].max() and absent[3] == np.delete(cosines[3], 3).max()
    found = rejection_values(absent, present, seed=1)
    area = roc_auc_score(np.repeat([0, 1], 200), np.concatenate([absent, present]))
    assert found["auroc"].mean() == pytest.approx(area)
    known, later = random_split(200, np.random.default_rng(1))
    cutoff = conformal_cutoff(absent[known], 0.05)
    np.testing.assert_array_equal(found["let_through"][later], absent[later] > cutoff)
    np.testing.assert_array_equal(found["answered"][later], present[later] > cutoff)
    assert np.isnan(rejection_values(absent[:37], present[:37])["answered"]).any()  # 18 scores decide nothing at 5 %


def test_the_interval_of_the_area_covers_it_and_the_stated_share_is_let_through():
    """Over many sets of queries: the share that is let through, and the coverage of the interval of AUROC."""
    rng, truth = np.random.default_rng(0), 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    through, covered = [], []
    for _ in range(300):
        absent, present = rng.normal(size=80), rng.normal(1, 1, size=80)
        found = rejection_values(absent, present)
        through.append(found["let_through"].mean())
        half = 1.96 * found["auroc"].std(ddof=1) / np.sqrt(80)
        covered.append(abs(found["auroc"].mean() - truth) <= half)
    assert np.mean(through) == pytest.approx(2 / 41, abs=0.006)  # floor(0.05 * 41) of 41
    assert 0.91 <= np.mean(covered) <= 0.98

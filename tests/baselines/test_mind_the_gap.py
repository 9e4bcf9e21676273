"""Mind-the-Gap: the unit gap vector, estimated once, and means shared with I0T_post.

Run: python -m pytest tests/test_mind_the_gap.py
"""

from __future__ import annotations

import numpy as np
import pytest
from real_data import FEATURES, needs_features

from baselines.mind_the_gap import MindTheGap
from i0t import I0TError, Standardizer
from i0t.gap import centroid_distance


def unit(v: np.ndarray) -> np.ndarray:
    """Normalised along the last axis."""
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def features(seed: int, n: int = 40, m: int = 60, dim: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Unequally many images and texts with a gap along the first axis."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dim)) + np.eye(dim)[0], rng.normal(size=(m, dim)) - np.eye(dim)[0]


def test_hand_worked():
    """Images (1, 0), texts (0, 1): u = (1, -1) / sqrt 2, and lambda u = (1/4, -1/4)."""
    remover = MindTheGap(np.sqrt(2) / 4).fit(np.array([[2.0, 0.0]]), np.array([[0.0, 3.0]]))
    assert remover.transform_image(np.array([[7.0, 0.0]])) == pytest.approx(unit(np.array([[0.75, 0.25]])))
    assert remover.transform_text(np.array([[0.0, 0.1]])) == pytest.approx(unit(np.array([[0.25, 0.75]])))


@pytest.mark.parametrize("shift_lambda", [0.375, 0.5, -0.5])
def test_agrees_with_naive_reference_on_other_data(shift_lambda):
    fit, test = features(0), features(1)
    remover = MindTheGap(shift_lambda).fit(*fit)
    means = [sum(v / np.sqrt(v @ v) for v in side) / len(side) for side in fit]
    gap = means[0] - means[1]
    direction = gap / np.sqrt(gap @ gap)
    for side, sign, transform in ((0, -1, remover.transform_image), (1, 1, remover.transform_text)):
        expected = [unit(unit(v) + sign * shift_lambda * direction) for v in test[side]]
        assert transform(test[side]) == pytest.approx(np.array(expected), abs=1e-13)


def test_step_is_lambda_and_not_lambda_times_the_gap():
    """Means 0.12 apart: along the raw gap vector lambda = 0.5 would move an image by 0.06 at most."""
    images, texts = unit(np.array([[1.0, 0.06, 0.0]])), unit(np.array([[1.0, -0.06, 0.0]]))
    remover = MindTheGap(0.5).fit(images, texts)
    assert np.linalg.norm(remover.image_mean_ - remover.text_mean_) == pytest.approx(0.12, abs=1e-3)
    across = np.array([[0.0, 0.0, 1.0]])  # at a right angle to the shift, so the shift is its tangent
    moved = remover.transform_image(across)[0]
    assert moved[1] / moved[2] == pytest.approx(-0.5)
    assert remover.transform_text(across)[0, 1] > 0


def test_positive_lambda_closes_and_negative_opens_the_gap():
    images, texts = features(2)
    before = centroid_distance(images, texts)
    after = {}
    for shift_lambda in (0.1, -0.5):
        remover = MindTheGap(shift_lambda).fit(images, texts)
        after[shift_lambda] = centroid_distance(remover.transform_image(images), remover.transform_text(texts))
    assert after[0.1] < before - 0.05
    assert after[-0.5] > before + 0.2


@pytest.mark.parametrize("size", [1, 7, 40])
def test_direction_is_estimated_once_and_never_per_batch(size):
    remover = MindTheGap(0.5).fit(*features(3))
    before = remover.image_mean_.tolist(), remover.text_mean_.tolist()
    images, texts = features(4)
    for side, transform in ((images, remover.transform_image), (texts, remover.transform_text)):
        batches = [transform(side[start : start + size]) for start in range(0, len(side), size)]
        assert np.concatenate(batches) == pytest.approx(transform(side), abs=1e-15)
        assert np.array_equal(transform(side), transform(side)), "a second call must not shift further"
    assert (remover.image_mean_.tolist(), remover.text_mean_.tolist()) == before


def test_lambda_zero_moves_nothing():
    images, texts = features(5)
    remover = MindTheGap(0).fit(images, texts)
    assert remover.transform_image(images) == pytest.approx(unit(images), abs=1e-15)
    assert remover.transform_text(texts) == pytest.approx(unit(texts), abs=1e-15)


def test_coinciding_means_have_no_direction():
    images = features(7)[0]
    remover = MindTheGap().fit(images, 3 * images)
    for transform in (remover.transform_image, remover.transform_text):
        with pytest.raises(I0TError, match="means coincide"):
            transform(images)


def test_reads_the_means_that_i0t_post_saved(tmp_path):
    images, texts = features(8)
    path = Standardizer().fit(images, texts, {"model": "tiny"}).save(tmp_path / "means.safetensors")
    loaded, fitted = MindTheGap.load(path, shift_lambda=0.5), MindTheGap(0.5).fit(images, texts)
    assert loaded.parameters() == {"shift_lambda": 0.5}
    assert loaded.origin.as_dict() == {"model": "tiny"}
    assert np.array_equal(loaded.transform_image(images), fitted.transform_image(images))
    assert np.array_equal(loaded.transform_text(texts), fitted.transform_text(texts))
    assert MindTheGap.load(path).shift_lambda == MindTheGap().shift_lambda  # the file knows none


def test_own_file_keeps_lambda_unless_another_is_given(tmp_path):
    images, texts = features(9)
    path = MindTheGap(-0.5).fit(images, texts).save(tmp_path / "means.safetensors")
    assert MindTheGap.load(path).shift_lambda == -0.5
    assert MindTheGap.load(path, shift_lambda=0.375).shift_lambda == 0.375
    post = Standardizer.load(path)
    assert np.array_equal(post.transform_image(images), Standardizer().fit(images, texts).transform_image(images))


def test_shards_merge_only_with_the_same_lambda():
    images, texts = features(10)
    first, second = (MindTheGap(0.5).fit(images[rows], texts[rows]) for rows in (slice(0, 15), slice(15, 40)))
    merged = first.merge(second)
    assert merged.parameters() == {"shift_lambda": 0.5}
    whole = MindTheGap(0.5).fit(images, texts[:40])
    assert merged.transform_image(images) == pytest.approx(whole.transform_image(images), abs=1e-12)
    with pytest.raises(I0TError, match=r"MindTheGap\(shift_lambda=0.375\) is not the same remover"):
        first.merge(MindTheGap(0.375).fit(images, texts))


@needs_features
def test_real_clip_features():
    """The unit vector takes 0.851 to about 0.851 - 2 x 0.375 (METHOD, "Rivals post hoc"); the raw one to 0.2."""
    images, texts = np.load(FEATURES)
    distances = {}
    for shift_lambda in (0.375, 0.5, -0.5):
        remover = MindTheGap(shift_lambda).fit(images, texts)
        distances[shift_lambda] = centroid_distance(remover.transform_image(images), remover.transform_text(texts))
    assert distances[0.375] == pytest.approx(0.851 - 0.75, abs=0.03)
    assert distances[0.5] > distances[0.375]  # overshoots, as in Table 2
    assert distances[-0.5] > 1.2

"""Large sets: kept once in float32, worked on in blocks, measured on a sample where the cost grows with the square.

Run: python -m pytest tests/gap/test_large.py
"""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from i0t.errors import I0TError
from i0t.gap import centroid_distance_debiased, modality_gap, unit_pairs
from i0t.gap.intervals import gap_intervals, intervals_of
from i0t.gap.measures import auc_of, held_out_errors, measures_of
from i0t.gap.trust import gap_dimensions, trust_lines
from i0t.gap.unit_pairs import UnitPairs
from i0t.metrics import ranking

N, CAPTIONS, DIM = 400, 2, 16
FITTED_COPIES = 1.9
SAMPLED_MEASURES = ("linear_separability", "separability_auc", "uniformity_image", "uniformity_text")
Features = tuple[np.ndarray, np.ndarray, np.ndarray]


def features(n: int = N, dim: int = DIM) -> Features:
    """Images, two captions of each, and the pairs; a small gap, so that ranks differ; copies among both."""
    rng = np.random.default_rng(0)
    meaning, image = rng.normal(size=(n, dim)), np.arange(CAPTIONS * n) % n
    x = meaning + 0.7 * rng.normal(size=(n, dim)) + 0.3 * np.eye(dim)[0]
    y = meaning[image] + 0.7 * rng.normal(size=(len(image), dim)) - 0.3 * np.eye(dim)[0]
    x[5], y[7] = x[4], y[3]
    return x, y, np.stack([image, np.arange(len(image))], axis=1)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """All sets of more than 100 images are large, and are worked on in small blocks."""
    monkeypatch.setattr(unit_pairs, "LARGE", 100)
    monkeypatch.setattr(unit_pairs, "BLOCK_BYTES", 5000)
    monkeypatch.setattr("i0t.gap.resampled.COUNTS", 10 * N)
    return monkeypatch


def draw(monkeypatch: pytest.MonkeyPatch, sampled: int, asked: int) -> None:
    """Set the sizes of the samples."""
    monkeypatch.setattr(unit_pairs, "SAMPLED", sampled)
    for module in ("unit_pairs", "intervals"):
        monkeypatch.setattr(f"i0t.gap.{module}.ASKED", asked)


def test_a_whole_sample_gives_the_exact_numbers(large: pytest.MonkeyPatch) -> None:
    """With nothing left out, blocks and float32 change only rounding; bootstraps draw other resamples."""
    draw(large, 10**6, 10**6)
    x, y, pairs = features()
    items = UnitPairs.of(x, y, pairs)
    exact = UnitPairs(*(side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y)), pairs)
    assert items.is_large and items.x.dtype == np.float32 and not exact.is_large
    found, expected = measures_of(items), measures_of(exact)
    assert found.pop("severity") == expected.pop("severity")
    assert found == pytest.approx(expected, abs=1e-5)
    intervals = intervals_of(exact, n_bootstrap=200)
    for name, interval in intervals_of(items, n_bootstrap=200).items():
        close = 0.4 * (intervals[name].high - intervals[name].low) if interval.method == "bootstrap" else 1e-4
        ends = (interval.low, interval.high)
        assert ends == pytest.approx((intervals[name].low, intervals[name].high), abs=close, nan_ok=True), name
    large.setattr(unit_pairs, "LARGE", N)  # of which there are not more
    assert gap_dimensions(x, y, pairs)[0].dimension == 0
    dimensions = gap_dimensions(x, y, pairs)
    large.setattr(unit_pairs, "LARGE", 100)
    for one, other in zip(gap_dimensions(x, y, pairs), dimensions):
        assert (one.share, one.z) == pytest.approx((other.share, other.z), rel=1e-4)


def test_samples_are_whole_groups_and_their_intervals_hold_the_exact_numbers(large: pytest.MonkeyPatch) -> None:
    draw(large, 600, 150)
    x, y, pairs = features()
    items = UnitPairs.of(x, y, pairs)
    sample = items.sample
    assert 590 <= len(sample.x) + len(sample.y) <= 600 and len(sample.pairs) == len(sample.y) == 2 * len(sample.x)
    linked = sample.x[sample.pairs[:, 0]] @ sample.y[sample.pairs[:, 1]].T
    assert np.diag(linked).mean() > linked.mean() + 0.3  # pairs are still pairs
    found, intervals = measures_of(items), gap_intervals(x, y, pairs, n_bootstrap=200)
    large.setattr(unit_pairs, "LARGE", N)
    exact, narrow = modality_gap(x, y, pairs), gap_intervals(x, y, pairs, n_bootstrap=200)
    slack = dict.fromkeys(intervals, 0.0) | {"linear_separability": 0.5}  # also depends on the size of the set
    for name, interval in intervals.items():
        if name in SAMPLED_MEASURES or "cross_modal" in name:
            width = interval.high - interval.low
            assert width > narrow[name].high - narrow[name].low, name
            assert found[name] != exact[name] and interval.low - slack[name] * width <= exact[name], name
            assert exact[name] <= interval.high + slack[name] * width, name
        elif not math.isnan(interval.low):
            assert found[name] == pytest.approx(exact[name], abs=1e-5), name


def test_a_large_set_says_what_is_sampled(large: pytest.MonkeyPatch) -> None:
    x, y, pairs = features()
    assert any(line.startswith("sampled: ") for line in trust_lines(x, y, pairs))
    large.setattr(unit_pairs, "LARGE", N)
    assert not any(line.startswith("sampled: ") for line in trust_lines(x, y, pairs))


def test_errors_name_the_row_of_the_whole_array(large: pytest.MonkeyPatch) -> None:
    x, y, pairs = features()
    y[[301, 555]] = np.nan
    with pytest.raises(I0TError, match=r"text_features: row 301 holds NaN or infinite values \(and 1 more rows\)"):
        modality_gap(x, y, pairs)


def test_memory_of_a_large_set(large: pytest.MonkeyPatch) -> None:
    """Vectors take 4.6 MB in float32, the matrix of cosines 216 MB: the peak is a few times the vectors."""
    draw(large, 1000, 200)
    large.setattr(unit_pairs, "BLOCK_BYTES", 2**18)
    large.setattr(ranking, "BLOCK_BYTES", 2**18)
    modality_gap(*features(n=110))  # imports scikit-learn, which is not ours to measure
    x, y, pairs = features(n=6000, dim=64)
    tracemalloc.start()
    modality_gap(x, y, pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 4 * (x.size + y.size)
    assert centroid_distance_debiased(x, y, pairs) > 0.05


def test_memory_of_classifiers_is_the_sample_and_what_is_fitted(large: pytest.MonkeyPatch) -> None:
    draw(large, 10**6, 10)
    items = UnitPairs.of(*features(n=3000, dim=64))
    sample = items.sample
    assert np.shares_memory(sample.both, sample.x) and not sample.is_large
    for fitted in (auc_of, held_out_errors):
        fitted(sample, 0)  # imports
        tracemalloc.start()
        fitted(sample, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < FITTED_COPIES * sample.both.nbytes, fitted.__name__

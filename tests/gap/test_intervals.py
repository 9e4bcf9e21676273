"""Intervals of the gap: coverage on simulated sets, naive resampling, degenerate sets, the leak line.

Run: python -m pytest tests/gap/test_intervals.py
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.interval_coverage import SOURCES, coverage
from i0t import Standardizer, ZScore, modality_gap
from i0t.errors import I0TError
from i0t.gap import centroid_distance_debiased
from i0t.gap.intervals import Interval, gap_intervals, severity_range, squared_distance_bounds
from i0t.gap.resampled import bootstrap, ranks_without
from i0t.gap.trust import chance_of_less, gap_dimensions, means_leak, trust_lines
from i0t.gap.unit_pairs import UnitPairs, group_differences, linked_groups, squared_distance
from i0t.metrics.resampling import random_blocks, random_split

IDENTITY = np.stack([np.arange(30)] * 2, axis=1)


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def features(seed: int, n: int = 30, dim: int = 6, gap: float = 0.5, captions: int = 1):
    """Unit images, unit texts and their pairs."""
    rng = np.random.default_rng(seed)
    meaning, owner = rng.normal(size=(n, dim)), np.repeat(np.arange(n), captions)
    offset = gap * np.eye(dim)[0]
    images = meaning + 0.5 * rng.normal(size=(n, dim)) + offset
    texts = meaning[owner] + 0.5 * rng.normal(size=(n * captions, dim)) - offset
    return unit(images), unit(texts), np.stack([owner, np.arange(n * captions)], axis=1)


# --- coverage --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("source", ["wide", "narrow"])
def test_intervals_cover_the_truth(source):
    """Allowed misses in 200 sets: a correct 95 % interval fails this once in 10 000 tests per measure."""
    low, high = binom.ppf([1e-4, 1 - 1e-4], 200, 0.95) / 200
    for name, share in coverage(SOURCES[source], n_sets=200, n_pairs=150, n_bootstrap=300, quick=True).items():
        assert low <= share <= high, name


# --- references ------------------------------------------------------------------------------


@pytest.mark.parametrize("captions", [1, 3])
def test_bootstrap_is_the_measure_on_weighted_pairs(captions):
    """Against loops over all drawn groups, in which copies of a group never meet."""
    x, y, pairs = features(0, n=8, captions=captions)
    group = linked_groups(pairs, len(x), len(y))
    found = bootstrap(UnitPairs(x, y, pairs), 3, seed=1)
    weights = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), 3)
    for row, drawn in enumerate(weights):
        expected = {}
        spread = []
        for side, z, own in (("image", x, group[: len(x)]), ("text", y, group[len(x) :])):
            couples = []  # (weight, cosine)
            for i in range(len(z)):
                for j in range(len(z)):
                    if i != j:
                        same = own[i] == own[j]
                        weight = drawn[own[i]] if same else drawn[own[i]] * drawn[own[j]]
                        couples.append((weight, z[i] @ z[j]))
            weight, cosine = np.array(couples).T
            expected[f"uniformity_{side}"] = math.log(np.average(np.exp(4 * cosine - 4), weights=weight))
            spread.append((1 - np.average(cosine, weights=weight)) / 2)
        apart = np.sum((x[pairs[:, 0]] - y[pairs[:, 1]]) ** 2, axis=1)
        expected["alignment"] = np.average(apart, weights=drawn[group[pairs[:, 0]]])
        matched = expected["alignment"] / 4
        expected["relative_modality_gap"] = matched / (matched + np.mean(spread))
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-5), name


def test_bootstrap_of_equal_weights_is_the_measure(monkeypatch):
    x, y, pairs = features(1, captions=2)

    class Even:
        def multinomial(self, n, p, size):
            return np.ones((size, n), dtype=int)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Even())
    found = bootstrap(UnitPairs(x, y, pairs), 1, seed=0)
    monkeypatch.undo()
    measured = modality_gap(x, y, pairs)
    assert {name: values[0] for name, values in found.items()} == {
        name: pytest.approx(measured[name], abs=1e-5) for name in found
    }


def test_ranks_without_blocks_equal_fresh_ranks():
    from i0t.gap import first_cross_modal_rank

    x, y, pairs = features(2, n=60)
    block = np.random.default_rng(0).integers(0, 4, 60)[linked_groups(pairs, 60, 60)]
    places, shares = ranks_without(UnitPairs(x, y, pairs), "image", block, 4)
    for k in range(4):
        keep_x, keep_y = block[:60] != k, block[60:] != k
        rank, share = first_cross_modal_rank(x[keep_x], y[keep_y])
        assert places[k] == pytest.approx((rank - 1) / (keep_x.sum() - 1)) and shares[k] == pytest.approx(share)


def naive_jackknife(values_without: list[float]) -> float:
    """Variance after Tukey: (K - 1) / K times the sum of squares around the mean."""
    mean = sum(values_without) / len(values_without)
    return (len(values_without) - 1) / len(values_without) * sum((value - mean) ** 2 for value in values_without)


def test_separability_intervals_leave_out_held_out_blocks():
    """Against scikit-learn's classifiers, fitted once, and loops over the blocks."""
    from sklearn.linear_model import LinearRegression, Ridge
    from sklearn.metrics import roc_auc_score

    x, y, pairs = features(2, n=60, captions=2)
    group = linked_groups(pairs, 60, 120)
    vectors, label = np.concatenate([x, y]), np.repeat([1.0, 0.0], [60, 120])
    block = (np.random.default_rng(0).permutation(60) % 20)[group]
    found, t19 = gap_intervals(x, y, pairs, seed=0, n_bootstrap=2), 2.0930240544

    train, test = random_split(180, np.random.default_rng(0), 126)
    errors = (LinearRegression().fit(vectors[train], label[train]).predict(vectors[test]) - label[test]) ** 2
    without = [1 - np.mean([e for e, row in zip(errors, test) if block[row] != k]) for k in range(20)]
    margin = t19 * math.sqrt(naive_jackknife(without) * (1 + 54 / 126))  # held out / fitted
    assert found["linear_separability"].low == pytest.approx(1 - errors.mean() - margin)
    assert found["linear_separability"].high == pytest.approx(min(1, 1 - errors.mean() + margin))

    fold, areas, all_areas = random_blocks(60, 5, 0)[group], np.zeros((20, 5)), np.zeros(5)
    for number in range(5):
        fit, tested = fold != number, fold == number
        scores = Ridge(alpha=1.0).fit(vectors[fit], label[fit]).predict(vectors)
        all_areas[number] = roc_auc_score(label[tested], scores[tested])
        for k in range(20):
            areas[k, number] = roc_auc_score(label[tested & (block != k)], scores[tested & (block != k)])
    area, variance = all_areas.mean(), naive_jackknife(areas.mean(axis=1).tolist()) * (1 + 1 / 4)
    worth = area * (1 - area) / variance  # Wilson's two ends solve (p - area)^2 = t^2 p (1 - p) / worth
    for end in (found["separability_auc"].low, found["separability_auc"].high):
        assert (end - area) ** 2 == pytest.approx(t19**2 * end * (1 - end) / worth)


def test_squared_distance_is_the_debiased_one():
    x, y, pairs = features(4)
    differences = group_differences(x, y, linked_groups(pairs, 30, 30))
    assert np.sort(differences, axis=0) == pytest.approx(np.sort(x - y, axis=0))
    assert math.sqrt(squared_distance(differences)) == pytest.approx(centroid_distance_debiased(x, y))
    x, y, pairs = features(4, captions=3)
    differences = group_differences(x, y, linked_groups(pairs, len(x), len(y)))
    assert math.sqrt(squared_distance(differences)) == pytest.approx(centroid_distance_debiased(x, y, pairs))


def test_variance_of_the_squared_distance_is_what_the_bounds_rest_on():
    """Var U = 4 m'Sm / G + 2 tr S^2 / (G (G - 1)), against 20 000 simulated sets of 12 groups."""
    m, scale, n_groups = np.array([0.5, 0.0, 0.2]), np.array([1.0, 0.7, 0.3]), 12
    sets = m + scale * np.random.default_rng(0).normal(size=(20_000, n_groups, 3))
    values = [squared_distance(differences) for differences in sets]
    exact = 4 * np.sum((m * scale) ** 2) / n_groups + 2 * np.sum(scale**4) / (n_groups * (n_groups - 1))
    assert np.mean(values) == pytest.approx(m @ m, abs=0.01) and np.var(values) == pytest.approx(exact, rel=0.04)


def test_bounds_solve_their_equation():
    """Its parts by loops over all pairs of groups; both ends t fulfil (U - t)^2 = q^2 (4 v t / G + e)."""
    d, q = np.random.default_rng(1).normal(0.5, 1, (20, 3)), 1.7
    n, products = len(d), [[float(a @ b) for j, b in enumerate(d) if j != i] for i, a in enumerate(d)]
    u, rows = np.mean(products), np.mean(products, axis=1)
    z2 = np.mean(np.square(products)) - u**2
    z1 = (rows.var(ddof=1) * ((n - 1) / (n - 2)) ** 2 * (n - 2) - z2) / (n - 4)
    trace_of_square, trace = z2 - 2 * z1, np.mean(np.sum(d**2, axis=1)) - u
    e = 2 * trace_of_square / (n * (n - 1))
    v = (z1 + trace_of_square / trace * math.sqrt(e)) / (u + math.sqrt(e))
    assert min(z1, trace_of_square, u) > 0  # else the function cuts them off at 0
    low, high = squared_distance_bounds(d, q)
    assert 0 < low < u < high
    for t in (low, high):
        assert (u - t) ** 2 == pytest.approx(q**2 * (4 * v * t / n + e))


def test_group_differences_average_to_the_difference_of_means():
    x, y, pairs = features(5, captions=4)
    for used in (pairs, pairs[:50], np.zeros((0, 2), int)):
        group = linked_groups(used, len(x), len(y))
        differences = group_differences(x, y, group)
        assert len(differences) == group.max() + 1
        assert differences.mean(axis=0) == pytest.approx(x.mean(axis=0) - y.mean(axis=0))


def test_chance_of_less_is_uniform_without_a_gap():
    """Against flipping signs one by one."""
    x, y, pairs = features(6, n=200, gap=0.0)
    differences = x - y
    signs = np.random.default_rng(0).choice([-1, 1], (4000, 200))
    flipped = np.linalg.norm(signs @ differences, axis=1)
    expected = np.mean(flipped <= np.linalg.norm(differences.sum(axis=0)))
    assert chance_of_less(differences) == pytest.approx(expected, abs=0.03)


# --- where there is an interval, and where there is none --------------------------------------


def test_every_number_has_an_interval_or_a_reason():
    x, y, pairs = features(7, n=60)
    measured = modality_gap(x, y, pairs)
    intervals = gap_intervals(x, y, pairs, n_bootstrap=200)
    assert set(intervals) == {name for name, value in measured.items() if isinstance(value, float)}
    for name, interval in intervals.items():
        if name == "min_cosine_distance":
            assert math.isnan(interval.low) and interval.method.startswith("none: a minimum")
        else:
            assert interval.low <= measured[name] <= interval.high, name


def test_more_pairs_make_narrower_intervals():
    widths = []
    for n in (60, 960):
        intervals = gap_intervals(*features(8, n=n), n_bootstrap=200)
        widths.append({name: interval.high - interval.low for name, interval in intervals.items()})
    for name in ("centroid_distance_debiased", "alignment", "relative_modality_gap", "uniformity_text"):
        assert 2.5 < widths[0][name] / widths[1][name] < 8, name  # 4, but the width at 60 pairs is noisy


def test_few_groups_and_no_pairs():
    x, y, pairs = features(9, n=30)
    assert all(math.isnan(one.low) and one.method.startswith("none") for one in gap_intervals(x, y, pairs).values())
    assert trust_lines(x[:2], y[:2])[0].startswith("too few pairs to tell this from zero")
    unpaired = gap_intervals(*features(9, n=60)[:2], np.zeros((0, 2), int), n_bootstrap=200)
    assert "alignment" not in unpaired and unpaired["centroid_distance_debiased"].low > 0
    assert any("no pairs are known" in line for line in trust_lines(x, y, np.zeros((0, 2), int)))
    with pytest.raises(I0TError, match="do not pair up"):
        gap_intervals(x, y[:5])


def test_all_equal_vectors():
    """No spread at all: intervals of no width, no crash."""
    same = np.tile(np.eye(4)[:1], (60, 1))
    interval = gap_intervals(same, -same, n_bootstrap=200)["centroid_distance_debiased"]
    assert interval.low == pytest.approx(2) and interval.high == pytest.approx(2)


def test_severity_range():
    assert severity_range(Interval(0.7, 0.8, "delta")) == "severe"
    assert severity_range(Interval(0.1, 0.7, "delta")) == "low to severe"


def test_dimensions_hand_worked():
    """Images at (1, 0), texts at (.6, .8) and (.6, -.8): the gap is (.4, 0)."""
    images, texts = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.6, 0.8], [0.6, -0.8]])
    first, second = gap_dimensions(images, texts)
    assert (first.dimension, first.share, first.image_mean, first.text_mean) == (0, 1, 1, pytest.approx(0.6))
    assert second.share == pytest.approx(0) and second.z == pytest.approx(0, abs=1e-9)


def test_shares_sum_to_one_and_z_is_a_paired_t():
    from scipy.stats import ttest_rel

    x, y, pairs = features(10)
    parts = gap_dimensions(x, y, pairs, top=6)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert [part.share for part in parts] == sorted((part.share for part in parts), reverse=True)
    for part in parts:
        assert part.z == pytest.approx(abs(ttest_rel(x[:, part.dimension], y[:, part.dimension]).statistic))


# --- the trust lines -------------------------------------------------------------------------


def simulated(seed: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Test sets: with a gap, without one, centred with other data, or centred on themselves."""
    n, dim = 240, 64
    rng = np.random.default_rng(seed)
    gap = 0.0 if kind == "none" else 0.4
    meaning = rng.normal(size=(2 * n, dim)) / np.sqrt(1 + np.arange(dim) / 8)
    offset = gap * rng.normal(size=dim)
    images = meaning + 0.5 * rng.normal(size=meaning.shape) + offset
    texts = meaning + 0.5 * rng.normal(size=meaning.shape) - offset
    fit, test = slice(0, n), slice(n, 2 * n)
    if kind in ("none", "raw"):
        return images[test], texts[test]
    remover = (ZScore() if seed % 2 else Standardizer()).fit(
        *((images[fit], texts[fit]) if kind == "honest" else (images[test], texts[test]))
    )
    return remover.transform_image(images[test]), remover.transform_text(texts[test])


def test_the_leak_line_has_no_false_alarm():
    """100 honest runs: with a gap, without any, and centred with the means of other data."""
    kinds = ("none", "honest", "raw", "none", "honest")
    assert not any(means_leak(*simulated(seed, kinds[seed % 5])) for seed in range(100))


def test_the_leak_line_misses_no_self_centred_set():
    assert all(means_leak(*simulated(seed, "self")) for seed in range(100))


def test_lines_say_what_is_wrong():
    assert any(line.startswith("separability below 0.5") for line in trust_lines(*simulated(0, "self")))
    assert any(
        line.startswith("too few pairs to tell this from zero: 240") for line in trust_lines(*simulated(0, "none"))
    )
    assert trust_lines(*simulated(0, "raw")) == []


def test_rows_that_do_not_pair_up_get_a_line_and_real_pairs_none():
    kinds = ("none", "honest", "raw", "self")
    said = []
    for seed in range(20):
        images, texts = simulated(seed, kinds[seed % 4])
        assert not any("no nearer" in line for line in trust_lines(images, texts, seed=seed))
        shuffled = texts[np.random.default_rng(seed).permutation(len(texts))]
        said.append(any("no nearer than shuffled ones" in line for line in trust_lines(images, shuffled, seed=seed)))
    assert sum(said) >= 19
    images, texts = simulated(2, "raw")
    for seed in range(30):  # of five pairs, one order in 120 is theirs
        few = trust_lines(images[:5], texts[:5], seed=seed) + trust_lines(images[:7], texts[:7], seed=seed)
        assert not any("no nearer" in line for line in few)
    images, texts, pairs = features(9, n=60)
    assert not any("no nearer" in line for line in trust_lines(images, texts, pairs))
    assert any("no nearer" in line for line in trust_lines(np.ones((9, 4)), np.ones((9, 4))))  # all equal

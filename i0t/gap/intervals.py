"""95 % intervals of the measures of the gap, each by a method whose coverage was tested.

The true value is what more pairs of the same source would show. If a measure depends on the number of
items (ranks, the plain centroid distance, separability), it is the expected value for sets of this size.
Groups of linked items are resampled: an image with its captions.

Shapes: N images x, M texts y, G groups, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.gap.measures import FOLDS, NAN, held_out_errors, held_out_scores, mean_area, ranks_of, severity
from i0t.gap.resampled import bootstrap, ranks_without
from i0t.gap.unit_pairs import ASKED, UnitPairs, blocks_of, gram_of, squared_distance, sum_of
from i0t.metrics.resampling import jackknife_variance, percentile_interval, random_blocks

LEVEL = 0.95
BLOCKS = 20  # of the jackknife
FEWEST_GROUPS = 2 * BLOCKS  # with fewer groups, no method here has 95 % coverage
METHODS = {
    "delta": "from the variance of the estimate",
    "bootstrap": "percentiles over resampled pairs; copies of a pair never meet",
    "jackknife": f"leaving out one of {BLOCKS} blocks of pairs at a time",
}
NO_MINIMUM = "none: a minimum over what was drawn falls as pairs are added, and no resample goes below it"
TOO_FEW = f"none: fewer than {FEWEST_GROUPS} pairs"
_NAMES = (
    *("centroid_distance", "centroid_distance_debiased", "linear_separability", "separability_auc"),
    *("relative_modality_gap", "alignment", "uniformity_image", "uniformity_text"),
    *("first_cross_modal_rank_image", "first_cross_modal_rank_text", "first_cross_modal_rank"),
    "cross_modal_neighbor_share",
)


@dataclass(frozen=True)
class Interval:
    """An interval for one measure.

    Attributes:
        low, high: its ends; NaN if there is none.
        method: a key of `METHODS`, or the reason why there is none.
    """

    low: float
    high: float
    method: str

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def gap_intervals(
    image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0, n_bootstrap: int = 1000
) -> dict[str, Interval]:
    """95 % intervals of the measures of `modality_gap`, under the same names, except `severity`.

    Arguments and errors are those of `modality_gap`; `seed` is also that of the `n_bootstrap` resamples.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 200, 8)) + [[[2] * 8], [[-2] * 8]]
        >>> interval = gap_intervals(images, texts)["centroid_distance_debiased"]
        >>> round(interval.low, 2), round(interval.high, 2), interval.method
        (1.8, 1.82, 'delta')
    """
    return intervals_of(UnitPairs.of(image_features, text_features, pairs), seed, n_bootstrap)


def intervals_of(
    items: UnitPairs, seed: int = 0, n_bootstrap: int = 1000, values: Mapping[str, Any] | None = None
) -> dict[str, Interval]:
    """`gap_intervals` for checked and normalised items; `values` of `measures_of` save measuring the ranks again."""
    intervals = {"min_cosine_distance": Interval(NAN, NAN, NO_MINIMUM)}
    if min(items.n_groups, items.sample.n_groups) < FEWEST_GROUPS:
        return dict.fromkeys(_NAMES, Interval(NAN, NAN, TOO_FEW)) | intervals
    intervals |= population_intervals(items, seed, n_bootstrap)
    return intervals | _of_separability(items.sample, seed) | _of_ranks(items, seed, values or ranks_of(items))


def _blocks(items: UnitPairs, seed: int) -> np.ndarray:
    """(N + M,) block of the jackknife of each item, images first."""
    return random_blocks(items.n_groups, BLOCKS, seed)[items.group]


def population_intervals(items: UnitPairs, seed: int, n_bootstrap: int) -> dict[str, Interval]:
    """Compute the intervals of `gap_intervals` that need no classifiers and no ranks."""
    intervals = _of_distance(items.differences)
    for name, values in bootstrap(items, n_bootstrap, seed).items():
        low, high = percentile_interval(values, LEVEL)
        intervals[name] = Interval(float(low), float(high), "bootstrap")
    return intervals


def severity_range(interval: Interval) -> str:
    """Return the words of `severity` for both ends of an interval."""
    words = dict.fromkeys([severity(interval.low), severity(interval.high)])
    return " to ".join(words)


def squared_distance_bounds(differences: np.ndarray, quantile: float) -> tuple[float, float]:
    """Bounds of CD^2: values within `quantile` standard errors of its estimate; never below 0.

    The rows of `differences` are G independent draws d_1, ..., d_G (one per group of linked items) with
    mean m, the difference of the two modalities' means, and covariance S. The bounds are for t = |m|^2.

    Estimate: U, the mean of d_g . d_h over all g != h (`squared_distance`), whose expectation is t. It is a
    U-statistic with the kernel d_g . d_h. Hoeffding's decomposition (1948) splits the variance of the kernel
    into the part of single draws, z1 = Var(d_g . m) = m' S m, and the part of two draws together,
    tr S^2 = z2 - 2 z1, where z2 = Var(d_g . d_h). For every G and every t, exactly,

        Var U = 4 z1 / G + e,   e = 2 tr S^2 / (G (G - 1)).

    Estimates of its parts: z2 from the squares of all products d_g . d_h; z1 from the spread of the G row
    means r_g = mean of d_g . d_h over h != g, whose sample variance, times ((G - 1) / (G - 2))^2, has the
    expectation (z2 + (G - 4) z1) / (G - 2).

    Inversion: z1 = v t, with v the variance of the draws along the gap m / |m|, grows with t itself. With z1
    fixed at its estimate, a U that is low by chance would get too small an error. So, as in Wilson's interval
    for shares, the error is computed at the bound itself: the bounds are the two solutions t of

        (U - t)^2 = q^2 (4 v t / G + e),   that is   t = U + s -+ sqrt((U + s)^2 - U^2 + q^2 e),   s = 2 q^2 v / G.

    v is z1 / t. If t is small against its noise sqrt(e), this ratio is unknown. Then v tends to the variance
    along an average direction, a = tr S^2 / tr S: v = (z1 + a sqrt(e)) / (max(U, 0) + sqrt(e)).
    """
    n, value = len(differences), squared_distance(differences)
    total, gram = sum_of(differences), gram_of(differences)
    lengths = np.concatenate([np.sum(block**2, axis=1) for block in blocks_of(differences)])
    z2 = (np.sum(gram**2) - np.sum(lengths**2)) / (n * (n - 1)) - value**2
    rows = (np.concatenate([block @ total for block in blocks_of(differences)]) - lengths) / (n - 1)
    spread = rows.var(ddof=1) * ((n - 1) / (n - 2)) ** 2
    z1 = max(0.0, (spread - z2 / (n - 2)) * (n - 2) / (n - 4))
    e = 2 * max(0.0, z2 - 2 * z1) / (n * (n - 1))
    noise, average = np.sqrt(e), max(0.0, z2 - 2 * z1) / max(lengths.mean() - max(value, 0.0), 1e-300)
    v = (z1 + average * noise) / (max(value, 0.0) + noise) if noise else 0.0
    s = 2 * quantile**2 * v / n
    root = np.sqrt(max(0.0, (value + s) ** 2 - value**2 + quantile**2 * e))
    return max(0.0, float(value + s - root)), max(0.0, float(value + s + root))


def _of_distance(differences: np.ndarray) -> dict[str, Interval]:
    bias = float(np.sum(differences.mean(axis=0, dtype=np.float64) ** 2)) - squared_distance(
        differences
    )  # of finite samples
    low, high = squared_distance_bounds(differences, _t(len(differences) - 1))
    return {
        "centroid_distance": Interval(math.sqrt(low + bias), math.sqrt(high + bias), "delta"),
        "centroid_distance_debiased": Interval(math.sqrt(low), math.sqrt(high), "delta"),
    }


def _of_separability(items: UnitPairs, seed: int) -> dict[str, Interval]:
    """Jackknife over held-out blocks, without refitting the classifiers.

    The error of the fit is added as in Nadeau & Bengio (2003): variance times 1 + held out / fitted. Refitting
    without each block overstates the error in many dimensions, up to twice.
    """
    block = _blocks(items, seed)
    rows, errors = held_out_errors(items, seed)
    left_out = 1 - np.array([errors[block[rows] != k].mean() for k in range(BLOCKS)])
    variance = jackknife_variance(left_out) * len(block) / (len(block) - len(rows))
    linear, margin = 1 - float(errors.mean()), _t(BLOCKS - 1) * math.sqrt(variance)
    scored = held_out_scores(items, seed)
    areas = [
        mean_area(
            [(rows[kept], scores[kept]) for rows, scores in scored for kept in [block[rows] != k]], items.is_image
        )
        for k in range(BLOCKS)
    ]
    variance = jackknife_variance(np.array(areas)) * FOLDS / (FOLDS - 1)
    return {
        "linear_separability": Interval(linear - margin, min(1.0, linear + margin), "jackknife"),
        "separability_auc": _wilson(mean_area(scored, items.is_image), variance, items.n_groups),
    }


def _of_ranks(items: UnitPairs, seed: int, values: Mapping[str, Any]) -> dict[str, Interval]:
    block, ends = _blocks(items, seed), (len(items.x), len(items.y))
    n_groups = min(items.n_groups, ASKED) if items.is_large else items.n_groups  # that ask
    place: list[float] = []  # of images and of texts as queries
    places: list[np.ndarray] = []  # the same by block left out
    shares: list[np.ndarray] = []
    for queries, end in zip(("image", "text"), ends):
        without = ranks_without(items, queries, block, BLOCKS)
        place.append((values[f"first_cross_modal_rank_{queries}"] - 1) / max(end - 1, 1))
        places.append(without[0])
        shares.append(without[1])
    intervals = {}
    for k, side in enumerate(("image", "text")):
        unit = _wilson(place[k], jackknife_variance(places[k]), n_groups)
        intervals[f"first_cross_modal_rank_{side}"] = _stretched(unit, ends[k])
    weights = [(end - 1) / (sum(ends) - 2) for end in ends]  # of the mean of the two ranks
    left_out = weights[0] * places[0] + weights[1] * places[1]
    unit = _wilson(weights[0] * place[0] + weights[1] * place[1], jackknife_variance(left_out), n_groups)
    intervals["first_cross_modal_rank"] = _stretched(unit, sum(ends) / 2)
    together = (shares[0] + shares[1]) / 2
    nearer = _wilson(values["cross_modal_neighbor_share"], jackknife_variance(together), n_groups)
    return {**intervals, "cross_modal_neighbor_share": nearer}


def _stretched(unit: Interval, end: float) -> Interval:
    """Map an interval of places in 0..1 to ranks in 1..end."""
    return Interval(1 + (end - 1) * unit.low, 1 + (end - 1) * unit.high, unit.method)


def _wilson(value: float, variance: float, n_groups: int) -> Interval:
    """Wilson's interval of a share, with the effective number of groups from its variance (Korn & Graubard 1998).

    Unlike value +- 2 standard errors it stays within 0..1, and is right at the ends: a share of 0 among G
    groups gives an upper end of about 4 / G.
    """
    if math.isnan(value + variance):
        return Interval(NAN, NAN, "none: the measure itself is not defined here")
    worth = value * (1 - value) / variance if variance > 0 and 0 < value < 1 else n_groups
    z2 = _t(BLOCKS - 1) ** 2
    middle, margin = value + z2 / (2 * worth), math.sqrt(z2 * (value * (1 - value) / worth + z2 / (4 * worth**2)))
    low, high = (float(min(1.0, max(0.0, (middle + side) / (1 + z2 / worth)))) for side in (-margin, margin))
    return Interval(low, high, "jackknife")


def _t(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))

"""95 % intervals of the measures of the gap, each by the method that covers the truth.

The truth is what more pairs from the same source would show. Where a measure depends on the number
of items itself (ranks, the plain centroid distance, separability), it is the value expected of sets
of this size. What is resampled are groups of linked items: an image with its captions.

Shapes: N images x, M texts y, G groups, D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.gap.centroids import group_differences, squared_distance, squared_distance_bounds
from i0t.gap.distances import severity
from i0t.gap.items import NAN, checked_pairs, units
from i0t.gap.neighbors import first_cross_modal_rank
from i0t.gap.resampling import bootstrap, ranks_without
from i0t.gap.separability import FOLDS, held_out_errors, held_out_scores, linked_groups, mean_area

LEVEL = 0.95
BLOCKS = 20  # of the jackknife
FEWEST_GROUPS = 2 * BLOCKS  # below, no method here holds its level
METHODS = {
    "delta": "from the variance of the estimate",
    "bootstrap": "percentiles over resampled pairs; copies of a pair never meet",
    "jackknife": f"leaving out one of {BLOCKS} blocks of pairs at a time",
}
NO_MINIMUM = "none: a minimum over what was drawn falls as pairs are added, and no resample goes below it"
TOO_FEW = f"none: fewer than {FEWEST_GROUPS} pairs"


@dataclass(frozen=True)
class Interval:
    """An interval for one measure.

    Attributes:
        low, high: its ends; NaN where there is none.
        method: a key of `METHODS`, or why there is none.

    Example:
        >>> interval = Interval(0.1, 0.3, "delta")
        >>> 0.2 in interval, 0.4 in interval
        (True, False)
    """

    low: float
    high: float
    method: str

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def gap_intervals(
    image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0, n_bootstrap: int = 1000
) -> dict[str, Interval]:
    """95 % intervals of the measures of `modality_gap`, under the same names.

    Args:
        image_features: as for `modality_gap`.
        text_features: as for `modality_gap`.
        pairs: as for `modality_gap`.
        seed: as for `modality_gap`, and of the resamples.
        n_bootstrap: resamples.

    Returns:
        One for each measure that is a number; `severity` follows from `centroid_distance_debiased`.

    Raises:
        I0TError: as `modality_gap`.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 200, 8)) + [[[2] * 8], [[-2] * 8]]
        >>> interval = gap_intervals(images, texts)["centroid_distance_debiased"]
        >>> round(interval.low, 2), round(interval.high, 2), interval.method
        (1.8, 1.82, 'delta')
    """
    x, y = units(image_features, text_features)
    matched = checked_pairs(pairs, len(x), len(y))
    group = linked_groups(matched, len(x), len(y))
    n_groups = int(group.max()) + 1
    intervals = {"min_cosine_distance": Interval(NAN, NAN, NO_MINIMUM)}
    if n_groups < FEWEST_GROUPS:
        return dict.fromkeys(_NAMES, Interval(NAN, NAN, TOO_FEW)) | intervals
    intervals |= population_intervals(x, y, matched, group, seed, n_bootstrap)
    block = (np.random.default_rng(seed).permutation(n_groups) % BLOCKS)[group]
    return intervals | _of_separability(x, y, group, block, seed) | _of_ranks(x, y, block, n_groups)


def population_intervals(
    x: np.ndarray, y: np.ndarray, pairs: np.ndarray, group: np.ndarray, seed: int, n_bootstrap: int
) -> dict[str, Interval]:
    """Those of `gap_intervals` that need no classifiers and no ranks.

    Args:
        x: (N, D) float64 unit vectors.
        y: (M, D) float64 unit vectors.
        pairs: (P, 2) rows that belong together.
        group: (N + M,) number of each item's group, images first.
        seed: of the resamples.
        n_bootstrap: resamples.

    Example:
        >>> x, pairs = np.eye(50), np.stack([np.arange(50)] * 2, axis=1)
        >>> found = population_intervals(x, x, pairs, np.tile(np.arange(50), 2), seed=0, n_bootstrap=20)
        >>> found["alignment"].high, round(found["uniformity_text"].low, 3)
        (0.0, -4.0)
    """
    intervals = _of_distance(x, y, group)
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    for name, values in bootstrap(x, y, pairs, group, n_bootstrap, seed).items():
        intervals[name] = Interval(*map(float, np.percentile(values, tails)), "bootstrap")
    return intervals


_NAMES = (
    *("centroid_distance", "centroid_distance_debiased", "linear_separability", "separability_auc"),
    *("relative_modality_gap", "alignment", "uniformity_image", "uniformity_text"),
    *("first_cross_modal_rank_image", "first_cross_modal_rank_text", "first_cross_modal_rank"),
    "cross_modal_neighbor_share",
)


def severity_range(interval: Interval) -> str:
    """The words that an interval of the centroid distance leaves open.

    Example:
        >>> severity_range(Interval(0.1, 0.3, "delta"))
        'low to moderate'
    """
    words = dict.fromkeys([severity(interval.low), severity(interval.high)])
    return " to ".join(words)


def _of_distance(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> dict[str, Interval]:
    differences = group_differences(x, y, group)
    bias = float(np.sum(differences.mean(axis=0) ** 2)) - squared_distance(differences)  # what finite samples add
    low, high = squared_distance_bounds(differences, _t(len(differences) - 1))
    return {
        "centroid_distance": Interval(math.sqrt(low + bias), math.sqrt(high + bias), "delta"),
        "centroid_distance_debiased": Interval(math.sqrt(low), math.sqrt(high), "delta"),
    }


def _of_separability(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, block: np.ndarray, seed: int
) -> dict[str, Interval]:
    """Held-out blocks are left out one by one, the classifiers stay as fitted.

    What another fit would change is added as Nadeau & Bengio (2003) do: variance times 1 + held out / fitted.
    Fitting anew without each block overstates it where dimensions are many: up to twice the true error.
    """
    rows, errors = held_out_errors(x, y, seed)
    left_out = 1 - np.array([errors[block[rows] != k].mean() for k in range(BLOCKS)])
    variance = _jackknife_variance(left_out) * len(block) / (len(block) - len(rows))
    linear, margin = 1 - float(errors.mean()), _t(BLOCKS - 1) * math.sqrt(variance)
    scored, is_image = held_out_scores(x, y, group, seed), np.arange(len(block)) < len(x)
    areas = [
        mean_area([(rows[kept], scores[kept]) for rows, scores in scored for kept in [block[rows] != k]], is_image)
        for k in range(BLOCKS)
    ]
    variance = _jackknife_variance(np.array(areas)) * FOLDS / (FOLDS - 1)
    return {
        "linear_separability": Interval(linear - margin, min(1.0, linear + margin), "jackknife"),
        "separability_auc": _wilson(mean_area(scored, is_image), variance, int(group.max()) + 1),
    }


def _of_ranks(x: np.ndarray, y: np.ndarray, block: np.ndarray, n_groups: int) -> dict[str, Interval]:
    ends = {"image": len(x), "text": len(y)}
    places, shares, left_out = {}, {}, {}
    for side, z, others, own, other in (
        ("image", x, y, block[: len(x)], block[len(x) :]),
        ("text", y, x, block[len(x) :], block[: len(x)]),
    ):
        rank, shares[side] = first_cross_modal_rank(z, others)
        places[side] = (rank - 1) / max(len(z) - 1, 1)
        left_out[side] = ranks_without(z, others, own, other, BLOCKS)
    intervals = {}
    for side, end in ends.items():
        unit = _wilson(places[side], _jackknife_variance(left_out[side][0]), n_groups)
        intervals[f"first_cross_modal_rank_{side}"] = _stretched(unit, end)
    weights = {side: (end - 1) / (sum(ends.values()) - 2) for side, end in ends.items()}  # mean of the two ranks
    whole = [sum(weights[side] * part[side] for side in ends) for part in (places, {s: left_out[s][0] for s in ends})]
    unit = _wilson(whole[0], _jackknife_variance(whole[1]), n_groups)
    intervals["first_cross_modal_rank"] = _stretched(unit, sum(ends.values()) / 2)
    together = (left_out["image"][1] + left_out["text"][1]) / 2
    share = _wilson(sum(shares.values()) / 2, _jackknife_variance(together), n_groups)
    return {**intervals, "cross_modal_neighbor_share": share}


def _stretched(unit: Interval, end: float) -> Interval:
    """From a place in 0..1 to a rank in 1..end."""
    return Interval(1 + (end - 1) * unit.low, 1 + (end - 1) * unit.high, unit.method)


def _jackknife_variance(left_out: np.ndarray) -> float:
    return float(left_out.var() * (len(left_out) - 1))


def _wilson(value: float, variance: float, n_groups: int) -> Interval:
    """Wilson's interval of a share at the number of groups that its variance is worth (Korn & Graubard 1998).

    Unlike value +- 2 standard errors it stays within 0..1, and is honest at the ends: nothing seen among
    G groups leaves up to about 4 / G.
    """
    if math.isnan(value + variance):
        return Interval(NAN, NAN, "none: the measure itself is not defined here")
    worth = value * (1 - value) / variance if variance > 0 and 0 < value < 1 else n_groups
    z2 = _t(BLOCKS - 1) ** 2
    middle, margin = value + z2 / (2 * worth), math.sqrt(z2 * (value * (1 - value) / worth + z2 / (4 * worth**2)))
    ends = ((middle + side) / (1 + z2 / worth) for side in (-margin, margin))
    return Interval(*(float(min(1.0, max(0.0, end))) for end in ends), "jackknife")


def _t(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))

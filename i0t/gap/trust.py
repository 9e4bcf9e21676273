"""The dimensions that carry the gap, and reasons to doubt its numbers, in words.

Shapes: G groups of linked items, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from i0t.gap.intervals import squared_distance_bounds
from i0t.gap.measures import ROUNDING, auc_of
from i0t.gap.unit_pairs import ASKED, SAMPLED, UnitPairs, column_slices, gram_of, squared_distance, sum_of

NULL_DRAWS = 4999  # draws of the length of a mean difference by chance
SUSPICIOUS = 0.001  # if means are this close by chance only so rarely, they were probably made equal
SHUFFLED_PAIRS, SHUFFLES = 1000, 999  # at most so many pairs, drawn, in the test of `chance_of_nearer`
FEWEST = 7  # groups in this test; fewer have too few orders
UNLIKELY = 0.01  # pairs are nearer than shuffled ones if chance explains it more rarely
FEW = 100  # with fewer groups, error bars are uncertain themselves


@dataclass(frozen=True)
class GapDimension:
    """One dimension's part of the gap.

    Attributes:
        dimension: its number, from 0.
        share: its (mean x - mean y)^2 over CD^2, 0..1; the shares sum to 1.
        image_mean, text_mean: mean activation of each modality, with its sign.
        z: the difference in standard errors; below 2 it can be chance.
    """

    dimension: int
    share: float
    image_mean: float
    text_mean: float
    z: float


def gap_dimensions(image_features: Any, text_features: Any, pairs: Any = None, top: int = 10) -> list[GapDimension]:
    """Return the `top` dimensions that carry the gap, largest part of CD^2 first (cf. Fig. 3 of the paper).

    The other arguments and the errors are those of `modality_gap`.
    """
    return dimensions_of(UnitPairs.of(image_features, text_features, pairs))[:top]


def dimensions_of(items: UnitPairs) -> list[GapDimension]:
    """All of `gap_dimensions`, for checked and normalised items."""
    means = tuple(side.mean(axis=0, dtype=np.float64) for side in (items.x, items.y))
    difference = means[0] - means[1]
    whole = float(difference @ difference)
    error = np.full(len(difference), np.nan)
    if items.n_groups > 1:
        apart = items.differences
        spread = [apart[:, some].std(axis=0, ddof=1, dtype=np.float64) for some in column_slices(apart, len(apart))]
        error = np.concatenate(spread) / np.sqrt(items.n_groups)
    with np.errstate(divide="ignore", invalid="ignore"):  # constant dimensions: z is infinite, or NaN
        z = np.abs(difference) / error
    shares = difference**2 / whole if whole else np.zeros(len(difference))
    order = np.argsort(-(difference**2), kind="stable")
    return [GapDimension(int(k), *(float(part[k]) for part in (shares, *means, z))) for k in order]


def means_leak(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> bool:
    """Check whether the vectors were probably centred on the evaluated set's own means.

    There must be two signs: a separability below 0.5 (known from such centring, but half of all sets
    without a gap show it by chance), and means so close that chance explains it only once in 1 000 times.
    Normalising after centring leaves a small gap, which does not shrink with more pairs, while chance
    differences do: above some ten thousand pairs a leak is not detected. Arguments are those of
    `modality_gap`.
    """
    return _means_leak(UnitPairs.of(image_features, text_features, pairs), seed)


def _means_leak(items: UnitPairs, seed: int) -> bool:
    if squared_distance(items.differences) >= 0:  # not closer than by chance
        return False
    return chance_of_less(items.differences, seed) <= SUSPICIOUS and auc_of(items.sample, seed) < 0.5


def chance_of_less(differences: np.ndarray, seed: int = 0) -> float:
    """Probability, 0..1, that the means of two samples without a gap are as close as these.

    Near 0 is suspicious: means are so close only if they were made equal on these items. The statistic is the
    squared length of the sum of the G rows d_g of `group_differences`. With random signs the sum is, in large
    samples, normal with covariance C = sum of d_g d_g', so its squared length is a sum of the eigenvalues of C,
    each times a chi-square variable with one degree of freedom. These are drawn.
    """
    scales = np.maximum(np.linalg.eigvalsh(gram_of(differences)), 0.0)
    total = sum_of(differences)
    rng = np.random.default_rng(seed)
    closer = 0
    for draws in np.array_split(np.arange(NULL_DRAWS), 10):
        closer += int(np.count_nonzero(rng.chisquare(1, (len(draws), len(scales))) @ scales <= total @ total))
    return float(1 + closer) / (1 + NULL_DRAWS)


def chance_of_nearer(items: UnitPairs, seed: int = 0) -> float:
    """Probability, 0..1, that shuffled pairs are as near as these: a permutation test of their mean cosine."""
    rng = np.random.default_rng(seed)
    image, text = rng.permutation(items.pairs)[:SHUFFLED_PAIRS].T
    cosines = items.x[image].astype(np.float64) @ items.y[text].T
    rows = np.arange(len(cosines))
    matched = cosines[rows, rows].mean() - ROUNDING
    nearer = sum(cosines[rows, rng.permutation(rows)].mean() >= matched for _ in range(SHUFFLES))
    return float(1 + nearer) / (1 + SHUFFLES)


def doubt_of_order(items: UnitPairs, seed: int = 0) -> list[str]:
    """One line if the rows of images and texts seem not to belong together, or too few say that they do."""
    if not len(items.pairs) or items.n_groups < FEWEST or (chance := chance_of_nearer(items, seed)) <= UNLIKELY:
        return []
    return [
        f"matched pairs are no nearer than shuffled ones (permutation test, p = {chance:.2f}): check that row i of the "
        "images belongs to row i of the texts (or image_of_text); if it does, this model does not match them"
    ]


def trust_lines(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> list[str]:
    """Return one line per reason to doubt a gap. Arguments are those of `modality_gap`."""
    return doubts_of(UnitPairs.of(image_features, text_features, pairs), seed)


def doubts_of(items: UnitPairs, seed: int = 0) -> list[str]:
    """`trust_lines` for checked and normalised items."""
    n_groups, what = items.n_groups, "pairs" if len(items.pairs) else "items"
    if n_groups < 5:
        return [f"too few {what} to tell this from zero: {n_groups}, and no error can be estimated"]
    lines = []
    if _means_leak(items, seed):
        lines.append("separability below 0.5: the means come from the evaluated set; its gap says nothing of new data")
    elif squared_distance_bounds(items.differences, 1.96)[0] == 0:
        lines.append(
            f"too few {what} to tell this from zero: {n_groups} {what}, and the interval of the centroid distance "
            "reaches 0"
        )
    lines += doubt_of_order(items, seed)
    if n_groups < FEW:
        lines.append(f"rough: error bars from fewer than {FEW} {what} are themselves uncertain")
    if items.is_large:
        lines.append(
            f"sampled: uniformities and separabilities are of about {SAMPLED} of the vectors, ranks and neighbours of "
            f"{ASKED} queries of each kind; their intervals include that. All else is of all vectors"
        )
    if not len(items.pairs):
        lines.append("no pairs are known: alignment and relative modality gap cannot be measured")
    return lines

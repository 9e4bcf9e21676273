"""Cutoffs of scores with a stated share of false alarms, and p-values, by conformal prediction.

The calibration scores are of K pairs that do not match. Assumption: they and a new pair that does not match are
exchangeable (drawn alike, none depending on another), by one score that was not fitted to them. Then, for any
distribution of scores and any K:

- the chance that a new pair scores above the `on average` cutoff is at most the stated share, averaged over calibration
  sets (Vovk et al. 2005; Papadopoulos et al. 2002);
- with a stated confidence over calibration sets, at most the stated share of all such pairs lies above the cutoff
  (Wilks 1941; Vovk 2012, Proposition 2a);
- a p-value is at most u with a chance of at most u.

Pairs that share an item depend on one another: n images and n texts give n^2 cosines, but only `disjoint_pairs` count.

Shapes: K calibration scores, P pairs, R scores.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import is_torch, to_numpy


def conformal_cutoff(unmatched: Any, false_alarms: float, confidence: float | None = None) -> float:
    """Score above which at most a share of non-matching pairs lie.

    Args:
        unmatched: (K,) scores of pairs that do not match, array or tensor.
        false_alarms: the share, in 0..1.
        confidence: in 0..1: the promise holds for this share of calibration sets; None: on average over them.

    Returns:
        One of the scores: a pair is an alarm if its score is *larger*. Infinity if K scores cannot decide it.

    Raises:
        I0TError: no scores, NaN among them, or a share or confidence outside 0..1.

    Example:
        >>> scores = np.arange(100.0)
        >>> conformal_cutoff(scores, 0.05), conformal_cutoff(scores, 0.05, confidence=0.95)
        (95.0, 98.0)
        >>> conformal_cutoff(scores, 0.01, confidence=0.95)
        inf
    """
    ascending = np.sort(_scores(unmatched))
    larger = _larger(len(ascending), false_alarms, confidence)
    return math.inf if larger < 0 else float(ascending[len(ascending) - 1 - larger])


def least_scores(false_alarms: float, confidence: float | None = None) -> int:
    """Smallest K for which `conformal_cutoff` is finite.

    Example:
        >>> least_scores(0.01), least_scores(0.01, 0.95), least_scores(0.001, 0.95)
        (99, 299, 2995)
    """
    _check_shares(false_alarms, confidence)
    if confidence is None:
        return math.ceil(1 / false_alarms - 1e-9) - 1
    return math.ceil(math.log(1 - confidence) / math.log(1 - false_alarms))


def least_share(n_scores: int, confidence: float | None = None) -> float:
    """Smallest share of false alarms that K scores can promise.

    Example:
        >>> round(least_share(250), 4), round(least_share(250, 0.95), 4)
        (0.004, 0.0119)
    """
    return 1 / (n_scores + 1) if confidence is None else 1 - (1 - confidence) ** (1 / n_scores)


def conformal_p_values(scores: Any, unmatched: Any) -> Any:
    """(1 + number of calibration scores at least as large) / (K + 1), for each score.

    Args:
        scores: (R,) or any shape, array or tensor.
        unmatched: (K,) scores of pairs that do not match.

    Returns:
        p-values of the same shape, library and device, in 1 / (K + 1)..1: a small one says "not one of these".

    Example:
        >>> conformal_p_values(np.array([0.5, 9.0]), np.array([0.1, 0.5, 0.9])).tolist()
        [0.75, 0.25]
    """
    ascending = np.sort(_scores(unmatched))
    if is_torch(scores):
        import torch

        known = torch.as_tensor(ascending, device=scores.device, dtype=scores.dtype)
        below = torch.searchsorted(known, scores.detach().contiguous())
    else:
        below = np.searchsorted(ascending, scores)
    return (1 + len(ascending) - below) / (len(ascending) + 1)


def disjoint_pairs(n_items: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pair up distinct items at random, each in one pair at most: two arrays of n_items // 2 numbers.

    With matching pairs of images and texts as items, the image of the first with the text of the second does not match,
    and no two of these pairs depend on each other.
    """
    order = np.random.default_rng(seed).permutation(n_items)
    half = n_items // 2
    return order[:half], order[half : 2 * half]


def _larger(n_scores: int, false_alarms: float, confidence: float | None) -> int:
    """Return how many calibration scores may lie above the cutoff; -1 if not even none will do."""
    _check_shares(false_alarms, confidence)
    if confidence is None:
        return math.floor(false_alarms * (n_scores + 1) + 1e-9) - 1
    from scipy.stats import binom

    # The share above the (m+1)-th largest exceeds the stated one in P(Binomial(K, share) <= m) of calibration sets.
    return (
        int(np.searchsorted(binom.cdf(np.arange(n_scores), n_scores, false_alarms), 1 - confidence, side="right")) - 1
    )


def _scores(unmatched: Any) -> np.ndarray:
    scores = to_numpy(unmatched).astype(np.float64).ravel()
    if not len(scores) or np.isnan(scores).any():
        raise I0TError(f"cutoff: {len(scores)} calibration scores, {int(np.isnan(scores).sum())} of them NaN.")
    return scores


def _check_shares(false_alarms: float, confidence: float | None) -> None:
    for name, value in (("false_alarms", false_alarms), ("confidence", confidence)):
        if value is not None and not 0 < value < 1:
            raise I0TError(f"cutoff: {name} must be between 0 and 1, got {value}.")

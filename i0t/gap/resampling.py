"""Measures over and over on resampled groups of linked items: bootstrap and jackknife.

A naive bootstrap pairs each item with its own copies, at distance 0, which no new sample would
hold. Here copies never meet: a measure over different items is a weighted sum over different groups.

Shapes: N images x, M texts y, P pairs, G groups, B resamples, K blocks, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from i0t.metrics.ranking import score_blocks

Kernel = Callable[[np.ndarray], np.ndarray]


def bootstrap(
    x: np.ndarray, y: np.ndarray, pairs: np.ndarray, group: np.ndarray, n_resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """(B,) values of alignment, relative modality gap and uniformities on resampled groups.

    Args:
        x: (N, D) float64 unit vectors.
        y: (M, D) float64 unit vectors.
        pairs: (P, 2) rows that belong together; none leaves out the measures of pairs.
        group: (N + M,) number of each item's group, images first.
        n_resamples: B.
        seed: of the resamples.

    Example:
        >>> x, pairs = np.eye(9), np.stack([np.arange(9)] * 2, axis=1)
        >>> values = bootstrap(x, x, pairs, np.tile(np.arange(9), 2), n_resamples=2, seed=0)
        >>> values["alignment"].tolist(), values["uniformity_image"].round(3).tolist()
        ([0.0, 0.0], [-4.0, -4.0])
    """
    n_groups = int(group.max()) + 1
    weights = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), n_resamples)
    weights = weights.astype(np.float32)
    sides = {"image": (x, group[: len(x)]), "text": (y, group[len(x) :])}
    resampled = {
        f"uniformity_{side}": np.log(_mean_over_different(z, own, weights, lambda cosines: np.exp(4 * cosines - 4)))
        for side, (z, own) in sides.items()
    }
    if len(pairs):
        apart = np.sum((x[pairs[:, 0]] - y[pairs[:, 1]]) ** 2, axis=1)
        pair_weights = weights[:, group[pairs[:, 0]]].astype(np.float64)
        resampled["alignment"] = pair_weights @ apart / pair_weights.sum(axis=1)
        matched = resampled["alignment"] / 4
        spread = sum((1 - _mean_cosine(z, own, weights)) / 2 for z, own in sides.values()) / 2
        resampled["relative_modality_gap"] = matched / (matched + spread)
    return resampled


def _mean_cosine(z: np.ndarray, group: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) weighted mean cosine of different items, without a matrix of cosines."""
    item_weights = weights[:, group].astype(np.float64)
    whole = np.sum((item_weights @ z) ** 2, axis=1) - np.sum(item_weights**2, axis=1)
    return _without_copies(whole, z, group, weights, item_weights, lambda cosines: cosines)


def _mean_over_different(z: np.ndarray, group: np.ndarray, weights: np.ndarray, kernel: Kernel) -> np.ndarray:
    """(B,) weighted mean of a function of the cosines of different items."""
    item_weights = weights[:, group]
    z32, whole = z.astype(np.float32), np.zeros(len(weights))
    for rows, cosines in score_blocks(z32, z32):
        values = kernel(cosines)
        values[np.arange(len(values)), np.arange(rows.start, rows.stop)] = 0.0
        whole += np.einsum("rb,br->b", values @ item_weights.T, item_weights[:, rows], dtype=np.float64)
    return _without_copies(whole, z, group, weights, item_weights.astype(np.float64), kernel)


def _without_copies(
    whole: np.ndarray, z: np.ndarray, group: np.ndarray, weights: np.ndarray, item_weights: np.ndarray, kernel: Kernel
) -> np.ndarray:
    """A mean from a weighted sum over i != j, less what copies of one group have with one another.

    A group drawn w times holds w times its inner pairs of items, not w^2 times.
    """
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=weights.shape[1])
    starts = np.cumsum(sizes) - sizes
    inner = np.zeros(weights.shape[1])
    for number in np.flatnonzero(sizes > 1):
        own = z[order[starts[number] : starts[number] + sizes[number]]]
        values = kernel(own @ own.T)
        inner[number] = values.sum() - np.trace(values)
    copies = weights.astype(np.float64) ** 2 - weights
    count = item_weights.sum(axis=1) ** 2 - np.sum(item_weights**2, axis=1) - copies @ (sizes * (sizes - 1.0))
    return (whole - copies @ inner) / count


def ranks_without(
    z: np.ndarray, others: np.ndarray, block: np.ndarray, other_block: np.ndarray, n_blocks: int
) -> tuple[np.ndarray, np.ndarray]:
    """First cross-modal rank and share of `first_cross_modal_rank`, leaving out one block of groups at a time.

    One pass: without a block, a query's rank loses that block's items above the best of the other
    modality; if that best goes, the best of another block takes its place. Ties count as lost.

    Args:
        z: (A, D) the queries, unit vectors.
        others: (B, D) the other modality.
        block: (A,) block of each query.
        other_block: (B,) block of each other item.
        n_blocks: K.

    Returns:
        (K,) place of the rank between the top, 0, and the end, 1, of the query's own modality; (K,) shares.

    Example:
        >>> x, block = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]]), np.arange(3)
        >>> places, shares = ranks_without(x, -x, block, block, 3)  # every text is farther off than any image
        >>> places.tolist(), shares.tolist(), ranks_without(x, x, block, block, 3)[1].tolist()
        ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    """
    z32, others32 = z.astype(np.float32), others.astype(np.float32)
    member = (block[:, None] == np.arange(n_blocks)).astype(np.float32)
    rank_sum, hit_sum = np.zeros(n_blocks), np.zeros(n_blocks)
    for rows, cosines in score_blocks(z32, np.concatenate([z32, others32])):
        line = np.arange(len(cosines))
        own, across = cosines[:, : len(z)], cosines[:, len(z) :].copy()
        own[line, np.arange(rows.start, rows.stop)] = -np.inf  # not its own neighbour
        best_block = other_block[across.argmax(axis=1)]
        best = across.max(axis=1, keepdims=True)
        across[other_block[None] == best_block[:, None]] = -np.inf
        ranks = _ranks_by_block(own > best, member)
        ranks[line, best_block] = _ranks_by_block(own > across.max(axis=1, keepdims=True), member)[line, best_block]
        present = block[rows, None] != np.arange(n_blocks)  # the query itself may be left out
        rank_sum += np.where(present, ranks, 0).sum(axis=0)
        hit_sum += ((ranks == 1) & present).sum(axis=0)
    left = len(z) - member.sum(axis=0)
    return (rank_sum / left - 1) / np.maximum(left - 1, 1), hit_sum / left


def _ranks_by_block(greater: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(rows, K) rank of the best of the other modality when each block is left out."""
    counts = greater.astype(np.float32)
    return 1 + counts.sum(axis=1, keepdims=True) - counts @ member

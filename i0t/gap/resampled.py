"""Measures of the gap on resampled groups of linked items: bootstrap and jackknife.

A naive bootstrap pairs each item with its own copies, at distance 0; a new sample would have no such pairs.
Here copies are never paired: a measure over different items is a weighted sum over different groups.

Shapes: N images x, M texts y, G groups, B resamples, K blocks, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from i0t.gap.unit_pairs import UnitPairs
from i0t.metrics.ranking import score_blocks
from i0t.metrics.resampling import resampled_counts

Kernel = Callable[[np.ndarray], np.ndarray]


def bootstrap(items: UnitPairs, n_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """(B,) values of both uniformities and, with pairs, of alignment and relative modality gap."""
    counts = resampled_counts(items.n_groups, n_resamples, seed).astype(np.float32)
    n, pairs = len(items.x), items.pairs
    sides = {"image": (items.x, items.group[:n]), "text": (items.y, items.group[n:])}
    resampled = {
        f"uniformity_{side}": np.log(_mean_over_different(z, own, counts, lambda cosines: np.exp(4 * cosines - 4)))
        for side, (z, own) in sides.items()
    }
    if len(pairs):
        apart = np.sum((items.x[pairs[:, 0]] - items.y[pairs[:, 1]]) ** 2, axis=1)
        of_pairs = counts[:, items.group[pairs[:, 0]]].astype(np.float64)
        resampled["alignment"] = of_pairs @ apart / of_pairs.sum(axis=1)
        matched = resampled["alignment"] / 4
        spread = sum((1 - _mean_cosine(z, own, counts)) / 2 for z, own in sides.values()) / 2
        resampled["relative_modality_gap"] = matched / (matched + spread)
    return resampled


def _mean_cosine(z: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(B,) weighted mean cosine of different items, without a matrix of cosines."""
    of_items = counts[:, group].astype(np.float64)
    whole = np.sum((of_items @ z) ** 2, axis=1) - np.sum(of_items**2, axis=1)
    return _without_copies(whole, z, group, counts, of_items, lambda cosines: cosines)


def _mean_over_different(z: np.ndarray, group: np.ndarray, counts: np.ndarray, kernel: Kernel) -> np.ndarray:
    """(B,) weighted mean of a function of the cosines of different items."""
    of_items = counts[:, group]
    z32, whole = z.astype(np.float32), np.zeros(len(counts))
    for rows, cosines in score_blocks(z32, z32):
        values = kernel(cosines)
        values[np.arange(len(values)), np.arange(rows.start, rows.stop)] = 0.0
        whole += np.einsum("rb,br->b", values @ of_items.T, of_items[:, rows], dtype=np.float64)
    return _without_copies(whole, z, group, counts, of_items.astype(np.float64), kernel)


def _without_copies(
    whole: np.ndarray, z: np.ndarray, group: np.ndarray, counts: np.ndarray, of_items: np.ndarray, kernel: Kernel
) -> np.ndarray:
    """Turn a weighted sum over i != j into a mean, without the pairs between copies of one group.

    A group drawn w times holds w times its inner pairs of items, not w^2 times.
    """
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=counts.shape[1])
    starts = np.cumsum(sizes) - sizes
    inner = np.zeros(counts.shape[1])
    for number in np.flatnonzero(sizes > 1):
        own = z[order[starts[number] : starts[number] + sizes[number]]]
        values = kernel(own @ own.T)
        inner[number] = values.sum() - np.trace(values)
    copies = counts.astype(np.float64) ** 2 - counts
    n_pairs = of_items.sum(axis=1) ** 2 - np.sum(of_items**2, axis=1) - copies @ (sizes * (sizes - 1.0))
    return (whole - copies @ inner) / n_pairs


def ranks_without(
    own: np.ndarray, others: np.ndarray, block: np.ndarray, other_block: np.ndarray, n_blocks: int
) -> tuple[np.ndarray, np.ndarray]:
    """`first_cross_modal_rank`, leaving out one block of groups at a time.

    One pass: without a block, a query's rank loses that block's items above the best item of the other
    modality; if the block holds this best item, the best of the other blocks replaces it. Ties count as
    lost.

    Args:
        own: (A, D) the queries, unit vectors.
        others: (B, D) the other modality.
        block: (A,) block of each query.
        other_block: (B,) block of each other item.
        n_blocks: K.

    Returns:
        (K,) places of the rank, from 0 (top) to 1 (after the query's own modality); (K,) shares.
    """
    n, own, others = len(own), own.astype(np.float32), others.astype(np.float32)
    member = (block[:, None] == np.arange(n_blocks)).astype(np.float32)
    rank_sum, hit_sum = np.zeros(n_blocks), np.zeros(n_blocks)
    for rows, cosines in score_blocks(own, np.concatenate([own, others])):
        line = np.arange(len(cosines))
        same, across = cosines[:, :n], cosines[:, n:].copy()
        same[line, np.arange(rows.start, rows.stop)] = -np.inf  # not its own neighbour
        best_block = other_block[across.argmax(axis=1)]
        best = across.max(axis=1, keepdims=True)
        across[other_block[None] == best_block[:, None]] = -np.inf
        ranks = _ranks_by_block(same > best, member)
        ranks[line, best_block] = _ranks_by_block(same > across.max(axis=1, keepdims=True), member)[line, best_block]
        present = block[rows, None] != np.arange(n_blocks)  # the query itself may be left out
        rank_sum += np.where(present, ranks, 0).sum(axis=0)
        hit_sum += ((ranks == 1) & present).sum(axis=0)
    left = n - member.sum(axis=0)
    return (rank_sum / left - 1) / np.maximum(left - 1, 1), hit_sum / left


def _ranks_by_block(greater: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(rows, K) rank of the best of the other modality when each block is left out."""
    counts = greater.astype(np.float32)
    return 1 + counts.sum(axis=1, keepdims=True) - counts @ member

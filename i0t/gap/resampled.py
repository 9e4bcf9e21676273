"""Measures of the gap on resampled groups of linked items: bootstrap and jackknife.

A naive bootstrap pairs each item with its own copies, at distance 0; a new sample would have no such pairs.
Here copies are never paired: a measure over different items is a weighted sum over different groups.

Shapes: N images x, M texts y, G groups, B resamples, K blocks, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from i0t.gap.unit_pairs import UnitPairs, squared_lengths
from i0t.metrics.ranking import score_blocks
from i0t.metrics.resampling import resampled_counts

Kernel = Callable[[np.ndarray], np.ndarray]
COUNTS = 2**22  # of a large set's groups, drawn at once


def bootstrap(items: UnitPairs, n_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """(B,) values of both uniformities and, with pairs, of alignment and relative modality gap."""
    drawn = items.sample
    counts = resampled_counts(drawn.n_groups, n_resamples, seed).astype(np.float32)
    resampled = {
        f"uniformity_{side}": np.log(_mean_over_different(z, own, counts, gaussian_kernel))
        for side, z, own in _sides(drawn)
    }
    if len(items.pairs):
        resampled |= _of_pairs(items, [counts] if drawn is items else _chunks(items.n_groups, n_resamples, seed))
    return resampled


def gaussian_kernel(cosines: np.ndarray) -> np.ndarray:
    """Overwrite cosines with exp(-2 ||z_i - z_j||^2) = exp(4 cos - 4) of unit vectors."""
    cosines *= 4
    cosines -= 4
    return np.exp(cosines, out=cosines)


def _sides(items: UnitPairs) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, vectors and groups of each modality."""
    n = len(items.x)
    return [("image", items.x, items.group[:n]), ("text", items.y, items.group[n:])]


def _chunks(n_groups: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield counts of some resamples at a time."""
    step = max(1, COUNTS // n_groups)
    for start in range(0, n_resamples, step):
        yield resampled_counts(n_groups, min(step, n_resamples - start), seed + start).astype(np.float32)


def _of_pairs(items: UnitPairs, chunks: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """(B,) alignment and relative modality gap, from chunks of counts."""
    apart, of_pair = squared_lengths(items), items.group[items.pairs[:, 0]]
    sides = [(z, own, _inner(z, own, items.n_groups, lambda cosines: cosines)) for _, z, own in _sides(items)]
    alignments, gaps = [], []
    for counts in chunks:
        of_pairs = counts[:, of_pair].astype(np.float64)
        alignments.append(of_pairs @ apart / of_pairs.sum(axis=1))
        matched = alignments[-1] / 4
        spread = sum((1 - _mean_cosine(z, own, counts, inner)) / 2 for z, own, inner in sides) / 2
        gaps.append(matched / (matched + spread))
    return {"alignment": np.concatenate(alignments), "relative_modality_gap": np.concatenate(gaps)}


def _mean_cosine(z: np.ndarray, group: np.ndarray, counts: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """(B,) weighted mean cosine of different items, without a matrix of cosines."""
    of_items = counts[:, group].astype(z.dtype, copy=False)  # float32 of a large set, without a copy of z
    whole = np.sum((of_items @ z).astype(np.float64, copy=False) ** 2, axis=1)
    return _without_copies(whole - np.sum(of_items**2, axis=1), group, counts, of_items, inner)


def _mean_over_different(z: np.ndarray, group: np.ndarray, counts: np.ndarray, kernel: Kernel) -> np.ndarray:
    """(B,) weighted mean of a function of the cosines of different items."""
    of_items = counts[:, group]
    z32, whole = z.astype(np.float32), np.zeros(len(counts))
    for rows, cosines in score_blocks(z32, z32):
        values = kernel(cosines)
        values[np.arange(len(values)), np.arange(rows.start, rows.stop)] = 0.0
        whole += np.einsum("rb,br->b", values @ of_items.T, of_items[:, rows], dtype=np.float64)
    inner = _inner(z, group, counts.shape[1], kernel)
    return _without_copies(whole, group, counts, of_items, inner)


def _inner(z: np.ndarray, group: np.ndarray, n_groups: int, kernel: Kernel) -> np.ndarray:
    """(G,) sum of a function of the cosines of different items of each group."""
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=n_groups)
    starts = np.cumsum(sizes) - sizes
    inner = np.zeros(n_groups)
    for number in np.flatnonzero(sizes > 1):
        own = z[order[starts[number] : starts[number] + sizes[number]]]
        values = kernel(own @ own.T)
        inner[number] = values.sum() - np.trace(values)
    return inner


def _without_copies(
    whole: np.ndarray, group: np.ndarray, counts: np.ndarray, of_items: np.ndarray, inner: np.ndarray
) -> np.ndarray:
    """Turn a weighted sum over i != j into a mean, without the pairs between copies of one group.

    A group drawn w times holds w times its inner pairs of items, not w^2 times.
    """
    sizes = np.bincount(group, minlength=counts.shape[1])
    squares = np.einsum("bn,bn->b", of_items, of_items, dtype=np.float64)
    n_pairs = of_items.sum(axis=1, dtype=np.float64) ** 2 - squares
    if sizes.max() > 1:
        copies = counts.astype(np.float64)
        copies *= copies - 1
        whole, n_pairs = whole - copies @ inner, n_pairs - copies @ (sizes * (sizes - 1.0))
    return whole / n_pairs


def mixed_scores(items: UnitPairs, queries: str) -> tuple[slice, slice, np.ndarray, Iterator[tuple[slice, np.ndarray]]]:
    """Search all items of both modalities with those of one, "image" or "text".

    Returns:
        Columns of the queries' modality, and of the other; (A,) rows of the queries within theirs; and their
        cosines with all items in blocks, as `score_blocks`.
    """
    own, others = (items.x, items.y) if queries == "image" else (items.y, items.x)
    asked, n = items.asked(own), len(items.x)
    if items.is_large:
        columns = (slice(0, n), slice(n, None))
        found = score_blocks(own[asked], items.both)
        return (*(columns if queries == "image" else columns[::-1]), asked, found)
    own = own.astype(np.float32)
    found = score_blocks(own, np.concatenate([own, others.astype(np.float32)]))
    return slice(0, len(own)), slice(len(own), None), asked, found


def ranks_without(items: UnitPairs, queries: str, block: np.ndarray, n_blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """`first_cross_modal_rank`, leaving out one block of groups at a time.

    One pass: without a block, a query's rank loses that block's items above the best item of the other
    modality; if the block holds this best item, the best of the other blocks replaces it. Ties count as
    lost.

    Args:
        items: images and texts.
        queries: modality of the queries, "image" or "text".
        block: (N + M,) block of each item, images first.
        n_blocks: K.

    Returns:
        (K,) places of the rank, from 0 (top) to 1 (after the query's own modality); (K,) shares.
    """
    own, others, asked, blocks = mixed_scores(items, queries)
    sides = np.split(block, [len(items.x)])
    own_block, other_block = sides if queries == "image" else sides[::-1]
    member = (own_block[:, None] == np.arange(n_blocks)).astype(np.float32)
    rank_sum, hit_sum = np.zeros(n_blocks), np.zeros(n_blocks)
    for rows, cosines in blocks:
        line = np.arange(len(cosines))
        same, across = cosines[:, own], cosines[:, others].copy()
        same[line, asked[rows]] = -np.inf  # not its own neighbour
        best_block = other_block[across.argmax(axis=1)]
        best = across.max(axis=1, keepdims=True)
        across[other_block[None] == best_block[:, None]] = -np.inf
        ranks = _ranks_by_block(same > best, member)
        ranks[line, best_block] = _ranks_by_block(same > across.max(axis=1, keepdims=True), member)[line, best_block]
        present = own_block[asked[rows], None] != np.arange(n_blocks)  # the query itself may be left out
        rank_sum += np.where(present, ranks, 0).sum(axis=0)
        hit_sum += ((ranks == 1) & present).sum(axis=0)
    left = len(own_block) - member.sum(axis=0)
    asked_left = len(asked) - member[asked].sum(axis=0)
    return (rank_sum / asked_left - 1) / np.maximum(left - 1, 1), hit_sum / asked_left


def _ranks_by_block(greater: np.ndarray, member: np.ndarray) -> np.ndarray:
    """(rows, K) rank of the best of the other modality when each block is left out."""
    counts = greater.astype(np.float32)
    return 1 + counts.sum(axis=1, keepdims=True) - counts @ member

"""Recall@K and ranks of image-text retrieval (paper App. D), with ties counted as chance.

Both directions need the same N x M scores. Each score is computed once, in tiles that fit in a core's cache, and
compared with the best right score of its row and of its column (greater, and equal). The right scores are therefore
computed first, from the tiles that have any; after sorting texts by image these are few.

Shapes: N images (columns), M texts (rows), Q vectors per image (BLIP-2 queries), D dimensions, P right pairs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import in_threads, to_numpy
from i0t.metrics.ranking import ScoringOrder, TiedRanks, unit_rows
from i0t.metrics.resampling import bootstrap_means, bootstrap_medians, percentile_interval

TILE_SCORES = 2**18  # 1 MiB of float32
LANE = 255  # largest count that a byte can hold


def retrieval_metrics(
    image_features: Any,
    text_features: Any,
    image_of_text: Any,
    ks: Sequence[int] = (1, 5, 10),
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """Recall@K in percent and ranks, image to text and text to image (paper App. D).

    Scores are cosines (the features are L2-normalised first), with the maximum over Q for (N, Q, D)
    images. An image query is a hit if ANY of its texts is in the top K (CLIP's recall, torchmetrics'
    hit rate); a text has one right image. Ties count with their expected hit.

    Args:
        image_features: (N, D) or (N, Q, D) array or tensor.
        text_features: (M, D) array or tensor.
        image_of_text: (M,) int, the row of each text's image; -1 for a text without an image, which is a
            candidate but not a query.
        ks: the values of K.
        bootstrap: resamples for 95 % intervals; images are drawn, each with all its texts.
        seed: of the resamples.

    Returns:
        `i2t_r{K}` and `t2i_r{K}` in percent for each K; `i2t_median_rank`, `i2t_mean_rank`,
        `t2i_median_rank`, `t2i_mean_rank` as ranks, where 1 is best. With `bootstrap`, each also has `..._low`
        and `..._high`, the percentile interval over resampled queries with all candidates.

    Raises:
        I0TError: shapes that do not fit, an image without any text, an index out of range, K < 1.

    Example:
        >>> scores = retrieval_metrics(np.eye(4), np.eye(4)[[1, 0, 2, 3]], [0, 1, 2, 3], ks=(1,))
        >>> scores["i2t_r1"], scores["i2t_mean_rank"]
        (50.0, 2.0)
    """
    images = unit_rows(image_features, "image_features")
    texts = unit_rows(text_features, "text_features", dim=images.shape[-1])
    owner = _checked_owner(image_of_text, len(images), len(texts))
    if any(k < 1 for k in ks):
        raise I0TError(f"ks: each K must be 1 or more, got {tuple(ks)}.")
    directions = dict(zip(("i2t", "t2i"), tied_ranks_both_directions(images, texts, owner)))
    groups = {"i2t": np.arange(len(images)), "t2i": owner[owner >= 0]}
    metrics: dict[str, float] = {}
    for direction, ranks in directions.items():
        values = {f"{direction}_r{k}": 100.0 * ranks.hit_probability(k) for k in ks}
        expected = ranks.expected()
        metrics |= {name: float(value.mean()) for name, value in values.items()}
        metrics[f"{direction}_median_rank"] = float(np.median(expected))
        metrics[f"{direction}_mean_rank"] = float(expected.mean())
        if bootstrap:
            values[f"{direction}_mean_rank"] = expected
            metrics |= _intervals(values, f"{direction}_median_rank", expected, groups[direction], bootstrap, seed)
    return metrics


def _intervals(
    values: dict[str, np.ndarray], median_name: str, ranks: np.ndarray, group: np.ndarray, resamples: int, seed: int
) -> dict[str, float]:
    """Compute `..._low` and `..._high` for the means of values and the median of the ranks."""
    means = bootstrap_means(np.stack(list(values.values()), axis=1), group, resamples, seed)
    medians = bootstrap_medians(ranks, group, resamples, seed)
    ends = percentile_interval(np.concatenate([means, medians[:, None]], axis=1))
    names = [*values, median_name]
    return {
        f"{name}_{end}": float(value) for end, found in zip(("low", "high"), ends) for name, value in zip(names, found)
    }


def _checked_owner(image_of_text: Any, n_images: int, n_texts: int) -> np.ndarray:
    owner = to_numpy(image_of_text)
    if owner.shape != (n_texts,) or not np.issubdtype(owner.dtype, np.integer):
        raise I0TError(
            f"image_of_text: expected {n_texts} integers, one for each text, got {owner.dtype} {owner.shape}."
        )
    if not -1 <= owner.min() <= owner.max() < n_images:
        raise I0TError(f"image_of_text: must lie in -1..{n_images - 1}, got {owner.min()}..{owner.max()}.")
    bare = np.setdiff1d(np.arange(n_images), owner)
    if len(bare):
        raise I0TError(
            f"image_of_text: image {bare[0]} has no text ({len(bare)} such images). Leave images without a text out."
        )
    return owner.astype(np.int64)


def tied_ranks_both_directions(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> tuple[TiedRanks, TiedRanks]:
    """Rank all texts for each image, and all images for each text with an image.

    Args:
        images: (N, D) or (N, Q, D) float32 unit vectors.
        texts: (M, D) or (M, Q, D) float32 unit vectors.
        owner: (M,) int, the image of each text, -1 for none; every image has a text.

    Returns:
        Ranks for N image queries, and for the P texts with an image, in their order. Memory: one tile per
        thread and a few numbers per item.
    """
    tiles = _Tiles(texts, images, owner)
    rows, columns = tiles.rows, tiles.columns
    queries = np.flatnonzero(owner >= 0)
    by_row = np.stack([rows.place[queries], columns.place[columns.first[owner[queries]]]])
    by_column = np.stack([rows.place[rows.first[queries]], columns.place[owner[queries]]])
    tiles.find(np.concatenate([by_row, by_column], axis=1))
    found_by_row, found_by_column = np.split(tiles.right_scores, 2)

    row_best = np.full(len(rows.order), np.inf, dtype=np.float32)  # texts without an image are no queries
    row_best[by_row[0]] = found_by_row
    column_best = np.full(len(columns.order), -np.inf, dtype=np.float32)
    np.maximum.at(column_best, by_column[1], found_by_column)
    of_rows, of_columns = tiles.count(row_best, column_best)
    hits = found_by_column == column_best[by_column[1]]
    right = np.bincount(owner[queries][hits], minlength=len(images))
    (greater, tied), ones = of_columns[:, columns.place], np.ones(len(queries), dtype=np.int64)
    return TiedRanks(greater, tied, right), TiedRanks(of_rows[0, by_row[0]], of_rows[1, by_row[0]], ones)


class _Tiles:
    """Compute scores tile by tile, in as many threads as BLAS may use."""

    def __init__(self, texts: np.ndarray, images: np.ndarray, owner: np.ndarray) -> None:
        self.texts, self.images = texts, images
        self.rows, self.columns = ScoringOrder.of(texts, owner), ScoringOrder.of(images)
        ratio = min(max(len(self.rows.order) / len(self.columns.order), 1.0), 16.0)
        self.row_blocks = self.rows.blocks(max(1, round((TILE_SCORES * ratio) ** 0.5)))
        self.column_blocks = self.columns.blocks(max(1, round((TILE_SCORES / ratio) ** 0.5)))

    def find(self, places: np.ndarray) -> None:
        """Compute the right scores, at (row, column) places (2, P'), and keep them by tile."""
        blocks = (self.row_blocks, self.column_blocks)
        starts = [np.array([block.start for block in side]) for side in blocks]
        block_of = [np.searchsorted(start, place, side="right") - 1 for start, place in zip(starts, places)]
        tile = block_of[0] * len(self.column_blocks) + block_of[1]
        by_tile = np.argsort(tile, kind="stable")
        numbers, first = np.unique(tile[by_tile], return_index=True)
        self.right_in = dict(zip(numbers.tolist(), np.split(by_tile, first[1:])))
        self.inside = np.stack([place - start[block] for place, start, block in zip(places, starts, block_of)])
        self.right_scores = np.empty(len(tile), dtype=np.float32)

        def work(number: int) -> None:
            row, column = divmod(number, len(self.column_blocks))
            scores = self._scores(self.rows.take(self.texts, self.row_blocks[row]), self.column_blocks[column])
            here = self.right_in[number]
            self.right_scores[here] = scores[tuple(self.inside[:, here])]

        in_threads(work, numbers.tolist())

    def count(self, row_best: np.ndarray, column_best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(2, rows) and (2, columns): counts of candidates (greater than, equal to) the best of each row and column."""
        of_rows = np.zeros((2, len(row_best)), dtype=np.int64)
        total, lock = np.zeros((2, len(column_best)), dtype=np.int64), threading.Lock()
        extra_columns = [self.columns.repeated(block) for block in self.column_blocks]

        def work(row: int) -> None:
            block = self.row_blocks[row]
            texts, extra_rows = self.rows.take(self.texts, block), self.rows.repeated(block)
            of_columns = np.zeros((2, len(column_best)), dtype=np.int64)
            for column, (column_block, extra) in enumerate(zip(self.column_blocks, extra_columns)):
                if extra is None and extra_rows is None:
                    continue  # copies with copies: no candidates
                scores = self._scores(texts, column_block)
                here = self.right_in.get(row * len(self.column_blocks) + column)
                if here is not None:  # the same bits, whatever BLAS computes
                    scores[tuple(self.inside[:, here])] = self.right_scores[here]
                marks = np.zeros((scores.shape[0], -(-scores.shape[1] // 8) * 8), dtype=bool)
                for way, compare in enumerate((np.greater, np.equal)):
                    if extra is not None:
                        compare(scores, row_best[block, None], out=marks[:, : scores.shape[1]])
                        if marks.any():  # equal ones are rare
                            of_rows[way, block] += _sum_rows(marks, extra)
                    if extra_rows is not None:
                        compare(scores, column_best[column_block], out=marks[:, : scores.shape[1]])
                        if marks.any():
                            of_columns[way, column_block] += _sum_columns(marks, extra_rows)[: scores.shape[1]]
            with lock:
                np.add(total, of_columns, out=total)

        in_threads(work, range(len(self.row_blocks)))
        return of_rows, total

    def _scores(self, texts: np.ndarray, column_block: slice) -> np.ndarray:
        """(rows, columns) inner products, maximised over an item's vectors."""
        images = self.columns.take(self.images, column_block)
        dim = texts.shape[-1]
        products = texts.reshape(-1, dim) @ images.reshape(-1, dim).T
        if texts.ndim == images.ndim == 2:
            return products
        return products.reshape(len(texts), -1, len(images), images.size // len(images) // dim).max(axis=(1, 3))


def _sum_rows(marks: np.ndarray, extra: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Count the true marks per row, with weights of repeated candidates; eight bytes at a time."""
    words = marks.view(np.uint64)
    total = np.zeros(len(marks), dtype=np.int64)
    for start in range(0, words.shape[1], LANE):
        lanes = np.add.reduce(words[:, start : start + LANE], axis=1)
        total += lanes.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)
    places, more = extra
    return total + (marks[:, places] @ more).astype(np.int64) if len(places) else total


def _sum_columns(marks: np.ndarray, extra: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Count per column, as `_sum_rows`."""
    total = np.zeros(marks.shape[1], dtype=np.int64)
    for start in range(0, len(marks), LANE):
        total += np.add.reduce(marks[start : start + LANE].view(np.uint8), axis=0, dtype=np.uint8)
    places, more = extra
    return total + (more @ marks[places]).astype(np.int64) if len(places) else total

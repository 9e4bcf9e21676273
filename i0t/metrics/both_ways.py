"""Ranks of image to text and of text to image from one pass over the scores.

Both directions read the same N x M scores, so each score is made once and compared four times: is it
greater than, or equal to, the best right score of its row and of its column. The right scores are
therefore made first, from those tiles that hold any; pairs lie along the diagonal once texts are sorted by
image, so these are few. A tile fits in a core's cache, and one thread a core makes and counts its own.

Shapes: N images (columns), M texts (rows), Q vectors an item (BLIP-2 queries), D dimensions, P pairs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from i0t.metrics.ranking import TiedRanks
from i0t.metrics.scoring_order import Block, Side
from i0t.parallel import in_threads

TILE_SCORES = 2**18  # 1 MiB of float32
LANE = 255  # marks that a byte can count


def tied_ranks_both_ways(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> tuple[TiedRanks, TiedRanks]:
    """Rank all texts for each image, and all images for each text that has one.

    Args:
        images: (N, D) or (N, Q, D) float32 unit vectors.
        texts: (M, D) or (M, Q, D) float32 unit vectors.
        owner: (M,) int, the image of each text, -1 for none; every image has a text.

    Returns:
        Ranks of N images, whose right candidates are all their texts, and of the P texts with an image, in
        the order of the texts. Memory is a tile a thread, and a few numbers an item.

    Example:
        >>> eye = np.eye(3, dtype=np.float32)
        >>> [ranks.expected().tolist() for ranks in tied_ranks_both_ways(eye, eye, np.array([0, 2, 1]))]
        [[1.0, 2.5, 2.5], [1.0, 2.5, 2.5]]
    """
    rows, columns = Side.of(texts, owner), Side.of(images, None)
    ratio = min(max(len(rows.order) / len(columns.order), 1.0), 16.0)
    row_blocks = rows.blocks(max(1, round((TILE_SCORES * ratio) ** 0.5)))
    column_blocks = columns.blocks(max(1, round((TILE_SCORES / ratio) ** 0.5)))
    asked = np.flatnonzero(owner >= 0)
    by_row = np.stack([rows.place[asked], columns.place[columns.first[owner[asked]]]])
    by_column = np.stack([rows.place[rows.first[asked]], columns.place[owner[asked]]])
    positives = _Positives(np.concatenate([by_row, by_column], axis=1), row_blocks, column_blocks)
    tiles = _Tiles(texts, images, rows, columns, positives)
    found_by_row, found_by_column = np.split(tiles.find(row_blocks, column_blocks), 2)

    row_best = np.full(len(rows.order), np.inf, dtype=np.float32)  # a text without image asks nothing
    row_best[by_row[0]] = found_by_row
    column_best = np.full(len(columns.order), -np.inf, dtype=np.float32)
    np.maximum.at(column_best, by_column[1], found_by_column)
    of_rows, of_columns = tiles.count(row_blocks, column_blocks, row_best, column_best)
    hits = found_by_column == column_best[by_column[1]]
    right = np.bincount(owner[asked][hits], minlength=len(images))
    return (
        TiedRanks(*of_columns[:, columns.place], right),
        TiedRanks(*of_rows[:, by_row[0]], np.ones(len(asked), dtype=np.int64)),
    )


class _Positives:
    """The right scores' places (row, column), grouped by tile."""

    def __init__(self, places: np.ndarray, row_blocks: list[Block], column_blocks: list[Block]) -> None:
        starts = [np.array([block.start for block in blocks]) for blocks in (row_blocks, column_blocks)]
        blocks = [np.searchsorted(start, place, side="right") - 1 for start, place in zip(starts, places)]
        tile = blocks[0] * len(column_blocks) + blocks[1]
        self.order = np.argsort(tile, kind="stable")
        self.inside = np.stack([place - start[block] for start, place, block in zip(starts, places, blocks)])
        self.inside = self.inside[:, self.order]
        self.values = np.empty(len(tile), dtype=np.float32)
        self.tiles, begins = np.unique(tile[self.order], return_index=True)
        self._n_columns = len(column_blocks)
        self._span = dict(zip(self.tiles.tolist(), zip(begins.tolist(), [*begins[1:].tolist(), len(tile)])))

    def of(self, row_block: Block, column_block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Places inside this tile, (2, p), and a view of their values."""
        span = slice(*self._span.get(row_block.number * self._n_columns + column_block.number, (0, 0)))
        return self.inside[:, span], self.values[span]


@dataclass(frozen=True)
class _Tiles:
    """Makes the scores tile by tile, in as many threads as BLAS would have used."""

    texts: np.ndarray
    images: np.ndarray
    rows: Side
    columns: Side
    positives: _Positives

    def find(self, row_blocks: list[Block], column_blocks: list[Block]) -> np.ndarray:
        """The right scores, in the order in which their places were given."""

        def work(number: int) -> None:
            row, column = divmod(number, len(column_blocks))
            row_block, column_block = row_blocks[row], column_blocks[column]
            inside, values = self.positives.of(row_block, column_block)
            values[:] = self._scores(self._take(self.texts, self.rows, row_block), column_block)[tuple(inside)]

        in_threads(work, self.positives.tiles.tolist())
        found = np.empty_like(self.positives.values)
        found[self.positives.order] = self.positives.values
        return found

    def count(
        self, row_blocks: list[Block], column_blocks: list[Block], row_best: np.ndarray, column_best: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How many candidates are (greater than, equal to) each row's and each column's best right score.

        Returns:
            (2, rows) and (2, columns) int64.
        """
        of_rows = np.zeros((2, len(row_best)), dtype=np.int64)
        total, lock = np.zeros((2, len(column_best)), dtype=np.int64), threading.Lock()
        extra_columns = [self.columns.repeated(block) if block.are_candidates else None for block in column_blocks]

        def work(row_block: Block) -> None:
            texts = self._take(self.texts, self.rows, row_block)
            of_columns = np.zeros((2, len(column_best)), dtype=np.int64)
            extra_rows = self.rows.repeated(row_block) if row_block.are_candidates else None
            for column_block, extra in zip(column_blocks, extra_columns):
                if extra is None and extra_rows is None:
                    continue  # copies with copies: no candidate
                scores = self._scores(texts, column_block)
                inside, values = self.positives.of(row_block, column_block)
                scores[tuple(inside)] = values  # the same bits, whatever BLAS may promise
                marks = np.zeros((scores.shape[0], -(-scores.shape[1] // 8) * 8), dtype=bool)
                for way, compare in enumerate((np.greater, np.equal)):
                    if extra is not None:
                        compare(scores, row_best[row_block.places, None], out=marks[:, : scores.shape[1]])
                        if marks.any():  # equal ones are rare
                            of_rows[way, row_block.places] += _sum_rows(marks, extra)
                    if extra_rows is not None:
                        compare(scores, column_best[column_block.places], out=marks[:, : scores.shape[1]])
                        if marks.any():
                            of_columns[way, column_block.places] += _sum_columns(marks, extra_rows)[: scores.shape[1]]
            with lock:
                np.add(total, of_columns, out=total)

        in_threads(work, row_blocks)
        return of_rows, total

    def _take(self, features: np.ndarray, side: Side, block: Block) -> np.ndarray:
        items = side.order[block.places]
        first, last = int(items[0]), int(items[-1])
        if last - first == len(items) - 1 and (np.diff(items) == 1).all():
            return features[first : last + 1]  # a view, where the order is that of the input
        return features[items]

    def _scores(self, texts: np.ndarray, column_block: Block) -> np.ndarray:
        """(rows, columns) inner products, the maximum over an item's vectors."""
        images = self._take(self.images, self.columns, column_block)
        dim = texts.shape[-1]
        products = texts.reshape(-1, dim) @ images.reshape(-1, dim).T
        if texts.ndim == images.ndim == 2:
            return products
        return products.reshape(len(texts), -1, len(images), images.size // len(images) // dim).max(axis=(1, 3))


def _sum_rows(marks: np.ndarray, extra: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """True marks of each row, candidates of several items counted so often; eight bytes at a time."""
    words = marks.view(np.uint64)
    total = np.zeros(len(marks), dtype=np.int64)
    for start in range(0, words.shape[1], LANE):
        lanes = np.add.reduce(words[:, start : start + LANE], axis=1)
        total += lanes.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)
    places, more = extra
    return total + (marks[:, places] @ more).astype(np.int64) if len(places) else total


def _sum_columns(marks: np.ndarray, extra: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The same of each column."""
    total = np.zeros(marks.shape[1], dtype=np.int64)
    for start in range(0, len(marks), LANE):
        total += np.add.reduce(marks[start : start + LANE].view(np.uint8), axis=0, dtype=np.uint8)
    places, more = extra
    return total + (more @ marks[places]).astype(np.int64) if len(places) else total

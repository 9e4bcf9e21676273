"""The order in which the items of one modality are scored: candidates first, in blocks, then mere copies of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from i0t.metrics.ranking import distinct_rows


@dataclass(frozen=True)
class Block:
    """Neighbouring rows or columns, all candidates or all mere copies of candidates.

    Example:
        >>> Block(number=1, start=4, stop=6, are_candidates=True).places
        slice(4, 6, None)
    """

    number: int
    start: int
    stop: int
    are_candidates: bool

    @property
    def places(self) -> slice:
        """Where its items stand in the order."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Side:
    """One modality in the order in which it is scored.

    Identical items are one candidate with a weight: BLAS does not promise them identical scores, which
    would break their ties. Each still asks its own question, so copies follow behind, as queries only.

    Attributes:
        first: (items,) the first item of those identical to each.
        order: the items in scoring order: first ones, then copies.
        place: (items,) where each item stands in that order, -1 where it is left out.
        n_candidates: how many of them are first ones.
        weights: (n_candidates,) how many items each candidate stands for.

    Example:
        >>> side = Side.of(np.float32([[1, 0], [0, 1], [1, 0]]), owner=None)  # the last is a copy of the first
        >>> side.order.tolist(), side.n_candidates, side.weights.tolist()
        ([0, 1, 2], 2, [2, 1])
    """

    first: np.ndarray
    order: np.ndarray
    place: np.ndarray
    n_candidates: int
    weights: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, owner: np.ndarray | None) -> Side:
        """Sorted by owner, if there is one; copies without an owner are neither candidates nor queries."""
        leaders, copy_of = distinct_rows(features)
        first = leaders[copy_of]
        ranked = np.arange(len(features)) if owner is None else np.argsort(owner, kind="stable")
        is_first = first[ranked] == ranked
        copies = ranked[~is_first]
        if owner is not None:
            copies = copies[owner[copies] >= 0]
        candidates = ranked[is_first]
        order = np.concatenate([candidates, copies])
        place = np.full(len(features), -1)
        place[order] = np.arange(len(order))
        weights = np.bincount(first, minlength=len(features))[candidates]
        return cls(first, order, place, len(candidates), weights)

    def blocks(self, step: int) -> list[Block]:
        """At most `step` neighbours each, never candidates and copies together."""
        starts = [*range(0, self.n_candidates, step), *range(self.n_candidates, len(self.order), step)]
        stops = [*starts[1:], len(self.order)]
        return [Block(i, *ends, ends[0] < self.n_candidates) for i, ends in enumerate(zip(starts, stops))]

    def repeated(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Places in the block of candidates that stand for several items, and for how many more."""
        extra = self.weights[block.places] - 1
        places = np.flatnonzero(extra)
        return places, extra[places].astype(np.float64)

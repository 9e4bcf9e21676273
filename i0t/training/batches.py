"""Batches of training pairs: images on disk with their captions, decoded and tokenised in workers.

A source yields one batch per step, from any step on. A batch is a function of seed and step only, for any number
of workers. `shard_batches` has another source.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from i0t.data.items import Preprocess, load_pixels
from i0t.data.sharegpt4v import LongCaptions, short_caption
from i0t.data.workers import ImagesInHand, end_workers, leave_signals_to_main
from i0t.errors import I0TError
from i0t.processes import from_main

SUBSTITUTES = 100  # pairs to try in place of an unreadable one; if all fail, something else is wrong
Pair = tuple[torch.Tensor | None, str, list[str]]  # (3, H, W) pixels (None: unreadable), caption, errors


@dataclass(frozen=True)
class ValidationPairs:
    """Images on disk and their long captions, row by row."""

    images: Sequence[Path]
    captions: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class BatchOptions:
    """Options of a source of batches."""

    preprocess: Preprocess  # of the encoder
    tokenize: Callable[[list[str]], torch.Tensor]  # of the encoder
    short_captions: bool  # whether the objective needs them, too
    batch_size: int  # pairs per step, over all processes
    first_step: int  # from 0
    total_steps: int
    seed: int  # of the order
    workers: int = 0  # decoding processes
    process: int = 0  # number of this process
    processes: int = 1  # each gets an equal part of every batch
    skip_unreadable: bool = False  # replace a pair with an unreadable image by the next pair
    in_hand: ImagesInHand = field(default_factory=lambda: ImagesInHand(0))  # names the image if a worker dies

    @property
    def own_batch(self) -> int:
        """Pairs per step of this process."""
        return self.batch_size // self.processes

    def loader(self, dataset: Dataset[Pair], **options: Any) -> DataLoader[Pair]:
        """Make a DataLoader that keeps a GPU busy: persistent workers, pinned memory, its own random state."""
        if self.workers:
            atexit.register(end_workers)
            options |= {"prefetch_factor": 4, "persistent_workers": True}
        return DataLoader(
            dataset,
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
            worker_init_fn=leave_signals_to_main,
            **options,
        )

    def collate(self, pairs: list[Pair]) -> dict[str, Any]:
        """Make {"pixels": (b, 3, H, W), "tokens": one (b, L) or two, "errors": messages, "lost": a pair is missing}."""
        lost = [messages for pixels, _, messages in pairs if pixels is None]
        if lost:  # other messages are of skipped images, not the reason why this pair is missing
            return {"errors": lost[0], "lost": True}
        captions = [caption for _, caption, _ in pairs]
        kinds = [captions] + ([[short_caption(caption) for caption in captions]] if self.short_captions else [])
        return {
            "pixels": torch.stack([pixels for pixels, _, _ in pairs if pixels is not None]),
            "tokens": tuple(self.tokenize(texts) for texts in kinds),
            "errors": [message for _, _, messages in pairs for message in messages],
            "lost": False,
        }


class PairSource(Protocol):
    """Training pairs; `len` is their number in an epoch."""

    @property
    def digest(self) -> str:
        """Identifies the pairs."""

    def __len__(self) -> int: ...

    def batches(self, options: BatchOptions) -> Iterator[dict[str, Any]]:
        """Yield the batches of this process; see `BatchOptions.collate`."""

    def check(self) -> None:
        """Check what was read so far, at every saved step; all processes call this.

        Raises:
            I0TError: the data are not what their description says.
        """


class DiskPairs:
    """A `PairSource`: images on disk with their long captions."""

    def __init__(self, pairs: LongCaptions) -> None:
        self.pairs = pairs

    @cached_property
    def digest(self) -> str:
        """Identifies the pairs; all processes must call this.

        The main process decides, as a copy on another machine may have other times of change.
        """
        return from_main(self.pairs.digest)

    def __len__(self) -> int:
        return len(self.pairs)

    def batches(self, options: BatchOptions) -> Iterator[dict[str, Any]]:
        """Yield batches: a new permutation per epoch, without its last, smaller batch."""
        dataset = _PairDataset(self.pairs, options)
        return iter(options.loader(dataset, batch_sampler=ResumableBatchSampler(len(self), options)))

    def check(self) -> None:
        """Nothing is left to check: the index knows its pairs."""


class ResumableBatchSampler(Sampler[list[int]]):
    """Rows of this process's part of every batch, from `options.first_step` on."""

    def __init__(self, count: int, options: BatchOptions) -> None:
        self.count, self.options = count, options

    def __len__(self) -> int:
        return self.options.total_steps - self.options.first_step

    def __iter__(self) -> Iterator[list[int]]:
        options, per_epoch = self.options, self.count // self.options.batch_size
        epoch, order = -1, np.empty(0, dtype=int)
        for step in range(options.first_step, options.total_steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.default_rng([options.seed, epoch]).permutation(self.count)
            start = step % per_epoch * options.batch_size + options.process * options.own_batch
            yield order[start : start + options.own_batch].tolist()


class _PairDataset(Dataset[Pair]):
    """Images with their captions by row.

    Errors are returned, because an exception in a worker would reach the user as a traceback.
    """

    def __init__(self, pairs: LongCaptions, options: BatchOptions) -> None:
        self.pairs, self.preprocess, self.in_hand = pairs, options.preprocess, options.in_hand
        self.substitute = options.skip_unreadable

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        """The pair of a row; with `substitute`, the next readable pair."""
        errors: list[str] = []
        for offset in range(SUBSTITUTES if self.substitute else 1):
            row = (index + offset) % len(self)
            image = self.pairs.images[row]
            self.in_hand.note(str(image))
            try:
                return load_pixels(image, self.preprocess, upright=True), self.pairs.captions[row], errors
            except I0TError as error:
                errors.append(str(error))
        return None, "", errors


def readable(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield batches as long as they are complete.

    Raises:
        I0TError: an image could not be read.
    """
    try:
        for batch in batches:
            if batch["lost"]:
                raise I0TError(batch["errors"][0])
            yield batch
    finally:
        del batches  # ends its workers now: the error keeps this frame alive, and the exit would wait for them forever

"""Batches of training pairs: pictures on disk with their captions, decoded and tokenised in workers.

A source gives, for a run of so many steps, one batch after another from any step on; what it gives
is a function of seed and step alone, whatever the number of workers. `shard_batches` has the other source.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from i0t.data.items import Preprocess, open_image
from i0t.data.sharegpt4v import LongCaptions, short_caption
from i0t.errors import I0TError

SUBSTITUTES = 100  # pairs tried in place of an unreadable one; more in a row means something else is wrong
Pair = tuple[torch.Tensor | None, str, list[str]]  # (3, H, W) pixels (None: unreadable), caption, errors


@dataclass(frozen=True)
class ValidationPairs:
    """Pictures on disk and their long captions, row by row."""

    images: Sequence[Path]
    captions: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class BatchOptions:
    """What a source needs to know of the run."""

    preprocess: Preprocess  # the encoder's own transform
    tokenize: Callable[[list[str]], torch.Tensor]  # the encoder's
    short_captions: bool  # whether the objective needs those, too
    batch_size: int  # pairs a step, over all processes
    first_step: int  # to begin at, from 0
    total_steps: int
    seed: int  # of the order
    workers: int = 0  # decoding processes
    process: int = 0  # number of this process
    processes: int = 1  # each gets an equal part of every batch
    skip_unreadable: bool = False  # put the next pair in the place of one whose picture cannot be read

    @property
    def own_batch(self) -> int:
        """Pairs of this process a step."""
        return self.batch_size // self.processes

    def loader(self, dataset: Dataset[Pair], **options: Any) -> DataLoader[Pair]:
        """A DataLoader that keeps a GPU busy: persistent workers, pinned memory, its own random state."""
        if self.workers:
            atexit.register(_end_workers)
            options |= {"prefetch_factor": 4, "persistent_workers": True}
        return DataLoader(
            dataset,
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
            worker_init_fn=_outlive_sigterm,
            **options,
        )

    def collate(self, pairs: list[Pair]) -> dict[str, Any]:
        """{"pixels": (b, 3, H, W), "tokens": one (b, L) or two, "errors": messages, "lost": a place is empty}."""
        lost = [messages for pixels, _, messages in pairs if pixels is None]
        if lost:  # the messages of other places are of what was left out as asked, and would hide why this one is empty
            return {"errors": lost[0], "lost": True}
        captions = [caption for _, caption, _ in pairs]
        kinds = [captions] + ([[short_caption(caption) for caption in captions]] if self.short_captions else [])
        return {
            "pixels": torch.stack([pixels for pixels, _, _ in pairs if pixels is not None]),
            "tokens": tuple(self.tokenize(texts) for texts in kinds),
            "errors": [message for _, _, messages in pairs for message in messages],
            "lost": False,
        }


def _end_workers() -> None:
    """A program that fails while its loader lives would wait for ever: its workers ignore what Python sends them."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _outlive_sigterm(_: int) -> None:
    """A cluster may send SIGTERM to workers, too, which the training process still needs for its last step."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class PairSource(Protocol):
    """Training pairs; `len` is their number in an epoch."""

    digest: str  # which pairs these are

    def __len__(self) -> int: ...

    def batches(self, options: BatchOptions) -> Iterator[dict[str, Any]]:
        """Batches of this process: see `BatchOptions.collate`."""


class DiskPairs:
    """Pictures on disk with their long captions, a `PairSource`."""

    def __init__(self, pairs: LongCaptions) -> None:
        self.pairs, self.digest = pairs, pairs.digest

    def __len__(self) -> int:
        return len(self.pairs)

    def batches(self, options: BatchOptions) -> Iterator[dict[str, Any]]:
        """Every epoch a new permutation; its last, smaller batch is left out."""
        dataset = _PairDataset(self.pairs, options.preprocess, options.skip_unreadable)
        return iter(options.loader(dataset, batch_sampler=ResumableBatchSampler(len(self), options)))


class ResumableBatchSampler(Sampler[list[int]]):
    """Row numbers of this process's part of every batch from `options.first_step` on."""

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
    """Pictures with their captions by row.

    Errors travel as values because an exception raised in a worker reaches the user as a traceback.
    """

    def __init__(self, pairs: LongCaptions, preprocess: Preprocess, substitute: bool) -> None:
        self.pairs, self.preprocess, self.substitute = pairs, preprocess, substitute

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        """The pair of a row; with `substitute`, of the next one that can be read."""
        errors: list[str] = []
        for offset in range(SUBSTITUTES if self.substitute else 1):
            row = (index + offset) % len(self)
            try:
                return self.preprocess(open_image(self.pairs.images[row])), self.pairs.captions[row], errors
            except I0TError as error:
                errors.append(str(error))
        return None, "", errors


def readable(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches, as long as every place in them is filled.

    Raises:
        I0TError: a picture could not be read.
    """
    try:
        for batch in batches:
            if batch["lost"]:
                raise I0TError(batch["errors"][0])
            yield batch
    finally:
        del batches  # ends its workers here: the error keeps this frame, and an exit would wait for them without end

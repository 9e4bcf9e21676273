"""Where training pairs come from: ShareGPT4V's pictures on disk, decoded and tokenised in workers.

A source gives, for a run of so many steps, one batch after another from any step on; what it gives
is a function of seed and step alone, whatever the number of workers. `shard_pairs` has the other one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from i0t.data.images import Preprocess, open_image
from i0t.data.sharegpt4v import LongCaptions, short_caption
from i0t.errors import I0TError

Tokenize = Callable[[list[str]], torch.Tensor]
SUBSTITUTES = 100  # pairs tried in place of an unreadable one; more in a row means something else is wrong


@dataclass(frozen=True)
class Feed:
    """What a source needs to know of the run.

    Attributes:
        preprocess: the encoder's own transform.
        tokenize: the encoder's tokenizer.
        short_captions: whether the objective needs those, too.
        batch_size: pairs a step, over all processes.
        first_step: the step to begin at, from 0.
        total_steps: of the run.
        seed: of the order.
        workers: decoding processes.
        process: number of this process.
        processes: how many there are; each gets an equal part of every batch.
        skip_unreadable: put the next pair in the place of one whose picture cannot be read.

    Example:
        >>> Feed(None, None, False, batch_size=8, first_step=0, total_steps=3, seed=0, processes=2).own_batch
        4
    """

    preprocess: Preprocess
    tokenize: Tokenize
    short_captions: bool
    batch_size: int
    first_step: int
    total_steps: int
    seed: int
    workers: int = 0
    process: int = 0
    processes: int = 1
    skip_unreadable: bool = False

    @property
    def own_batch(self) -> int:
        """Pairs of this process a step."""
        return self.batch_size // self.processes

    def loader(self, dataset: Dataset, **options: Any) -> DataLoader:
        """A DataLoader that keeps a GPU busy: persistent workers, pinned memory, its own random state."""
        if self.workers:
            atexit.register(_end_workers)
        return DataLoader(
            dataset,
            num_workers=self.workers,
            collate_fn=Collate(self.tokenize, self.short_captions),
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
            worker_init_fn=_outlive_sigterm,
            **({"prefetch_factor": 4, "persistent_workers": True} if self.workers else {}),
            **options,
        )


def _end_workers() -> None:
    """A program that fails while its loader lives would wait for ever: its workers ignore what Python sends them."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _outlive_sigterm(_: int) -> None:
    """A cluster may send SIGTERM to workers, too, which the training process still needs for its last step."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Source(Protocol):
    """Training pairs."""

    digest: str  # which pairs these are

    def __len__(self) -> int:
        """Number of pairs of an epoch."""

    def batches(self, feed: Feed) -> Iterator[dict[str, Any]]:
        """Batches of this process: see `Collate`.

        Raises:
            I0TError: while iterating, an unreadable picture (unless skipped).
        """


@dataclass(frozen=True)
class DiskPairs:
    """Pictures on disk with their long captions, a `Source`."""

    pairs: LongCaptions

    @property
    def digest(self) -> str:
        """Of the JSON's content and the chosen part of it."""
        return self.pairs.digest

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def batches(self, feed: Feed) -> Iterator[dict[str, Any]]:
        """Every epoch a new permutation; its last, smaller batch is left out."""
        dataset = PairDataset(self.pairs, feed.preprocess, feed.skip_unreadable)
        return iter(feed.loader(dataset, batch_sampler=BatchPlan(len(self), feed)))


class BatchPlan(Sampler[list[int]]):
    """Row numbers of this process's part of every batch from `feed.first_step` on.

    Example:
        >>> feed = Feed(None, None, False, batch_size=2, first_step=0, total_steps=3, seed=0)
        >>> plan = list(BatchPlan(4, feed))
        >>> sorted(plan[0] + plan[1])
        [0, 1, 2, 3]
    """

    def __init__(self, count: int, feed: Feed) -> None:
        self.count, self.feed = count, feed

    def __len__(self) -> int:
        """Batches that are left."""
        return self.feed.total_steps - self.feed.first_step

    def __iter__(self) -> Iterator[list[int]]:
        """Lists of row numbers."""
        feed, per_epoch = self.feed, self.count // self.feed.batch_size
        epoch, order = -1, np.empty(0)
        for step in range(feed.first_step, feed.total_steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.default_rng([feed.seed, epoch]).permutation(self.count)
            start = step % per_epoch * feed.batch_size + feed.process * feed.own_batch
            yield order[start : start + feed.own_batch].tolist()


class PairDataset(Dataset):
    """Pictures with their captions by row.

    Errors travel as values because an exception raised in a worker reaches the user as a traceback.
    """

    def __init__(self, pairs: LongCaptions, preprocess: Preprocess, substitute: bool = False) -> None:
        self.pairs, self.preprocess, self.substitute = pairs, preprocess, substitute

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor | None, str, list[str]]:
        """((3, H, W) pixels, caption, errors); with `substitute`, of the next pair that can be read."""
        errors: list[str] = []
        for offset in range(SUBSTITUTES if self.substitute else 1):
            row = (index + offset) % len(self)
            try:
                return self.preprocess(open_image(self.pairs.images[row])), self.pairs.captions[row], errors
            except I0TError as error:
                errors.append(str(error))
        return None, "", errors


class Collate:
    """Stack pixels and tokenise captions.

    Example:
        >>> collate = Collate(lambda texts: torch.tensor([[len(text)] for text in texts]), short_captions=True)
        >>> batch = collate([(torch.zeros(3, 2, 2), "A dog. It runs.", [])])
        >>> batch["pixels"].shape, batch["tokens"]
        (torch.Size([1, 3, 2, 2]), (tensor([[15]]), tensor([[5]])))
    """

    def __init__(self, tokenize: Tokenize, short_captions: bool = False) -> None:
        self.tokenize, self.short_captions = tokenize, short_captions

    def __call__(self, items: list[tuple[torch.Tensor | None, str, list[str]]]) -> dict[str, Any]:
        """{"pixels": (b, 3, H, W), "tokens": one (b, L) or two, "errors": messages, "lost": a place is empty}."""
        lost = [messages for pixels, _, messages in items if pixels is None]
        if lost:  # the messages of other places are of what was left out as asked, and would hide why this one is empty
            return {"errors": lost[0], "lost": True}
        errors = [message for _, _, messages in items for message in messages]
        captions = [caption for _, caption, _ in items]
        kinds = [captions] + ([[short_caption(caption) for caption in captions]] if self.short_captions else [])
        return {
            "pixels": torch.stack([pixels for pixels, _, _ in items]),
            "tokens": tuple(self.tokenize(texts) for texts in kinds),
            "errors": errors,
            "lost": False,
        }


def readable(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches, as long as every place in them is filled.

    Raises:
        I0TError: a picture could not be read.

    Example:
        >>> batches = readable(iter([{"lost": False}, {"lost": True, "errors": ["a.jpg: no such picture"]}]))
        >>> next(batches)
        {'lost': False}
        >>> next(batches)
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: a.jpg: no such picture
    """
    try:
        for batch in batches:
            if batch["lost"]:
                raise I0TError(batch["errors"][0])
            yield batch
    finally:
        del batches  # ends its workers here: the error keeps this frame, and an exit would wait for them without end

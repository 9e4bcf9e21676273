"""Batches of training pairs from WebDataset shards, for images in object storage.

Each sample is an image (jpg, jpeg, png or webp) and a `txt` with its long caption. The first shard is for
validation. webdataset shuffles the samples. The seed decides which shards a worker reads in an epoch,
and in which order, so the same seed, processes and workers give the same batches. A resumed run reads past
earlier samples without decoding them.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from torch.utils.data import IterableDataset, get_worker_info

from i0t.data.items import load_pixels
from i0t.data.sharegpt4v import VALIDATION_RECORDS
from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.processes import from_main, gather
from i0t.training.batches import SUBSTITUTES, BatchOptions, Pair, ValidationPairs
from i0t.training.shards import image_and_caption, place_of, samples, shard_state, shard_urls

BUFFER = 2_000  # samples in the shuffle buffer; a shard usually has ten thousand
LONGEST_KEY = 40  # characters of a key in the name of an unpacked image, which must stay below 256 bytes


class ShardPairs:
    """Training pairs in shards, a `PairSource`.

    Args:
        shards: a path, URL or `pipe:` command with `{00000..00117}` for the numbers.
        pairs: number of pairs in the training shards (all but the first), the length of an epoch.

    Raises:
        I0TError: fewer than two shards, or one is listed twice: it would be validation and training, or count double.
    """

    def __init__(self, shards: str, pairs: int) -> None:
        urls = shard_urls(shards)
        if len(urls) < 2:
            raise I0TError(f"shards={shards}: {len(urls)} shard; the first is for validation, so two are needed.")
        if twice := [url for url, times in Counter(urls).items() if times > 1]:
            raise I0TError(f"shards={shards}: {twice[0]} is listed {urls.count(twice[0])} times. List it once.")
        self.first, self.urls, self.pairs = urls[0], urls[1:], pairs
        self._read = torch.zeros(1, 2, dtype=torch.int64)  # shards and pairs that each worker read in the first pass

    def __len__(self) -> int:
        return self.pairs

    @cached_property
    def digest(self) -> str:
        """Identifies the shards: their names, and of local files size and time of change; all processes must call this.

        The main process decides, as a copy on another machine may have another time.
        """
        states = [f"{url}\0{shard_state(url)}" for url in (self.first, *self.urls)]
        return from_main(hashlib.sha256("\0".join([*states, str(self.pairs)]).encode()).hexdigest())

    def check(self) -> None:
        """Compare the pairs read in the first pass with `pairs`; all processes must call this.

        Raises:
            I0TError: there are fewer (after the pass), or more.
        """
        shards, pairs = (sum(column) for column in zip(*gather([self._read.sum(0).tolist()]), strict=True))
        whole = shards == len(self.urls)
        if pairs > self.pairs or (whole and pairs < self.pairs):
            raise I0TError(
                f"shard_pairs={self.pairs}, but the training shards {self.urls[0]}, ... hold {pairs} pairs"
                f"{'' if whole else ' or more'}. Set shard_pairs to their number, or correct shards=."
            )

    def batches(self, options: BatchOptions) -> Iterator[dict[str, Any]]:
        """Batches of this process from `options.first_step` on."""
        workers = max(1, options.workers)
        if len(self.urls) < options.processes * workers:
            raise I0TError(
                f"{len(self.urls)} training shards are fewer than {options.processes} processes x {workers} workers: "
                f"each streams its own. Use --workers {max(1, len(self.urls) // options.processes)}, or more shards."
            )
        # The loader takes batches from the workers in turn: each has given this many complete rounds ...
        rounds, rest = divmod(options.first_step, workers)
        self._read = torch.zeros(workers, 2, dtype=torch.int64).share_memory_()
        stream = _ShardStream(self.urls, options, rounds * options.own_batch, self._read)
        loader = options.loader(stream, batch_size=options.own_batch, drop_last=True)
        return islice(
            iter(loader), rest, options.total_steps - options.first_step + rest
        )  # ... and some workers one batch more

    def validation(self, folder: Path) -> ValidationPairs:
        """Return the first pairs of the first shard, with images unpacked below `folder`.

        Their names have a digest of their content, so that images of another shard, and of equal keys, are kept apart.

        Raises:
            I0TError: the shard cannot be read, or a sample has no image or caption.
        """
        images, captions = [], []
        for sample in islice(samples(self.first), VALIDATION_RECORDS):
            suffix, caption = image_and_caption(sample)
            digest = hashlib.sha256(sample[suffix]).hexdigest()[:16]
            path = folder / f"{sample['__key__'].replace('/', '_')[-LONGEST_KEY:]}-{digest}.{suffix}"
            if not path.is_file() or path.read_bytes() != sample[suffix]:
                with atomic_path(path, sync=False) as temporary:
                    temporary.write_bytes(sample[suffix])
            images.append(path)
            captions.append(caption)
        if not images:
            raise I0TError(f"{self.first}: an empty shard; validation needs some pairs.")
        return ValidationPairs(images, captions)


class _ShardStream(IterableDataset[Pair]):
    """Decoded samples of one worker's shards, epoch after epoch, without the first `skipped`.

    Errors are returned, because an exception in a worker would reach the user as a traceback.
    """

    def __init__(self, urls: list[str], options: BatchOptions, skipped: int, read: torch.Tensor) -> None:
        self.urls, self.options, self.skipped, self.read = urls, options, skipped, read

    def __iter__(self) -> Iterator[Pair]:
        try:
            yield from self._decoded()
        except I0TError as error:  # of a whole shard; no flag skips it, as the epoch would be too short
            while True:  # repeated, as the loader drops a last batch that is not full
                yield None, "", [str(error)]

    def _decoded(self) -> Iterator[Pair]:
        errors: list[str] = []
        for sample in islice(self._mixed(), self.skipped, None):
            try:
                suffix, caption = image_and_caption(sample)
                yield self._pixels(sample, suffix), caption, errors
                errors = []
            except I0TError as error:
                if not self.options.skip_unreadable:
                    yield None, "", [f"{error} Or go on without such samples: --skip-unreadable."]
                    continue
                errors.append(str(error))
                if len(errors) == SUBSTITUTES:
                    raise I0TError(f"{SUBSTITUTES} samples in a row cannot be read. The last one: {error}") from None

    def _mixed(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        number, workers = (0, 1) if info is None else (info.id, info.num_workers)
        stream, streams = self.options.process * workers + number, self.options.processes * workers
        for epoch in count():
            order = np.random.default_rng([self.options.seed, epoch]).permutation(len(self.urls))
            own = [self.urls[shard] for shard in order[stream::streams]]
            mixing = random.Random(f"{self.options.seed}-{epoch}-{stream}")
            empty = True
            found = self._counted(own, number) if epoch == 0 else _all_samples(own)
            for sample in webdataset.filters.shuffle(BUFFER, initial=BUFFER, rng=mixing)(found):
                empty = False
                yield sample
            if empty:
                raise I0TError(f"{', '.join(own[:3])}, ...: no sample in {len(own)} shards. Correct shards=.")

    def _counted(self, urls: list[str], worker: int) -> Iterator[dict[str, Any]]:
        for url in urls:
            for sample in samples(url):
                self.read[worker, 1] += 1
                yield sample
            self.read[worker, 0] += 1

    def _pixels(self, sample: dict[str, Any], suffix: str) -> Any:
        self.options.in_hand.note(place_of(sample))
        try:
            return load_pixels(io.BytesIO(sample[suffix]), self.options.preprocess, upright=True)
        except I0TError:
            raise I0TError(f"{place_of(sample)}: unreadable image. Replace it.") from None


def _all_samples(urls: list[str]) -> Iterator[dict[str, Any]]:
    for url in urls:
        yield from samples(url)

"""Batches of training pairs from WebDataset shards, for images in object storage.

Each sample is an image (jpg, jpeg, png or webp) and a `txt` with its long caption. The first shard is for
validation. webdataset reads and shuffles the samples. The seed decides which shards a worker reads in an epoch,
and in which order, so the same seed, processes and workers give the same batches. A resumed run reads past
earlier samples without decoding them.
"""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from torch.utils.data import IterableDataset, get_worker_info

from i0t.data.items import load_pixels
from i0t.data.sharegpt4v import VALIDATION_RECORDS
from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.training.batches import SUBSTITUTES, BatchOptions, Pair, ValidationPairs

PICTURES = ("jpg", "jpeg", "png", "webp")
BUFFER = 2_000  # samples in the shuffle buffer; a shard usually has ten thousand


class ShardPairs:
    """Training pairs in shards, a `PairSource`.

    Args:
        shards: a path, URL or `pipe:` command with `{00000..00117}` for the numbers.
        pairs: number of pairs in the training shards (all but the first), the length of an epoch.

    Raises:
        I0TError: fewer than two shards.
    """

    def __init__(self, shards: str, pairs: int) -> None:
        urls = list(webdataset.SimpleShardList(shards).urls)
        if len(urls) < 2:
            raise I0TError(f"shards={shards}: {len(urls)} shard; the first is for validation, so two are needed.")
        self.first, self.urls, self.pairs = urls[0], urls[1:], pairs
        self.digest = hashlib.sha256("\0".join([*urls, str(pairs)]).encode()).hexdigest()

    def __len__(self) -> int:
        return self.pairs

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
        stream = _ShardStream(self.urls, options, skipped=rounds * options.own_batch)
        loader = options.loader(stream, batch_size=options.own_batch, drop_last=True)
        return islice(
            iter(loader), rest, options.total_steps - options.first_step + rest
        )  # ... and some workers one batch more

    def validation(self, folder: Path) -> ValidationPairs:
        """Return the first pairs of the first shard, with images unpacked below `folder`.

        Raises:
            I0TError: the shard cannot be read, or a sample has no image or caption.
        """
        images, captions = [], []
        for sample in islice(_samples([self.first]), VALIDATION_RECORDS):
            suffix, caption = _parts(sample)
            path = folder / f"{sample['__key__'].replace('/', '_')}.{suffix}"
            if not path.is_file():
                with atomic_path(path) as temporary:
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

    def __init__(self, urls: list[str], options: BatchOptions, skipped: int) -> None:
        self.urls, self.options, self.skipped = urls, options, skipped

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
                suffix, caption = _parts(sample)
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
            for sample in webdataset.filters.shuffle(BUFFER, initial=BUFFER, rng=mixing)(_samples(own)):
                empty = False
                yield sample
            if empty:
                raise I0TError(f"{', '.join(own[:3])}, ...: no sample in {len(own)} shards. Correct shards=.")

    def _pixels(self, sample: dict[str, Any], suffix: str) -> Any:
        try:
            return load_pixels(io.BytesIO(sample[suffix]), self.options.preprocess)
        except I0TError:
            raise I0TError(f"{_place(sample)}: unreadable image. Replace it.") from None


def _samples(urls: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the samples of one shard after another."""
    for url in urls:
        try:
            yield from webdataset.DataPipeline(webdataset.SimpleShardList([url]), webdataset.tarfile_to_samples())
        except (OSError, ValueError, EOFError, tarfile.TarError) as error:
            raise I0TError(
                f"{url}: the shard cannot be read ({_reason(error)}). Make or copy it again, or correct shards=."
            ) from None


def _reason(error: Exception) -> str:
    """One line with the fault of a shard, without the objects that webdataset adds to the message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error.args[0] if error.args else type(error).__name__)
    return text.partition("\n")[0].partition(" @ <")[0]


def _parts(sample: dict[str, Any]) -> tuple[str, str]:
    """(suffix of the image, caption) of a sample."""
    suffix = next((suffix for suffix in PICTURES if suffix in sample), None)
    if suffix is None or "txt" not in sample:
        found = ", ".join(key for key in sample if not key.startswith("__"))
        raise I0TError(f"{_place(sample)}: needs an image ({', '.join(PICTURES)}) and a txt, has {found}.")
    try:
        caption = sample["txt"].decode("utf-8-sig").replace("\n", " ")
    except UnicodeDecodeError as error:
        raise I0TError(
            f"{_place(sample)}: its txt is not UTF-8 ({error.reason} at byte {error.start}). Write it as UTF-8."
        ) from None
    if not caption.strip():
        raise I0TError(f"{_place(sample)}: its txt is empty. Write a caption, or leave the sample out.")
    return suffix, caption


def _place(sample: dict[str, Any]) -> str:
    return f"{sample['__url__']}: sample {sample['__key__']}"

"""Batches of (pixels, tokens) for training, decoded and tokenised in workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from i0t.data.images import Preprocess, open_image
from i0t.data.sharegpt4v import LongCaptions
from i0t.errors import I0TError


class PairDataset(Dataset):
    """Pictures with their captions; an unreadable picture comes back as its error message."""

    def __init__(self, pairs: LongCaptions, preprocess: Preprocess) -> None:
        self.pairs, self.preprocess = pairs, preprocess

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor | str, str]:
        """((3, H, W) pixels or an error message, caption)."""
        try:
            return self.preprocess(open_image(self.pairs.images[index])), self.pairs.captions[index]
        except I0TError as error:
            return str(error), self.pairs.captions[index]


class PairCollate:
    """Stack pixels and tokenise captions; what could not be read is left out and reported."""

    def __init__(self, tokenize: Callable[[list[str]], torch.Tensor]) -> None:
        self.tokenize = tokenize

    def __call__(self, items: list[tuple[torch.Tensor | str, str]]) -> dict[str, Any]:
        """{"pixels": (B, 3, H, W), "tokens": (B, L), "errors": messages}."""
        read = [(pixels, caption) for pixels, caption in items if not isinstance(pixels, str)]
        return {
            "pixels": torch.stack([pixels for pixels, _ in read]) if read else torch.empty(0),
            "tokens": self.tokenize([caption for _, caption in read]) if read else torch.empty(0),
            "errors": [pixels for pixels, _ in items if isinstance(pixels, str)],
        }


def training_batches(
    pairs: LongCaptions,
    preprocess: Preprocess,
    tokenize: Callable[[list[str]], torch.Tensor],
    batch_size: int,
    workers: int,
    seed: int,
    skip_unreadable: bool = False,
) -> tuple[int, Iterator[dict[str, Any]]]:
    """Endless shuffled batches, the same for the same seed whatever the number of workers.

    Returns:
        Batches an epoch, and the iterator. The last, smaller batch of an epoch is left out.

    Raises:
        I0TError: fewer pairs than a batch; while iterating, an unreadable picture (unless skipped).
    """
    if len(pairs) < batch_size:
        raise I0TError(
            f"{pairs.source}: {len(pairs)} training pairs are fewer than a batch of {batch_size}. "
            f"Use batch_size={max(2, len(pairs) // 2)} or more data."
        )
    loader = DataLoader(
        PairDataset(pairs, preprocess),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=PairCollate(tokenize),
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )
    return len(loader), _endless(loader, skip_unreadable)


def _endless(loader: DataLoader, skip_unreadable: bool) -> Iterator[dict[str, Any]]:
    while True:
        for batch in loader:
            if batch["errors"] and not skip_unreadable:
                raise I0TError(batch["errors"][0])
            if len(batch["pixels"]) >= 2:
                yield batch

"""Models as `Encoder`s, and the one way from images and texts to features (`i0t.encoders.encode`)."""

from __future__ import annotations

from dataclasses import dataclass

from i0t.encoders.load import load_encoder

__all__ = ["AUTO", "PRECISIONS", "EncodeOptions", "load_encoder"]

AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class EncodeOptions:
    """How to encode; importing it does not import torch.

    Attributes:
        batch_size: items per forward pass.
        workers: processes that decode images and tokenise many texts (0: this one).
        precision: of the forward passes: "fp32", "bf16", "fp16", or "auto" (half precision on CUDA, else fp32).
        skip_unreadable: leave out images that cannot be read.
        cache: look for the features of these very items in `tensors/cache` first, and keep them there.
        progress: show a bar.
        share: split the batches among the processes of `accelerate launch`, which must all encode the same
            items; each gets all features. Batches stay whole, so the result is bit-equal to that of one
            process with as many threads.
    """

    batch_size: int = 64
    workers: int = 0
    precision: str = AUTO
    skip_unreadable: bool = False
    cache: bool = True
    progress: bool = True
    share: bool = False

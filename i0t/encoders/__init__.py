"""Models as `Encoder`s; `i0t.encoders.encode` turns images and texts into features."""

from __future__ import annotations

from dataclasses import dataclass

from i0t.encoders.load import load_encoder

__all__ = ["AUTO", "PRECISIONS", "EncodeOptions", "load_encoder"]

AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class EncodeOptions:
    """Options of encoding (no import of torch).

    Attributes:
        batch_size: items per forward pass.
        workers: processes that decode images and tokenise many texts (0: this one).
        precision: number format of the forward passes: "fp32", "bf16", "fp16", or "auto" (half on CUDA, else fp32).
        skip_unreadable: leave out images that cannot be read.
        cache: read features from `tensors/cache` if they are there, else save them there.
        progress: show a progress bar.
        share: share the batches among the processes of `accelerate launch`, which must all encode the same
            items; each gets all features, with the same bits as from one process with as many threads.
        upright: turn images as their EXIF orientation says. Published benchmarks are measured without.
    """

    batch_size: int = 64
    workers: int = 0
    precision: str = AUTO
    skip_unreadable: bool = False
    cache: bool = True
    progress: bool = True
    share: bool = False
    upright: bool = False

    @property
    def exif_orientation(self) -> str:
        """What is done with the EXIF orientation of images, for protocols."""
        return "applied" if self.upright else "ignored"

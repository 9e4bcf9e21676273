"""What the three evaluations have in common: embed a data set, then measure the embeddings."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from i0t.embeddings import Embeddings
from i0t.encoders.encoder import Encoder
from i0t.paths import Roots


class Task(ABC):
    """One kind of evaluation.

    Embedding and measuring are apart, so that what is encoded once can be measured again with
    every gap remover.

    Attributes:
        name: retrieval, classification or correlation.
        datasets: names for `--dataset`.
        headline: metrics of the printed table.
    """

    name: ClassVar[str]
    datasets: ClassVar[tuple[str, ...]]
    headline: ClassVar[tuple[str, ...]]

    @abstractmethod
    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Flags of this task alone."""

    @abstractmethod
    def is_present(self, dataset: str, roots: Roots) -> bool:
        """Whether the files of a data set are there."""

    @abstractmethod
    def embed(self, encoder: Encoder, dataset: str, roots: Roots, options: argparse.Namespace) -> Embeddings:
        """Encode a data set, every distinct item once."""

    @abstractmethod
    def measure(
        self, embeddings: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """(metrics, counts of what was used and dropped) of embeddings, after any gap removal."""

    @abstractmethod
    def protocol(self, options: argparse.Namespace) -> dict[str, Any]:
        """What two results must share to be comparable."""

    def prefix(self, options: argparse.Namespace) -> str:
        """What stands before every text, so that calibration texts get it too."""
        return ""


def encode_images(encoder: Encoder, images: Any, options: argparse.Namespace) -> Any:
    """(N', D) float32 array of the readable pictures; `encoder.report.kept` says which they are."""
    return encoder.encode_images(
        images,
        batch_size=options.batch_size,
        workers=options.workers,
        skip_unreadable=options.skip_unreadable,
        progress=True,
    ).numpy()


def encode_texts(encoder: Encoder, texts: list[str], options: argparse.Namespace) -> Any:
    """(M, D) float32 array."""
    return encoder.encode_texts(texts, batch_size=options.batch_size, progress=True).numpy()

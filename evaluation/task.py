"""What the three evaluations have in common: embed a data set, then measure the embeddings."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar

from i0t.embeddings import Embeddings
from i0t.encoders.cache import EncodingCache
from i0t.encoders.encoder import Encoder
from i0t.encoders.precision import AUTO, PRECISIONS
from i0t.errors import I0TError
from i0t.paths import Roots


class Task(ABC):
    """One kind of evaluation.

    Embedding and measuring are apart, so that what is encoded once can be measured again with
    every gap remover.

    Attributes:
        name: retrieval, classification or correlation.
        datasets: names for `--dataset`.
        headline: metrics of the printed table.
        needs_data: whether embeddings cannot be measured without the files of their data set.
        splits: which part of each data set it takes, for the protocol.

    Example:
        >>> from evaluation.retrieval import Retrieval
        >>> task: Task = Retrieval()
        >>> task.name, task.splits["nocaps"], task.prefix(argparse.Namespace())
        ('retrieval', 'validation', '')
    """

    name: ClassVar[str]
    datasets: ClassVar[tuple[str, ...]]
    headline: ClassVar[tuple[str, ...]]
    needs_data: ClassVar[bool] = True
    splits: ClassVar[dict[str, str]]

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
    def check(self, given: Embeddings, dataset: str, roots: Roots, options: argparse.Namespace) -> None:
        """Refuse embeddings of another program (`--embeddings`) that are not of this data set.

        Raises:
            I0TError: what is missing or does not agree.
        """

    @abstractmethod
    def protocol(self, options: argparse.Namespace, embeddings: Embeddings) -> dict[str, Any]:
        """What two results must share to be comparable."""

    def prefix(self, options: argparse.Namespace) -> str:
        """What stands before every text, so that calibration texts get it too."""
        return ""


def add_encoding_flags(parser: argparse.ArgumentParser) -> None:
    """`--precision` and `--no-cache`."""
    group = parser.add_argument_group("encoding")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=AUTO,
        help="of the forward passes: auto is bf16 on CUDA and fp32 elsewhere (default); part of the protocol, as half "
        "precision changes the third digit",
    )
    group.add_argument(
        "--no-cache",
        action="store_true",
        help="encode again, and keep nothing in tensors/cache (python -m i0t.encoders.cache shows and clears it)",
    )


def encode_images(encoder: Encoder, images: Any, options: argparse.Namespace) -> Any:
    """(N', D) float32 array of the readable pictures; `encoder.report.kept` says which they are.

    Shared among the processes of `accelerate launch`, as `encode_texts` is: all must call it.

    Example:
        >>> from PIL import Image
        >>> from i0t.encoders.openclip import build_encoder
        >>> vision, text = {"width": 64, "layers": 1, "image_size": 16}, {"width": 64, "layers": 1, "vocab_size": 9}
        >>> encoder = build_encoder({"model": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}})
        >>> flags = {"batch_size": 2, "workers": 0, "skip_unreadable": True, "precision": "fp32", "no_cache": True}
        >>> encode_images(encoder, [Image.new("RGB", (9, 9)), "none.jpg"], argparse.Namespace(**flags)).shape
        (1, 8)
    """
    return encoder.encode_images(
        images,
        batch_size=options.batch_size,
        workers=options.workers,
        skip_unreadable=options.skip_unreadable,
        progress=True,
        precision=options.precision,
        cache=None if options.no_cache else EncodingCache(),
        share=True,
    ).numpy()


def encode_texts(encoder: Encoder, texts: list[str], options: argparse.Namespace, normalize: bool = True) -> Any:
    """(M, D) float32 array; before its last normalisation if `normalize` is False.

    Example:
        >>> from i0t.encoders.openclip import build_encoder
        >>> vision, text = {"width": 64, "layers": 1, "image_size": 16}, {"width": 64, "layers": 1}
        >>> encoder = build_encoder({"model": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}})
        >>> options = argparse.Namespace(batch_size=2, precision="fp32", no_cache=True)
        >>> features = encode_texts(encoder, ["a dog", "a cat", "a dog"], options)
        >>> features.shape, bool((features[0] == features[2]).all())
        ((3, 8), True)
    """
    return encoder.encode_texts(
        texts,
        batch_size=options.batch_size,
        progress=True,
        precision=options.precision,
        cache=None if options.no_cache else EncodingCache(),
        share=True,
        normalize=normalize,
    ).numpy()


def require_pictures(given: Embeddings, names: Collection[str], dataset: str) -> None:
    """Refuse given embeddings that lack pictures of a data set, other than those noted as unreadable.

    Raises:
        I0TError: how many are missing, and the first of them.

    Example:
        >>> import numpy as np
        >>> files = {"unreadable": [], "files": ["mine.npy"]}
        >>> given = Embeddings(np.eye(2)[:1], np.eye(2)[:1], np.arange(1), ["a.jpg"], ["a dog"], metadata=files)
        >>> require_pictures(given, ["a.jpg"], "flickr")
        >>> require_pictures(given, ["a.jpg", "b.jpg"], "flickr")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: mine.npy: 1 of the 2 pictures of flickr are missing, first b.jpg. ...
    """
    present = set(given.image_ids)
    missing = [name for name in names if name not in present]
    if len(missing) > len(given.metadata["unreadable"]):
        raise I0TError(
            f"{', '.join(given.metadata['files'])}: {len(missing)} of the {len(names)} pictures of {dataset} are "
            f"missing, first {missing[0]}. image_ids must name them as the data set does."
        )

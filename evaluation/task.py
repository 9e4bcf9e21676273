"""What the three evaluations have in common: the items of a data set, and how their embeddings are measured."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar

from i0t.data.items import Items
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.paths import Roots


class Task(ABC):
    """One kind of evaluation.

    Items and measuring are apart, so that what is encoded once can be measured again with every
    gap remover.

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
    def items(self, dataset: str, roots: Roots, options: argparse.Namespace) -> Items:
        """Images and texts of a data set."""

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

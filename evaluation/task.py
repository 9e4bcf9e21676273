"""`Task`: a kind of evaluation, with the items to encode and the metrics to compute.

A task is a frozen dataclass. Its fields are its flags (`captions_per_image` is `--captions-per-image`), and their
metadata are arguments of argparse's `add_argument`; `of_items` marks a flag that chooses the items to encode.
`docs/extending.md` adds a task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from i0t.data.entries import Kind
from i0t.data.items import Items
from i0t.embeddings import Embeddings
from i0t.errors import I0TError

AnyTask = TypeVar("AnyTask", bound="Task")

# Used by contract tests and tables.
TASKS = {
    "retrieval": "evaluation.retrieval:Retrieval",
    "classification": "evaluation.classification:Classification",
    "correlation": "evaluation.correlation:Correlation",
}


def task_class(name: str) -> type[Task]:
    """Import the class of a name in `TASKS`."""
    module, _, attribute = TASKS[name].partition(":")
    return getattr(import_module(module), attribute)


class Task(ABC):
    """One kind of evaluation.

    Encoding and measuring are separate, so that items that were encoded once can be measured with every gap
    remover.
    """

    name: ClassVar[str]  # e.g. "retrieval"; the program is `evaluate_NAME`
    kind: ClassVar[Kind]  # of its data sets, see `i0t.data.datasets`
    printed: ClassVar[tuple[str, ...]]  # metrics in the table that a run prints
    headline: ClassVar[tuple[str, ...]]  # metrics in tables of records
    headline_of: ClassVar[dict[str, tuple[str, ...]]] = {}  # by data set, for tables that join data sets
    needs_data: ClassVar[bool] = True  # whether embeddings from files need the files of their data set

    @abstractmethod
    def items(self, dataset: Any) -> Items:
        """Return the items of a data set (from `load_dataset`) to encode."""

    @abstractmethod
    def measure(self, embeddings: Embeddings, dataset: Any, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
        """Compute metrics, and counts for the record, after any gap removal.

        Args:
            embeddings: of the data set.
            dataset: None if embeddings were read from files and the task does not need the data set.
            seed: of everything random.
        """

    @abstractmethod
    def protocol(self, embeddings: Embeddings) -> dict[str, Any]:
        """Return what two results must share to be comparable."""

    def check(self, embeddings: Embeddings, dataset: Any) -> None:
        """Check that embeddings of another program (`--embeddings`) are of this data set.

        Raises:
            I0TError: something is missing or differs.
        """
        if dataset is not None:
            require_images(embeddings, dataset.image_ids, dataset.name)


def require_images(embeddings: Embeddings, names: Collection[str], dataset: str) -> None:
    """Check that embeddings have all images of a data set, except those noted as unreadable.

    Raises:
        I0TError: images are missing (has their number, and the first), or one is there twice.
    """
    present = set(embeddings.image_ids)
    twice = next((name for name, count in Counter(embeddings.image_ids).items() if count > 1), None)
    if twice is not None:
        raise I0TError(f"{', '.join(embeddings.files)}: image {twice} is there twice. Give every image one row.")
    missing = [name for name in names if name not in present]
    if len(missing) > len(embeddings.metadata.get("unreadable") or ()):
        raise I0TError(
            f"{', '.join(embeddings.files)}: {len(missing)} of the {len(names)} images of {dataset} are "
            f"missing, first {missing[0]}. image_ids must name them as the data set does."
        )

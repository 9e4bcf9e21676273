"""What an evaluation is: which items of a data set are encoded, and what is measured on their embeddings.

A task is a frozen dataclass: its fields are its flags (`--captions-per-image` of `captions_per_image`),
and their metadata the arguments of argparse's `add_argument`; `of_items` marks a flag that chooses what is encoded.
`docs/extending.md` adds one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from i0t.data.entries import Kind
from i0t.data.items import Items
from i0t.embeddings import Embeddings
from i0t.errors import I0TError

AnyTask = TypeVar("AnyTask", bound="Task")

# The tasks that tests of contracts, tables and the demo go through.
TASKS = {
    "retrieval": "evaluation.retrieval:Retrieval",
    "classification": "evaluation.classification:Classification",
    "correlation": "evaluation.correlation:Correlation",
}


def task_class(name: str) -> type[Task]:
    """The class of a name of `TASKS`."""
    module, _, attribute = TASKS[name].partition(":")
    return getattr(import_module(module), attribute)


class Task(ABC):
    """One kind of evaluation.

    Encoding and measuring are apart, so that what is encoded once can be measured again with
    every gap remover.

    Attributes:
        name: e.g. "retrieval"; the program is `evaluate_NAME`.
        kind: of the data sets it can evaluate, see `i0t.data.datasets`.
        printed: metrics of the table that a run prints.
        headline: metrics of tables over several records ...
        headline_of: ... and of a data set that is told by others, where tables join data sets.
        needs_data: whether embeddings cannot be measured without the files of their data set.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    printed: ClassVar[tuple[str, ...]]
    headline: ClassVar[tuple[str, ...]]
    headline_of: ClassVar[dict[str, tuple[str, ...]]] = {}
    needs_data: ClassVar[bool] = True

    @abstractmethod
    def items(self, dataset: Any) -> Items:
        """What of a data set is to be encoded.

        Args:
            dataset: as `i0t.data.datasets.load_dataset` gives it.
        """

    @abstractmethod
    def measure(self, embeddings: Embeddings, dataset: Any, seed: int) -> tuple[dict[str, float], dict[str, Any]]:
        """(metrics, counts of what was used) of embeddings, after any gap removal.

        Args:
            embeddings: of the data set.
            dataset: None for a task that does not need it, where embeddings were read from files.
            seed: of everything random.
        """

    @abstractmethod
    def protocol(self, embeddings: Embeddings) -> dict[str, Any]:
        """What two results must share to be comparable."""

    def check(self, embeddings: Embeddings, dataset: Any) -> None:
        """Refuse embeddings of another program (`--embeddings`) that are not of this data set.

        Raises:
            I0TError: what is missing or does not agree.
        """
        if dataset is not None:
            require_pictures(embeddings, dataset.image_ids, dataset.name)


def require_pictures(embeddings: Embeddings, names: Collection[str], dataset: str) -> None:
    """Refuse embeddings that lack pictures of a data set, other than those noted as unreadable.

    Raises:
        I0TError: how many are missing, and the first of them.
    """
    present = set(embeddings.image_ids)
    missing = [name for name in names if name not in present]
    if len(missing) > len(embeddings.metadata.get("unreadable") or ()):
        raise I0TError(
            f"{', '.join(embeddings.files)}: {len(missing)} of the {len(names)} pictures of {dataset} are "
            f"missing, first {missing[0]}. image_ids must name them as the data set does."
        )

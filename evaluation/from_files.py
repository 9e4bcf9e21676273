"""`--embeddings`: embeddings of another program, instead of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evaluation.options import refuse_flags_of_items
from evaluation.task import Task
from i0t.cli import resolve_roots
from i0t.data.datasets import datasets_of, load_dataset
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError


def read_for_task(
    paths: Sequence[str],
    names: Sequence[str] | None,
    task: Task,
    data_dirs: tuple[str | None, str | None],
    partial: bool,
) -> tuple[Embeddings, Any]:
    """Read embeddings from files, and their data set if the task needs it (else None).

    Raises:
        I0TError: the files are not of this task or data set.
    """
    refuse_flags_of_items(task)
    embeddings = load_embeddings(paths)
    name = _dataset_name(embeddings, task, names)
    dataset = load_dataset(name, resolve_roots(*data_dirs), partial) if task.needs_data else None
    task.check(embeddings, dataset)
    known = {"dataset": name, "files": list(embeddings.files), "features_sha256": embeddings.features_sha256}
    return replace(embeddings, metadata={**embeddings.metadata, **known}), dataset


def _dataset_name(embeddings: Embeddings, task: Task, names: Sequence[str] | None) -> str:
    """Name of the data set: `--dataset`, else that of the file.

    Raises:
        I0TError: no name, two names, or a file for another task.
    """
    files, recorded, known = ", ".join(embeddings.files), embeddings.metadata.get("dataset"), datasets_of(task.kind)
    made_for = embeddings.metadata.get("task", task.name)
    if made_for != task.name:
        raise I0TError(f"{files}: embeddings for {made_for}, not for {task.name}.")
    if names and (len(names) > 1 or (recorded in known and recorded != names[0])):
        raise I0TError(f"{files}: embeddings of {recorded}, not of --dataset {' and '.join(names)}.")
    if names:
        return names[0]
    if task.needs_data and recorded not in known:
        raise I0TError(f"{files}: name their data set: --dataset {' or '.join(known)}.")
    return embeddings.name

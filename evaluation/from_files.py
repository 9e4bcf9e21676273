"""`--embeddings`: what another program encoded, in place of a model."""

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
    """Embeddings of files, and the data set that they are of; None where the task needs nothing but the file.

    Args:
        paths: as `load_embeddings` takes them.
        names: data sets that the user named, if any.
        task: what will be measured.
        data_dirs: data roots by flags; neither they nor path files are looked at where the task needs no data.
        partial: whether the data set may be incomplete.

    Raises:
        I0TError: the files are not of this task or data set.
    """
    refuse_flags_of_items(task)
    embeddings = load_embeddings(paths)
    name = _dataset_name(embeddings, task, names)
    dataset = load_dataset(name, resolve_roots(*data_dirs), partial) if task.needs_data else None
    task.check(embeddings, dataset)
    known = {"dataset": name, "files": list(embeddings.files)}
    if embeddings.metadata.get("fingerprint") is None:  # nothing else tells these vectors from others
        known["features_sha256"] = embeddings.features_sha256
    return replace(embeddings, metadata={**embeddings.metadata, **known}), dataset


def _dataset_name(embeddings: Embeddings, task: Task, names: Sequence[str] | None) -> str:
    """Which data set embeddings are of: `--dataset`, else what the file says.

    Raises:
        I0TError: neither says, they differ, or the file is of another task.
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
        raise I0TError(f"{files}: say which data set they are of: --dataset {' or '.join(known)}.")
    return embeddings.name

"""`--embeddings`: what another program encoded, in place of a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evaluation.task import Task
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError

UNKNOWN = {"fingerprint": None, "truncated_texts": None, "unreadable": [], "split": "test"}


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """`--model` and `--embeddings`, of which one is given."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--model",
        metavar="NAME|CHECKPOINT",
        help="a checkpoint, a spec of configs/models (NAME, or NAME:KEY=VALUE), or ARCH/TAG of open_clip "
        "(default: the last checkpoint)",
    )
    group.add_argument(
        "--embeddings",
        nargs="+",
        metavar="FILE",
        help="instead of a model: an Embeddings file (.safetensors), or for retrieval images.npy texts.npy, or one "
        ".npy of shape (2, N, D), whose rows pair up",
    )


def read_given(paths: list[str]) -> Embeddings:
    """Embeddings from files of the user, as unit vectors.

    Args:
        paths: one `.safetensors` of ours, or one or two `.npy`.

    Raises:
        I0TError: other files, or what is wrong with these.
    """
    given = load_embeddings(paths)
    if given.metadata.get("fingerprint") is None:
        given.metadata["features_sha256"] = given.features_sha256
    given.metadata["files"] = list(given.files)
    for key, value in {**UNKNOWN, "source": ", ".join(given.metadata["files"])}.items():
        given.metadata.setdefault(key, value)
    return given


def dataset_of(given: Embeddings, task: Task, options: argparse.Namespace) -> str:
    """Which data set given embeddings are of: `--dataset`, else what the file says.

    Raises:
        I0TError: neither says, they differ, or the file is of another task.
    """
    files, recorded, named = ", ".join(given.metadata["files"]), given.metadata.get("dataset"), options.dataset
    if given.metadata.get("task", task.name) != task.name:
        raise I0TError(f"{files}: embeddings for {given.metadata['task']}, not for {task.name}.")
    if named and (len(named) > 1 or (recorded in task.datasets and recorded != named[0])):
        raise I0TError(f"{files}: embeddings of {recorded}, not of --dataset {' and '.join(named)}.")
    if named:
        return named[0]
    if task.needs_data and recorded not in task.datasets:
        raise I0TError(f"{files}: say which data set they are of: --dataset {' or '.join(task.datasets)}.")
    return recorded or Path(given.metadata["files"][0]).stem


def model_of(given: Embeddings) -> dict[str, Any]:
    """What a record says of the model behind given embeddings."""
    known = ("model", "fingerprint", "features_sha256", "files")
    return {"name" if key == "model" else key: given.metadata.get(key) for key in known}

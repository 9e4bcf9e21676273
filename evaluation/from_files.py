"""`--embeddings`: embeddings of another program, instead of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evaluation.options import refuse_flags_of_items
from evaluation.task import Task
from i0t.cli import resolve_roots
from i0t.data.datasets import Dataset, census, datasets_of, load_dataset, shown, unit_of, within
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.gap.pair_doubts import pair_doubts
from i0t.paths import configured_roots, say

FIVE = 5  # captions per image, the other protocol of retrieval


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
    for doubt in [] if task.needs_data else pair_doubts(embeddings):
        say(doubt)
    known: dict[str, Any] = {"dataset": name, "files": list(embeddings.files)}
    known["features_sha256"] = embeddings.features_sha256
    if dataset is None and name in datasets_of(task.kind):
        known["completeness"] = _completeness(embeddings, name, data_dirs, partial)
    return replace(embeddings, metadata={**embeddings.metadata, **known}), dataset


def _completeness(
    embeddings: Embeddings, name: str, data_dirs: tuple[str | None, str | None], partial: bool
) -> dict[str, Any]:
    """Compare embeddings with the data set that they claim to be, if it is there, else with its known counts.

    Raises:
        I0TError: they differ, and `partial` is not set.
    """
    noted = embeddings.metadata.get("completeness")
    n_images = len(embeddings.image_ids) + len(embeddings.metadata.get("unreadable") or ())
    if isinstance(noted, dict) and noted.get("images") == n_images:
        return noted  # compared where it was encoded
    found = census(name, configured_roots(*data_dirs))
    expected, n_texts = found.expected, len(embeddings.texts)
    counts_agree = within(n_images, expected.images) and (
        within(n_texts, expected.texts) or n_texts in (n_images, FIVE * n_images)
    )
    differs = f"{n_images} images and {n_texts} texts, but {name} has {shown(expected.images)} images"
    differs = ("" if counts_agree else differs) or _other_items(embeddings, found.dataset)
    if differs and not partial:
        raise I0TError(
            f"{', '.join(embeddings.files)}: {differs}. Give all of {name} and nothing else, or measure what is there: "
            "--allow-partial."
        )
    if not differs and found.dataset is None:
        return {"state": "not checked", "why": f"of another program; the counts alone are those of {name}"}
    counts = {**found.counts(), "images": n_images, unit_of(expected): n_texts}
    state = {"state": "partial", "why": differs} if differs else {}
    return {**counts, **state, "built_in_sample": found.built_in_sample}


def _other_items(embeddings: Embeddings, dataset: Dataset | None) -> str:
    """Say which image or text is not of the data set; empty if none is, or the file does not name its items."""
    ids = embeddings.image_ids
    if dataset is None or ids == [str(row) for row in range(len(ids))]:
        return ""
    row_of = {name: row for row, name in enumerate(dataset.image_ids)}
    for name, count in Counter(ids).items():
        if name not in row_of or count > 1:
            return f"image {name} is " + (f"none of {dataset.name}" if name not in row_of else "there twice")
    captions = getattr(dataset, "captions", None)
    for text, image in zip(embeddings.texts, embeddings.image_of_text):
        own = captions[row_of[ids[image]]] if captions and image >= 0 else [text]
        if text and not any(text.endswith(caption) for caption in own):  # a prompt may stand before it
            return f"{text!r:.60} is no caption of {ids[image]} in {dataset.source}"
    return ""


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

"""The driver of the evaluation programs: flags in, one record per data set and one table out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from evaluation.options import EvaluationOptions, options_of, parse
from evaluation.protocol import describe
from evaluation.task import Task
from i0t import processes
from i0t.cli import resolve_roots, usable_device
from i0t.data.datasets import datasets_of, load_dataset
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.digests import list_sha256
from i0t.embeddings import Embeddings
from i0t.encoders import load_encoder
from i0t.encoders.encode import encode
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder
from i0t.gap import modality_gap
from i0t.locks import only_writer
from i0t.paths import Roots, last_checkpoint, say
from i0t.program import on_stop
from i0t.results.record import Record, run_table
from i0t.standardize import GapRemover
from i0t.standardize.fitting import TRAIN, fit_remover
from i0t.standardize.registry import NONE

NOT_CHECKED = {"state": "not checked", "why": "embeddings of another program, measured without the data set"}


class Result(NamedTuple):
    """The record of one data set, its embeddings as encoded, and the remover that was used."""

    record: Record
    embeddings: Embeddings
    remover: GapRemover | None


def run_task(task: type[Task], argv: Sequence[str] | None) -> int:
    """Evaluate as the command line says; returns the exit status."""
    arguments = parse(task, argv)
    if arguments.embeddings and not processes.is_main():
        return 0  # nothing to encode
    folder = ensure_folder(arguments.output)  # before encoding, which may take hours
    device = arguments.device if arguments.embeddings else processes.join(arguments.device)
    options = options_of(task, arguments, device)
    data_dirs = arguments.data_dir, arguments.data_dir_sub
    if arguments.embeddings:
        results = _of_files(arguments.embeddings, arguments.dataset, data_dirs, options)
    else:
        with processes.first_here():  # one process makes the sample
            roots = resolve_roots(*data_dirs)
        results = _of_model(arguments.model, usable_device(device), arguments.dataset, roots, options)
    records: list[Record] = []
    paths: list[Path] = []

    def where() -> str:
        done = ", ".join(f"{record.dataset} ({path})" for record, path in zip(records, paths))
        return f"evaluated so far: {done or 'nothing'}; the same command starts again, with what the cache keeps"

    with on_stop(where):
        for result in results:
            paths.append(save(folder, result))
            records.append(result.record)
    if processes.is_main():
        print(run_table(records, task.printed))
        print(*paths, sep="\n")
    processes.leave()
    return 0


def _of_files(
    paths: Sequence[str],
    names: Sequence[str] | None,
    data_dirs: tuple[str | None, str | None],
    options: EvaluationOptions,
) -> Iterator[Result]:
    """Evaluate embeddings of another program."""
    from evaluation.from_files import read_for_task

    task = options.task
    embeddings, dataset = read_for_task(paths, names, task, data_dirs, options.allow_partial)
    say(f"{task.name}: {embeddings.name} from {', '.join(paths)}")
    yield evaluate(embeddings, dataset, options)


def _of_model(
    model: str | None, device: str, names: Sequence[str] | None, roots: Roots, options: EvaluationOptions
) -> Iterator[Result]:
    """Evaluate a model on the named data sets, or on all that are present.

    With several processes (`accelerate launch`) all encode and only the main process measures and yields results.
    """
    task = options.task
    names = names or datasets_of(task.kind, roots)
    if not names:
        folders = ", ".join(str(folder) for folder in (roots.main, roots.sub) if folder)
        known = ", ".join(datasets_of(task.kind))
        raise I0TError(f"none of {known} is present in {folders}. See the README for the layout.")
    # Read all before encoding, so that an incomplete one raises its error early.
    datasets = [load_dataset(name, roots, options.allow_partial) for name in names]
    torch.manual_seed(options.seed)  # for untrained models such as tiny
    encoder = load_encoder(model or last_checkpoint(roots), device, roots)
    training_pairs = TrainingPairs(encoder, roots, options)
    for dataset in datasets:
        say(f"{task.name}: {dataset.name} with {encoder.name}")
        started = time.perf_counter()
        embeddings, prefix = encode_dataset(encoder, dataset, options)
        if processes.is_main():
            yield evaluate(embeddings, dataset, options, encoder, partial(training_pairs, prefix), started)
        elif options.remover.name != NONE and options.fit_on == TRAIN:
            training_pairs(prefix)


class TrainingPairs:
    """Training pairs of ShareGPT4V, encoded when needed, once per prefix (`--fit-on train`)."""

    def __init__(self, encoder: Encoder, roots: Roots, options: EvaluationOptions) -> None:
        self.encoder, self.roots, self.options = encoder, roots, options
        self._encoded: dict[str, Embeddings] = {}

    def __call__(self, prefix: str) -> Embeddings:
        """Encode the pairs with the prefix of the evaluated texts."""
        if prefix not in self._encoded:
            pairs = load_sharegpt4v(self.roots.data_dir, "train")
            count = min(self.options.fit_samples, len(pairs))
            rows = np.sort(np.random.default_rng(self.options.seed).choice(len(pairs), count, replace=False))
            items = pairs.items(rows.tolist(), prefix)
            self._encoded[prefix] = encode(self.encoder, items, self.options.encoding)
        return self._encoded[prefix]


def encode_dataset(encoder: Encoder, dataset: Any, options: EvaluationOptions) -> tuple[Embeddings, str]:
    """Encode a data set; return the embeddings, and the prefix of its texts."""
    items = options.task.items(dataset)
    items = replace(items, metadata={**items.metadata, "task": options.task.name})
    return encode(encoder, items, options.encoding), items.prefix


def evaluate(
    embeddings: Embeddings,
    dataset: Any,
    options: EvaluationOptions,
    encoder: Encoder | None = None,
    training_pairs: Callable[[], Embeddings] | None = None,
    started: float | None = None,
) -> Result:
    """Remove the gap from the embeddings of one data set, measure, and make the record.

    Args:
        embeddings: as encoded, or of another program.
        dataset: the data set; None if embeddings were read from files and the task does not need it.
        options: options of the evaluation.
        encoder: the model; None for embeddings of another program.
        training_pairs: encodes training pairs, for `--fit-on train`.
        started: time of `time.perf_counter` before encoding.
    """
    task, started = options.task, time.perf_counter() if started is None else started
    remover = fit_remover(options.remover, options.fit_on, embeddings, training_pairs)
    # No warning about overlap: the record has it.
    moved = embeddings if remover is None else remover.transform_embeddings(embeddings, check_overlap=False)
    metrics, counts = task.measure(moved, dataset, options.seed)
    record = Record(
        task=task.name,
        dataset=embeddings.name,
        metrics=metrics,
        gap=_gap(moved, options.seed),
        gap_before={} if remover is None else _gap(embeddings, options.seed),
        protocol={
            "split": embeddings.metadata.get("part"),
            "precision": embeddings.metadata.get("precision"),
            "exif_orientation": embeddings.metadata.get("exif_orientation"),
            **task.protocol(embeddings),
            **describe(remover, embeddings),
        },
        config={"model": _model_of(embeddings) if encoder is None else encoder.facts, "flags": dict(options.flags)},
        data={**_data_facts(embeddings, dataset, task.needs_data), **counts},
        seconds=round(time.perf_counter() - started, 3),
        headline=task.headline,
        headline_joined=task.headline_of.get(embeddings.name, task.headline),
    )
    return Result(record, embeddings, remover)


def save(folder: Path, result: Result) -> Path:
    """Write embeddings (as encoded), means and record; returns the record's path, written last.

    An equal run writes files of the same names, at most with other rounding: the three are of one run.
    """
    stem = result.record.stem
    with only_writer(folder / f"{stem}.json", wait=True):
        result.embeddings.save(folder / f"{stem}.embeddings.safetensors")
        if result.remover is not None:
            result.remover.save(folder / f"{stem}.means.safetensors")
        return result.record.save(folder)


def _model_of(embeddings: Embeddings) -> dict[str, Any]:
    """Describe the model of embeddings of another program."""
    known = ("model", "fingerprint", "features_sha256", "files")
    return {"name" if key == "model" else key: embeddings.metadata.get(key) for key in known}


def _data_facts(embeddings: Embeddings, dataset: Any, is_measured: bool) -> dict[str, Any]:
    """Counts, source and hash of the evaluated items, with truncated texts and unreadable images.

    The hash covers all that the metrics read: of the embeddings, and of the data set if it `is_measured`, too. Vectors
    stand for unknown items: of a program that names neither model nor images.
    """
    known, unreadable = embeddings.metadata, embeddings.metadata.get("unreadable") or []
    hashed = [embeddings.items_sha256, dataset.content_sha256() if is_measured else ""]
    if known.get("fingerprint") is None:
        hashed.append(embeddings.features_sha256)
    complete = dataset.completeness if dataset is not None else known.get("completeness", NOT_CHECKED)
    return {
        "images": len(embeddings.image_features),
        "texts": len(embeddings.text_features),
        "source": known.get("source") or ", ".join(embeddings.files),
        "built_in_sample": bool(complete.get("built_in_sample")),
        "sha256": list_sha256(hashed),
        "images_sha256": known.get("images_sha256"),
        "truncated_texts": known.get("truncated_texts"),
        "unreadable_pictures": len(unreadable),
        "unreadable": unreadable[:10],
        "from_cache": known.get("from_cache"),
        "completeness": complete,
    }


def _gap(embeddings: Embeddings, seed: int) -> dict[str, Any]:
    return modality_gap(embeddings.image_features, embeddings.text_features, embeddings.pairs, seed=seed)

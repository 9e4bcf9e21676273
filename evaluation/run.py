"""The driver of the evaluation programs: flags in, one record per data set, one table out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from evaluation.task import Task, add_task_flags, task_of
from i0t import processes
from i0t.cli import (
    add_common_flags,
    add_encoding_flags,
    add_source_flags,
    device_of,
    encode_options,
    workers_of,
)
from i0t.data.datasets import datasets_of, is_present, load_dataset
from i0t.embeddings import Embeddings, load_embeddings
from i0t.encoders import load_encoder
from i0t.encoders.encode import EncodeOptions, encode
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder, list_sha256
from i0t.gap import modality_gap
from i0t.paths import TENSORS, Roots, last_checkpoint, resolve_roots, say
from i0t.results.record import Record
from i0t.results.tables import run_table
from i0t.standardize import GapRemover
from i0t.standardize.registry import RemoverChoice, add_remover_flags, describe, fit_remover, remover_choice

EPILOG = """\
Without arguments: the last checkpoint, on all data sets of the path files that are present.

Each data set gives one JSON record in --output (default: tensors), named after model and
protocol, with its embeddings and means beside it; the records' paths are printed last."""
NOT_CHECKED = {"state": "not checked", "why": "embeddings of another program, measured without the data set"}


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate, and how.

    Attributes:
        task: with its own flags.
        encoding: how items are encoded.
        remover: the gap remover.
        fit_on: where its means come from: "test", "train" or a file.
        fit_samples: training pairs that "train" takes.
        seed: of everything random.
        allow_partial: evaluate incomplete data sets.
        flags: all flags, for the record.
    """

    task: Task
    encoding: EncodeOptions = EncodeOptions()
    remover: RemoverChoice = RemoverChoice()
    fit_on: str = "test"
    fit_samples: int = 1000
    seed: int = 0
    allow_partial: bool = False
    flags: Mapping[str, Any] = field(default_factory=dict)


class Result(NamedTuple):
    """The record of one data set, its embeddings as encoded, and the remover that was used."""

    record: Record
    embeddings: Embeddings
    remover: GapRemover | None


class TrainingPairs:
    """Training pairs of ShareGPT4V, encoded once per prefix when they are asked for (`--fit-on train`)."""

    def __init__(self, encoder: Encoder, roots: Roots, options: EvaluationOptions) -> None:
        self.encoder, self.roots, self.options = encoder, roots, options
        self._encoded: dict[str, Embeddings] = {}

    def __call__(self) -> Embeddings:
        """Those with the prefix of the task."""
        prefix = self.options.task.prefix
        if prefix not in self._encoded:
            pairs = load_dataset("sharegpt4v", self.roots)
            count = min(self.options.fit_samples, len(pairs))
            rows = np.sort(np.random.default_rng(self.options.seed).choice(len(pairs), count, replace=False))
            self._encoded[prefix] = encode(self.encoder, pairs.items(rows, prefix), self.options.encoding)
        return self._encoded[prefix]


def parse(task: type[Task], argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of an evaluation program."""
    parser = argparse.ArgumentParser(
        prog=f"evaluate_{task.name}",
        description=task.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_source_flags(parser)
    parser.add_argument(
        "--dataset",
        action="append",
        choices=datasets_of(task.kind),
        help="may be repeated (default: all that are present)",
    )
    add_task_flags(parser, task)
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="evaluate what is there of a data set whose counts are wrong or whose pictures are missing (refused "
        "otherwise); the record and the table say so",
    )
    add_remover_flags(parser)
    add_encoding_flags(parser)
    add_common_flags(parser)
    parser.set_defaults(output=str(TENSORS), batch_size=64, seed=0)
    return parser.parse_args(argv)


def options_of(task: type[Task], arguments: argparse.Namespace) -> EvaluationOptions:
    """What the command line asks for."""
    arguments.workers = workers_of(arguments)
    return EvaluationOptions(
        task=task_of(arguments, task),
        encoding=encode_options(arguments, share=True),
        remover=remover_choice(arguments),
        fit_on=arguments.fit_on,
        fit_samples=arguments.fit_samples,
        seed=arguments.seed,
        allow_partial=arguments.allow_partial,
        flags=dict(vars(arguments)),
    )


def run_task(task: type[Task], argv: Sequence[str] | None) -> int:
    """Evaluate as the command line says; returns the exit status."""
    arguments = parse(task, argv)
    if arguments.embeddings and not processes.is_main():
        return 0  # nothing to encode, so nothing to help with
    folder = ensure_folder(arguments.output)  # before hours of encoding, not after
    arguments.device = processes.join(arguments.device) if not arguments.embeddings else arguments.device
    options = options_of(task, arguments)
    with processes.first_here():  # which may make the sample
        needs_roots = not arguments.embeddings or task.needs_data
        roots = resolve_roots(arguments.data_dir, arguments.data_dir_sub) if needs_roots else Roots(None, None)
    if arguments.embeddings:
        results = _of_files(arguments.embeddings, arguments.dataset, roots, options)
    else:
        results = _of_model(arguments.model, device_of(arguments), arguments.dataset, roots, options)
    records, paths = [], []
    for result in results:
        paths.append(save(folder, result))
        records.append(result.record.as_dict())
    if processes.is_main():
        print(run_table(records, task.printed))
        print(*paths, sep="\n")
    processes.leave()
    return 0


def _of_model(
    model: str | None, device: str, names: Sequence[str] | None, roots: Roots, options: EvaluationOptions
) -> Iterator[Result]:
    """Evaluate a model on every data set asked for or present.

    Of several processes (`accelerate launch`) all encode and the main one measures; the others yield nothing.
    """
    task = options.task
    known = datasets_of(task.kind)
    names = names or [name for name in known if is_present(name, roots)]
    if not names:
        folders = ", ".join(str(folder) for folder in (roots.main, roots.sub) if folder)
        raise I0TError(f"none of {', '.join(known)} is present in {folders}. See the README for the layout.")
    # All are read, and refused if incomplete, before anything is encoded.
    datasets = [load_dataset(name, roots, options.allow_partial) for name in names]
    torch.manual_seed(options.seed)  # for models without trained weights, such as tiny
    encoder = load_encoder(model or last_checkpoint(roots), device, roots)
    training_pairs = TrainingPairs(encoder, roots, options)
    for dataset in datasets:
        say(f"{task.name}: {dataset.name} with {encoder.name}")
        started = time.perf_counter()
        embeddings = encode_dataset(encoder, dataset, options)
        if processes.is_main():
            yield evaluate(embeddings, dataset, options, encoder, training_pairs, started)
        elif options.remover.name and options.fit_on == "train":
            training_pairs()


def _of_files(
    paths: Sequence[str], names: Sequence[str] | None, roots: Roots, options: EvaluationOptions
) -> Iterator[Result]:
    """Evaluate what another program encoded."""
    task = options.task
    if options.remover.name and options.fit_on == "train":
        raise I0TError(
            "--fit-on train: the training pairs must be encoded by the model itself, and --embeddings brings "
            "none. Use --fit-on test, or a means, Embeddings or .npy file of the same model."
        )
    embeddings = load_embeddings(paths)
    name = _dataset_name(embeddings, task, names)
    dataset = load_dataset(name, roots, options.allow_partial) if task.needs_data else None
    task.check(embeddings, dataset)
    extra = {"dataset": name, "files": list(embeddings.files)}
    if embeddings.metadata.get("fingerprint") is None:
        extra["features_sha256"] = embeddings.features_sha256
    embeddings = replace(embeddings, metadata={**embeddings.metadata, **extra})
    say(f"{task.name}: {name} from {', '.join(paths)}")
    yield evaluate(embeddings, dataset, options)


def _dataset_name(embeddings: Embeddings, task: Task, names: Sequence[str] | None) -> str:
    """Which data set embeddings of a file are of: `--dataset`, else what the file says.

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


def encode_dataset(encoder: Encoder, dataset: Any, options: EvaluationOptions) -> Embeddings:
    """A data set as encoded, with what a record will want to know of that."""
    items = options.task.items(dataset)
    about = {
        "task": options.task.name,
        "dataset": dataset.name,
        "split": "test",
        "part": dataset.split,
        "completeness": dataset.completeness,
    }
    return encode(encoder, replace(items, metadata={**items.metadata, **about}), options.encoding)


def evaluate(
    embeddings: Embeddings,
    dataset: Any,
    options: EvaluationOptions,
    encoder: Encoder | None = None,
    training_pairs: TrainingPairs | None = None,
    started: float | None = None,
) -> Result:
    """Remove the gap from the embeddings of one data set, measure, and state how.

    Args:
        embeddings: as encoded, or of another program.
        dataset: as loaded; None where the task does not need it and embeddings were read from files.
        options: how.
        encoder: the model; None for embeddings of another program.
        training_pairs: for `--fit-on train`.
        started: when the encoding began, by `time.perf_counter`.
    """
    task, started = options.task, time.perf_counter() if started is None else started
    remover = fit_remover(options.remover, options.fit_on, embeddings, training_pairs)
    moved = embeddings if remover is None else remover.transform_embeddings(embeddings)
    metrics, counts = task.measure(moved, dataset, options.seed)
    gap_before = {} if remover is None else _gap(embeddings, options.seed)
    record = Record(
        task=task.name,
        dataset=embeddings.name,
        metrics=metrics,
        gap=_gap(moved, options.seed),
        gap_before=gap_before,
        protocol={
            "split": embeddings.metadata.get("part"),
            "precision": embeddings.metadata.get("precision"),
            **task.protocol(embeddings),
            **describe(remover, embeddings),
        },
        config={
            "model": _model_of(embeddings) if encoder is None else encoder.facts(),
            "flags": dict(options.flags),
        },
        data={**_data_facts(embeddings, dataset), **counts},
        seconds=round(time.perf_counter() - started, 3),
        headline=task.headline,
        headline_joined=task.headline_joined(embeddings.name),
    )
    return Result(record, embeddings, remover)


def save(folder: Path, result: Result) -> Path:
    """Write embeddings (as encoded), means and record; returns the record's path, written last."""
    stem = result.record.stem
    result.embeddings.save(folder / f"{stem}.embeddings.safetensors")
    if result.remover is not None:
        result.remover.save(folder / f"{stem}.means.safetensors")
    return result.record.save(folder)


def _model_of(embeddings: Embeddings) -> dict[str, Any]:
    """What a record says of the model behind embeddings of another program."""
    known = ("model", "fingerprint", "features_sha256", "files")
    return {"name" if key == "model" else key: embeddings.metadata.get(key) for key in known}


def _data_facts(embeddings: Embeddings, dataset: Any) -> dict[str, Any]:
    """Counts, source and hash of what was evaluated, and what of it was cut or could not be read."""
    metadata = embeddings.metadata
    unreadable = metadata.get("unreadable") or []
    features = metadata.get("features_sha256")  # where the model is unknown they tell these data from others
    complete = dataset.completeness if dataset is not None else metadata.get("completeness", NOT_CHECKED)
    return {
        "images": len(embeddings.image_features),
        "texts": len(embeddings.text_features),
        "source": metadata.get("source") or ", ".join(embeddings.files),
        "built_in_sample": bool(complete.get("built_in_sample", False)),
        "sha256": list_sha256([*embeddings.image_ids, *embeddings.texts, *([features] if features else [])]),
        "truncated_texts": metadata.get("truncated_texts"),
        "unreadable_pictures": len(unreadable),
        "unreadable": unreadable[:10],
        "from_cache": metadata.get("from_cache"),
        "completeness": complete,
    }


def _gap(embeddings: Embeddings, seed: int) -> dict[str, Any]:
    return modality_gap(embeddings.image_features, embeddings.text_features, embeddings.pairs, seed=seed)

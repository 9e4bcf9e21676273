"""The driver of the three programs: flags, one record a data set, one table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from evaluation.completeness import add_partial_flag, completeness, label, notes, require_complete
from evaluation.gap_removal import GapRemoval, add_gap_flags, recorded_flags
from evaluation.given import add_source_flags, dataset_of, model_of, read_given
from evaluation.record import common_protocol, data_facts, encoder_facts, leak_of
from evaluation.task import Task
from i0t import processes
from i0t.cli import add_common_flags, add_encoding_flags, device_of, encode_options, workers_of
from i0t.data.roots import roots_of
from i0t.embeddings import Embeddings
from i0t.encoders import load_encoder
from i0t.encoders.encode import encode
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder
from i0t.gap import modality_gap
from i0t.paths import TENSORS, Roots, last_checkpoint, say
from i0t.records import Record
from i0t.standardize import GapRemover
from i0t.standardize.fitting import describe
from i0t.standardize.registry import remover_choices

Result = tuple[Record, Embeddings, GapRemover | None]

EPILOG = """\
Without arguments: the last checkpoint, on all data sets of the path files that are present.
Each data set gives one JSON record in --output (default: tensors), named after model and
protocol, with its embeddings and means beside it; the records' paths are printed last."""


def parse(task: Task, argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of an evaluation program."""
    parser = argparse.ArgumentParser(
        prog=f"evaluate_{task.name}",
        description=type(task).__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_source_flags(parser)
    parser.add_argument(
        "--dataset",
        action="append",
        choices=task.datasets,
        help="may be repeated (default: all that are present)",
    )
    task.add_flags(parser)
    add_partial_flag(parser)
    add_gap_flags(parser)
    add_encoding_flags(parser)
    add_common_flags(parser)
    parser.set_defaults(output=str(TENSORS), batch_size=64, seed=0)
    return parser.parse_args(argv)


def run_task(task: Task, argv: Sequence[str] | None) -> int:
    """Evaluate as the command line says; returns the exit status."""
    options = parse(task, argv)
    remover_choices(options, [options.remove_gap])  # refuses a parameter of another remover
    if options.embeddings and not processes.is_main():
        return 0  # nothing to encode, so nothing to help with
    folder = ensure_folder(options.output)  # before hours of encoding, not after
    options.workers = workers_of(options)
    results = _of_embeddings(task, options) if options.embeddings else _of_model(task, options)
    records, paths = [], []
    for record, embeddings, remover in results:
        paths.append(save(folder, record, embeddings, remover))
        records.append(record)
    if processes.is_main():
        print(results_table(task, records))
        print(*paths, sep="\n")
    processes.leave()
    return 0


def _of_model(task: Task, options: argparse.Namespace) -> Iterator[Result]:
    """Evaluate a model on every data set asked for or present.

    Of several processes (`accelerate launch`) all encode and the main one measures; the others yield nothing.
    """
    options.device = processes.join(options.device)
    with processes.first_here():  # which may make the sample
        roots = roots_of(options)
    datasets = options.dataset or [name for name in task.datasets if task.is_present(name, roots)]
    if not datasets:
        folders = ", ".join(str(folder) for folder in (roots.main, roots.sub) if folder)
        raise I0TError(f"none of {', '.join(task.datasets)} is present in {folders}. See the README for the layout.")
    require_complete(datasets, roots, options)
    torch.manual_seed(options.seed)  # for models without trained weights, such as tiny
    encoder = load_encoder(options.model or last_checkpoint(roots), device_of(options), roots)
    gap_removal = GapRemoval(encoder, roots, options)
    for dataset in datasets:
        say(f"{task.name}: {dataset} with {encoder.name}")
        if processes.is_main():
            yield evaluate(task, encoder, dataset, roots, options, gap_removal)
        else:
            gap_removal.remover(embed_dataset(task, encoder, dataset, roots, options), task.prefix(options))


def _of_embeddings(task: Task, options: argparse.Namespace) -> Iterator[Result]:
    """Evaluate what another program encoded."""
    given = read_given(options.embeddings)
    dataset = dataset_of(given, task, options)
    # Retrieval needs nothing but the file, so it neither looks for data nor makes the sample.
    roots = roots_of(options) if task.needs_data else Roots(None, None)
    task.check(given, dataset, roots, options)
    given.metadata["dataset"] = dataset
    say(f"{task.name}: {dataset} from {', '.join(options.embeddings)}")
    yield evaluate(task, None, dataset, roots, options, GapRemoval(None, roots, options), given)


def evaluate(
    task: Task,
    encoder: Encoder | None,
    dataset: str,
    roots: Roots,
    options: argparse.Namespace,
    gap_removal: GapRemoval,
    embeddings: Embeddings | None = None,
) -> Result:
    """Evaluate one data set.

    Args:
        task: what to measure.
        encoder: the model; None for embeddings of another program.
        dataset: its name.
        roots: data folders.
        options: all flags.
        gap_removal: makes the remover.
        embeddings: of this data set, to not encode: from an earlier call with the same model, or given.

    Returns:
        The record, the embeddings as encoded, and the remover used.
    """
    started = time.perf_counter()
    complete = completeness(dataset, roots, options, embeddings)
    if embeddings is None:
        assert encoder is not None
        embeddings = embed_dataset(task, encoder, dataset, roots, options)
        embeddings.metadata.update(complete)
    remover = gap_removal.remover(embeddings, task.prefix(options))
    # `describe` tells of fitted items that are evaluated.
    moved = embeddings if remover is None else remover.transform_embeddings(embeddings, check_overlap=False)
    metrics, counts = task.measure(moved, dataset, roots, options)
    gap_before = {} if remover is None else _gap(embeddings, options.seed)
    gap = _gap(moved, options.seed)
    record = Record(
        task=task.name,
        dataset=dataset,
        metrics=metrics,
        gap=gap,
        gap_before=gap_before,
        protocol={
            **common_protocol(embeddings),
            **task.protocol(options, embeddings),
            **describe(remover, embeddings),
        },
        config={
            "model": model_of(embeddings) if encoder is None else encoder_facts(encoder),
            "flags": recorded_flags(options),
        },
        data={**data_facts(embeddings, roots), **counts, **complete},
        seconds=round(time.perf_counter() - started, 3),
    )
    return record, embeddings, remover


def embed_dataset(task: Task, encoder: Encoder, dataset: str, roots: Roots, options: argparse.Namespace) -> Embeddings:
    """A data set as encoded, with what a record will want to know of that."""
    embeddings = encode(encoder, task.items(dataset, roots, options), encode_options(options))
    part = task.splits[dataset]
    embeddings.metadata.update({"task": task.name, "dataset": dataset, "split": "test", "part": part})
    return embeddings


def save(folder: Path, record: Record, embeddings: Embeddings, remover: GapRemover | None) -> Path:
    """Write embeddings (as encoded), means and record; returns the record's path, written last."""
    embeddings.save(folder / f"{record.stem}.embeddings.safetensors")
    if remover is not None:
        remover.save(folder / f"{record.stem}.means.safetensors")
    return record.save(folder)


def results_table(task: Task, records: list[Record]) -> str:
    """One row a data set, at most 80 columns wide."""
    labels = [name.replace("balanced_accuracy", "balanced") for name in task.headline]
    headers = ["data set", "CD", *labels]
    rows = [
        [
            label(record),
            f"{record.gap['centroid_distance']:.3f}",
            *(record.metrics[name] for name in task.headline),
        ]
        for record in records
    ]
    protocol = records[0].protocol
    title = ", ".join(
        [str(records[0].config["model"]["name"]), f"remove_gap={protocol['remove_gap']}"]
        + ([f"fit_on={protocol['fit_on']}"] if "fit_on" in protocol else [])
        + ([f"means of evaluated items: {leak_of(protocol)}"] if protocol.get("means_leak") else [])
    )
    table = tabulate(rows, headers=headers, floatfmt=".2f", disable_numparse=[0, 1])
    return "\n".join([title, table, *notes(records)])


def _gap(embeddings: Embeddings, seed: int) -> dict[str, Any]:
    return modality_gap(embeddings.image_features, embeddings.text_features, embeddings.pairs, seed=seed)

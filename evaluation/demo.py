"""Program: the main experiment on the built-in sample. `scripts/demo.sh`.

Trains the small model (stage 1, then the heads of I0T_async), evaluates both with gap removers on the three
tasks, and writes one table, `results.json` and one figure.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from evaluation.options import EvaluationOptions
from evaluation.run import Result, TrainingPairs, encode_dataset, evaluate, save
from evaluation.task import task_class
from i0t.cli import not_negative, program, usable_device
from i0t.data.datasets import load_dataset
from i0t.data.sample import SampleSize, data_dir, data_dir_sub, make_sample
from i0t.encoders import EncodeOptions
from i0t.encoders.checkpoint import load_checkpoint
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder, write_json
from i0t.paths import TENSORS, Roots, say
from i0t.report.figures import gap_picture
from i0t.standardize.registry import NONE, RemoverChoice
from i0t.training.recipe import read_overrides
from i0t.training.run import TrainOptions, train

STAGES = {"stage1": ("lcco", "tiny"), "async": ("bn_async", "stage1")}  # recipe and base, in order


class Row(NamedTuple):
    """One row of the table."""

    title: str
    stage: str  # checkpoint
    remover: str = NONE
    fit_on: str = "test"  # where the means come from


class Column(NamedTuple):
    """One column of the table."""

    title: str
    task: str
    dataset: str
    metric: str


ROWS = {  # keys of results.json
    "stage1": Row("stage 1", "stage1"),
    "mind_the_gap": Row("Mind-the-Gap", "stage1", "mind_the_gap"),
    "i0t_async": Row("I0T_async", "async"),
    "i0t_post": Row("I0T_post, test means", "stage1", "i0t_post"),
    "i0t_post_train_means": Row("I0T_post, train means", "stage1", "i0t_post", "train"),
}
COLUMNS = {
    "i2t_r1": Column("I2T R@1", "retrieval", "flickr", "i2t_r1"),
    "t2i_r1": Column("T2I R@1", "retrieval", "flickr", "t2i_r1"),
    "accuracy": Column("acc.", "classification", "birdsnap", "accuracy"),
    "expert_tau_c": Column("Expert tau-c", "correlation", "flickr8k_expert", "tau_c"),
    "cf_tau_b": Column("CF tau-b", "correlation", "flickr8k_cf", "tau_b"),
}


@dataclass(frozen=True)
class DemoOptions:
    """Options of the program."""

    output: Path  # folder for everything
    fresh: bool = False  # train again, even if checkpoints exist
    workers: int = 1  # processes that decode images
    size: SampleSize = field(default_factory=SampleSize)
    overrides: Mapping[str, Any] = field(default_factory=dict)  # recipe values, for both stages


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = _parse(argv)
    started = time.perf_counter()
    folder = ensure_folder(options.output)
    root = make_sample(folder / "sample", options.size, seed=0)
    roots = Roots(data_dir(root), data_dir_sub(root), is_sample=True)
    encoders = _train_all(roots, options)
    results = _evaluate_all(encoders, roots, options)
    summary = {name: _figures(results[name]) for name in ROWS}
    print(_table(summary))
    shown = results["i0t_post"]["retrieval", "flickr"]
    assert shown.remover is not None
    after = shown.remover.transform_embeddings(shown.embeddings, check_overlap=False)
    figure = gap_picture({"before": shown.embeddings, "after I0T_post": after}, folder / "gap.png")
    validation = {key: encoders["stage1"].training_summary["validation"][key] for key in ("i2t_r1", "t2i_r1")}
    seconds = round(time.perf_counter() - started, 1)
    path = folder / "results.json"
    write_json(path, {**summary, "validation_r1": validation, "seconds": seconds})
    print(f"{seconds:.0f} s. Figure: {figure}\n{path}")
    return 0


def _parse(argv: Sequence[str] | None) -> DemoOptions:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=TENSORS / "demo", help="folder for everything (default tensors/demo)"
    )
    parser.add_argument("--fresh", action="store_true", help="train again, even if checkpoints exist")
    parser.add_argument("--workers", type=not_negative, default=1, help="processes that decode images (default 1)")
    parser.add_argument("--size", nargs="*", default=[], metavar="key=N", help="sizes of the sample, e.g. train=2000")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="recipe values, for both stages")
    arguments = parser.parse_intermixed_args(argv)  # key=value may stand between flags
    try:
        size = SampleSize(**{key: int(value) for key, _, value in (item.partition("=") for item in arguments.size)})
    except I0TError:
        raise
    except (TypeError, ValueError) as error:
        raise I0TError(f"--size {' '.join(arguments.size)}: {error}. Write key=N, e.g. train=2000.") from None
    return DemoOptions(arguments.output, arguments.fresh, arguments.workers, size, read_overrides(arguments.overrides))


def _train_all(roots: Roots, options: DemoOptions) -> dict[str, Encoder]:
    """Train the stages, or load their checkpoints."""
    encoders: dict[str, Encoder] = {}
    paths: dict[str, str] = {}
    for stage, (recipe, base) in STAGES.items():
        how = TrainOptions(
            recipe=recipe,
            base=paths.get(base, base),
            overrides=options.overrides,
            output=options.output / "checkpoints",
            device=usable_device(),
            workers=options.workers,
            fresh=options.fresh,
        )
        run = train(how, roots)
        if run is None:
            raise I0TError("stopped by SIGTERM; the same command (without --fresh) resumes the run.")
        if run.was_there:
            say(f"{recipe}: trained before, {run.last} (--fresh trains again)")
        paths[stage], encoders[stage] = str(run.last), load_checkpoint(run.last)
    return encoders


def _evaluate_all(
    encoders: dict[str, Encoder], roots: Roots, options: DemoOptions
) -> dict[str, dict[tuple[str, str], Result]]:
    """Results by row, then by task and data set; the rows of a checkpoint share its embeddings."""
    measured = dict.fromkeys((column.task, column.dataset) for column in COLUMNS.values())
    datasets = {dataset: load_dataset(dataset, roots) for _, dataset in measured}
    encoded: dict[tuple[str, str, str], Any] = {}
    results: dict[str, dict[tuple[str, str], Result]] = {name: {} for name in ROWS}
    for name, row in ROWS.items():
        encoder, training_pairs = encoders[row.stage], None
        for task, dataset in measured:
            how = EvaluationOptions(
                task=task_class(task)(),
                encoding=EncodeOptions(workers=options.workers),
                remover=RemoverChoice(row.remover),
                fit_on=row.fit_on,
                flags={
                    "remove_gap": row.remover,
                    "fit_on": row.fit_on,
                    "dataset": [dataset],
                    "seed": 0,
                    "bootstrap": 0,
                },
            )
            key = (row.stage, task, dataset)
            if key not in encoded:
                encoded[key] = encode_dataset(encoder, datasets[dataset], how)
            embeddings, prefix = encoded[key]
            training_pairs = training_pairs or TrainingPairs(encoder, roots, how)
            result = evaluate(embeddings, datasets[dataset], how, encoder, partial(training_pairs, prefix))
            save(options.output, result)
            results[name][task, dataset] = result
    return results


def _figures(results: dict[tuple[str, str], Result]) -> dict[str, float]:
    """Make a row of results.json."""
    records = {key: result.record for key, result in results.items()}
    metrics = {name: round(records[c.task, c.dataset].metrics[c.metric], 2) for name, c in COLUMNS.items()}
    retrieval = next(iter(records.values()))
    return {"centroid_distance": round(retrieval.gap["centroid_distance"], 4), **metrics}


def _table(summary: dict[str, dict[str, float]]) -> str:
    headers = ["", "CD", *(column.title for column in COLUMNS.values())]
    rows = [[ROWS[name].title, *figures.values()] for name, figures in summary.items()]
    return tabulate(rows, headers=headers, floatfmt=("", ".3f", *(".1f" for _ in COLUMNS)))


if __name__ == "__main__":
    sys.exit(main())

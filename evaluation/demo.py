"""Program: the whole story on the built-in sample. `scripts/demo.sh`.

Trains the small pair (stage 1, then I0T_async's heads), evaluates every contestant on the three
tasks, and leaves one table, `results.json` and one picture.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from evaluation.classification import Classification
from evaluation.correlation import Correlation
from evaluation.gap_removal import GapRemoval
from evaluation.retrieval import Retrieval
from evaluation.run import evaluate, parse, save
from evaluation.task import Task
from i0t.cli import program, usable_device
from i0t.data.sample import SampleSize, data_dir, data_dir_sub, make_sample
from i0t.embeddings import Embeddings
from i0t.encoders.checkpoint import load_checkpoint
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder, write_json
from i0t.paths import TENSORS, Roots, say
from i0t.records import Record
from i0t.report.figures import gap_picture
from i0t.training.recipe import read_overrides
from i0t.training.run import TrainOptions, train

STAGE1_RECIPE, STAGE2_RECIPE = "lcco", "bn_async"
# name in results.json -> (row of the table, which checkpoint, flags of the evaluation programs)
CONTESTANTS = {
    "stage1": ("stage 1", "stage1", []),
    "mind_the_gap": ("Mind-the-Gap", "stage1", ["--remove-gap", "mind_the_gap"]),
    "i0t_async": ("I0T_async", "async", []),
    "i0t_post": ("I0T_post, test means", "stage1", ["--remove-gap", "i0t_post"]),
    "i0t_post_train_means": (
        "I0T_post, train means",
        "stage1",
        ["--remove-gap", "i0t_post", "--fit-on", "train"],
    ),
}
# column -> (task, data set, metric)
COLUMNS = {
    "i2t_r1": ("retrieval", "flickr", "i2t_r1"),
    "t2i_r1": ("retrieval", "flickr", "t2i_r1"),
    "accuracy": ("classification", "birdsnap", "accuracy"),
    "expert_tau_c": ("correlation", "flickr8k_expert", "tau_c"),
    "cf_tau_b": ("correlation", "flickr8k_cf", "tau_b"),
}
TASKS: dict[str, Task] = {task.name: task for task in (Retrieval(), Classification(), Correlation())}


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    arguments = _parse(argv)
    started = time.perf_counter()
    folder = ensure_folder(arguments.output)
    root = make_sample(folder / "sample", SampleSize(**dict(_size(item) for item in arguments.size)), seed=0)
    roots = Roots(data_dir(root), data_dir_sub(root), is_sample=True)
    encoders, validation = _train_both(roots, folder, arguments)
    records, embeddings = _evaluate_all(encoders, roots, folder, arguments)
    results = {name: _row(records[name]) for name in CONTESTANTS}
    print(_table(results))
    picture = _picture(records, embeddings, folder)
    seconds = round(time.perf_counter() - started, 1)
    path = folder / "results.json"
    write_json(path, {**results, "validation_r1": validation, "seconds": seconds})
    print(f"{seconds:.0f} s. Picture: {picture}\n{path}")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", default=str(TENSORS / "demo"), help="folder for everything (default tensors/demo)")
    parser.add_argument("--fresh", action="store_true", help="train again, even if the checkpoints are there")
    parser.add_argument("--workers", default="1", help="picture decoding processes (default 1)")
    parser.add_argument("--size", nargs="*", default=[], metavar="key=N", help="sizes of the sample, e.g. train=2000")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="recipe values, both stages")
    return parser.parse_intermixed_args(argv)  # key=value may stand between flags


def _size(item: str) -> tuple[str, int]:
    key, _, value = item.partition("=")
    return key, int(value)


def _train_both(
    roots: Roots, folder: Path, arguments: argparse.Namespace
) -> tuple[dict[str, Encoder], dict[str, float]]:
    """Both checkpoints, trained unless they have been; and stage 1's validation R@1."""
    paths: dict[str, str] = {}
    for stage, recipe, base in (("stage1", STAGE1_RECIPE, "tiny"), ("async", STAGE2_RECIPE, None)):
        options = TrainOptions(
            recipe=recipe,
            base=base or paths["stage1"],
            overrides=read_overrides(arguments.overrides),
            output=folder / "checkpoints",
            device=usable_device(),
            workers=int(arguments.workers),
            fresh=arguments.fresh,
        )
        run = train(options, roots)
        if run is None:
            raise I0TError("stopped by SIGTERM; the same command (without --fresh) goes on where it was.")
        if run.was_there:
            say(f"{recipe}: trained before, {run.last} (--fresh trains again)")
        paths[stage] = str(run.last)
    encoders = {stage: load_checkpoint(path) for stage, path in paths.items()}
    validation = encoders["stage1"].training_summary["validation"]
    return encoders, {key: validation[key] for key in ("i2t_r1", "t2i_r1")}


def _evaluate_all(
    encoders: dict[str, Encoder], roots: Roots, folder: Path, arguments: argparse.Namespace
) -> tuple[dict[str, dict[str, Record]], dict[tuple[str, str], Embeddings]]:
    """Records by contestant and column; what a checkpoint encoded is shared by its contestants."""
    records: dict[str, dict[str, Record]] = {name: {} for name in CONTESTANTS}
    embeddings: dict[tuple[str, str], Embeddings] = {}
    for name, (_, stage, flags) in CONTESTANTS.items():
        removal = None
        for column, (task_name, dataset, _) in COLUMNS.items():
            task = TASKS[task_name]
            done = next((records[name][c] for c in records[name] if COLUMNS[c][:2] == (task_name, dataset)), None)
            if done is None:
                options = parse(task, [*flags, "--dataset", dataset, "--output", str(folder)])
                options.workers = int(arguments.workers)
                removal = removal or GapRemoval(encoders[stage], roots, options)
                known = embeddings.get((stage, dataset))
                done, embedded, remover = evaluate(task, encoders[stage], dataset, roots, options, removal, known)
                embeddings[stage, dataset] = embedded
                save(folder, done, embedded, remover)
            records[name][column] = done
    return records, embeddings


def _row(records: dict[str, Record]) -> dict[str, float]:
    retrieval = next(iter(records.values()))
    metrics = {column: round(record.metrics[COLUMNS[column][2]], 2) for column, record in records.items()}
    return {"centroid_distance": round(retrieval.gap["centroid_distance"], 4), **metrics}


def _table(results: dict[str, dict[str, Any]]) -> str:
    headers = ["", "CD", "I2T R@1", "T2I R@1", "acc.", "Expert tau-c", "CF tau-b"]
    rows = [[CONTESTANTS[name][0], *row.values()] for name, row in results.items()]
    return tabulate(rows, headers=headers, floatfmt=("", ".3f", ".1f", ".1f", ".1f", ".1f", ".1f"))


def _picture(
    records: dict[str, dict[str, Record]], embeddings: dict[tuple[str, str], Embeddings], folder: Path
) -> Path:
    from i0t.standardize import Standardizer

    before = embeddings["stage1", "flickr"]
    means = folder / f"{records['i0t_post']['i2t_r1'].stem}.means.safetensors"
    after = Standardizer.load(means).transform_embeddings(before, check_overlap=False)
    return gap_picture({"before": before, "after I0T_post": after}, folder / "gap.png")


if __name__ == "__main__":
    sys.exit(main())

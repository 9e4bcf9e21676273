"""Program: the main experiment on the built-in sample. `scripts/demo.sh`.

Trains the small model (stage 1, then the heads of I0T_async), evaluates both with gap removers on the three
tasks and in mixed search, and writes three tables, `results.json` and one figure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.demo_figures import mixed_by_method
from evaluation.demo_rows import (
    FIRST,
    best_rival,
    difference_table,
    evaluate_rows,
    figures_of,
    plain_row,
    search_table,
    value_table,
)
from evaluation.run import save
from i0t.cli import Parser, not_negative, program, usable_device
from i0t.data.sample import SampleSize, data_dir, data_dir_sub, make_sample
from i0t.encoders.checkpoint import load_checkpoint
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder, write_json
from i0t.paths import TENSORS, Roots, say
from i0t.report.figures import gap_picture
from i0t.training.recipe import read_overrides
from i0t.training.run import TrainOptions, train

STAGES: dict[str, tuple[str, str, Mapping[str, Any]]] = {  # recipe, base, and what differs from its sample values
    "stage1": ("lcco", "tiny_patch8", {"steps": 520, "validate_every": 0}),
    "async": ("bn_async", "stage1", {}),
}
SIZE = SampleSize(flickr=2_000)  # against the noise of 1 000 test pairs


@dataclass(frozen=True)
class DemoOptions:
    """Options of the program."""

    output: Path  # folder for everything
    fresh: bool = False  # train again, even if checkpoints exist
    workers: int = 1  # processes that decode images for training
    size: SampleSize = SIZE
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
    rows = evaluate_rows(encoders, roots)
    for result in (evaluated.result for row in rows.values() for evaluated in row.values()):
        if result:
            save(folder, result)
    figures = {name: figures_of(row, roots) for name, row in rows.items()}
    search = mixed_by_method(rows[FIRST]["mixed"].encoded)
    print(value_table(figures), difference_table(figures), search_table(search), sep="\n\n", end="\n\n")
    shown = rows["i0t_post"]["retrieval"]
    picture = gap_picture({"before": shown.encoded, "after I0T_post": shown.moved}, folder / "gap.png")
    validation = {key: encoders["stage1"].training_summary["validation"][key] for key in ("i2t_r1", "t2i_r1")}
    seconds = round(time.perf_counter() - started, 1)
    path = folder / "results.json"
    content: dict[str, Any] = {name: plain_row(found, figures[FIRST], FIRST) for name, found in figures.items()}
    rival = best_rival(search)
    content["search"] = {name: plain_row(found, search[rival], rival) for name, found in search.items()}
    write_json(path, {**content, "validation_r1": validation, "seconds": seconds})
    print(f"{seconds:.0f} s. Figure: {picture}\n{path}")
    return 0


def _parse(argv: Sequence[str] | None) -> DemoOptions:
    parser = Parser(prog="demo", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=TENSORS / "demo", help="folder for everything (default tensors/demo)"
    )
    parser.add_argument("--fresh", action="store_true", help="train again, even if checkpoints exist")
    parser.add_argument(
        "--workers", type=not_negative, default=1, help="processes that decode images for training (default 1)"
    )
    parser.add_argument("--size", nargs="*", default=[], metavar="key=N", help="sizes of the sample, e.g. train=2000")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="recipe values, for both stages")
    arguments = parser.parse_intermixed_args(argv)  # key=value may stand between flags
    try:
        given = {key: int(value) for key, _, value in (item.partition("=") for item in arguments.size)}
        size = replace(SIZE, **given)
    except I0TError:
        raise
    except (TypeError, ValueError) as error:
        raise I0TError(f"--size {' '.join(arguments.size)}: {error}. Write key=N, e.g. train=2000.") from None
    return DemoOptions(arguments.output, arguments.fresh, arguments.workers, size, read_overrides(arguments.overrides))


def _train_all(roots: Roots, options: DemoOptions) -> dict[str, Encoder]:
    """Train the stages, or load their checkpoints."""
    encoders: dict[str, Encoder] = {}
    paths: dict[str, str] = {}
    for stage, (recipe, base, values) in STAGES.items():
        how = TrainOptions(
            recipe=recipe,
            base=paths.get(base, base),
            overrides={**values, **options.overrides},
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


if __name__ == "__main__":
    sys.exit(main())

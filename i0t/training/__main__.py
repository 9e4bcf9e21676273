"""Program: train with a recipe. `scripts/train.sh` (stage 1) and `scripts/post_train.sh` (stage 2)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from i0t.cli import Parser, add_common_flags, device_of, program, resolve_roots, workers_of
from i0t.paths import say
from i0t.processes import is_main, is_main_here
from i0t.training.recipe import join_flags, read_overrides
from i0t.training.run import TrainOptions, train

DESCRIPTION = """\
Train an encoder on ShareGPT4V long captions and write its checkpoint.

  bash scripts/train.sh                        stage 1: recipe lccom, from OpenAI's ViT-B/32
  bash scripts/train.sh --base tiny            stage 1 from scratch, the sample's small architecture
  bash scripts/post_train.sh                   stage 2: I0T_async's BatchNorm heads on the last checkpoint
  bash scripts/train.sh --recipe lcco steps=100 seed=42       any value of a recipe can be set

The same command resumes an interrupted run; a finished run is kept (--fresh trains again). On several GPUs
or machines, which share the batch and give the same result:

  ACCELERATE=configs/accelerate/two_gpus.yaml bash scripts/train.sh

Checkpoints are written to <data_dir>/checkpoints (or --output; or tensors/checkpoints if the data folder
cannot be written), and the name is written to configs/ckpt_file_name.txt for the next program.
Images are turned as their EXIF orientation says. Watch a run with: tensorboard --logdir <that folder>/runs"""


def parse(argv: Sequence[str] | None) -> tuple[TrainOptions, tuple[str | None, str | None]]:
    """Parse the command line into options and data folders.

    Raises:
        I0TError: an invalid override, or a missing device.
    """
    parser = Parser(prog="train", description=DESCRIPTION)
    parser.add_argument(
        "--recipe", default="lccom", help="a file of configs/recipes (default: lccom; of post_train.sh: bn_async)"
    )
    parser.add_argument("--base", help="model, spec or checkpoint to start from (default: the recipe's)")
    parser.add_argument("--fresh", action="store_true", help="train again; removes the files of this run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of the recipe to change")
    add_common_flags(
        parser,
        batch_size="pairs per step, over all processes: the loss contrasts them all (default: the recipe's). "
        "To save memory, set chunk_size=N instead: pairs per forward pass",
    )
    arguments = parser.parse_intermixed_args(argv)  # key=value may stand between flags
    flags = {"seed": arguments.seed, "batch_size": arguments.batch_size, "base": arguments.base}
    options = TrainOptions(
        recipe=arguments.recipe,
        overrides=join_flags(read_overrides(arguments.overrides), flags),
        output=Path(arguments.output) if arguments.output else None,
        device=device_of(arguments),
        workers=workers_of(arguments),
        skip_unreadable=arguments.skip_unreadable,
        fresh=arguments.fresh,
        note_checkpoint=True,
    )
    return options, (arguments.data_dir, arguments.data_dir_sub)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options, data_folders = parse(argv)
    run = train(options, resolve_roots(*data_folders))
    if run is None:
        return 0
    recipe, summary = run.summary["recipe"]["name"], run.summary
    if run.was_there:
        say(f"{recipe}: trained before, {run.last} (--fresh trains again)")
    if is_main():
        rows = {**summary["validation"], "steps": summary["step"], "seconds": summary["seconds"]}
        print(tabulate(rows.items(), headers=[recipe, "validation"], floatfmt=".3f"))
        print(f"best by R@1: {run.best}")
    if is_main_here():  # scripts/ladder.sh reads this line, on every machine
        print(f"last, noted in ckpt_file_name.txt: {run.last}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

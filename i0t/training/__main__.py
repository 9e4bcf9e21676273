"""Program: train after a recipe. `scripts/train.sh` (stage 1) and `scripts/post_train.sh` (stage 2)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from i0t.cli import add_common_flags, device_of, program, resolve_roots, workers_of
from i0t.paths import say
from i0t.processes import is_main, is_main_here
from i0t.training.recipe import read_overrides
from i0t.training.run import TrainOptions, train

DESCRIPTION = """\
Train an encoder on ShareGPT4V long captions and write its checkpoint.

  bash scripts/train.sh                        stage 1: recipe lccom, from OpenAI's ViT-B/32
  bash scripts/train.sh --base tiny            stage 1 from scratch, the sample's small architecture
  bash scripts/post_train.sh                   stage 2: I0T_async's BatchNorm heads on the last checkpoint
  bash scripts/train.sh --recipe lcco steps=100 seed=42       any value of a recipe can be set

A run that was interrupted goes on where it was when the same command is given again; a finished one is
kept (--fresh trains again). On several GPUs or machines (the batch is shared, the result is the same):

  ACCELERATE=configs/accelerate/two_gpus.yaml bash scripts/train.sh

Checkpoints land in <data_dir>/checkpoints (or --output; or tensors/checkpoints where the data folder
cannot be written), and the name is noted in configs/ckpt_file_name.txt for the next program.
Watch a run with: tensorboard --logdir <that folder>/runs"""


def parse(argv: Sequence[str] | None) -> tuple[TrainOptions, tuple[str | None, str | None]]:
    """The command line: how to train, and the data folders it names.

    Raises:
        I0TError: an override that cannot be read, a device that is not there.
    """
    parser = argparse.ArgumentParser(
        prog="train", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="lccom", help="a file of configs/recipes (default: lccom)")
    parser.add_argument("--base", help="model, spec or checkpoint to start from (default: the recipe's)")
    parser.add_argument("--fresh", action="store_true", help="begin anew; removes what there is of this very run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of the recipe to change")
    add_common_flags(
        parser,
        batch_size="pairs a step, over all processes: the loss contrasts them all (default: the recipe's). "
        "Where memory is short set chunk_size=N instead, pairs a forward pass",
    )
    arguments = parser.parse_intermixed_args(argv)  # key=value may stand between flags
    flags = {"seed": arguments.seed, "batch_size": arguments.batch_size}
    options = TrainOptions(
        recipe=arguments.recipe,
        base=arguments.base,
        overrides={
            **read_overrides(arguments.overrides),
            **{key: value for key, value in flags.items() if value is not None},
        },
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

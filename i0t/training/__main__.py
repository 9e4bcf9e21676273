"""Program: train after a recipe. `scripts/train.sh` (stage 1) and `scripts/post_train.sh` (stage 2)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from i0t.cli import add_common_flags, device_of, program, roots_of, workers_of
from i0t.paths import Roots, last_checkpoint, say, write_last_checkpoint
from i0t.training.recipe import LAST, load_recipe

if TYPE_CHECKING:
    from i0t.training.loop import Trainer

DESCRIPTION = """\
Train an encoder on ShareGPT4V long captions and write its checkpoint.

  bash scripts/train.sh                        stage 1: recipe lccom, from OpenAI's ViT-B/32
  bash scripts/train.sh --base tiny            stage 1 from scratch, the sample's small architecture
  bash scripts/post_train.sh                   stage 2: I0T_async's BatchNorm heads on the last checkpoint
  bash scripts/train.sh --recipe lcco steps=100 seed=42       any value of a recipe can be set

Checkpoints land in <data_dir>/checkpoints (or --output; or tensors/checkpoints where the data folder
cannot be written), and the name is noted in configs/ckpt_file_name.txt for the next program.
Watch a run with: tensorboard --logdir <that folder>/runs"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of the program."""
    parser = argparse.ArgumentParser(
        prog="train", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="lccom", help="a file of configs/recipes (default: lccom)")
    parser.add_argument("--base", help="model, spec or checkpoint to start from (default: the recipe's)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of the recipe to change")
    add_common_flags(parser)
    return parser.parse_intermixed_args(argv)  # key=value may stand between flags


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    arguments = parse(argv)
    roots = roots_of(arguments)
    trainer = build_trainer(arguments, roots)
    summary = trainer.run()
    write_last_checkpoint(trainer.last_path, roots)
    rows = {**summary["validation"], "steps": summary["step"], "seconds": summary["seconds"]}
    print(tabulate(rows.items(), headers=[trainer.recipe.name, "validation"], floatfmt=".3f"))
    print(f"best by R@1: {trainer.best_path}")
    print(f"last, noted in ckpt_file_name.txt: {trainer.last_path}")
    return 0


def build_trainer(arguments: argparse.Namespace, roots: Roots) -> Trainer:
    """The trainer that the command line asks for, ready to run.

    Raises:
        I0TError: unknown recipe or base, missing data, a folder that cannot be written.
    """
    import torch

    from i0t.data.sharegpt4v import load_sharegpt4v
    from i0t.encoders import load_encoder
    from i0t.training.loop import Trainer

    flags = {"seed": arguments.seed, "batch_size": arguments.batch_size}
    recipe = load_recipe(arguments.recipe, arguments.overrides, roots.is_sample, **flags)
    base = arguments.base or recipe.base
    base = str(last_checkpoint(roots) if base == LAST else base)
    torch.manual_seed(recipe.seed)  # before the base, whose weights may be random
    encoder = load_encoder(base, roots=roots)
    recipe = load_recipe(arguments.recipe, arguments.overrides, encoder.is_small, **flags, base=base)
    train_pairs = load_sharegpt4v(roots.data_dir, "train", recipe.subset)
    validation_pairs = load_sharegpt4v(roots.data_dir, "validation", recipe.subset)
    folder = Path(arguments.output or roots.checkpoints())
    say(
        f"{recipe.name} from {base}: {len(train_pairs)} pairs, {len(validation_pairs)} for validation; "
        f"checkpoints go to {folder}"
    )
    return Trainer(
        encoder,
        recipe,
        train_pairs,
        validation_pairs,
        folder,
        device_of(arguments),
        workers_of(arguments),
        arguments.skip_unreadable,
    )


if __name__ == "__main__":
    sys.exit(main())

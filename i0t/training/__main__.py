"""Program: train after a recipe. `scripts/train.sh` (stage 1) and `scripts/post_train.sh` (stage 2)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from i0t.cli import add_common_flags, device_of, program, workers_of
from i0t.data.roots import roots_of
from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.paths import Roots, last_checkpoint, say, write_last_checkpoint
from i0t.training.recipe import LAST, Recipe, load_recipe

if TYPE_CHECKING:
    from i0t.data.sharegpt4v import LongCaptions
    from i0t.encoders.encoder import Encoder
    from i0t.training.loop import Trainer
    from i0t.training.pairs import Source
    from i0t.training.shard_pairs import ValidationPairs

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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of the program."""
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
    return parser.parse_intermixed_args(argv)  # key=value may stand between flags


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    arguments = parse(argv)
    roots = roots_of(arguments)
    trainer = build_trainer(arguments, roots)
    if arguments.fresh:
        _note_base_of(trainer, roots)
    summary = trainer.run(arguments.fresh)
    if summary is None:
        return 0
    if trainer.accelerator.is_main_process:
        write_last_checkpoint(trainer.keeper.last_path, roots)
        rows = {**summary["validation"], "steps": summary["step"], "seconds": summary["seconds"]}
        print(tabulate(rows.items(), headers=[trainer.recipe.name, "validation"], floatfmt=".3f"))
        print(f"best by R@1: {trainer.keeper.best_path}")
    if trainer.accelerator.is_local_main_process:  # scripts/ladder.sh reads this line, on every machine
        print(f"last, noted in ckpt_file_name.txt: {trainer.keeper.last_path}")
    return 0


def build_trainer(arguments: argparse.Namespace, roots: Roots) -> Trainer:
    """The trainer that the command line asks for, ready to run.

    Raises:
        I0TError: unknown recipe or base, missing data, a folder that cannot be written.
    """
    import torch

    from i0t.training.accelerator import make_accelerator
    from i0t.training.loop import Trainer

    flags = {"seed": arguments.seed, "batch_size": arguments.batch_size}
    recipe = load_recipe(arguments.recipe, arguments.overrides, roots.is_sample, **flags)
    torch.manual_seed(recipe.seed)  # before the base, whose weights may be random
    base, encoder = _load_base(arguments.base or recipe.base, recipe.name, roots)
    recipe = load_recipe(arguments.recipe, arguments.overrides, encoder.is_small, **flags, base=base)
    accelerator = make_accelerator(device_of(arguments), recipe.precision)
    folder = Path(arguments.output or roots.checkpoints())
    with accelerator.main_process_first():  # it indexes and unpacks, the others find that done
        source, validation_pairs = _pairs(recipe, roots, folder, arguments.skip_unreadable)
    torch.manual_seed(recipe.seed + accelerator.process_index)  # of dropout, which is to differ between processes
    say(
        f"{recipe.name} from {base}: {len(source)} pairs, {len(validation_pairs)} for validation, "
        f"{accelerator.num_processes} x {accelerator.device.type}; checkpoints go to {folder}"
    )
    return Trainer(
        encoder,
        recipe,
        source,
        validation_pairs,
        folder,
        accelerator,
        workers_of(arguments),
        arguments.skip_unreadable,
    )


def _load_base(base: str, recipe: str, roots: Roots) -> tuple[str, Encoder]:
    """What to start from, by name and loaded.

    Where it is the last checkpoint and this very recipe made that, it is what that one started from:
    so the same command finds its run again, and another seed starts from the same base.
    """
    from i0t.encoders import load_encoder
    from i0t.encoders.checkpoint import training_of

    if base != LAST:
        return base, load_encoder(base, roots=roots)
    last = last_checkpoint(roots)
    before = training_of(last).get("recipe", {})
    if before.get("name") != recipe:
        return str(last), load_encoder(last, roots=roots)
    base = before["base"]
    say(f"{last} is itself of recipe {recipe}: starting from its base, {base} (--base names another)")
    try:
        return base, load_encoder(base, roots=roots)
    except I0TError as error:
        raise I0TError(
            f"{last}: recipe {recipe} made it from {base}, which cannot be loaded again: {error} "
            "Say what to start from: --base CHECKPOINT."
        ) from None


def _note_base_of(trainer: Trainer, roots: Roots) -> None:
    """Before a fresh run removes its checkpoint: if that is the noted one, the run's base takes its place.

    Or the same command would not find what to start from after an interruption.
    """
    base = Path(trainer.recipe.base)
    with suppress(I0TError):  # nothing is noted, or not what is there
        noted = last_checkpoint(roots).resolve() == trainer.keeper.last_path.resolve()
        if noted and base.is_file() and trainer.accelerator.is_main_process:
            write_last_checkpoint(base, roots)


def _pairs(
    recipe: Recipe, roots: Roots, folder: Path, skip_missing: bool
) -> tuple[Source, LongCaptions | ValidationPairs]:
    """Training and validation pairs; names of missing pictures go to a list beside the checkpoints."""
    from i0t.data.sharegpt4v import load_sharegpt4v
    from i0t.training.pairs import DiskPairs
    from i0t.training.shard_pairs import ShardPairs

    if recipe.shards:
        shards = ShardPairs(recipe.shards, recipe.shard_pairs)
        return shards, shards.validation(folder / "validation" / shards.digest[:8])
    train, validation = (
        load_sharegpt4v(roots.data_dir, split, recipe.subset, skip_missing) for split in ("train", "validation")
    )
    missing = [*train.missing, *validation.missing]
    if missing:
        path = folder / f"missing-pictures-{train.digest[:8]}.txt"
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in missing), encoding="utf-8")
        say(
            f"left out because their pictures are missing: {len(train.missing)} training and {len(validation.missing)} "
            f"validation pairs, listed in {path}"
        )
    return DiskPairs(train), validation


if __name__ == "__main__":
    sys.exit(main())

"""A training run from its options to its checkpoints: what the program, the demo and `i0t score` call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0t.data.datasets import in_sample
from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.paths import Roots, last_checkpoint, say, write_last_checkpoint
from i0t.training.recipe import LAST, Recipe, load_recipe

if TYPE_CHECKING:  # torch takes seconds to import, which --help and unknown recipes need not wait for
    from i0t.encoders.encoder import Encoder
    from i0t.training.batches import PairSource, ValidationPairs
    from i0t.training.loop import Trainer


@dataclass(frozen=True)
class TrainOptions:
    """How to train. What the weights depend on is in the recipe, the base and the data alone."""

    recipe: str = "lccom"  # a file of `configs/recipes`
    base: str | None = None  # model, spec or checkpoint to start from; None: the recipe's
    overrides: Mapping[str, Any] = field(default_factory=dict)  # values of the recipe, e.g. {"steps": 100}
    output: Path | None = None  # folder of checkpoints, states and logs; None: `roots.checkpoints()`
    device: str = "cpu"  # or "cuda", "cuda:1"
    workers: int = 0  # picture decoding processes
    skip_unreadable: bool = False  # leave out missing pictures, put other pairs in the place of unreadable ones
    fresh: bool = False  # remove what there is of this very run and begin anew
    note_checkpoint: bool = False  # in `configs/ckpt_file_name.txt`, for the next program


@dataclass(frozen=True)
class TrainedRun:
    """A run that was trained to its end."""

    summary: dict[str, Any]  # recipe, steps, validation figures; also in the checkpoints
    last: Path  # checkpoint of the last step
    best: Path  # checkpoint of the best validation R@1
    was_there: bool  # it had been trained before, and nothing was done


def train(options: TrainOptions, roots: Roots) -> TrainedRun | None:
    """Train after a recipe: an interrupted run goes on where it was, a finished one is kept.

    On several processes (`accelerate launch`) each calls this.

    Args:
        options: see there.
        roots: where the training data are.

    Returns:
        The finished run; None if SIGTERM stopped it before its last step.

    Raises:
        I0TError: unknown recipe or base, missing data, a folder that cannot be written, an unreadable
            picture, a loss that is no number, a disk that is too full.
    """
    trainer = make_trainer(options, roots)
    files = trainer.files
    summary = None if options.fresh else files.finished_summary
    was_there = summary is not None
    if options.fresh:
        if options.note_checkpoint:
            _note_base(trainer, roots)
        files.remove(checkpoints=True)
    if summary is None:
        summary = trainer.run()
    if summary is None:
        same = "the same command without --fresh" if options.fresh else "the same command"
        say(f"stopped by SIGTERM; {same} goes on from {files.states.newest}")
        return None
    if options.note_checkpoint and trainer.accelerator.is_main_process:
        write_last_checkpoint(files.last_path, roots)
    return TrainedRun(summary, files.last_path, files.best_path, was_there)


def make_trainer(options: TrainOptions, roots: Roots) -> Trainer:
    """The trainer that the options ask for, ready to run.

    Raises:
        I0TError: as `train`, but for what happens while it runs.
    """
    import torch

    from i0t.training.accelerator import make_accelerator
    from i0t.training.loop import Trainer

    overrides = {**options.overrides, **({"base": options.base} if options.base else {})}
    recipe = load_recipe(options.recipe, overrides, in_sample(roots))
    torch.manual_seed(recipe.seed)  # before the base, whose weights may be random
    base, encoder = _load_base(recipe, roots)
    recipe = load_recipe(options.recipe, {**overrides, "base": base}, encoder.is_small)
    accelerator = make_accelerator(options.device, recipe.precision)
    folder = options.output or roots.checkpoints()
    with accelerator.main_process_first():  # it indexes and unpacks, the others find that done
        source, validation = _load_pairs(recipe, roots, folder, options.skip_unreadable)
    torch.manual_seed(recipe.seed + accelerator.process_index)  # of dropout, which is to differ between processes
    say(
        f"{recipe.name} from {base}: {len(source)} pairs, {len(validation)} for validation, "
        f"{accelerator.num_processes} x {accelerator.device.type}; checkpoints go to {folder}"
    )
    return Trainer(encoder, recipe, source, validation, folder, accelerator, options.workers, options.skip_unreadable)


def _load_base(recipe: Recipe, roots: Roots) -> tuple[str, Encoder]:
    """What to start from, by name and loaded.

    Where it is the last checkpoint and this very recipe made that, it is what that one started from:
    so the same command finds its run again, and another seed starts from the same base.
    """
    from i0t.encoders import load_encoder
    from i0t.encoders.checkpoint import training_of

    if recipe.base != LAST:
        return recipe.base, load_encoder(recipe.base, roots=roots)
    last = last_checkpoint(roots)
    before = training_of(last).get("recipe", {})
    if before.get("name") != recipe.name:
        return str(last), load_encoder(last, roots=roots)
    base = before["base"]
    say(f"{last} is itself of recipe {recipe.name}: starting from its base, {base} (--base names another)")
    try:
        return base, load_encoder(base, roots=roots)
    except I0TError as error:
        raise I0TError(
            f"{last}: recipe {recipe.name} made it from {base}, which cannot be loaded again: {error} "
            "Say what to start from: --base CHECKPOINT."
        ) from None


def _load_pairs(recipe: Recipe, roots: Roots, folder: Path, skip_missing: bool) -> tuple[PairSource, ValidationPairs]:
    """Training and validation pairs; names of missing pictures go to a list beside the checkpoints."""
    from i0t.data.sharegpt4v import load_sharegpt4v
    from i0t.training.batches import DiskPairs, ValidationPairs
    from i0t.training.shard_batches import ShardPairs

    if recipe.shards and recipe.shard_pairs:
        shards = ShardPairs(recipe.shards, recipe.shard_pairs)
        return shards, shards.validation(folder / "validation" / shards.digest[:8])
    pairs, validation = (
        load_sharegpt4v(roots.data_dir, split, recipe.subset, skip_missing) for split in ("train", "validation")
    )
    missing = [*pairs.missing, *validation.missing]
    if missing:
        path = folder / f"missing-pictures-{pairs.digest[:8]}.txt"
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in missing), encoding="utf-8")
        say(
            f"left out because their pictures are missing: {len(pairs.missing)} training and {len(validation.missing)} "
            f"validation pairs, listed in {path}"
        )
    return DiskPairs(pairs), ValidationPairs(validation.images, validation.captions)


def _note_base(trainer: Trainer, roots: Roots) -> None:
    """Before a fresh run removes its checkpoint: if that is the noted one, the run's base takes its place.

    Or the same command would not find what to start from after an interruption.
    """
    base = Path(trainer.recipe.base)
    with suppress(I0TError):  # nothing is noted, or not what is there
        noted = last_checkpoint(roots).resolve() == trainer.files.last_path.resolve()
        if noted and base.is_file() and trainer.accelerator.is_main_process:
            write_last_checkpoint(base, roots)

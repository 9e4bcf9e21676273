"""`train`: a training run from options to checkpoints, for the program, the demo and `i0t score`."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0t.data.datasets import in_sample
from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.paths import Roots, last_checkpoint, say, write_last_checkpoint
from i0t.program import on_stop
from i0t.training.recipe import LAST, Recipe, load_recipe

if TYPE_CHECKING:  # importing torch takes seconds, which --help and unknown recipes do not need
    from i0t.encoders.encoder import Encoder
    from i0t.training.batches import PairSource, ValidationPairs
    from i0t.training.loop import Trainer


@dataclass(frozen=True)
class TrainOptions:
    """Options of training. The weights depend only on the recipe, the base and the data."""

    recipe: str = "lccom"  # a file of `configs/recipes`
    base: str | None = None  # model, spec or checkpoint to start from; None: the recipe's
    overrides: Mapping[str, Any] = field(default_factory=dict)  # values of the recipe, e.g. {"steps": 100}
    output: Path | None = None  # folder of checkpoints, states and logs; None: `roots.checkpoints()`
    device: str = "cpu"  # or "cuda", "cuda:1"
    workers: int = 0  # processes that decode images
    skip_unreadable: bool = False  # leave out missing images, replace unreadable ones by other pairs
    fresh: bool = False  # remove the files of this run and train again
    note_checkpoint: bool = False  # write it to `configs/ckpt_file_name.txt`, for the next program


@dataclass(frozen=True)
class TrainedRun:
    """A finished run."""

    summary: dict[str, Any]  # recipe, steps, validation; also in the checkpoints
    last: Path  # checkpoint of the last step
    best: Path  # checkpoint of the best validation R@1
    was_there: bool  # whether it had been trained before


def train(options: TrainOptions, roots: Roots) -> TrainedRun | None:
    """Train with a recipe: an interrupted run is resumed, a finished one is kept.

    With several processes (`accelerate launch`), each must call this.

    Returns:
        The finished run; None if SIGTERM stopped it before its last step.

    Raises:
        I0TError: unknown recipe or base, missing data, a folder that cannot be written, an unreadable
            image, a loss that is not finite, a full disk.
        KeyboardInterrupt: Ctrl-C stopped it; a state is saved, as for SIGTERM.
    """
    trainer = make_trainer(options, roots)
    files = trainer.files
    with files.only_run(), on_stop(lambda: f"the same command resumes from {files.states.newest or 'the first step'}"):
        return _run(trainer, options, roots)


def _run(trainer: Trainer, options: TrainOptions, roots: Roots) -> TrainedRun | None:
    files = trainer.files
    summary = None if options.fresh else files.finished_summary
    was_there = summary is not None
    if was_there:
        _require_whole(files.last_path)
    if options.fresh:
        if options.note_checkpoint:
            _note_base(trainer, roots)
        files.remove(checkpoints=True)
    if summary is None:
        summary = trainer.run()
    if summary is None:
        same = "the same command without --fresh" if options.fresh else "the same command"
        step = f"step {files.progress['step']} of {files.total_steps}"
        if trainer.stopped_by == signal.SIGINT:
            raise KeyboardInterrupt(f"{same} resumes from {files.states.newest} ({step})")
        say(f"stopped by SIGTERM; {same} resumes from {files.states.newest} ({step})")
        return None
    if options.note_checkpoint and trainer.accelerator.is_main_process:
        _note_result(files.last_path, roots)
    return TrainedRun(summary, files.last_path, files.best_path, was_there)


def _require_whole(path: Path) -> None:
    """Check a finished run's checkpoint, which nothing else would read before the next program."""
    from i0t.encoders.checkpoint import load_checkpoint

    try:
        load_checkpoint(path)
    except I0TError as error:
        raise I0TError(f"{error} Or train again with --fresh.") from None


def _note_result(path: Path, roots: Roots) -> None:
    """Name the checkpoint in the path file; if that cannot be written, the training is no failure."""
    try:
        write_last_checkpoint(path, roots)
    except (I0TError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        say(
            f"warning: the training is done, but configs/ckpt_file_name.txt does not name its checkpoint ({why}). "
            f"Tell the next program: --model {path}, or --base {path}."
        )


def make_trainer(options: TrainOptions, roots: Roots) -> Trainer:
    """Make the trainer of the options, ready to run.

    Raises:
        I0TError: as `train`, except for errors of the run itself.
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
    with accelerator.main_process_first():  # it makes the index and unpacks, once for all
        source, validation = _load_pairs(recipe, roots, folder, options.skip_unreadable)
    torch.manual_seed(recipe.seed + accelerator.process_index)  # of dropout, which must differ between processes
    say(
        f"{recipe.name} from {base}: {len(source)} pairs, {len(validation)} for validation, "
        f"{accelerator.num_processes} x {accelerator.device.type}; checkpoints go to {folder}"
    )
    return Trainer(encoder, recipe, source, validation, folder, accelerator, options.workers, options.skip_unreadable)


def _load_base(recipe: Recipe, roots: Roots) -> tuple[str, Encoder]:
    """Load the base; return its name, and the encoder.

    If the base is "last" and this recipe made the last checkpoint, the base of that checkpoint is used. So the
    same command finds its run again, and another seed starts from the same base.
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
    say(f"{last} was made by recipe {recipe.name}: starting from its base, {base} (--base names another)")
    try:
        return base, load_encoder(base, roots=roots)
    except I0TError as error:
        raise I0TError(
            f"{last}: recipe {recipe.name} made it from {base}, which cannot be loaded again: {error} "
            "Name another base: --base CHECKPOINT."
        ) from None


def _load_pairs(recipe: Recipe, roots: Roots, folder: Path, skip_missing: bool) -> tuple[PairSource, ValidationPairs]:
    """Load training and validation pairs; names of missing images are written to a list beside the checkpoints."""
    from i0t.data.sharegpt4v import load_sharegpt4v
    from i0t.training.batches import DiskPairs, ValidationPairs
    from i0t.training.shard_batches import ShardPairs

    if recipe.shards and recipe.shard_pairs:
        shards = ShardPairs(recipe.shards, recipe.shard_pairs)
        return shards, shards.validation(folder / "validation")
    pairs, validation = (
        load_sharegpt4v(roots.data_dir, split, recipe.subset, skip_missing) for split in ("train", "validation")
    )
    missing = [*pairs.missing, *validation.missing]
    if missing:
        path = folder / f"missing-pictures-{pairs.digest[:8]}.txt"
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in missing), encoding="utf-8")
        say(
            f"left out because their images are missing: {len(pairs.missing)} training and {len(validation.missing)} "
            f"validation pairs, listed in {path}"
        )
    return DiskPairs(pairs), ValidationPairs(validation.images, validation.captions)


def _note_base(trainer: Trainer, roots: Roots) -> None:
    """Before a fresh run removes its checkpoint: if the path file names it, write the run's base there.

    Else the same command would not find its base after an interruption.
    """
    base = Path(trainer.recipe.base)
    with suppress(I0TError, OSError):  # no checkpoint is named, or it does not exist
        noted = last_checkpoint(roots).resolve() == trainer.files.last_path.resolve()
        if noted and base.is_file() and trainer.accelerator.is_main_process:
            write_last_checkpoint(base, roots)

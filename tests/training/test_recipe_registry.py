"""Every file of configs/recipes loads, builds its objective and takes a step.

Run: python -m pytest tests/training/test_recipe_registry.py
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from i0t import load_encoder
from i0t.encoders.checkpoint import save_checkpoint, training_of
from i0t.paths import last_checkpoint
from i0t.training.__main__ import main
from i0t.training.model_setup import build_objective, needs_short_captions
from i0t.training.recipe import LAST, load_recipe, recipe_names
from i0t.training.run import TrainOptions, make_trainer, train

ONE_STEP = {"steps": 1, "batch_size": 8, "validate_every": 0}
MINE = """\
objective: i0t.training.objectives:CyClip
base: clip
trains: encoders
attention_dropout: 0.1
views: 2
sample: {base: tiny, steps: 1, batch_size: 8}
"""


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_names_a_loss(name, sample):
    recipe = load_recipe(name, sample=sample)
    assert recipe.name == name
    x = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    objective = build_objective(recipe)
    losses = objective(x, x.flip(0), torch.tensor(10.0), *([x] if needs_short_captions(objective) else []))
    assert all(key.endswith("_loss") and torch.isfinite(value) for key, value in losses.items())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_takes_a_step(configs, tmp_path, sample_roots, name):
    """One step on the sample: finite losses, gradients in all that the recipe trains, and nothing else moves."""
    options = TrainOptions(recipe=name, overrides={**ONE_STEP, "base": "tiny"}, output=tmp_path)
    trainer = make_trainer(options, sample_roots)
    before = {key: value.clone() for key, value in trainer.encoder.state_dict().items()}
    batch = next(trainer.source.batches(trainer._batch_options(0)))
    losses = trainer.training_step(batch["pixels"], batch["tokens"])
    assert losses and all(torch.isfinite(value) for value in losses.values())
    # A bias that the loss cannot depend on has a gradient of 0; most others must have one.
    gradients = [parameter.grad for parameter in trainer.parameters]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) > 0.7 * len(gradients)
    trainer.optimizer.step()
    trained = {key for key, value in trainer.encoder.named_parameters() if value.requires_grad}
    moved = {key for key, value in trainer.encoder.named_parameters() if not value.equal(before[key])}
    assert moved and moved <= trained


def test_recipe_of_one_file_is_known_to_the_program(configs, tmp_path, sample_roots, capsys):
    assert main(["--recipe", "mine", "--output", str(tmp_path / "out"), "--workers", "0"]) == 2
    assert "mine: no such recipe" in capsys.readouterr().err
    (configs / "recipes" / "mine.yaml").write_text(MINE)
    assert main(["--recipe", "mine", "--base", "tiny", "--output", str(tmp_path / "out"), "--workers", "0"]) == 0
    assert "mine" in recipe_names() and "mine" in capsys.readouterr().out
    assert training_of(last_checkpoint(sample_roots))["recipe"]["name"] == "mine"


def test_recipe_without_base_starts_from_the_last_checkpoint(configs, tmp_path, sample_roots):
    """Trained by the function, which notes the checkpoint for the next program only on request."""
    stage1 = save_checkpoint(tmp_path / "stage1.safetensors", load_encoder("tiny"), {})
    (configs / "ckpt_file_name.txt").write_text(f"{stage1}\n")
    name = next(name for name in recipe_names() if load_recipe(name).base == LAST)
    run = train(TrainOptions(recipe=name, overrides=ONE_STEP, output=tmp_path), sample_roots)
    assert not run.was_there
    assert (run.summary["recipe"]["base"], run.summary["step"]) == (str(stage1), 1)
    assert load_file(run.last).keys() == load_file(run.best).keys()
    assert last_checkpoint(sample_roots) == stage1
    assert train(TrainOptions(recipe=name, overrides=ONE_STEP, output=tmp_path), sample_roots).was_there

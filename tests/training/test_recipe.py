"""Recipes: overrides are typed, bad values are named; the learning-rate schedule.

Run: python -m pytest tests/training/test_recipe.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from i0t import I0TError
from i0t.training.model_setup import build_objective, warmup_cosine
from i0t.training.objectives import CyClip
from i0t.training.recipe import LAST, WITHOUT_EFFECT, Recipe, load_recipe, read_overrides, recipe_names

PLAIN = "objective: i0t.training.objectives:Contrastive\nbase: tiny\ntrains: encoders\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Load a recipe of this text."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.setenv("I0T_CONFIGS", str(tmp_path))

    def load(text: str = PLAIN, *overrides: str, sample: bool = False, **flags: Any) -> Recipe:
        (tmp_path / "recipes" / "mine.yaml").write_text(text)
        return load_recipe("mine", {**read_overrides(overrides), **flags}, sample)

    return load


# --- the files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lcco", "lccom", "bn_async"])
def test_paper_values(name):
    """Section 4.1 and App. E, as METHOD has them."""
    recipe = load_recipe(name)
    expected = {
        "epochs": 3,
        "batch_size": 128,
        "learning_rate": 1e-6,
        "weight_decay": 1e-2,
        "warmup_steps": 200,
        "context_length": 248,
        "subset": "coco",
        "seed": 7,
        "steps": None,
        "objective_args": {"in_modal_weight": 0.25, "cross_modal_weight": 0.25},
        "views": 1 if name == "lcco" else 2,
        "attention_dropout": 0.0 if name == "lcco" else 0.1,
        "heads": "batch_norm" if name == "bn_async" else None,
        "trains": "heads" if name == "bn_async" else "encoders",
        "base": LAST if name == "bn_async" else "clip",
        "logit_scale": None if name == "bn_async" else 100,
    }
    assert {key: getattr(recipe, key) for key in expected} == expected
    assert isinstance(build_objective(recipe), CyClip)


@pytest.mark.parametrize("name", recipe_names())
def test_sample_values_replace_the_papers_and_nothing_else(name):
    paper, sample = load_recipe(name), load_recipe(name, sample=True)
    assert sample.steps is not None and sample.steps < 2000
    for key in ("objective", "objective_args", "trains", "heads", "views", "attention_dropout"):
        assert getattr(sample, key) == getattr(paper, key)


def test_missing_recipe_names_those_there_are(write):
    with pytest.raises(I0TError, match=r"^mine: no such recipe in .*There are: bn, .*, lccom, .*\."):
        load_recipe("mine")
    write()
    with pytest.raises(I0TError, match=r"^yours: no such recipe in .*There are: bn, .*, mine, .*\."):
        load_recipe("yours")


@pytest.mark.parametrize("text", ["", "- a list", "objective: [unclosed", "just words"])
def test_file_that_is_no_recipe_is_refused(write, text):
    with pytest.raises(I0TError, match="mine"):
        write(text)


@pytest.mark.parametrize("missing", ["objective", "base", "trains"])
def test_missing_key_is_named(write, missing):
    lines = [line for line in PLAIN.splitlines() if not line.startswith(missing)]
    with pytest.raises(I0TError, match=f"recipe mine: .*{missing}"):
        write("\n".join(lines))


def test_unknown_keys_are_refused_with_the_known(write):
    with pytest.raises(I0TError, match="recipe mine: unknown learning_rat, wd. Known: .*learning_rate"):
        write(PLAIN + "wd: 1\n", "learning_rat=1")
    with pytest.raises(I0TError, match="recipe mine: unknown 3"):
        write(f"{PLAIN}3: x\n")
    with pytest.raises(I0TError, match="recipe mine: unknown stepz"):
        write(f"{PLAIN}sample: {{stepz: 3}}\n", sample=True)


# --- names of runs ---------------------------------------------------------------------------

OTHER = {
    "name": "other",
    "objective": "i0t.training.objectives:CyClip",
    "objective_args": {"label_smoothing": 0.1},
    "base": "clip",
    "views": 2,
    "attention_dropout": 0.2,
    "context_length": 77,
    "subset": "sam",
    "epochs": 4,
    "steps": 9,
    "batch_size": 127,
    "learning_rate": 1.1e-6,
    "weight_decay": 0.1,
    "warmup_steps": 201,
    "max_grad_norm": 2.0,
    "logit_scale": 50.0,
    "train_logit_scale": False,
    "validate_every": 999,
    "seed": 42,
    "trains": "both",
    "heads": "layer_norm",
    "chunk_size": 8,
    "precision": "bf16",
    "save_every": 7,
    "keep_states": 3,
    "shards": "/data/{0..9}.tar",
    "shard_pairs": 90,
}


def test_run_names_differ_whenever_recipes_do(write):
    first = write(PLAIN, "attention_dropout=0.1", "trains=both", "heads=batch_norm")
    assert set(OTHER) == set(Recipe.model_fields)
    recipes = [first]
    for key, value in OTHER.items():
        if value != getattr(first, key) and key not in WITHOUT_EFFECT:
            recipes.append(first.model_copy(update={key: value}))
    recipes += [
        first.model_copy(update={"trains": "heads"}),
        first.model_copy(update={"trains": "encoders", "heads": None}),
    ]
    changed = len(OTHER) - 1 - len(WITHOUT_EFFECT)  # `trains` is as in the first
    assert len({recipe.run_name() for recipe in recipes}) == len(recipes) == 1 + changed + 2
    assert first.run_name().startswith("mine-seed7-")
    assert len({first.run_name(), first.run_name("base"), first.run_name("base", "data"), first.run_name("other")}) == 4
    for key in WITHOUT_EFFECT:
        assert first.model_copy(update={key: OTHER[key]}).run_name() == first.run_name()


def test_run_names_of_equal_recipes_are_equal(write):
    one, other = write(PLAIN, "learning_rate=1e-5"), write(PLAIN + "learning_rate: 1.0e-5\n", seed=7)
    assert one == other and one.run_name() == other.run_name()
    assert Recipe(**one.model_dump()).run_name() == one.run_name()  # as it is read back from a checkpoint
    args = "objective_args={{{}}}"
    ordered = [write(PLAIN, args.format(pairs)) for pairs in ("a: 1, b: 2", "b: 2, a: 1")]
    assert ordered[0].run_name() == ordered[1].run_name()


@pytest.mark.parametrize(
    ("one", "other"), [("weight_decay=0", "weight_decay=0.0"), ("logit_scale=100", "logit_scale=1e2")]
)
def test_run_names_do_not_depend_on_how_a_number_is_written(write, one, other):
    first, second = write(PLAIN, one), write(PLAIN, other)
    assert first == second
    assert first.run_name() == second.run_name()


def test_objective_that_is_not_there_is_refused(write):
    for objective in ("no.such.module:Loss", "i0t.training.objectives:Loss", "i0t.training.objectives"):
        with pytest.raises(I0TError, match=f"recipe mine: objective '{objective}'"):
            build_objective(write(PLAIN, f"objective={objective}"))
    with pytest.raises(I0TError, match="recipe mine: objective .*temperature"):
        build_objective(write(PLAIN, "objective_args={temperature: 2}"))


# --- learning rate ---------------------------------------------------------------------------


def test_schedule_hand_worked():
    """Four steps up, then half a cosine over four: cos of 0, 45, 90, 135 degrees."""
    root = math.sqrt(0.5)
    expected = [0.25, 0.5, 0.75, 1, 1, (1 + root) / 2, 0.5, (1 - root) / 2]
    assert [warmup_cosine(step, 4, 8) for step in range(8)] == pytest.approx(expected)


@pytest.mark.parametrize(("warmup", "total"), [(5, 30), (2, 9), (200, 450)])
def test_schedule_agrees_with_torch(warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3.0)
    schedulers = [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, total_iters=warmup - 1),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup),
    ]
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers, milestones=[warmup])
    for step in range(total):
        assert 3.0 * warmup_cosine(step, warmup, total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 7), (3, 3), (10, 4), (1, 2)])
def test_schedule_is_a_factor_above_zero_at_every_step(warmup, total):
    factors = [warmup_cosine(step, warmup, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] == (1 if warmup == 0 else 1 / warmup)


def test_a_key_given_twice_is_refused_and_archive_leftovers_are_no_recipes(configs):
    recipes = configs / "recipes"
    (recipes / "twice.yaml").write_text("steps: 5\nbatch_size: 4\nsteps: 6\n")
    (recipes / "._twice.yaml").write_bytes(b"\0\5")
    with pytest.raises(I0TError, match=r"twice\.yaml: not valid YAML: steps is given twice"):
        load_recipe("twice")
    assert "._twice" not in recipe_names()

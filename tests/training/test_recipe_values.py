"""Values of recipes: overrides are typed, bad ones are named, and none is given twice.

Run: python -m pytest tests/training/test_recipe_values.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from i0t import I0TError
from i0t.training.recipe import Recipe, join_flags, load_recipe, read_overrides

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


# --- overrides -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("learning_rate=1e-5", "learning_rate", 1e-5),
        ("learning_rate=1.0e-5", "learning_rate", 1e-5),
        ("weight_decay=.5", "weight_decay", 0.5),
        ("steps=100", "steps", 100),
        ("steps=null", "steps", None),
        ("train_logit_scale=true", "train_logit_scale", True),
        ("train_logit_scale=false", "train_logit_scale", False),
        ("logit_scale=50", "logit_scale", 50),
        ("subset=all", "subset", "all"),
        ("base=/data/a=b.safetensors", "base", "/data/a=b.safetensors"),
        ("objective_args={label_smoothing: 0.1}", "objective_args", {"label_smoothing": 0.1}),
        ("objective_args={label_smoothing: 1e-1}", "objective_args", {"label_smoothing": 0.1}),
    ],
)
def test_overrides_are_typed(write, override, key, value):
    found = getattr(write(PLAIN + "steps: 5\n", override), key)
    assert found == value
    assert isinstance(found, type(value)) or (isinstance(found, float) and isinstance(value, int))


def test_what_beats_what(write):
    """Order of precedence: file, sample block, override."""
    text = f"{PLAIN}steps: 1\nsample: {{steps: 2}}\n"
    assert write(text).steps == 1
    assert write(text, sample=True).steps == 2
    assert write(text, "steps=3", sample=True).steps == 3
    assert write(text).batch_size == 128


def test_a_value_given_twice_is_refused():
    """Of an unquoted shards=/d/{00000..00001}.tar the shell makes two arguments; before, the last one won."""
    with pytest.raises(I0TError, match=r"shards= is given twice, '/d/0\.tar' and '/d/1\.tar'.* Quote .*'shards=/data/"):
        read_overrides(["shards=/d/0.tar", "shards=/d/1.tar"])
    with pytest.raises(I0TError, match=r"'/d/1\.tar': overrides are written key=value.* Quote"):
        read_overrides(["shards=/d/0.tar", "/d/1.tar"])
    with pytest.raises(I0TError, match="'=5': overrides are written key=value"):
        read_overrides(["=5"])
    with pytest.raises(I0TError, match="--batch-size 8 and batch_size=16: give one of them"):
        join_flags({"batch_size": 16}, {"seed": None, "batch_size": 8})
    assert join_flags({"steps": 3}, {"seed": 5, "base": None}) == {"steps": 3, "seed": 5}


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../b", "", "a\0b", "a\nb", "x" * 151, "é" * 76])
def test_name_that_leaves_the_output_folder_is_refused(write, name):
    with pytest.raises(I0TError, match="recipe mine: name="):
        write(PLAIN, name=name)
    assert write(PLAIN, name="owner/name").run_name().startswith("owner/name-seed7-")


def test_recipe_file_in_another_encoding_names_it(write, tmp_path):
    write()
    for encoding, said in (("latin-1", "Latin-1"), ("utf-16", "UTF-16")):
        (tmp_path / "recipes" / "mine.yaml").write_text(f"# \xe9\n{PLAIN}", encoding=encoding)
        with pytest.raises(I0TError, match=rf"mine\.yaml: .*{said}"):
            load_recipe("mine")
    with pytest.raises(I0TError, match="no name of a recipe"):
        load_recipe("x" * 300)


@pytest.mark.parametrize("override", ["steps", "steps=[1", "steps={a: b: c}"])
def test_override_that_cannot_be_read_is_shown(write, override):
    with pytest.raises(I0TError, match=override.split("=")[0]):
        write(PLAIN, override)


@pytest.mark.parametrize(
    "override",
    [
        "trains=all",
        "trains=heads",  # without heads
        "heads=batch_norm",  # which nothing trains
        "views=3",
        "views=2",  # without dropout the two would be equal
        "attention_dropout=1",
        "attention_dropout=-0.1",
        "epochs=0",
        "steps=0",
        "steps=2.5",
        "steps=many",
        "batch_size=1",
        "batch_size=many",
        "learning_rate=0",
        "learning_rate=nan",
        "learning_rate=inf",
        "learning_rate=fast",
        "learning_rate=null",
        "weight_decay=-1",
        "warmup_steps=-1",
        "max_grad_norm=0",
        "logit_scale=0",
        "logit_scale=101",
        "validate_every=-1",
        "seed=lucky",
        "seed=1.5",
        "train_logit_scale=maybe",
        "context_length=long",
        "context_length=1000000000",
        "steps=yes",
        "steps=1000000000000000",
        "seed=true",
        "seed=-1",
        "seed=9223372036854775808",
        "learning_rate=on",
        "views=true",
        "subset=no",
        "keep_states=.inf",
        "shard_pairs=1.0e+300",
        "objective_args={temperature: .nan}",
        "objective_args={temperature: [-.inf]}",
        "objective_args={since: 2020-01-01}",
    ],
)
def test_bad_values_are_refused_by_key(write, override):
    key = {"trains=heads": "heads", "views=2": "attention_dropout"}.get(override, override.partition("=")[0])
    with pytest.raises(I0TError, match=f"recipe mine: {key}="):
        write(PLAIN, override)

"""Images given as texts and texts as images: refused wherever vectors meet what was fitted.

Run: python -m pytest tests/standardize/test_swapped.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from i0t.commands.apply import main as apply
from i0t.commands.cutoff import main as cutoff
from i0t.commands.scores import main as scores
from i0t.commands.search_eval import main as search_eval
from i0t.commands.standardize import main as standardize
from i0t.embeddings import load_embeddings
from i0t.errors import I0TError
from i0t.standardize.shards import Shard
from i0t.standardize.swapped import require_own_shards

DIM = 16


@pytest.fixture
def pairs(tmp_path, monkeypatch) -> None:
    """a.npy and b.npy, images and texts with a gap; c.npy and d.npy, others of the same model."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for names in ("ab", "cd"):
        meaning = rng.normal(size=(60, DIM))
        for name, sign in zip(names, (1, -1)):
            np.save(f"{name}.npy", (meaning + rng.normal(size=(60, DIM)) + 2 * sign).astype("float32"))


def of(*argv: str) -> list[str]:
    return " ".join(argv).split()


@pytest.mark.parametrize("fitted_form", ["", "--remover i0t_post"])
@pytest.mark.parametrize(
    "program, argv",
    [
        (apply, "b.npy a.npy --fit-on c.npy d.npy --output out"),
        (apply, "a.npy b.npy --fit-on d.npy c.npy --output out"),
        (search_eval, "b.npy a.npy --fit-on c.npy d.npy --output out"),
        (scores, "b.npy a.npy --fit-on c.npy d.npy --output out"),
        (cutoff, "b.npy a.npy --scores fitted/scores.safetensors"),
    ],
)
def test_swapped_sides_are_refused_and_nothing_is_written(pairs, capsys, program, argv, fitted_form):
    assert scores(of("c.npy d.npy --output fitted", fitted_form)) == 0
    assert program(of(argv)) == 2
    said = capsys.readouterr().err
    assert "swapped" in said and "images first" in said and said.count("\n") == 1
    assert not [*Path("out").glob("*")]
    right = argv.replace("b.npy a.npy", "a.npy b.npy").replace("d.npy c.npy", "c.npy d.npy")
    assert program(of(right)) == 0


@pytest.mark.parametrize("swapped", ["--images d.npy --texts c.npy", "--images d.npy", "--texts c.npy"])
def test_swapped_shards_are_refused(pairs, capsys, swapped):
    assert standardize(of("fit --images a.npy --texts b.npy --output fitted")) == 0
    assert standardize(of("apply fitted", swapped, "--output out")) == 2
    assert "swapped" in capsys.readouterr().err and not Path("out").exists()
    assert apply(of(swapped, "--fit-on a.npy b.npy --output out")) == 2
    right = swapped.replace("--images d", "--images c").replace("--texts c", "--texts d")
    assert standardize(of("apply fitted", right, "--output out")) == 0


def test_chance_and_an_empty_shard_are_not_taken_for_swapped(pairs):
    """The mean of a few vectors may lie anywhere."""
    rng = np.random.default_rng(1)
    for name, n in (("a", 4), ("b", 0)):
        np.save(f"{name}.npy", rng.normal(size=(n, DIM)).astype("float32"))
    few = np.load("a.npy")
    fitted = {"image": np.zeros(DIM), "text": (few / np.linalg.norm(few, axis=1, keepdims=True)).mean(axis=0)}
    require_own_shards(fitted, [("image", Shard(Path("a.npy"))), ("text", Shard(Path("b.npy")))], "x")


def test_without_a_gap_nothing_is_taken_for_swapped(pairs):
    rng = np.random.default_rng(3)
    for name in "abcd":
        np.save(f"{name}.npy", rng.normal(size=(60, DIM)).astype("float32"))
    for one, other in ("ab", "ba"):
        assert apply(of(f"{one}.npy {other}.npy --fit-on c.npy d.npy --output {one}")) == 0


@pytest.mark.parametrize("names", [("texts", "images"), ("Captions_b32", "img"), ("titles", "photos")])
def test_names_in_the_wrong_order_are_refused(pairs, names):
    np.save(f"{names[0]}.npy", np.load("a.npy"))
    np.save(f"{names[1]}.npy", np.load("b.npy"))
    with pytest.raises(I0TError, match="texts are first. Give the images first"):
        load_embeddings([f"{name}.npy" for name in names])
    assert load_embeddings([f"{name}.npy" for name in names[::-1]]).name == names[1]


def test_names_that_say_both_or_nothing_are_taken_and_one_file_twice_is_not(pairs):
    for name in ("image_texts", "text_images", "1"):
        np.save(f"{name}.npy", np.load("a.npy"))
    for names in (("image_texts", "text_images"), ("text_images", "image_texts"), ("1", "image_texts")):
        load_embeddings([f"{name}.npy" for name in names])
    with pytest.raises(I0TError, match="given as images and as texts"):
        load_embeddings(["a.npy", "./a.npy"])

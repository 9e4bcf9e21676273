"""Incomplete removers of users, and flags that a remover does not have, are refused in one line."""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pytest

from i0t import I0TError, Standardizer, ZScore
from i0t.cli import add_remover_flags, remover_choices
from i0t.commands.apply import main as apply
from i0t.commands.standardize import main as standardize
from i0t.search import VectorTransform
from i0t.standardize import AffineMap, GapRemover, Modality, RunningStandardizer, Whitening
from i0t.standardize.registry import load_remover, make_remover, remover_class

sys.modules.setdefault("removers_that_lack", sys.modules[__name__])  # pytest imports test files under no fixed name


class Halved(Standardizer):
    """Half of the mean, or all of it."""

    name = "halved"

    def __init__(self, half: bool = False) -> None:
        super().__init__()
        self.half = half


class Required(Standardizer):
    """Without a default."""

    name = "required"

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength


class Listed(Standardizer):
    """A parameter of a type that no flag has."""

    name = "listed"

    def __init__(self, weights: list[float] | None = None) -> None:
        super().__init__()
        self.weights = weights


class Forgetful(Standardizer):
    """Keeps nothing."""

    name = "forgetful"

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()


class Hasty(Standardizer):
    """Does not call its base's constructor."""

    name = "hasty"

    def __init__(self) -> None:
        pass


class Mapless(GapRemover):
    """Only a name."""

    name = "mapless"


class Nameless(GapRemover):
    """Only a map."""

    def map(self, modality: Modality) -> AffineMap:
        """Nothing moves."""
        return AffineMap(np.zeros_like(self.mean(modality)))


class Endless(Standardizer):
    """Its map holds a NaN."""

    name = "endless"

    def map(self, modality: Modality) -> AffineMap:
        """NaN everywhere."""
        return AffineMap(self.mean(modality) * np.nan)


def by_path(kind: type) -> str:
    return f"removers_that_lack:{kind.__name__}"


def chosen(name: str, *flags: str, **how: bool) -> dict:
    parser = argparse.ArgumentParser()
    add_remover_flags(parser)
    return dict(remover_choices(parser.parse_args(["--remove-gap", name, *flags]), [name], **how)[0].parameters)


def rows(seed: int, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(30, dim)).astype("float32") + np.eye(dim, dtype="float32")[seed]


@pytest.mark.parametrize(
    ("text", "value"), [("false", False), ("No", False), ("0", False), ("TRUE", True), ("1", True)]
)
def test_truth_is_read(text, value):
    assert chosen(by_path(Halved), "--set", f"half={text}") == {"half": value}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Listed, "removers_that_lack:Listed: its parameter weights is of a type that no flag can give"),
        (Mapless, "the class defines no map"),
        (Nameless, 'the class has no name. Add one, e.g. name = "nameless"'),
        (Required, "its parameter strength has no default. Give it: --set strength=VALUE"),
        (Hasty, "its __init__ does not call super"),
        (Forgetful, "its __init__ does not keep strength. Add self.strength = strength"),
    ],
)
def test_what_a_remover_of_ones_own_lacks(kind, message, monkeypatch):
    monkeypatch.setattr(kind, "__module__", "removers_that_lack")
    with pytest.raises(I0TError, match=message) as refused:
        make_remover(by_path(kind))
    assert by_path(kind) in str(refused.value) and "\n" not in str(refused.value)
    assert make_remover(by_path(Required), {"strength": 2.0}).parameters() == {"strength": 2.0}


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("i0t_post", ["--shrinkage", "0.5"], r"--shrinkage: i0t_post has no such parameter; whitening has\."),
        ("mind_the_gap", ["--set", "shift=1"], "--set shift: mind_the_gap has no .*; mind_the_gap has shift_lambda"),
        ("mind_the_gap", ["--shift-lambda", "inf"], "--shift-lambda: inf is not a finite number"),
        ("mind_the_gap", ["--shift-lambda", "far"], "--shift-lambda: 'far' is not a number"),
        (by_path(Halved), ["--set", "half=perhaps"], "--set half: 'perhaps' is not true or false"),
        ("running", [], "--remove-gap running: it learns from a stream.* Use RunningStandardizer in Python"),
        ("removers_that_lack", [], r"removers_that_lack: no such gap remover \(it names no class\). Known: i0t_post"),
    ],
)
def test_flags_that_fit_no_remover(name, flags, message):
    with pytest.raises(I0TError, match=message):
        chosen(name, *flags)


def test_none_is_refused_where_something_must_be_removed():
    assert chosen("none") == {}
    with pytest.raises(I0TError, match="--remove-gap none: name what removes the gap: i0t_post, z_score"):
        chosen("none", none=False)


def test_infinite_parameters_are_refused_in_python_as_well():
    with pytest.raises(I0TError, match="mind_the_gap: shift_lambda: inf is not a finite number"):
        make_remover("mind_the_gap", {"shift_lambda": float("inf")})


def test_a_map_that_is_not_finite_is_blamed_itself():
    fitted = remover_class(by_path(Endless))().fit(rows(0), rows(1))
    for ask in (
        lambda: fitted.transform_image(rows(2)),
        lambda: fitted.affine("text"),
        lambda: VectorTransform.of(fitted),
    ):
        with pytest.raises(I0TError, match=r"remover Endless\(\) gives values that are not finite for"):
            ask()


def test_a_fitted_file_means_its_own_remover(tmp_path, capsys):
    files = [str(tmp_path / "images.npy"), str(tmp_path / "texts.npy")]
    for path, side in zip(files, (rows(0), rows(1)), strict=True):
        np.save(path, side)
    running = RunningStandardizer().fit(rows(0), rows(1)).update(rows(2))
    for remover in (Standardizer(), ZScore(), Whitening(0.5), running):
        fitted = remover if remover is running else remover.fit(rows(0), rows(1))
        saved, out = str(fitted.save(tmp_path / f"{remover.name}.safetensors")), tmp_path / remover.name
        assert apply([*files, "--fit-on", saved, "--output", str(out)]) == 0
        assert repr(fitted) in capsys.readouterr().out
        assert np.load(out / "images.npy") == pytest.approx(fitted.transform_image(rows(0)), abs=1e-6)
    stronger = ["--fit-on", str(tmp_path / "whitening.safetensors"), "--shrinkage", "0.7", "--output", str(out)]
    assert apply([*files, *stronger]) == 0 and "shrinkage=0.7" in capsys.readouterr().out
    assert apply([*files, "--fit-on", *files, "--output", str(out)]) == 0 and "ZScore()" in capsys.readouterr().out
    means = str(tmp_path / "i0t_post.safetensors")
    assert apply([*files, "--fit-on", means, "--remover", "z_score", "--output", str(out)]) == 2
    assert capsys.readouterr().err.endswith("Fit it again, as z_score, or name its own: --remover i0t_post.\n")
    with pytest.raises(I0TError, match=r"or name its own: --remover i0t_post\.$"):
        load_remover(means, "whitening")
    unlisted = str(Halved().fit(rows(0), rows(1)).save(tmp_path / "halved.safetensors"))
    assert apply([*files, "--fit-on", unlisted, "--output", str(out)]) == 2
    assert "saved by remover 'halved', unknown here. Name its class: --remover MODULE:CLASS" in capsys.readouterr().err
    shards = ["apply", means, "--images", files[0], "--remover", "z_score", "--output", str(out), "--jobs", "1"]
    assert standardize(shards) == 2
    assert capsys.readouterr().err.endswith("or name its own: --remover i0t_post.\n")

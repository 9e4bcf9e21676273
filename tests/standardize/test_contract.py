"""The contract of gap removers, for the registry and for a remover that only defines its map.

Every remover: exact partial fits and merges, transform == affine, files, flags, unit norm, untouched input, torch ==
NumPy; and every program knows it: `i0t apply`, `i0t standardize`, the evaluations' `--remove-gap`, the record.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluation import retrieval
from evaluation.protocol import describe
from i0t import Embeddings, I0TError
from i0t.cli import add_remover_flags, remover_choices
from i0t.commands.apply import main as apply
from i0t.commands.search_eval import main as search_eval
from i0t.commands.standardize import main as standardize
from i0t.paths import REPO
from i0t.search import VectorTransform
from i0t.standardize import AffineMap, GapRemover, Modality
from i0t.standardize.fitting import fit_remover
from i0t.standardize.registry import (
    NONE,
    REMOVERS,
    STREAMING,
    RemoverChoice,
    load_remover,
    make_remover,
    own_names,
    parameters_of,
)

sys.modules.setdefault("a_strangers_module", sys.modules[__name__])  # pytest imports test files under no fixed name


class Stranger(GapRemover):
    """x' = N(x - s * mean), twice as far for texts.

    Args:
        strength: s.
        axis: which dimension is dropped; None drops none.
    """

    name = "stranger"

    def __init__(self, strength: float = 0.5, axis: int | None = None) -> None:
        super().__init__()
        self.strength, self.axis = strength, axis

    def map(self, modality: Modality) -> AffineMap:
        """Subtract a part of the mean, and multiply each dimension by a factor."""
        mean = self.mean(modality)
        factor = np.where(np.arange(len(mean)) == self.axis, 0.0, 1.0)
        return AffineMap(-self.strength * (1 + (modality == "text")) * mean, factor, 0.01 * mean)


BY_PATH = "a_strangers_module:Stranger"
NAMES = [*REMOVERS, "stranger", BY_PATH]
FITTING = [name for name in NAMES if name not in STREAMING]
DIM = 6


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """A new remover needs one line in the registry."""
    monkeypatch.setitem(REMOVERS, "stranger", BY_PATH)


def features(seed: int, n: int = 40, m: int = 50, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    spread, offset = np.linspace(0.2, 2, DIM), 2 * np.eye(DIM)[0]
    sides = rng.normal(size=(n, DIM)) * spread + offset, rng.normal(size=(m, DIM)) * spread - offset
    return sides[0].astype(dtype), sides[1].astype(dtype)


def embeddings(seed: int, **metadata: object) -> Embeddings:
    names = [f"{seed}-{row}.jpg" for row in range(40)]
    known = {"model": "tiny", "fingerprint": "ab", "dataset": f"set{seed}", **metadata}
    return Embeddings(*features(seed, 40, 40, np.float32), np.arange(40), names, names, metadata=known)


def transforms(remover: GapRemover) -> list:
    return [("image", remover.transform_image), ("text", remover.transform_text)]


@pytest.mark.parametrize("name", NAMES)
def test_chunks_and_shards_equal_one_fit(name):
    images, texts = features(0)
    whole, chunked = make_remover(name).fit(images, texts), make_remover(name)
    for start in range(0, 50, 7):
        chunked.partial_fit(images[start : start + 7] if start < 40 else None, texts[start : start + 7])
    compared = [chunked]
    if name not in STREAMING:  # those merge streams after one training
        parts = [make_remover(name).fit(images[rows], texts[rows]) for rows in (slice(9), slice(9, 30), slice(30, 99))]
        compared.append(parts[2].merge(parts[0].merge(parts[1])))
    for other in compared:
        assert (other.n_images_, other.n_texts_) == (40, 50)
        for (modality, one), (_, two) in zip(transforms(other), transforms(whole), strict=True):
            assert other.mean(modality) == pytest.approx(whole.mean(modality), abs=1e-12)
            assert one(texts) == pytest.approx(two(texts), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_transform_is_the_affine_map(name, tmp_path):
    remover = make_remover(name).fit(*features(1))
    stored = VectorTransform.load(VectorTransform.of(remover).save(tmp_path / "transform.safetensors"))
    rows = features(2)[0]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for modality, transform in transforms(remover):
        factor, bias = remover.affine(modality)
        moved = (unit * factor if factor.ndim == 1 else unit @ factor.T) + bias
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        for found in (transform(rows), stored(rows, modality), remover.map(modality).apply(rows, "rows")):
            assert found == pytest.approx(moved, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(48, DIM), (16, 3, DIM)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_kind_shape_and_dtype_stay_and_the_input_is_untouched(name, shape, dtype):
    remover = make_remover(name).fit(*features(3))
    rows = features(4, n=48)[0].astype(dtype).reshape(shape)
    before = rows.copy()
    tolerance = {np.float16: 4e-3, np.float32: 1e-5, np.float64: 1e-12}[dtype]
    for _, transform in transforms(remover):
        array, tensor = transform(rows), transform(torch.from_numpy(rows))
        assert array.dtype == rows.dtype and array.shape == shape and np.array_equal(rows, before)
        assert isinstance(tensor, torch.Tensor) and tensor.numpy().dtype == dtype
        assert tensor.numpy().astype(float) == pytest.approx(array.astype(float), abs=tolerance)
        assert np.linalg.norm(array.astype(float), axis=-1) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_files_lose_nothing(name, tmp_path):
    fitted = make_remover(name).fit_embeddings(embeddings(5), fit_on="train")
    path = fitted.save(tmp_path / "fitted.safetensors")
    for loaded in (type(fitted).load(path), load_remover(path), load_remover(path, name)):
        assert type(loaded) is type(fitted) and repr(loaded) == repr(fitted)
        assert loaded.fingerprint == fitted.fingerprint and loaded.parameters() == fitted.parameters()
        assert loaded.origin == fitted.origin and loaded.overlap(embeddings(5)).image_share == 1
        assert np.array_equal(loaded.transform_image(features(6)[0]), fitted.transform_image(features(6)[0]))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_moved_says_by_what(name):
    fitted = make_remover(name).fit_embeddings(embeddings(5))
    moved = fitted.transform_embeddings(embeddings(6))
    assert np.array_equal(moved.text_features, fitted.transform_text(embeddings(6).text_features))
    seen = json.loads(json.dumps(moved.metadata["gap_removed"]))
    assert seen["remover"] == fitted.name and seen["parameters"] == fitted.parameters()
    assert seen["fingerprint"] == fitted.fingerprint and seen["provenance"]["dataset"] == "set5"
    exact = fitted.transform_embeddings(embeddings(6), in_float64=True)
    assert exact.image_features.dtype == np.float32
    assert exact.image_features == pytest.approx(moved.image_features, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_without_direction_is_named_by_its_row(name):
    remover = make_remover(name).fit(*features(7))
    for _, transform in transforms(remover):
        bad = features(8)[0]
        bad[3], bad[5] = np.nan, 0
        for rows in (bad, torch.from_numpy(bad)):
            with pytest.raises(I0TError, match="row 3 holds NaN"):
                transform(rows)
    with pytest.raises(I0TError, match="has no image mean yet"):
        make_remover(name).transform_image(bad)


@pytest.mark.parametrize("name", FITTING)
def test_parameters_are_flags(name):
    parser = argparse.ArgumentParser()
    add_remover_flags(parser)
    help_text = " ".join(parser.format_help().split())
    for parameter in parameters_of(name):
        assert parameter.help and parameter.help in help_text or name == BY_PATH
        value = parameter.kind(0.25) if parameter.kind is not str else "word"
        flag = [f"--{parameter.name.replace('_', '-')}", str(value)]
        for flags in (flag, ["--set", f"{parameter.name}={value}"]):
            (choice,) = remover_choices(parser.parse_args(["--remove-gap", name, *flags]), [name])
            assert choice == RemoverChoice(name, {parameter.name: value})
            made = choice.make().parameters()
            assert made[parameter.name] == value and type(made[parameter.name]) is type(value)
            with pytest.raises(I0TError, match="no remover is chosen, so there is no such parameter"):
                remover_choices(parser.parse_args(flags), [NONE])
        if parameter.optional:
            arguments = parser.parse_args(["--set", f"{parameter.name}=none"])
            assert remover_choices(arguments, [name])[0].parameters == {parameter.name: None}
    with pytest.raises(I0TError, match="has no parameter"):
        make_remover(name, {"nonsense": 1})


def test_parameters_of_a_signature():
    strength, axis = parameters_of("stranger")
    assert (strength.name, strength.kind, strength.optional, strength.default) == ("strength", float, False, 0.5)
    assert (axis.name, axis.kind, axis.optional, axis.default) == ("axis", int, True, None)
    assert axis.help == "which dimension is dropped; None drops none"
    assert "stranger" not in own_names() and "mind_the_gap" not in own_names()


# --- every program ---------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path) -> list[str]:
    for name, side in zip(("images", "texts"), features(9, 40, 40, np.float32), strict=True):
        np.save(tmp_path / f"{name}.npy", side)
    return [str(tmp_path / "images.npy"), str(tmp_path / "texts.npy")]


@pytest.mark.parametrize("name", FITTING)
def test_apply_and_standardize_move_as_it_does(name, files, tmp_path, capsys):
    images, texts = (np.load(path) for path in files)
    expected = make_remover(name).fit(images, texts)
    assert apply([*files, "--fit-on", *files, "--remover", name, "--output", str(tmp_path / "one")]) == 0
    assert repr(expected) in capsys.readouterr().out
    statistics = str(tmp_path / "statistics.safetensors")
    shards = ["--images", files[0], "--texts", files[1], "--jobs", "1"]
    assert standardize(["fit", *shards, "--remover", name, "--output", statistics]) == 0
    assert standardize(["apply", statistics, *shards, "--output", str(tmp_path / "two")]) == 0
    fit_on = ["--fit-on", statistics, "--remover", name]
    assert apply([*shards, *fit_on, "--output", str(tmp_path / "three")]) == 0
    for folder in ("one", f"two/{tmp_path.name}", f"three/{tmp_path.name}"):
        assert np.load(tmp_path / folder / "images.npy") == pytest.approx(expected.transform_image(images), abs=1e-6)
    for folder in ("one", "two", "three"):
        transform = VectorTransform.load(tmp_path / folder / "transform.safetensors")
        assert transform.description["remover"] == expected.name
        assert transform(texts, "text") == pytest.approx(expected.transform_text(texts), abs=1e-5)


@pytest.mark.parametrize("name", FITTING)
def test_a_record_tells_of_it(name, files, tmp_path, capsys):
    flags = ["--embeddings", *files, "--remove-gap", name, "--output", str(tmp_path / "records")]
    assert retrieval.main(flags) == 0
    record = json.loads(next((tmp_path / "records").glob("*.json")).read_text())
    fitted = make_remover(name).fit(*features(9, 40, 40, np.float32))
    assert record["protocol"]["remove_gap"] == fitted.name
    assert record["protocol"]["remover_parameters"] == fitted.parameters()
    assert record["protocol"]["means_leak"] is True
    assert record["gap"]["centroid_distance"] < record["gap_before"]["centroid_distance"]
    assert search_eval([*files, "--removers", name, "--splits", "2", "--output", str(tmp_path / "search")]) == 0
    assert (type(fitted).label or name) in capsys.readouterr().out


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("fit_on", ["test", "train", "vectors", "fitted"])
def test_wherever_the_means_come_from(name, fit_on, tmp_path):
    evaluated, others = embeddings(10), embeddings(11, split="train")
    source = fit_on
    if fit_on == "vectors":
        source = str(others.save(tmp_path / "vectors.safetensors"))
    if fit_on == "fitted":
        source = str(make_remover(name).fit_embeddings(others).save(tmp_path / "fitted.safetensors"))
    remover = fit_remover(RemoverChoice(name), source, evaluated, lambda: others)
    seen = describe(remover, evaluated)
    assert seen["remove_gap"] == remover.name and seen["n_fit_images"] == 40
    assert seen["means_leak"] is (fit_on == "test")
    assert seen["fit_dataset"] == ("set10" if fit_on == "test" else "set11")
    assert seen["fit_file"] == (source if fit_on in ("vectors", "fitted") else None)
    other_model = embeddings(10, model="other", fingerprint="cd")
    if fit_on in ("vectors", "fitted"):
        with pytest.raises(I0TError, match="belong to model tiny"):
            fit_remover(RemoverChoice(name), source, other_model)


def test_training_pairs_that_are_evaluated_are_found():
    evaluated, pairs = embeddings(10), embeddings(11, split="train")
    names = [*evaluated.image_ids[:10], *pairs.image_ids[10:]]
    pairs = replace(pairs, image_ids=names)
    remover = fit_remover(RemoverChoice("i0t_post"), "train", evaluated, lambda: pairs)
    known = {"model": "tiny", "fingerprint": "ab", "dataset": "set11", "split": "train", "fit_on": "train"}
    assert remover.origin.as_dict() == {**known, "model_is_file_name": None}
    seen = describe(remover, evaluated)
    shares = {"image_vectors": 0.0, "text_vectors": 0.0, "image_names": 0.25, "text_words": 0.0}
    assert seen["fit_overlap"] == shares and seen["means_leak"] is True
    assert (
        seen["means_fingerprint"] == make_remover("i0t_post").fit(pairs.image_features, pairs.text_features).fingerprint
    )


def test_nothing_to_remove():
    assert fit_remover(RemoverChoice(NONE), "test", embeddings(0)) is None
    assert describe(None, embeddings(0)) == {"remove_gap": "none"}
    with pytest.raises(I0TError, match="--fit-on train: the training pairs must be encoded"):
        fit_remover(RemoverChoice("i0t_post"), "train", embeddings(0))


def test_what_is_no_remover_is_refused():
    for name in ("nope", "pathlib:Path", "i0t.standardize:Nope", "no.such.module:Class"):
        with pytest.raises(I0TError, match=f"{name}: no"):
            make_remover(name)


ALONE = """
import os, sys
sys.path[:] = [folder for folder in sys.path if not os.path.isdir(os.path.join(folder or ".", "baselines"))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "ditable" not in str(finder)]  # of `pip install --editable`
from i0t.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_library_alone_offers_its_own(tmp_path):
    """Outside the checkout there are no rivals; every command still answers."""
    link = tmp_path / "i0t"
    link.symlink_to(REPO / "i0t")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in (["apply"], ["search-eval"], ["standardize", "fit"]):
        run = [sys.executable, "-c", ALONE, *command, "--help"]
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "whitening" in done.stdout, done.stderr
        assert "mind_the_gap" not in done.stdout

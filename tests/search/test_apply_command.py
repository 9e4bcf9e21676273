"""`i0t apply`: moved vectors, and matrix and bias that move a query as the remover itself does.

Run: python -m pytest tests/test_apply_command.py
"""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from i0t import embeddings as of_embeddings
from i0t.commands.apply import main
from i0t.commands.scores import main as scores
from i0t.embeddings import Embeddings, load_embeddings
from i0t.encoders import checkpoint as of_checkpoints
from i0t.errors import I0TError
from i0t.locks import only_writer
from i0t.reading.arrays import OURS
from i0t.search import VectorTransform
from i0t.search import score_file as of_scores
from i0t.search import transform as of_transforms
from i0t.standardize import RunningStandardizer, Standardizer, Whitening, ZScore
from i0t.standardize import saved as of_means
from i0t.standardize.registry import fitting_names, make_remover, own_names
from i0t.standardize.shard_processes import LEDGER

DIM = 24


def cone(n: int, seed: int, shift: float) -> np.ndarray:
    """Vectors around one direction, of any length, as an encoder gives them."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.2, 2.0, DIM)  # some dimensions vary ten times as much as others
    return (rng.normal(size=(n, DIM)) * spread + shift * np.eye(DIM)[1] * 5).astype("float32")


@pytest.fixture
def index_files(tmp_path: Path) -> list[str]:
    """An index of 70 images and 90 texts that do not pair up."""
    np.save(tmp_path / "images.npy", cone(70, 0, 1.0))
    np.save(tmp_path / "texts.npy", cone(90, 1, -1.0))
    return [str(tmp_path / "images.npy"), str(tmp_path / "texts.npy")]


@pytest.mark.parametrize("method", fitting_names())
def test_matrix_and_bias_move_queries_as_the_remover_does(index_files, tmp_path, method):
    out = tmp_path / "out"
    assert main([*index_files, "--fit-on", *index_files, "--remover", method, "--output", str(out)]) == 0
    images, texts = (np.load(path) for path in index_files)
    remover = make_remover(method).fit(images, texts)
    np.testing.assert_allclose(np.load(out / "images.npy"), remover.transform_image(images), atol=1e-6)
    np.testing.assert_allclose(np.load(out / "texts.npy"), remover.transform_text(texts), atol=1e-6)

    # A query by hand, with the file's tensors and NumPy alone.
    parts, query = load_file(out / "transform.safetensors"), cone(5, 7, -1.0).astype(np.float64)
    unit = query / np.linalg.norm(query, axis=1, keepdims=True)
    moved = unit @ parts["text_matrix"].T + parts["text_bias"]
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(moved, remover.transform_text(query), atol=1e-6)
    by_columns = np.stack([parts["image_matrix"] @ row + parts["image_bias"] for row in unit])
    by_columns /= np.linalg.norm(by_columns, axis=1, keepdims=True)
    np.testing.assert_allclose(by_columns, remover.transform_image(query), atol=1e-6)


def test_what_is_not_normalised_first_comes_out_wrong(index_files):
    """Without the first normalisation the vectors differ, as the page says."""
    images, texts = (np.load(path) for path in index_files)
    transform = VectorTransform.of(ZScore().fit(images, texts))
    careless = images @ transform.image_matrix.T + transform.image_bias
    careless /= np.linalg.norm(careless, axis=1, keepdims=True)
    assert np.abs(careless - transform(images, "image")).max() > 0.05


@pytest.mark.parametrize("remover", [Standardizer(), ZScore(), Whitening(0.5), RunningStandardizer()])
def test_transform_round_trips_through_its_file(tmp_path, remover):
    images, texts = cone(50, 0, 1.0), cone(60, 1, -1.0)
    remover.fit(images, texts, {"model": "m"})
    transform = VectorTransform.of(remover)
    read = VectorTransform.load(transform.save(tmp_path / "t.safetensors"))
    np.testing.assert_allclose(read(images, "image"), remover.transform_image(images), atol=1e-6)
    assert read.description == transform.description
    assert read.description["remover"] == remover.name
    assert read.description["provenance"]["model"] == "m"


def test_the_file_tells_its_formula(index_files, tmp_path):
    assert main([*index_files, "--fit-on", *index_files, "--output", str(tmp_path / "out")]) == 0
    with safe_open(tmp_path / "out" / "transform.safetensors", framework="numpy") as file:
        header = file.metadata()
    assert "normalise(matrix @ normalise(x) + bias)" in header["formula"]
    assert json.loads(header["description"])["provenance"]["n_texts"] == 90


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("method", own_names())  # they centre; Mind-the-Gap leaves most of a vector
def test_vectors_that_hardly_differ(tmp_path, capsys, method, spread):
    """float32 loses most of the digits that remain without the mean; float64 does not."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 1, 64)) + spread * rng.normal(size=(2, 200, 64))
    paths = [str(tmp_path / "images.npy"), str(tmp_path / "texts.npy")]
    for path, side in zip(paths, rows.astype("float32"), strict=True):
        np.save(path, side)
    out = tmp_path / "out"
    assert main([*paths, "--fit-on", *paths, "--remover", method, "--output", str(out)]) == 0
    stated = re.search(r"give these vectors up to (\S+), in float32 up to (\S+)\.", capsys.readouterr().out)
    assert float(stated[1]) <= 1e-7 < float(stated[2]) < 1
    moved = np.load(out / "images.npy")
    unit = load_embeddings(paths, paired=False)
    remover = make_remover(method).fit(unit.image_features, unit.text_features)
    assert moved.dtype == np.float32
    exact = remover.transform_image(unit.image_features.astype(np.float64))
    np.testing.assert_allclose(moved, exact, rtol=0, atol=1e-7)


def test_a_row_without_direction_is_named_in_the_whole_file(index_files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("i0t.standardize.arithmetic.CACHE_FLOATS", 16 * DIM)
    images = np.load(index_files[0])
    fitted = Standardizer().fit(images, np.load(index_files[1]))
    images[40] = fitted.image_mean_ * 3
    fitted._sums["image"].sums["sum"] *= np.linalg.norm(images[40].astype(float) / 3) ** -1  # a mean of length 1
    np.save(index_files[0], images)
    path = str(fitted.save(tmp_path / "fitted.safetensors"))
    flags = ["--fit-on", path, "--remover", "i0t_post", "--output", str(tmp_path / "out")]
    assert main([*index_files, *flags]) == 2
    assert "row 40 becomes a zero vector" in capsys.readouterr().err


def test_embeddings_keep_their_ids_and_say_what_moved_them(tmp_path):
    names = [f"{row}.jpg" for row in range(40)]
    given = Embeddings(cone(40, 0, 1.0), cone(40, 1, -1.0), np.arange(40), names, names, metadata={"model": "m"})
    path = given.save(tmp_path / "index.safetensors")
    assert main([str(path), "--fit-on", str(path), "--remover", "i0t_post", "--output", str(tmp_path / "out")]) == 0
    moved = Embeddings.load(tmp_path / "out" / "vectors.safetensors")
    assert moved.image_ids == names and moved.texts == names
    assert moved.metadata["gap_removed"]["remover"] == "i0t_post"
    np.testing.assert_allclose(np.linalg.norm(moved.text_features, axis=1), 1, atol=1e-6)


def test_a_fitted_file_serves_as_well_as_vectors(index_files, tmp_path):
    images, texts = (np.load(path) for path in index_files)
    fitted = ZScore().fit(images, texts).save(tmp_path / "fitted.safetensors")
    assert main([*index_files, "--fit-on", str(fitted), "--output", str(tmp_path / "one")]) == 0
    assert main([*index_files, "--fit-on", *index_files, "--output", str(tmp_path / "two")]) == 0
    np.testing.assert_allclose(
        np.load(tmp_path / "one" / "images.npy"), np.load(tmp_path / "two" / "images.npy"), atol=1e-6
    )


def test_bad_input_is_reported_in_one_line_and_loses_nothing(index_files, tmp_path, capsys):
    assert main([*index_files, "--fit-on", *index_files, "--output", str(tmp_path)]) == 2
    assert "would be overwritten by the moved vectors" in capsys.readouterr().err
    output = tmp_path / "moved"
    for name in (f"{tmp_path.name}/images.npy", "transform.safetensors"):  # as a shard's result, or the transform
        fitted = ZScore().fit(*(np.load(path) for path in index_files)).save(output / name)
        before = fitted.read_bytes()
        assert main(["--images", index_files[0], "--fit-on", str(fitted), "--output", str(output), "--jobs", "1"]) == 2
        assert f"{name}: would be overwritten" in capsys.readouterr().err and fitted.read_bytes() == before
    np.save(tmp_path / "narrow.npy", np.ones((2, 9, 5), dtype="float32"))
    assert main([*index_files, "--fit-on", str(tmp_path / "narrow.npy"), "--output", str(tmp_path / "out")]) == 2
    assert "dimensions" in capsys.readouterr().err
    spoilt = np.load(index_files[0])
    spoilt[3] = np.nan
    np.save(tmp_path / "spoilt.npy", spoilt)
    flags = [str(tmp_path / "spoilt.npy"), index_files[1], "--fit-on", *index_files, "--output", str(tmp_path / "out")]
    assert main(flags) == 2
    assert "row 3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_of_something_else_is_refused(tmp_path):
    images, texts = cone(50, 0, 1.0), cone(60, 1, -1.0)
    path = ZScore().fit(images, texts).save(tmp_path / "fitted.safetensors")
    with pytest.raises(I0TError, match="not a file of `i0t apply`, but a fitted gap remover.$"):
        VectorTransform.load(path)
    for module in (of_embeddings, of_scores, of_transforms, of_checkpoints, of_means):
        assert module.FORMAT in OURS


def test_two_runs_into_one_folder_are_told_apart(index_files, tmp_path, capsys):
    """Else the vectors of one could lie beside the transform, or the scales, of the other."""
    for program, name in ((main, LEDGER), (scores, "scores.safetensors")):
        (out := tmp_path / f"of_{name}").mkdir()
        flags = ["--fit-on", *index_files, "--output", str(out)]
        with only_writer(out / name):
            assert program([*index_files, *flags]) == 2
        assert "another run is writing it" in capsys.readouterr().err
        assert not [*out.glob("[!.]*")]
        assert program([*index_files, *flags]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 100 + len(str(tmp_path))


def test_flags_without_effect_are_refused(index_files, capsys):
    flags = ["--fit-on", *index_files, "--output", "out"]
    for more in (["--jobs", "2"], ["--images", "x.npy"], ["--shift-lambda", "0.5"]):
        with pytest.raises(SystemExit) if "lambda" not in more[0] else nullcontext():
            assert main([*index_files, *flags, *more]) == 2
        assert re.search(
            "are for shards|give SOURCE, or shards|z_score has no such parameter; mind_the_gap has",
            capsys.readouterr().err,
        )

"""Rivals in the three programs: BLIP-2's several vectors per image, and the records of a rival.

Run: python -m pytest tests/test_rival_programs.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from parity_fixture import Fixture, write_vocabulary

from evaluation import classification, correlation, retrieval
from i0t import Embeddings, Standardizer
from i0t.metrics import retrieval_metrics

PROGRAMS = {
    retrieval: ("flickr", "i2t_r1"),
    classification: ("birdsnap", "accuracy"),
    correlation: ("flickr8k_expert", "tau_c"),
}


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`--model` of each rival, with the fixtures as its files."""
    folder = tmp_path_factory.mktemp("rivals")
    vocabulary = write_vocabulary(folder / "vocab.txt")
    files = {name: Fixture.read(name).save(folder / f"{name}.pth") for name in ("blip", "blip2", "longclip")}
    return {
        "blip": f"blip:file={files['blip']},vocabulary={vocabulary}",
        "blip2": f"blip2coco:file={files['blip2']},vocabulary={vocabulary}",
        "longclip": f"longclip:file={files['longclip']},round_fp16=true",
    }


@pytest.fixture
def evaluate(configs: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Run a program on its data set; returns the record and the embeddings beside it."""

    def run(program, *flags: str) -> tuple[dict, Embeddings]:
        common = ["--dataset", PROGRAMS[program][0], "--output", str(tmp_path / "out"), "--workers", "0"]
        assert program.main([*common, *flags]) == 0
        path = Path(capsys.readouterr().out.splitlines()[-1])
        return json.loads(path.read_text()), Embeddings.load(path.with_suffix(".embeddings.safetensors"))

    return run


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("flags", [[], ["--remove-gap", "i0t_post", "--fit-on", "train", "--fit-samples", "16"]])
def test_parity_blip2_scores_the_best_of_its_vectors(program, flags, names, evaluate, configs):
    record, embeddings = evaluate(program, "--model", names["blip2"], *flags)
    assert embeddings.image_features.shape[1:] == (5, 48)
    assert np.isfinite(record["metrics"][PROGRAMS[program][1]])
    assert record["config"]["model"]["architecture"]["family"] == "BLIP-2"
    if flags:
        assert record["protocol"]["n_fit_images"] == 16 * 5  # every vector counts
        assert record["protocol"]["n_fit_texts"] == 16
    if flags or program is not retrieval:
        return
    best = np.einsum("nqd,md->nqm", embeddings.image_features, embeddings.text_features).max(axis=1)
    order = np.argsort(-best, axis=1)
    found = np.mean([embeddings.image_of_text[row[0]] == image for image, row in enumerate(order)])
    assert record["metrics"]["i2t_r1"] == pytest.approx(100 * found)


def test_parity_blip2_is_centred_by_all_its_vectors(names, evaluate):
    record, embeddings = evaluate(retrieval, "--model", names["blip2"], "--remove-gap", "i0t_post")
    images, texts = embeddings.image_features, embeddings.text_features
    mean = images.reshape(-1, 48).astype(np.float64).mean(axis=0)
    moved = images - mean
    moved /= np.linalg.norm(moved, axis=-1, keepdims=True)
    standardizer = Standardizer().fit(images, texts)
    assert np.abs(standardizer.transform_image(images) - moved).max() < 1e-6
    expected = retrieval_metrics(moved, standardizer.transform_text(texts), embeddings.image_of_text)
    assert record["metrics"] == pytest.approx(expected)


@pytest.mark.parametrize("rival", ["blip", "longclip"])
def test_parity_records_say_what_was_loaded(rival, names, evaluate, tmp_path):
    record, embeddings = evaluate(retrieval, "--model", names[rival])
    model = record["config"]["model"]
    assert model["name"] == names[rival]
    assert model["source"]["spec"] == rival
    assert model["source"]["file"].endswith(f"{rival}.pth")
    assert len(model["fingerprint"]) == 16
    assert model["source"].get("round_fp16") == (True if rival == "longclip" else None)
    assert embeddings.image_features.shape[1:] == (48,)
    (path,) = (tmp_path / "out").glob("retrieval-flickr-*.json")
    assert path.name.startswith(f"retrieval-flickr-{rival}-file-")

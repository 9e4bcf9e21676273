"""LAVIS' program without LAVIS: its files hold the items of the evaluations, and its errors say what to do.

Run: python -m pytest tests/test_lavis_embeddings.py
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_tensor

from evaluation import classification, correlation, retrieval
from i0t import Embeddings, Encoder, I0TError
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_texts
from i0t.paths import REPO, Roots

PROGRAMS = {"retrieval": retrieval, "classification": classification, "correlation": correlation}
DIM, QUERIES = 6, 4


@pytest.fixture
def producer(monkeypatch):
    """The program's module, imported as in its own environment."""
    monkeypatch.syspath_prepend(str(REPO / "environments"))
    module = importlib.import_module("lavis_embeddings")
    monkeypatch.setattr(module, "version", lambda package: "1.0.2")
    return module


class Clean:
    """A stand-in for LAVIS' caption processor."""

    def __init__(self, max_words: int = 50) -> None:
        self.max_words = max_words

    def __call__(self, caption: str) -> str:
        """Lower case, cut to the first words."""
        return " ".join(caption.lower().split()[: self.max_words])


class Extractor(torch.nn.Module):
    """A stand-in for LAVIS' feature extractor: unit vectors that depend on the pixels and on the letters."""

    tokenizer = staticmethod(lambda texts: texts)

    def __init__(self, queries: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, QUERIES * DIM, generator=torch.Generator().manual_seed(0)))
        self.vision_proj = SimpleNamespace(out_features=DIM)
        self.calls: list[list[str]] = []
        if queries:
            self.query_tokens = torch.nn.Parameter(torch.zeros(1))

    def extract_features(self, samples: dict, mode: str) -> SimpleNamespace:
        """As in LAVIS: one vector per position; position 0 is [CLS]."""
        if mode == "image":
            features = (samples["image"].mean(dim=(2, 3)) @ self.weight).reshape(-1, QUERIES, DIM)
            return SimpleNamespace(image_embeds_proj=torch.nn.functional.normalize(features, dim=-1))
        self.calls.append(samples["text_input"])
        codes = [[len(text), *map(ord, text[:DIM].ljust(DIM))][:DIM] for text in samples["text_input"]]
        features = torch.tensor(codes, dtype=torch.float32)[:, None].repeat(1, 3, 1)
        return SimpleNamespace(text_embeds_proj=torch.nn.functional.normalize(features, dim=-1))


def encoder_of(queries: bool) -> Encoder:
    """A `LavisEncoder` of the stub; the producer has imported its module."""
    make = sys.modules["lavis_models"].LavisEncoder
    return make("lavis-blip2" if queries else "lavis-blip", Extractor(queries), to_tensor, Clean()).eval()


@pytest.mark.parametrize("queries", [False, True])
def test_files_hold_what_the_evaluations_encode(producer, configs, tmp_path, monkeypatch, queries):
    flags = ["--captions-per-image", "5", "--output", str(tmp_path / "lavis"), "--workers", "0"]
    monkeypatch.setattr(producer, "load_lavis", lambda *_: encoder_of(queries))
    assert producer.main(["--model", "blip2" if queries else "blip", *flags]) == 0
    for name, program in PROGRAMS.items():
        own = ["--captions-per-image", "5"] if name == "retrieval" else []
        assert program.main(["--model", "tiny", "--output", str(tmp_path / "own"), "--workers", "0", *own]) == 0
    wanted = {(e.metadata["task"], e.metadata["dataset"]): e for e in loaded(tmp_path / "own")}
    written = {(e.metadata["task"], e.metadata["dataset"]): e for e in loaded(tmp_path / "lavis")}
    assert written.keys() == wanted.keys() and len(written) == 6
    for key, ours in written.items():
        theirs = wanted[key]
        assert (ours.image_ids, ours.texts) == (theirs.image_ids, theirs.texts)
        np.testing.assert_array_equal(ours.image_of_text, theirs.image_of_text)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert theirs.metadata.keys() <= ours.metadata.keys()
        assert ours.metadata["model"].startswith("lavis-blip") and len(ours.metadata["fingerprint"]) == 16
        assert ours.metadata["producer"] == "salesforce-lavis 1.0.2"
        shape = (QUERIES, DIM) if queries else (DIM,)
        assert ours.image_features.shape[1:] == shape and ours.text_features.shape[1:] == (DIM,)
        np.testing.assert_allclose(np.linalg.norm(ours.image_features, axis=-1), 1, rtol=1e-5)


def loaded(folder: Path) -> list[Embeddings]:
    """All Embeddings files of a folder."""
    return [Embeddings.load(path) for path in folder.glob("*.embeddings.safetensors")]


def test_texts_are_encoded_once_and_counted_when_cut(producer):
    encoder = encoder_of(queries=True)
    texts = ["A red star", "word " * 60, "blue", "A red star", "a RED star", "word " * 50]
    found = encode_texts(encoder, texts, EncodeOptions(batch_size=2, cache=False))
    features = torch.from_numpy(found.features)
    assert features.shape == (6, encoder.embed_dim) and features.dtype == torch.float32
    assert features[0].equal(features[3]) and features[0].equal(features[4])
    assert found.truncated == 1
    batches = encoder.model.calls
    assert [len(batch) for batch in batches] == [2, 2, 1] and sum(batches, [])[0] == "blue"


def test_another_run_gets_another_name(producer, configs, tmp_path, monkeypatch):
    monkeypatch.setattr(producer, "load_lavis", lambda *_: encoder_of(False))
    flags = ["--model", "blip", "--dataset", "flickr", "--output", str(tmp_path / "out"), "--workers", "0"]
    assert producer.main(flags) == producer.main(flags) == 0
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert producer.main([*flags, "--captions-per-image", "5"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_local_files_are_those_given_or_those_in_the_data_folder(producer, tmp_path):
    roots = Roots(tmp_path, None)
    assert producer.local_files("blip2", None, (None, None), roots) is None  # LAVIS downloads
    assert producer.local_files("blip2", None, (None, None), Roots(None, tmp_path)) is None
    for name in ("blip2/blip2_pretrained.pth", "bert-base-uncased/vocab.txt", "other.pth"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = producer.local_files("blip2", None, (None, None), roots)
    assert files.checkpoint == tmp_path / "blip2/blip2_pretrained.pth"
    assert files.vocabulary == tmp_path / "bert-base-uncased/vocab.txt" and files.vision is None
    other = tmp_path / "other.pth"
    assert producer.local_files("blip2", other, (None, None), roots).checkpoint == other
    with pytest.raises(I0TError, match="gone.pth: no such file"):
        producer.local_files("blip2", other, (tmp_path / "gone.pth", None), roots)


@pytest.mark.skipif(importlib.util.find_spec("lavis") is not None, reason="LAVIS is installed here")
def test_without_lavis_the_error_names_the_setup(producer, configs, tmp_path, capsys):
    assert producer.main(["--model", "blip", "--output", str(tmp_path)]) == 2
    assert "scripts/setup_lavis.sh" in capsys.readouterr().err


def test_the_evaluations_can_be_imported_in_lavis_environment():
    """LAVIS' environment lacks these packages, and has an old transformers."""
    lacking = ["open_clip", "umap", "tensorboard", "torchmetrics", "transformers", "accelerate", "webdataset", "faiss"]
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking})); import lavis_embeddings"
    paths = os.pathsep.join([str(REPO), str(REPO / "environments")])
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scripts_say_what_is_missing(tmp_path):
    environment = {**os.environ, "LAVIS_ENV": str(tmp_path / "none"), "LAVIS_PYTHON": str(tmp_path / "no-python")}
    for script, message in (("setup_lavis.sh", "LAVIS_PYTHON="), ("lavis_embeddings.sh", "setup_lavis.sh")):
        run = ["bash", str(REPO / "scripts" / script)]
        done = subprocess.run(run, env=environment, capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "none").exists()

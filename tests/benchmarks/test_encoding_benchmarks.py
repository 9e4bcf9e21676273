"""The rivals of the encoding benchmarks do the full work: they get the same figures as our code.

Run: python -m pytest tests/test_encoding_benchmarks.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import retrieval_rivals
from benchmarks.correlation_rival import pacscore_loop
from benchmarks.encoding_setup import evaluation, in_turn, times_faster, uncached
from benchmarks.retrieval_rivals import against_clip_benchmark, from_cache
from evaluation import correlation
from evaluation.retrieval import Retrieval
from i0t import Encoder, load_encoder
from i0t.data.datasets import load_dataset


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    """The sample's architecture with the weights of `--seed 0`."""
    import torch

    torch.manual_seed(0)
    return load_encoder("tiny")


def metrics_of(program, folder: Path, *flags: str) -> dict[str, float]:
    assert program.main(["--model", "tiny", "--workers", "0", "--output", str(folder), *flags]) == 0
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())["metrics"]


def test_pacscores_loop_restated_finds_our_tau(configs, tiny, sample_roots, tmp_path):
    ours = metrics_of(correlation, tmp_path, "--dataset", "flickr8k_expert", "--score", "pac_s")
    theirs = pacscore_loop(tiny, load_dataset("flickr8k_expert", sample_roots))
    # Rows of one image and caption fall into different batches there, and so may differ in the last bit.
    assert 100 * theirs == pytest.approx(ours["tau_c"], abs=1.0)


def test_rival_that_is_not_there_is_left_out_and_said(monkeypatch, tiny, sample_roots, tmp_path, capsys):
    monkeypatch.setattr(retrieval_rivals, "CLIP_BENCHMARK", tmp_path / "none.py")
    assert against_clip_benchmark(tiny, sample_roots, 20, 1, "fp32", ">= 1.3") == []
    assert "skipped: no Github/CLIP_benchmark" in capsys.readouterr().err


def test_second_run_is_measured_from_a_cache_of_its_own(tiny, sample_roots, monkeypatch, tmp_path):
    monkeypatch.setenv("I0T_CACHE", str(tmp_path / "mine"))
    encoded: list[int] = []
    plain = tiny.features_of_pixels
    monkeypatch.setattr(tiny, "features_of_pixels", lambda pixels: encoded.append(len(pixels)) or plain(pixels))
    assert from_cache(tiny, sample_roots, 20, 2).ratio > 0
    assert sum(encoded) == 2 * len(load_dataset("flickr", sample_roots).images)  # first runs only, of two rounds
    assert not (tmp_path / "mine").exists()
    calls: list[str] = []
    taken = in_turn(lambda: calls.append("ours"), lambda: calls.append("rival"), 2)
    assert calls == ["ours", "ours", "rival", "rival", "ours"]  # warm, then in turn
    assert times_faster([(1.0, 4.0), (1.0, 2.0), (2.0, 6.0)]) == 3.0
    assert len(taken) == 2
    evaluation(Retrieval(), tiny, "flickr", sample_roots, uncached())()
    assert not (tmp_path / "mine").exists()

"""`i0t search-eval --qrels --queries`: sources of means, models, and records that never overwrite each other.

Run: python -m pytest tests/test_search_queries.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from i0t.commands.search_eval import main
from i0t.embeddings import Embeddings


@pytest.fixture
def pairs_file(tmp_path) -> Path:
    """Sixty pairs with a gap, without a known model."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(60, 16))
    images = texts + 0.2 * rng.normal(size=(60, 16)) + 4 * np.eye(16)[0]
    np.save(tmp_path / "pairs.npy", np.stack([images, texts]).astype("float32"))
    return tmp_path / "pairs.npy"


@pytest.fixture
def asked(pairs_file, tmp_path, capsys):
    """Write a corpus of 40 pairs, ten queries and a calibration file; returns a run with judgments.

    `run(flags)` gives the status, the record if there is one, and what was said on standard error.
    """
    images, texts = np.load(pairs_file)

    def write(name: str, rows: slice, model: str = "m", dim: int = 16, **metadata: object) -> str:
        parts = images[rows, :dim], texts[rows, :dim]
        names = [f"{name}{row}" for row in range(len(parts[0]))]
        meta = {"model": model, **metadata}
        whole = Embeddings(*parts, np.arange(len(names)), names, [""] * len(names), metadata=meta)
        return str(whole.save(tmp_path / f"{name}.safetensors"))

    corpus = write("corpus", slice(0, 40))
    write("asking", slice(40, 50))
    write("fit", slice(50, 60))
    write("other_model", slice(40, 50), model="other")
    write("narrow", slice(40, 50), dim=8)
    (tmp_path / "j.qrels").write_text("text:0 0 corpus1 1\ntext:3 0 corpus4 1\n")

    def run(queries: str, fit_on: str, source: str = corpus) -> tuple[int, dict, str]:
        files = ["--queries", tmp_path / f"{queries}.safetensors", "--fit-on", tmp_path / f"{fit_on}.safetensors"]
        flags = [source, "--qrels", tmp_path / "j.qrels", *files, "--output", tmp_path / "out"]
        status = main([*map(str, flags), "--removers", "i0t_post"])
        said = capsys.readouterr()
        return status, json.loads(Path(said.out.splitlines()[-1]).read_text()) if said.out else {}, said.err

    run.write = write
    return run


def test_means_of_the_queries_are_a_leak(asked):
    _, record, _ = asked("asking", "fit")
    assert record["protocol"]["means_leak"] is False
    assert record["protocol"]["overlap_of_queries"]["text_share"] == 0
    _, record, said = asked("asking", "asking")
    assert record["protocol"]["means_leak"] is True
    assert record["protocol"]["overlap_of_queries"]["text_share"] == 1
    assert record["protocol"]["overlap"]["text_share"] == 0
    assert "fitted on queries, so results look better than they are: 100.0 % of the images" in said


def test_queries_of_another_model_are_refused(asked, pairs_file, tmp_path):
    status, _, said = asked("other_model", "fit")
    assert status == 2
    assert "corpus belong to model m (model m), the queries to model other (model other)" in said
    status, _, said = asked("narrow", "fit")
    assert status == 2
    assert "corpus have 16 dimensions, the queries 8" in said
    (tmp_path / "j.qrels").write_text("text:0 0 image:1 1\n")
    status, _, said = asked("other_model", "fit", source=str(pairs_file))
    assert status == 2
    assert "fit.safetensors: these statistics belong to model m" in said and "to model other" in said


def test_what_is_edited_in_any_file_gives_another_record(asked, tmp_path):
    def records() -> int:
        assert asked("asking", "fit")[0] == 0
        return len(list((tmp_path / "out").glob("search-*.json")))

    assert records() == records() == 1
    (tmp_path / "j.qrels").write_text("text:0 0 corpus1 1\ntext:3 0 corpus5 1\n")
    assert records() == 2
    asked.write("fit", slice(51, 60))
    assert records() == 3
    asked.write("asking", slice(41, 51))
    assert records() == 4
    asked.write("corpus", slice(0, 40), text_ids=[f"t{row}" for row in range(40)])
    assert records() == 5

"""README, and the pages on search and caption scoring: their commands and code run as printed.

Run: python -m pytest tests/test_docs_recipes.py
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from doc_blocks import DOCS, blocks, run_code
from PIL import Image

from i0t.__main__ import main
from i0t.embeddings import Embeddings
from i0t.standardize import Whitening, ZScore

PAGES = ("search.md", "caption_scoring.md")


def run_commands(page: str) -> int:
    """Run every `i0t` line of the page; returns how many there were."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines() if line.startswith("i0t ")]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    return len(lines)


def cone(n: int, seed: int, shift: float) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, 16)) + shift * np.eye(16)[0]).astype("float32")


class StandInModel:
    """A stand-in for a SentenceTransformer of 16 dimensions (tests/encoders has the real package)."""

    def encode(self, items: list[str], convert_to_numpy: bool = True, batch_size: int = 32) -> np.ndarray:
        assert convert_to_numpy
        return np.stack([cone(1, sum(map(ord, item)), -4.0)[0] for item in items])


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with the files of docs/search.md; nothing else may be written."""
    monkeypatch.chdir(tmp_path)
    for program in ("search_eval", "score"):
        monkeypatch.setattr(f"i0t.commands.{program}.TENSORS", tmp_path / "tensors")
    np.save("images.npy", cone(40, 0, 4.0))
    np.save("texts.npy", cone(60, 1, -4.0))
    np.save("pairs_images.npy", cone(30, 2, 4.0))
    np.save("pairs_texts.npy", cone(30, 3, -4.0))
    names = [f"{row}.jpg" for row in range(20)]
    Embeddings(cone(20, 4, 4.0), cone(20, 5, -4.0), np.arange(20), names, names).save("corpus.safetensors")
    Path("judged.qrels").write_text("text:0 0 3.jpg 1\ntext:0 0 text:9 2\nimage:1 0 text:4 1\n")
    return tmp_path


def test_search_page_from_the_problem_to_the_file(workplace):
    assert run_commands("search.md") == 6
    remover = ZScore().fit(np.load("images.npy"), np.load("texts.npy"))
    model = StandInModel()
    names = run_code("search.md", model=model)

    # faiss: the first five texts ask, and find themselves first, behind the 40 images.
    np.testing.assert_array_equal(names["ids"][:, 0], 40 + np.arange(5))
    assert names["scores"].shape == (1, 100)
    for modality, move in (("text", remover.transform_text), ("image", remover.transform_image)):
        vectors = cone(7, 11, 1.0)
        np.testing.assert_allclose(names["moved"](vectors, modality), move(vectors), atol=1e-6)
    assert names["index"].ntotal == 100 and names["is_text"][:, 0].all()

    # Standardised scores: one index of each kind, and one index of all for queries of one kind.
    items, queries = names["items"], names["queries"]
    for fitted, found in (
        (names["standardizer"], names["one_list"].scores),
        (names["constants"], names["standardised"]),
    ):
        scores = np.hstack([fitted.scores(queries, "text", vectors, kind) for kind, vectors in items.items()])
        np.testing.assert_allclose(found[:, :10], -np.sort(-scores, axis=1)[:, :10], rtol=1e-3, atol=1e-3)

    # One object for vectors and scores.
    np.testing.assert_allclose(
        names["moved_texts"], Whitening().fit(items["image"], items["text"]).transform_text(queries), atol=1e-6
    )
    assert names["scores_of_images"].shape == (5, 40)

    # sentence-transformers: the wrapper gives what the remover makes of the model's own vectors.
    own = model.encode(["a dog on the grass"])
    np.testing.assert_allclose(names["query"], remover.transform_text(own), atol=1e-6)
    gap_free = names["gap_free"]
    np.testing.assert_allclose(
        gap_free.encode(["x", "yy"], modality="image", batch_size=1),
        remover.transform_image(model.encode(["x", "yy"])),
        atol=1e-6,
    )


def test_caption_page_from_the_problem_to_the_file(workplace, configs):
    for name, colour in (("photo.jpg", "green"), ("other.jpg", "navy")):
        Image.new("RGB", (80, 60), colour).save(name)
    listed = next(block for block in blocks("caption_scoring.md", "") if block.startswith("image,caption"))
    Path("captions.csv").write_text(listed)
    assert run_commands("caption_scoring.md") == 3
    lines = Path("scores.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].split(",")[-1] == "error" and "ref_i0t_s" in lines[0] and "same_kind_percentile" in lines[0]
    assert Path("scores.json").is_file()
    metric = run_code("caption_scoring.md")["metric"]
    assert -0.2 < float(metric.compute()) < 0.2  # random features


def test_python_of_the_readme_runs_as_it_stands(workplace, configs, capsys):
    """With a small model in place of the one that is downloaded."""
    (code,) = blocks("../README.md", "python")
    for name, colour in (("dog.jpg", "brown"), ("cat.jpg", "grey"), ("bird.jpg", "blue")):
        Image.new("RGB", (80, 60), colour).save(name)
    names: dict[str, np.ndarray] = {}
    assert code.count('"ViT-B-32-quickgelu/openai"') == 1
    exec(compile(code.replace("ViT-B-32-quickgelu/openai", "tiny"), "README.md", "exec"), names)  # our own page
    assert "centroid_distance" in capsys.readouterr().out and names["moved"].shape == (1, 128)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text(encoding="utf-8"))
    assert all((DOCS / link).exists() for link in links if "://" not in link), links

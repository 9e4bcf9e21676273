"""The README's picture of the code: what it names is there.

Run: python -m pytest tests/test_docs_tree.py
"""

from __future__ import annotations

import re
from pathlib import Path

from i0t.paths import REPO

ENTRY = re.compile(r"^(?P<indent>(?:[│ ]   )*[├└]── |)(?P<names>[\w./]+(?: {1,3}[\w.]+\.py)*)", re.MULTILINE)


def named_paths(tree: str) -> list[Path]:
    """Files and folders that begin a line of a tree, each below the folders of the lines above it."""
    found: list[Path] = []
    folders: list[Path] = []
    for entry in ENTRY.finditer(tree):
        depth = len(entry["indent"]) // 4
        del folders[depth:]
        parent = folders[-1] if folders else Path()
        found += [parent / name for name in entry["names"].split()]
        folders.append(found[-1])
    return found


def test_the_tree_names_files_and_folders_that_exist():
    (tree,) = re.findall(r"^```\n(i0t/ .*?)^```$", (REPO / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    paths = named_paths(tree)
    assert {Path("i0t/embeddings.py"), Path("i0t/data/prepare"), Path("evaluation/options.py")} <= set(paths)
    made = {Path("tensors"), Path("Github")}  # by programs and by the user
    assert [str(path) for path in paths if path not in made and not (REPO / path).exists()] == []
    # A file that is named within a line is somewhere.
    for name in re.findall(r"\b\w+\.py\b", tree):
        assert (REPO / name).exists() or list(REPO.glob(f"*/**/{name}")), name

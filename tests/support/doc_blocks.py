"""Code blocks of the pages in docs/, which the tests run as printed."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, tag: str) -> list[str]:
    """Blocks that begin with ```tag."""
    return [text for found, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")) if found == tag]


def run_code(page: str, tag: str = "python", **names: object) -> dict[str, object]:
    """Run the page's blocks of one tag from top to bottom; return all names."""
    for number, block in enumerate(blocks(page, tag), start=1):
        exec(compile(block, f"docs/{page}, {tag} block {number}", "exec"), names)  # our own page
    return names

"""Every command of the pages and of the programs' help parses, and names models, recipes and removers that exist.

Nothing is run. Run: python -m pytest tests/test_docs_commands.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_blocks import DOCS, blocks
from programs import check, modules, reached

from i0t.errors import I0TError
from i0t.paths import REPO

PAGES = ["../README.md", "../CONTRIBUTING.md", *sorted(path.name for path in DOCS.glob("*.md"))]
SPAN = re.compile(r"(?<!`)`((?:i0t|python -m|bash) [^`]+)`")


def lines_of(page: str) -> list[str]:
    """Lines of the blocks of shell commands."""
    return [line.strip() for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]


def spans_of(page: str) -> list[str]:
    """Commands within the text; they may leave out what a program requires."""
    text = re.sub(r"^```.*?^```", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    spans = [" ".join(span.split()) for span in SPAN.findall(text)]
    return [span for span in spans if not re.search(r"\.\.\.|\bCOMMAND\b", span)]


def examples_of(module: str) -> list[str]:
    """Commands on lines of their own in the help of a program, without the remarks behind them."""
    parser, _ = reached(module)
    lines = f"{parser.description}\n{parser.epilog}".splitlines()
    found = (re.match(r"(?:example: |\s+)((?:ACCELERATE=\S+ )?(?:i0t|python -m|bash) .*)", line) for line in lines)
    return [re.split(r"\s{3,}", match[1])[0] for match in found if match]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_pages_parses(page):
    found = sum(map(check, lines_of(page))) + sum(check(span, is_whole=False) for span in spans_of(page))
    assert found


@pytest.mark.parametrize("module", modules())
def test_every_example_of_the_help_parses(module):
    for line in examples_of(module):
        assert check(line), line


@pytest.mark.parametrize(
    "line",
    [
        "i0t gap images.npy --reports x",
        "i0t gapp images.npy",
        "bash scripts/evaluate_all.sh --dataset flikr",
        "bash scripts/train.sh --recipe lcx",
        "bash scripts/train.sh --recipe lco step=3",
        "i0t score --model tinny --image a --caption b",
        "i0t apply a.safetensors --fit-on b --output c --remover zscore",
        "python -m benchmarks.trace evaluation.retrieval --modle tiny",
    ],
)
def test_wrong_command_is_noticed(line):
    with pytest.raises((AssertionError, I0TError)):
        check(line)


def test_launch_files_that_commands_name_exist():
    named = {word for page in PAGES for line in lines_of(page) for word in re.findall(r"configs/[\w/]+\.yaml", line)}
    assert named and all((REPO / word).is_file() for word in named)


def test_scripts_of_the_pages_are_all_there():
    named = {word for page in PAGES for word in re.findall(r"[\w/]+\.sh\b", (DOCS / page).read_text(encoding="utf-8"))}
    here = {path.name for path in (REPO / "scripts").glob("*.sh")}
    assert {Path(word).name for word in named} <= here

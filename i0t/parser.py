"""`Parser`: help that fits any width, one line for a wrong flag; and the types of flags that are numbers."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NoReturn

from i0t.program import BAD_INPUT, TRACEBACK_FLAG
from i0t.scripts import as_called_here

SPACE = re.compile(r"(?<=\S) {2,}(?=\S)")  # between the columns of a line


class HelpFormatter(argparse.HelpFormatter):
    """Fill paragraphs to the width of the terminal; keep indented lines, such as examples and columns, apart."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(filled for line, hang in _entries(text) for filled in _wrapped(line, hang, width, indent))


def _entries(text: str) -> Iterator[tuple[str, int]]:
    """Yield paragraphs and indented lines, with the indentation of their further lines; these are joined to the first.

    The further lines of an indented line are those that are indented more.
    """
    entry, hang, start = "", 0, 0
    for line in text.expandtabs().splitlines():
        indented = len(line) - len(line.lstrip())
        if line.strip() and entry and (indented > start > 0 or indented == start == 0):
            entry += f" {line.strip()}"
            continue
        if entry:
            yield entry, hang
        column = SPACE.search(line)
        entry, start = line.rstrip(), indented
        hang = (column.end() if column else start + 4) if start else 0
        if not entry:
            yield "", 0
    if entry:
        yield entry, hang


def _wrapped(entry: str, hang: int, width: int, indent: str) -> list[str]:
    further = indent + " " * (hang if hang < width - 30 else 6)
    return textwrap.wrap(
        entry, width, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    ) or [""]


class Parser(argparse.ArgumentParser):
    """A parser with `--traceback`, which `program` reads. A wrong flag ends in one line, as all bad input does."""

    def __init__(self, **options: Any) -> None:
        texts = {key: as_called_here(text) for key, text in options.items() if isinstance(text, str)}
        if what := texts.get("description", "").removeprefix("Program: "):  # as a module's docstring begins
            texts["description"] = what[0].upper() + what[1:]
        super().__init__(**{"formatter_class": HelpFormatter, **options, **texts})
        text = "on an unexpected error, show where it arose, for a report of it (or set I0T_TRACEBACK=1)"
        self.add_argument(TRACEBACK_FLAG, action="store_true", default=argparse.SUPPRESS, help=text)

    def error(self, message: str) -> NoReturn:
        """Print the line and exit; the usage, of many lines, is for `--help`."""
        self.exit(BAD_INPUT, f"error: {' '.join(message.split())}. See --help.\n")


def positive(text: str) -> int:
    """Type of a flag that is 1 or more."""
    return _whole(text, 1, 2**31 - 1)


def not_negative(text: str) -> int:
    """Type of a flag that is 0 or more."""
    return _whole(text, 0, 2**31 - 1)


def share_number(text: str) -> float:
    """Type of a share between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text:.20} is not a number") from None
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text:.20} is not between 0 and 1")
    return value


def seed_number(text: str) -> int:
    """Type of a seed: what NumPy, PyTorch and UMAP all take."""
    return _whole(text, 0, 2**32 - 1)


def _whole(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text:.20} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text:.20} is {'not a positive number' if least else 'negative'}")
    if value > most:
        raise argparse.ArgumentTypeError(f"{text:.20} is more than {most}")
    return value

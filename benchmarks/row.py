"""One line of the table that `python -m benchmarks` prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Row:
    """A measured ratio."""

    work: str  # what is done, with its size
    rival: str
    ratio: float
    goal: str  # in words
    note: str = ""  # how it was measured

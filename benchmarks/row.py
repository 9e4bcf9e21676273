"""One line of the table that `python -m benchmarks` prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Row:
    """A measured claim.

    Attributes:
        work: what is done, with its size.
        rival: what it is compared with.
        ratio: the stated figure.
        goal: what it must reach, in words.
        note: how it was measured.
    """

    work: str
    rival: str
    ratio: float
    goal: str
    note: str = ""

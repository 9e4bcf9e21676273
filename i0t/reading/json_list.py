"""`json_list`: a JSON list of a million records, parsed record by record, so that memory stays small."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from i0t.errors import I0TError, first_line

READ_BYTES = 1 << 20
LONGEST_RECORD = 1 << 24  # characters
NOT_WHITE = re.compile(r"[^ \t\r\n]")


def json_list(stream: IO[bytes], source: str | Path, what: str) -> Iterator[Any]:
    """Yield the records of a JSON list one by one; at most `LONGEST_RECORD` is in memory.

    Args:
        stream: the open file.
        source: its name, for errors.
        what: description for errors, e.g. "the ShareGPT4V captions".

    Raises:
        I0TError: not a list, not valid JSON, not UTF-8, or a key is given twice; the message names the record.
    """
    number = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
            raise I0TError(f"{source}: record {number}: the key {json.dumps(twice)} is given twice. Drop one.")
        return content

    decoder, text = json.JSONDecoder(object_pairs_hook=unique), _Text(stream)
    try:
        if text.sign() != "[":
            raise I0TError(f"{source}: not a JSON list of records in UTF-8 ({what}).")
        separator = "," if text.sign() != "]" else "]"
        text.place -= 1  # the sign that tells is part of the first record
        while separator == ",":
            yield text.parse(decoder)
            number += 1
            separator = text.sign()
            if separator not in (",", "]"):
                raise ValueError(f"{separator!r} instead of a comma" if separator else "the file is cut off")
        if number and (behind := text.sign()):
            raise ValueError(f"{behind!r} behind the end of the list")
    except I0TError:
        raise
    except RecursionError:
        why = "it is nested too deeply"
    except ValueError as error:  # no JSON, not UTF-8, a number of thousands of digits
        why = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
    else:
        return
    raise I0TError(f"{source}: not valid JSON ({what}) at record {number}: {why}. Download it again.")


class _Text:
    """A text that is read block by block; `part` is the block at hand, parsed up to `place`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.decoder = stream, codecs.getincrementaldecoder("utf-8-sig")()
        self.part, self.place = "", 0

    def sign(self) -> str:
        """Pass the next sign that is not white, and return it; "" at the end."""
        while True:
            if found := NOT_WHITE.search(self.part, self.place):
                self.place = found.end()
                return found[0]
            self.place = len(self.part)
            if not self._read():
                return ""

    def parse(self, decoder: json.JSONDecoder) -> Any:
        """Pass the next value, and return it."""
        if self.sign():
            self.place -= 1
        while True:
            try:
                value, self.place = decoder.raw_decode(self.part, self.place)
                return value
            except json.JSONDecodeError:  # wrong, or its end is not read yet
                if len(self.part) - self.place > LONGEST_RECORD or not self._read():
                    raise

    def _read(self) -> bool:
        block = self.stream.read(READ_BYTES)
        self.part, self.place = self.part[self.place :] + self.decoder.decode(block, final=not block), 0
        return bool(block)

"""Values of JSON objects, checked where they are read, so that an error names the entry and what is wrong there."""

from __future__ import annotations

import json
from typing import Any

from i0t.errors import I0TError

REMEDY = "Correct it, or download the file again."
NUMBER, IDENTITY = (int, float), (int, str)
KINDS = {list: "a list", str: "a string", NUMBER: "a number", IDENTITY: "a number or a string"}


def field(entry: Any, key: str, kind: type | tuple[type, ...], place: str) -> Any:
    """The value under a key of a JSON object.

    Args:
        entry: what should be the object.
        key: of the value.
        kind: a key of `KINDS`.
        place: the file and entry, for the error.

    Raises:
        I0TError: `entry` is no object, lacks the key, or has a value of another kind there.

    Example:
        >>> field({"id": 7}, "id", NUMBER, "a.json: image 0")
        7
        >>> field({"id": "7"}, "id", NUMBER, "a.json: image 0")
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: a.json: image 0: "id" is "7", not a number. Correct it, or download the file again.
    """
    if not isinstance(entry, dict):
        raise I0TError(f"{place}: is {_shown(entry)}, not an object. {REMEDY}")
    if key not in entry:
        raise I0TError(f'{place}: has no "{key}". {REMEDY}')
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise I0TError(f'{place}: "{key}" is {_shown(value)}, not {KINDS[kind]}. {REMEDY}')
    return value


def strings(entry: Any, key: str, place: str) -> list[str]:
    """The list of strings under a key of a JSON object.

    Raises:
        I0TError: as `field`, or the list holds something else.

    Example:
        >>> strings({"captions": ["a dog", "a pet"]}, "captions", "a.json: entry 0")
        ['a dog', 'a pet']
        >>> strings({"captions": ["a dog", None]}, "captions", "a.json: entry 0")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: a.json: entry 0: "captions"[1] is null, not a string. Correct it, or ...
    """
    values = field(entry, key, list, place)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise I0TError(f'{place}: "{key}"[{number}] is {_shown(value)}, not a string. {REMEDY}')
    return values


def _shown(value: Any) -> str:
    """A value as the file has it, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."

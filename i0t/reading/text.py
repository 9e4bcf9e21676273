"""Text, JSON and YAML of a user: UTF-8, no key twice, bounded numbers and nesting."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from i0t.errors import I0TError, first_line
from i0t.reading.form import REMEDY

DEEPEST = 64  # levels of nesting; none of the formats has more than ten
DIGITS = 20  # of a whole number: 64 bits
# Byte-order marks; that of UTF-16 begins that of UTF-32.
MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def has_words(text: str) -> bool:
    """Whether anything of a text shows: white space, zero-width and control characters alone are an empty text."""
    return any(sign.isprintable() and not sign.isspace() for sign in text)


def read_text(path: str | Path, what: str) -> str:
    r"""Read a UTF-8 file, with or without a byte-order mark; line ends stay (`\r\n`).

    Args:
        path: the file.
        what: description for errors, e.g. "pairs to score".

    Raises:
        I0TError: missing, unreadable, or not UTF-8: the message names the encoding that it looks like, and the line.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({what}). See the README for the layout.") from None
    except OSError as error:
        raise I0TError(f"{path}: cannot be read ({what}): {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise I0TError(f"{str(path)!r}: no name of a file ({what}): {error}.") from None
    marked = next((name for name, marks in MARKS.items() if content.startswith(marks)), None)
    if marked is None and b"\0" in content:
        zeros = content[:1000].count(0) / len(content[:1000])
        marked = "UTF-16" if 0.2 < zeros < 0.8 else None
        if marked is None:
            line = content.count(b"\n", 0, content.index(b"\0")) + 1
            raise I0TError(f"{path}: line {line} holds a NUL, so it is damaged or no text ({what}). {REMEDY}")
    if marked:
        raise I0TError(f"{path}: looks like {marked} text ({what}). Save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise I0TError(
            f"{path}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); it looks like Latin-1 or "
            f"Windows-1252 ({what}). Save it as UTF-8."
        ) from None


def read_json(path: str | Path, what: str) -> Any:
    """Parse a JSON file (NaN is allowed: the Flickr8k files have it).

    Raises:
        I0TError: see `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, what), path, what)


def parse_json(text: str, place: str | Path, what: str, remedy: str = REMEDY) -> Any:
    """Parse JSON within bounds.

    Args:
        text: the JSON.
        place: file, and line or entry, for errors.
        what: description for errors.
        remedy: what to do about an error.

    Raises:
        I0TError: not JSON, a key given twice in one object, a whole number beyond 64 bits, or nested too deeply.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise I0TError(
                f"{place}: the key {json.dumps(twice)} is given twice ({what}). Join its entries, or drop one."
            )
        return content

    def whole(digits: str) -> int:
        if len(digits) > DIGITS:
            raise I0TError(f"{place}: {digits[:12]}...: a whole number of {len(digits)} digits ({what}). {remedy}")
        return int(digits)

    try:
        content = json.loads(text, object_pairs_hook=unique, parse_int=whole)
    except RecursionError:
        raise I0TError(f"{place}: nested more than {DEEPEST} levels deep ({what}). {remedy}") from None
    except I0TError:
        raise
    except ValueError as error:
        why = "it is empty" if not text.strip() else str(error)
        raise I0TError(f"{place}: not valid JSON ({what}): {why}. {remedy}") from None
    if _is_deep(content):
        raise I0TError(f"{place}: nested more than {DEEPEST} levels deep ({what}). {remedy}")
    return content


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(DEEPEST + 1):
        level = [
            part
            for item in level
            if isinstance(item, (dict, list))
            for part in (item.values() if isinstance(item, dict) else item)
        ]
    return bool(level)


def read_yaml(path: str | Path, what: str) -> Any:
    """Parse a YAML file.

    Raises:
        I0TError: see `read_text` and `parse_yaml`.
    """
    return parse_yaml(read_text(path, what), path)


def parse_yaml(text: str, place: str | Path) -> Any:
    """Parse YAML.

    Args:
        text: the YAML.
        place: file, or argument of a command line, for errors.

    Raises:
        I0TError: not YAML, a key given twice in one mapping, an alias, or deep nesting.
    """
    try:
        return yaml.load(text, _Yaml)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
    except RecursionError:
        why = "it is nested too deeply"
    except (ValueError, LookupError, AttributeError, TypeError) as error:  # a date of month 13, `!!int ""`, ...
        why = first_line(error)
    raise I0TError(f"{place}: not valid YAML: {why}") from None


class _Yaml(yaml.SafeLoader):
    """Loader for numbers of YAML 1.2 that refuses a key given twice.

    PyYAML's are of YAML 1.1: 1e-5 is a text, 1:30 is 90, and 010 is 8.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for number, key in enumerate(keys) if key in keys[:number]]:
            raise yaml.YAMLError(f"{twice[0]} is given twice. Drop one.")
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # a few lines of them stand for gigabytes
            raise yaml.YAMLError(f"alias *{self.peek_event().anchor}. Write its value out.")
        return super().compose_node(parent, index)


def _whole_number(loader: _Yaml, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Yaml.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in (_INT, _FLOAT)]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver(
    _INT, re.compile(r"([-+]?\d[\d_]*|0o[0-7]+|0x[\da-fA-F]+)$", re.ASCII), list("-+0123456789")
)
_Yaml.add_implicit_resolver(
    _FLOAT,
    re.compile(r"([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", re.ASCII),
    list("-+.0123456789"),
)
_Yaml.add_constructor(_INT, _whole_number)

"""Numbers of YAML are read as they are written (YAML 1.2), not as times or octals.

Run: python -m pytest tests/reading/test_yaml_numbers.py
"""

from __future__ import annotations

import pytest

from i0t.reading import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("-7", -7), ("0x10", 16), ("0o10", 8), ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("0b11", "0b11")]
    + [("1e-5", 1e-5), ("8.0", 8.0), (".5", 0.5), ("-.inf", float("-inf")), ("1.5e3", 1500.0), ("yes", True)],
)
def test_numbers_are_what_is_written(text, value):
    found = parse_yaml(text, "x")
    assert found == value and type(found) is type(value)

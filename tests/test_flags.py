"""The flags of all programs: help that fits the terminal, and one line for a wrong value.

Run: python -m pytest tests/test_flags.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from programs import modules, parts, reached

from i0t.parser import HelpFormatter, Parser, not_negative, positive, seed_number, share_number

FITTING = {positive: ("-1", "0", "1.5", "9" * 30), not_negative: ("-1", "1e3"), seed_number: ("-1", f"{2**32}"),
           share_number: ("0", "1", "-0.1", "nan", "inf")}  # fmt: skip


def flags_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]


@pytest.fixture(params=modules())
def program(request) -> tuple:
    return reached(request.param)


def test_every_program_says_what_it_does_and_its_flags_have_help_that_fits(program, monkeypatch):
    for part in parts(program[0]):
        assert isinstance(part, Parser)
        assert part.description and part.description[0].isupper() and not part.description.startswith("Program")
        assert not [action.dest for action in part._actions if not action.help]
        monkeypatch.setenv("COLUMNS", "100")
        assert not [line for line in part.format_help().splitlines() if len(line) > 100], part.prog


def test_wrong_value_of_every_flag_is_one_line_that_names_it(program, capsys):
    for part in parts(program[0]):
        for action in flags_of(part):
            assert action.choices or action.type not in (int, float), f"{action.dest}: a type that says what it allows"
            wrong = ["no such value"] if action.choices or action.type not in (None, str, Path) else []
            for value in [*wrong, *FITTING.get(action.type, ())]:
                flags = [f"{action.option_strings[-1]}={value}"] if action.option_strings else [value]
                with pytest.raises(SystemExit) as stopped:
                    part.parse_args(flags)
                said = capsys.readouterr().err
                name = action.option_strings[0] if action.option_strings else action.metavar or action.dest
                assert stopped.value.code == 2 and said.count("\n") == 1, said
                assert said.startswith(f"error: argument {name}") and value[:20] in said, said


def test_unknown_and_missing_flags_are_one_line(program, capsys):
    for part in parts(program[0]):
        with pytest.raises(SystemExit):
            part.parse_args(["--no-such-flag"])
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.startswith("error: ") and ("--no-such-flag" in said or "required" in said)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("one two three\nfour", "one two three four"),
        ("one\n\ntwo", "one\n\ntwo"),
        ("list\n  a b\n  c d", "list\n  a b\n  c d"),
        ("  name   first second third fourth fifth sixth", "  name   first second third fourth fifth\n         sixth"),
        ("  name   first\n     second\nlast", "  name   first second\nlast"),
        ("  i0t gap images.npy texts.npy --json c.json", "  i0t gap images.npy texts.npy --json\n      c.json"),
    ],
)
def test_help_fills_paragraphs_and_keeps_columns(text, filled):
    assert HelpFormatter("x")._fill_text(text, 40, "") == filled

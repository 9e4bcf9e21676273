"""One word for removers in all programs.

Run: python -m pytest tests/standardize/test_remover_flags.py
"""

from __future__ import annotations

import argparse

import pytest

from i0t.cli import add_remover_flags, remover_choices


@pytest.mark.parametrize(
    ("flag", "written"),
    [
        ("--remove-gap", "--remove-gap"),
        ("--remove-gap", "--remover"),
        ("--remover", "--remover"),
        ("--removers", "--removers"),
    ],
)
def test_every_program_understands_remover(flag, written):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    several = flag == "--removers"
    add_remover_flags(parser, flag, default=["i0t_post"] if several else "i0t_post", several=several)
    assert f"{written} " in parser.format_help()
    found = vars(parser.parse_args([written, "mind_the_gap", "--shift-lambda", "0.5"]))
    names = found[flag[2:].replace("-", "_")]
    assert names == (["mind_the_gap"] if several else "mind_the_gap")
    (choice,) = remover_choices(argparse.Namespace(**found), names if several else [names])
    assert (choice.name, choice.parameters) == ("mind_the_gap", {"shift_lambda": 0.5})

"""All programs: their parsers, and command lines that are checked by them, without running anything."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
from unittest.mock import patch

from i0t.__main__ import COMMANDS
from i0t.cli import REMOVER_FLAGS, remover_choices
from i0t.encoders.load import known_models
from i0t.encoders.names import is_prefixed
from i0t.paths import REPO
from i0t.training.recipe import load_recipe, read_overrides

MAIN = 'if __name__ == "__main__":\n    sys.exit(main('  # else a probe: a benchmark runs it in a process of its own
PACKAGES = ("i0t", "evaluation", "benchmarks")
MADE_THERE = {"matched_cosine", "partial_mean:PartialMean", "small", "quick"}  # by docs/extending.md
OURS = re.compile(r"^(\S*/)?(i0t|python|accelerate|bash)$")
Parse = Callable[[list[str]], argparse.Namespace]


class _Reached(BaseException):
    """Raised where a program would parse its command line."""

    def __init__(self, parser: argparse.ArgumentParser, parse: Parse) -> None:
        self.parser, self.parse = parser, parse


def modules() -> list[str]:
    """The dotted names of all programs, as after `python -m`."""
    files = (path for package in PACKAGES for path in sorted((REPO / package).rglob("*.py")))
    names = (".".join(path.relative_to(REPO).with_suffix("").parts) for path in files if MAIN in path.read_text())
    own = [name.removesuffix(".__main__") for name in names]
    return [*dict.fromkeys([*own, *(command.module for command in COMMANDS.values())]), "lavis_embeddings"]


@cache
def reached(module: str) -> tuple[argparse.ArgumentParser, Parse]:
    """A program's parser, and the method that the program calls."""

    def stop(name: str) -> Callable[..., None]:
        plain = getattr(argparse.ArgumentParser, name)

        def method(self: argparse.ArgumentParser, *_: object) -> None:
            raise _Reached(self, lambda argv: plain(self, argv))

        return method

    methods = {name: stop(name) for name in ("parse_args", "parse_intermixed_args")}
    with patch.object(sys, "path", [*sys.path, str(REPO / "environments")]):
        file = import_module(module)
    program = import_module(f"{module}.__main__") if hasattr(file, "__path__") else file
    with patch.multiple(argparse.ArgumentParser, **methods):
        try:
            program.main([])
        except _Reached as there:
            return there.parser, there.parse
    raise AssertionError(f"{module} ran without parsing its command line")


def parts(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its sub-commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in dict.fromkeys(action.choices.values()):
                yield from parts(part)


def programs_of(words: list[str]) -> list[tuple[str, list[str]]] | None:
    """The programs that a command of the pages calls, with their flags; None if it calls none of ours.

    Scripts without flags (setup.sh, ...) give an empty list; so does ladder.sh, whose arguments are recipes.
    """
    words = list(words)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # of the environment
        words.pop(0)
    if words[:2] == ["accelerate", "launch"]:
        words = ["python", *words[words.index("-m") :]]
    match words:
        case [command, *rest] if command.split("/")[-1] == "i0t":
            name = rest.pop(0) if rest and rest[0] in COMMANDS else ""
            return [(COMMANDS[name].module if name else "i0t", rest)]
        case ["python", "-m", module, *rest] if module.split(".")[0] in PACKAGES:
            inner = programs_of(["python", "-m", *rest]) or [] if module == "benchmarks.trace" else []
            return [(module, rest), *inner] if module != "i0t" else programs_of(["i0t", *rest])
        case ["bash", script, *rest] if script.endswith(".sh"):
            return _programs_of_script(script.split("/")[-1], rest)
    return None


def _programs_of_script(name: str, flags: list[str]) -> list[tuple[str, list[str]]]:
    """Read what a script runs: lines `run MODULE FLAGS "$@"`, or for evaluate_all.sh the three tasks."""
    text = (REPO / "scripts" / name).read_text(encoding="utf-8")
    if name == "evaluate_all.sh":
        (tasks,) = re.findall(r"^for task in (.*); do$", text, re.MULTILINE)
        return [(f"evaluation.{task}", flags) for task in tasks.split()]
    if name == "lavis_embeddings.sh":
        return [("lavis_embeddings", flags)]
    return [
        (words.split()[0], [*words.split()[1:], *flags])
        for words in re.findall(r'^run (.*) "\$@"$', text, re.MULTILINE)
    ]


def check(line: str, is_whole: bool = True) -> int:
    """Parse a command with the parsers of its programs; return how many programs it names."""
    words = shlex.split(line, comments=True)
    if MADE_THERE & set(words):
        return 0
    found = programs_of(words)
    is_ours = words and OURS.match(words[0]) and not words[1].endswith(".py")
    assert found is not None or not is_ours, f"{line}: no program of ours"
    for module, flags in found or []:
        _, parse = reached(module)
        with redirect_stderr(StringIO()) as said, redirect_stdout(StringIO()):
            try:
                require_known(parse(flags))
            except SystemExit as stopped:
                is_partial = not is_whole and "required" in said.getvalue()
                assert stopped.code == 0 or is_partial, f"{line}: {said.getvalue()}"
    return len(found or [])


def require_known(given: argparse.Namespace) -> None:
    """Refuse names that a parser takes for any text: of models, recipes and gap removers."""
    for flag in ("model", "base"):
        name = getattr(given, flag, None)
        known = not name or name.partition(":")[0] in (*known_models(), "sample") or is_prefixed(name) or "/" in name
        assert known or name.isupper() or name.endswith((".safetensors", ".pt")), name
    if (recipe := getattr(given, "recipe", "NAME")) and not recipe.isupper():
        load_recipe(recipe, read_overrides(given.overrides))
    for flag in REMOVER_FLAGS:
        if (names := getattr(given, flag, None)) and hasattr(given, "set"):
            remover_choices(given, [names] if isinstance(names, str) else names)

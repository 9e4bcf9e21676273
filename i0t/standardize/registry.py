"""The one list of gap removers: their names, their parameters, and the flags of every program that offers them."""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from i0t.errors import I0TError
from i0t.standardize.remover import GapRemover
from i0t.standardize.saved import remover_named_in

NONE = "none"
# A new remover is a line here; every program, its flags, the records and the contract's tests then know it.
# What stands here is imported when it is asked for, so that the library does not depend on the rivals.
REMOVERS = {
    "i0t_post": "i0t.standardize:Standardizer",
    "z_score": "i0t.standardize:ZScore",
    "whitening": "i0t.standardize:Whitening",
    "mind_the_gap": "baselines.mind_the_gap:MindTheGap",
    "running": "i0t.standardize:RunningStandardizer",
}
STREAMING = {"running"}  # learn from a stream, in Python: programs, which fit once, load but do not offer them

Value = float | int | str | None


@dataclass(frozen=True)
class Parameter:
    """One constructor argument of a remover.

    Attributes:
        name: as in the signature.
        kind: float, int or str.
        optional: whether None is allowed, "none" on a command line.
        default: in the signature.
        help: of the class's docstring.
    """

    name: str
    kind: type
    optional: bool
    default: Value
    help: str

    def parse(self, text: str) -> Value:
        """The value of a command line's text. Raises ValueError where it is none."""
        return None if self.optional and text.lower() == NONE else self.kind(text)


@dataclass(frozen=True)
class RemoverChoice:
    """What a program hands down: a remover's name or dotted path, and the parameters that were named."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def make(self) -> GapRemover:
        """The remover, unfitted. Raises as `make_remover`."""
        return make_remover(self.name, self.parameters)


def fitting_names() -> list[str]:
    """Names of the removers that programs offer."""
    return [name for name in REMOVERS if name not in STREAMING]


def own_names() -> list[str]:
    """Those of them that belong to the library; the others are rivals."""
    return [name for name in fitting_names() if REMOVERS[name].startswith("i0t.")]


def remover_class(name: str) -> type[GapRemover]:
    """The class of a name of `REMOVERS`, or of a dotted path, `package.module:Class`.

    Raises:
        I0TError: neither, or what is there is no gap remover.
    """
    module, _, attribute = REMOVERS.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise I0TError(
            f"{name}: no such gap remover ({error}). Known: {', '.join(REMOVERS)}; others by dotted path, "
            "package.module:Class."
        ) from None
    if not (isinstance(found, type) and issubclass(found, GapRemover)):
        raise I0TError(f"{name}: not a gap remover (i0t.standardize.GapRemover).")
    return found


def make_remover(name: str, parameters: Mapping[str, Value] | None = None) -> GapRemover:
    """An unfitted remover.

    Raises:
        I0TError: no such remover, no such parameter, or a value that it refuses.
    """
    kind, known = remover_class(name), {parameter.name for parameter in parameters_of(name)}
    for parameter in parameters or {}:
        if parameter not in known:
            raise I0TError(f"{name} has no parameter {parameter}; it has {', '.join(sorted(known)) or 'none'}.")
    return kind(**(parameters or {}))


def load_remover(
    path: str | Path, name: str | None = None, parameters: Mapping[str, Value] | None = None
) -> GapRemover:
    """The remover saved in a file, of the class that the file names unless `name` does.

    Raises:
        I0TError: not such a file, or of a class that is not listed.
    """
    if name is None:
        name = remover_named_in(path) or "i0t_post"
        if name not in REMOVERS:
            raise I0TError(f"{path}: saved by remover {name!r}, unknown here. Name its class: --remover MODULE:CLASS.")
    return remover_class(name).load(path, **(parameters or {}))


def parameters_of(name: str) -> list[Parameter]:
    """The parameters of a remover, from the signature of its class. Raises as `remover_class`."""
    return _parameters(remover_class(name))


@cache
def _parameters(kind: type[GapRemover]) -> list[Parameter]:
    hints, helps = get_type_hints(kind.__init__), _argument_helps(kind)
    found = []
    for name, argument in inspect.signature(kind).parameters.items():
        hint = hints.get(name, type(argument.default))
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        value = next((kind for kind in (float, int, str) if kind in kinds), str)
        default = None if argument.default is argument.empty else argument.default
        found.append(Parameter(name, value, type(None) in kinds, default, helps.get(name, "")))
    return found


def _argument_helps(kind: type) -> dict[str, str]:
    """The entries of "Args:" in a class's docstring."""
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    entries = re.findall(r"^ {4}(\w+)[^:\n]*: (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).rstrip(".") for name, text in entries}


def add_remover_flags(
    parser: argparse._ActionsContainer, flag: str = "--remove-gap", default: Any = NONE, several: bool = False
) -> None:
    """`flag`, which names removers, one flag for each parameter that any of them has, and `--set` for others.

    Args:
        parser: or a group of its flags.
        flag: its name.
        default: a name, or several.
        several: whether it takes several names.
    """
    helps = {name: inspect.cleandoc(remover_class(name).__doc__ or "").partition("\n")[0] for name in fitting_names()}
    names = ([NONE] if default == NONE else []) + list(helps)
    shown = default if isinstance(default, str) else " ".join(default)
    told = " ".join(f"{name}: {text}" for name, text in helps.items())
    parser.add_argument(
        flag,
        default=default,
        nargs="+" if several else None,
        metavar="NAME",
        help=f"{', '.join(names)}, or MODULE:CLASS (default {shown}). {told}".replace("%", "%%"),
    )
    for name, (parameter, owners) in parameter_flags().items():
        text = f"of {', '.join(owners)}: {parameter.help} (default {parameter.default})".replace("%", "%%")
        parser.add_argument(_flag(name), metavar="VALUE", help=text)
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of a remover by MODULE:CLASS"
    )


def remover_choices(arguments: argparse.Namespace, names: Sequence[str]) -> list[RemoverChoice]:
    """The removers of these names, with the parameters that the flags of `add_remover_flags` name.

    Raises:
        I0TError: no such remover, a parameter that none of them has, or a value that it refuses.
    """
    texts = {name: getattr(arguments, name) for name in parameter_flags() if getattr(arguments, name) is not None}
    flags = {name: _flag(name) for name in texts}
    for item in arguments.set:
        name, _, texts[name] = item.partition("=")
        flags[name] = f"--set {name}"
    have = {name: {} if name == NONE else {held.name: held for held in parameters_of(name)} for name in names}
    for name in texts:
        if not any(name in known for known in have.values()):
            told = "; ".join(f"{remover} has {', '.join(known) or 'none'}" for remover, known in have.items())
            raise I0TError(f"{flags[name]}: no parameter of what is chosen ({told}). Write NAME=NUMBER of those.")
    choices = []
    for remover, known in have.items():
        try:
            own = {name: known[name].parse(text) for name, text in texts.items() if name in known}
        except ValueError as error:
            raise I0TError(f"{' '.join(flags.values())}: {error}. Write NAME=NUMBER, as {remover} has them.") from None
        choices.append(RemoverChoice(remover, own))
        if remover != NONE:
            choices[-1].make()  # refuses bad values before anything is read
    return choices


def _flag(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def parameter_flags() -> dict[str, tuple[Parameter, list[str]]]:
    """Every parameter of the removers that programs offer, by name, with those that have it."""
    found: dict[str, tuple[Parameter, list[str]]] = {}
    for name in fitting_names():
        for parameter in parameters_of(name):
            found.setdefault(parameter.name, (parameter, []))[1].append(name)
    return found

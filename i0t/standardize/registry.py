"""The list of gap removers: names and parameters, and how to make and load one."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Union, get_args, get_origin, get_type_hints

from i0t.dotted import import_dotted
from i0t.errors import I0TError
from i0t.standardize.remover import GapRemover
from i0t.standardize.saved import remover_named_in

NONE = "none"
# A new remover is one line here; programs, their flags, records and the contract tests then know it.
# Modules are imported when needed, so that the library does not depend on the rivals.
REMOVERS = {
    "i0t_post": "i0t.standardize:Standardizer",
    "z_score": "i0t.standardize:ZScore",
    "whitening": "i0t.standardize:Whitening",
    "mind_the_gap": "baselines.mind_the_gap:MindTheGap",
    "running": "i0t.standardize:RunningStandardizer",
}
STREAMING = {"running"}  # learn from a stream, in Python; programs, which fit once, only load them

Value = float | int | str | None
KINDS: dict[type, str] = {float: "a number", int: "a whole number", str: "a word", bool: "true or false"}
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Parameter:
    """One constructor argument of a remover.

    Attributes:
        name: name in the signature.
        kind: float, int, str or bool.
        optional: whether None is allowed ("none" on a command line).
        default: default in the signature.
        help: text in the class's docstring.
        required: whether there is no default.
    """

    name: str
    kind: type
    optional: bool
    default: Value
    help: str
    required: bool = False

    def parse(self, text: str) -> Value:
        """Convert a text of the command line; raises ValueError with the reason if it does not fit."""
        if self.optional and text.lower() == NONE:
            return None
        try:
            value = TRUTH[text.lower()] if self.kind is bool else self.kind(text)
        except (KeyError, ValueError):
            raise ValueError(f"{text!r} is not {KINDS[self.kind]}") from None
        if not _is_finite(value):
            raise ValueError(f"{text} is not a finite number")
        return value


@dataclass(frozen=True)
class RemoverChoice:
    """A remover's name or dotted path, and the parameters that the user set."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def make(self) -> GapRemover:
        """Make the remover, not fitted. Raises as `make_remover`."""
        return make_remover(self.name, self.parameters)


def fitting_names() -> list[str]:
    """Names of the removers that programs can fit; rivals only where their package is, as it is beside the checkout."""
    there = {name for name, place in REMOVERS.items() if find_spec(place.partition(":")[0].partition(".")[0])}
    return [name for name in REMOVERS if name in there and name not in STREAMING]


def own_names() -> list[str]:
    """Those of `fitting_names` that belong to the library; the others are rivals."""
    return [name for name in fitting_names() if REMOVERS[name].startswith("i0t.")]


def remover_class(name: str) -> type[GapRemover]:
    """Import the class of a name in `REMOVERS`, or of a dotted path, `package.module:Class`.

    Raises:
        I0TError: no such remover, or it is not a complete gap remover.
    """
    dotted = REMOVERS.get(name, name)
    try:
        if ":" not in dotted:
            raise ImportError("it names no class")
        found = import_dotted(dotted)
    except ImportError as error:
        raise I0TError(
            f"{name}: no such gap remover ({error}). Known: {', '.join(fitting_names())}; others by dotted path, "
            "package.module:Class."
        ) from None
    if not (isinstance(found, type) and issubclass(found, GapRemover)):
        raise I0TError(f"{name}: not a gap remover (i0t.standardize.GapRemover).")
    if inspect.isabstract(found):
        raise I0TError(f"{name}: the class defines no {', '.join(sorted(found.__abstractmethods__))}. Add that method.")
    if not isinstance(getattr(found, "name", None), str):
        raise I0TError(f'{name}: the class has no name. Add one, e.g. name = "{found.__name__.lower()}".')
    _parameters(found)
    return found


def make_remover(name: str, parameters: Mapping[str, Value] | None = None) -> GapRemover:
    """Make a remover, not fitted.

    Raises:
        I0TError: no such remover, no such parameter, one missing, or a value that it refuses; or its constructor
            does not do its part.
    """
    kind, known = remover_class(name), {parameter.name: parameter for parameter in parameters_of(name)}
    given = parameters or {}
    for parameter, value in given.items():
        if parameter not in known:
            raise I0TError(f"{name} has no parameter {parameter}; it has {', '.join(sorted(known)) or 'none'}.")
        if not _is_finite(value):
            raise I0TError(f"{name}: {parameter}: {value} is not a finite number.")
    for parameter, held in known.items():
        if held.required and parameter not in given:
            raise I0TError(f"{name}: its parameter {parameter} has no default. Give it: --set {parameter}=VALUE.")
    made = kind(**given)
    if not hasattr(made, "_sums"):
        raise I0TError(f"{name}: its __init__ does not call super().__init__(). Add that call.")
    for parameter in known:
        if not hasattr(made, parameter):
            raise I0TError(f"{name}: its __init__ does not keep {parameter}. Add self.{parameter} = {parameter}.")
    return made


def _is_finite(value: Value) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def load_remover(
    path: str | Path, name: str | None = None, parameters: Mapping[str, Value] | None = None, flag: str = "--remover"
) -> GapRemover:
    """Load a fitted remover; its class is `name`, or the one that the file names.

    Args:
        path: the file.
        name: load it as this remover.
        parameters: instead of the file's.
        flag: the program's flag for a remover, for errors.

    Raises:
        I0TError: not such a file, an unknown class, or a file that `name` cannot load.
    """
    own = remover_named_in(path)
    if name is None:
        name = name_in_file(path, flag) or "i0t_post"
    kind = remover_class(name)
    if own != kind.name:
        make_remover(name, parameters)  # checks the parameters; a file of this class may hold missing ones
    try:
        return kind.load(path, **(parameters or {}))
    except I0TError as error:
        if own in (None, kind.name, *STREAMING):  # the error of a streaming remover already has the remedy
            raise
        named = own if own in REMOVERS else f"MODULE:CLASS of {own}"
        raise I0TError(f"{str(error).removesuffix('.')}, or name its own: {flag} {named}.") from None


def name_in_file(path: str | Path, flag: str = "--remover") -> str | None:
    """Name of the remover that saved a file; None for any other file.

    Raises:
        I0TError: it is not listed; `flag` then names its class.
    """
    name = remover_named_in(path)
    if name is not None and name not in REMOVERS:
        raise I0TError(f"{path}: saved by remover {name!r}, unknown here. Name its class: {flag} MODULE:CLASS.")
    return name


def parameters_of(name: str) -> list[Parameter]:
    """Read the parameters of a remover from the signature of its class. Raises as `remover_class`."""
    return _parameters(remover_class(name))


@cache
def _parameters(kind: type[GapRemover]) -> list[Parameter]:
    hints, helps = get_type_hints(kind.__init__), _argument_helps(kind)
    found = []
    for name, argument in inspect.signature(kind).parameters.items():
        hint = hints.get(name, type(argument.default))
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        values = [value for value in kinds if value is not type(None)]
        is_named = argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
        if not (is_named and values and set(values) <= set(KINDS)):
            raise I0TError(
                f"{kind.__module__}:{kind.__qualname__}: its parameter {name} is of a type that no flag can give. "
                "Annotate it as float, int, str or bool, or one of them | None."
            )
        value, required = next(held for held in KINDS if held in values), argument.default is argument.empty
        default = None if required else argument.default
        found.append(Parameter(name, value, type(None) in kinds, default, helps.get(name, ""), required))
    return found


def _argument_helps(kind: type) -> dict[str, str]:
    """Read the entries of "Args:" in a class's docstring."""
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    entries = re.findall(r"^ {4}(\w+)[^:\n]*: (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).rstrip(".") for name, text in entries}


def all_parameters() -> dict[str, tuple[Parameter, list[str]]]:
    """All parameters of `fitting_names`, by name, with the removers that have them."""
    found: dict[str, tuple[Parameter, list[str]]] = {}
    for name in fitting_names():
        for parameter in parameters_of(name):
            found.setdefault(parameter.name, (parameter, []))[1].append(name)
    return found

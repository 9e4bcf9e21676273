"""Shared by all programs: the parser, common flags, and the device."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from i0t.errors import I0TError, first_line
from i0t.parser import Parser as Parser  # for `from i0t.cli import Parser`, and so on
from i0t.parser import not_negative as not_negative
from i0t.parser import positive as positive
from i0t.parser import seed_number as seed_number
from i0t.parser import share_number as share_number
from i0t.paths import TENSORS, Roots, configs_folder, configured_roots, say
from i0t.processes import count_here, own_device
from i0t.program import program as program

if TYPE_CHECKING:
    from i0t.encoders import EncodeOptions
    from i0t.standardize.registry import RemoverChoice

REMOVER_FLAGS = ("remove_gap", "remover", "removers")  # of all programs; evaluations take either of the first two


def add_common_flags(parser: argparse.ArgumentParser, batch_size: str = "items per forward pass") -> None:
    """Add the flags that every program has; `batch_size` is the help of that flag."""
    group = parser.add_argument_group("common")
    group.add_argument("--output", metavar="DIR", help="folder for what the run writes (made if missing)")
    group.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda if there is one, else cpu)")
    group.add_argument("--batch-size", type=positive, metavar="N", help=batch_size)
    group.add_argument(
        "--workers",
        type=not_negative,
        metavar="N",
        help="processes that decode images (default: cores, at most 8)",
    )
    group.add_argument("--seed", type=seed_number, help="seed of everything random")
    group.add_argument(
        "--skip-unreadable", action="store_true", help="leave out images that cannot be read, and count them"
    )
    add_root_flags(group)


def add_encoding_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--precision` and `--no-cache`, for a program that encodes."""
    from i0t.encoders import AUTO, PRECISIONS

    group = parser.add_argument_group("encoding")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=AUTO,
        help="number format of the forward passes; auto (default) is bf16 on CUDA, fp32 elsewhere. It is part of the "
        "protocol: half precision changes the third digit",
    )
    group.add_argument(
        "--no-cache",
        action="store_true",
        help="encode again, and keep nothing in tensors/cache (i0t cache shows and clears it)",
    )


def encode_options(arguments: argparse.Namespace, share: bool = True) -> EncodeOptions:
    """Read the flags of `add_encoding_flags` and `add_common_flags`."""
    from i0t.encoders import EncodeOptions

    return EncodeOptions(
        batch_size=arguments.batch_size or EncodeOptions.batch_size,
        workers=workers_of(arguments),
        precision=arguments.precision,
        skip_unreadable=arguments.skip_unreadable,
        cache=not arguments.no_cache,
        share=share,
    )


def add_remover_flags(
    parser: argparse._ActionsContainer,
    flag: str = "--remove-gap",
    default: str | Sequence[str] | None = "",
    several: bool = False,
    default_help: str = "",
) -> None:
    """Add `flag`, which names removers, one flag per parameter of a registered remover, and `--set` for other removers.

    Args:
        parser: a parser or a group of its flags.
        flag: name of the flag.
        default: one name or several; "" removes nothing; None: the program decides.
        several: whether the flag takes several names.
        default_help: name of the default in the help.
    """
    from i0t.standardize.registry import NONE, all_parameters, fitting_names, remover_class

    default = NONE if default == "" else default
    helps = {name: inspect.cleandoc(remover_class(name).__doc__ or "").partition("\n")[0] for name in fitting_names()}
    names = ([NONE] if default == NONE else []) + list(helps)
    shown = default_help or (default if isinstance(default, str) else " ".join(default or []))
    summaries = " ".join(f"{name}: {text}" for name, text in helps.items())
    parser.add_argument(
        *([flag, "--remover"] if flag == "--remove-gap" else [flag]),
        default=default,
        nargs="+" if several else None,
        metavar="NAME",
        help=f"{', '.join(names)}, or MODULE:CLASS (default {shown}). {summaries}".replace("%", "%%"),
    )
    for name, (parameter, owners) in all_parameters().items():
        text = f"of {', '.join(owners)}: {parameter.help} (default {parameter.default})".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=text)
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of a remover by MODULE:CLASS"
    )


def remover_choices(
    arguments: argparse.Namespace, names: Sequence[str], none: bool = True, fitted: bool = False
) -> list[RemoverChoice]:
    """Read the flags of `add_remover_flags`: one choice per name, with its parameters.

    Args:
        arguments: parsed flags.
        names: names of removers.
        none: whether the program can leave the gap as it is.
        fitted: whether they come from a fitted file, which holds the other parameters.

    Raises:
        I0TError: no such remover, a parameter that none of them has, or a value that it refuses.
    """
    from i0t.standardize.registry import (
        NONE,
        STREAMING,
        RemoverChoice,
        all_parameters,
        fitting_names,
        parameters_of,
        remover_class,
    )

    flag = next((f"--{known.replace('_', '-')}" for known in REMOVER_FLAGS if hasattr(arguments, known)), "")
    for name in names:
        if name == NONE and not none:
            raise I0TError(f"{flag} {NONE}: name what removes the gap: {', '.join(fitting_names())}, or MODULE:CLASS.")
        if name in STREAMING and not fitted:
            raise I0TError(
                f"{flag} {name}: it learns from a stream, and a program fits once. Use "
                f"{remover_class(name).__name__} in Python, or one of {', '.join(fitting_names())}."
            )

    texts = {name: getattr(arguments, name) for name in all_parameters() if getattr(arguments, name) is not None}
    flags = {name: f"--{name.replace('_', '-')}" for name in texts}
    for item in arguments.set:
        name, _, texts[name] = item.partition("=")
        flags[name] = f"--set {name}"
    have = {name: {} if name == NONE else {held.name: held for held in parameters_of(name)} for name in names}
    for name in texts:
        if not any(name in known for known in have.values()):
            raise I0TError(f"{flags[name]}: {_no_such_parameter(name, have)}")
    choices = []
    for remover, known in have.items():
        own = {}
        for name in (name for name in texts if name in known):
            try:
                own[name] = known[name].parse(texts[name])
            except ValueError as error:
                raise I0TError(f"{flags[name]}: {error}.") from None
        choices.append(RemoverChoice(remover, own))
        if remover != NONE and not fitted:
            choices[-1].make()  # refuses bad values before anything is read
    return choices


def _no_such_parameter(name: str, have: Mapping[str, Iterable[str]]) -> str:
    """Error text: none of the chosen removers has the parameter; others that do, or the parameters of these."""
    from i0t.standardize.registry import NONE, all_parameters

    _, owners = all_parameters().get(name, (None, []))
    if owners:
        other = f"{', '.join(owners)} {'have' if len(owners) > 1 else 'has'}"
    else:
        other = "; ".join(f"{remover} has {', '.join(known) or 'none'}" for remover, known in have.items())
    if list(have) == [NONE]:
        return f"no remover is chosen, so there is no such parameter; {other}."
    return f"{', '.join(have)} {'have' if len(have) > 1 else 'has'} no such parameter; {other}."


def add_root_flags(parser: argparse._ActionsContainer) -> None:
    """Add `--data-dir` and `--data-dir-sub`."""
    parser.add_argument("--data-dir", metavar="DIR", help="instead of configs/root.txt (~/.config/i0t, if installed)")
    parser.add_argument("--data-dir-sub", metavar="DIR", help="instead of configs/subroot.txt (likewise)")


def roots_of(arguments: argparse.Namespace) -> Roots:
    """Read `--data-dir` and `--data-dir-sub`; see `resolve_roots`."""
    return resolve_roots(arguments.data_dir, arguments.data_dir_sub)


def resolve_roots(main: str | None = None, sub: str | None = None) -> Roots:
    """Find the data roots: from flags, else from the path files, else the built-in sample.

    Raises:
        I0TError: a path does not exist.
    """
    roots = configured_roots(main, sub)
    return roots if roots.main or roots.sub else _sample_roots()


def _sample_roots() -> Roots:
    from i0t.data.sample import data_dir, data_dir_sub, make_sample  # slow to import, and not needed for real data

    configs = configs_folder()
    say(
        f"Data: the built-in sample (for real data write <data_dir> into {configs / 'root.txt'} "
        f"and <data_dir_sub> into {configs / 'subroot.txt'})."
    )
    root = make_sample(TENSORS / "sample")
    return Roots(data_dir(root), data_dir_sub(root), is_sample=True)


def add_partial_flag(parser: argparse._ActionsContainer) -> None:
    """Add `--allow-partial`."""
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="evaluate an incomplete data set (wrong counts or missing images), which is refused otherwise; the record "
        "and the table say so",
    )


def device_of(arguments: argparse.Namespace) -> str:
    """Read `--device`; see `usable_device`."""
    return usable_device(arguments.device)


def usable_device(asked: str | None = None) -> str:
    """Return the device asked for, or the best one; with several processes, the card of this one.

    Raises:
        I0TError: it cannot compute, e.g. CUDA without a card.
    """
    import torch

    # Try the card of this process: one context per process on the first card would fill its memory.
    device = own_device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        torch.empty(1, device=device)
        if device.startswith("meta"):
            raise RuntimeError("computes nothing")
    except (RuntimeError, AssertionError) as error:
        raise I0TError(f"--device {device}: {first_line(error)}. Use --device cpu.") from None
    return device


def workers_of(arguments: argparse.Namespace) -> int:
    """Read `--workers`; by default one per core of this process, at most 8."""
    return min(8, max(1, (os.cpu_count() or 1) // count_here())) if arguments.workers is None else arguments.workers

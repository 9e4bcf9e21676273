"""Command line and options of the evaluation programs."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from evaluation.task import Task
from i0t.cli import (
    Parser,
    add_common_flags,
    add_encoding_flags,
    add_partial_flag,
    add_remover_flags,
    encode_options,
    positive,
    remover_choices,
    workers_of,
)
from i0t.data.datasets import datasets_of
from i0t.encoders import EncodeOptions
from i0t.errors import I0TError
from i0t.paths import TENSORS
from i0t.standardize.fitting import TEST
from i0t.standardize.registry import NONE, RemoverChoice

AnyTask = TypeVar("AnyTask", bound=Task)

EPILOG = """\
Without arguments: the last checkpoint, on all data sets of the path files that are present.

Each data set gives one JSON record in --output (default: tensors), named by model and protocol, with its
embeddings and means beside it. The paths of the records are printed last.

Images are encoded as they are stored, as published benchmarks are measured: EXIF does not turn them."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation."""

    task: Task  # with its own flags
    encoding: EncodeOptions = field(default_factory=EncodeOptions)
    remover: RemoverChoice = field(default_factory=lambda: RemoverChoice(NONE))
    fit_on: str = TEST  # where the means come from: "test", "train" or a file
    fit_samples: int = 1000  # training pairs for "train"
    seed: int = 0
    allow_partial: bool = False  # evaluate incomplete data sets
    flags: Mapping[str, Any] = field(default_factory=dict)  # all flags, for the record


def parse(task: type[Task], argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line of a task's program."""
    parser = Parser(
        prog=f"evaluate_{task.name}",
        description=inspect.getdoc(task),
        epilog=EPILOG,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        metavar="NAME|CHECKPOINT",
        help="a checkpoint, a spec of configs/models (NAME, or NAME:KEY=VALUE), or ARCH/TAG of open_clip "
        "(default: the last checkpoint)",
    )
    source.add_argument(
        "--embeddings",
        nargs="+",
        metavar="FILE",
        help="instead of a model: an Embeddings file (.safetensors), or for retrieval images.npy texts.npy, or one "
        ".npy of shape (2, N, D); row i of images matches row i of texts",
    )
    parser.add_argument(
        "--dataset",
        action="append",
        choices=datasets_of(task.kind),
        help="may be repeated (default: all that are present)",
    )
    add_task_flags(parser, task)
    add_partial_flag(parser)
    _add_gap_flags(parser.add_argument_group("removing the gap"))
    add_encoding_flags(parser)
    add_common_flags(parser)
    parser.set_defaults(output=str(TENSORS), batch_size=64, seed=0)
    return parser.parse_args(argv)


def _add_gap_flags(group: argparse._ArgumentGroup) -> None:
    add_remover_flags(group)
    group.add_argument(
        "--fit-on",
        default=TEST,
        metavar="{test,train,FILE}",
        help="where the means come from: the evaluated set itself (test, default: the paper's protocol, which leaks), "
        "ShareGPT4V training pairs (train), or a means or Embeddings file",
    )
    group.add_argument(
        "--fit-samples",
        type=positive,
        default=1000,
        metavar="N",
        help="training pairs for --fit-on train, drawn with --seed (default 1000; compare Table 3)",
    )


def options_of(task: type[Task], arguments: argparse.Namespace, device: str | None) -> EvaluationOptions:
    """Make the options of a command line; `device` is that of this process."""
    (remover,) = remover_choices(arguments, [arguments.remove_gap])
    if remover.name == NONE and arguments.fit_on != TEST:
        raise I0TError(f"--fit-on {arguments.fit_on}: nothing is fitted without --remove-gap NAME.")
    return EvaluationOptions(
        task=task_of(arguments, task),
        encoding=encode_options(arguments),
        remover=remover,
        fit_on=arguments.fit_on,
        fit_samples=arguments.fit_samples,
        seed=arguments.seed,
        allow_partial=arguments.allow_partial,
        flags={**vars(arguments), "workers": workers_of(arguments), "device": device},
    )


def add_task_flags(parser: argparse.ArgumentParser, task: type[Task]) -> None:
    """Add one flag per field of a task's dataclass; its metadata are the arguments of `add_argument`."""
    for one in _fields(task):
        flag, about = _flag(one), dict(one.metadata)
        about.pop("of_items", None)
        if isinstance(one.default, bool):
            action = argparse.BooleanOptionalAction if one.default else "store_true"
            parser.add_argument(flag, action=action, default=one.default, **about)
        else:
            kind = about.pop("type", type(one.default))
            parser.add_argument(flag, type=kind, default=one.default, **about)


def task_of(arguments: argparse.Namespace, task: type[AnyTask]) -> AnyTask:
    """Make the task of a command line."""
    return task(**{one.name: getattr(arguments, one.name) for one in _fields(task)})


def refuse_flags_of_items(task: Task) -> None:
    """Refuse flags that choose the items to encode if embeddings are read from files.

    Raises:
        I0TError: a flag that would have no effect.
    """
    for one in _fields(type(task)):
        if one.metadata.get("of_items") and getattr(task, one.name) != one.default:
            raise I0TError(f"{_flag(one)}: has no effect on --embeddings, whose items are those of the file.")


def _flag(field: Field[Any]) -> str:
    return f"--{field.name.replace('_', '-')}"


def _fields(task: type[Task]) -> tuple[Field[Any], ...]:
    found = fields(task)  # type: ignore[arg-type]  # every task is a dataclass
    lacking = [field.name for field in found if field.default is MISSING]
    if lacking:
        raise TypeError(f"{task.__name__}: the fields {', '.join(lacking)} need defaults, as they are flags.")
    return found

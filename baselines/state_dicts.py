"""Read published checkpoints as flat state dicts, and load them into models exactly.

Files are not trusted: pickles are read with `weights_only`, sizes come from the shapes, and missing or unexpected
keys are errors.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from i0t.encoders.description import require_finite
from i0t.errors import I0TError, first_line

StateDict = dict[str, Tensor]


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add the file's name to any `I0TError` inside."""
    try:
        yield
    except I0TError as error:
        raise I0TError(f"{path}: {error}") from None


def read_state_dict(path: str | Path, entry: str | None = None) -> StateDict:
    """Read the flat state dict of a checkpoint file, without running code from it.

    Args:
        path: written by `torch.save`, or by `torch.jit.save` as OpenAI's models (such an archive has no Python
            code).
        entry: key of the state dict in the file, if the file has it.

    Returns:
        Tensors by name, without the prefix `module.` of distributed training.

    Raises:
        I0TError: missing, damaged, with more than plain data, or not a state dict.
    """
    content = _read(Path(path))
    state = content.get(entry, content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise I0TError(f"holds {type(state).__name__}, not tensors by name.")
    strangers = sorted(key for key, value in state.items() if not isinstance(value, Tensor))
    if strangers or not state:
        raise I0TError(f"not a state dict; entries that are not tensors: {_listed(strangers)}.")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise I0TError("no such file.")
    is_zip = zipfile.is_zipfile(path)
    with path.open("rb") as stream:
        if not is_zip and stream.read(1) != b"\x80":  # the first byte of every pickle
            raise I0TError("not a checkpoint, or damaged. Download it again.")
    try:
        if is_zip and _is_torchscript(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch calls TorchScript deprecated, but OpenAI's files use it
                return torch.jit.load(str(path), map_location="cpu").state_dict()
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|function) (?!was)([\w.]+)", str(error))
        raise I0TError(
            f"holds more than tensors and plain data{f' ({found[1]})' if found else ''}. It is not opened, because "
            "unpickling it can run code. If you trust it, save its state dict alone with torch.save."
        ) from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise I0TError(f"cannot be read ({first_line(error)[:160]}). Download it again.") from None


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_exactly(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict into a model; every key must be used, and every parameter and buffer filled.

    Raises:
        I0TError: lists the keys that are missing, left over or of another shape, or names weights that are not finite.
    """
    require_finite(state)
    own = model.state_dict()
    problems = {
        "missing": own.keys() - state.keys(),
        "left over": state.keys() - own.keys(),
        "of another shape": {key for key in own.keys() & state.keys() if own[key].shape != state[key].shape},
    }
    if any(problems.values()):
        found = "; ".join(f"{what}: {_listed(sorted(keys))}" for what, keys in problems.items() if keys)
        raise I0TError(f"not the layout expected. Keys {found}")
    model.load_state_dict(state)


def need(state: Mapping[str, Tensor], key: str) -> Tensor:
    """Return the tensor of a key, or raise an error that names it."""
    if key not in state:
        raise I0TError(f"not the layout expected. Keys missing: {key} (there are: {_listed(sorted(state), 5)})")
    return state[key]


def below(state: Mapping[str, Tensor], prefix: str) -> StateDict:
    """Entries with keys that start with a prefix, which is removed."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def renamed(state: Mapping[str, Tensor], rules: Mapping[str, str]) -> StateDict:
    """Rename keys: every rule (pattern to replacement) is applied to each key, in order."""
    result = {}
    for key, value in state.items():
        for pattern, replacement in rules.items():
            key = re.sub(pattern, replacement, key)
        result[key] = value
    return result


def count_indices(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the distinct values of the first group of a pattern at the start of the keys."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def grid_side(positions: Tensor) -> int:
    """Side of the square of patches behind image positions (1 + side², W).

    Raises:
        I0TError: the rows are not one more than a square.
    """
    side = round((len(positions) - 1) ** 0.5)
    if side**2 + 1 != len(positions):
        raise I0TError(f"{len(positions)} image positions are not one more than a square.")
    return side


def head_count(width: int, head_width: int) -> int:
    """Number of attention heads for a width; checkpoints do not have it.

    Raises:
        I0TError: the width is not a multiple of the head width.
    """
    if width % head_width:
        raise I0TError(f"width {width} is not a multiple of the head width {head_width}.")
    return width // head_width


def _listed(keys: list[str], most: int = 20) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{', '.join(keys[:most]) or 'none'}{more}"

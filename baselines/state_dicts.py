"""Published checkpoint files as flat state dicts, and models filled from them without a remainder.

Nothing in a file is trusted: pickles are read with `weights_only`, sizes come from the shapes, and a
key without a place or a parameter without a key is an error.
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

from i0t.errors import I0TError, first_line

StateDict = dict[str, Tensor]


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Put the file's name before the message of any `I0TError` raised inside.

    Example:
        >>> with naming("clip.pt"):
        ...     grid_side(torch.zeros(51, 1))
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: clip.pt: 51 image positions are not one more than a square.
    """
    try:
        yield
    except I0TError as error:
        raise I0TError(f"{path}: {error}") from None


def read_state_dict(path: str | Path, entry: str | None = None) -> StateDict:
    """The flat state dict of a checkpoint file, without running code from it.

    Args:
        path: written by `torch.save`, or by `torch.jit.save` as OpenAI's own models are (such an archive
            holds no Python code).
        entry: the key it lies under where the file holds more; a file without that key is flat.

    Returns:
        Tensors by name, without the `module.` that distributed training puts before each.

    Raises:
        I0TError: missing, damaged, with more than plain data in it, or no state dict.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"epoch": 3, "state_dict": {"module.w": torch.ones(2)}}, f"{folder}/clip.pt")
        ...     read_state_dict(f"{folder}/clip.pt", entry="state_dict")
        {'w': tensor([1., 1.])}
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
        if not is_zip and stream.read(1) != b"\x80":  # what every pickle starts with
            raise I0TError("not a checkpoint, or damaged. Download it again.")
    try:
        if is_zip and _is_torchscript(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch calls TorchScript deprecated; OpenAI's files are what they are
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
    """Copy a state dict into a model, using every key and filling every parameter and buffer.

    Raises:
        I0TError: keys that are missing, left over or of another shape, all listed.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> load_exactly(layer, {"weight": torch.full((1, 1), 2.0), "bias": torch.zeros(1)})
        >>> layer.weight.item()
        2.0
        >>> load_exactly(layer, {"weight": torch.ones(1, 1), "extra": torch.ones(1)})
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: not the layout expected. Keys missing: bias; left over: extra
    """
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
    """The tensor of a key; an error that names it where it is missing.

    Example:
        >>> need({"w": torch.ones(1)}, "w")
        tensor([1.])
        >>> need({"w": torch.ones(1)}, "b")
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: not the layout expected. Keys missing: b (there are: w)
    """
    if key not in state:
        raise I0TError(f"not the layout expected. Keys missing: {key} (there are: {_listed(sorted(state), 5)})")
    return state[key]


def below(state: Mapping[str, Tensor], prefix: str) -> StateDict:
    """The entries whose keys start with a prefix, without it.

    Example:
        >>> below({"visual.w": torch.ones(1), "text.w": torch.zeros(1)}, "visual.")
        {'w': tensor([1.])}
    """
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def renamed(state: Mapping[str, Tensor], rules: Mapping[str, str]) -> StateDict:
    """The same tensors; every rule (pattern to replacement) is applied to each key, in order.

    Example:
        >>> renamed({"tower.w": torch.ones(1)}, {"^tower[.]": "visual.", "w$": "weight"})
        {'visual.weight': tensor([1.])}
    """
    result = {}
    for key, value in state.items():
        for pattern, replacement in rules.items():
            key = re.sub(pattern, replacement, key)
        result[key] = value
    return result


def count_indices(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many distinct values the first group of a pattern takes at the start of the keys.

    Example:
        >>> count_indices(dict.fromkeys(["blocks.0.w", "blocks.0.b", "blocks.1.w"], torch.ones(1)), "blocks[.]([0-9]+)")
        2
    """
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def grid_side(positions: Tensor) -> int:
    """Side of the square of patches behind image positions (1 + side², W).

    Raises:
        I0TError: the rows are not one more than a square.

    Example:
        >>> grid_side(torch.zeros(50, 768))
        7
    """
    side = round((len(positions) - 1) ** 0.5)
    if side**2 + 1 != len(positions):
        raise I0TError(f"{len(positions)} image positions are not one more than a square.")
    return side


def head_count(width: int, head_width: int) -> int:
    """How many attention heads make up a tower's width; no checkpoint records it.

    Raises:
        I0TError: the width is not a multiple of the head width.

    Example:
        >>> head_count(768, 64)
        12
    """
    if width % head_width:
        raise I0TError(f"width {width} is not a multiple of the head width {head_width}.")
    return width // head_width


def _listed(keys: list[str], most: int = 20) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{', '.join(keys[:most]) or 'none'}{more}"

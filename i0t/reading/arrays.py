"""Arrays of files: safetensors of our own formats, and `.npy` of any program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from i0t.errors import I0TError
from i0t.reading.text import parse_json


def read_safetensors(
    path: str | Path, file_format: str, what: str, tensor_names: Sequence[str], header_names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read tensors and header of a safetensors file of one of our formats.

    Args:
        path: the file.
        file_format: the format that its header must name.
        what: description for errors.
        tensor_names: required tensors.
        header_names: required header entries.

    Raises:
        I0TError: missing, truncated, not safetensors, another format, or an incomplete file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != file_format:
                raise I0TError(f"{path}: not {what} (format {header.get('format')!r}, expected {file_format!r}).")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({what} was expected).") from None
    except OSError as error:
        raise I0TError(f"{path}: cannot be read ({what} was expected): {error.strerror or error}") from None
    except SafetensorError as error:
        raise I0TError(f"{path}: not {what}, or truncated ({error}). Write or copy it again.") from None
    except TypeError as error:  # a dtype that NumPy lacks
        raise I0TError(f"{path}: {error}. Save its tensors as float32.") from None
    missing = [name for name in tensor_names if name not in tensors]
    missing += [name for name in header_names if name not in header]
    if missing:
        raise I0TError(f"{path}: not a whole file ({what}): {', '.join(missing)} left out.")
    return tensors, header


def json_entry(path: str | Path, header: dict[str, str], key: str) -> Any:
    """Parse a JSON entry of a header that `read_safetensors` returned.

    Raises:
        I0TError: the entry is not JSON.
    """
    return parse_json(header[key], f"{path}: header entry {key}", f"{header[key]!r:.40}", "Write it with json.dumps.")


def safetensors_format(path: str | Path) -> str | None:
    """Return the format that a safetensors file names; None for any other file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format")
    except (OSError, SafetensorError):
        return None  # the reader of the format expected will say what is wrong


def read_npy(path: str | Path, what: str) -> np.ndarray:
    """Read the array of a `.npy` file, without pickle.

    Raises:
        I0TError: missing, not a .npy file, or an archive of several arrays.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file (.npy {what} were expected).") from None
    except (OSError, ValueError, EOFError) as error:
        raise I0TError(f"{path}: not a .npy array of numbers ({error}). Write it with numpy.save.") from None
    if not isinstance(array, np.ndarray):
        raise I0TError(f"{path}: an archive of arrays; one array per file is expected. Write it with numpy.save.")
    return array

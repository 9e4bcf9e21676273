"""The files of a tokenizer as tensors of bytes, so that a checkpoint needs no hub and no folder for its texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from i0t.encoders.tokenizers import HubTokenizer
from i0t.errors import I0TError

PREFIX = "tokenizer/"  # of their names among the tensors of a checkpoint


def tokenizer_tensors(tokenize: Any) -> dict[str, torch.Tensor]:
    """The files of a tokenizer of the hub as uint8 tensors; {} for CLIP's own, which comes with open_clip."""
    if not isinstance(tokenize, HubTokenizer):
        return {}
    with TemporaryDirectory() as folder:
        tokenize.tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).iterdir() if path.is_file())
        return {PREFIX + path.name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in files}


def take_tokenizer(tensors: dict[str, torch.Tensor]) -> TemporaryDirectory[str] | None:
    """Move the files of a tokenizer from the tensors of a checkpoint into a folder; None if there are none.

    Raises:
        I0TError: a name is that of no file in a folder.
    """
    names = [key for key in tensors if key.startswith(PREFIX)]
    if not names:
        return None
    folder = TemporaryDirectory(prefix="i0t-tokenizer-")
    for key in names:
        name = key.removeprefix(PREFIX)
        if Path(name).name != name or name in (".", ".."):
            raise I0TError(f"{key!r} is no name of a tokenizer's file.")
        (Path(folder.name) / name).write_bytes(tensors.pop(key).numpy().tobytes())
    return folder


def with_folder(text_config: Mapping[str, Any], folder: TemporaryDirectory[str] | None) -> dict[str, Any]:
    """open_clip's `text_cfg` with its tokenizer taken from a folder."""
    return {**text_config, "hf_tokenizer_name": folder.name} if folder else dict(text_config)

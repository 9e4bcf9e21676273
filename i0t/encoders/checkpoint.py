"""Checkpoints: one safetensors file with weights, architecture and training summary.

Loading needs no flags. Nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from i0t.encoders import heads_on_base
from i0t.encoders.description import check_description, require_finite, require_plausible
from i0t.encoders.encoder import Encoder
from i0t.encoders.load import known_models
from i0t.encoders.openclip import build_encoder
from i0t.encoders.tokenizer_files import take_tokenizer, tokenizer_tensors
from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.reading import json_entry
from i0t.reading.arrays import check_checksum, open_tensors, require_format, with_checksum
from i0t.versions import versions

FORMAT = "i0t-checkpoint-1"
WHAT = "an i0t checkpoint"
DESCRIPTION = ("architecture", "heads", "training")  # header entries


def save_checkpoint(path: str | Path, encoder: Encoder, training: dict[str, Any]) -> Path:
    """Write weights, architecture, training summary (recipe, step, validation) and versions in use atomically.

    Of a model of another library than open_clip, only the heads are kept, with its name (`heads_on_base`).
    """
    header: dict[str, Any] = {
        "architecture": encoder.architecture,
        "heads": encoder.heads.kind if encoder.heads else None,
        "training": training,
        "versions": versions(),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    if encoder.is_open_clip:
        tensors |= tokenizer_tensors(encoder.tokenize)
    else:
        header[heads_on_base.ENTRY] = heads_on_base.base_of(encoder)
        tensors = {key: value for key, value in tensors.items() if key.startswith(heads_on_base.HEADS)}
    encoded = {"format": FORMAT, **{key: json.dumps(value) for key, value in header.items()}}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=with_checksum(_bytes_of(tensors), encoded))
    return Path(path)


def load_checkpoint(path: str | Path) -> Encoder:
    """Load an encoder; `encoder.training_summary` says how it was trained.

    Raises:
        I0TError: missing, truncated, damaged, of another format, with missing or unexpected keys, or weights that are
            not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise I0TError(f"{path}: no such checkpoint.")
    try:
        with open_tensors(path, WHAT, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except I0TError:
        _refuse_pickle(path)
        raise
    require_format(path, header, list(tensors), FORMAT, WHAT)
    missing = [key for key in DESCRIPTION if key not in header]
    if missing:
        raise I0TError(f"{path}: not a whole checkpoint: {', '.join(missing)} left out of its description.")
    architecture, heads, training = (json_entry(path, header, key) for key in DESCRIPTION)
    on_base = heads_on_base.ENTRY in header
    check_description(path, None if on_base else architecture, heads, training)
    check_checksum(path, _bytes_of(tensors), header)
    try:
        tokenizer = take_tokenizer(tensors)
        require_finite(tensors)
        if on_base:
            base = json_entry(path, header, heads_on_base.ENTRY)
            encoder = heads_on_base.load_on_base(base, heads, tensors, path)
        else:
            require_plausible(architecture, tensors)
            encoder = build_encoder(architecture, heads, tokenizer=tokenizer)
            encoder.load_state_dict(tensors, strict=True)
    except I0TError as error:
        raise I0TError(str(error) if str(error).startswith(f"{path}:") else f"{path}: {error}") from None
    except RuntimeError as error:
        raise I0TError(f"{path}: weights do not fit its own description: {' '.join(str(error).split())}") from None
    encoder.name, encoder.training_summary = path.name, training
    return encoder.eval()


def training_of(path: str | Path) -> dict[str, Any]:
    """Read the training summary of a checkpoint, without its weights; {} if there is no valid checkpoint."""
    try:
        with open_tensors(path, WHAT) as file:
            header = file.metadata() or {}
        training = json_entry(path, header, "training") if header.get("format") == FORMAT else {}
    except (I0TError, KeyError):
        return {}
    return training if isinstance(training, dict) else {}


def _bytes_of(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as bytes, for the checksum: NumPy lacks bfloat16."""
    return {key: tensor.contiguous().reshape(-1).view(torch.uint8).numpy() for key, tensor in tensors.items()}


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(2)
    if start == b"PK" or start[:1] == b"\x80":  # zip (torch.save) or a bare pickle of any binary protocol
        specs = ", ".join(known_models("file"))
        raise I0TError(
            f"{path}: a pickle or torch.save file, not an i0t checkpoint (safetensors). Pickles can run code and are "
            f"not opened here; train with scripts/train.sh, or, if it is a rival's published file, name its kind: "
            f"--model KIND:file={path}, one of {specs} (of such a file only tensors are read)."
        )

"""Checkpoints: one safetensors file with weights, architecture and training summary.

Loading needs no flags. Nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from i0t.encoders.encoder import Encoder
from i0t.encoders.load import known_models
from i0t.encoders.openclip import build_encoder
from i0t.errors import I0TError
from i0t.files import atomic_path

FORMAT = "i0t-checkpoint-1"


def save_checkpoint(path: str | Path, encoder: Encoder, training: dict[str, Any]) -> Path:
    """Write weights, architecture and training summary (recipe, step, validation; as JSON) atomically."""
    header = {
        "architecture": encoder.architecture,
        "heads": encoder.heads.kind if encoder.heads else None,
        "training": training,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    encoded = {key: json.dumps(value) for key, value in header.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT, **encoded})
    return Path(path)


def load_checkpoint(path: str | Path) -> Encoder:
    """Load an encoder; `encoder.training_summary` says how it was trained.

    Raises:
        I0TError: missing, truncated, of another format, or with missing or unexpected keys.
    """
    path = Path(path)
    if not path.is_file():
        raise I0TError(f"{path}: no such checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                found = header.get("format")
                raise I0TError(
                    f"{path}: a safetensors file, but not an i0t checkpoint (format {found!r}, not {FORMAT!r})."
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise I0TError(_unreadable(path, error)) from None
    missing = [key for key in ("architecture", "heads", "training") if key not in header]
    if missing:
        raise I0TError(f"{path}: not a whole checkpoint: {', '.join(missing)} left out of its description.")
    encoder = build_encoder(json.loads(header["architecture"]), json.loads(header["heads"]), name=path.name)
    try:
        encoder.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise I0TError(f"{path}: weights do not fit its own description: {error}") from None
    encoder.training_summary = json.loads(header["training"])
    return encoder.eval()


def training_of(path: str | Path) -> dict[str, Any]:
    """Read the training summary of a checkpoint, without its weights; {} if there is no valid checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    return json.loads(header.get("training", "{}")) if header.get("format") == FORMAT else {}


def _unreadable(path: Path, error: Exception) -> str:
    with path.open("rb") as stream:
        start = stream.read(2)
    if start == b"PK" or start[:1] == b"\x80":  # zip (torch.save) or a bare pickle of any binary protocol
        specs = ", ".join(known_models("file"))
        return (
            f"{path}: a pickle or torch.save file, not an i0t checkpoint (safetensors). Pickles can run code and are "
            f"not opened here; train with scripts/train.sh, or, if it is a rival's published file, name its kind: "
            f"--model KIND:file={path}, one of {specs} (of such a file only tensors are read)."
        )
    return f"{path}: truncated or not a checkpoint ({error}). Train again, or copy the file again."

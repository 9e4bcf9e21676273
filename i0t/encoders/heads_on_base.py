"""Checkpoints of normalisation heads on a model of another library: the heads, and the name of the model.

Such a model is not open_clip's, so its configuration, tokenizer and image processor stay where they are. The checkpoint
knows its fingerprint; other weights under the same name are refused.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from typing_extensions import TypedDict

from i0t.encoders.encoder import Encoder
from i0t.encoders.heads import NormHeads
from i0t.encoders.load import load_encoder
from i0t.errors import I0TError
from i0t.reading import check_json

ENTRY = "base"  # in the header of a checkpoint
HEADS = "heads."  # before the names of their tensors


class BaseForm(TypedDict):
    """The entry of a header, for pydantic."""

    name: str
    fingerprint: str


def base_of(encoder: Encoder) -> BaseForm:
    """The name and fingerprint of the model below the heads.

    Raises:
        I0TError: there are no heads, so that nothing of it is ours to keep.
    """
    heads, encoder.heads = encoder.heads, None
    try:
        if heads is None:
            raise I0TError(f"{encoder.name}: not a model of open_clip; a checkpoint of it can only keep heads.")
        return {"name": _lasting(encoder.name), "fingerprint": encoder.fingerprint}
    finally:
        encoder.heads = heads


def load_on_base(base: object, kind: str | None, tensors: dict[str, torch.Tensor], path: Path) -> Encoder:
    """Load the model that a checkpoint names, and put its heads on it.

    Raises:
        I0TError: the model is not there, has other weights, needs code of its own, or the heads do not fit.
    """
    found: BaseForm = check_json(BaseForm, base, f"{path}: {ENTRY}", "the name and fingerprint of a model")
    if "trust_remote_code" in found["name"]:
        raise I0TError(f"{path}: its base {found['name']} would run code of a repository, which a file cannot ask for.")
    try:
        encoder = load_encoder(found["name"])
    except I0TError as error:
        raise I0TError(f"{path}: heads on another model, which cannot be loaded: {error}") from None
    if encoder.fingerprint != found["fingerprint"]:
        raise I0TError(
            f"{path}: heads on {found['name']} with fingerprint {found['fingerprint']}, but its weights now have "
            f"{encoder.fingerprint}. Put the model of the training there, or train the heads again."
        )
    encoder.heads = NormHeads(str(kind), encoder.embed_dim)
    encoder.heads.load_state_dict({key.removeprefix(HEADS): value for key, value in tensors.items()}, strict=True)
    return encoder


def _lasting(name: str) -> str:
    """A name that holds from any folder."""
    prefix, colon, place = name.partition(":")
    if colon and os.path.exists(os.path.expanduser(place)):
        return f"{prefix}:{os.path.abspath(os.path.expanduser(place))}"
    return os.path.abspath(name) if os.path.exists(name) else name

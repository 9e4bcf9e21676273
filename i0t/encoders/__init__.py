"""`load_encoder`: a name, a checkpoint or an open_clip model, all to one `Encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from i0t.errors import I0TError
from i0t.paths import Roots, configs_folder

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth")


def load_encoder(name: str | Path, device: str = "cpu", roots: Roots | None = None) -> Encoder:
    """Load a model.

    Args:
        name: a checkpoint file; or the name of a spec, `configs/models/NAME.yaml`, with changed
            arguments if any, NAME:KEY=VALUE; or ARCH/TAG of open_clip, e.g.
            "ViT-B-32-quickgelu/openai" ("ViT-B-32/random" for untrained weights).
        device: "cpu", "cuda", "cuda:1", ...
        roots: where the files of specs lie; `configs/root.txt` by default.

    Returns:
        An `Encoder` in eval mode.

    Raises:
        I0TError: nothing of that name, or its weights cannot be had; the message says what is known.

    Example:
        >>> load_encoder("tiny").embed_dim
        128
    """
    from i0t.encoders.spec import known_models, load_spec, spec_file

    text = str(name)
    if spec_file(text).is_file() and not Path(text).is_file():
        encoder = load_spec(text, roots)
    elif Path(text).is_file() or Path(text).suffix in CHECKPOINT_SUFFIXES:
        from i0t.encoders.checkpoint import load_checkpoint

        encoder = load_checkpoint(text)
    elif "/" in text:
        from i0t.encoders.openclip import load_pretrained

        architecture, _, tag = text.rpartition("/")
        encoder = load_pretrained(architecture, tag, name=text)
    else:
        known = ", ".join(known_models()) or "none"
        raise I0TError(
            f"{text}: no such model. Give a checkpoint file, a spec of {configs_folder() / 'models'} (there are: "
            f"{known}), or ARCH/TAG of open_clip."
        )
    return encoder.to(device).eval()

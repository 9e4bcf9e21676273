"""`load_encoder`: a name, a checkpoint or an open_clip model, all to one `Encoder`."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0t.errors import I0TError
from i0t.paths import configs_folder

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder


def load_encoder(name: str | Path, device: str = "cpu") -> Encoder:
    """Load a model.

    Args:
        name: a checkpoint file; or the name of a spec, `configs/models/NAME.yaml`; or ARCH/TAG of
            open_clip, e.g. "ViT-B-32-quickgelu/openai" ("ViT-B-32/random" for untrained weights).
        device: "cpu", "cuda", "cuda:1", ...

    Returns:
        An `Encoder` in eval mode.

    Raises:
        I0TError: nothing of that name, or its weights cannot be had; the message says what is known.

    Example:
        >>> load_encoder("tiny").embed_dim
        128
    """
    text = str(name)
    spec = configs_folder() / "models" / f"{text}.yaml"
    if Path(text).is_file() or Path(text).suffix in (".safetensors", ".pt", ".pth"):
        from i0t.encoders.checkpoint import load_checkpoint

        encoder = load_checkpoint(text)
    elif spec.is_file():
        encoder = _from_spec(spec)
    elif "/" in text:
        from i0t.encoders.openclip import load_pretrained

        architecture, _, tag = text.rpartition("/")
        encoder = load_pretrained(architecture, tag, name=text)
    else:
        known = ", ".join(known_models()) or "none"
        raise I0TError(
            f"{text}: no such model. Give a checkpoint file, a spec of {spec.parent} (there are: {known}), "
            "or ARCH/TAG of open_clip."
        )
    return encoder.to(device).eval()


def known_models() -> list[str]:
    """Names of the model specs under `configs/models`."""
    return sorted(path.stem for path in (configs_folder() / "models").glob("*.yaml"))


def _from_spec(path: Path) -> Any:
    """A spec names its loader by dotted path, so that `i0t` never imports `baselines`."""
    import yaml

    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        module, _, function = spec.pop("loader").partition(":")
        loader = getattr(import_module(module), function)
        inspect.signature(loader).bind(**spec, name=path.stem)
    except (AttributeError, KeyError, ImportError, TypeError, ValueError, yaml.YAMLError) as error:
        raise I0TError(f"{path}: not a model spec: {error!r}. See configs/models/tiny.yaml.") from None
    return loader(**spec, name=path.stem)

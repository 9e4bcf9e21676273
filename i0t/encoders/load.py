"""`load_encoder`: load a checkpoint, a spec, or a model of another library (`names`) as an `Encoder`.

A spec, `configs/models/NAME.yaml`, has the dotted path of a loader, its arguments and its files:

    loader: baselines.clip_family:load
    layout: longclip
    file:                     # a mapping with `path` is a file of <data_dir>
      path: longclip-B-32.pt
      published: https://huggingface.co/BeichenZhang/LongCLIP-B-32
      size: 0.6 GB

    about: {licence: Apache-2.0}   # for `i0t models`, with `hub` and `size` where no file has them

The loader is called with these arguments (files as paths) and `name`, and returns an `Encoder`. In this
way `i0t` loads models of `baselines` without importing it. The command line can change arguments:
`--model longclip:round_fp16=true`, `--model longclip:file=/elsewhere/longclip-B-32.pt`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0t.dotted import import_dotted
from i0t.errors import I0TError
from i0t.paths import Roots, config_file, config_names, configs_folder, configured_data_dir
from i0t.reading import parse_yaml, read_yaml

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth")
EXAMPLE = "configs/models/tiny.yaml"
FILE_KEYS = {"path", "published", "size", "hub"}


def load_encoder(name: str | Path, device: str = "cpu", roots: Roots | None = None) -> Encoder:
    """Load a model.

    Args:
        name: in this order: a name with the prefix of a library (`i0t.encoders.names`); a checkpoint file; the name of
            a spec, possibly with arguments, NAME:KEY=VALUE,KEY=VALUE; a folder of another library; ARCH/TAG of
            open_clip, e.g. "ViT-B-32-quickgelu/openai" ("ViT-B-32/random" for untrained weights); owner/name
            of the hub.
        device: "cpu", "cuda", "cuda:1", ...
        roots: where the files of specs are; `configs/root.txt` by default.

    Returns:
        An `Encoder` in eval mode. If it comes from a spec, `source` has its name, files and arguments.

    Raises:
        I0TError: no such model, a malformed spec, or missing weights: the message has the file, its size, and where
            its authors publish it.

    Example:
        >>> encoder = load_encoder("tiny:heads=batch_norm")
        >>> encoder.embed_dim, encoder.heads.kind, encoder.source
        (128, 'batch_norm', {'spec': 'tiny', 'heads': 'batch_norm'})
    """
    from i0t.encoders.names import USAGE, is_prefixed, load_named

    text = os.path.expanduser(str(name))
    if "\n" in text or "\0" in text:
        raise I0TError(f"{text!r}: not a name of a model: it has a line break or a zero byte.")
    if is_prefixed(text) and not os.path.isfile(text):
        encoder = load_named(text)
    elif os.path.isfile(_spec_file(text)) and not os.path.isfile(text):
        encoder = _load_spec(text, roots)
    elif os.path.isfile(text) or (Path(text).suffix in CHECKPOINT_SUFFIXES and not os.path.isdir(text)):
        from i0t.encoders.checkpoint import load_checkpoint

        encoder = load_checkpoint(text)
    elif "/" in text or os.path.isdir(text):
        encoder = load_named(text)
    else:
        known = ", ".join(known_models()) or "none"
        raise I0TError(
            f"{text}: no such model. Give a checkpoint file, a spec of {configs_folder() / 'models'} (there are: "
            f"{known}), a folder, ARCH/TAG of open_clip, or a name of another library: {', '.join(USAGE.values())}."
        )
    return encoder.to(device).eval()


def known_models(argument: str | None = None) -> list[str]:
    """Names of the model specs under `configs/models`; with `argument`, only of those that have this argument."""
    return [name for name in config_names("models") if argument is None or argument in _read(_spec_file(name))]


def read_spec(name: str) -> dict[str, Any]:
    """Read a spec by its name.

    Raises:
        I0TError: it is malformed.
    """
    return _read(_spec_file(name))


def files_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the files of a spec by argument: mappings with `path`, and maybe `published`, `size` and `hub`."""
    return {key: value for key, value in spec.items() if _is_file(value)}


def _spec_file(name: str) -> Path:
    """Path of the spec of a name, without the arguments behind the name."""
    return config_file(Path("models") / f"{name.partition(':')[0]}.yaml")


def _load_spec(name: str, roots: Roots | None) -> Encoder:
    path, base = _spec_file(name), name.partition(":")[0]
    spec = _read(path)
    spec.pop("about", None)
    for key, value in _changes(name).items():
        spec[key] = _changed(spec.get(key), value)
    loader = _loader(path, spec.pop("loader", None))
    try:
        inspect.signature(loader).bind(**spec, name=name)
    except TypeError as error:
        raise I0TError(f"{path} (--model {name}): its loader {error}. See {EXAMPLE}.") from None
    arguments = {key: _resolved(base, key, value, roots) for key, value in spec.items()}
    try:
        encoder = loader(**arguments, name=name)
    except (KeyError, TypeError, AssertionError) as error:  # values that the loader does not expect
        raise I0TError(f"{path} (--model {name}): its values do not suit its loader: {error!r}.") from error
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}
    plain.pop("architecture", None)  # the record has it elsewhere
    encoder.source = {"spec": base, **plain}
    return encoder


def _read(path: Path) -> dict[str, Any]:
    spec = read_yaml(path, "a model spec")
    if not isinstance(spec, dict):
        raise I0TError(f"{path}: not a model spec, but {type(spec).__name__}. See {EXAMPLE}.")
    return spec


def _changes(name: str) -> dict[str, Any]:
    """Parse the KEY=VALUE pairs behind the colon of a name; values are YAML."""
    base, _, text = name.partition(":")
    changes = {}
    for item in re.split(r",(?=\w+=)", text) if text else []:
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise I0TError(f"--model {name}: {item!r} is not KEY=VALUE. Write {base}:KEY=VALUE,KEY=VALUE.")
        changes[key] = parse_yaml(value, f"--model {name}: {item!r}")
    return changes


def _changed(old: Any, new: Any) -> Any:
    """Change one argument; a file keeps the spec's notes on where to get it."""
    if isinstance(new, str) and (_is_file(old) or old is None):
        path = Path(new).expanduser()
        new = str(path.absolute()) if path.is_file() else new
        return {**old, "path": new, "hub": None} if old else new  # no download in its place
    return new


def _loader(path: Path, dotted: Any) -> Callable[..., Encoder]:
    try:
        return import_dotted(str(dotted))
    except ImportError as error:
        raise I0TError(f"{path}: cannot import its loader {dotted!r} ({error}). See {EXAMPLE}.") from None


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and "path" in value and value.keys() <= FILE_KEYS


def _resolved(name: str, key: str, value: Any, roots: Roots | None) -> Any:
    """Turn a file of <data_dir> into a path, or its name on the hub if it is missing; keep other values."""
    if not _is_file(value):
        return value
    file = Path(value["path"]).expanduser()
    data_dir = configured_data_dir() if roots is None else None if roots.is_sample else roots.main
    path = file if data_dir is None else data_dir / file  # an absolute path stays as it is
    if path.is_file() and path.is_absolute():
        return path
    if value.get("hub"):
        return value["hub"]
    place = path if path.is_absolute() else f"<data_dir>/{file}"
    root = "" if path.is_absolute() else f" and write <data_dir> into {configs_folder() / 'root.txt'}"
    raise I0TError(
        f"{name}: no file {place} (about {value.get('size', 'unknown size')}). Its authors publish it at "
        f"{value.get('published', 'a place the spec does not tell')}. Put it there{root}, or say where it is: "
        f"--model {name}:{key}=PATH."
    )

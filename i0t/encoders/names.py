"""Names of models that are neither a spec nor a file: libraries, folders, and repositories of the Hugging Face hub.

    hf:NAME              transformers, a repository owner/name of the hub or a folder
    open_clip:ARCH/TAG   open_clip's weights by tag
    hf-hub:owner/name    a repository of open_clip on the hub
    local-dir:FOLDER     a folder of open_clip
    st:NAME              sentence-transformers, a repository or a folder

`hf:` and `st:` take `:trust_remote_code=true` and `:revision=COMMIT` at the end.

Without a prefix, a name is tried in this order: a folder, open_clip's ARCH/TAG, the hub. What stands in one place in
several formats is not chosen by us: the error lists the names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0t.encoders.hub import MARKS, kinds_of_folder, kinds_of_repository, require_no_adapter
from i0t.errors import I0TError

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

REPOSITORY = re.compile(r"(?=.{3,96}$)\w[\w.-]*/\w[\w.-]*")
OPTIONS = {"trust_remote_code": {"true": True, "false": False}, "revision": None}


def is_prefixed(name: str) -> bool:
    """Whether a name says which library loads it."""
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix in PREFIXES


def load_named(name: str) -> Encoder:
    """Load a model by a name with a prefix, or by a folder, ARCH/TAG or repository.

    Raises:
        I0TError: nothing of this name, with what was tried; several things of this name, with their full names; or
            it cannot be loaded.
    """
    if is_prefixed(name):
        prefix, _, rest = name.partition(":")
        if not rest:
            raise I0TError(f"{name}: nothing behind {prefix}:. Write {USAGE[prefix]}.")
        return PREFIXES[prefix](rest, name)
    place, behind = _split(name)
    if os.path.isdir(place):
        require_no_adapter(place, name)
    found, tried = _candidates(place)
    if not found:
        raise I0TError(f"{name}: no such model. Tried: {'; '.join(tried)}.")
    if len(found) > 1:
        raise I0TError(f"{name}: more than one model has this name. Say which: {', '.join(found)}.")
    prefix, _, rest = (found[0] + behind).partition(":")
    return PREFIXES[prefix](rest, name)


def _candidates(place: str) -> tuple[list[str], list[str]]:
    """(full names of what has this name, what was tried in vain): the first place of the order that has any."""
    import open_clip

    found, tried = [], []
    architecture, slash, _ = place.rpartition("/")
    is_architecture = bool(slash) and architecture in open_clip.list_models()
    if os.path.isdir(place):
        found = [f"{kind}:{place}" for kind in kinds_of_folder(place)]
        marks = ", ".join(MARKS.values())
        tried.append(f"the folder {place} (holds none of {marks})")
        if not found and not is_architecture:
            return [], tried
    else:
        tried.append(f"a folder {place} (there is none)")
    if is_architecture:
        return [*found, f"open_clip:{place}"], tried
    if found:
        return found, tried
    tried.append(f"open_clip's ARCH/TAG ({architecture or place}: not an open_clip architecture)")
    if not REPOSITORY.fullmatch(place):
        return [], [*tried, "the Hugging Face hub (not a name owner/name)"]
    try:
        kinds = kinds_of_repository(place)
    except I0TError as error:
        return [], [*tried, f"the Hugging Face hub ({str(error).rstrip('.')})"]
    marks = ", ".join(MARKS.values())
    return [f"{kind}:{place}" for kind in kinds], [*tried, f"the Hugging Face hub (the repository has none of {marks})"]


def _split(name: str) -> tuple[str, str]:
    """(place, ":KEY=VALUE,..." or "")."""
    match = re.fullmatch(r"(.*?)(:\w+=[^:/]*)?", name, re.DOTALL)
    assert match is not None  # the pattern fits everything
    return match[1], match[2] or ""


def _options(name: str, text: str) -> dict[str, Any]:
    """Parse ":trust_remote_code=true,revision=abc"."""
    options: dict[str, Any] = {}
    for item in text.removeprefix(":").split(",") if text else []:
        key, _, value = item.partition("=")
        allowed = OPTIONS.get(key, {})
        if key not in OPTIONS or (allowed is not None and value not in allowed):
            raise I0TError(f"{name}: {item!r} is none of trust_remote_code=true, trust_remote_code=false, revision=...")
        options[key] = value if allowed is None else allowed[value]
    return options


def _hf(rest: str, name: str) -> Encoder:
    from i0t.encoders.transformers_models import load

    place, behind = _split(rest)
    return load(_folder_or_repository(place, name, "config.json"), name, **_options(name, behind))


def _st(rest: str, name: str) -> Encoder:
    from i0t.encoders.sentence_models import load

    place, behind = _split(rest)
    return load(_folder_or_repository(place, name, "modules.json"), name, **_options(name, behind))


def _open_clip(rest: str, name: str) -> Encoder:
    from i0t.encoders.openclip import load_pretrained

    architecture, _, tag = rest.rpartition("/")
    return load_pretrained(architecture or tag, tag if architecture else "", name=name)


def _hf_hub(rest: str, name: str) -> Encoder:
    from i0t.encoders.openclip import load_folder_or_repository

    if not REPOSITORY.fullmatch(rest):
        raise I0TError(f"{name}: not a repository of the hub. Write {USAGE['hf-hub']}.")
    return load_folder_or_repository(f"hf-hub:{rest}", name)


def _local_dir(rest: str, name: str) -> Encoder:
    from i0t.encoders.openclip import load_folder_or_repository

    return load_folder_or_repository(f"local-dir:{_folder(rest, name, MARKS['hf-hub'])}", name)


def _folder_or_repository(place: str, name: str, mark: str) -> str:
    """Check the place of a model: a folder, with the file that tells its kind, or a repository."""
    if os.path.isdir(os.path.expanduser(place)) or not REPOSITORY.fullmatch(place):
        return str(_folder(place, name, mark))
    return place


def _folder(place: str, name: str, mark: str) -> Path:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise I0TError(f"{name}: no such folder, and no repository owner/name of the Hugging Face hub.")
    require_no_adapter(str(folder), name)
    if not (folder / mark).is_file():
        kinds = [f"{kind}:{place}" for kind in kinds_of_folder(folder)]
        remedy = f"Load it as {' or '.join(kinds)}" if kinds else "It holds no model that we know"
        raise I0TError(f"{name}: no {mark} in this folder. {remedy}.")
    return folder


USAGE = {
    "hf": "hf:owner/name or hf:FOLDER",
    "open_clip": "open_clip:ARCH/TAG",
    "hf-hub": "hf-hub:owner/name",
    "local-dir": "local-dir:FOLDER",
    "st": "st:owner/name or st:FOLDER",
}
PREFIXES: dict[str, Callable[[str, str], Encoder]] = {
    "hf": _hf,
    "open_clip": _open_clip,
    "hf-hub": _hf_hub,
    "local-dir": _local_dir,
    "st": _st,
}

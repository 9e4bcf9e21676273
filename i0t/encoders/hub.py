"""Repositories of the Hugging Face hub: which kinds of model one holds, and errors that say how to get it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError

from i0t.errors import I0TError, first_line

# The file that tells a kind of model, in the order in which kinds are listed.
MARKS = {"hf-hub": "open_clip_config.json", "st": "modules.json", "hf": "config.json"}
ADAPTER = "adapter_config.json"  # of PEFT: small changes of another model
# What libraries raise for files that are missing, damaged, or not theirs.
FOREIGN_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError,
    TypeError, ValueError, UnpicklingError, SafetensorError,
)  # fmt: skip
LOUD = ("huggingface_hub", "root", "transformers", "sentence_transformers")


def kinds_of_folder(folder: str | Path) -> list[str]:
    """The prefixes of names under which a folder can be loaded: "local-dir", "st", "hf"."""
    kinds = _whole([kind for kind, mark in MARKS.items() if (Path(folder) / mark).is_file()])
    return ["local-dir" if kind == "hf-hub" else kind for kind in kinds]


def kinds_of_repository(name: str) -> list[str]:
    """The prefixes of names under which a repository of the hub can be loaded: "hf-hub", "st", "hf".

    What is in the cache counts; only for a repository of which nothing is there, the hub is asked.

    Raises:
        I0TError: the hub cannot be reached or has no such repository.
    """
    from huggingface_hub import try_to_load_from_cache

    silence = ""
    try:
        cached = [kind for kind, mark in MARKS.items() if isinstance(try_to_load_from_cache(name, mark), str)]
        if cached:
            return _whole(cached)
        with hub_calls() as silence:
            return _whole([kind for kind, mark in MARKS.items() if _has(name, mark)])
    except (OSError, ValueError) as error:  # no network; no such repository, or not for everyone; no name of one
        raise I0TError(not_at_hand(name, error, silence)) from None


def _has(repository: str, file: str, revision: str | None = None) -> bool:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        hf_hub_download(repository, file, revision=revision)
    except LocalEntryNotFoundError:  # no network
        raise
    except EntryNotFoundError:
        return False
    return True


def _whole(kinds: list[str]) -> list[str]:
    """Leave out transformers' part of a model of sentence-transformers, whose other modules follow it."""
    return [kind for kind in kinds if kind != "hf" or "st" not in kinds]


def require_no_adapter(place: str, name: str, revision: str | None = None) -> None:
    """Refuse a folder or repository with an adapter of PEFT: without PEFT libraries load the model without it.

    Raises:
        I0TError: with what to do.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        is_here = os.path.isdir(place)
        found = os.path.isfile(os.path.join(place, ADAPTER)) if is_here else _has(place, ADAPTER, revision)
    except LocalEntryNotFoundError:  # not in the cache, and the hub is silent
        return
    if found:
        raise I0TError(
            f"{name}: holds an adapter of PEFT ({ADAPTER}), which is not applied here. Merge it into its model, and "
            "load the result: PeftModel.from_pretrained(MODEL, ADAPTER).merge_and_unload().save_pretrained(FOLDER)."
        )


def why(error: BaseException) -> str:
    """A library's error in one line, without advice that refers to what is not shown or is not safe."""
    if isinstance(error, UnpicklingError):
        return "its .bin file is damaged or holds code, which is not run; take its weights as safetensors"
    if isinstance(error, SafetensorError):
        return f"its weights are damaged: {first_line(error)}; copy or download them again"
    if "ignore_mismatched_sizes" in str(error):
        return "its weights have other sizes than its config.json states"
    if "model_proto must be specified" in str(error):
        return "the file of its sentencepiece tokenizer is missing"
    message = " ".join(str(error).split()) or type(error).__name__
    return f"no {message}" if isinstance(error, KeyError) else message[:300].rstrip(".")


def source_of(library: str, place: str, revision: str | None = None) -> dict[str, str]:
    """The `source` of an encoder from a folder or a repository, with the commit that the cache has of it."""
    from huggingface_hub import try_to_load_from_cache

    source = {"library": library, "name": place}
    repository = place.removeprefix("hf-hub:")
    if os.path.isdir(repository) or ":" in repository:
        return source
    files = (try_to_load_from_cache(repository, mark, revision=revision) for mark in MARKS.values())
    commits = [Path(file).parent.name for file in files if isinstance(file, str)]
    return source | ({"revision": commits[0]} if commits else {})


def not_at_hand(name: str, error: BaseException, silence: str) -> str:
    """The message for a repository or a part of it that could not be had, with the `silence` of `hub_calls`."""
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    why = silence or ("HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else first_line(error, 160).rstrip("."))
    return (
        f"{name}: neither in the cache of the Hugging Face hub ({HF_HUB_CACHE}) nor can it be downloaded ({why}). Run "
        f"`hf download {name}` on a machine with a network and copy its cache, or name a cache that has it with "
        "HF_HUB_CACHE=FOLDER, or give a folder with the files."
    )


@contextlib.contextmanager
def hub_calls(needed: bool = True) -> Iterator[str]:
    """Context for calls of libraries that may ask the hub: quiet, and from the cache alone if the hub does not answer.

    Libraries would ask for each file on its own, six times in half a minute, also for files that the cache has.

    Args:
        needed: False for a model of a folder, which is loaded without the hub.

    Yields:
        Why the hub does not answer; "" if it does, or is not to be asked.
    """
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    with quiet():
        ask = needed and not offline
        silence = _why_silent(constants.ENDPOINT, constants.HF_HUB_ETAG_TIMEOUT) if ask else ""
        constants.HF_HUB_OFFLINE = offline or bool(silence)
        try:
            yield silence
        finally:
            constants.HF_HUB_OFFLINE = offline


def _why_silent(endpoint: str, patience: float) -> str:
    """Why the hub does not answer; "" if it does, whatever it says."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=patience)
    except Exception as error:  # its clients have errors of their own, which changed between versions
        return f"{endpoint} does not answer: {first_line(error)[:120]}"
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs of libraries, and transformers' bars: an error of this project says the same in one line."""
    from transformers.utils import logging as of_transformers

    bars = of_transformers.is_progress_bar_enabled()
    of_transformers.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if bars:
            of_transformers.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

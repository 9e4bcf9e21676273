"""Repositories of the Hugging Face hub: which kinds of model one holds, and errors that say how to get it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from i0t.errors import I0TError, first_line

# The file that tells a kind of model, in the order in which kinds are listed.
MARKS = {"hf-hub": "open_clip_config.json", "st": "modules.json", "hf": "config.json"}
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
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached = [kind for kind, mark in MARKS.items() if isinstance(try_to_load_from_cache(name, mark), str)]
    if cached:
        return _whole(cached)
    kinds = []
    for kind, mark in MARKS.items():
        try:
            with quiet():
                hf_hub_download(name, mark)
        except LocalEntryNotFoundError as error:  # no network
            raise I0TError(not_at_hand(name, error)) from None
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:  # no such repository, or not for everyone; no name of one
            raise I0TError(not_at_hand(name, error)) from None
        kinds.append(kind)
    return _whole(kinds)


def _whole(kinds: list[str]) -> list[str]:
    """Leave out transformers' part of a model of sentence-transformers, whose other modules follow it."""
    return [kind for kind in kinds if kind != "hf" or "st" not in kinds]


def not_at_hand(name: str, error: BaseException) -> str:
    """The message for a repository or a part of it that could not be had."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"{name}: neither in the cache of the Hugging Face hub ({HF_HUB_CACHE}) nor can it be downloaded "
        f"({first_line(error)[:160].rstrip('.')}). Run `hf download {name}` on a machine with a network and copy its "
        "cache, or name a cache that has it with HF_HUB_CACHE=FOLDER, or give a folder with the files."
    )


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

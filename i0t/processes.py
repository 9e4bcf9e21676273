"""Several processes on one job, as `accelerate launch` starts them: who am I, and exchange in order.

Everything is a no-op in a plain process. accelerate is imported only where there are others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from i0t.errors import I0TError


def rank() -> int:
    """This process' number; 0 is the main one, which prints and writes."""
    return int(os.environ.get("RANK", 0))


def count() -> int:
    """How many processes work on this job, over all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))


def count_here() -> int:
    """How many of them run on this machine and share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def own_device(device: str) -> str:
    """The device of this process: of several on one machine each has its own card, as accelerate deals them."""
    if count() == 1 or not device.startswith("cuda"):
        return device
    import torch

    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % max(1, torch.cuda.device_count())}"


def is_main() -> bool:
    """Whether this process prints and writes."""
    return rank() == 0


def is_main_here() -> bool:
    """Whether this process is the first one on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def join(device: str | None) -> str | None:
    """Meet the other processes; the device this one is to use.

    Args:
        device: what the user asked for; "cpu" keeps every process off the graphics cards.

    Returns:
        `device` itself in a plain process, else "cpu", or the card of this process.
    """
    return str(_state(device == "cpu").device) if count() > 1 else device


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes, in the order of their ranks; every process gets them all, and must call."""
    if count() == 1:
        return items
    from accelerate.utils import gather_object

    _state()
    return gather_object(items)


def from_main(value: Any) -> Any:
    """What the main process gives; every process gets it, and must call."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _state()
    return broadcast_object_list([value], from_process=0)[0]


@contextmanager
def first_here() -> Iterator[None]:
    """Let one process of each machine go first, for what is made on its disk once."""
    if count() == 1:
        yield
        return
    with _state().local_main_process_first():
        yield


def leave() -> None:
    """Part from the other processes at the end of a job."""
    if count() > 1:
        _state().destroy_process_group()


def _state(cpu: bool = False) -> Any:
    """The singleton of accelerate, which knows the others: the first call decides the device and the backend."""
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=cpu or not torch.cuda.is_available())
    if state.num_processes != count():  # each would take its share for the whole
        raise I0TError(f"WORLD_SIZE is {count()}, but accelerate found {state.num_processes} processes to work with.")
    return state

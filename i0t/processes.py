"""Several processes of one run (`accelerate launch`): rank, device, and exchange of data.

In a single process nothing is done, and accelerate is not imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from i0t.errors import I0TError


def rank() -> int:
    """Number of this process; 0 is the main process, which prints and writes."""
    return int(os.environ.get("RANK", 0))


def count() -> int:
    """Number of processes, on all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))


def count_here() -> int:
    """Number of processes on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def own_device(device: str) -> str:
    """Return the device of this process: each process on a machine has its own card, in accelerate's order."""
    if count() == 1 or not device.startswith("cuda"):
        return device
    import torch

    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % max(1, torch.cuda.device_count())}"


def is_main() -> bool:
    """Whether this is the main process."""
    return rank() == 0


def is_main_here() -> bool:
    """Whether this is the first process on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def join(device: str | None) -> str | None:
    """Connect to the other processes and return the device of this one.

    Args:
        device: of `--device`; with "cpu" no process uses a graphics card.

    Returns:
        `device` itself in a single process, else "cpu" or the card of this process.
    """
    return str(_state(device == "cpu").device) if count() > 1 else device


def gather(items: list[Any]) -> list[Any]:
    """Return the items of all processes, ordered by rank. Every process must call this."""
    if count() == 1:
        return items
    from accelerate.utils import gather_object

    _state()
    return gather_object(items)


def from_main(value: Any) -> Any:
    """Return the value of the main process. Every process must call this."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _state()
    return broadcast_object_list([value], from_process=0)[0]


@contextmanager
def first_here() -> Iterator[None]:
    """Let one process per machine go first, e.g. to write a file that the others then read."""
    if count() == 1:
        yield
        return
    with _state().local_main_process_first():
        yield


def leave() -> None:
    """Disconnect from the other processes at the end of a run."""
    if count() > 1:
        _state().destroy_process_group()


def _state(cpu: bool = False) -> Any:
    """Accelerate's state, one per process: the first call decides the device and the backend."""
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=cpu or not torch.cuda.is_available())
    if state.num_processes != count():  # each would take its share for all the data
        raise I0TError(f"WORLD_SIZE is {count()}, but accelerate found {state.num_processes} processes to work with.")
    return state

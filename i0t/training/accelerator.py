"""Hugging Face accelerate for training: processes, batch size, random state."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from i0t.encoders.precision import resolve_precision
from i0t.errors import I0TError
from i0t.processes import own_device

MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(device: str, precision: str = "auto") -> Accelerator:
    """Make the accelerator of the processes of `accelerate launch`, or of a single process.

    Args:
        device: "cpu", "cuda", "cuda:1"; with several processes only "cpu" matters.
        precision: see `resolve_precision`.
    """
    device = own_device(device)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=MIXED[resolve_precision(torch.device(device), precision)],
        # No buffers to broadcast: batch norms in the encoders are frozen.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )


def require_even_batch(batch_size: int, accelerator: Accelerator) -> None:
    """Check that the processes can share a batch evenly.

    Raises:
        I0TError: they cannot.
    """
    part, rest = divmod(batch_size, accelerator.num_processes)
    if rest or not part:
        raise I0TError(
            f"batch_size={batch_size} is that of all processes together, and {accelerator.num_processes} processes "
            f"cannot share it evenly. Use batch_size={(part + 1) * accelerator.num_processes}."
        )


def summed(values: list[int], accelerator: Accelerator) -> torch.Tensor:
    """Sum small counts over the processes, on the device, without waiting for it."""
    own = torch.tensor(values, dtype=torch.float32)
    if accelerator.device.type == "cuda":  # a copy from other memory would wait
        own = own.pin_memory().to(accelerator.device, non_blocking=True)
    return accelerator.reduce(own, "sum") if accelerator.num_processes > 1 else own


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the random state of the CPU and of `device`, which dropout uses."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set the random state to one of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)

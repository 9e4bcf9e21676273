"""Number formats of forward passes, and fetching their results from a card."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from i0t.encoders import AUTO, PRECISIONS
from i0t.errors import I0TError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(device: torch.device, precision: str = AUTO) -> str:
    """Replace "auto": bf16 on CUDA (fp16 if the card only emulates bf16), fp32 elsewhere.

    Raises:
        I0TError: an unknown name.
    """
    if precision not in PRECISIONS:
        raise I0TError(f"precision {precision!r}: not one of {', '.join(PRECISIONS)}.")
    if precision != AUTO:
        return precision
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):  # torch checks the current card
        # Cards before Ampere (V100, T4) emulate bf16, slower than fp32; newer torch counts emulation by default.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: str = AUTO) -> AbstractContextManager[Any]:
    """Context for forward passes in a precision; weights are not converted."""
    dtype = DTYPES.get(resolve_precision(device, precision))
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def require_directions(features: torch.Tensor, precision: str, name: Callable[[int], str]) -> torch.Tensor:
    """Return features (N, D) or (N, Q, D) if each has a direction.

    Args:
        features: as encoded.
        precision: in which, resolved.
        name: of the item of a row, for the error.

    Raises:
        I0TError: a vector is NaN, infinite or zero.
    """
    lengths = features.norm(dim=-1).reshape(len(features), -1)
    bad = ~((lengths > 0) & lengths.isfinite()).all(dim=1)
    if bool(bad.any()):
        row = int(bad.int().argmax())
        kind, why = "NaN or infinite", "weights are damaged: load them again"
        if bool(lengths[row].isfinite().all()):
            kind, why = "zero", "the model gives it no direction"
        elif precision == "fp16":
            why = "fp16 may overflow in this model: take precision bf16 or fp32"
        raise I0TError(f"{name(row)}: its features are {kind} ({int(bad.sum())} of {len(bad)} items); {why}.")
    return features


class Fetched:
    """A tensor that is being copied to the CPU while the card continues with its next work.

    `.cpu()` would wait for all work of the card, also for work that started after the tensor was computed.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._copy = tensor.to("cpu", non_blocking=tensor.is_cuda)  # into page-locked memory
        self._arrived = None
        if tensor.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> torch.Tensor:
        """Wait for the copy, and return it in ordinary memory."""
        if self._arrived is None:
            return self._copy
        self._arrived.synchronize()
        return self._copy.clone()

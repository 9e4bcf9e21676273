"""In which number format a model computes; features are always kept in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from i0t.errors import I0TError

AUTO = "auto"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = (AUTO, *DTYPES)


def resolve_precision(device: torch.device, precision: str = AUTO) -> str:
    """The precision that "auto" stands for: bf16 on CUDA (fp16 where the card has no bf16 of its own), fp32 elsewhere.

    Args:
        device: where the model is.
        precision: "auto", "fp32", "bf16" or "fp16".

    Raises:
        I0TError: another name.

    Example:
        >>> resolve_precision(torch.device("cpu")), resolve_precision(torch.device("cpu"), "bf16")
        ('fp32', 'bf16')
    """
    if precision not in PRECISIONS:
        raise I0TError(f"precision {precision!r}: not one of {', '.join(PRECISIONS)}.")
    if precision != AUTO:
        return precision
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):  # the question is about the current card
        # Cards before Ampere (V100, T4) only emulate bf16, slower than fp32; newer torch counts that by default.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: str = AUTO) -> AbstractContextManager:
    """Forward passes in a precision: weights stay as they are, products are computed in it.

    Example:
        >>> with autocast(torch.device("cpu"), "bf16"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    resolved = resolve_precision(device, precision)
    if resolved == "fp32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=DTYPES[resolved])

"""A CLIP of a few thousand weights, texts that are hard to batch, and how far two results differ."""

from __future__ import annotations

from typing import Any

import torch

from i0t.encoders.encoder import Encoder
from i0t.encoders.openclip import build_encoder

VISION = {"image_size": 32, "patch_size": 16, "layers": 2, "width": 16, "head_width": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "layers": 2, "width": 16, "heads": 2}
TEXTS = [
    "",
    "a red star",
    "two small blue circles in the lower left corner of a white field",
    "A photo depicts " + "a big green square above a yellow triangle, " * 4,
    "one <end_of_text> two",  # an end token within the text
    "größer ☃",
    "a red star",
    "! ! !",  # token 0 is also the padding
]


def small_clip(image_size: int = 32, **text: Any) -> Encoder:
    """The same weights at every call."""
    torch.manual_seed(1)
    model = {"embed_dim": 16, "vision_cfg": {**VISION, "image_size": image_size}, "text_cfg": {**TEXT, **text}}
    return jittered(build_encoder({"model": model}, name="small"))


def jittered(encoder: Encoder) -> Encoder:
    """Move biases, norms and positions off their starting values, which hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.ndim == 1 or "positional" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return encoder


def largest(difference: torch.Tensor) -> float:
    """The largest absolute entry."""
    return float(difference.detach().abs().max())


def words(count: int) -> str:
    """A text of so many tokens, start and end not counted."""
    return " ".join(["star"] * count)

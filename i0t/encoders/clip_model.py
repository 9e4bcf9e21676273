"""`ClipModel`: what an `Encoder` asks of its model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class ClipModel(nn.Module):
    """The interface of `Encoder.model`, as of `open_clip.CLIP`; a model need not derive from this class.

    `logit_bias` is that of sigmoid models (SigLIP); models without one may lack it. A model whose text features do
    not depend on padding may say so with `hides_padding`, and takes token ids (B, L) of any L then. `visual`,
    `positional_embedding` and `attn_mask` are needed for open_clip's models only.
    """

    encode_image: Callable[[torch.Tensor], torch.Tensor]
    encode_text: Callable[[torch.Tensor], torch.Tensor]
    context_length: int
    logit_scale: nn.Parameter | None
    logit_bias: nn.Parameter | None
    hides_padding: bool
    visual: nn.Module
    positional_embedding: nn.Parameter
    attn_mask: torch.Tensor

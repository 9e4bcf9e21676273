"""`TrainingStep`: losses and gradients of a training step, over all processes, and in chunks to save memory.

A contrastive loss depends on the whole batch. This makes two things harder than for other losses:

- *Several processes.* Features are gathered with their gradients, and every process computes the loss of
  the whole batch. Normalisation heads are applied after gathering, so their batch statistics are those of
  the whole batch on any device. 2 processes x B pairs give the loss and gradients of 1 process x 2B.
- *Chunks.* Features are computed chunk by chunk without a graph. Then the gradient of the loss at the
  features is computed, and a second pass over the chunks takes it into the encoders (GradCache, Gao et al.
  2021). Every chunk repeats its dropout. The gradients are those of the undivided batch.

Shapes: V views, B pairs of all processes, b pairs of this process, D dimensions, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from i0t.encoders.clip_model import ClipModel
from i0t.encoders.encoder import Encoder, unit_image_features, unit_text_features
from i0t.training.accelerator import random_state, restore_random_state
from i0t.training.objectives import Losses, multi_view


class EncodersBeforeHeads(nn.Module):
    """The part that DDP wraps, which is separate for each item: pixels and tokens to unit features before heads."""

    def __init__(self, model: ClipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor, *tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(image features (b, D), text features (b, D) of each token batch (b, L)..., logit scale).

        L is the batch's `text_length`. The scale is returned so that DDP sees its gradient.
        """
        assert self.model.logit_scale is not None  # checked by `prepare_encoder`
        texts = (unit_text_features(self.model, batch, batch.shape[1]) for batch in tokens)
        return unit_image_features(self.model, pixels), *texts, self.model.logit_scale.exp().reshape(())


@dataclass
class _Chunk:
    """Inputs of one forward pass, their rows in this process's batch, and the random state before its dropout."""

    inputs: tuple[torch.Tensor, ...]
    rows: slice
    random_state: dict[str, torch.Tensor] = field(default_factory=dict)


class _Gather(torch.autograd.Function):
    """Gather the rows of all processes, one process after the other.

    Backward sums the gradients of these rows from all processes. As every process computes the whole loss,
    the sum is the number of processes times the gradient, and DDP's average makes it the gradient of one
    undivided batch.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
        """(n, D) to (P * n, D)."""
        ctx.accelerator, ctx.count = accelerator, len(rows)
        return accelerator.gather(rows.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """(P * n, D) to (n, D)."""
        start = ctx.accelerator.process_index * ctx.count
        return ctx.accelerator.reduce(gradient.contiguous(), "sum")[start : start + ctx.count], None


class TrainingStep:
    """Computes the losses of a batch, and the gradients of the parameters.

    Args:
        encoder: on its device; its trainable parameters have `requires_grad`.
        objective: see `i0t.training.objectives`.
        accelerator: processes and precision.
        views: dropout views per item.
        chunk_size: pairs of this process per forward pass; None for all.
    """

    def __init__(
        self,
        encoder: Encoder,
        objective: nn.Module,
        accelerator: Accelerator,
        views: int = 1,
        chunk_size: int | None = None,
    ) -> None:
        self.encoder, self.objective, self.accelerator = encoder, objective, accelerator
        self.views, self.chunk_size = views, chunk_size
        self.trains_encoders = any(parameter.requires_grad for parameter in encoder.model.parameters())
        encoders = EncodersBeforeHeads(encoder.model)
        # DDP does not accept a module without gradients; frozen encoders do not need it.
        self.encode = accelerator.prepare_model(encoders, evaluation_mode=not self.trains_encoders)

    def __call__(self, pixels: torch.Tensor, tokens: tuple[torch.Tensor, ...]) -> Losses:
        """Add the gradients of one batch to the parameters.

        Args:
            pixels: (b, 3, H, W).
            tokens: (b, L) ids of the captions, and of the short ones if the objective needs them; on the CPU,
                so that their lengths are known without waiting for a card.

        Returns:
            Named losses of the whole batch, detached, the same on every process.
        """
        chunks = list(self._chunks(pixels, tokens))
        if self.trains_encoders and len(chunks) == 1:
            *features, scale = self.encode(*chunks[0].inputs)
            losses = self._losses(features, scale)
            self.accelerator.backward(_total(losses) + 0 * scale)  # DDP needs every output to be used
        else:
            losses = self._cached(chunks)
        self._average_gradients_of_heads()
        return {key: value.detach() for key, value in losses.items()}

    def _chunks(self, pixels: torch.Tensor, tokens: tuple[torch.Tensor, ...]) -> Iterator[_Chunk]:
        size = min(self.chunk_size or len(pixels), len(pixels))
        device = self.encoder.device
        moved_pixels, *moved = (part.to(device, non_blocking=True) for part in (pixels, *tokens))
        for start in range(0, len(pixels), size):
            rows = slice(start, start + size)
            lengths = (self.encoder.text_length(ids[rows]) for ids in tokens)
            texts = (there[rows, :length] for there, length in zip(moved, lengths, strict=True))
            # All views in one pass, one after another; dropout makes them differ.
            inputs = tuple(part.repeat(self.views, *[1] * (part.dim() - 1)) for part in (moved_pixels[rows], *texts))
            yield _Chunk(inputs, rows)

    def _cached(self, chunks: list[_Chunk]) -> Losses:
        parts, scale = [], torch.empty(0)
        with torch.no_grad():
            for chunk in chunks:
                chunk.random_state = random_state(self.encoder.device)
                *features, scale = self.encode(*chunk.inputs)
                parts.append([self._by_view(part) for part in features])
        # (V, b, D) of each kind of feature, then flat as from an undivided pass.
        leaves = [torch.cat(kind, dim=1).flatten(0, 1).requires_grad_() for kind in zip(*parts, strict=True)]
        scale_leaf = scale.detach().requires_grad_()
        losses = self._losses(leaves, scale_leaf)
        self.accelerator.backward(_total(losses))  # with a loss scale if the precision needs one
        if self.trains_encoders:
            self._second_pass(chunks, [leaf.grad for leaf in leaves if leaf.grad is not None], scale_leaf.grad)
        return losses

    def _second_pass(
        self, chunks: list[_Chunk], gradients: list[torch.Tensor], scale_gradient: torch.Tensor | None
    ) -> None:
        after = random_state(self.encoder.device)
        for number, chunk in enumerate(chunks, start=1):
            restore_random_state(chunk.random_state, self.encoder.device)
            last = number == len(chunks)
            with nullcontext() if last else self.accelerator.no_sync(self.encode):
                *features, scale = self.encode(*chunk.inputs)
                carried = [
                    (part * self._by_view(gradient)[:, chunk.rows].flatten(0, 1)).sum()
                    for part, gradient in zip(features, gradients, strict=True)
                ]
                if last:  # DDP needs every parameter in the pass that it synchronises
                    carried.append(scale * (0 if scale_gradient is None else scale_gradient))
                torch.stack(carried).sum().backward()
        restore_random_state(after, self.encoder.device)

    def _losses(self, features: list[torch.Tensor], logit_scale: torch.Tensor) -> Losses:
        """Compute the losses of the whole batch from features (V * b, D) of images, texts, short texts."""
        # Losses stay in float32: 100 x cosine in bf16 has steps of 0.5.
        images, *texts = (self._gathered(part.float()) for part in features)
        if self.encoder.heads is not None:
            images = self.encoder.heads(images, "image")
            texts = [self.encoder.heads(part, "text") for part in texts]
        long, *short = (part.chunk(self.views) for part in texts)
        return multi_view(self.objective, images.chunk(self.views), long, logit_scale, *short)

    def _gathered(self, features: torch.Tensor) -> torch.Tensor:
        """Gather (V * b, D) of this process to (V * B, D) of all processes, view by view, with gradients."""
        if self.accelerator.num_processes == 1:
            return features
        everyone = _Gather.apply(features, self.accelerator)  # (P * V * b, D)
        by_process = everyone.unflatten(0, (self.accelerator.num_processes, self.views, -1))  # (P, V, b, D)
        return by_process.transpose(0, 1).flatten(0, 2)

    def _by_view(self, features: torch.Tensor) -> torch.Tensor:
        return features.unflatten(0, (self.views, -1))  # (V, b, D)

    def _average_gradients_of_heads(self) -> None:
        """Average the gradients of heads, which are not in DDP: they are equal on all processes except for rounding."""
        if self.encoder.heads is None or self.accelerator.num_processes == 1:
            return
        for parameter in self.encoder.heads.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")


def _total(losses: Losses) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()

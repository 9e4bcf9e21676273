"""Loss and gradients of one batch for every recipe: run alone, or as one of several processes.

    python -m accelerate.commands.launch --config_file configs/accelerate/cpu_2proc.yaml \
        tests/support/gradients_of_processes.py FILE

Each process takes its part of the same batch, as training does; the main one writes what it found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import open_clip
import torch
from accelerate import Accelerator

from i0t.encoders.encoder import Encoder
from i0t.encoders.heads import NormHeads
from i0t.training.accelerator import make_accelerator
from i0t.training.model_setup import build_objective, freeze, needs_short_captions, set_train_mode
from i0t.training.recipe import Recipe, load_recipe, recipe_names
from i0t.training.step import TrainingStep

BATCH = 8
ARCHITECTURE = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 1, "width": 32, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 64, "layers": 1, "width": 32, "heads": 2},
}


def _recipes() -> Iterator[Recipe]:
    for name in recipe_names():
        recipe = load_recipe(name)
        # Of fewer pairs than Long-CLIP's 32 components, they would leave everything as it is.
        few = {"components": 3} if recipe.objective.endswith(":LongClip") else {}
        yield load_recipe(name, {"objective_args": {**recipe.objective_args, **few}})


RECIPES = {recipe.name: recipe for recipe in _recipes()}


def make_encoder(heads: str | None = None, dropout: float = 0.0) -> Encoder:
    """A small encoder, the same at every call."""
    torch.manual_seed(0)
    encoder = Encoder(open_clip.CLIP(**ARCHITECTURE), None, None, {"model": ARCHITECTURE})
    encoder.heads = NormHeads(heads, 16) if heads else None
    with torch.no_grad():
        encoder.model.logit_scale.fill_(2.0)
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.MultiheadAttention):
            layer.dropout = dropout
    return encoder


def make_batch(needs_short: bool, batch: int = BATCH) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Pixels and token ids, the same at every call; 63 stands for the end of text."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(batch, 3, 16, 16, generator=generator)
    long, short = (torch.randint(1, 62, (batch, 16), generator=generator) for _ in range(2))
    long[:, 12], long[:, 13:] = 63, 0
    short[:, 5], short[:, 6:] = 63, 0
    return pixels, (long, short) if needs_short else (long,)


def gradients(name: str, accelerator: Accelerator, chunk_size: int | None = None, dropout: float = 0.0) -> dict:
    """Losses, gradients by parameter, and running statistics after one step."""
    recipe = RECIPES[name]
    encoder, objective = make_encoder(recipe.heads, dropout), build_objective(recipe)
    freeze(encoder, recipe)
    set_train_mode(encoder, recipe)
    step = TrainingStep(encoder, objective, accelerator, recipe.views, chunk_size)
    pixels, tokens = make_batch(needs_short_captions(objective))
    part = BATCH // accelerator.num_processes
    own = slice(accelerator.process_index * part, (accelerator.process_index + 1) * part)
    torch.manual_seed(2)
    losses = step(pixels[own], tuple(ids[own] for ids in tokens))
    found = {key: value.clone() for key, value in losses.items()}
    found |= {f"grad {key}": p.grad.clone() for key, p in encoder.named_parameters() if p.grad is not None}
    return found | {key: value.clone() for key, value in encoder.named_buffers() if "running" in key}


def main(path: str) -> None:
    """Every recipe undivided, and in chunks of two pairs per process."""
    accelerator = make_accelerator("cpu")
    found = {f"{name} {chunk}": gradients(name, accelerator, chunk) for name in RECIPES for chunk in (None, 2)}
    if accelerator.is_main_process:
        torch.save({"processes": accelerator.num_processes, **found}, path)
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])

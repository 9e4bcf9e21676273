"""Prepare the base of a recipe for training: positions, dropout, heads, frozen parameters, AdamW, objective."""

from __future__ import annotations

import math

import torch
from torch import nn

from i0t.dotted import import_dotted
from i0t.encoders.encoder import Encoder
from i0t.encoders.heads import NormHeads
from i0t.encoders.openclip import set_attention_dropout, set_context_length
from i0t.encoders.positions import freeze_first_positions
from i0t.errors import I0TError
from i0t.training.recipe import Recipe


def prepare_encoder(encoder: Encoder, recipe: Recipe) -> None:
    """Set up the base in place: longer positions, dropout, heads, logit scale.

    Raises:
        I0TError: the base already has heads, has no temperature, its positions cannot be stretched, or it is of
            another library and not only heads are trained.
    """
    if recipe.trains != "heads" and not encoder.is_open_clip:
        raise I0TError(
            f"{encoder.name}: only models of open_clip are trained further. Train heads on it, with recipe "
            "bn_async_no_mcsie, or start from open_clip's model of the same weights: --base ARCH/TAG."
        )
    if encoder.architecture["model"].get("queries"):
        raise I0TError(f"{encoder.name}: gives several vectors per image, which heads and objectives do not take.")
    if recipe.context_length != encoder.context_length:
        set_context_length(encoder, recipe.context_length)
    set_attention_dropout(encoder, recipe.attention_dropout)
    if encoder.heads is not None:
        stage1 = encoder.training_summary.get("recipe", {}).get("base")
        raise I0TError(
            f"{encoder.name}: already has {encoder.heads.kind} heads. Start recipe {recipe.name} from a stage-1 "
            f"checkpoint: --base CHECKPOINT{f', for example --base {stage1}' if stage1 else ''}."
        )
    if recipe.heads:
        encoder.heads = NormHeads(recipe.heads, encoder.embed_dim)
    scale = encoder.log_scale
    if recipe.logit_scale is not None:
        if not encoder.is_open_clip:
            raise I0TError(f"{encoder.name}: its logit_scale is not ours to change. Leave logit_scale away.")
        with torch.no_grad():
            scale.fill_(math.log(recipe.logit_scale))


def freeze(encoder: Encoder, recipe: Recipe) -> list[nn.Parameter]:
    """Freeze what the recipe does not train; return the trained parameters.

    The first rows of stretched text positions do not change (section 4.1).
    """
    encoder.requires_grad_(False)
    if recipe.trains in ("encoders", "both"):
        encoder.model.requires_grad_(True)
        encoder.log_scale.requires_grad_(recipe.train_logit_scale)
        for unused in (encoder.logit_bias, getattr(encoder.model, "text_decoder", None)):  # SigLIP's, CoCa's
            if unused is not None:  # no objective depends on it
                unused.requires_grad_(False)
        if "stretched_from" in encoder.architecture:
            freeze_first_positions(encoder.model)
    if encoder.heads is not None:
        encoder.heads.requires_grad_(True)
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def set_train_mode(encoder: Encoder, recipe: Recipe) -> None:
    """Set train mode for what the recipe trains.

    Frozen encoders only have attention dropout, which makes the views of MCSIE. Batch norms *within* the
    encoders (RN50) use their running statistics, so that the features of an image do not depend on its
    batch, process or chunk.
    """
    encoder.train()
    if recipe.trains == "heads":
        encoder.model.eval()
    for module in encoder.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
        elif isinstance(module, nn.MultiheadAttention):
            module.train()


def build_optimizer(encoder: Encoder, parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """Make AdamW, without weight decay of positions, which would shrink the frozen first rows."""
    positions = getattr(encoder.model, "positional_embedding", None)
    groups = [
        {"params": [p for p in parameters if p is not positions], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p is positions], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.learning_rate, fused=True)


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Factor on the peak learning rate at a step counted from 0: linear, then half a cosine to 0 (section 4.1).

    >>> [round(warmup_cosine(step, 2, 6), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def build_objective(recipe: Recipe) -> nn.Module:
    """Make the objective that the recipe names by dotted path.

    Raises:
        I0TError: no such class, wrong arguments, or it does not fit the recipe's heads.
    """
    try:
        objective = import_dotted(recipe.objective)(**recipe.objective_args)
    except I0TError:
        raise
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise I0TError(f"recipe {recipe.name}: objective {recipe.objective!r}: {error}.") from None
    if recipe.heads and needs_short_captions(objective):
        raise I0TError(
            f"recipe {recipe.name}: objective {recipe.objective!r} takes short captions, too, which would mix with the "
            "long ones in the statistics of normalisation heads. Use heads=null trains=encoders."
        )
    return objective


def needs_short_captions(objective: nn.Module) -> bool:
    """Whether an objective also needs the features of short captions."""
    return bool(getattr(objective, "needs_short_captions", False))

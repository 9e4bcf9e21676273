"""The training loop: views in, losses out, validation over the whole held-out set, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from i0t.data.sharegpt4v import LongCaptions
from i0t.encoders.checkpoint import save_checkpoint
from i0t.encoders.encoder import Encoder, autocast
from i0t.encoders.heads import NormHeads
from i0t.encoders.openclip import set_attention_dropout, set_context_length
from i0t.encoders.positions import freeze_first_positions
from i0t.errors import I0TError
from i0t.files import ensure_folder
from i0t.gap import centroid_distance
from i0t.metrics import retrieval_metrics
from i0t.training.objectives import Losses, multi_view
from i0t.training.pairs import training_batches
from i0t.training.recipe import Recipe
from i0t.training.schedule import warmup_cosine

LARGEST_LOGIT_SCALE = 100.0  # CLIP's own limit; beyond it training becomes unstable


class Trainer:
    """Train an encoder after a recipe.

    Args:
        encoder: the base; it is changed in place.
        recipe: see `Recipe`.
        train_pairs: pictures with long captions.
        validation_pairs: held-out ones.
        folder: where checkpoints and TensorBoard logs go.
        device: "cpu", "cuda", ...
        workers: decoding processes.
        skip_unreadable: leave out pictures that cannot be read.

    Raises:
        I0TError: the folder cannot be written, or the data are fewer than a batch.
    """

    def __init__(
        self,
        encoder: Encoder,
        recipe: Recipe,
        train_pairs: LongCaptions,
        validation_pairs: LongCaptions,
        folder: Path,
        device: str = "cpu",
        workers: int = 0,
        skip_unreadable: bool = False,
    ) -> None:
        self.recipe, self.workers, self.skip_unreadable = recipe, workers, skip_unreadable
        self.folder = ensure_folder(folder)
        self.validation_pairs = validation_pairs
        prepare_encoder(encoder, recipe)
        self.encoder = encoder.to(device)
        self.objective = build_objective(recipe)
        self.parameters = trainable_parameters(encoder, recipe)
        self.optimizer = build_optimizer(encoder, self.parameters, recipe)
        batches_an_epoch, self.batches = training_batches(
            train_pairs,
            encoder.preprocess,
            encoder.tokenize,
            recipe.batch_size,
            workers,
            recipe.seed,
            skip_unreadable,
        )
        self.total_steps = recipe.steps or recipe.epochs * batches_an_epoch
        self.skipped = 0
        self.best: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Train, validate, save; returns the training summary that is also in the checkpoint."""
        from torch.utils.tensorboard import SummaryWriter

        started = time.perf_counter()
        with SummaryWriter(self.folder / "runs" / self.recipe.run_name) as writer:
            for step, losses in self._steps():
                for key, value in losses.items():
                    writer.add_scalar(key, value, step)
                if self._validation_due(step):
                    metrics = self.validate()
                    for key, value in metrics.items():
                        writer.add_scalar(f"validation/{key}", value, step)
                    self._save(step, metrics, time.perf_counter() - started)
        return self.encoder.training_summary

    @property
    def last_path(self) -> Path:
        """Checkpoint of the last step."""
        return self.folder / f"{self.recipe.run_name}-last.safetensors"

    @property
    def best_path(self) -> Path:
        """Checkpoint of the best validation R@1."""
        return self.folder / f"{self.recipe.run_name}-best.safetensors"

    def validate(self) -> dict[str, float]:
        """R@1 both ways and centroid distance over the whole validation set."""
        images = self.encoder.encode_images(self.validation_pairs.images, 128, self.workers, self.skip_unreadable)
        captions = [self.validation_pairs.captions[row] for row in self.encoder.report.kept]
        texts = self.encoder.encode_texts(captions, 128)
        set_train_mode(self.encoder, self.recipe)
        metrics = retrieval_metrics(images.numpy(), texts.numpy(), torch.arange(len(images)).numpy())
        return {
            "i2t_r1": metrics["i2t_r1"],
            "t2i_r1": metrics["t2i_r1"],
            "centroid_distance": centroid_distance(images.numpy(), texts.numpy()),
        }

    def _steps(self) -> Iterator[tuple[int, dict[str, float]]]:
        set_train_mode(self.encoder, self.recipe)
        with tqdm(total=self.total_steps, desc=self.recipe.name, unit="step") as bar:
            for step, batch in zip(range(1, self.total_steps + 1), self.batches, strict=False):
                losses = self._step(step, batch)
                self.skipped += len(batch["errors"])
                images_a_second = (bar.format_dict["rate"] or 0) * self.recipe.batch_size
                bar.set_postfix(loss=f"{losses['loss']:.3f}", images_s=f"{images_a_second:.0f}", refresh=False)
                bar.update()
                yield step, losses

    def _step(self, step: int, batch: dict[str, Any]) -> dict[str, float]:
        rate = self.recipe.learning_rate * warmup_cosine(step - 1, self.recipe.warmup_steps, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise I0TError(
                f"recipe {self.recipe.name}: the loss is {total.item()} at step {step}. Lower learning_rate; the "
                f"last good checkpoint, if any, is {self.last_path}."
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            self.encoder.model.logit_scale.clamp_(max=math.log(LARGEST_LOGIT_SCALE))
        values = {key: value.item() for key, value in losses.items()}
        scale = self.encoder.logit_scale.item()
        return {
            "loss": total.item(),
            **values,
            "learning_rate": rate,
            "grad_norm": norm.item(),
            "logit_scale": scale,
        }

    def _losses(self, batch: dict[str, Any]) -> Losses:
        device, views = self.encoder.device, self.recipe.views
        pixels = batch["pixels"].to(device, non_blocking=True).repeat(views, 1, 1, 1)  # (V*B, 3, H, W)
        tokens = batch["tokens"].to(device, non_blocking=True).repeat(views, 1)  # (V*B, L)
        with autocast(device):
            image_features, text_features = self.encoder(pixels, tokens)  # (V*B, D) each
        # Losses stay in float32: 100 x cosine in bf16 has steps of 0.5.
        return multi_view(
            self.objective, image_features.chunk(views), text_features.chunk(views), self.encoder.logit_scale
        )

    def _validation_due(self, step: int) -> bool:
        every = self.recipe.validate_every
        return step == self.total_steps or (every > 0 and step % every == 0)

    def _save(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        summary = {
            "recipe": self.recipe.model_dump(),
            "step": step,
            "validation": metrics,
            "n_validation": len(self.validation_pairs),
            "seconds": round(seconds, 1),
            "skipped_pictures": self.skipped,
        }
        self.encoder.training_summary = summary
        save_checkpoint(self.last_path, self.encoder, summary)
        if metrics["i2t_r1"] + metrics["t2i_r1"] > self.best.get("i2t_r1", -1) + self.best.get("t2i_r1", -1):
            self.best = metrics
            save_checkpoint(self.best_path, self.encoder, summary)


def prepare_encoder(encoder: Encoder, recipe: Recipe) -> None:
    """Give the base what the recipe trains: longer positions, dropout, heads, logit scale."""
    if recipe.context_length != encoder.context_length:
        set_context_length(encoder, recipe.context_length)
        freeze_first_positions(encoder.model)
    set_attention_dropout(encoder, recipe.attention_dropout)
    if recipe.heads:
        if encoder.heads is not None:
            raise I0TError(
                f"{encoder.name}: already has {encoder.heads.kind} heads. Start recipe {recipe.name} from a stage-1 "
                "checkpoint: --base CHECKPOINT."
            )
        encoder.heads = NormHeads(recipe.heads, encoder.embed_dim)
    if recipe.logit_scale is not None:
        with torch.no_grad():
            encoder.model.logit_scale.fill_(math.log(recipe.logit_scale))


def trainable_parameters(encoder: Encoder, recipe: Recipe) -> list[nn.Parameter]:
    """Freeze all that the recipe does not train and return what it does."""
    encoder.requires_grad_(False)
    if recipe.trains in ("encoders", "both"):
        encoder.model.requires_grad_(True)
        encoder.model.logit_scale.requires_grad_(recipe.train_logit_scale)
    if recipe.trains in ("heads", "both"):
        encoder.heads.requires_grad_(True)
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def set_train_mode(encoder: Encoder, recipe: Recipe) -> None:
    """Train mode; frozen encoders keep only their attention dropout, which makes MCSIE's views."""
    if recipe.trains != "heads":
        encoder.train()
        return
    encoder.eval()
    encoder.heads.train()
    for module in encoder.model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.train()


def build_optimizer(encoder: Encoder, parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; positions are not decayed, or the frozen first rows would shrink."""
    positions = getattr(encoder.model, "positional_embedding", None)
    groups = [
        {"params": [p for p in parameters if p is not positions], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p is positions], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.learning_rate, fused=True)


def build_objective(recipe: Recipe) -> nn.Module:
    """The loss class that the recipe names by dotted path."""
    module, _, name = recipe.objective.partition(":")
    try:
        return getattr(import_module(module), name)(**recipe.objective_args)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise I0TError(f"recipe {recipe.name}: objective {recipe.objective!r}: {error}.") from None

"""Shared by the checks of `benchmarks.cuda`: sizes, encoders, bare models, trainers, the sample's pairs."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import open_clip
import torch
from accelerate.state import AcceleratorState, GradientState
from torch.nn import functional as F

from i0t.data.items import open_image
from i0t.data.sharegpt4v import LongCaptions, load_sharegpt4v
from i0t.encoders import load_encoder
from i0t.encoders.encoder import Encoder
from i0t.paths import Roots
from i0t.training.accelerator import make_accelerator
from i0t.training.batches import DiskPairs, PairSource, ValidationPairs
from i0t.training.loop import Trainer
from i0t.training.recipe import load_recipe

RECIPE, VIEWS, DROPOUT, CONTEXT = "lccom", 2, 0.1, 248  # the recipe and its values
MODEL, TINY = "ViT-B-32-quickgelu/random", "tiny"
PER_SECOND, ALONE, FORWARD = "per second", "decoding or tokenising alone", "bare forward"  # images or texts
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Setting:
    """Device, data and size of the checks; `tiny` is for trying the program on a CPU."""

    device: torch.device
    roots: Roots  # of a small sample, a temporary folder
    tiny: bool = False
    workers: int = 0  # decoding processes

    @property
    def is_cuda(self) -> bool:
        """Whether a card is tested."""
        return self.device.type == "cuda"

    def size(self, full: Any, tiny: Any) -> Any:
        """Choose by `tiny`."""
        return tiny if self.tiny else full

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.size(MODEL, TINY)

    def autocast(self, precision: str) -> AbstractContextManager:
        """Mixed precision of a bare model."""
        return torch.autocast(self.device.type, DTYPES[precision], enabled=precision != "fp32")

    def now(self) -> float:
        """Time in seconds, after the device has finished its work."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def peak_bytes(self) -> int:
        """Peak memory of the card since the last call."""
        if not self.is_cuda:
            return 0
        peak = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak

    def seconds(self, work: Callable[[], object]) -> float:
        """Measure the time of a piece of work."""
        started = self.now()
        work()
        return self.now() - started


@dataclass(frozen=True)
class Check:
    """A measured number (NaN if there is none) and its upper bound."""

    what: str
    measured: float
    bound: float
    note: str = ""  # further results
    figures: dict[str, float] = field(default_factory=dict)  # by column of the table: PER_SECOND, "MFU", ...

    @property
    def passed(self) -> bool:
        """Whether the number is within its bound."""
        return self.measured <= self.bound  # false for NaN

    def __str__(self) -> str:
        figures = f"{self.measured:.3g} <= {self.bound:.3g}"
        return f"{'pass' if self.passed else 'FAIL'}  {figures:19}  {self.what}{self.note and f' ({self.note})'}"


@cache
def base(model: str) -> Encoder:
    """Load a model with random weights on the CPU; copy it before changing it."""
    torch.manual_seed(0)
    return load_encoder(model)


def bare_model(setting: Setting, context_length: int, dropout: float) -> torch.nn.Module:
    """Build the same architecture as a plain open_clip module in train mode, on the device."""
    config = copy.deepcopy(base(setting.model).architecture["model"])
    config["text_cfg"]["context_length"] = context_length
    with setting.device:
        module = open_clip.CLIP(**config)
    for layer in module.modules():
        if isinstance(layer, torch.nn.MultiheadAttention):
            layer.dropout = dropout
    return module.to(setting.device).train()


def cyclip(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Compute the recipe's loss of features (V, B, D): mean over views of L_CLIP + L_I-cyclic / 4 + L_C-cyclic / 4."""
    losses, targets = [], torch.arange(images.shape[1], device=images.device)
    for one, other in product(images, texts):
        cosines = one @ other.T
        cyclic = (one @ one.T - other @ other.T).square().mean() + (cosines - cosines.T).square().mean()
        clip = F.cross_entropy(scale * cosines, targets) + F.cross_entropy(scale * cosines.T, targets)
        losses.append(clip / 2 + len(one) * cyclic / 4)
    return torch.stack(losses).mean()


def new_trainer(
    setting: Setting,
    precision: str,
    source: PairSource | None = None,
    device: torch.device | None = None,
    **values: Any,
) -> Trainer:
    """Make a trainer in a single process; `values` are recipe values, and `folder` for its files."""
    folder = values.pop("folder", None) or Path(tempfile.mkdtemp(dir=setting.roots.data_dir))
    changes = {"base": setting.model, "precision": precision, "keep_states": 1, "validate_every": 0, **values}
    AcceleratorState._reset_state(reset_partial_state=True)  # else accelerate keeps its first choice
    GradientState._reset_state()
    accelerator = make_accelerator(str(device or setting.device), precision)
    pairs, held_out = source or DiskPairs(sample_pairs(setting, "train")), sample_pairs(setting, "validation")
    validation = ValidationPairs(held_out.images, held_out.captions)
    recipe, encoder = load_recipe(RECIPE, changes), copy.deepcopy(base(setting.model))
    return Trainer(encoder, recipe, pairs, validation, folder, accelerator, setting.workers)


@cache
def sample_pairs(setting: Setting, split: Any) -> LongCaptions:
    """Load a split of the sample: 288 pairs to train on, 32 for validation."""
    return load_sharegpt4v(setting.roots.data_dir, split)


@cache
def sample_batch(setting: Setting, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and token ids of the sample's first pairs, on the CPU."""
    pairs, encoder = sample_pairs(setting, "train"), base(setting.model)
    tokens = encoder.tokenize(list(pairs.captions[:count]))
    pixels = torch.stack([encoder.preprocess(open_image(path)) for path in pairs.images[:count]])
    return pixels, F.pad(tokens, (0, CONTEXT - tokens.shape[1]))


def flat(parts: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate all values, float32 on the CPU; None counts as zeros."""
    filled = [torch.zeros_like(own) if part is None else part for part, own in zip(parts, like, strict=True)]
    return torch.cat([part.detach().float().flatten() for part in filled]).cpu()

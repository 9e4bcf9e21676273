"""What `benchmarks.cuda` asks of the project, in one place: encoders, trainers, the sample's pairs.

The checks themselves know of a trainer only `run`, `training_step`, `objective`, `optimizer`,
`accelerator`, `encoder` and `parameters`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from accelerate.state import AcceleratorState, GradientState

from i0t.data.sample import SampleSize, data_dir, make_sample
from i0t.data.sharegpt4v import LongCaptions, load_sharegpt4v
from i0t.encoders import load_encoder
from i0t.encoders.encoder import Encoder
from i0t.training.accelerator import make_accelerator
from i0t.training.batches import DiskPairs, PairSource
from i0t.training.loop import Trainer
from i0t.training.recipe import load_recipe

RECIPE, MODEL, TINY = "lccom", "ViT-B-32-quickgelu/random", "tiny"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ONE_VIEW = {"views": 1, "attention_dropout": 0}  # the same recipe where chance must play no part


@dataclass(frozen=True)
class Setting:
    """What every check needs to know.

    Attributes:
        device: the one that is tested.
        quick: smaller sizes.
        tiny: smallest sizes and model, to try the program itself on a CPU.
        workers: decoding processes.
        folder: for what the checks write.
    """

    device: torch.device
    quick: bool
    tiny: bool
    workers: int
    folder: Path

    @property
    def model(self) -> str:
        """The model that is measured."""
        return TINY if self.tiny else MODEL

    @property
    def precisions(self) -> tuple[str, ...]:
        """Mixed precisions that the device trains in."""
        return ("bf16", "fp16") if self.device.type == "cuda" else ("bf16",)

    def size(self, full: int, quick: int, tiny: int) -> int:
        """The size that goes with how thoroughly is checked."""
        return tiny if self.tiny else quick if self.quick else full

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Check:
    """A measured figure and what it may be at most.

    Attributes:
        what: is measured.
        measured: the figure; NaN where there is none.
        bound: it passes at this or less.
        note: what else was seen, in words.
        details: the same in numbers, for the JSON file.
    """

    what: str
    measured: float
    bound: float
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the bound was kept."""
        return self.measured <= self.bound  # false for NaN


@cache
def _base(model: str) -> Encoder:
    torch.manual_seed(0)
    return load_encoder(model)


def new_encoder(model: str) -> Encoder:
    """An encoder on the CPU; every one of a model has the same random weights."""
    return copy.deepcopy(_base(model))


def configuration(model: str) -> dict[str, Any]:
    """Sizes of its towers, as open_clip names them."""
    return copy.deepcopy(_base(model).architecture["model"])


def bare_model(model: str, context_length: int, dropout: float, device: torch.device) -> torch.nn.Module:
    """The same architecture as a plain open_clip module in train mode, made on the device."""
    config = configuration(model)
    config["text_cfg"]["context_length"] = context_length
    with device:
        module = open_clip.CLIP(**config)
    for layer in module.modules():
        if isinstance(layer, torch.nn.MultiheadAttention):
            layer.dropout = dropout
    return module.to(device).train()


def new_trainer(
    setting: Setting, source: PairSource, precision: str, device: torch.device | None = None, **changes: Any
) -> Trainer:
    """A trainer of the recipe on `new_encoder`, alone in this process.

    Args:
        setting: what is tested.
        source: training pairs.
        precision: fp32, bf16 or fp16.
        device: another one than the setting's.
        changes: values of the recipe; and `folder`, where the run's files go, and `model`.
    """
    folder = changes.pop("folder", None) or Path(tempfile.mkdtemp(dir=setting.folder))
    model = changes.pop("model", setting.model)
    values = {"precision": precision, "keep_states": 1, "validate_every": 0, **changes}
    recipe = load_recipe(RECIPE, [], False, base=model, **values)
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate lets a process choose but once
    GradientState._reset_state()
    accelerator = make_accelerator(str(device or setting.device), precision)
    return Trainer(
        new_encoder(model), recipe, source, sample_pairs(setting, "validation"), folder, accelerator, setting.workers
    )


@cache
def sample_pairs(setting: Setting, split: str) -> LongCaptions:
    """A split of a small built-in sample: 288 pairs to train on, 32 for validation."""
    size = SampleSize(train=320, flickr=1, coco=1, nocaps=1, birdsnap_per_class=1, judged=1)
    return load_sharegpt4v(data_dir(make_sample(setting.folder / "sample", size)), split)


def sample_source(setting: Setting) -> PairSource:
    """The training split as the trainer reads it: from disk, with decoding processes."""
    return DiskPairs(sample_pairs(setting, "train"))


@cache
def sample_batch(setting: Setting, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and token ids of the first pairs of the sample, on the CPU."""
    pairs, encoder = sample_pairs(setting, "train"), _base(setting.model)
    pictures = [encoder.preprocess(_opened(path)) for path in pairs.images[:count]]
    return torch.stack(pictures), padded(encoder.tokenize(list(pairs.captions[:count])))


def padded(tokens: torch.Tensor, length: int = 248) -> torch.Tensor:
    """Token ids as the tokenizer of a longer context gives them."""
    return torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]))


def flat(parameters: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
    """All values one after another, float32 on the CPU; None counts as zeros."""
    parts = [torch.zeros_like(own) if part is None else part for part, own in zip(parameters, like, strict=True)]
    return torch.cat([part.detach().float().flatten() for part in parts]).cpu()


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Length of the difference by the length of theirs."""
    return float((ours - theirs).norm() / theirs.norm())


def _opened(path: Path) -> Any:
    from i0t.data.items import open_image

    return open_image(path)

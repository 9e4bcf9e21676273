"""The description in a checkpoint, and its weights: checked before a model is built of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from typing_extensions import TypedDict

from i0t.errors import I0TError
from i0t.reading import check_json

LARGEST_IMAGE = 8192  # pixels; no published CLIP takes more than 1024
REMEDY = "Train it again, or copy it again."


class PreprocessForm(TypedDict, total=False):
    """open_clip's `PreprocessCfg`, for pydantic."""

    size: int | list[int]
    mode: str
    mean: list[float]
    std: list[float]
    interpolation: Literal["bicubic", "bilinear", "random"]
    resize_mode: Literal["shortest", "longest", "squash"]
    fill_color: int


class ModelForm(TypedDict):
    """open_clip's model configuration, as far as any model has it."""

    embed_dim: int
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]


class ArchitectureForm(TypedDict, total=False):
    """The architecture of an `Encoder`."""

    model: ModelForm
    preprocess: PreprocessForm
    small: bool | None
    stretched_from: int | None


class TrainingForm(TypedDict, total=False):
    """The training summary."""

    recipe: dict[str, Any]


def check_description(path: Any, architecture: Any, heads: Any, training: Any) -> None:
    """Check the types of a checkpoint's description; `architecture` is None for a model of another library.

    Raises:
        I0TError: names the file and the field.
    """
    check_json(str | None, heads, f"{path}: heads", "a kind of normalisation heads, or null", REMEDY)
    check_json(TrainingForm, training, f"{path}: training", "an object", REMEDY)
    if architecture is None:
        return
    check_json(ArchitectureForm, architecture, f"{path}: architecture", "an open_clip configuration", REMEDY)
    settings = architecture.get("preprocess", {})
    if not all(len(settings.get(key, [0.5] * 3)) == 3 for key in ("mean", "std")) or 0 in settings.get("std", [1]):
        raise I0TError(f"{path}: architecture: mean and std of its preprocessing are no three colours. {REMEDY}")


def require_plausible(architecture: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse sizes that the weights cannot have, before a model of them fills the memory.

    Raises:
        I0TError: names the entry of the configuration.
    """
    most = max([LARGEST_IMAGE, *(size for tensor in tensors.values() for size in tensor.shape)])
    tower = {"vision_cfg": architecture["model"]["vision_cfg"], "text_cfg": architecture["model"]["text_cfg"]}
    sizes = {"embed_dim": architecture["model"]["embed_dim"]}
    sizes |= {f"{part}.{key}": value for part, entries in tower.items() for key, value in entries.items()}
    for key, value in sizes.items():
        limit = len(tensors) if key.endswith("layers") else LARGEST_IMAGE if key.endswith("image_size") else most
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if isinstance(number, int | float) and not 0 <= number <= limit:
                raise I0TError(f"{key} of its architecture is {number}, which its weights cannot have. {REMEDY}")


def require_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        I0TError: names the tensor.
    """
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise I0TError(
                f"its weights {key} hold NaN or infinite values, so training diverged or the file is damaged. Take an "
                "earlier checkpoint, or copy it again."
            )

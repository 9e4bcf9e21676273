"""A recipe: everything a training run depends on, typed, validated and saved in its checkpoint.

`configs/recipes/NAME.yaml` holds the paper's values; its `sample:` block holds what differs on the
built-in sample (or with `--base tiny`), where the paper's values would take days to show anything.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

import yaml

from i0t.errors import I0TError
from i0t.paths import configs_folder

LAST = "last"  # as base: the checkpoint that configs/ckpt_file_name.txt names


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run (sections 4.1, 4.2; App. E).

    Attributes:
        name: the file's name.
        objective: dotted path of the loss class, "module:Class".
        objective_args: its constructor arguments.
        base: model to start from; "last" means the last checkpoint.
        trains: "encoders", "heads" (encoders frozen: asynchronous, BN*) or "both".
        heads: normalisation heads to add: "batch_norm", "layer_norm" or none.
        views: views of each item by dropout; 2 is MCSIE, 1 is without.
        attention_dropout: dropout rate in every attention layer while training.
        context_length: text positions are stretched to this many tokens.
        subset: ShareGPT4V folder: coco, llava, sam, all.
        epochs: passes over the training set.
        steps: if given, stop after this many steps instead.
        batch_size: pairs a step.
        learning_rate: AdamW's, after warm-up, before cosine decay to 0.
        weight_decay: AdamW's.
        warmup_steps: linear warm-up.
        max_grad_norm: gradients are clipped to this norm.
        logit_scale: the factor on cosines at the start; none keeps the base's.
        train_logit_scale: whether it is learned (never above 100).
        validate_every: steps between validations; 0 only at the end.
        seed: of weights, order and dropout (the paper: 7, 42, 71).
    """

    name: str
    objective: str
    base: str
    trains: str
    objective_args: dict[str, Any]
    heads: str | None = None
    views: int = 1
    attention_dropout: float = 0.0
    context_length: int = 248
    subset: str = "coco"
    epochs: int = 3
    steps: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-6
    weight_decay: float = 1e-2
    warmup_steps: int = 200
    max_grad_norm: float = 1.0
    logit_scale: float | None = None
    train_logit_scale: bool = True
    validate_every: int = 1000
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        rules = {
            "trains": (self.trains in ("encoders", "heads", "both"), "encoders, heads or both"),
            "heads": (
                (self.heads is not None) == (self.trains != "encoders"),
                "given exactly when heads are trained",
            ),
            "views": (self.views in (1, 2), "1 or 2"),
            "attention_dropout": (
                0 <= self.attention_dropout < 1 and (self.views == 1 or self.attention_dropout > 0),
                "in [0, 1), and above 0 with 2 views (they would be equal)",
            ),
            "epochs": (self.epochs > 0, "positive"),
            "steps": (self.steps is None or self.steps > 0, "positive"),
            "batch_size": (self.batch_size >= 2, "at least 2: a contrastive loss needs negatives"),
            "learning_rate": (self.learning_rate > 0, "positive"),
            "weight_decay": (self.weight_decay >= 0, "not negative"),
            "warmup_steps": (self.warmup_steps >= 0, "not negative"),
            "max_grad_norm": (self.max_grad_norm > 0, "positive"),
            "logit_scale": (self.logit_scale is None or 0 < self.logit_scale <= 100, "in (0, 100]"),
            "validate_every": (self.validate_every >= 0, "not negative"),
        }
        for key, (valid, must) in rules.items():
            if not valid:
                raise I0TError(f"recipe {self.name}: {key}={getattr(self, key)!r} must be {must}.")

    @property
    def run_name(self) -> str:
        """File name stem of its checkpoints: equal recipes share it, different ones never do."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:6]
        return f"{self.name}-seed{self.seed}-{digest}"


def load_recipe(name: str, overrides: list[str], sample: bool, **flags: Any) -> Recipe:
    """Read `configs/recipes/NAME.yaml`.

    Args:
        name: the recipe.
        overrides: "key=value" strings, the value read as YAML.
        sample: apply the `sample:` block.
        flags: further values; those that are None are left out.

    Raises:
        I0TError: no such recipe, unknown key, or a value of the wrong kind.
    """
    path = configs_folder() / "recipes" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise I0TError(f"{name}: no such recipe in {path.parent}. There are: {known}.")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    variant = values.pop("sample", {})
    values = {"name": name, "objective_args": {}, **values, **(variant if sample else {})}
    values.update(_parse(override) for override in overrides)
    values.update({key: value for key, value in flags.items() if value is not None})
    known_keys = {field.name for field in fields(Recipe)}
    unknown = sorted(set(values) - known_keys)
    if unknown:
        raise I0TError(f"recipe {name}: unknown {', '.join(unknown)}. Known: {', '.join(sorted(known_keys))}.")
    try:
        return Recipe(**values)
    except TypeError as error:
        raise I0TError(f"recipe {name}: {error}.") from None


def _parse(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals:
        raise I0TError(f"{override!r}: overrides are written key=value, e.g. steps=100.")
    parsed = yaml.safe_load(value)
    if isinstance(parsed, str):
        with suppress(ValueError):
            parsed = float(parsed)  # YAML takes 1e-5 for a word
    return key, parsed

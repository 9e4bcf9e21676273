"""`Recipe`: all values of a training run, typed, validated and saved in its checkpoint.

`configs/recipes/NAME.yaml` has the paper's values; its `sample:` block has those for the built-in sample
(or with `--base tiny`), where the paper's values would take days.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from i0t.errors import I0TError
from i0t.files import below
from i0t.paths import config_file, config_names
from i0t.reading import parse_yaml, read_yaml

QUOTE = "Quote a value with braces or spaces, which the shell takes apart: 'shards=/data/{00000..00117}.tar'."
LAST = "last"  # as base: the checkpoint in configs/ckpt_file_name.txt
LONGEST_NAME = 150  # bytes; file systems allow 255, with seed, digest and suffixes
MOST = 10**12  # of steps, pairs, ...: more is a slip
WITHOUT_EFFECT = {"save_every", "keep_states"}  # values that do not affect the weights


class Recipe(BaseModel):
    """One training run (sections 4.1, 4.2; App. E)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str  # of the file
    objective: str  # the loss class, "module:Class"
    base: str  # model to start from; "last" means the last checkpoint, or its base if this recipe made it
    trains: Literal["encoders", "heads", "both"]  # "heads": encoders are frozen (asynchronous, BN*)
    objective_args: dict[str, JsonValue] = {}  # of the loss class's constructor
    heads: Literal["batch_norm", "layer_norm"] | None = None  # normalisation heads to add
    views: Literal[1, 2] = 1  # dropout views per item; 2 is MCSIE
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)  # in every attention layer while training
    context_length: int = Field(
        default=248, ge=3, le=65_536
    )  # text positions are stretched to it; the first ones do not change
    subset: str = "coco"  # ShareGPT4V folder: coco, llava, sam, all
    # WebDataset shards instead of ShareGPT4V's JSON and images, e.g. "/data/{00000..00117}.tar" or
    # "pipe:aws s3 cp s3://bucket/{00000..00117}.tar -"; the first one is for validation.
    shards: str | None = None
    shard_pairs: int | None = Field(default=None, ge=1, le=MOST)  # in all shards but the first
    epochs: int = Field(default=3, ge=1, le=MOST)  # passes over the training set
    steps: int | None = Field(default=None, ge=1, le=MOST)  # instead of epochs
    batch_size: int = Field(
        default=128, ge=2, le=MOST
    )  # pairs per step, over all processes; a contrastive loss needs negatives
    # Pairs per process and forward pass: fewer than the batch saves memory and gives the same gradients
    # (cached embeddings), at the cost of a second forward pass.
    chunk_size: int | None = Field(default=None, ge=1, le=MOST)
    # Of training and validation; "auto" is bf16 on CUDA (fp16 if the card only emulates bf16), fp32 elsewhere.
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    learning_rate: float = Field(default=1e-6, gt=0)  # AdamW's, after warm-up, before cosine decay to 0
    weight_decay: float = Field(default=1e-2, ge=0)  # AdamW's
    warmup_steps: int = Field(default=200, ge=0, le=MOST)  # linear
    max_grad_norm: float | None = Field(default=None, gt=0)  # gradients are clipped to it
    logit_scale: float | None = Field(
        default=None, gt=0, le=100
    )  # factor on cosines at the start; None: that of the base
    train_logit_scale: bool = True  # never above 100
    validate_every: int = Field(default=1000, ge=0, le=MOST)  # steps; 0: only at the end
    save_every: int = Field(default=500, ge=1, le=MOST)  # steps between states to resume from
    keep_states: int = Field(default=2, ge=1, le=MOST)  # number of states to keep
    seed: int = Field(default=7, ge=0, lt=2**63)  # of weights, order and dropout (the paper: 7, 42, 71)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        """YAML reads yes, on and true as a truth value, which Python takes for 1."""
        if isinstance(value, bool) and cls.model_fields[field.field_name or ""].annotation is not bool:
            raise ValueError("yes, no, true and false are no value of it")
        return value

    @field_validator("name")
    @classmethod
    def _stays_in_the_output_folder(cls, value: str) -> str:
        below(".", value)
        if any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in value.split("/")):
            raise ValueError(f"longer than {LONGEST_NAME} bytes")
        return value

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Recipe:
        if (self.heads is not None) != (self.trains != "encoders"):
            raise ValueError(f"heads={self.heads!r} must be given exactly when heads are trained")
        if self.views == 2 and not self.attention_dropout:
            raise ValueError(f"attention_dropout={self.attention_dropout} must be above 0 with 2 views (else equal)")
        if (self.shards is None) != (self.shard_pairs is None):
            raise ValueError(f"shard_pairs={self.shard_pairs} must be given exactly when shards are")
        return self

    def run_name(self, *inputs: str) -> str:
        """File name stem of checkpoints and states, unique per run.

        `inputs` are the fingerprints of the base and the data, on which the weights depend, too.
        """
        values = self.model_dump(exclude=WITHOUT_EFFECT)
        digest = hashlib.sha256(json.dumps([values, *inputs], sort_keys=True).encode()).hexdigest()[:6]
        return f"{self.name}-seed{self.seed}-{digest}"


def recipe_names() -> list[str]:
    """Names of the recipes in `configs/recipes`."""
    return config_names("recipes")


def load_recipe(name: str, overrides: Mapping[str, Any] = MappingProxyType({}), sample: bool = False) -> Recipe:
    """Read `configs/recipes/NAME.yaml`; with `sample`, apply its `sample:` block before the overrides.

    Raises:
        I0TError: no such recipe, unknown key, or a value of the wrong kind.
    """
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME or not name.isprintable():
        raise I0TError(f"{name[:40]!r}...: no name of a recipe. There are: {', '.join(recipe_names()) or 'none'}.")
    path = config_file(f"recipes/{name}.yaml")
    if not path.is_file():
        raise I0TError(f"{name}: no such recipe in {path.parent}. There are: {', '.join(recipe_names()) or 'none'}.")
    values = read_yaml(path, "a recipe")
    variant = values.pop("sample", None) or {} if isinstance(values, dict) else {}
    if not isinstance(values, dict) or not isinstance(variant, dict):
        raise I0TError(f"{path}: not a recipe: expected lines of `key: value`. See configs/recipes/lccom.yaml.")
    values = {"name": name, **values, **(variant if sample else {}), **overrides}
    unknown = sorted(str(key) for key in set(values) - set(Recipe.model_fields))
    if unknown:
        raise I0TError(f"recipe {name}: unknown {', '.join(unknown)}. Known: {', '.join(sorted(Recipe.model_fields))}.")
    try:
        return Recipe(**values)
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{first['loc'][0]}={first['input']!r}: " if first["loc"] else ""
        raise I0TError(f"recipe {name}: {found}{first['msg'].removeprefix('Value error, ')}.") from None


def read_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Parse key=value arguments of a command line.

    >>> read_overrides(["steps=100", "learning_rate=1e-5", "subset=all"])
    {'steps': 100, 'learning_rate': 1e-05, 'subset': 'all'}

    Raises:
        I0TError: not `key=value`, a key given twice, or the value is not valid YAML.
    """
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise I0TError(f"{text!r}: overrides are written key=value, e.g. steps=100. {QUOTE}")
        if key in values:
            raise I0TError(f"{key}= is given twice, {values[key]!r} and {value!r}. Give it once. {QUOTE}")
        values[key] = parse_yaml(value, text)
    return values


def join_flags(overrides: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Join key=value arguments with the flags of the same names; flags that are not given are None.

    Raises:
        I0TError: a value is given both ways.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    for key in given.keys() & overrides.keys():
        raise I0TError(f"--{key.replace('_', '-')} {given[key]} and {key}={overrides[key]}: give one of them.")
    return {**overrides, **given}

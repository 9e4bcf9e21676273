"""`Origin`: the model and data that vectors or fitted statistics come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from i0t.errors import I0TError
from i0t.reading import check_json


@dataclass(frozen=True)
class Origin:
    """Where vectors or statistics come from: model and data. Unknown fields are None.

    Attributes:
        model, fingerprint: name of the model, and of its weights.
        dataset, split, source: data set, part of it, and the file or folder it was read from.
        n_images, n_texts, dim: numbers of items and dimensions.
        data_sha256: SHA-256 of the fitted features.
        fit_on: how the calibration set was chosen: "test", "train" or "embeddings".
        file: the file of fitted statistics, or of the vectors they were fitted to.
        shards: number and digest of the fitted shards, by modality.
        merged: the origins of the parts, if statistics were merged.
        extra: other entries of the file.
    """

    model: str | None = None
    fingerprint: str | None = None
    dataset: str | None = None
    split: str | None = None
    source: str | None = None
    n_images: int | None = None
    n_texts: int | None = None
    dim: int | None = None
    data_sha256: str | None = None
    fit_on: str | None = None
    file: str | None = None
    shards: Mapping[str, Any] | None = None
    merged: tuple[Origin, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Origin:
        """Build from the JSON of files and metadata; a model name that is only a file name is left out."""
        known = {key: content.get(key) for key in NAMES}
        if content.get("model_is_file_name"):
            known["model"] = None
        extra = {key: value for key, value in content.items() if key not in (*NAMES, "merged", "extra")}
        merged = tuple(cls.from_dict(part) for part in content.get("merged") or ())
        return cls(**known, merged=merged, extra=extra)

    def as_dict(self) -> dict[str, Any]:
        """Return the known fields and those of `extra`, for JSON."""
        known = {key: getattr(self, key) for key in NAMES if getattr(self, key) is not None}
        return {**known, **({"merged": [part.as_dict() for part in self.merged]} if self.merged else {}), **self.extra}

    def require_same_model(self, other: Origin, what: str = "these statistics", of: str = "the embeddings") -> None:
        """Raise an error if the two come from different models.

        Fingerprints of the weights are compared if both are known, else the names. Every part of merged
        statistics must agree.

        Raises:
            I0TError: the models or the numbers of dimensions differ.
        """
        for part in self.merged:
            part.require_same_model(other, what, of)
        known = [key for key in ("fingerprint", "model") if None not in (getattr(self, key), getattr(other, key))]
        if known and getattr(self, known[0]) != getattr(other, known[0]):
            own, theirs = (f"model {side.model} ({known[0]} {getattr(side, known[0])})" for side in (self, other))
            raise I0TError(f"{what} belong to {own}, {of} to {theirs}. Make both with the same model.")
        if None not in (self.dim, other.dim) and self.dim != other.dim:
            raise I0TError(f"{what} have {self.dim} dimensions, {of} {other.dim}. Make both with the same model.")


NAMES = tuple(item.name for item in fields(Origin) if item.name not in ("merged", "extra"))


class OriginForm(TypedDict, total=False):
    """The types of an origin in a file's JSON, for pydantic; other entries are kept as they are."""

    model: str | None
    fingerprint: str | None
    dataset: str | None
    split: str | None
    source: str | None
    n_images: int | None
    n_texts: int | None
    dim: int | None
    data_sha256: str | None
    fit_on: str | None
    file: str | None
    shards: dict[str, Any] | None
    merged: list[OriginForm] | None


def read_origin(path: str | Path, content: Any) -> Origin:
    """Make an origin of a file's JSON.

    Raises:
        I0TError: a field is of another type; names it.
    """
    check_json(OriginForm, content, path, "the origin of its statistics, an object", "Fit it again.")
    return Origin.from_dict(content)

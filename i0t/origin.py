"""`Origin`: where vectors, or statistics fitted to vectors, come from, and whether two come from one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from i0t.errors import I0TError


@dataclass(frozen=True)
class Origin:
    """Which model and data; None where it is not known.

    Attributes:
        model, fingerprint: name of the model, and of its weights.
        dataset, split, source: which data, which part of them, and the file or folder they were read from.
        n_images, n_texts, dim: counts and dimensions.
        data_sha256: of the features that were fitted.
        fit_on: how the set that was fitted was chosen: "test", "train" or "embeddings".
        file: the file of fitted statistics, or of the vectors they were fitted to.
        shards: by modality, number and digest of the shards that were fitted.
        merged: of statistics that were merged, the origin of each part.
        extra: whatever else a file says.

    Example:
        >>> Origin.from_dict({"model": "clip", "fingerprint": "ab12", "epochs": 3}).as_dict()
        {'model': 'clip', 'fingerprint': 'ab12', 'epochs': 3}
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
        """Of JSON, as files and metadata have it; a model name that is only a file's name is left out."""
        known = {key: content.get(key) for key in NAMES}
        if content.get("model_is_file_name"):
            known["model"] = None
        extra = {key: value for key, value in content.items() if key not in (*NAMES, "merged", "extra")}
        merged = tuple(cls.from_dict(part) for part in content.get("merged") or ())
        return cls(**known, merged=merged, extra=extra)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what is known, and `extra` beside it."""
        known = {key: getattr(self, key) for key in NAMES if getattr(self, key) is not None}
        return {**known, **({"merged": [part.as_dict() for part in self.merged]} if self.merged else {}), **self.extra}

    def require_same_model(self, other: Origin, what: str = "these statistics", of: str = "the embeddings") -> None:
        """Refuse two things of different models, as far as both say which they are.

        The fingerprints of the weights decide where both are known, else the names. Of merged
        statistics every part must agree.

        Args:
            other: the origin of the second thing.
            what: what the first thing is, in the plural, for the error.
            of: what the second is.

        Raises:
            I0TError: the models, or the numbers of dimensions, differ.
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

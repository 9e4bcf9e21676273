"""The contract of every gap remover: fit on one set of features, transform another, keep where the means came from."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal

import numpy as np

from i0t.embeddings import read_safetensors
from i0t.errors import I0TError
from i0t.features import Features, check_shape, is_torch, l2_normalize
from i0t.files import atomic_path
from i0t.standardize.blocks import shifted_units
from i0t.standardize.statistics import VectorSum

FORMAT = "i0t-means-1"

Modality = Literal["image", "text"]


class GapRemover(ABC, Generic[Features]):
    """Fit the modality means on one set, move the vectors of another.

    Inputs are NumPy arrays or torch tensors (N, D), or (N, Q, D) for multi-query models, whose Q
    vectors all count and move alike. They are L2-normalised first (section 4.2); what comes out is
    L2-normalised, of the same kind, shape, dtype and device. Sums are kept in float64.

    Attributes:
        image_mean_, text_mean_, n_images_, n_texts_: learned by `fit`; below.
        provenance: where the means came from (model, data set, counts); travels with `save`.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._sums: dict[Modality, VectorSum] = {"image": VectorSum(), "text": VectorSum()}
        self.provenance: dict[str, Any] = {}

    def fit(
        self, image_features: Features, text_features: Features, provenance: dict[str, Any] | None = None
    ) -> GapRemover:
        """Forget everything and learn the means of these features.

        Args:
            image_features: (N, D) or (N, Q, D).
            text_features: (M, D); M need not be N.
            provenance: where the features came from.

        Raises:
            I0TError: NaN, infinite, zero-norm, empty or mis-shaped input, naming the row.
        """
        fresh = type(self)(**self.parameters())
        fresh.partial_fit(image_features, text_features)
        self._sums = fresh._sums
        self.provenance = dict(provenance or {})
        return self

    def partial_fit(self, image_features: Features | None = None, text_features: Features | None = None) -> GapRemover:
        """Add features to the means; either side may be left out. Raises as `fit`."""
        sums = {modality: VectorSum(held.total, held.count) for modality, held in self._sums.items()}
        known = next((len(held.total) for held in sums.values() if held.total is not None), None)
        for modality, features in (("image", image_features), ("text", text_features)):
            if features is not None:
                check_shape(features, f"{modality}_features", known)
                known = features.shape[-1]
                sums[modality].add(features, f"{modality}_features")
        self._sums = sums
        return self

    def merge(self, other: GapRemover) -> GapRemover:
        """A new remover whose means are those of all features both have seen (exact)."""
        if type(other) is not type(self) or other.parameters() != self.parameters():
            raise I0TError(f"merge: {other!r} is not the same remover as {self!r}.")
        merged = type(self)(**self.parameters())
        merged._sums = {modality: held.merged(other._sums[modality]) for modality, held in self._sums.items()}
        merged.provenance = {"merged": [self.provenance, other.provenance]}
        return merged

    @property
    def image_mean_(self) -> np.ndarray:
        """(D,) float64, the mean of the normalised image features seen."""
        return self._mean("image")

    @property
    def text_mean_(self) -> np.ndarray:
        """(D,) float64, the same for texts."""
        return self._mean("text")

    @property
    def n_images_(self) -> int:
        """Number of image vectors seen."""
        return self._sums["image"].count

    @property
    def n_texts_(self) -> int:
        """Number of text vectors seen."""
        return self._sums["text"].count

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 over sums and counts: which means a result rests on."""
        digest = hashlib.sha256(f"{self.n_images_},{self.n_texts_}".encode())
        for modality, held in self._sums.items():
            digest.update(self._mean(modality).tobytes() + str(held.count).encode())
        return digest.hexdigest()[:16]

    def transform_image(self, image_features: Features) -> Features:
        """Move image features; the input is left untouched.

        Args:
            image_features: (N, D) or (N, Q, D).

        Raises:
            I0TError: not fitted, other dimensions than fitted, or a bad row.
        """
        return self._transform(image_features, "image")

    def transform_text(self, text_features: Features) -> Features:
        """Move text features (M, D); as `transform_image`."""
        return self._transform(text_features, "text")

    def save(self, path: str | Path) -> Path:
        """Write the sums, parameters and provenance as one safetensors file."""
        from safetensors.numpy import save_file

        for modality in self._sums:
            self._mean(modality)  # raises unless fitted
        tensors = {f"{modality}_sum": held.total for modality, held in self._sums.items()}
        tensors["counts"] = np.array([self.n_images_, self.n_texts_], dtype=np.int64)
        header = {"remover": self.name, "parameters": self.parameters(), "provenance": self.provenance}
        with atomic_path(path) as temporary:
            encoded = {key: json.dumps(value) for key, value in header.items()}
            save_file(tensors, temporary, metadata={"format": FORMAT, **encoded})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, **parameters: float) -> GapRemover:
        """Read the means from a file that any gap remover saved.

        The means are the same statistics for all of them, so I0T_post may read what Mind-the-Gap
        saved; parameters not given are taken from the file when it is of this class.

        Raises:
            I0TError: missing, truncated or another format.
        """
        tensors, header = read_safetensors(
            path,
            FORMAT,
            "a file of modality means",
            ("image_sum", "text_sum", "counts"),
            ("remover", "parameters", "provenance"),
        )
        if json.loads(header["remover"]) == cls.name:
            parameters = {**json.loads(header["parameters"]), **parameters}
        remover = cls(**parameters)
        n_images, n_texts = (int(count) for count in tensors["counts"])
        remover._sums = {
            "image": VectorSum(tensors["image_sum"], n_images),
            "text": VectorSum(tensors["text_sum"], n_texts),
        }
        remover.provenance = json.loads(header["provenance"])
        return remover

    def parameters(self) -> dict[str, float]:
        """Constructor arguments, for records and files."""
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value}" for key, value in self.parameters().items())
        return f"{type(self).__name__}({arguments})"

    @abstractmethod
    def _offset(self, modality: Modality) -> np.ndarray:
        """(D,) what is added to every unit vector of this modality before it is normalised again."""

    def _mean(self, modality: Modality) -> np.ndarray:
        held = self._sums[modality]
        if held.total is None:
            raise I0TError(
                f"{type(self).__name__} has no {modality} mean yet: call fit(image_features, text_features)."
            )
        return held.total / held.count

    def _transform(self, features: Features, modality: Modality) -> Features:
        name = f"{modality}_features"
        offset = self._offset(modality)
        check_shape(features, name, len(offset))
        hint = f"becomes a zero vector under {self!r}: it equals the fitted mean and has no direction left"
        if is_torch(features):
            import torch

            work = features.float() if features.element_size() < 4 else features
            shift = torch.as_tensor(offset, device=features.device).to(work.dtype)
            moved = l2_normalize(l2_normalize(work, name) + shift, name, hint=hint)
            return moved.to(features.dtype)
        return shifted_units(features, offset, name, hint)

"""The contract of every gap remover: fit on one set of features, transform another, keep where the means came from."""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.features import Features, check_shape
from i0t.standardize.blocks import shifted_units
from i0t.standardize.means_file import MeansFile
from i0t.standardize.overlap import ItemHashes, Overlap, find_overlap, item_hashes, merged_hashes
from i0t.standardize.provenance import origin_of, require_same_model
from i0t.standardize.statistics import VectorSum

Modality = Literal["image", "text"]


class GapRemover(ABC, Generic[Features]):
    """Fit the modality means on one set, move the vectors of another.

    Inputs are NumPy arrays or torch tensors (N, D), or (N, Q, D) for multi-query models, whose Q
    vectors all count and move alike. They are L2-normalised first (section 4.2); what comes out is
    L2-normalised, of the same kind, shape, dtype and device. Sums are kept in float64.

    Attributes:
        image_mean_, text_mean_, n_images_, n_texts_: learned by `fit`; below.
        provenance: where the means came from (model, data set, counts); travels with `save`.
        items_: hashes of what `fit_embeddings` was given, by which `overlap` knows it again.
    """

    name: ClassVar[str]
    statistics: ClassVar[type[VectorSum]] = VectorSum  # what is learned of each modality
    keeps_stream: ClassVar[bool] = False  # whether its means are of a stream as well, as RunningStandardizer's

    def __init__(self) -> None:
        self._sums: dict[Modality, VectorSum] = {"image": self.statistics(), "text": self.statistics()}
        self.provenance: dict[str, Any] = {}
        self.items_: dict[str, ItemHashes] = {}

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
        self.provenance, self.items_ = dict(provenance or {}), {}
        return self

    def fit_embeddings(self, embeddings: Embeddings, provenance: dict[str, Any] | None = None) -> GapRemover:
        """`fit` to an Embeddings, and remember of which model and items it was.

        Args:
            embeddings: the calibration set.
            provenance: added to what its metadata say.

        Example:
            >>> from i0t import Standardizer
            >>> rows = np.random.default_rng(0).normal(size=(2, 40, 8)).astype("float32")
            >>> names = [f"{row}.jpg" for row in range(40)]
            >>> both = Embeddings(*rows, np.arange(40), names, names, metadata={"model": "tiny"})
            >>> fitted = Standardizer().fit_embeddings(both)
            >>> fitted.provenance["model"], fitted.provenance["n_images"]
            ('tiny', 40)
            >>> str(fitted.overlap(both))
            '100.0 % of the images and 100.0 % of the texts were fitted'
        """
        self.fit(embeddings.image_features, embeddings.text_features, {**origin_of(embeddings), **(provenance or {})})
        self.items_ = item_hashes(embeddings)
        return self

    def partial_fit(self, image_features: Features | None = None, text_features: Features | None = None) -> GapRemover:
        """Add features to the means; either side may be left out. Raises as `fit`."""
        sums = {modality: held.copy() for modality, held in self._sums.items()}
        known = next((len(held.total) for held in sums.values() if held.total is not None), None)
        for modality, features in (("image", image_features), ("text", text_features)):
            if features is not None:
                check_shape(features, f"{modality}_features", known)
                known = features.shape[-1]
                sums[modality].add(features, f"{modality}_features")
        self._sums, self.items_ = sums, {}  # bare arrays name no items, so no overlap can be excluded any more
        return self

    def merge(self, other: GapRemover) -> GapRemover:
        """A new remover whose means are those of all features both have seen (exact)."""
        if type(other) is not type(self) or other.parameters() != self.parameters():
            raise I0TError(f"merge: {other!r} is not the same remover as {self!r}.")
        merged = type(self)(**self.parameters())
        merged._sums = {modality: held.merged(other._sums[modality]) for modality, held in self._sums.items()}
        merged.provenance = {"merged": [self.provenance, other.provenance]}
        known = [part.items_ for part in (self, other) if part.n_images_ + part.n_texts_]
        if known and all(known):  # where one part knows its items only, no overlap could be excluded
            merged.items_ = reduce(merged_hashes, known)
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
            for name, sums in held.tensors().items():
                if name != "sum":  # which the mean stands for
                    digest.update(sums.tobytes())
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

    def transform_embeddings(self, embeddings: Embeddings) -> Embeddings:
        """Move both modalities of one file's content; its metadata then say by what.

        Warns of items that were fitted as well: on them the gap looks smaller than it is.

        Raises:
            I0TError: fitted to another model, or to other dimensions.
        """
        require_same_model(self.provenance, embeddings)
        found = self.overlap(embeddings)
        if found:
            warnings.warn(f"{self!r}: {found}; on those the gap looks smaller than it is", stacklevel=2)
        moved = embeddings.with_features(
            self.transform_image(embeddings.image_features), self.transform_text(embeddings.text_features)
        )
        by = {"remover": self.name, "parameters": self.parameters(), "fingerprint": self.fingerprint}
        report = {**by, "provenance": self.provenance, "overlap": found.record()}
        return replace(moved, metadata={**embeddings.metadata, "gap_removed": report})

    def overlap(self, embeddings: Embeddings) -> Overlap:
        """How much of `embeddings` was fitted, by hashes of vectors and names; falsy for nothing found."""
        return find_overlap(self.items_, embeddings)

    def affine(self, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
        """Factor (D,) or (D, D) and bias (D,) of x' = N(factor x + bias), x a unit vector.

        For vector stores that take one matrix and bias: a factor (D,) is the diagonal of the matrix.
        """
        offset = self._offset(modality)
        return np.ones_like(offset), offset

    def save(self, path: str | Path) -> Path:
        """Write the sums, parameters and provenance as one safetensors file."""
        for modality in self._sums:
            self._mean(modality)  # raises unless fitted
        return MeansFile(
            remover=self.name,
            parameters=self.parameters(),
            provenance=self.provenance,
            tensors={f"{modality}_{name}": sums for modality in self._sums for name, sums in self._tensors(modality)},
            counts=np.array([self.n_images_, self.n_texts_], dtype=np.int64),
            items=self.items_,
        ).save(path)

    @classmethod
    def load(cls, path: str | Path, **parameters: float) -> GapRemover:
        """Read the means from a file that any gap remover saved.

        The means are the same statistics for all of them, so I0T_post may read what Mind-the-Gap
        saved; parameters not given are taken from the file when it is of this class.

        Raises:
            I0TError: missing, truncated or another format, or with a stream that this class knows nothing of.
        """
        file = MeansFile.load(path)
        if not cls.keeps_stream:
            file.refuse_stream(path, cls.__name__)
        if file.remover == cls.name:
            parameters = {**file.parameters, **parameters}
        remover = cls(**parameters)
        try:
            for modality, count in zip(remover._sums, file.counts, strict=True):
                remover._restore(modality, file.tensors, int(count))
        except I0TError as error:
            raise I0TError(f"{path}: {error}. Fit it again, as {cls.name}.") from None
        remover.provenance, remover.items_ = file.provenance, file.items
        return remover

    def parameters(self) -> dict[str, float | None]:
        """Constructor arguments, for records and files."""
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value}" for key, value in self.parameters().items())
        return f"{type(self).__name__}({arguments})"

    @abstractmethod
    def _offset(self, modality: Modality) -> np.ndarray:
        """(D,) what is added to every unit vector of this modality before it is normalised again."""

    def _tensors(self, modality: Modality) -> list[tuple[str, np.ndarray]]:
        return list(self._sums[modality].tensors().items())

    def _restore(self, modality: Modality, tensors: dict[str, np.ndarray], count: int) -> None:
        own = {key.removeprefix(f"{modality}_"): value for key, value in tensors.items() if key.startswith(modality)}
        self._sums[modality] = self.statistics.from_tensors(own, count)

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
        return shifted_units(features, offset, name, hint)

"""`GapRemover`, the contract of gap removers, and I0T_post: fit to one set of features, move another.

Shapes: N items, Q vectors per item (BLIP-2 queries), D dimensions.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError, first_line
from i0t.features import Features, check_shape
from i0t.origin import Origin
from i0t.standardize.arithmetic import AffineMap, VectorSum
from i0t.standardize.overlap import ItemHashes, Overlap, find_overlap, item_hashes
from i0t.standardize.saved import FittedFile

Modality = Literal["image", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
LARGEST = float(np.finfo(np.float32).max)


def fitted_origin(embeddings: Embeddings) -> Origin:
    """Origin of a calibration set, for a fitted file: model, data set, counts, hash of the features."""
    return replace(embeddings.origin, data_sha256=embeddings.features_sha256, extra={})


class GapRemover(ABC):
    """Learns from one set of features how to move the vectors of another.

    A subclass defines `name` and `map`. The arguments of its constructor are its parameters: numbers,
    strings or bools, kept as attributes of the same name. Files, records and program flags read them from the
    signature, and their help from "Args:" in the class's docstring.

    Inputs are NumPy arrays or torch tensors (N, D), or (N, Q, D) for multi-query models, whose Q vectors
    are treated alike. They are normalised first (section 4.2). Outputs are normalised, and of the same
    kind, shape, dtype and device. Sums are kept in float64.

    Attributes:
        origin: where the fitted vectors come from (model, data set, counts); saved with the remover.
        items_: hashes of the items of `fit_embeddings`, with which `overlap` recognises them.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""  # name in tables, if not `name`
    statistics: ClassVar[type[VectorSum]] = VectorSum  # learned per modality
    keeps_stream: ClassVar[bool] = False  # whether it can load stream means, as in RunningStandardizer's files

    def __init__(self) -> None:
        self._sums: dict[Modality, VectorSum] = {"image": self.statistics(), "text": self.statistics()}
        self.origin = Origin()
        self.items_: dict[str, ItemHashes] = {}

    @abstractmethod
    def map(self, modality: Modality) -> AffineMap:
        """Return the map of unit vectors of a modality; use `self.mean(modality)` or `self.learned(modality)`."""

    def finite_map(self, modality: Modality) -> AffineMap:
        """Return `map`; all its values must be finite in float32.

        Raises:
            I0TError: they are not, or it is not fitted.
        """
        found = self.map(modality)
        parts = [np.asarray(part) for part in (found.offset, found.factor, found.bias) if part is not None]
        if not all((np.abs(part) <= LARGEST).all() for part in parts):  # also false for NaN
            raise I0TError(
                f"remover {self!r} gives values that are not finite for {modality}s. Choose other parameters, or "
                "correct its map."
            )
        return found

    def mean(self, modality: Modality) -> np.ndarray:
        """(D,) float64, mean of the fitted unit vectors.

        Raises:
            I0TError: not fitted.
        """
        return self.learned(modality).mean

    def learned(self, modality: Modality) -> Any:
        """Return the fitted `statistics` of a modality. Raises as `mean`."""
        if not self._sums[modality].count:
            raise I0TError(
                f"{type(self).__name__} has no {modality} mean yet: call fit(image_features, text_features)."
            )
        return self._sums[modality]

    def parameters(self) -> dict[str, Any]:
        """Return the constructor arguments, for records and files."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fit(
        self, image_features: Features, text_features: Features, origin: Origin | Mapping[str, Any] | None = None
    ) -> GapRemover:
        """Forget everything and learn from these features.

        Args:
            image_features: (N, D) or (N, Q, D).
            text_features: (M, D); M need not be N.
            origin: where the features come from.

        Raises:
            I0TError: NaN, infinite, zero, empty or mis-shaped input; names the row.
        """
        fresh = type(self)(**self.parameters())
        self._sums = fresh.partial_fit(image_features, text_features)._sums
        self.origin = origin if isinstance(origin, Origin) else Origin.from_dict(origin or {})
        self.items_ = {}
        return self

    def fit_embeddings(self, embeddings: Embeddings, **origin: Any) -> GapRemover:
        """Fit to an Embeddings; keep its origin and item hashes.

        Args:
            embeddings: the calibration set.
            **origin: further entries of the origin, e.g. `fit_on="test"`.
        """
        known = fitted_origin(embeddings).as_dict()
        self.fit(embeddings.image_features, embeddings.text_features, {**known, **origin})
        self.items_ = item_hashes(embeddings)
        return self

    def partial_fit(self, image_features: Features | None = None, text_features: Features | None = None) -> GapRemover:
        """Learn from more features of one or both modalities. Raises as `fit`."""
        sums = dict(self._sums)
        known = next((held.sums["sum"].size for held in sums.values() if held.count), None)
        for modality, features in zip(MODALITIES, (image_features, text_features), strict=True):
            if features is not None:
                check_shape(features, f"{modality}_features", known)
                known = features.shape[-1]
                sums[modality] = sums[modality].plus(features, f"{modality}_features")
        self._sums, self.items_ = sums, {}  # items of plain arrays are unknown, so overlaps are, too
        return self

    def merge(self, other: GapRemover) -> GapRemover:
        """Return a new remover, as fitted to all features of both (exact)."""
        if type(other) is not type(self) or other.parameters() != self.parameters():
            raise I0TError(f"merge: {other!r} is not the same remover as {self!r}.")
        merged = type(self)(**self.parameters())
        merged._sums = {modality: held.merged(other._sums[modality]) for modality, held in self._sums.items()}
        widths = [held.sums["sum"].size for held in (*self._sums.values(), *other._sums.values()) if held.count]
        if len(set(widths)) > 1:
            raise I0TError(f"merge: {widths[-1]} dimensions, expected {widths[0]}.")
        merged.origin = Origin(merged=(self.origin, other.origin))
        known = [part.items_ for part in (self, other) if part.n_images_ + part.n_texts_]
        if known and all(known):  # if one part does not know its items, overlaps are unknown
            merged.items_ = reduce(lambda one, two: {kind: one[kind].merged(two[kind]) for kind in one}, known)
        return merged

    @property
    def image_mean_(self) -> np.ndarray:
        """(D,) float64, mean of the fitted image features, normalised."""
        return self.mean("image")

    @property
    def text_mean_(self) -> np.ndarray:
        """(D,) float64, mean of the fitted text features, normalised."""
        return self.mean("text")

    @property
    def n_images_(self) -> int:
        """Number of fitted image vectors."""
        return self._sums["image"].count

    @property
    def n_texts_(self) -> int:
        """Number of fitted text vectors."""
        return self._sums["text"].count

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 over sums and counts: identifies the statistics of a result."""
        digest = hashlib.sha256(f"{self.n_images_},{self.n_texts_}".encode())
        for modality, held in self._sums.items():
            digest.update(self.mean(modality).tobytes() + str(held.count).encode())
            for name, sums in held.sums.items():
                if name != "sum":  # the mean has it
                    digest.update(sums.tobytes())
        return digest.hexdigest()[:16]

    def transform_image(self, image_features: Features) -> Features:
        """Move image features (N, D) or (N, Q, D); returns new features.

        Raises:
            I0TError: not fitted, other dimensions, or a bad row.
        """
        return self._transform(image_features, "image")

    def transform_text(self, text_features: Features) -> Features:
        """Move text features (M, D); as `transform_image`."""
        return self._transform(text_features, "text")

    def transform_embeddings(
        self, embeddings: Embeddings, check_overlap: bool = True, in_float64: bool = False
    ) -> Embeddings:
        """Move both modalities; the new metadata describe the remover.

        Args:
            embeddings: embeddings to move.
            check_overlap: warn of fitted items among them, for which the gap looks smaller than it is.
            in_float64: as in `AffineMap.apply`.

        Raises:
            I0TError: fitted to another model, or to other dimensions.
        """
        self.origin.require_same_model(embeddings.origin)
        found = self.overlap(embeddings) if check_overlap else None
        if found:
            warnings.warn(f"{self!r}: {found}; on those the gap looks smaller than it is", stacklevel=2)
        moved = embeddings.with_features(
            self._transform(embeddings.image_features, "image", in_float64),
            self._transform(embeddings.text_features, "text", in_float64),
        )
        report = {**self.description(), "overlap": found.record() if found is not None else None}
        return replace(moved, metadata={**embeddings.metadata, "gap_removed": report})

    def _transform(self, features: Features, modality: Modality, in_float64: bool = False) -> Features:
        hint = f"becomes a zero vector under {self!r}: it equals the fitted mean and has no direction left"
        return self.finite_map(modality).apply(features, f"{modality}_features", hint, in_float64)

    def overlap(self, embeddings: Embeddings) -> Overlap:
        """Find out how many items of `embeddings` were fitted, from hashes of vectors and names."""
        return find_overlap(self.items_, embeddings)

    def affine(self, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
        """Factor (D,) or (D, D) and bias (D,) of x' = N(factor x + bias), x a unit vector."""
        return self.finite_map(modality).factor_and_bias()

    def description(self) -> dict[str, Any]:
        """Describe this remover, for the metadata of moved vectors."""
        return {
            "remover": self.name,
            "parameters": self.parameters(),
            "fingerprint": self.fingerprint,
            "provenance": self.origin.as_dict(),
        }

    def save(self, path: str | Path) -> Path:
        """Save sums, parameters, origin and item hashes as one safetensors file."""
        return self.fitted_file().save(path)

    def fitted_file(self) -> FittedFile:
        """Content of the file that `save` writes."""
        return FittedFile(
            remover=self.name,
            parameters=self.parameters(),
            origin=self.origin,
            tensors={
                f"{modality}_{name}": sums for modality in self._sums for name, sums in self._tensors(modality).items()
            },
            counts=np.array([self.n_images_, self.n_texts_], dtype=np.int64),
            items=self.items_,
        )

    @classmethod
    def load(cls, path: str | Path, **parameters: Any) -> GapRemover:
        """Load the sums that any gap remover saved.

        All removers save the same sums, so I0T_post can load what Mind-the-Gap saved. Parameters default to
        those of the file, if the file is of this class.

        Raises:
            I0TError: missing, truncated or another format, or with stream means that this class cannot use.
        """
        return cls.of_file(FittedFile.load(path), path, **parameters)

    @classmethod
    def of_file(cls, file: FittedFile, path: str | Path, **parameters: Any) -> GapRemover:
        """Build from the content of a file; as `load`."""
        streamed = sum(int(file.tensors[key][0]) for key in file.tensors if key.endswith("_stream_count"))
        if streamed and not cls.keeps_stream:
            raise I0TError(
                f"{path}: its means moved with {streamed} vectors of a stream, which {cls.__name__} would leave out. "
                "Load it with RunningStandardizer (i0t.standardize), or move shards with "
                f"`i0t standardize apply {path}`."
            )
        if file.remover == cls.name:
            parameters = {**file.parameters, **parameters}
        try:
            remover = cls(**parameters)
        except (TypeError, ValueError) as error:
            raise I0TError(
                f"{path}: its parameters {parameters!r:.80} do not suit {cls.__name__} ({first_line(error)})."
            ) from None
        try:
            for modality, count in zip(remover._sums, file.counts, strict=True):
                prefix = f"{modality}_"
                own = {key.removeprefix(prefix): sums for key, sums in file.tensors.items() if key.startswith(prefix)}
                remover._restore(modality, own, int(count))
        except I0TError as error:
            raise I0TError(f"{path}: {error}. Fit it again, as {cls.name}.") from None
        remover.origin, remover.items_ = file.origin, dict(file.items)
        return remover

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value}" for key, value in self.parameters().items())
        return f"{type(self).__name__}({arguments})"

    def _tensors(self, modality: Modality) -> dict[str, np.ndarray]:
        """Return the statistics of a modality, for a file."""
        return dict(self.learned(modality).sums)

    def _restore(self, modality: Modality, tensors: Mapping[str, np.ndarray], count: int) -> None:
        """Restore the statistics of a modality from a file."""
        self._sums[modality] = self.statistics.from_sums(tensors, count)


class Standardizer(GapRemover):
    """I0T_post: x' = N(x - mean of images), y' = N(y - mean of texts) (paper section 4.2).

    The paper takes the means of the evaluated set itself, which leaks (`--fit-on test` reproduces it).
    Here fitting and transforming are two calls, so that the means can come from other data.
    """

    name, label = "i0t_post", "centred (I0T_post)"

    def map(self, modality: Modality) -> AffineMap:
        """Subtract the mean."""
        return AffineMap(-self.mean(modality))

"""The contract of every gap remover, and I0T_post: fit on one set of features, move another, know their origin.

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

from i0t.embeddings import Embeddings, Origin
from i0t.errors import I0TError
from i0t.features import Features, check_shape
from i0t.standardize.arithmetic import AffineMap, VectorSum
from i0t.standardize.saved import FittedFile, ItemHashes, Overlap, find_overlap, item_hashes

Modality = Literal["image", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
LARGEST = float(np.finfo(np.float32).max)


def fitted_origin(embeddings: Embeddings) -> Origin:
    """What a fitted file says of its calibration set: model, data set, counts, hash of the features."""
    return replace(embeddings.origin, data_sha256=embeddings.features_sha256, extra={})


class GapRemover(ABC):
    """Learns from one set of features how to move the vectors of another.

    A subclass has a `name` and a `map`, from which all else follows. The arguments of its
    constructor are its parameters: numbers, strings or bools, kept under their own names; files, records
    and every program's flags know them from the signature, and their help from "Args:" of the
    class's docstring.

    Inputs are NumPy arrays or torch tensors (N, D), or (N, Q, D) for multi-query models, whose Q
    vectors all count and move alike. They are normalised first (section 4.2); what comes out is
    normalised, of the same kind, shape, dtype and device. Sums are kept in float64.

    Attributes:
        image_mean_, text_mean_, n_images_, n_texts_: learned by `fit`; below.
        origin: where the fitted vectors came from (model, data set, counts); travels with `save`.
        items_: hashes of what `fit_embeddings` has seen, by which `overlap` knows it again.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""  # how tables call it; its name, where this is empty
    statistics: ClassVar[type[VectorSum]] = VectorSum  # what is learned of each modality
    keeps_stream: ClassVar[bool] = False  # whether it knows the means of a stream, as RunningStandardizer's files have

    def __init__(self) -> None:
        self._sums: dict[Modality, VectorSum] = {"image": self.statistics(), "text": self.statistics()}
        self.origin = Origin()
        self.items_: dict[str, ItemHashes] = {}

    @abstractmethod
    def map(self, modality: Modality) -> AffineMap:
        """How unit vectors of a modality move, by what was learned: `self.mean("image")`, `self.learned("image")`."""

    def finite_map(self, modality: Modality) -> AffineMap:
        """`map`, whose values must be finite in float32.

        Raises:
            I0TError: they are not, or it is not fitted.
        """
        found = self.map(modality)
        parts = [np.asarray(part) for part in (found.offset, found.factor, found.bias) if part is not None]
        if not all((np.abs(part) <= LARGEST).all() for part in parts):  # which a NaN is not, either
            raise I0TError(
                f"remover {self!r} gives values that are not finite for {modality}s. Choose other parameters, or "
                "correct its map."
            )
        return found

    def mean(self, modality: Modality) -> np.ndarray:
        """(D,) float64, the mean of the unit vectors seen.

        Raises:
            I0TError: not fitted.
        """
        return self.learned(modality).mean

    def learned(self, modality: Modality) -> Any:
        """The fitted `statistics` of a modality. Raises as `mean`."""
        if not self._sums[modality].count:
            raise I0TError(
                f"{type(self).__name__} has no {modality} mean yet: call fit(image_features, text_features)."
            )
        return self._sums[modality]

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments, for records and files."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fit(
        self, image_features: Features, text_features: Features, origin: Origin | Mapping[str, Any] | None = None
    ) -> GapRemover:
        """Forget everything and learn from these features.

        Args:
            image_features: (N, D) or (N, Q, D).
            text_features: (M, D); M need not be N.
            origin: where the features came from.

        Raises:
            I0TError: NaN, infinite, zero-norm, empty or mis-shaped input, naming the row.
        """
        fresh = type(self)(**self.parameters())
        self._sums = fresh.partial_fit(image_features, text_features)._sums
        self.origin = origin if isinstance(origin, Origin) else Origin.from_dict(origin or {})
        self.items_ = {}
        return self

    def fit_embeddings(self, embeddings: Embeddings, **origin: Any) -> GapRemover:
        """`fit` to an Embeddings, and remember of which model and items it was.

        Args:
            embeddings: the calibration set.
            **origin: said beside what its metadata say, e.g. `fit_on="test"`.
        """
        known = fitted_origin(embeddings).as_dict()
        self.fit(embeddings.image_features, embeddings.text_features, {**known, **origin})
        self.items_ = item_hashes(embeddings)
        return self

    def partial_fit(self, image_features: Features | None = None, text_features: Features | None = None) -> GapRemover:
        """Learn from more features; either side may be left out. Raises as `fit`."""
        sums = dict(self._sums)
        known = next((held.sums["sum"].size for held in sums.values() if held.count), None)
        for modality, features in zip(MODALITIES, (image_features, text_features), strict=True):
            if features is not None:
                check_shape(features, f"{modality}_features", known)
                known = features.shape[-1]
                sums[modality] = sums[modality].plus(features, f"{modality}_features")
        self._sums, self.items_ = sums, {}  # bare arrays name no items, so no overlap can be excluded any more
        return self

    def merge(self, other: GapRemover) -> GapRemover:
        """A new remover that has learned from all features both have seen (exact)."""
        if type(other) is not type(self) or other.parameters() != self.parameters():
            raise I0TError(f"merge: {other!r} is not the same remover as {self!r}.")
        merged = type(self)(**self.parameters())
        merged._sums = {modality: held.merged(other._sums[modality]) for modality, held in self._sums.items()}
        merged.origin = Origin(merged=(self.origin, other.origin))
        known = [part.items_ for part in (self, other) if part.n_images_ + part.n_texts_]
        if known and all(known):  # where one part knows its items only, no overlap could be excluded
            merged.items_ = reduce(lambda one, two: {kind: one[kind].merged(two[kind]) for kind in one}, known)
        return merged

    @property
    def image_mean_(self) -> np.ndarray:
        """(D,) float64, the mean of the normalised image features seen."""
        return self.mean("image")

    @property
    def text_mean_(self) -> np.ndarray:
        """(D,) float64, the same for texts."""
        return self.mean("text")

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
            digest.update(self.mean(modality).tobytes() + str(held.count).encode())
            for name, sums in held.sums.items():
                if name != "sum":  # which the mean stands for
                    digest.update(sums.tobytes())
        return digest.hexdigest()[:16]

    def transform_image(self, image_features: Features) -> Features:
        """Move image features (N, D) or (N, Q, D); the input is left untouched.

        Raises:
            I0TError: not fitted, other dimensions than fitted, or a bad row.
        """
        return self._transform(image_features, "image")

    def transform_text(self, text_features: Features) -> Features:
        """Move text features (M, D); as `transform_image`."""
        return self._transform(text_features, "text")

    def transform_embeddings(
        self, embeddings: Embeddings, check_overlap: bool = True, in_float64: bool = False
    ) -> Embeddings:
        """Move both modalities; the metadata then say by what.

        Args:
            embeddings: what to move.
            check_overlap: warn of items that were fitted as well: on them the gap looks smaller than it is.
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
        """How much of `embeddings` was fitted, by hashes of vectors and names; falsy for nothing found."""
        return find_overlap(self.items_, embeddings)

    def affine(self, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
        """Factor (D,) or (D, D) and bias (D,) of x' = N(factor x + bias), x a unit vector."""
        return self.finite_map(modality).factor_and_bias()

    def description(self) -> dict[str, Any]:
        """What moved vectors, and a file that moves them, say of this remover."""
        return {
            "remover": self.name,
            "parameters": self.parameters(),
            "fingerprint": self.fingerprint,
            "provenance": self.origin.as_dict(),
        }

    def save(self, path: str | Path) -> Path:
        """Write sums, parameters and origin as one safetensors file."""
        return FittedFile(
            remover=self.name,
            parameters=self.parameters(),
            origin=self.origin,
            tensors={
                f"{modality}_{name}": sums for modality in self._sums for name, sums in self._tensors(modality).items()
            },
            counts=np.array([self.n_images_, self.n_texts_], dtype=np.int64),
            items=self.items_,
        ).save(path)

    @classmethod
    def load(cls, path: str | Path, **parameters: Any) -> GapRemover:
        """Read what was learned from a file that any gap remover saved.

        The sums are the same for all of them, so I0T_post may read what Mind-the-Gap saved;
        parameters not named are taken from the file when it is of this class.

        Raises:
            I0TError: missing, truncated or another format, or with a stream that this class knows nothing of.
        """
        file = FittedFile.load(path)
        streamed = sum(int(file.tensors[key][0]) for key in file.tensors if key.endswith("_stream_count"))
        if streamed and not cls.keeps_stream:
            raise I0TError(
                f"{path}: its means moved with {streamed} vectors of a stream, which {cls.__name__} would leave out. "
                "Load it with RunningStandardizer (i0t.standardize), or move shards with "
                f"`i0t standardize apply {path}`."
            )
        if file.remover == cls.name:
            parameters = {**file.parameters, **parameters}
        remover = cls(**parameters)
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
        """What was learned of a modality, for a file."""
        return dict(self.learned(modality).sums)

    def _restore(self, modality: Modality, tensors: Mapping[str, np.ndarray], count: int) -> None:
        """Take up what `_tensors` wrote."""
        self._sums[modality] = self.statistics.from_sums(tensors, count)


class Standardizer(GapRemover):
    """I0T_post: x' = N(x - mean of images), y' = N(y - mean of texts) (paper section 4.2).

    The paper takes the means over the evaluated set itself; that leaks and is reproduced with
    `--fit-on test`. Here fitting and transforming are two calls, so that the means can come from
    other data.
    """

    name, label = "i0t_post", "centred (I0T_post)"

    def map(self, modality: Modality) -> AffineMap:
        """Subtract the mean."""
        return AffineMap(-self.mean(modality))

"""`ScoreStandardizer`: cosines of all kinds of pairs on one scale, so that one list can rank images and texts.

Removing the means makes cosines of different kinds of pairs comparable on average, not in spread. So the *score* of
each kind pair (image-image, image-text, text-text) is standardised, with what unlabelled cohorts of each kind say:

    s' = ((s - mean_q) / deviation_q + (s - mean_d) / deviation_d) / 2

- "constants": mean and deviation are those of the kind pair: eight numbers for two kinds.
- "adaptive": those of the query's largest cosines with the cohort of the item's kind, and of the item's largest with
  the cohort of the query's kind. This is the adaptive symmetric normalisation (AS-norm) of speaker verification
  (Cumani et al. 2011; Matejka et al. 2017) per kind pair.

Shapes: N vectors, A queries, C items, D dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.features import to_numpy
from i0t.origin import Origin
from i0t.search.score_arithmetic import (
    as_library,
    cosine_blocks,
    library_of,
    nearest_scales,
    pair_scale,
    require_spread,
    standardized,
    unit_float32,
)
from i0t.search.score_file import ScoreFile
from i0t.standardize import MODALITIES, GapRemover, Modality, Overlap, fitted_origin
from i0t.standardize.overlap import ItemHashes, find_overlap, fitted_rows, item_hashes
from i0t.standardize.saved_sums import REMEDY
from i0t.standardize.second_moments import FullMoments

Form = Literal["constants", "adaptive"]
FORMS: tuple[Form, ...] = ("constants", "adaptive")


class ScoreStandardizer:
    """Learns from unlabelled items of each kind how to put the cosines of all kind pairs on one scale.

    Kinds are names, two or more: image, text, audio. A gap remover may move the vectors first; it is fitted with the
    scores, so that one object gives both: `vectors` and `scores`. Inputs are NumPy arrays or torch tensors (N, D),
    normalised first.

    Args:
        remover: moves images and texts before their cosines are taken; None: vectors stay.
        form: "constants" or "adaptive".
        share: share of a cohort whose cosines count as the largest, for "adaptive".

    Attributes:
        origin: where the cohorts come from (model, data set, counts); saved with the constants.

    Raises:
        I0TError: no such form, or a share outside 0..1.
    """

    def __init__(self, remover: GapRemover | None = None, form: Form = "adaptive", share: float = 0.1) -> None:
        if form not in FORMS:
            raise I0TError(f"form: {form!r} is none of {', '.join(FORMS)}.")
        if not 0 < share < 1:
            raise I0TError(f"share: {share} is outside 0..1.")
        self.remover, self.form, self.share = remover, form, share
        self.origin = Origin()
        self._sums: dict[str, FullMoments] = {}
        self._cohorts: dict[str, np.ndarray] = {}
        self._items: dict[str, ItemHashes] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the fitted kinds."""
        return tuple(self._sums)

    @property
    def counts(self) -> dict[str, int]:
        """Number of fitted vectors of each kind."""
        return {kind: held.count for kind, held in self._sums.items()}

    def fit(self, cohorts: Mapping[str, Any], origin: Origin | Mapping[str, Any] | None = None) -> ScoreStandardizer:
        """Forget everything and learn from unlabelled vectors of each kind; the remover is fitted, too.

        Args:
            cohorts: kind to (N, D), at least three vectors of each kind; no pairs are needed.
            origin: where they come from.

        Raises:
            I0TError: NaN, infinite, zero, empty or mis-shaped input; or a remover, and kinds besides image and text.
        """
        if not cohorts:
            raise I0TError(
                "scores: no kinds to fit. Give a mapping of names, such as image and text, to their vectors."
            )
        if self.remover is not None:
            self._require_modalities(cohorts)
            missing = [kind for kind in MODALITIES if kind not in cohorts]
            if missing:
                raise I0TError(f"scores: no {missing[0]} vectors, and a gap remover is fitted to images and texts.")
            fresh = type(self.remover)(**self.remover.parameters())
            self.remover = fresh.fit(cohorts["image"], cohorts["text"], origin)
        self._sums, self._cohorts = {}, {}
        self.partial_fit(cohorts)
        self.origin = origin if isinstance(origin, Origin) else Origin.from_dict(origin or {})
        return self

    def fit_embeddings(self, embeddings: Embeddings) -> ScoreStandardizer:
        """Fit to the images and texts of an Embeddings; keep its origin and item hashes."""
        self.fit({"image": embeddings.image_features, "text": embeddings.text_features}, fitted_origin(embeddings))
        self._items = item_hashes(embeddings)
        return self

    def partial_fit(self, cohorts: Mapping[str, Any]) -> ScoreStandardizer:
        """Learn from more vectors of one or several kinds; the remover, already fitted, stays. Raises as `fit`.

        The constants are exact for any number of vectors, in O(D^2) memory; the adaptive form keeps all vectors.
        """
        sums, kept = dict(self._sums), dict(self._cohorts)
        for kind, features in cohorts.items():
            dim = next((held.sums["sum"].size for held in sums.values()), None)
            vectors = to_numpy(self.vectors(features, kind, dim)).astype(np.float32, copy=False)
            sums[kind] = sums.get(kind, FullMoments()).plus(vectors, kind)
            if self.form == "adaptive":
                kept[kind] = np.concatenate([*([kept[kind]] if kind in kept else []), vectors])
        self._sums, self._cohorts, self._items = sums, kept, {}
        return self

    def merge(self, other: ScoreStandardizer) -> ScoreStandardizer:
        """Return a new standardizer, as fitted to the cohorts of both (exact).

        Raises:
            I0TError: another form or share, or another remover or one that is fitted to other vectors.
        """
        if self._parameters() != other._parameters():
            raise I0TError(f"merge: {other._parameters()} cannot be merged with {self._parameters()}.")
        merged = ScoreStandardizer(self.remover, self.form, self.share)
        for kind in dict.fromkeys([*self.kinds, *other.kinds]):
            parts = [part for part in (self, other) if kind in part._sums]
            held = parts[0]._sums[kind]
            merged._sums[kind] = held if len(parts) == 1 else held.merged(other._sums[kind])
            if self.form == "adaptive":
                merged._cohorts[kind] = np.concatenate([part._cohorts[kind] for part in parts])
        if self._items and other._items:
            merged._items = {name: held.merged(other._items[name]) for name, held in self._items.items()}
        merged.origin = Origin(merged=(self.origin, other.origin))
        return merged

    def mean(self, kind: Modality) -> np.ndarray:
        """(D,) float64, mean of the fitted unit vectors of a kind, not moved; raises as `scale`."""
        self._require_fitted(kind)
        return self._sums[kind].mean if self.remover is None else self.remover.mean(kind)

    def vectors(self, features: Any, kind: str, dim: int | None = None) -> Any:
        """(N, D) unit vectors, moved by the remover if there is one: what the index of this kind holds.

        Raises:
            I0TError: a bad row, other dimensions than `dim`, or a kind that the remover does not know.
        """
        unit = unit_float32(features, f"{kind} vectors", dim)
        if self.remover is None:
            return unit
        self._require_modalities([kind])
        return self.remover.transform_image(unit) if kind == "image" else self.remover.transform_text(unit)

    def scale(self, kind: str, other: str) -> np.ndarray:
        """(2,) float64 mean and deviation of the cosines of a kind pair.

        Raises:
            I0TError: an unknown kind, fewer than three vectors of it, or cosines that do not vary.
        """
        self._require_fitted(kind, other)
        pair = pair_scale(self._sums[kind], self._sums[other], kind == other)
        require_spread(pair, kind, other)
        return pair

    def scales(self, features: Any, kind: str, against: str) -> Any:
        """(N, 2) mean and deviation for each vector of a kind, as a query or an item, against another kind.

        These are all that is stored with an item, for each kind of query. With "constants" all rows are equal.

        Args:
            features: (N, D), not moved.
            kind: of the vectors.
            against: kind at the other side of the score.
        """
        return self.scales_of_vectors(self.vectors(features, kind, self._dim), kind, against)

    def scales_of_vectors(self, vectors: Any, kind: str, against: str) -> Any:
        """`scales` of vectors that are already unit vectors and moved."""
        pair = self.scale(kind, against)
        if self.form == "constants":
            return as_library(np.tile(pair, (len(vectors), 1)), vectors)
        cohort = as_library(self._cohorts[against], vectors)
        top = min(max(2, round(self.share * len(cohort))), len(cohort) - 1)
        return nearest_scales(vectors, cohort, top, pair, kind == against)

    def score_blocks(self, queries: Any, query_kind: str, items: Any, item_kind: str) -> Iterator[tuple[slice, Any]]:
        """Yield standardised scores (rows, C) of a block of queries with all items, in bounded memory.

        Args:
            queries: (A, D), not moved.
            query_kind: their kind.
            items: (C, D), not moved.
            item_kind: their kind.
        """
        asking, found = self.vectors(queries, query_kind, self._dim), self.vectors(items, item_kind, self._dim)
        item_scales = self.scales_of_vectors(found, item_kind, query_kind)
        query_scales = self.scales_of_vectors(asking, query_kind, item_kind)
        for rows, cosines in cosine_blocks(asking, found):
            yield rows, standardized(cosines, query_scales[rows], item_scales)

    def scores(self, queries: Any, query_kind: str, items: Any, item_kind: str) -> Any:
        """(A, C) standardised scores of queries with items; arguments as `score_blocks`."""
        blocks = [block for _, block in self.score_blocks(queries, query_kind, items, item_kind)]
        return library_of(blocks[0]).concatenate(blocks)

    def pair_scores(self, queries: Any, query_kind: str, items: Any, item_kind: str) -> Any:
        """(N,) standardised scores of row i of `queries` with row i of `items`; arguments as `score_blocks`."""
        asking, found = self.vectors(queries, query_kind, self._dim), self.vectors(items, item_kind, self._dim)
        item_scales = self.scales_of_vectors(found, item_kind, query_kind)
        query_scales = self.scales_of_vectors(asking, query_kind, item_kind)
        return standardized((asking * found).sum(-1)[:, None], query_scales, item_scales[:, None])[:, 0]

    def fitted_rows(self, embeddings: Embeddings) -> tuple[np.ndarray, np.ndarray]:
        """(N,) and (M,) bool, whether an image's or a text's vector was fitted, as far as that is known."""
        if not self._items:
            return np.zeros(len(embeddings.image_features), bool), np.zeros(len(embeddings.text_features), bool)
        return fitted_rows(self._items, embeddings)

    def overlap(self, embeddings: Embeddings) -> Overlap:
        """Find out how many items of `embeddings` were fitted, from hashes of vectors and names."""
        return find_overlap(self._items, embeddings)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 over everything that was learned."""
        digest = hashlib.sha256(repr(self._parameters()).encode())
        for kind, held in self._sums.items():
            parts = [*held.sums.values(), *([self._cohorts[kind]] if kind in self._cohorts else [])]
            digest.update(f"{kind} {held.count}".encode() + b"".join(part.tobytes() for part in parts))
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> Path:
        """Save sums, cohorts, parameters, remover, origin and item hashes as one safetensors file."""
        parameters = {"form": self.form, "share": self.share}
        return ScoreFile(parameters, self._sums, self._cohorts, self.remover, self.origin, self._items).save(path)

    @classmethod
    def load(cls, path: str | Path) -> ScoreStandardizer:
        """Read a file written by `save`.

        Raises:
            I0TError: missing, truncated, damaged or another format.
        """
        file = ScoreFile.load(path)
        try:
            loaded = cls(file.remover, **file.parameters)
        except I0TError as error:
            raise I0TError(f"{path}: {error} {REMEDY}") from None
        loaded._sums, loaded._cohorts = dict(file.sums), dict(file.cohorts)
        loaded.origin, loaded._items = file.origin, dict(file.items)
        return loaded

    def __repr__(self) -> str:
        return f"ScoreStandardizer({self.remover!r}, form={self.form!r}, share={self.share})"

    @property
    def _dim(self) -> int | None:
        return next((held.sums["sum"].size for held in self._sums.values()), None)

    def _parameters(self) -> dict[str, Any]:
        moves = self.remover and {"remover": self.remover.name, "fitted": self.remover.fingerprint}
        return {"form": self.form, "share": self.share, **(moves or {})}

    def _require_fitted(self, *kinds: str) -> None:
        for kind in kinds:
            if self.counts.get(kind, 0) < 3:
                raise I0TError(
                    f"scores: {self.counts.get(kind, 0)} {kind} vectors are fitted (kinds: {', '.join(self.kinds)}). "
                    "Fit at least three of each kind, better a few hundred."
                )

    def _require_modalities(self, kinds: Any) -> None:
        unknown = [kind for kind in kinds if kind not in MODALITIES]
        if unknown:
            raise I0TError(
                f"scores: a gap remover moves images and texts, not {unknown[0]!r}. Leave it out for other kinds."
            )

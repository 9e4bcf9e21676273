"""Hashes that recognise fitted items, and whether evaluated items are among them.

Vectors are hashed by their float32 bits, images by name and texts by their words, so that an item that was
encoded elsewhere is recognised, too. Up to `CAP` items, all hashes are kept, and every overlap is found. Of
more items, the smallest hashes are kept: a sample that depends only on the items, so that files sample
alike, shards merge exactly, and the probability to miss an overlap is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from i0t.digests import to_bytes
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.reading.arrays import check_tensor
from i0t.standardize.saved_sums import REMEDY

CAP = 2**20  # hashes of each kind (8 MB)
KINDS = ("image_vectors", "text_vectors", "image_names", "text_words")
REPORTED_SHARE = 0.01  # overlap for which the probability to miss it is reported


@dataclass(frozen=True)
class ItemHashes:
    """The smallest 64-bit hashes of a set of items.

    Attributes:
        hashes: (K,) uint64, sorted and distinct, K <= `CAP`.
        count: number of hashed items, copies included.
    """

    hashes: np.ndarray
    count: int

    @property
    def limit(self) -> int:
        """Largest hash up to which all items are known."""
        return 2**64 - 1 if len(self.hashes) < CAP else int(self.hashes[-1])

    @property
    def sampled(self) -> float:
        """Share of the range of hashes below `limit`, 0..1."""
        return 1.0 if len(self.hashes) < CAP else self.limit / 2**64

    def merged(self, other: ItemHashes) -> ItemHashes:
        """Return the hashes of both sets, as if all items were hashed at once."""
        both = np.union1d(self.hashes, other.hashes)
        return ItemHashes(both[both <= min(self.limit, other.limit)][:CAP], self.count + other.count)


def hash_items(items: Iterable[bytes]) -> ItemHashes:
    """Hash items."""
    hashes = _hashes(items)
    return ItemHashes(np.unique(hashes)[:CAP], len(hashes))


def _hashes(items: Iterable[bytes]) -> np.ndarray:
    digests = b"".join(hashlib.blake2b(item, digest_size=8).digest() for item in items)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def item_hashes(embeddings: Embeddings) -> dict[str, ItemHashes]:
    """Hash items by kind; without row numbers and empty texts, which identify nothing."""
    kinds = {
        "image_vectors": _rows(embeddings.image_features),
        "text_vectors": _rows(embeddings.text_features),
        "image_names": (to_bytes(name) for row, name in enumerate(embeddings.image_ids) if name != str(row)),
        "text_words": (to_bytes(text) for text in embeddings.texts if text),
    }
    return {kind: hash_items(items) for kind, items in kinds.items()}


def _rows(features: np.ndarray) -> Iterable[bytes]:
    return (row.tobytes() for row in np.ascontiguousarray(features, dtype=np.float32))


@dataclass(frozen=True)
class Overlap:
    """Share of an evaluated set that was fitted; False as a bool if nothing was found.

    Attributes:
        image_share, text_share: share of evaluated items that were fitted, 0..1, the larger of that by
            vectors and that by names; None if the fitted items are unknown.
        miss_probability: probability to miss an overlap of 1 % of the evaluated items; 0 up to `CAP`
            fitted items.
        shares: share by kind of hash.
    """

    image_share: float | None
    text_share: float | None
    miss_probability: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.image_share or self.text_share)

    @property
    def by_name_alone(self) -> bool:
        """Whether only names of images agree, such as 0.jpg; no vector and no text does."""
        return bool(self.image_share) and not (self.text_share or self.shares.get("image_vectors"))

    def __str__(self) -> str:
        if self.image_share is None or self.text_share is None:
            return "unknown: which items were fitted is not recorded"
        shares = f"{100 * self.image_share:.1f} % of the images and {100 * self.text_share:.1f} % of the texts"
        chance = f" (1 % is missed with probability {self.miss_probability:.1g})" if self.miss_probability else ""
        named = ", by name alone: other images may have the same names" if self.by_name_alone else ""
        return f"{shares} were fitted{chance}{named}"

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def find_overlap(fitted: Mapping[str, ItemHashes], embeddings: Embeddings) -> Overlap:
    """Compare the items of `embeddings` with the fitted ones (`items_` of a remover; empty if unknown)."""
    if not fitted:
        return Overlap(None, None)
    evaluated = item_hashes(embeddings)
    found = {kind: _share(fitted[kind], evaluated[kind]) for kind in KINDS}
    shares = {kind: share for kind, (share, _) in found.items()}
    return Overlap(
        max(shares["image_vectors"], shares["image_names"]),
        max(shares["text_vectors"], shares["text_words"]),
        max(found["image_vectors"][1], found["text_vectors"][1]),  # every item has a vector; not all have names
        shares,
    )


def fitted_rows(fitted: Mapping[str, ItemHashes], embeddings: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (M,) bool, whether an image's or a text's vector is known to be fitted; up to `CAP` are known."""
    sides = {"image_vectors": embeddings.image_features, "text_vectors": embeddings.text_features}
    images, texts = (np.isin(row_hashes(features), fitted[kind].hashes) for kind, features in sides.items())
    return images, texts


def row_hashes(features: np.ndarray) -> np.ndarray:
    """(N,) uint64 hashes of vectors (N, D) or (N, Q, D), as float32."""
    return _hashes(_rows(features))


def _share(fitted: ItemHashes, evaluated: ItemHashes) -> tuple[float, float]:
    """Return the share of distinct evaluated items that were fitted, and the probability to miss 1 %."""
    limit = np.uint64(min(fitted.limit, evaluated.limit))
    comparable = evaluated.hashes[evaluated.hashes <= limit]
    known = min(fitted.sampled, evaluated.sampled)
    missed = float((1 - known) ** np.ceil(REPORTED_SHARE * evaluated.count))  # 0 where all are known
    share = float(np.isin(comparable, fitted.hashes).mean()) if len(comparable) else 0.0
    return share, missed


def item_tensors(items: Mapping[str, ItemHashes]) -> dict[str, np.ndarray]:
    """Hashes as tensors of a file, for `read_items`; none if the items are unknown."""
    if not items:
        return {}
    counts = np.array([items[kind].count for kind in KINDS], dtype=np.int64)
    return {**{f"items_{kind}": items[kind].hashes for kind in KINDS}, "items_counts": counts}


def read_items(path: str | Path, tensors: Mapping[str, np.ndarray]) -> dict[str, ItemHashes]:
    """Read the hashes of the fitted items, if they are known; raises an error if they cannot be."""
    items: dict[str, ItemHashes] = {}
    if "items_counts" not in tensors:
        return items
    check_tensor(f"{path}: items_counts", tensors["items_counts"], "iu", (len(KINDS),), f"({len(KINDS)},)")
    for kind, count in zip(KINDS, map(int, tensors["items_counts"]), strict=True):
        hashes = tensors.get(f"items_{kind}", np.zeros(0))
        check_tensor(f"{path}: items_{kind}", hashes, "u", (None,), "(K,)")
        if hashes.dtype != np.uint64 or not len(hashes) <= min(count, CAP) or not (hashes[1:] > hashes[:-1]).all():
            raise I0TError(f"{path}: items_{kind}: not sorted hashes of {count} items: damaged. {REMEDY}")
        items[kind] = ItemHashes(hashes, count)
    return items

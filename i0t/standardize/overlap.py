"""Whether evaluated items were fitted: 64-bit hashes of vectors and names travel in the fitted file.

A vector is known again by its float32 bits, a picture by its name and a text by its words, so that
the same item encoded elsewhere is found as well. Up to `CAP` items all hashes are kept: every
overlap is found. Of more, those with the smallest hashes are: a sample that depends on the items
alone, so that two files sample alike, shards merge exactly, and the chance to miss is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings

CAP = 2**20  # hashes a kind: 8 MB; a million fitted items are known one and all
KINDS = ("image_vectors", "text_vectors", "image_names", "text_words")
REPORTED_SHARE = 0.01  # the overlap whose chance to be missed is stated


@dataclass(frozen=True)
class ItemHashes:
    """The smallest hashes of a set of items.

    Attributes:
        hashes: (K,) uint64, sorted and distinct, K <= `CAP`.
        count: items hashed, copies included.

    Example:
        >>> both = hash_items([b"a", b"b"]).merged(hash_items([b"b", b"c"]))
        >>> both.count, len(both.hashes), both.sampled
        (4, 3, 1.0)
    """

    hashes: np.ndarray
    count: int

    @property
    def limit(self) -> int:
        """Items hashed up to this value are all known."""
        return 2**64 - 1 if len(self.hashes) < CAP else int(self.hashes[-1])

    @property
    def sampled(self) -> float:
        """Share of all possible hashes that is known, 0..1."""
        return 1.0 if len(self.hashes) < CAP else self.limit / 2**64

    def merged(self, other: ItemHashes) -> ItemHashes:
        """Those of both sets: the same as hashing all items at once."""
        both = np.union1d(self.hashes, other.hashes)
        return ItemHashes(both[both <= min(self.limit, other.limit)][:CAP], self.count + other.count)


@dataclass(frozen=True)
class Overlap:
    """How much of an evaluated set was fitted.

    Attributes:
        image_share, text_share: share of evaluated items that were fitted, 0..1; None where the
            fitted file knows no items. The larger of what vectors and what names show.
        miss_probability: chance that an overlap of 1 % of the evaluated items goes unseen: 0 up to
            `CAP` fitted items.
        shares: share by kind of hash.

    Example:
        >>> str(Overlap(0.5, 0.0)), bool(Overlap(0.0, 0.0))
        ('50.0 % of the images and 0.0 % of the texts were fitted', False)
    """

    image_share: float | None
    text_share: float | None
    miss_probability: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.image_share or self.text_share)

    def __str__(self) -> str:
        if self.image_share is None or self.text_share is None:
            return "unknown: which items were fitted is not recorded"
        shares = f"{100 * self.image_share:.1f} % of the images and {100 * self.text_share:.1f} % of the texts"
        chance = f" (1 % is missed with probability {self.miss_probability:.1g})" if self.miss_probability else ""
        return f"{shares} were fitted{chance}"

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def hash_items(items: Iterable[bytes]) -> ItemHashes:
    """Hashes of any items.

    Example:
        >>> hash_items([b"a", b"b", b"a"]).count, len(hash_items([b"a", b"b", b"a"]).hashes)
        (3, 2)
    """
    digests = b"".join(hashlib.blake2b(item, digest_size=8).digest() for item in items)
    hashes = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    return ItemHashes(np.unique(hashes)[:CAP], len(hashes))


def item_hashes(embeddings: Embeddings) -> dict[str, ItemHashes]:
    """Hashes of each kind; row numbers and empty texts name nothing, so they are left out.

    Example:
        >>> eye = np.eye(2, dtype=np.float32)
        >>> hashes = item_hashes(Embeddings(eye, eye, np.arange(2), ["a.jpg", "1"], ["a dog", ""]))
        >>> {kind: of_kind.count for kind, of_kind in hashes.items()}
        {'image_vectors': 2, 'text_vectors': 2, 'image_names': 1, 'text_words': 1}
    """
    kinds = {
        "image_vectors": _rows(embeddings.image_features),
        "text_vectors": _rows(embeddings.text_features),
        "image_names": (name.encode() for row, name in enumerate(embeddings.image_ids) if name != str(row)),
        "text_words": (text.encode() for text in embeddings.texts if text),
    }
    return {kind: hash_items(items) for kind, items in kinds.items()}


def _rows(features: np.ndarray) -> Iterable[bytes]:
    return (row.tobytes() for row in np.ascontiguousarray(features, dtype=np.float32))


def merged_hashes(one: dict[str, ItemHashes], other: dict[str, ItemHashes]) -> dict[str, ItemHashes]:
    """Hashes of what either has fitted, of the same kinds.

    Example:
        >>> merged = merged_hashes({"text_words": hash_items([b"a"])}, {"text_words": hash_items([b"a", b"b"])})
        >>> merged["text_words"].count, len(merged["text_words"].hashes)
        (3, 2)
    """
    return {kind: hashes.merged(other[kind]) for kind, hashes in one.items()}


def find_overlap(fitted: dict[str, ItemHashes], embeddings: Embeddings) -> Overlap:
    """Share of the items of `embeddings` that are among the fitted ones.

    Args:
        fitted: `items_` of a remover; empty where it was fitted to bare arrays.
        embeddings: what is evaluated.

    Example:
        >>> eye, names = np.eye(4, dtype=np.float32), list("abcd")
        >>> fitted = item_hashes(Embeddings(eye[:2], eye[:1], np.zeros(1, int), names[:2], names[:1]))
        >>> str(find_overlap(fitted, Embeddings(eye, eye, np.arange(4), names, names)))
        '50.0 % of the images and 25.0 % of the texts were fitted'
    """
    if not fitted:
        return Overlap(None, None)
    evaluated = item_hashes(embeddings)
    shares, missed = {}, 0.0
    for kind in KINDS:
        shares[kind], chance = _share(fitted[kind], evaluated[kind])
        if kind.endswith("vectors"):  # which every item has
            missed = max(missed, chance)
    return Overlap(
        max(shares["image_vectors"], shares["image_names"]),
        max(shares["text_vectors"], shares["text_words"]),
        missed,
        shares,
    )


def _share(fitted: ItemHashes, evaluated: ItemHashes) -> tuple[float, float]:
    """Share of the distinct evaluated items, and the chance that 1 % of them would be missed."""
    limit = np.uint64(min(fitted.limit, evaluated.limit))
    comparable = evaluated.hashes[evaluated.hashes <= limit]
    if fitted.sampled == evaluated.sampled == 1.0:
        missed = 0.0
    else:
        known = min(fitted.sampled, evaluated.sampled)
        missed = float((1 - known) ** np.ceil(REPORTED_SHARE * evaluated.count))
    share = float(np.isin(comparable, fitted.hashes).mean()) if len(comparable) else 0.0
    return share, missed


def hash_tensors(items: dict[str, ItemHashes]) -> dict[str, np.ndarray]:
    """For a file: `items_KIND` and the counts, in the order of `KINDS`.

    Example:
        >>> tensors = hash_tensors(dict.fromkeys(KINDS, hash_items([b"a", b"b"])))
        >>> tensors["items_text_words"].shape, tensors["items_counts"].tolist()
        ((2,), [2, 2, 2, 2])
    """
    if not items:
        return {}
    tensors = {f"items_{kind}": items[kind].hashes for kind in KINDS}
    return {**tensors, "items_counts": np.array([items[kind].count for kind in KINDS], dtype=np.int64)}


def hashes_of_tensors(tensors: dict[str, np.ndarray]) -> dict[str, ItemHashes]:
    """What `hash_tensors` wrote; empty where the file knows no items.

    Example:
        >>> items = dict.fromkeys(KINDS, hash_items([b"a", b"b", b"b"]))
        >>> hashes_of_tensors(hash_tensors(items))["text_words"].count, hashes_of_tensors({})
        (3, {})
    """
    if "items_counts" not in tensors:
        return {}
    counts = zip(KINDS, tensors["items_counts"], strict=True)
    return {kind: ItemHashes(tensors[f"items_{kind}"], int(count)) for kind, count in counts}

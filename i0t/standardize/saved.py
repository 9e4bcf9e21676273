"""The file of a fitted remover, the hashes in it by which fitted items are known again, and what records say of it.

A vector is known by its float32 bits, a picture by its name and a text by its words, so that the
same item encoded elsewhere is found as well. Up to `CAP` items all hashes are kept: every overlap
is found. Of more, those with the smallest hashes are: a sample that depends on the items alone, so
that two files sample alike, shards merge exactly, and the chance to miss is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from i0t.embeddings import Embeddings, Origin
from i0t.files import atomic_path, json_entry, read_safetensors

if TYPE_CHECKING:
    from i0t.standardize.remover import GapRemover

FORMAT = "i0t-means-1"
TENSORS = ("image_sum", "text_sum", "counts")
HEADERS = ("remover", "parameters", "provenance")
CAP = 2**20  # hashes of each kind: 8 MB; a million fitted items are known one and all
KINDS = ("image_vectors", "text_vectors", "image_names", "text_words")
TEST = "test"  # of `fit_on`, and of a split that is not named
REPORTED_SHARE = 0.01  # the overlap whose chance to be missed is stated


@dataclass(frozen=True)
class FittedFile:
    """The content of such a file.

    Attributes:
        remover: name of the class that was fitted.
        parameters: its constructor arguments.
        origin: where the fitted vectors came from.
        tensors: what was summed, `image_...` and `text_...`; a remover takes from it what it knows.
        counts: (2,) int64, image and text vectors seen.
        items: hashes of what was fitted; empty where it is not known.
    """

    remover: str
    parameters: dict[str, Any]
    origin: Origin
    tensors: Mapping[str, np.ndarray]
    counts: np.ndarray
    items: Mapping[str, ItemHashes]

    def save(self, path: str | Path) -> Path:
        """Write it as one safetensors file atomically and return its path."""
        tensors = {**self.tensors, "counts": self.counts}
        if self.items:
            tensors |= {f"items_{kind}": self.items[kind].hashes for kind in KINDS}
            tensors["items_counts"] = np.array([self.items[kind].count for kind in KINDS], dtype=np.int64)
        content = {"remover": self.remover, "parameters": self.parameters, "provenance": self.origin.as_dict()}
        header = {"format": FORMAT, **{key: json.dumps(value) for key, value in content.items()}}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=header)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> FittedFile:
        """Read a file written by `save`.

        Raises:
            I0TError: missing, truncated or another format.
        """
        tensors, header = read_safetensors(path, FORMAT, "a file of modality means", TENSORS, HEADERS)
        remover, parameters, origin = (json_entry(path, header, key) for key in HEADERS)
        counts = zip(KINDS, tensors.get("items_counts", ()))
        items = {kind: ItemHashes(tensors[f"items_{kind}"], int(count)) for kind, count in counts}
        return cls(remover, parameters, Origin.from_dict(origin), tensors, tensors["counts"], items)


def remover_named_in(path: str | Path) -> str | None:
    """Name of the class that a file's remover is of; None for any other file."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
        return json.loads(header["remover"]) if header.get("format") == FORMAT else None
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError):
        return None  # `FittedFile.load` will say what is wrong


@dataclass(frozen=True)
class ItemHashes:
    """The smallest 64-bit hashes of a set of items.

    Attributes:
        hashes: (K,) uint64, sorted and distinct, K <= `CAP`.
        count: items hashed, copies included.
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


def hash_items(items: Iterable[bytes]) -> ItemHashes:
    """Hashes of any items."""
    digests = b"".join(hashlib.blake2b(item, digest_size=8).digest() for item in items)
    hashes = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    return ItemHashes(np.unique(hashes)[:CAP], len(hashes))


def item_hashes(embeddings: Embeddings) -> dict[str, ItemHashes]:
    """Hashes of each kind; row numbers and empty texts name nothing, so they are left out."""
    kinds = {
        "image_vectors": _rows(embeddings.image_features),
        "text_vectors": _rows(embeddings.text_features),
        "image_names": (name.encode() for row, name in enumerate(embeddings.image_ids) if name != str(row)),
        "text_words": (text.encode() for text in embeddings.texts if text),
    }
    return {kind: hash_items(items) for kind, items in kinds.items()}


def _rows(features: np.ndarray) -> Iterable[bytes]:
    return (row.tobytes() for row in np.ascontiguousarray(features, dtype=np.float32))


@dataclass(frozen=True)
class Overlap:
    """How much of an evaluated set was fitted; falsy for nothing found.

    Attributes:
        image_share, text_share: share of evaluated items that were fitted, 0..1; None where the
            fitted file knows no items. The larger of what vectors and what names show.
        miss_probability: chance that an overlap of 1 % of the evaluated items goes unseen: 0 up to
            `CAP` fitted items.
        shares: share by kind of hash.
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


def find_overlap(fitted: Mapping[str, ItemHashes], embeddings: Embeddings) -> Overlap:
    """Share of the items of `embeddings` that are among the fitted ones.

    Args:
        fitted: `items_` of a remover; empty where it was fitted to bare arrays.
        embeddings: what is evaluated.
    """
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


def _share(fitted: ItemHashes, evaluated: ItemHashes) -> tuple[float, float]:
    """Share of the distinct evaluated items, and the chance that 1 % of them would be missed."""
    limit = np.uint64(min(fitted.limit, evaluated.limit))
    comparable = evaluated.hashes[evaluated.hashes <= limit]
    known = min(fitted.sampled, evaluated.sampled)
    missed = float((1 - known) ** np.ceil(REPORTED_SHARE * evaluated.count))  # 0 where all are known
    share = float(np.isin(comparable, fitted.hashes).mean()) if len(comparable) else 0.0
    return share, missed


def describe(remover: GapRemover | None, evaluated: Embeddings) -> dict[str, Any]:
    """What a record says of the remover: its name, parameters and where the means came from.

    Args:
        remover: fitted; None where nothing is removed.
        evaluated: as encoded, with the metadata that name its data set.

    Returns:
        For the protocol. `means_leak` is whether the means are those of evaluated items: True where some were
        fitted, or where both name one data set; None where neither items nor data sets are known. `fit_overlap`
        has the share of the evaluated items that were fitted, by kind of hash; None where it is not known.
    """
    if remover is None:
        return {"remove_gap": "none"}
    origin, overlap = remover.origin, remover.overlap(evaluated)
    return {
        "remove_gap": remover.name,
        "remover_parameters": remover.parameters(),
        "fit_on": origin.fit_on,
        "fit_file": origin.file,
        "fit_dataset": origin.dataset,
        "n_fit_images": remover.n_images_,
        "n_fit_texts": remover.n_texts_,
        "means_fingerprint": remover.fingerprint,
        "fit_overlap": overlap.shares or None,
        "means_leak": _leaks(overlap, origin, evaluated.metadata),
    }


def _leaks(overlap: Overlap, origin: Origin, evaluated: dict[str, Any]) -> bool | None:
    """Whether evaluated items were fitted: by their hashes, else by the names of the data sets."""
    if overlap:
        return True
    if origin.dataset is None or origin.extra.get("model_is_file_name"):  # then the data set's name is it, too
        return None if overlap.image_share is None else False
    same_set = _pictures(origin.dataset) == _pictures(evaluated.get("dataset"))
    return same_set and (origin.split or TEST) == (evaluated.get("split") or TEST)


def _pictures(dataset: str | None) -> str | None:
    """Sets that share pictures count as one: Flickr8k-Expert and Flickr8k-CF."""
    return "flickr8k" if dataset and dataset.startswith("flickr8k_") else dataset

"""`Embeddings`, the data that encoding, removing the gap and measuring exchange, and its reader.

An Embeddings file is a safetensors file with the tensors `image_features`, `text_features`, `image_of_text` and,
for classification, `labels`; ids and metadata are JSON in its header. Any program may write one.
`load_embeddings` also reads the `.npy` arrays of other programs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from i0t.digests import list_sha256
from i0t.errors import I0TError
from i0t.features import check_shape, unit_vectors
from i0t.files import atomic_path
from i0t.origin import Origin, OriginForm
from i0t.reading import check_json, json_entry, read_npy, read_safetensors
from i0t.reading.arrays import check_tensor, with_checksum
from i0t.remote import is_url

FORMAT = "i0t-embeddings-1"
TENSORS = ("image_features", "text_features", "image_of_text")
HEADERS = ("image_ids", "texts", "metadata")
MADE = "Write it again (docs/models.md)."  # remedy for a malformed file
IMAGE_WORDS = re.compile("image|img|photo|picture|pixel", re.IGNORECASE)  # in names of files
TEXT_WORDS = re.compile("text|txt|caption|title|sentence", re.IGNORECASE)
PAIRED = "an Embeddings file (.safetensors), images.npy and texts.npy, or one .npy of shape (2, N, D)"


@dataclass(frozen=True)
class Embeddings:
    """Features of N images and M texts in D dimensions, with their ids, pairs and metadata.

    Attributes:
        image_features: (N, D) float32, or (N, Q, D) for multi-query models such as BLIP-2.
        text_features: (M, D) float32.
        image_of_text: (M,) int64, the row of each text's image; -1 if it has none.
        image_ids: N names, e.g. base names of files.
        texts: M strings, as encoded (with the prefix).
        labels: (N,) int64 class of each image, for classification only.
        metadata: model, fingerprint of its weights, data set, split, precision, ...; saved as JSON.
        files: absolute paths of the files that `load_embeddings` read; not saved.

    Raises:
        I0TError: the shapes do not fit together.
    """

    image_features: np.ndarray
    text_features: np.ndarray
    image_of_text: np.ndarray
    image_ids: list[str]
    texts: list[str]
    labels: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shape(self.image_features, "image_features")
        check_shape(self.text_features, "text_features", dim=self.image_features.shape[-1])
        n_images, n_texts = len(self.image_features), len(self.text_features)
        check_tensor("Embeddings: image_of_text", self.image_of_text, "iu", (None,), "(M,), a row per text")
        if self.labels is not None:
            check_tensor("Embeddings: labels", self.labels, "iu", (None,), "(N,), a row per image")
        if self.text_features.ndim != 2:
            raise I0TError(f"Embeddings: text_features has shape {self.text_features.shape}, expected (M, D).")
        counts = {
            "image_of_text": (len(self.image_of_text), n_texts),
            "texts": (len(self.texts), n_texts),
            "image_ids": (len(self.image_ids), n_images),
            "labels": (n_images if self.labels is None else len(self.labels), n_images),
        }
        for name, (found, expected) in counts.items():
            if found != expected:
                raise I0TError(f"Embeddings: {name} has {found} entries for {expected} rows of features.")
        if n_texts and not -1 <= self.image_of_text.min() <= self.image_of_text.max() < n_images:
            raise I0TError(f"Embeddings: image_of_text must lie in -1..{n_images - 1}.")
        if self.labels is not None and not 0 <= self.labels.min() <= self.labels.max() < n_texts:
            raise I0TError(f"Embeddings: labels are rows of the texts and must lie in 0..{n_texts - 1}.")

    @property
    def pairs(self) -> np.ndarray:
        """(P, 2) int64 rows (image, text) of matching items, in the order of the texts."""
        if self.labels is not None:
            return np.stack([np.arange(len(self.labels)), self.labels], axis=1)
        owned = np.flatnonzero(self.image_of_text >= 0)
        return np.stack([self.image_of_text[owned], owned], axis=1)

    @property
    def origin(self) -> Origin:
        """Model and data set from the metadata, with counts."""
        return Origin.from_dict(
            {
                **self.metadata,
                "n_images": len(self.image_features),
                "n_texts": len(self.text_features),
                "dim": int(self.image_features.shape[-1]),
            }
        )

    @property
    def name(self) -> str:
        """Name of its data set, else of the file it was read from."""
        return self.metadata.get("dataset") or (Path(self.files[0]).stem if self.files else "embeddings")

    @property
    def items_sha256(self) -> str:
        """SHA-256 of what the rows are: ids, texts, pairs and labels, and the images' content if `encode` noted it."""
        names = {"image_ids": self.image_ids, "texts": self.texts, "text_ids": self.metadata.get("text_ids")}
        rows = {"image_of_text": self.image_of_text.tolist(), "labels": None}
        if self.labels is not None:
            rows["labels"] = self.labels.tolist()
        images = {"images_sha256": self.metadata.get("images_sha256")}
        return list_sha256([json.dumps({**names, **rows, **images})])

    @property
    def features_sha256(self) -> str:
        """SHA-256 of both feature arrays, as float32."""
        digest = hashlib.sha256()
        for features in (self.image_features, self.text_features):
            digest.update(np.ascontiguousarray(features, dtype=np.float32).data)
        return digest.hexdigest()

    def with_features(self, image_features: np.ndarray, text_features: np.ndarray) -> Embeddings:
        """Return the same items with other features, e.g. after removing the gap."""
        return replace(self, image_features=image_features, text_features=text_features)

    def subset(self, images: np.ndarray, texts: np.ndarray) -> Embeddings:
        """Return the images (N,) and texts (M,) of two masks; a text whose image is left out has none.

        Raises:
            I0TError: images in classes, whose labels are rows of the texts.
        """
        if self.labels is not None:
            raise I0TError("Embeddings: no part of images in classes can be taken.")
        row = np.where(images, np.cumsum(images) - 1, -1)
        text_ids = self.metadata.get("text_ids")
        return Embeddings(
            self.image_features[images],
            self.text_features[texts],
            np.where(self.image_of_text >= 0, row[self.image_of_text], -1)[texts],
            list(compress(self.image_ids, images)),
            list(compress(self.texts, texts)),
            metadata={**self.metadata, **({"text_ids": list(compress(text_ids, texts))} if text_ids else {})},
        )

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file atomically and return its path."""
        tensors: dict[str, np.ndarray] = {
            "image_features": np.ascontiguousarray(self.image_features, dtype=np.float32),
            "text_features": np.ascontiguousarray(self.text_features, dtype=np.float32),
            "image_of_text": np.ascontiguousarray(self.image_of_text, dtype=np.int64),
        }
        if self.labels is not None:
            tensors["labels"] = np.ascontiguousarray(self.labels, dtype=np.int64)
        header = {"format": FORMAT, **{key: json.dumps(getattr(self, key)) for key in HEADERS}}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=with_checksum(tensors, header))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Embeddings:
        """Read a file written by `save`, bit by bit; `load_embeddings` also normalises.

        Raises:
            I0TError: the file is missing, truncated or of another format.
        """
        tensors, header = read_safetensors(path, FORMAT, "an Embeddings file", TENSORS, HEADERS)
        image_ids, texts, metadata = (json_entry(path, header, key) for key in HEADERS)
        if isinstance(image_ids, list):
            image_ids = [str(name) if type(name) is int else name for name in image_ids]
        check_json(list[str], image_ids, f"{path}: image_ids", "a list of names", MADE)
        check_json(list[str], texts, f"{path}: texts", "a list of texts", MADE)
        check_json(MetadataForm, metadata, f"{path}: metadata", "an object", MADE)
        arrays: dict[str, Any] = {key: tensors[key] for key in (*TENSORS, "labels") if key in tensors}
        for key in ("image_of_text", "labels"):
            if key in arrays and arrays[key].dtype.kind in "iu":
                arrays[key] = arrays[key].astype(np.int64, copy=False)
        files = (str(Path(path).absolute()),)
        try:
            return cls(**arrays, image_ids=image_ids, texts=texts, metadata=metadata, files=files)
        except I0TError as error:
            raise I0TError(f"{path}: {error}") from None


class MetadataForm(OriginForm, total=False):
    """The types of the metadata that programs read, for pydantic; other entries are free."""

    text_ids: list[Any] | None
    unreadable: list[str] | None
    task: str | None
    prompt_mean: str | None


def load_embeddings(paths: str | Path | Sequence[str | Path], paired: bool = True) -> Embeddings:
    """Read a user's vectors: an Embeddings file, or arrays of any other program.

    Args:
        paths: one Embeddings file (.safetensors); or images.npy and texts.npy; or one .npy (2, N, D).
        paired: whether row i of both arrays match. If not, their lengths may differ, and no text has an
            image. Embeddings files hold their own pairs.

    Returns:
        Float32 unit vectors; vectors that already have length 1 are not changed. For arrays, ids are row
        numbers and texts are empty strings. If the file names no model, `metadata["model"]` is the name of
        the file, and `model_is_file_name` is True.

    Raises:
        I0TError: other files, shapes that do not pair up, or a row that is NaN, infinite or zero.
    """
    named = [paths] if isinstance(paths, (str, Path)) else paths
    if url := next(filter(is_url, named), None):
        raise I0TError(f"{url}: is a URL, where only shards are read (docs/scale.md). Copy the file to this machine.")
    files = [Path(path) for path in named]
    kinds = {path.suffix for path in files}
    if kinds == {".npy"} and len(files) <= 2:
        return _of_arrays(files, paired)
    if kinds == {".safetensors"} and len(files) > 1:
        raise I0TError(f"{' '.join(map(str, files))}: {len(files)} Embeddings files. Give one of them.")
    if kinds != {".safetensors"} or len(files) != 1:
        raise I0TError(f"{' '.join(map(str, files))}: give {PAIRED}.")
    loaded = Embeddings.load(files[0])
    known = {} if loaded.metadata.get("model") else {"model": files[0].stem, "model_is_file_name": True}
    return replace(
        loaded,
        image_features=unit_vectors(loaded.image_features, f"{files[0]}: images"),
        text_features=unit_vectors(loaded.text_features, f"{files[0]}: texts"),
        metadata={**loaded.metadata, **known},
    )


def _require_order(images: Path, texts: Path) -> None:
    """Raise an error if the names of two files say that the texts are first, or if they are one file."""
    if images.resolve() == texts.resolve():
        raise I0TError(f"{images}: given as images and as texts. Give {PAIRED}.")
    is_named = [[bool(word.search(path.stem)) for word in (IMAGE_WORDS, TEXT_WORDS)] for path in (images, texts)]
    if is_named == [[False, True], [True, False]]:
        raise I0TError(
            f"{images} {texts}: by their names, the texts are first. Give the images first, or rename the files if "
            "they are in order."
        )


def _of_arrays(paths: list[Path], paired: bool) -> Embeddings:
    arrays = [read_npy(path, "embeddings") for path in paths]
    if len(arrays) == 1 and (arrays[0].ndim != 3 or len(arrays[0]) != 2):
        raise I0TError(
            f"{paths[0]}: one .npy file must hold images and texts, (2, N, D), but its shape is {arrays[0].shape}. "
            "Give two files otherwise, images first."
        )
    if len(paths) == 2:
        _require_order(*paths)
    images, texts = arrays if len(arrays) == 2 else arrays[0]
    check_shape(images, f"{paths[0]}: images")
    check_shape(texts, f"{' and '.join(map(str, paths))}: texts", dim=images.shape[-1])
    if texts.ndim != 2 or (paired and len(images) != len(texts)):
        raise I0TError(
            f"{', '.join(map(str, paths))}: {images.shape} images and {texts.shape} texts do not pair up row by row. "
            "Several texts per image, or texts of no image, need an Embeddings file (docs/models.md)."
        )
    return Embeddings(
        image_features=unit_vectors(images, f"{paths[0]}: images"),
        text_features=unit_vectors(texts, f"{paths[-1]}: texts"),
        image_of_text=np.arange(len(texts)) if paired else np.full(len(texts), -1),
        image_ids=[str(row) for row in range(len(images))],
        texts=[""] * len(texts),
        metadata={
            "model": "+".join(path.stem for path in paths),
            "model_is_file_name": True,  # two files of one model have two names
            "dataset": paths[0].stem,
        },
        files=tuple(str(path.absolute()) for path in paths),
    )

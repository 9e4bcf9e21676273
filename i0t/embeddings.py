"""`Embeddings`: the one file format between encoding, removing the gap and measuring.

A safetensors file with the tensors `image_features`, `text_features`, `image_of_text` and any
labels, and the ids and metadata as JSON in its header. Any producer may write one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape
from i0t.files import atomic_path

FORMAT = "i0t-embeddings-1"
TENSORS = ("image_features", "text_features", "image_of_text")
HEADERS = ("image_ids", "texts", "metadata")


@dataclass(frozen=True)
class Embeddings:
    """Features of N images and M texts in D dimensions, with what they belong to.

    Attributes:
        image_features: (N, D) float32, or (N, Q, D) for multi-query models such as BLIP-2.
        text_features: (M, D) float32.
        image_of_text: (M,) int64, the row of each text's own image; -1 where it has none.
        image_ids: N names, e.g. the pictures' base names.
        texts: M strings, as they were encoded (prefix included).
        labels: (N,) int64 class of each image, for classification only.
        metadata: model, checkpoint hash, data set, split, dtype, protocol, versions.

    Raises:
        I0TError: on construction, when the shapes contradict one another.

    Example:
        >>> rows, names, texts = np.eye(3, dtype=np.float32), ["a.jpg", "b.jpg"], ["a dog", "a cat", "two cats"]
        >>> Embeddings(rows[:2], rows, np.array([0, 1, 1]), names, texts).pairs.tolist()
        [[0, 0], [1, 1], [1, 2]]
    """

    image_features: np.ndarray
    text_features: np.ndarray
    image_of_text: np.ndarray
    image_ids: list[str]
    texts: list[str]
    labels: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        check_shape(self.image_features, "image_features")
        check_shape(self.text_features, "text_features", dim=self.image_features.shape[-1])
        n_images, n_texts = len(self.image_features), len(self.text_features)
        counts = {
            "image_of_text": (len(self.image_of_text), n_texts),
            "texts": (len(self.texts), n_texts),
            "image_ids": (len(self.image_ids), n_images),
            "labels": (n_images if self.labels is None else len(self.labels), n_images),
        }
        for name, (given, expected) in counts.items():
            if given != expected:
                raise I0TError(f"Embeddings: {name} has {given} entries for {expected} rows of features.")
        if n_texts and not -1 <= self.image_of_text.min() <= self.image_of_text.max() < n_images:
            raise I0TError(f"Embeddings: image_of_text must lie in -1..{n_images - 1}.")
        if self.labels is not None and not 0 <= self.labels.min() <= self.labels.max() < n_texts:
            raise I0TError(f"Embeddings: labels are rows of the texts and must lie in 0..{n_texts - 1}.")

    @property
    def pairs(self) -> np.ndarray:
        """(P, 2) int64 rows (image, text) that belong together, in text order."""
        if self.labels is not None:
            return np.stack([np.arange(len(self.labels)), self.labels], axis=1)
        owned = np.flatnonzero(self.image_of_text >= 0)
        return np.stack([self.image_of_text[owned], owned], axis=1)

    def with_features(self, image_features: np.ndarray, text_features: np.ndarray) -> Embeddings:
        """The same items with other features (after removing the gap)."""
        return replace(self, image_features=image_features, text_features=text_features)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file atomically and return its path."""
        from safetensors.numpy import save_file

        tensors = {
            "image_features": np.ascontiguousarray(self.image_features, dtype=np.float32),
            "text_features": np.ascontiguousarray(self.text_features, dtype=np.float32),
            "image_of_text": np.ascontiguousarray(self.image_of_text, dtype=np.int64),
        }
        if self.labels is not None:
            tensors["labels"] = np.ascontiguousarray(self.labels, dtype=np.int64)
        header = {"image_ids": self.image_ids, "texts": self.texts, "metadata": self.metadata}
        with atomic_path(path) as temporary:
            save_file(
                tensors,
                temporary,
                metadata={"format": FORMAT, **{key: json.dumps(value) for key, value in header.items()}},
            )
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Embeddings:
        """Read a file written by `save`.

        Raises:
            I0TError: the file is missing, truncated or of another format.
        """
        tensors, header = read_safetensors(path, FORMAT, "an Embeddings file", TENSORS, HEADERS)
        return cls(
            image_features=tensors["image_features"],
            text_features=tensors["text_features"],
            image_of_text=tensors["image_of_text"],
            labels=tensors.get("labels"),
            **{key: json_entry(path, header, key) for key in HEADERS},
        )


def read_safetensors(
    path: str | Path, file_format: str, what: str, tensor_names: Sequence[str], header_names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and header of a safetensors file of one of our formats.

    Args:
        path: the file.
        file_format: what its header must say.
        what: what it is to the user, for errors.
        tensor_names: tensors that must be there; others may be.
        header_names: header entries that must be there.

    Raises:
        I0TError: missing, truncated, not safetensors, of another format, or with parts left out.

    Example:
        >>> import tempfile
        >>> eye, names = np.eye(2, dtype=np.float32), ["a", "b"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Embeddings(eye, eye, np.arange(2), names, names).save(f"{folder}/pairs.safetensors")
        ...     tensors, header = read_safetensors(path, FORMAT, "an Embeddings file", TENSORS, HEADERS)
        >>> tensors["image_of_text"].tolist(), header["texts"]
        ([0, 1], '["a", "b"]')
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != file_format:
                raise I0TError(f"{path}: not {what} (format {header.get('format')!r}, expected {file_format!r}).")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file ({what} was expected).") from None
    except OSError as error:
        raise I0TError(f"{path}: cannot be read ({what} was expected): {error.strerror or error}") from None
    except SafetensorError as error:
        raise I0TError(f"{path}: not {what}, or truncated ({error}). Write or copy it again.") from None
    except TypeError as error:  # a dtype that NumPy lacks
        raise I0TError(f"{path}: {error}. Save its tensors as float32.") from None
    missing = [name for name in tensor_names if name not in tensors]
    missing += [name for name in header_names if name not in header]
    if missing:
        raise I0TError(f"{path}: not a whole file ({what}): {', '.join(missing)} left out.")
    return tensors, header


def json_entry(path: str | Path, header: dict[str, str], key: str) -> Any:
    """What a header entry of a safetensors file holds as JSON.

    Args:
        path: the file, for the error.
        header: of `read_safetensors`.
        key: an entry that is there.

    Raises:
        I0TError: it is not JSON.

    Example:
        >>> json_entry("pairs.safetensors", {"texts": '["a dog"]'}, "texts")
        ['a dog']
    """
    try:
        return json.loads(header[key])
    except json.JSONDecodeError as error:
        raise I0TError(
            f"{path}: its header entry {key} is not JSON ({error}): {header[key]:.40}. Write it with json.dumps."
        ) from None


def safetensors_format(path: str | Path) -> str | None:
    """Which of our formats a safetensors file says it is; None for any other file.

    Example:
        >>> import tempfile
        >>> eye, names = np.eye(2, dtype=np.float32), ["a", "b"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Embeddings(eye, eye, np.arange(2), names, names).save(f"{folder}/pairs.safetensors")
        ...     safetensors_format(path), safetensors_format(folder)
        ('i0t-embeddings-1', None)
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format")
    except (OSError, SafetensorError):
        return None  # the reader of the format expected will say what is wrong

"""The file of a fitted remover: what it learned as tensors; whose that is, and of what, in the header.

Shapes: D dimensions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.files import atomic_path, json_entry, read_safetensors
from i0t.standardize.overlap import ItemHashes, hash_tensors, hashes_of_tensors

FORMAT = "i0t-means-1"
TENSORS = ("image_sum", "text_sum", "counts")
HEADERS = ("remover", "parameters", "provenance")


@dataclass(frozen=True)
class MeansFile:
    """The content of such a file.

    Attributes:
        remover: name of the class that was fitted.
        parameters: its constructor arguments.
        provenance: where the means came from.
        tensors: what was summed, `image_...` and `text_...`; a remover takes from it what it knows.
        counts: (2,) int64, image and text vectors seen.
        items: hashes of what was fitted.

    Example:
        >>> sums = {"image_sum": np.array([2.0]), "text_sum": np.array([-1.0])}
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = MeansFile("Standardizer", {}, {}, sums, np.array([2, 1]), {}).save(f"{folder}/means.safetensors")
        ...     MeansFile.load(path).counts.tolist(), remover_named_in(path)
        ([2, 1], 'Standardizer')
    """

    remover: str
    parameters: dict[str, float | None]
    provenance: dict[str, Any]
    tensors: dict[str, np.ndarray]
    counts: np.ndarray
    items: dict[str, ItemHashes]

    def save(self, path: str | Path) -> Path:
        """Write it as one safetensors file atomically and return its path."""
        from safetensors.numpy import save_file

        tensors = {**self.tensors, "counts": self.counts, **hash_tensors(self.items)}
        header = {key: json.dumps(getattr(self, key)) for key in HEADERS}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"format": FORMAT, **header})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> MeansFile:
        """Read a file written by `save`.

        Raises:
            I0TError: missing, truncated or another format.
        """
        tensors, header = read_safetensors(path, FORMAT, "a file of modality means", TENSORS, HEADERS)
        return cls(
            tensors=tensors,
            counts=tensors["counts"],
            items=hashes_of_tensors(tensors),
            **{key: json_entry(path, header, key) for key in HEADERS},
        )

    def refuse_stream(self, path: str | Path, name: str) -> None:
        """Refuse to take the training means alone from a file that learned from a stream after training.

        Args:
            path: the file, for the error.
            name: the class that would leave the stream out.

        Raises:
            I0TError: vectors of a stream were seen.
        """
        seen = sum(int(self.tensors[key][0]) for key in self.tensors if key.endswith("_stream_count"))
        if seen:
            raise I0TError(
                f"{path}: its means moved with {seen} vectors of a stream, which {name} would leave out. Load it with "
                f"RunningStandardizer (i0t.standardize), or move shards with `i0t standardize apply {path}`."
            )


def remover_named_in(path: str | Path) -> str | None:
    """Name of the class that a file's remover is of; None for any other file.

    Example:
        >>> remover_named_in(__file__) is None  # no such file
        True
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError):
        return None  # `MeansFile.load` will say what is wrong
    if header.get("format") != FORMAT or "remover" not in header:
        return None
    try:
        return json.loads(header["remover"])
    except json.JSONDecodeError:
        return None

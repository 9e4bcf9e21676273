"""The file of a fitted remover."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.origin import Origin, read_origin
from i0t.reading import check_json, json_entry, read_safetensors
from i0t.reading.arrays import open_tensors, require_entries, with_checksum
from i0t.standardize.overlap import ItemHashes, item_tensors, read_items
from i0t.standardize.saved_sums import REMEDY, check_statistics

FORMAT = "i0t-means-1"
WHAT = "a file of modality means"
TENSORS = ("image_sum", "text_sum", "counts")
HEADERS = ("remover", "parameters", "provenance")


@dataclass(frozen=True)
class FittedFile:
    """Content of the file of a fitted remover."""

    remover: str  # name of its class
    parameters: dict[str, Any]  # its constructor arguments
    origin: Origin
    tensors: Mapping[str, np.ndarray]  # sums, `image_...` and `text_...`
    counts: np.ndarray  # (2,) int64, fitted image and text vectors
    items: Mapping[str, ItemHashes]  # hashes of the fitted items; empty if they are unknown

    def content(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Tensors and header of the file."""
        tensors = {**self.tensors, "counts": self.counts, **item_tensors(self.items)}
        content = {"remover": self.remover, "parameters": self.parameters, "provenance": self.origin.as_dict()}
        return tensors, {"format": FORMAT, **{key: json.dumps(value) for key, value in content.items()}}

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file atomically and return its path."""
        tensors, header = self.content()
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=with_checksum(tensors, header))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> FittedFile:
        """Read a file written by `save`.

        Raises:
            I0TError: missing, truncated, damaged or another format, or statistics that no unit vectors have.
        """
        return cls.of_content(*read_safetensors(path, FORMAT, WHAT, TENSORS, HEADERS), path)

    @classmethod
    def of_content(cls, tensors: Mapping[str, np.ndarray], header: dict[str, str], path: str | Path) -> FittedFile:
        """Build from `content`, read from `path`; raises as `load`."""
        require_entries(path, WHAT, {**tensors, **header}, (*TENSORS, *HEADERS))
        remover, parameters, origin = (json_entry(path, header, key) for key in HEADERS)
        check_json(str, remover, f"{path}: remover", "the name of a remover", REMEDY)
        check_json(dict[str, Any], parameters, f"{path}: parameters", "an object", REMEDY)
        check_statistics(path, tensors)
        items = read_items(path, tensors)
        return cls(remover, parameters, read_origin(path, origin), tensors, tensors["counts"], items)


def remover_named_in(path: str | Path) -> str | None:
    """Read the name of a file's remover; None for any other file."""
    try:
        with open_tensors(path, WHAT) as file:
            header = file.metadata() or {}
        name = json_entry(path, header, "remover") if header.get("format") == FORMAT and "remover" in header else None
    except I0TError:
        return None  # `FittedFile.load` will say what is wrong
    return name if isinstance(name, str) else None

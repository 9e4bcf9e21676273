"""The file of a fitted `ScoreStandardizer`: safetensors, with the remover that moves the vectors inside.

Tensors: `KIND_sum` (D,) and `KIND_product_sum` (D, D) float64; `KIND_cohort` (H, D) float32 for the adaptive form;
`counts`, one per kind; the remover's own file as `remover.NAME`.
"""

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
from i0t.origin import Origin
from i0t.reading import json_entry, read_safetensors
from i0t.standardize import GapRemover
from i0t.standardize.registry import REMOVERS, remover_class
from i0t.standardize.saved import KINDS as ITEM_KINDS
from i0t.standardize.saved import FittedFile, ItemHashes
from i0t.standardize.second_moments import FullMoments

FORMAT = "i0t-scores-1"
HEADERS = ("kinds", "parameters", "provenance", "remover")
SUMS = ("sum", "product_sum")
PREFIX = "remover."


@dataclass(frozen=True)
class ScoreFile:
    """Content of the file."""

    parameters: dict[str, Any]  # form and share
    sums: Mapping[str, FullMoments]  # by kind
    cohorts: Mapping[str, np.ndarray]  # by kind; empty for constants
    remover: GapRemover | None
    origin: Origin
    items: Mapping[str, ItemHashes]  # hashes of the fitted items; empty if they are unknown

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file atomically and return its path."""
        tensors = {"counts": np.array([held.count for held in self.sums.values()], dtype=np.int64)}
        for kind, held in self.sums.items():
            tensors |= {f"{kind}_{name}": np.ascontiguousarray(held.sums[name]) for name in SUMS}
        tensors |= {f"{kind}_cohort": vectors for kind, vectors in self.cohorts.items()}
        if self.items:
            tensors |= {f"items_{kind}": self.items[kind].hashes for kind in ITEM_KINDS}
            tensors["items_counts"] = np.array([self.items[kind].count for kind in ITEM_KINDS], dtype=np.int64)
        own: dict[str, str] | None = None
        if self.remover is not None:
            parts, own = self.remover.fitted_file().content()
            tensors |= {PREFIX + name: part for name, part in parts.items()}
        content = {"kinds": list(self.sums), "parameters": self.parameters, "provenance": self.origin.as_dict()}
        header = {key: json.dumps(value) for key, value in {**content, "remover": own}.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"format": FORMAT, **header})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> ScoreFile:
        """Read a file written by `save`.

        Raises:
            I0TError: missing, truncated or another format, or a remover that is not listed here.
        """
        what = "a file of standardised scores"
        tensors, header = read_safetensors(path, FORMAT, what, ("counts",), HEADERS)
        kinds, parameters, origin, own = (json_entry(path, header, key) for key in HEADERS)
        try:
            sums = {
                kind: FullMoments({name: tensors[f"{kind}_{name}"] for name in SUMS}, int(count))
                for kind, count in zip(kinds, tensors["counts"], strict=True)
            }
            counts = zip(ITEM_KINDS, tensors.get("items_counts", ()))
            items = {kind: ItemHashes(tensors[f"items_{kind}"], int(count)) for kind, count in counts}
        except (KeyError, ValueError) as error:
            raise I0TError(f"{path}: not a whole file ({what}): {error}. Fit it again.") from None
        cohorts = {kind: tensors[f"{kind}_cohort"] for kind in kinds if f"{kind}_cohort" in tensors}
        remover = None
        if own is not None:
            parts = {name.removeprefix(PREFIX): part for name, part in tensors.items() if name.startswith(PREFIX)}
            file = FittedFile.of_content(parts, own, path)
            if file.remover not in REMOVERS:
                raise I0TError(
                    f"{path}: saved with remover {file.remover!r}, unknown here. Fit it again with a listed one."
                )
            remover = remover_class(file.remover).of_file(file, path)
        return cls(parameters, sums, cohorts, remover, Origin.from_dict(origin), items)

"""The file of a fitted `ScoreStandardizer`: safetensors, with the remover that moves the vectors inside.

Tensors: `KIND_sum` (D,) and `KIND_product_sum` (D, D) float64; `KIND_cohort` (H, D) float32 for the adaptive form;
`counts`, one per kind; the remover's own file as `remover.NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from typing_extensions import TypedDict

from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.origin import Origin, read_origin
from i0t.reading import check_json, json_entry, read_safetensors
from i0t.reading.arrays import check_tensor, require_entries, with_checksum
from i0t.standardize import GapRemover
from i0t.standardize.overlap import ItemHashes, item_tensors, read_items
from i0t.standardize.registry import REMOVERS, remover_class
from i0t.standardize.saved import FittedFile
from i0t.standardize.saved_sums import REMEDY, SLACK, check_sums
from i0t.standardize.second_moments import FullMoments

FORMAT = "i0t-scores-1"
WHAT = "a file of standardised scores"
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
        tensors |= item_tensors(self.items)
        own: dict[str, str] | None = None
        if self.remover is not None:
            parts, own = self.remover.fitted_file().content()
            tensors |= {PREFIX + name: part for name, part in parts.items()}
        content = {"kinds": list(self.sums), "parameters": self.parameters, "provenance": self.origin.as_dict()}
        header = {key: json.dumps(value) for key, value in {**content, "remover": own}.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=with_checksum(tensors, {"format": FORMAT, **header}))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> ScoreFile:
        """Read a file written by `save`.

        Raises:
            I0TError: missing, truncated, damaged or another format, statistics that no unit vectors have, or a remover
                that is not listed here.
        """
        tensors, header = read_safetensors(path, FORMAT, WHAT, ("counts",), HEADERS)
        kinds, parameters, origin, own = (json_entry(path, header, key) for key in HEADERS)
        check_json(list[str], kinds, f"{path}: kinds", "a list of names", REMEDY)
        if not kinds or len(set(kinds)) < len(kinds):
            raise I0TError(f"{path}: kinds: {kinds!r:.80} are no distinct names: damaged. {REMEDY}")
        check_json(ParametersForm, parameters, f"{path}: parameters", "an object", REMEDY)
        sums, cohorts = _read_cohorts(path, tensors, kinds, adaptive=parameters["form"] == "adaptive")
        dim = sums[kinds[0]].sums["sum"].size
        remover = None if own is None else _read_remover(path, tensors, own, dim)
        return cls(parameters, sums, cohorts, remover, read_origin(path, origin), read_items(path, tensors))


class ParametersForm(TypedDict):
    """The parameters in the header, for pydantic."""

    __pydantic_config__ = {"extra": "forbid"}  # type: ignore[misc]  # of pydantic
    form: str
    share: float


def _read_cohorts(
    path: str | Path, tensors: Mapping[str, np.ndarray], kinds: Sequence[str], adaptive: bool
) -> tuple[dict[str, FullMoments], dict[str, np.ndarray]]:
    """Read sums and cohorts by kind; raises an error if they cannot be those of unit vectors."""
    names = (*SUMS, "cohort") if adaptive else SUMS
    require_entries(path, WHAT, tensors, [f"{kind}_{name}" for kind in kinds for name in names])
    check_tensor(f"{path}: counts", tensors["counts"], "iu", (len(kinds),), f"({len(kinds)},)")
    first = tensors[f"{kinds[0]}_sum"]
    dim = first.shape[-1] if first.ndim else 0
    sums, cohorts = {}, {}
    for kind, count in zip(kinds, map(int, tensors["counts"]), strict=True):
        check_sums(path, tensors, kind, dim, count)
        sums[kind] = FullMoments({name: tensors[f"{kind}_{name}"] for name in SUMS}, count)
        if adaptive:
            cohort = cohorts[kind] = tensors[f"{kind}_cohort"]
            check_tensor(f"{path}: {kind}_cohort", cohort, "f", (count, dim), f"({count}, {dim})")
            if not np.allclose(np.linalg.norm(cohort, axis=1), 1, atol=SLACK):  # also false for NaN
                raise I0TError(f"{path}: {kind}_cohort: not unit vectors: damaged. {REMEDY}")
    return sums, cohorts


def _read_remover(path: str | Path, tensors: Mapping[str, np.ndarray], header: Any, dim: int) -> GapRemover:
    """Read the remover's own file, which is inside; `header` is that file's."""
    check_json(dict[str, str], header, f"{path}: remover", "the header of its remover, an object", REMEDY)
    parts = {name.removeprefix(PREFIX): part for name, part in tensors.items() if name.startswith(PREFIX)}
    file = FittedFile.of_content(parts, header, path)
    check_tensor(f"{path}: {PREFIX}image_sum", file.tensors["image_sum"], "f", (dim,), f"({dim},)")
    if file.remover not in REMOVERS:
        raise I0TError(f"{path}: saved with remover {file.remover!r}, unknown here. Fit it again with a listed one.")
    return remover_class(file.remover).of_file(file, path)

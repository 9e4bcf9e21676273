"""`VectorTransform`: a gap remover as one matrix and one bias per modality, for use without this package.

    x' = N(A N(x) + b)

x is a column; for rows V it is N(N(V) @ A.T + b). Both normalisations N are needed: A and b were fitted to unit
vectors, and results are compared by cosine.

Shapes: N vectors, D dimensions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from i0t.errors import I0TError
from i0t.features import check_shape, to_numpy
from i0t.files import atomic_path
from i0t.reading import check_json, json_entry, read_safetensors
from i0t.reading.arrays import check_tensor, with_checksum
from i0t.standardize import MODALITIES, AffineMap, GapRemover, Modality
from i0t.standardize.remover import LARGEST

FORMAT = "i0t-transform-1"
FORMULA = "x' = normalise(matrix @ normalise(x) + bias); rows: normalise(normalise(X) @ matrix.T + bias)"
TENSORS = ("image_matrix", "image_bias", "text_matrix", "text_bias")


@dataclass(frozen=True)
class VectorTransform:
    """The affine maps of a fitted remover."""

    image_matrix: np.ndarray  # (D, D) float64 A
    image_bias: np.ndarray  # (D,) float64 b
    text_matrix: np.ndarray
    text_bias: np.ndarray
    description: dict[str, Any] = field(default_factory=dict)  # of the remover

    @classmethod
    def of(cls, remover: GapRemover) -> VectorTransform:
        """Make the transform of a fitted remover.

        Raises:
            I0TError: it is not fitted.
        """
        parts = [part for modality in MODALITIES for part in remover.finite_map(modality).matrix_and_bias()]
        wide = {name: part.astype(np.float64) for name, part in zip(TENSORS, parts, strict=True)}
        return cls(**wide, description=remover.description())

    def __call__(self, vectors: Any, modality: Modality) -> np.ndarray:
        """Move vectors of one modality.

        Args:
            vectors: (N, D) array or tensor, normalised or not.
            modality: "image" or "text".

        Returns:
            (N, D) float64 unit vectors.

        Raises:
            I0TError: other dimensions, or a bad row.
        """
        matrix, bias = (
            (self.image_matrix, self.image_bias) if modality == "image" else (self.text_matrix, self.text_bias)
        )
        check_shape(vectors, f"{modality} vectors")
        as_float64 = to_numpy(vectors).astype(np.float64)
        moves = AffineMap(np.zeros_like(bias), matrix, bias)
        return moves.apply(as_float64, f"{modality} vectors", hint="has no direction left once moved")

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file atomically: four tensors, and the formula in the header."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in TENSORS}
        header = {"format": FORMAT, "formula": FORMULA, "description": json.dumps(self.description)}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=with_checksum(tensors, header))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> VectorTransform:
        """Read a file written by `save`.

        Raises:
            I0TError: missing, truncated or another format.
        """
        tensors, header = read_safetensors(path, FORMAT, "a file of `i0t apply`", TENSORS, ("description",))
        dim = len(tensors["image_bias"]) if tensors["image_bias"].ndim else 0
        for name in TENSORS:
            shape = (dim, dim) if name.endswith("matrix") else (dim,)
            check_tensor(f"{path}: {name}", tensors[name], "f", shape, str(shape))
            if not (np.abs(tensors[name]) <= LARGEST).all():  # also false for NaN
                raise I0TError(f"{path}: {name} holds values that are not finite in float32: damaged. Make it again.")
        description = json_entry(path, header, "description")
        check_json(dict[str, Any], description, f"{path}: description", "an object", "Make it again.")
        return cls(**{name: tensors[name] for name in TENSORS}, description=description)

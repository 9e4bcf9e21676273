"""What removes the gap as one matrix and one bias a modality, for stores that know nothing of this package.

    x' = N(A N(x) + b)

x is a column; for rows V it is N(N(V) @ A.T + b). Both normalisations N matter: A and b were fitted to unit
vectors, and what comes out is compared by cosine.

Shapes: N vectors, D dimensions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import check_shape, l2_normalize, to_numpy
from i0t.files import atomic_path, json_entry, read_safetensors
from i0t.standardize import GapRemover, Modality

FORMAT = "i0t-transform-1"
FORMULA = "x' = normalise(matrix @ normalise(x) + bias); rows: normalise(normalise(X) @ matrix.T + bias)"
TENSORS = ("image_matrix", "image_bias", "text_matrix", "text_bias")


@dataclass(frozen=True)
class VectorTransform:
    """The affine maps of a fitted remover.

    Attributes:
        image_matrix, text_matrix: (D, D) float64 A.
        image_bias, text_bias: (D,) float64 b.
        description: remover, parameters, where it was fitted.

    Example:
        >>> from i0t import ZScore
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 50, 4)) + [[[1.0]], [[-1.0]]]
        >>> remover = ZScore().fit(images, texts)
        >>> transform = VectorTransform.of(remover)
        >>> bool(np.allclose(transform(texts, "text"), remover.transform_text(texts), atol=1e-6))
        True
    """

    image_matrix: np.ndarray
    image_bias: np.ndarray
    text_matrix: np.ndarray
    text_bias: np.ndarray
    description: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, remover: GapRemover) -> VectorTransform:
        """The maps that a fitted remover applies.

        Raises:
            I0TError: it is not fitted.
        """
        parts: dict[str, np.ndarray] = {}
        for modality in ("image", "text"):
            factor, bias = remover.affine(modality)
            parts[f"{modality}_matrix"] = np.diag(factor) if factor.ndim == 1 else factor
            parts[f"{modality}_bias"] = bias
        description = {
            "remover": remover.name,
            "parameters": remover.parameters(),
            "fingerprint": remover.fingerprint,
            "provenance": remover.provenance,
        }
        return cls(**{name: part.astype(np.float64) for name, part in parts.items()}, description=description)

    def __call__(self, vectors: Any, modality: Modality) -> np.ndarray:
        """Move vectors of one modality; NumPy alone, as any vector store would.

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
        check_shape(vectors, f"{modality} vectors", len(bias))
        unit = l2_normalize(to_numpy(vectors).astype(np.float64), f"{modality} vectors")
        return l2_normalize(unit @ matrix.T + bias, f"{modality} vectors", hint="has no direction left once moved")

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file atomically: the four tensors, and in its header the formula."""
        from safetensors.numpy import save_file

        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in TENSORS}
        header = {"format": FORMAT, "formula": FORMULA, "description": json.dumps(self.description)}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=header)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> VectorTransform:
        """Read what `save` wrote.

        Raises:
            I0TError: missing, truncated or another format.
        """
        tensors, header = read_safetensors(path, FORMAT, "a file of `i0t apply`", TENSORS, ("description",))
        shapes = {name: tensors[name].shape for name in TENSORS}
        dim = len(tensors["image_bias"])
        if any(shape != ((dim, dim) if name.endswith("matrix") else (dim,)) for name, shape in shapes.items()):
            raise I0TError(f"{path}: its matrices and biases do not fit together: {shapes}.")
        return cls(**{name: tensors[name] for name in TENSORS}, description=json_entry(path, header, "description"))

"""What the sums in the file of a fitted remover can be: those of unit vectors.

Shapes: D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from i0t.errors import I0TError
from i0t.reading.arrays import check_tensor

REMEDY = "Fit it again, or copy it again."
SECOND = {"square_sum": 1, "product_sum": 2}  # second moments, with their number of axes
SLACK = 1e-3  # relative rounding of sums of unit vectors


def check_statistics(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Check the tensors of a fitted file against what sums of unit vectors can be.

    Raises:
        I0TError: another type or shape, a negative count, or impossible sums: the file is damaged or not ours.
    """
    check_tensor(f"{path}: counts", tensors["counts"], "iu", (2,), "(2,)")
    dim = tensors["image_sum"].shape[-1] if tensors["image_sum"].ndim else 0
    for modality, count in zip(("image", "text"), map(int, tensors["counts"]), strict=True):
        check_sums(path, tensors, modality, dim, count)
        if f"{modality}_stream_sum" in tensors:
            seen = tensors.get(f"{modality}_stream_count", np.zeros(0))
            check_tensor(f"{path}: {modality}_stream_count", seen, "iu", (1,), "(1,)")
            check_sums(path, tensors, f"{modality}_stream", dim, int(seen[0]))


def check_sums(path: str | Path, tensors: Mapping[str, np.ndarray], kind: str, dim: int, count: int) -> None:
    """Check the sums of one kind: of `count` unit vectors, of which the length of the mean is at most 1."""
    place, total = f"{path}: {kind}_sum", tensors[f"{kind}_sum"]
    check_tensor(place, total, "f", (dim,), f"({dim},)")
    length = float(np.linalg.norm(total.astype(np.float64)))
    if count < 0 or not length <= count * (1 + SLACK):
        raise I0TError(f"{place}: {count} unit vectors cannot have a sum of length {length:.6g}: damaged. {REMEDY}")
    for name, axes in SECOND.items():
        moments = tensors.get(f"{kind}_{name}")
        if moments is None:
            continue
        place = f"{path}: {kind}_{name}"
        check_tensor(place, moments, "f", (dim,) * axes, f"{(dim,) * axes}")
        squares = moments if axes == 1 else np.diag(moments)
        # The squares of a unit vector sum to 1; a product is at most the root of its two squares.
        fits = (squares >= 0).all() and abs(float(squares.sum()) - count) <= SLACK * count
        if fits and axes == 2:
            limit = np.sqrt(np.outer(squares, squares)) + SLACK
            fits = (np.abs(moments) <= limit).all() and np.allclose(moments, moments.T, atol=SLACK)
        if not fits:
            raise I0TError(f"{place}: cannot be second moments of {count} unit vectors: damaged. {REMEDY}")

"""`Standardizer.fit` and `transform` against reading and copying the same array with NumPy.

python -m benchmarks --only standardizing
"""

from __future__ import annotations

from benchmarks.measure import alternate, spread, unit_vectors
from benchmarks.row import Row
from i0t import Standardizer


def rows(quick: bool) -> list[Row]:
    """Two rows of the table."""
    n = 100_000 if quick else 1_000_000
    images = unit_vectors(n, seed=0)
    texts = images[:1000]
    standardizer = Standardizer().fit(images[:1000], texts)
    fit, read, fit_ratios = alternate(lambda: Standardizer().fit(images, texts), images.sum, rounds=5)
    move, copy, move_ratios = alternate(lambda: standardizer.transform_image(images), images.copy, rounds=5)
    size = f"{n} x 512 float32"
    return [
        Row(f"Standardizer.fit, {size}", "reading it: ndarray.sum()", fit / read, "<= 3", spread(fit_ratios)),
        Row(f"transform_image, {size}", "copying it: ndarray.copy()", move / copy, "<= 3", spread(move_ratios)),
    ]

"""Gap removers: learn from one set of features, move the vectors of another (paper section 4.2, and beyond)."""

from i0t.standardize.arithmetic import AffineMap
from i0t.standardize.overlap import Overlap
from i0t.standardize.remover import MODALITIES, GapRemover, Modality, Standardizer, fitted_origin
from i0t.standardize.running import RunningStandardizer
from i0t.standardize.saved import FORMAT
from i0t.standardize.second_moments import Whitening, ZScore

__all__ = [
    "FORMAT",
    "MODALITIES",
    "AffineMap",
    "GapRemover",
    "Modality",
    "Overlap",
    "RunningStandardizer",
    "Standardizer",
    "Whitening",
    "ZScore",
    "fitted_origin",
]

"""Remove the modality gap with what was learned from another set of features (paper section 4.2, and beyond)."""

from i0t.standardize.arithmetic import AffineMap
from i0t.standardize.remover import MODALITIES, GapRemover, Modality, Standardizer, fitted_origin
from i0t.standardize.running import RunningStandardizer
from i0t.standardize.saved import FORMAT, Overlap
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

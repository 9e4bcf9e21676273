"""Remove the modality gap with what was learned from another set of features (paper section 4.2, and beyond)."""

from i0t.standardize.affine import AffineRemover, Whitening, ZScore
from i0t.standardize.i0t_post import Standardizer
from i0t.standardize.means_file import FORMAT
from i0t.standardize.overlap import Overlap
from i0t.standardize.remover import GapRemover, Modality
from i0t.standardize.running import RunningStandardizer

__all__ = [
    "FORMAT",
    "AffineRemover",
    "GapRemover",
    "Modality",
    "Overlap",
    "RunningStandardizer",
    "Standardizer",
    "Whitening",
    "ZScore",
]

"""Remove the modality gap with what was learned from another set of features (paper section 4.2)."""

from i0t.standardize.i0t_post import Standardizer
from i0t.standardize.remover import FORMAT, GapRemover, Modality

__all__ = ["FORMAT", "GapRemover", "Modality", "Standardizer"]

"""Search in a mixed index of images and texts, and its quality."""

from i0t.search.evaluate import MethodResult, evaluate_fitted, evaluate_layout, evaluate_splits
from i0t.search.index import VectorIndex
from i0t.search.mixed_index import MixedLayout, either_kind, half_and_half, search_quality
from i0t.search.qrels import layout_of_qrels, read_qrels
from i0t.search.scores import ScoreStandardizer
from i0t.search.transform import VectorTransform

__all__ = [
    "MethodResult",
    "MixedLayout",
    "ScoreStandardizer",
    "VectorIndex",
    "VectorTransform",
    "either_kind",
    "evaluate_fitted",
    "evaluate_layout",
    "evaluate_splits",
    "half_and_half",
    "layout_of_qrels",
    "read_qrels",
    "search_quality",
]

"""Search in a mixed index of images and texts, and its quality."""

from i0t.search.index import VectorIndex
from i0t.search.judged_layout import documents_of_ids, documents_of_pairs, layout_of_qrels
from i0t.search.methods import MixedTask
from i0t.search.mixed_index import MixedLayout, either_kind
from i0t.search.mixed_search import MixedIndex
from i0t.search.qrels import read_documents, read_qrels
from i0t.search.results import MethodResult
from i0t.search.scores import ScoreStandardizer
from i0t.search.serve import Found, OneList, extreme_scales, offset_items, offset_queries, search_kinds
from i0t.search.splits import all_methods, evaluate_fitted, evaluate_layout, evaluate_splits
from i0t.search.transform import VectorTransform

__all__ = [
    "Found",
    "MethodResult",
    "MixedIndex",
    "MixedLayout",
    "MixedTask",
    "OneList",
    "ScoreStandardizer",
    "VectorIndex",
    "VectorTransform",
    "all_methods",
    "documents_of_ids",
    "documents_of_pairs",
    "either_kind",
    "evaluate_fitted",
    "evaluate_layout",
    "evaluate_splits",
    "extreme_scales",
    "layout_of_qrels",
    "offset_items",
    "offset_queries",
    "read_documents",
    "read_qrels",
    "search_kinds",
]

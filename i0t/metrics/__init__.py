"""Metrics of features: pure functions of arrays that return `dict[str, float]`.

Retrieval (Tables 1-3 and 7), classification (Tables 1, 2 and 7) and correlation with human ratings (Tables 1 and 2)
are in percent, except ranks; mixed search and areas on one scale are in 0..1. `I0TScore` is a torchmetrics metric.
"""

from typing import Any

from i0t.metrics.classification import classification_metrics
from i0t.metrics.correlation import correlation_metrics
from i0t.metrics.cutoff import conformal_cutoff, conformal_p_values
from i0t.metrics.mixed_search import metrics_by_kind, ranked_search_metrics
from i0t.metrics.one_scale import one_scale_auc
from i0t.metrics.retrieval import retrieval_metrics

__all__ = [
    "I0TScore",
    "classification_metrics",
    "conformal_cutoff",
    "conformal_p_values",
    "correlation_metrics",
    "metrics_by_kind",
    "one_scale_auc",
    "ranked_search_metrics",
    "retrieval_metrics",
]


def __getattr__(name: str) -> Any:
    """`I0TScore` on first use: it alone needs torch and torchmetrics."""
    if name != "I0TScore":
        raise AttributeError(f"module 'i0t.metrics' has no attribute {name!r}")
    from i0t.metrics.i0t_score import I0TScore

    return I0TScore

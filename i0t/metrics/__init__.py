"""Scores of a model's features: pure functions of arrays that return `dict[str, float]`.

No model, no file, no device: retrieval (Tables 1-3 and 7), classification (Tables 1, 2 and 7) and
correlation with human judgment (Tables 1 and 2). All values but ranks are in percent.
"""

from i0t.metrics.classification import classification_metrics
from i0t.metrics.correlation import correlation_metrics
from i0t.metrics.retrieval import retrieval_metrics

__all__ = ["classification_metrics", "correlation_metrics", "retrieval_metrics"]

"""Each room normalises each array of features once per call, however many measures it takes.

Run: python -m pytest tests/gap/test_unit_pairs.py
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from i0t import Embeddings, features, gap_intervals, modality_gap
from i0t.commands.gap import measure
from i0t.gap import trust, unit_pairs
from i0t.metrics import classification_metrics, one_scale_auc, ranking, retrieval_metrics

N = 60
IMAGES, TEXTS = np.random.default_rng(0).normal(size=(2, N, 8)).astype(np.float32) + np.eye(8, dtype=np.float32)[0]
NAMES = [str(row) for row in range(N)]


@pytest.fixture
def normalised(monkeypatch) -> Counter:
    """Count how often each array was normalised, by its name in errors."""
    counts: Counter = Counter()

    def counting(array, name="features", **options):
        counts[name] += 1
        return features.l2_normalize(array, name, **options)

    for module in (unit_pairs, ranking):
        monkeypatch.setattr(module, "l2_normalize", counting)
    return counts


@pytest.mark.parametrize(
    "call",
    [
        lambda: modality_gap(IMAGES, TEXTS),
        lambda: gap_intervals(IMAGES, TEXTS, n_bootstrap=100),
        lambda: trust.gap_dimensions(IMAGES, TEXTS),
        lambda: trust.trust_lines(IMAGES, TEXTS),
        lambda: trust.means_leak(IMAGES, TEXTS),
        lambda: measure(Embeddings(IMAGES, TEXTS, np.arange(N), NAMES, NAMES), n_bootstrap=100),
        lambda: retrieval_metrics(IMAGES, TEXTS, np.arange(N), bootstrap=100),
        lambda: one_scale_auc(IMAGES, TEXTS),
    ],
)
def test_once_per_array_and_call(call, normalised):
    call()
    assert normalised == {"image_features": 1, "text_features": 1}


def test_once_in_classification(normalised):
    classification_metrics(IMAGES, TEXTS[:4], np.arange(N) % 4)
    assert normalised == {"image_features": 1, "class_features": 1}

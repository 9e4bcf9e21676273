"""Classification metrics: hand-worked cases, scikit-learn, ties, blocks.

Run: python -m pytest tests/test_metrics_classification.py
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from i0t.errors import I0TError
from i0t.metrics import classification_metrics, retrieval_metrics
from i0t.metrics import ranking as blocks


def task(seed: int, n: int = 300, n_classes: int = 12, dim: int = 16) -> tuple:
    """Noisy images of unequally frequent classes, the last of which never occurs."""
    rng = np.random.default_rng(seed)
    classes = rng.normal(size=(n_classes, dim)).astype(np.float32)
    labels = np.minimum(rng.integers(0, n_classes - 1, n), rng.integers(0, n_classes - 1, n))
    return classes[labels] + 1.5 * rng.normal(size=(n, dim)).astype(np.float32), classes, labels


def predictions(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Best class of each image by a double loop in float64."""
    unit = [c / np.linalg.norm(c) for c in classes.astype(float)]
    return np.array([np.argmax([np.max(image @ c / np.linalg.norm(image, axis=-1)) for c in unit]) for image in images])


def test_hand_worked() -> None:
    """Three images of class 0 (two right), one of class 1 (right), class 2 does not occur."""
    images = np.eye(3)[[0, 0, 1, 1]]
    assert classification_metrics(images, np.eye(3), [0, 0, 0, 1]) == {
        "accuracy": 75.0,
        "balanced_accuracy": pytest.approx(100 * (2 / 3 + 1) / 2),
    }


def test_ties_are_split() -> None:
    """An image between two classes counts one half; an image of a class that is not on top counts 0."""
    images = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    metrics = classification_metrics(images, np.eye(3), [0, 2])
    assert metrics == {"accuracy": 25.0, "balanced_accuracy": 25.0}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # one class never occurs
@pytest.mark.parametrize("queries", [None, 4])
def test_agrees_with_sklearn(queries: int | None) -> None:
    """One vector per image and several, classes of unequal size."""
    images, classes, labels = task(seed=0)
    if queries:
        images = images[:, None] + np.random.default_rng(1).normal(size=(len(images), queries, 16)).astype(np.float32)
    predicted = predictions(images, classes)
    metrics = classification_metrics(images, classes, labels)
    assert metrics["accuracy"] == pytest.approx(100 * accuracy_score(labels, predicted))
    assert metrics["balanced_accuracy"] == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert metrics["accuracy"] != metrics["balanced_accuracy"] and 20 < metrics["accuracy"] < 100


@pytest.mark.parametrize("n_classes", [7, 100, 501])
def test_constant_features_score_chance(n_classes: int) -> None:
    """Exactly 1 / C, whatever the order in which BLAS computes the columns."""
    rng = np.random.default_rng(n_classes)
    images = rng.normal(size=(50, 512)).astype(np.float32)
    classes = np.tile(rng.normal(size=(1, 512)).astype(np.float32), (n_classes, 1))
    metrics = classification_metrics(images, classes, rng.integers(0, n_classes, 50))
    assert metrics["accuracy"] == pytest.approx(100 / n_classes)
    assert metrics["balanced_accuracy"] == pytest.approx(100 / n_classes)


def test_negative_cosines() -> None:
    """All cosines below 0: the least negative wins."""
    assert classification_metrics(np.array([[-1.0, -0.5]]), np.eye(2), [1])["accuracy"] == 100


@pytest.mark.parametrize("block_bytes", [1, 300, 5000])
def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    """Blocks of one image and more."""
    images, classes, labels = task(seed=2)
    whole = classification_metrics(images, classes, labels)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    assert classification_metrics(images, classes, labels) == whole


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16])
def test_labels_of_any_integer(kind: torch.dtype) -> None:
    labels = torch.tensor([0, 0, 1, 1], dtype=kind)
    expected = {"accuracy": 75.0, "balanced_accuracy": 75.0}
    assert classification_metrics(torch.eye(2)[[0, 0, 0, 1]], torch.eye(2), labels) == expected
    assert retrieval_metrics(torch.eye(2), torch.eye(2), torch.tensor([0, 1], dtype=kind), (1,))["i2t_r1"] == 100


def test_torch_agrees() -> None:
    """Tensors and arrays give equal results."""
    arrays = task(seed=3)
    assert classification_metrics(*map(torch.from_numpy, arrays)) == classification_metrics(*arrays)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "expected 3 integers"),
        ([0, 1, 3], r"must lie in 0\.\.2"),
        ([0, -1, 1], r"must lie in 0\.\.2"),
    ],
)
def test_refuses_bad_labels(labels: list, message: str) -> None:
    """The error says which labels are allowed."""
    with pytest.raises(I0TError, match=message):
        classification_metrics(np.eye(3), np.eye(3), labels)

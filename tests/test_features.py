"""The checks and the normalisation of features.

Run: python -m pytest tests/test_features.py
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from i0t.errors import I0TError
from i0t.features import check_shape, is_torch, l2_normalize, to_numpy

# How to make each kind of array from a float64 one, and how far from unit length it may round.
KINDS = {
    "numpy64": (lambda a: a.astype(np.float64), 1e-15),
    "numpy32": (lambda a: a.astype(np.float32), 1e-6),
    "numpy16": (lambda a: a.astype(np.float16), 2e-3),
    "torch64": (lambda a: torch.from_numpy(a), 1e-15),
    "torch32": (lambda a: torch.from_numpy(a).float(), 1e-6),
    "torch16": (lambda a: torch.from_numpy(a).half(), 2e-3),
    "bfloat16": (lambda a: torch.from_numpy(a).bfloat16(), 1e-2),
}


def copy_of(features: Any) -> Any:
    return features.clone() if is_torch(features) else features.copy()


def test_hand_worked():
    assert np.array_equal(l2_normalize(np.array([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0.0, -1.0]])


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3)])
def test_agrees_with_a_loop_and_with_torch(shape):
    values = np.random.default_rng(0).normal(size=shape)
    expected = np.empty(shape)
    for index in np.ndindex(*shape[:-1]):
        expected[index] = [value / math.sqrt(sum(v * v for v in values[index])) for value in values[index]]
    assert l2_normalize(values) == pytest.approx(expected, abs=1e-15)
    tensor = torch.from_numpy(values)
    torch.testing.assert_close(l2_normalize(tensor), F.normalize(tensor, dim=-1), atol=1e-15, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6, 512), (3, 4, 64)])
def test_same_kind_comes_out_and_the_input_stays(kind, shape):
    make, tolerance = KINDS[kind]
    features = make(np.random.default_rng(1).normal(size=shape))
    before = copy_of(features)
    unit = l2_normalize(features)
    assert type(unit) is type(features)
    assert unit.dtype == features.dtype
    assert tuple(unit.shape) == shape
    assert bool((features == before).all())
    assert np.linalg.norm(to_numpy(unit).astype(float), axis=-1) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("kind", ["numpy16", "torch16", "bfloat16"])
@pytest.mark.parametrize("length", [5e-4, 500.0])
def test_half_precision_squares_neither_overflow_nor_vanish(kind, length):
    """(0.6, 0.8) at lengths with squares beyond float16, though the vector itself is within it."""
    unit = l2_normalize(KINDS[kind][0](np.array([[0.6, 0.8]]) * length))
    assert to_numpy(unit)[0] == pytest.approx([0.6, 0.8], abs=5e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "row 2 holds NaN or infinite values"),
        (math.inf, "row 2 holds NaN or infinite values"),
        (-math.inf, "row 2 holds NaN or infinite values"),
        (0.0, "row 2 has zero length and no direction"),
    ],
)
def test_bad_row_is_named(kind, value, message):
    features = np.ones((4, 3))
    features[2] = value
    with pytest.raises(I0TError, match=f"^image_features: {message}. Remove such rows"):
        l2_normalize(KINDS[kind][0](features), "image_features")


def test_one_bad_entry_is_enough():
    features = np.ones((4, 3))
    features[1, 2] = np.nan
    with pytest.raises(I0TError, match="row 1 holds NaN"):
        l2_normalize(features)


def test_rounding_noise_is_no_direction():
    features = np.ones((3, 2))
    features[1] = [0, 1.1e-6]
    l2_normalize(features)
    features[1] = [0, 0.9e-6]
    with pytest.raises(I0TError, match="row 1 has zero length"):
        l2_normalize(features)


def test_further_bad_rows_are_counted_and_items_count_once():
    features = np.ones((6, 2, 3))
    features[[1, 1, 4, 5], [0, 1, 0, 1]] = 0  # both vectors of item 1, one of items 4 and 5
    with pytest.raises(I0TError, match=r"row 1 .* \(and 2 more rows\)"):
        l2_normalize(features)


def test_hint_replaces_the_reason_for_zero_vectors_only():
    with pytest.raises(I0TError, match="row 0 equals the mean"):
        l2_normalize(np.zeros((1, 2)), hint="equals the mean")
    with pytest.raises(I0TError, match="row 0 holds NaN"):
        l2_normalize(np.full((1, 2), np.nan), hint="equals the mean")


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 2, 3)])
def test_check_shape_accepts(shape):
    check_shape(np.zeros(shape, np.float16), "features", dim=shape[-1])
    check_shape(torch.zeros(shape, dtype=torch.bfloat16), "features")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(4), r"expected shape \(N, D\) or \(N, Q, D\), got \(4,\).*features\[None\]"),
        (torch.zeros(1, 2, 3, 4), r"got \(1, 2, 3, 4\)"),
        (np.float64(1), "got float64"),
        ([[1.0, 2.0]], "got list"),
        (None, "got NoneType"),
        (np.zeros((0, 4)), r"empty, shape \(0, 4\)"),
        (torch.zeros(3, 0), r"empty, shape \(3, 0\)"),
        (np.zeros((3, 0, 4)), r"empty, shape \(3, 0, 4\)"),
        (np.zeros((3, 5)), "5 dimensions, expected 4"),
        (np.zeros((3, 4), int), "dtype int64, expected floating point"),
        (np.zeros((3, 4), bool), "dtype bool"),
        (np.zeros((3, 4), complex), "dtype complex128"),
        (torch.zeros(3, 4, dtype=torch.uint8), "dtype torch.uint8"),
        (np.array([["a"] * 4]), "dtype <U1"),
    ],
)
def test_check_shape_refuses(features, message):
    with pytest.raises(I0TError, match=f"^text_features: .*{message}"):
        check_shape(features, "text_features", dim=4)


@pytest.mark.parametrize("kind", KINDS)
def test_to_numpy_keeps_values_and_widens_half_precision(kind):
    features = KINDS[kind][0](np.array([[0.1, -2.5], [65000.0, 1e-6]]))
    array = to_numpy(features)
    assert array.dtype == (np.float64 if kind.endswith("64") else np.float32)
    assert array.tolist() == features.tolist()


def test_to_numpy_of_other_input():
    assert to_numpy([1, 2]).tolist() == [1, 2]
    for kind in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        array = to_numpy(torch.tensor([1, 2], dtype=kind))
        assert np.issubdtype(array.dtype, np.integer) and array.tolist() == [1, 2]
    assert to_numpy(torch.tensor([True, False])).tolist() == [1, 0]
    weights = torch.nn.Parameter(torch.ones(2))
    assert is_torch(weights) and to_numpy(weights * 2).tolist() == [2, 2]  # tracked by autograd
    assert not is_torch(np.ones(2)) and not is_torch([1.0])

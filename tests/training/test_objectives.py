"""Losses: hand-worked cases, naive double loops for values and gradients, combinations of views.

Run: python -m pytest tests/training/test_objectives.py
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from i0t.training.objectives import Contrastive, CyClip, multi_view


def batch(seed: int, size: int = 5, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit features and a logit scale, in float64, ready for gradients."""
    generator = torch.Generator().manual_seed(seed)
    sides = (F.normalize(torch.randn(size, dim, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    return *(side.requires_grad_() for side in sides), torch.tensor(7.0, dtype=torch.float64, requires_grad=True)


def dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return sum(a * b for a, b in zip(one, other, strict=True))


def naive_contrastive(x: torch.Tensor, y: torch.Tensor, scale: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Symmetric cross-entropy pair by pair; smoothing spreads its share evenly over all classes."""
    total = 0.0
    for rows, columns in ((x, y), (y, x)):
        for i, row in enumerate(rows):
            logits = [scale * dot(row, column) for column in columns]
            log_sum = torch.log(sum(torch.exp(logit) for logit in logits))
            for j, logit in enumerate(logits):
                share = smoothing / len(logits) + (1 - smoothing) * (i == j)
                total = total - share * (logit - log_sum)
    return total / (2 * len(x))


def naive_cyclic(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In-modal and cross-modal terms: means over all (i, j), times B (METHOD, LCCO)."""
    size = len(x)
    pairs = [(i, j) for i in range(size) for j in range(size)]
    in_modal = sum((dot(x[i], x[j]) - dot(y[i], y[j])) ** 2 for i, j in pairs) / size**2 * size
    cross_modal = sum((dot(x[i], y[j]) - dot(x[j], y[i])) ** 2 for i, j in pairs) / size**2 * size
    return in_modal, cross_modal


def gradients(loss: torch.Tensor, inputs: tuple) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(value) if gradient is None else gradient for value, gradient in zip(inputs, found, strict=True)
    ]


def assert_equal_with_gradients(loss: torch.Tensor, expected: torch.Tensor, inputs: tuple) -> None:
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    for one, other in zip(gradients(loss, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-10)


X, Y, SCALE = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]]), torch.tensor(5.0)


def test_hand_worked():
    """Cosines ((.8, 0), (.6, 1)), times 5: logits ((4, 0), (3, 5)); texts' own cosine .6."""
    losses = CyClip(0.25, 0.5)(X, Y, SCALE)
    rows, columns = (4, 2), (1, 5)  # by how much the right one leads, for images and for texts
    entropy = sum(math.log(1 + math.exp(-lead)) for lead in (*rows, *columns)) / 4
    assert {key: float(value) for key, value in losses.items()} == pytest.approx(
        {
            "contrastive_loss": entropy,
            "in_modal_cyclic_loss": 0.25 * (2 * 0.6**2 / 4) * 2,
            "cross_modal_cyclic_loss": 0.5 * (2 * 0.6**2 / 4) * 2,
        }
    )
    alone = Contrastive()(X, Y, SCALE)
    assert set(alone) == {"contrastive_loss"}
    assert float(alone["contrastive_loss"]) == pytest.approx(entropy)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_contrastive_agrees_with_double_loop(seed, smoothing):
    inputs = batch(seed)
    loss = Contrastive(smoothing)(*inputs)["contrastive_loss"]
    assert_equal_with_gradients(loss, naive_contrastive(*inputs, smoothing), inputs)


@pytest.mark.parametrize("seed", [2, 3])
def test_cyclic_terms_agree_with_double_loop(seed):
    inputs = batch(seed)
    losses = CyClip(0.3, 0.7, label_smoothing=0.2)(*inputs)
    in_modal, cross_modal = naive_cyclic(*inputs[:2])
    assert_equal_with_gradients(losses["in_modal_cyclic_loss"], 0.3 * in_modal, inputs)
    assert_equal_with_gradients(losses["cross_modal_cyclic_loss"], 0.7 * cross_modal, inputs)
    assert_equal_with_gradients(losses["contrastive_loss"], naive_contrastive(*inputs, 0.2), inputs)


def test_label_smoothing_agrees_with_torch():
    x, y, scale = batch(4)
    logits, targets = scale * x @ y.T, torch.arange(5)
    expected = sum(F.cross_entropy(side, targets, label_smoothing=0.1) for side in (logits, logits.T)) / 2
    torch.testing.assert_close(Contrastive(0.1)(x, y, scale)["contrastive_loss"], expected)
    assert (expected - Contrastive()(x, y, scale)["contrastive_loss"]).abs() > 1e-3


def test_paper_weights_are_the_default():
    inputs = batch(5)
    assert CyClip()(*inputs) == CyClip(0.25, 0.25, 0.0)(*inputs)


def test_cyclic_terms_are_zero_where_both_sides_are_alike():
    """Equal sides: both terms. A turned copy: the in-modal term alone. A swap of two: cross-modal alone."""
    x, _, scale = batch(6)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64))[0]
    for texts, zero in ((x, (True, True)), (x @ turn, (True, False)), (-x, (True, True))):
        losses = CyClip()(x.detach(), texts.detach(), scale)
        found = [float(losses[key]) < 1e-12 for key in ("in_modal_cyclic_loss", "cross_modal_cyclic_loss")]
        assert tuple(found) == zero
    symmetric = torch.eye(3)[[0, 1]], torch.tensor([[0.6, 0.8, 0.0], [0.8, 0.0, 0.6]])  # cosines .8 in both directions
    losses = CyClip()(*symmetric, torch.tensor(1.0))
    assert float(losses["cross_modal_cyclic_loss"]) == 0 < float(losses["in_modal_cyclic_loss"])


def test_swapping_the_sides_changes_no_loss():
    x, y, scale = batch(7)
    swapped = CyClip()(y, x, scale)
    for key, value in CyClip()(x, y, scale).items():
        torch.testing.assert_close(swapped[key], value)


def test_right_pairs_lose_less_than_shuffled_ones():
    x, _, scale = batch(8)
    assert Contrastive()(x, x, scale)["contrastive_loss"] < Contrastive()(x, x.flip(0), scale)["contrastive_loss"]
    uniform = Contrastive()(x, x, torch.tensor(0.0))["contrastive_loss"]
    assert float(uniform.detach()) == pytest.approx(math.log(5))


@pytest.mark.parametrize("objective", [Contrastive(), CyClip()])
def test_one_view_is_the_objective_itself(objective):
    x, y, scale = batch(9)
    assert multi_view(objective, [x], [y], scale) == objective(x, y, scale)


@pytest.mark.parametrize("objective", [Contrastive(), CyClip(0.3, 0.7)])
def test_two_views_are_the_mean_of_the_four_combinations(objective):
    """{I, I_aug} x {T, T_aug}, with gradients to all four."""
    x, y, scale = batch(10)
    x2, y2, _ = batch(11)
    inputs = (x, x2, y, y2, scale)
    losses = multi_view(objective, (x, x2), (y, y2), scale)
    four = [objective(x, y, scale), objective(x, y2, scale), objective(x2, y, scale), objective(x2, y2, scale)]
    assert set(losses) == set(four[0])
    for key, value in losses.items():
        assert_equal_with_gradients(value, (four[0][key] + four[1][key] + four[2][key] + four[3][key]) / 4, inputs)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients(losses["contrastive_loss"], inputs))

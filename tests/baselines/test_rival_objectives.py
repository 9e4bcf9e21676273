"""Objectives of the rivals and of Long-CLIP: original values, naive re-statements, gradients that stay finite.

Run: python -m pytest tests/test_rival_objectives.py
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from baselines.cloob_loss import Cloob, hopfield_retrieval, info_loob
from baselines.unif_align import UnifAlign, uniformity_loss
from i0t.gap import alignment, uniformity
from i0t.paths import REPO
from i0t.training.objectives import Contrastive, CyClip, LongClip
from i0t.training.objectives.long_clip import pca_reconstruction
from tests.training.test_objectives import assert_equal_with_gradients, batch, dot, naive_contrastive


@pytest.fixture(scope="module")
def original() -> dict[str, torch.Tensor]:
    """Inputs, losses and gradients of the original repositories' code (tests/fixtures/README.md)."""
    with np.load(REPO / "tests" / "fixtures" / "losses.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


# --- the original code -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "objective", "scale"), [("cloob", Cloob(), 1.0), ("cyclip", CyClip(0.25, 0.25), 20.0)]
)
def test_loss_and_gradients_of_the_original_code(original, name, objective, scale):
    x, y = (original[f"{side}_features"].clone().requires_grad_() for side in ("image", "text"))
    losses = objective(x, y, torch.tensor(scale))
    total = sum(losses.values())
    assert float(total.detach()) == pytest.approx(float(original[f"{name}_loss"]), rel=1e-5)
    for side, found in zip(("image", "text"), torch.autograd.grad(total, (x, y)), strict=True):
        torch.testing.assert_close(found, original[f"{name}_{side}_grad"], atol=1e-5, rtol=1e-4)


def test_terms_of_the_original_cyclip(original):
    losses = CyClip(0.25, 0.25)(original["image_features"], original["text_features"], torch.tensor(20.0))
    assert float(losses["contrastive_loss"]) == pytest.approx(float(original["cyclip_contrastive"]), rel=1e-5)
    cyclic = losses["in_modal_cyclic_loss"] + losses["cross_modal_cyclic_loss"]
    assert float(cyclic) == pytest.approx(float(original["cyclip_cyclic"]), rel=1e-5)


def test_reconstruction_of_the_original_long_clip(original):
    found = pca_reconstruction(original["image_features"], 3)
    torch.testing.assert_close(found, original["long_clip_pca3"], atol=1e-5, rtol=1e-5)


# --- hand-worked -----------------------------------------------------------------------------


def test_info_loob_hand_worked():
    """Two pairs with cosines ((.8, 0), (.6, 1)): the only negative of a row is the other one."""
    anchors, candidates = torch.eye(2), torch.tensor([[0.8, 0.6], [0.0, 1.0]])
    assert float(info_loob(anchors, candidates, 5.0)) == pytest.approx(((0.0 - 0.8) + (0.6 - 1.0)) / 2)


def test_hopfield_retrieval_hand_worked():
    """A state midway between two stored patterns retrieves their normalised mean; a far stronger one itself."""
    stored = torch.eye(2)
    middle = torch.tensor([[math.sqrt(0.5)] * 2])
    assert hopfield_retrieval(middle, stored, 14.3).tolist() == [pytest.approx([math.sqrt(0.5)] * 2)]
    weight = 1 / (1 + math.exp(-2.0))  # softmax of (2, 0)
    expected = torch.tensor([[weight, 1 - weight]])
    torch.testing.assert_close(hopfield_retrieval(torch.tensor([[1.0, 0.0]]), stored, 2.0), F.normalize(expected))


def test_unif_align_hand_worked():
    """Images e1, e2 and texts e1, -e1: squared distances 0 and 2 of pairs, 2 of images, 4 of texts."""
    images, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    losses = UnifAlign(0.0, 1.0, 0.5)(images, texts, torch.tensor(1.0))
    assert float(losses["alignment_loss"]) == pytest.approx(1.0)
    assert float(losses["uniformity_loss"]) == pytest.approx(0.5 * (-4 - 8))


# --- independent references ------------------------------------------------------------------


def test_unif_align_agrees_with_the_measures_and_with_pdist():
    x, y, scale = batch(20, size=7)
    losses = UnifAlign()(x, y, scale)
    pairs = np.stack([np.arange(7)] * 2, axis=1)
    images, texts = x.detach().numpy(), y.detach().numpy()
    assert float(losses["alignment_loss"].detach()) == pytest.approx(alignment(images, texts, pairs))
    both = uniformity(images) + uniformity(texts)
    assert float(losses["uniformity_loss"].detach()) == pytest.approx(both)
    # Behind the normalisation, as in training: off the unit sphere the two are different functions.
    raw = [(3 * side.detach()).requires_grad_() for side in (x, y)]
    units = [F.normalize(side, dim=1) for side in raw]
    naive = sum(torch.pdist(side).square().mul(-2).exp().mean().log() for side in units)
    assert_equal_with_gradients(UnifAlign()(*units, scale)["uniformity_loss"], naive, tuple(raw))
    assert_equal_with_gradients(losses["contrastive_loss"], naive_contrastive(x, y, scale, 0.1), (x, y, scale))


def test_cloob_agrees_with_loops():
    x, y, scale = batch(21)

    def retrieve(states: torch.Tensor, stored: torch.Tensor) -> list[torch.Tensor]:
        rows = []
        for state in states:
            weights = [torch.exp(14.3 * dot(state, pattern)) for pattern in stored]
            mixed = sum(w * pattern for w, pattern in zip(weights, stored, strict=True)) / sum(weights)
            rows.append(mixed / torch.sqrt(dot(mixed, mixed)))
        return rows

    def loob(anchors: list[torch.Tensor], candidates: list[torch.Tensor]) -> torch.Tensor:
        total = 0.0
        for i, anchor in enumerate(anchors):
            others = [torch.exp(dot(anchor, c) / 0.07) for j, c in enumerate(candidates) if j != i]
            total = total + torch.log(sum(others)) - dot(anchor, candidates[i]) / 0.07
        return 0.07 * total / len(anchors)

    losses = Cloob()(x, y, scale)
    assert_equal_with_gradients(losses["image_loob_loss"], loob(retrieve(x, x), retrieve(y, x)), (x, y))
    assert_equal_with_gradients(losses["text_loob_loss"], loob(retrieve(y, y), retrieve(x, y)), (x, y))


def naive_reconstruction(x: torch.Tensor, components: int) -> torch.Tensor:
    """By autograd through torch's own SVD: exact where no two singular values meet."""
    mean = x.mean(dim=0)
    _, _, axes = torch.linalg.svd(x - mean, full_matrices=False)
    return (x - mean) @ axes[:components].T @ axes[:components] + mean


@pytest.mark.parametrize("components", [1, 3, 5])
def test_long_clip_agrees_with_autograd_through_the_svd(components):
    x, y, scale = batch(22, size=9, dim=6)
    short = batch(23, size=9, dim=6)[1]
    losses = LongClip(components)(x, y, scale, short)
    assert_equal_with_gradients(losses["contrastive_loss"], naive_contrastive(x, y, scale, 0.1), (x, y, scale))
    expected = Contrastive(0.1)(naive_reconstruction(x, components), short, scale)["contrastive_loss"]
    torch.testing.assert_close(losses["short_contrastive_loss"], expected, atol=1e-12, rtol=1e-12)
    inputs = (x, short, scale)
    found = torch.autograd.grad(losses["short_contrastive_loss"], inputs)
    for one, other in zip(found, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)


def test_reconstruction_agrees_with_scikit_learn():
    from sklearn.decomposition import PCA

    x = batch(24, size=40, dim=12)[0].detach()
    pca = PCA(5).fit(x.numpy())
    expected = pca.inverse_transform(pca.transform(x.numpy()))
    assert pca_reconstruction(x, 5).numpy() == pytest.approx(expected, abs=1e-12)


# --- where autograd through an SVD gives NaN ----------------------------------------------------


@pytest.mark.parametrize(
    "features",
    [
        torch.eye(6),  # all singular values equal
        torch.eye(3).repeat(3, 1),  # repeated rows
        torch.ones(8, 4),  # a collapsed model
        torch.cat([torch.eye(4), -torch.eye(4)]),  # the third and fourth meet
    ],
    ids=["equal", "repeated", "collapsed", "symmetric"],
)
def test_gradients_stay_finite_where_singular_values_meet(features):
    x = features.clone().requires_grad_()
    short = F.normalize(torch.randn(len(x), x.shape[1], generator=torch.Generator().manual_seed(0)), dim=1)
    losses = LongClip(components=3)(x, short, torch.tensor(100.0), short)
    gradient = torch.autograd.grad(sum(losses.values()), x)[0]
    assert torch.isfinite(gradient).all()
    assert float(gradient.norm()) < 1e4


def test_autograd_through_the_svd_gives_nan_there():
    """The case that the test above protects from."""
    x = torch.eye(6).requires_grad_()
    gradient = torch.autograd.grad(naive_reconstruction(x, 3).square().sum(), x)[0]
    assert not torch.isfinite(gradient).all()


def test_a_small_batch_loses_nothing():
    x = batch(25, size=5, dim=16)[0]
    assert pca_reconstruction(x, 4) is x
    assert pca_reconstruction(x, 3) is not x


def test_equal_images_have_a_finite_uniformity_gradient():
    x = torch.ones(4, 4).div(2).requires_grad_()
    assert torch.isfinite(torch.autograd.grad(uniformity_loss(x), x)[0]).all()

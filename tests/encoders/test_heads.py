"""Normalisation heads: the written-out formulas in train and eval mode (section 4.2, App. E).

Run: python -m pytest tests/encoders/test_heads.py
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from i0t import I0TError
from i0t.encoders.heads import KINDS, NormHeads

DIM = 6


def unit(seed: int, count: int = 10) -> torch.Tensor:
    """Unit vectors in a cone, as encoders give them."""
    vectors = torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)) + 2 * torch.eye(DIM)[0]
    return F.normalize(vectors, dim=1)


@pytest.fixture
def batch_norm() -> NormHeads:
    """Heads with weights and biases that differ from the initial ones."""
    return with_weights(NormHeads("batch_norm", DIM))


def with_weights(heads: NormHeads) -> NormHeads:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.copy_(torch.rand(DIM, generator=generator) + 0.5)
    return heads


def written_out(x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
    """x^ = N(W (x - mu) / sqrt(var + 1e-5) + b), in float64."""
    y = layer.weight.double() * (x.double() - mean) / (variance + 1e-5).sqrt() + layer.bias.double()
    return y / y.square().sum(dim=1, keepdim=True).sqrt()


@pytest.mark.parametrize("modality", ["image", "text"])
def test_batch_norm_in_train_mode_uses_the_batch(batch_norm, modality):
    x, layer = unit(1), getattr(batch_norm, modality)
    double = x.double()
    mean = double.mean(dim=0)
    biased = (double - mean).square().mean(dim=0)
    batch_norm.train()
    torch.testing.assert_close(batch_norm(x, modality).double(), written_out(x, mean, biased, layer), atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_batch_norm_at_inference_uses_running_statistics_of_momentum_a_tenth(batch_norm, modality):
    mean, variance = torch.zeros(DIM, dtype=torch.float64), torch.ones(DIM, dtype=torch.float64)
    batch_norm.train()
    for seed in (1, 2, 3):
        x = unit(seed).double()
        batch_norm(unit(seed), modality)
        unbiased = (x - x.mean(dim=0)).square().sum(dim=0) / (len(x) - 1)
        mean, variance = 0.9 * mean + 0.1 * x.mean(dim=0), 0.9 * variance + 0.1 * unbiased
    layer = getattr(batch_norm, modality)
    torch.testing.assert_close(layer.running_mean.double(), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(layer.running_var.double(), variance, atol=1e-6, rtol=0)
    batch_norm.eval()
    x = unit(4, count=1)  # a single vector is enough now
    expected = written_out(x, mean, variance, layer)
    torch.testing.assert_close(batch_norm(x, modality).double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.running_mean.double(), mean, atol=1e-6, rtol=0)
    other = batch_norm.text if modality == "image" else batch_norm.image
    assert other.running_mean.equal(torch.zeros(DIM)), "the other modality has seen nothing"


def test_small_variances_are_guarded_by_eps(batch_norm):
    """Batch variance 1e-8 next to eps 1e-5: without eps the output would be 30 times as spread."""
    x = unit(5, count=1) + 1e-4 * torch.randn(50, DIM, generator=torch.Generator().manual_seed(5))
    double = x.double()
    mean = double.mean(dim=0)
    expected = written_out(x, mean, (double - mean).square().mean(dim=0), batch_norm.image)
    torch.testing.assert_close(batch_norm.train()(x, "image").double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_layer_norm_is_the_same_in_both_modes(training, modality):
    heads = with_weights(NormHeads("layer_norm", DIM)).train(training)
    x = unit(6)
    rows = x.double()
    mean = rows.mean(dim=1, keepdim=True)
    variance = (rows - mean).square().mean(dim=1, keepdim=True)
    expected = written_out(x, mean, variance, getattr(heads, modality))
    torch.testing.assert_close(heads(x, modality).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_output_is_unit_and_the_input_stays(kind, training):
    heads, x = with_weights(NormHeads(kind, DIM)).train(training), unit(7)
    before = x.clone()
    assert heads(x, "image").norm(dim=1).tolist() == pytest.approx([1] * 10, abs=1e-6)
    assert x.equal(before)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_under_bf16_autocast(kind, training):
    """The variance of unit vectors is about 1/D; bf16 would leave two digits of it."""
    x = unit(8)
    plain = with_weights(NormHeads(kind, DIM)).train(training)(x, "text")
    heads = with_weights(NormHeads(kind, DIM)).train(training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x.T).dtype == torch.bfloat16, "autocast is on"
        inside = heads(x, "text")
        half = heads(x.bfloat16(), "text")
    assert inside.dtype == half.dtype == torch.float32
    assert inside.equal(plain)
    assert half.norm(dim=1).tolist() == pytest.approx([1] * 10, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_two_by_two_by_d_and_get_gradients(kind):
    heads = NormHeads(kind, DIM).train()
    assert sum(parameter.numel() for parameter in heads.parameters()) == 2 * 2 * DIM
    (heads(unit(9), "image") - heads(unit(10), "text")).square()[:, 1].sum().backward()
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in heads.parameters())


def test_unknown_kind_is_refused():
    with pytest.raises(I0TError, match="'group_norm': choose one of batch_norm, layer_norm"):
        NormHeads("group_norm", DIM)

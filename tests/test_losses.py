"""Every term against an independent reference."""

from aecourse import losses

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence


def test_kl_normal_is_that_of_torch_distributions():
    mu, logvar = torch.randn(7, 5), torch.randn(7, 5)
    reference = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(losses.kl_normal(mu, logvar), reference)


def test_kl_bernoulli_is_that_of_torch_distributions():
    rho_hat = torch.rand(6) * 0.9 + 0.05
    reference = kl_divergence(Bernoulli(torch.tensor(0.1)), Bernoulli(rho_hat)).sum()
    torch.testing.assert_close(losses.kl_bernoulli(rho_hat, 0.1), reference)
    with pytest.raises(ValueError, match="between 0 and 1"):
        losses.kl_bernoulli(rho_hat, 1.5)


def test_bce_is_minus_the_bernoulli_log_likelihood():
    x_hat, x = torch.rand(4, 1, 3, 3), torch.bernoulli(torch.full((4, 1, 3, 3), 0.5))
    reference = -Bernoulli(x_hat).log_prob(x).flatten(1).sum(1).mean()
    torch.testing.assert_close(losses.bce(x_hat, x), reference)
    assert losses.bce(torch.ones(1, 1), torch.zeros(1, 1)).isfinite()


def test_bce_with_logits_is_bce_of_their_sigmoid():
    logits, x = 3 * torch.randn(4, 1, 3, 3), torch.rand(4, 1, 3, 3)
    torch.testing.assert_close(losses.bce_with_logits(logits, x), losses.bce(logits.sigmoid(), x))


@pytest.mark.parametrize("term", [losses.bce, losses.bce_with_logits])
@pytest.mark.parametrize("low, high", [(-1, 1), (0, 255), (-3, 3)])
def test_targets_outside_the_unit_interval_are_refused_with_their_range(term, low, high):
    x = low + (high - low) * torch.rand(4, 50)
    with pytest.raises(ValueError, match=r"target x in \[0, 1\], got .* to .*squared_error"):
        term(torch.rand(4, 50), x)


def test_bce_refuses_logits_and_passes_nan_on():
    with pytest.raises(ValueError, match=r"x_hat in \[0, 1\], got .*use bce_with_logits"):
        losses.bce(3 * torch.randn(4, 5), torch.rand(4, 5))
    assert losses.bce(torch.full((2, 2), torch.nan), torch.rand(2, 2)).isnan()


def test_terms_under_autocast_are_computed_in_float32():
    layer, x = nn.Linear(20, 20), torch.rand(6, 20)
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(x)
        values = [
            losses.bce(logits.sigmoid(), x),
            losses.bce_with_logits(logits, x),
            losses.squared_error(logits, x),
            losses.kl_normal(logits, logits),
            losses.discriminator_loss(logits, logits),
            losses.generator_loss(logits),
        ]
    assert logits.dtype == torch.bfloat16
    assert all(value.dtype == torch.float32 for value in values)
    torch.testing.assert_close(values[3], losses.kl_normal(logits.float(), logits.float()))


def test_terms_sum_over_features_and_average_over_the_batch():
    x_hat, x = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    for term in (losses.squared_error, losses.bce, losses.bce_with_logits):
        one_by_one = sum(term(a[None], b[None]) for a, b in zip(x_hat, x)) / 4
        torch.testing.assert_close(term(x_hat, x), one_by_one)
        twice_as_wide = term(torch.cat([x_hat, x_hat], 1), torch.cat([x, x], 1))
        torch.testing.assert_close(twice_as_wide, 2 * term(x_hat, x))
    assert losses.l1(torch.tensor([[1.0, -2.0], [0.0, 3.0]])) == 3


@pytest.mark.parametrize("term", [losses.squared_error, losses.bce, losses.bce_with_logits])
def test_shapes_that_would_broadcast_are_refused(term):
    with pytest.raises(ValueError, match=r"\(4, 1\).*\(4,\)"):
        term(torch.rand(4, 1), torch.rand(4))


def test_contractive_is_the_norm_of_autograds_jacobian_and_can_be_trained_through():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 3))
    x = torch.randn(5, 3, 4)
    jacobian = torch.autograd.functional.jacobian
    reference = sum(jacobian(lambda v: encoder(v[None])[0], row).pow(2).sum() for row in x) / 5
    value = losses.contractive(encoder, x)
    torch.testing.assert_close(value, reference)
    value.backward()
    assert encoder[1].weight.grad.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(losses.contractive(encoder, x), reference)


def test_contractive_of_a_sigmoid_layer_is_rifais_closed_form():
    layer = nn.Linear(8, 4)
    x = torch.randn(6, 8)
    h = torch.sigmoid(layer(x))
    closed = ((h * (1 - h)) ** 2 @ layer.weight.pow(2).sum(1)).mean()
    torch.testing.assert_close(losses.contractive(lambda v: torch.sigmoid(layer(v)), x), closed)


def test_adversarial_terms_are_binary_cross_entropies():
    real, fake = torch.randn(9, 1), torch.randn(9, 1)
    ones, cross_entropy = torch.ones(9, 1), nn.BCEWithLogitsLoss()
    reference = cross_entropy(real, ones) + cross_entropy(fake, 0 * ones)
    torch.testing.assert_close(losses.discriminator_loss(real, fake), reference)
    torch.testing.assert_close(losses.generator_loss(fake), cross_entropy(fake, ones))


def test_perceptual_is_zero_only_for_equal_features():
    maps = nn.Conv2d(3, 4, 3)
    x = torch.rand(2, 3, 8, 8)

    def features(v):
        return [maps(v), v.mean((2, 3))]

    assert losses.perceptual(features, x, x) == 0
    expected = sum(map(losses.squared_error, features(x * 0), features(x)))
    torch.testing.assert_close(losses.perceptual(features, x * 0, x), expected)

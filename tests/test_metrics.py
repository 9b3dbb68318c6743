"""Every metric against scikit-image, scikit-learn, scipy, or a closed form."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.stats import energy_distance
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from torch.distributions import Bernoulli, Normal

from aecourse import metrics
from aecourse.data import subspace
from aecourse.models import VAE, mlp_decoder, mlp_encoder


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_psnr_and_ssim_are_scikit_images(shape):
    x = torch.rand(4, *shape)
    x_hat = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(x, x_hat)]
    np.testing.assert_allclose(metrics.psnr(x_hat, x), [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs], rtol=1e-5)
    reference = [structural_similarity(a, b, data_range=1, channel_axis=0) for a, b in pairs]
    np.testing.assert_allclose(metrics.ssim(x_hat, x), reference, rtol=1e-4)
    assert metrics.psnr(x, x).isinf().all() and torch.allclose(metrics.ssim(x, x), torch.ones(4))


def test_ssim_refuses_what_is_no_image():
    with pytest.raises(ValueError, match="7x7"):
        metrics.ssim(torch.rand(2, 1, 5, 5), torch.rand(2, 1, 5, 5))


def test_sharpness_falls_with_blur():
    x = torch.rand(3, 1, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(x, 3, stride=1)
    assert (metrics.sharpness(blurred) < 0.5 * metrics.sharpness(x)).all()
    assert metrics.sharpness(torch.full((1, 3, 8, 8), 0.3)) == pytest.approx(0, abs=1e-10)


def test_average_precision_is_scikit_learns_and_weights_stand_for_rows():
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < 0.1).astype(int)
    scores = labels + rng.normal(size=500)
    assert metrics.average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores))
    weights = np.where(labels == 0, 3, 1)
    repeated = metrics.average_precision(np.repeat(scores, weights), np.repeat(labels, weights))
    assert metrics.average_precision(scores, labels, weights=weights) == pytest.approx(repeated)


def test_precision_at_k_and_auroc_by_hand():
    scores, labels = [0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]
    assert metrics.precision_at(scores, labels, 1) == 1 and metrics.precision_at(scores, labels, 2) == 0.5
    assert metrics.auroc(scores, labels) == pytest.approx(3 / 4)


@pytest.mark.parametrize("scores, labels, said", [
    ([1, 2], [1], "one score per label"), ([1, 2], [1, 1], "both present"), ([1, 2], [0, 2], "0 and 1"), ([np.nan, 2], [0, 1], "NaN"),
])
def test_bad_rankings_are_refused(scores, labels, said):
    for metric in (metrics.average_precision, metrics.auroc):
        with pytest.raises(ValueError, match=said):
            metric(scores, labels)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        interval = metrics.bootstrap(np.mean, rng.normal(size=50), n=200, level=0.9, seed=seed)
        assert interval.low < interval.value < interval.high
        covered += interval.low < 0 < interval.high
    assert 80 <= covered <= 97


def test_bootstrap_keeps_both_kinds_of_labels():
    labels = np.array([1] + [0] * 60)
    interval = metrics.bootstrap(metrics.average_precision, np.arange(61), labels, n=50)
    assert interval.value == pytest.approx(1 / 61)


def test_principal_angles_are_scipys_smallest_first():
    a, b = torch.randn(10, 3), torch.randn(10, 4)
    reference = np.sort(np.degrees(subspace_angles(a.double().numpy(), b.double().numpy())))
    np.testing.assert_allclose(metrics.principal_angles(a, b), reference, atol=1e-6)
    x, basis = subspace(500, 12, 3, noise=0.01)
    assert metrics.principal_angles(PCA(3).fit(x.numpy()).components_.T, basis).max() < 1


def test_linear_probe_reads_what_is_linear_and_only_that():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(600, 4, generator=g)
    straight, ring = (z[:, 0] > 0).long(), (z[:, :2].norm(dim=1) > 1.18).long()
    assert metrics.linear_probe(z[:300], straight[:300], z[300:], straight[300:]) > 0.95
    assert metrics.linear_probe(z[:300], ring[:300], z[300:], ring[300:]) < 0.65


def test_active_units_counts_the_ones_that_vary():
    mu = torch.randn(500, 6) * torch.tensor([1, 1, 1, 0.01, 0.0, 0.5])
    assert metrics.active_units(mu) == 4


@pytest.mark.parametrize("final", [torch.nn.Sigmoid, None])
def test_importance_weighted_nll_tends_to_the_integral_from_above(final):
    torch.manual_seed(0)
    vae = VAE(mlp_encoder((5,), [8], 2), mlp_decoder(1, [8], (5,), final=final))
    x = torch.bernoulli(torch.full((120, 5), 0.4))
    z = torch.linspace(-8, 8, 4001)[:, None]
    p = vae.decode(z) if final else vae.decode(z).sigmoid()
    joint = Bernoulli(p[:, None]).log_prob(x).sum(2) + Normal(0, 1).log_prob(z)
    exact = -torch.log(torch.trapezoid(joint.exp(), z[:, 0], dim=0))
    few, many = (metrics.importance_weighted_nll(vae, x, k, logits=final is None) for k in (1, 5000))
    torch.testing.assert_close(many, exact, atol=0.1, rtol=0)
    assert float(many.mean()) == pytest.approx(float(exact.mean()), abs=5e-3)
    assert few.mean() > exact.mean() + 0.01 and many.shape == (120,)


def test_frechet_of_normals_is_the_closed_form():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200_000, 2)), 1 + 2 * rng.normal(size=(200_000, 2))
    assert metrics.frechet(a, b) == pytest.approx(2 * 1 + 2 * (2 - 1) ** 2, rel=0.02)      # |mu|^2 + sum (s_a - s_b)^2
    assert metrics.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_energy_distance_is_scipys_and_tells_apart_what_moments_do_not():
    a, b = torch.randn(300, dtype=torch.float64), 1 + torch.randn(200, dtype=torch.float64)
    assert metrics.energy_distance(a[:, None], b[:, None]) == pytest.approx(energy_distance(a, b) ** 2)      # scipy's is the root
    assert metrics.energy_distance(a[:, None], a[:, None]) == pytest.approx(0, abs=1e-9)
    g = torch.Generator().manual_seed(0)
    normal, again, coins = torch.randn(500, 3, generator=g), torch.randn(500, 3, generator=g), torch.randn(500, 3, generator=g).sign()
    assert metrics.energy_distance(normal, coins) > 5 * metrics.energy_distance(normal, again) > 0           # same mean, same variance
    with pytest.raises(ValueError, match="two sets of points"):
        metrics.energy_distance(normal, torch.randn(500, 2))


def test_si_snr_does_not_see_scale_and_counts_noise():
    t = torch.linspace(0, 1, 8000)
    clean = torch.sin(2 * torch.pi * 100 * t)
    noise = torch.sin(2 * torch.pi * 333 * t)            # orthogonal to the tone: the power ratio is exact
    assert metrics.si_snr(0.3 * (clean + 0.1 * noise), clean) == pytest.approx(20, abs=0.05)

"""Every metric against scikit-image, scikit-learn, SciPy, or a closed form."""

from aecourse import metrics
from aecourse.models import VAE, mlp_decoder, mlp_encoder

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from scipy.stats import energy_distance
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.distributions import Bernoulli, Normal

KINDS = [lambda v: v.clone().requires_grad_(), torch.Tensor.numpy, torch.Tensor.tolist]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["tensor", "numpy", "list"])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 16, 16)])
def test_psnr_and_ssim_equal_scikit_image_and_sharpness_falls_with_blur(shape):
    x = torch.rand(4, *shape)
    x_hat = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    pairs = [(b.numpy(), a.numpy()) for a, b in zip(x_hat, x)]
    psnr = [peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs]
    np.testing.assert_allclose(metrics.psnr(x_hat, x), psnr, rtol=1e-5)
    ssim = [structural_similarity(*pair, data_range=1, channel_axis=0) for pair in pairs]
    np.testing.assert_allclose(metrics.ssim(x_hat.requires_grad_(), x), ssim, rtol=1e-5)
    assert metrics.psnr(x, x).isinf().all() and (metrics.ssim(x, x) == 1).all()
    with pytest.raises(ValueError, match="7x7"):
        metrics.ssim(x[..., :5], x[..., :5])
    blurred = torch.nn.functional.avg_pool2d(x, 3, stride=1)
    assert (metrics.sharpness(blurred) < 0.5 * metrics.sharpness(x)).all()


@every_kind
def test_rankings_equal_scikit_learn(kind):
    scores, labels = torch.randn(500), torch.arange(500) % 10 == 0
    given, precision = (kind(scores), labels.tolist()), average_precision_score(labels, scores)
    assert metrics.auroc(*given) == pytest.approx(roc_auc_score(labels, scores))
    assert metrics.average_precision(*given) == pytest.approx(precision)
    interval = metrics.bootstrap(metrics.average_precision, *given, n=10)
    assert interval.value == pytest.approx(precision)
    assert metrics.precision_at(*given, 1) == labels[scores.argmax()]
    times = 3 - 2 * labels.long()  # weights stand for repeated rows
    repeated = [v.repeat_interleave(times) for v in (labels, scores)]
    weighted = metrics.average_precision(*given, weights=times.tolist())
    assert weighted == pytest.approx(average_precision_score(*repeated))


@pytest.mark.parametrize("metric", [metrics.average_precision, metrics.auroc])
def test_bad_scores_and_labels_are_refused(metric):
    wrong = ([1, 2], [1], "one score per label"), ([1, 2], [1, 1], "both present")
    for scores, labels, message in (*wrong, ([np.nan, 2], [0, 1], "NaN")):
        with pytest.raises(ValueError, match=message):
            metric(scores, labels)


@pytest.mark.slow
def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say():
    samples = np.random.default_rng(1).normal(size=(100, 50))
    runs = [metrics.bootstrap(np.mean, x, level=0.9, seed=i) for i, x in enumerate(samples)]
    assert all(run.low < run.value < run.high for run in runs)
    assert 80 <= sum(run.low < 0 < run.high for run in runs) <= 97


def test_principal_angles_equal_scipy_smallest_first():
    a, b = torch.randn(2, 10, 3)
    angles = np.sort(np.degrees(subspace_angles(a.double().numpy(), b.double().numpy())))
    np.testing.assert_allclose(metrics.principal_angles(a, b), angles, atol=1e-6)


@every_kind
def test_linear_probe_classifies_what_is_linearly_separable_and_nothing_else(kind):
    z = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    linear, ring = (z[:, 0] > 0).long(), (z[:, :2].norm(dim=1) > 1.18).long()
    assert metrics.linear_probe(kind(z), linear, kind(z), linear) > 0.95
    assert metrics.linear_probe(kind(z), ring, kind(z), ring) < 0.65


def test_active_units_counts_the_latents_that_vary():
    assert metrics.active_units(torch.randn(500, 6) * torch.tensor([1, 1, 1, 0.01, 0, 0.5])) == 4


@pytest.mark.parametrize("final", [torch.nn.Sigmoid, None])
def test_importance_weighted_nll_converges_to_the_integral_from_above(final):
    torch.manual_seed(0)
    vae = VAE(mlp_encoder((5,), [8], 2), mlp_decoder(1, [8], (5,), final=final))
    x, z = torch.bernoulli(torch.full((120, 5), 0.4)), torch.linspace(-8, 8, 4001)[:, None]
    p = vae.decode(z) if final else vae.decode(z).sigmoid()
    log_joint = Bernoulli(p[:, None]).log_prob(x).sum(2) + Normal(0, 1).log_prob(z)
    exact = -torch.log(torch.trapezoid(log_joint.exp(), z[:, 0], dim=0))
    few, many = (metrics.importance_weighted_nll(vae, x, k, logits=not final) for k in (1, 5000))
    torch.testing.assert_close(many, exact, atol=0.1, rtol=0)
    assert few.mean() > exact.mean() + 0.01 and many.shape == (120,)


@every_kind
def test_distances_equal_scipy_and_closed_forms(kind):
    a, b = torch.randn(300), 1 + 2 * torch.randn(200)
    frechet = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2  # of two normal distributions
    energy = energy_distance(a, b) ** 2  # SciPy returns the root
    for given in ((kind(a), kind(b)), (kind(a[:, None]), kind(b[:, None]))):
        assert metrics.frechet_distance(*given) == pytest.approx(float(frechet), rel=1e-3)
        assert metrics.energy_distance(*given) == pytest.approx(energy, rel=1e-3)
    x = torch.randn(500, 3, dtype=torch.double) @ torch.rand(3, 3).double() + 1
    moment = (x.mean(0) ** 2 + x.var(0)).sum()  # the distance to a doubled sample
    assert metrics.frechet_distance(kind(x), kind(2 * x)) == pytest.approx(moment.item())


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.energy_distance])
def test_samples_that_cannot_be_compared_are_refused(distance):
    for shape in ((1, 2), (0, 2), (9, 3)):
        with pytest.raises(ValueError, match="2 rows or more"):
            distance(torch.rand(9, 2), torch.rand(shape))


def test_neighbor_measures_agree_with_scikit_learn_and_see_a_collapse():
    from sklearn.neighbors import NearestNeighbors

    real, fake = torch.randn(300, 4), 1.5 * torch.randn(200, 4) + 0.3
    found = metrics.neighbor_measures(fake, real, k=3)
    reach = NearestNeighbors(n_neighbors=4).fit(real).kneighbors(real)[0][:, -1]
    accepted = np.array([[np.linalg.norm(f - r) for f in fake] for r in real]) < reach[:, None]
    assert found["precision"] == pytest.approx(accepted.any(0).mean())
    assert found["coverage"] == pytest.approx(accepted.any(1).mean())
    assert found["density"] == pytest.approx(accepted.sum(0).mean() / 3)
    assert found["recall"] == pytest.approx(metrics.neighbor_measures(real, fake, 3)["precision"])
    few = real[:10].repeat(30, 1) + 0.01 * torch.randn(300, 4)
    collapsed = metrics.neighbor_measures(few, real)
    assert (
        collapsed["precision"] > 0.9 and collapsed["recall"] < 0.1 and collapsed["coverage"] < 0.4
    )
    with pytest.raises(ValueError, match="more than k"):
        metrics.neighbor_measures(fake[:5], real)


def test_si_snr_ignores_scale_and_measures_noise():
    t = torch.linspace(0, 1, 8000)
    clean, noise = (torch.sin(2 * torch.pi * f * t) for f in (100, 333))  # orthogonal tones
    assert metrics.si_snr(0.3 * (clean + 0.1 * noise), clean) == pytest.approx(20, abs=0.05)

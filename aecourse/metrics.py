"""Numbers that say how good: of images, of rankings, of codes, of sounds."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F


# -- images ----------------------------------------------------------------------------------------------------------------------


def psnr(x_hat, x):
    """Peak signal-to-noise ratio in dB, one value per image `(B,)`; both `(B, *shape)` in [0, 1]. Identical images: inf."""
    return -10 * torch.log10((x_hat - x).pow(2).flatten(1).mean(1))


def ssim(x_hat, x):
    """Structural similarity, one value per image `(B,)`, 1 for identical ones; both `(B, C, H, W)` in [0, 1], H and W at least 7.

    Wang et al. (2004) with a uniform 7x7 window and unbiased variances, as scikit-image computes it by default.
    """
    if x.ndim != 4 or min(x.shape[2:]) < 7:
        raise ValueError(f"ssim wants images (B, C, H, W) of at least 7x7, got {tuple(x.shape)}")

    def mean(v):
        return F.avg_pool2d(v, 7, stride=1)

    c1, c2, unbiased = 0.01**2, 0.03**2, 49 / 48
    a, b = mean(x_hat), mean(x)
    var_a, var_b = unbiased * (mean(x_hat**2) - a**2), unbiased * (mean(x**2) - b**2)
    cov = unbiased * (mean(x_hat * x) - a * b)
    value = (2 * a * b + c1) * (2 * cov + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2))
    return value.flatten(1).mean(1)


def sharpness(x):
    """Mean squared response of a Laplacian per image `(B,)`: how much fine detail there is; `(B, C, H, W)`."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=x.device)[None, None]
    return F.conv2d(x.flatten(0, 1)[:, None], kernel).pow(2).flatten(1).mean(1).view(len(x), -1).mean(1)


# -- rankings --------------------------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A value and the interval around it."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _ranked(scores, labels):
    scores, labels = (np.asarray(v, dtype=np.float64).ravel() for v in (scores, labels))
    if scores.shape != labels.shape:
        raise ValueError(f"one score per label, got {len(scores)} scores and {len(labels)} labels")
    if not np.isfinite(scores).all():
        raise ValueError("the scores hold NaN or infinity")
    if set(np.unique(labels)) != {0.0, 1.0}:
        raise ValueError(f"labels must be 0 and 1, both present, got {np.unique(labels)[:5]}")
    return scores, labels


def average_precision(scores, labels, *, weights=None):
    """Area under the precision-recall curve, in steps; `scores, labels: (n,)`, labels 0 or 1, a higher score is more suspect.

    `weights: (n,)` lets a row stand for several: normal rows that were thinned out are given back their number.
    """
    from sklearn.metrics import average_precision_score

    scores, labels = _ranked(scores, labels)
    return float(average_precision_score(labels, scores, sample_weight=weights))


def auroc(scores, labels):
    """Area under the ROC curve: the chance that a random positive scores higher than a random negative; `(n,)` both."""
    from sklearn.metrics import roc_auc_score

    scores, labels = _ranked(scores, labels)
    return float(roc_auc_score(labels, scores))


def precision_at(scores, labels, k):
    """The share of positives among the k highest scores; `(n,)` both."""
    scores, labels = _ranked(scores, labels)
    if not 1 <= k <= len(scores):
        raise ValueError(f"k must be between 1 and {len(scores)}, got {k}")
    return float(labels[np.argsort(-scores, kind="stable")[:k]].mean())


def bootstrap(metric, *arrays, n=200, level=0.95, seed=0):
    """`metric(*arrays)` with its percentile interval over `n` resamples of the rows (Efron 1979). Returns an Interval.

    Where the second array holds labels 0 and 1, both kinds are resampled apart, so that no resample lacks one.
    """
    arrays = [np.asarray(a) for a in arrays]
    rng = np.random.default_rng(seed)
    labels = arrays[1] if len(arrays) > 1 and set(np.unique(arrays[1])) <= {0, 1} else np.zeros(len(arrays[0]))
    groups = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    values = []
    for _ in range(n):
        rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
        values.append(metric(*(a[rows] for a in arrays)))
    tail = (1 - level) / 2
    return Interval(float(metric(*arrays)), *(float(q) for q in np.quantile(values, [tail, 1 - tail])))


# -- codes -----------------------------------------------------------------------------------------------------------------------


def principal_angles(a, b):
    """Angles in degrees between the planes that the columns of `a (d, k)` and `b (d, m)` span, smallest first (Bjorck and Golub 1973)."""
    from scipy.linalg import subspace_angles

    a, b = (np.asarray(v.detach().cpu() if isinstance(v, torch.Tensor) else v, dtype=np.float64) for v in (a, b))
    return np.degrees(subspace_angles(a, b))[::-1].copy()


def linear_probe(z, y, z_test, y_test, *, penalty=1.0, standardize=True):
    """Test accuracy of logistic regression on codes, standardized or as they are: what a straight cut reads off `z (n, latent)`.

    y: (n,) class numbers; penalty: weight of the squared coefficients, as scikit-learn's 1/C.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    z, y, z_test, y_test = (torch.as_tensor(v).detach().cpu().flatten(1) if torch.as_tensor(v).ndim > 1
                            else torch.as_tensor(v).cpu() for v in (z, y, z_test, y_test))
    probe = make_pipeline(*[StandardScaler()] * standardize, LogisticRegression(C=1 / penalty, max_iter=1000))
    with threadpool_limits(1):                           # NumPy's and SciPy's threads wait for each other's at every step
        return float(probe.fit(z, y).score(z_test, y_test))


def active_units(mu, threshold=0.01):
    """How many latents say anything: those whose mean code `mu (n, latent)` varies by more than `threshold` (Burda et al. 2016)."""
    return int((mu.var(dim=0) > threshold).sum())


@torch.no_grad()
def importance_weighted_nll(vae, x, k=500, *, logits=False, seed=0):
    """Negative log-likelihood in nats, `(B,)`: the bound `-log 1/k sum_i p(z_i) p(x|z_i) / q(z_i|x)` (Burda et al. 2016).

    vae: `encode(x) -> mu, logvar`, `decode(z) -> x_hat`, probabilities of a Bernoulli (`logits=True`: their logits).
    x: `(B, *shape)` in [0, 1], for a likelihood in {0, 1}; k: draws per image. The more, the lower and the nearer to the truth.
    """
    draw, bounds = torch.Generator(x.device).manual_seed(seed), []
    for part in x.split(100):
        mu, logvar = vae.encode(part)
        weights = []
        for done in range(0, k, 50):                     # (draws, images, latent), decoded at once
            noise = torch.randn(min(50, k - done), *mu.shape, generator=draw, device=x.device)
            z = mu + (0.5 * logvar).exp() * noise
            x_hat = vae.decode(z.flatten(0, 1)).view(*z.shape[:2], -1)
            black, white = (F.logsigmoid(x_hat), F.logsigmoid(-x_hat)) if logits else (x_hat.log(), torch.log1p(-x_hat))
            likelihood = sum(torch.einsum("kbd,bd->kb", log.clamp(min=-100), share)
                             for log, share in ((black, part.flatten(1)), (white, 1 - part.flatten(1))))
            weights.append(likelihood + 0.5 * (noise.pow(2) + logvar - z.pow(2)).sum(2))
        bounds.append(math.log(k) - torch.cat(weights).logsumexp(0))
    return torch.cat(bounds)


def frechet(features_a, features_b):
    """Frechet distance between normal distributions fitted to two sets of features `(n, d)` (Dowson and Landau 1982).

    0 for identical ones; in squared units of the features, so comparable only under the same feature extractor.
    """
    from scipy.linalg import sqrtm

    a, b = (np.asarray(torch.as_tensor(f).detach().cpu(), dtype=np.float64) for f in (features_a, features_b))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    cross = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * cross))


def energy_distance(a, b):
    """Energy distance between two sets of points `(n, d)` and `(m, d)`: `2 E|a - b| - E|a - a'| - E|b - b'|` (Szekely and Rizzo 2013).

    0 only for equal distributions, in units of the points. The means run over all pairs, a point with itself among them, so two
    samples of one distribution give a little more than 0: compare with what they give.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"energy_distance wants two sets of points (n, d) and (m, d), got {tuple(a.shape)} and {tuple(b.shape)}")
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


# -- sounds ----------------------------------------------------------------------------------------------------------------------


def si_snr(estimate, clean):
    """Scale-invariant signal-to-noise ratio in dB, one value per row; both `(..., samples)` (Le Roux et al. 2019)."""
    estimate, clean = estimate - estimate.mean(-1, keepdim=True), clean - clean.mean(-1, keepdim=True)
    target = (estimate * clean).sum(-1, keepdim=True) / clean.pow(2).sum(-1, keepdim=True) * clean
    return 10 * torch.log10(target.pow(2).sum(-1) / (estimate - target).pow(2).sum(-1))

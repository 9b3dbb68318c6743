"""Measures of images, rankings, codes, samples and sounds; `Data` is a tensor, array or list."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike as Data
from scipy.linalg import sqrtm, subspace_angles
from torch import Tensor, nn


def _numpy(values: Data) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per image, `(B,)`; both `(B, *shape)` in [0, 1]."""
    return -10 * torch.log10((x_hat - x).pow(2).flatten(1).mean(1))


def ssim(x_hat: Data, x: Data) -> Tensor:
    """Structural similarity per image, `(B,)`; 1 for identical images (Wang et al. 2004).

    x_hat, x: `(B, C, H, W)` in [0, 1], H and W at least 7 (ValueError).
    """
    from skimage.metrics import structural_similarity

    pairs = zip(_numpy(x_hat), _numpy(x), strict=True)
    return torch.tensor([structural_similarity(*p, data_range=1, channel_axis=0) for p in pairs])


def sharpness(x: Tensor) -> Tensor:
    """Amount of fine detail per image, `(B,)`: the mean squared Laplacian of `x (B, C, H, W)`."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=x.device)[None, None]
    response = F.conv2d(x.flatten(0, 1)[:, None], kernel)  # every channel by itself
    return response.pow(2).flatten(1).mean(1).view(len(x), -1).mean(1)


class Interval(NamedTuple):
    """A value and a confidence interval around it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _ranking(scores: Data, labels: Data) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = (_numpy(v).astype(np.float64).ravel() for v in (scores, labels))
    if scores.shape != labels.shape:
        raise ValueError(f"one score per label, got {len(scores)} scores and {len(labels)} labels")
    if not np.isfinite(scores).all():
        raise ValueError("the scores hold NaN or infinity")
    if set(np.unique(labels)) != {0.0, 1.0}:
        raise ValueError(f"labels must be 0 and 1, both present, got {np.unique(labels)[:5]}")
    return labels, scores


def average_precision(scores: Data, labels: Data, *, weights: Data | None = None) -> float:
    """Area under the precision-recall curve, computed in steps.

    scores, labels: `(n,)`; a higher score is more suspect; labels are 0 (normal) and 1 (anomaly).
    weights: `(n,)`, how many rows each row stands for, where normal rows were subsampled.
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_ranking(scores, labels), sample_weight=weights))


def auroc(scores: Data, labels: Data) -> float:
    """Area under the ROC curve: P(a random positive scores higher than a random negative)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_ranking(scores, labels)))


def precision_at(scores: Data, labels: Data, k: int) -> float:
    """Fraction of positives among the k highest scores; `scores, labels: (n,)`."""
    labels, scores = _ranking(scores, labels)
    if not 1 <= k <= len(scores):
        raise ValueError(f"k must be between 1 and {len(scores)}, got {k}")
    return float(labels[np.argsort(-scores, kind="stable")[:k]].mean())


def bootstrap(
    metric: Callable, *arrays: Data, n: int = 200, level: float = 0.95, seed: int = 0
) -> Interval:
    """`metric(*arrays)` with its percentile interval over `n` resamples of the rows (Efron 1979).

    If the second array holds labels 0 and 1, each class is resampled by itself: none gets lost.
    """
    arrays = [_numpy(a) for a in arrays]
    rng = np.random.default_rng(seed)
    has_labels = len(arrays) > 1 and set(np.unique(arrays[1])) <= {0, 1}
    labels = arrays[1] if has_labels else np.zeros(len(arrays[0]))
    classes = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    values = []
    for _ in range(n):
        rows = np.concatenate([rng.choice(members, len(members)) for members in classes])
        values.append(metric(*(a[rows] for a in arrays)))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(float(metric(*arrays)), low, high)


def principal_angles(a: Data, b: Data) -> np.ndarray:
    """Angles in degrees between two subspaces, smallest first (Bjorck and Golub 1973).

    The subspaces are spanned by the columns of `a (d, k)` and of `b (d, m)`: min(k, m) angles.
    """
    a, b = (_numpy(v).astype(np.float64) for v in (a, b))
    return np.degrees(subspace_angles(a, b))[::-1].copy()


def linear_probe(
    z: Data, y: Data, z_test: Data, y_test: Data, *, penalty: float = 1, standardize: bool = True
) -> float:
    """Test accuracy of a logistic regression on codes: how linearly separable the classes are.

    z, z_test: codes `(n, *latent)`, standardized first by default; y, y_test: class labels `(n,)`.
    penalty: weight of the squared coefficients, scikit-learn's 1/C.
    """
    from sklearn import linear_model, pipeline, preprocessing
    from threadpoolctl import threadpool_limits

    z, z_test = (_numpy(v).reshape(len(v), -1) for v in (z, z_test))
    scaler = preprocessing.StandardScaler() if standardize else "passthrough"
    classifier = linear_model.LogisticRegression(C=1 / penalty, max_iter=1000)
    probe = pipeline.make_pipeline(scaler, classifier)
    with threadpool_limits(1):  # the threads of NumPy and SciPy would wait for each other
        return float(probe.fit(z, _numpy(y)).score(z_test, _numpy(y_test)))


def active_units(mu: Data, threshold: float = 0.01) -> int:
    """Active units (Burda et al. 2016): latents of `mu (n, latent)` of variance > `threshold`."""
    return int((torch.as_tensor(mu).var(dim=0) > threshold).sum())


@torch.no_grad()
def importance_weighted_nll(
    vae: nn.Module, x: Tensor, k: int = 500, *, logits: bool = False, seed: int = 0
) -> Tensor:
    """Upper bound on the negative log-likelihood in nats, `(B,)` (IWAE; Burda et al. 2016).

    It is `-log 1/k sum_i p(z_i) p(x|z_i) / q(z_i|x)`: the larger `k`, the lower and the tighter.
    vae: `encode(x) -> mu, logvar`, `decode(z) -> x_hat`, Bernoulli probabilities or their logits.
    x: `(B, *shape)` in [0, 1]; k: number of samples per image.
    """
    cross_entropy = F.binary_cross_entropy_with_logits if logits else F.binary_cross_entropy
    generator, bounds = torch.Generator(x.device).manual_seed(seed), []
    for batch in x.split(100):
        mu, logvar = vae.encode(batch)
        log_weights = []
        for start in range(0, k, 50):
            shape = (min(50, k - start), *mu.shape)  # (samples, images, latent)
            noise = torch.randn(shape, generator=generator, device=x.device)
            z = mu + (0.5 * logvar).exp() * noise
            x_hat = vae.decode(z.flatten(0, 1)).view(*shape[:2], -1)
            x_target = batch.flatten(1).expand_as(x_hat)
            log_ratio = 0.5 * (noise.pow(2) + logvar - z.pow(2)).sum(2)  # log p(z) - log q(z|x)
            log_weights.append(log_ratio - cross_entropy(x_hat, x_target, reduction="none").sum(2))
        bounds.append(float(np.log(k)) - torch.cat(log_weights).logsumexp(0))
    return torch.cat(bounds)


def _samples(a: Data, b: Data) -> tuple[Tensor, Tensor]:
    a, b = (torch.as_tensor(v).detach() for v in (a, b))
    a, b = (v[:, None] if v.ndim == 1 else v for v in (a, b))
    if {a.ndim, b.ndim} != {2} or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"two samples (n, d) and (m, d) of 2 rows or more wanted, got {shapes}")
    return a, b


def frechet_distance(features_a: Data, features_b: Data) -> float:
    """Frechet distance of normal distributions fitted to two samples (Dowson and Landau 1982).

    features_a, features_b: `(n, d)` and `(m, d)`, or `(n,)` each; 2 rows or more (ValueError).
    In squared units of the features: values compare under one feature extractor only.
    """
    a, b = (f.cpu().double().numpy() for f in _samples(features_a, features_b))
    cov_a, cov_b = (np.atleast_2d(np.cov(f.T)) for f in (a, b))
    cross = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * cross))


def neighbor_measures(fake: Data, real: Data, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of generated features; of another real sample near 1.

    fake, real: features `(n, d)` and `(m, d)`, more than k rows each (ValueError). A row accepts
    what is nearer than its k-th neighbor of its own sample. Precision: share of fakes that a real
    row accepts; recall: of real rows that a fake accepts (Kynkaanniemi et al. 2019). Density: real
    rows that accept a fake, over k; coverage: share of real rows that do (Naeem et al. 2020).
    """
    fake, real = _samples(fake, real)
    if min(len(fake), len(real)) <= k:
        raise ValueError(f"more than k = {k} rows wanted, got {len(fake)} and {len(real)}")
    reach_real, reach_fake = (
        torch.cdist(x, x).kthvalue(k + 1, dim=1).values  # the first is the row itself
        for x in (real, fake)
    )
    distance = torch.cdist(real, fake)  # (m, n)
    of_real, of_fake = distance < reach_real[:, None], distance < reach_fake
    values = of_real.any(0), of_fake.any(1), of_real.sum(0) / k, of_real.any(1)
    means = (value.float().mean().item() for value in values)
    return dict(zip(("precision", "recall", "density", "coverage"), means, strict=True))


def energy_distance(a: Data, b: Data) -> float:
    """Energy distance `2 E|a - b| - E|a - a'| - E|b - b'|` of two samples (Szekely and Rizzo 2013).

    a, b: `(n, d)` and `(m, d)`, or `(n,)` each; 2 rows or more (ValueError). The means include each
    point paired with itself: samples of one distribution have a distance slightly above 0.
    """
    a, b = _samples(a, b)
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def si_snr(estimate: Tensor, clean: Tensor) -> Tensor:
    """Scale-invariant SNR in dB, `(...)`, of waveforms `(..., samples)` (Le Roux et al. 2019)."""
    estimate = estimate - estimate.mean(-1, keepdim=True)
    clean = clean - clean.mean(-1, keepdim=True)
    target = (estimate * clean).sum(-1, keepdim=True) / clean.pow(2).sum(-1, keepdim=True) * clean
    return 10 * torch.log10(target.pow(2).sum(-1) / (estimate - target).pow(2).sum(-1))

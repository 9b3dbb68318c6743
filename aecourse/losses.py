"""The terms that losses are made of: tensors in, one scalar tensor out.

One convention everywhere: **sum over features, mean over the batch**, in the order `(x_hat, x)`.
A term that is averaged over features instead has another weight beside the others: then beta = 1 is
no longer the ELBO.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """`sum_i (x_hat_i - x_i)^2`, mean over the batch; `(B, *shape)` both, in units of x squared."""
    _same_shape(x_hat, x)
    return F.mse_loss(x_hat, x, reduction="sum") / len(x)


def bce(x_hat: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy `-sum_i x_i log x_hat_i + (1 - x_i) log(1 - x_hat_i)` in nats.

    Mean over the batch; `(B, *shape)` both, in [0, 1]. `x_hat` is a probability, not a logit; its
    logarithms are cut off at -100, so that a confident error stays finite.
    Raises ValueError for values outside [0, 1] (on a CPU).
    """
    _same_shape(x_hat, x)
    try:
        with torch.autocast(x.device.type, enabled=False):  # log(1 - x_hat) needs float32
            return F.binary_cross_entropy(_float32(x_hat), x, reduction="sum") / len(x)
    except RuntimeError:  # PyTorch looks for values outside [0, 1] and for NaN
        _in_unit_interval(x, "the target x", "scale the data to [0, 1], or take squared_error")
        if x_hat.isnan().any():
            return x_hat.sum()  # NaN, which fit reports with its epoch and batch
        _in_unit_interval(x_hat, "x_hat", "end the decoder with a sigmoid, or use bce_with_logits")
        raise


def bce_with_logits(logits: Tensor, x: Tensor) -> Tensor:
    """`bce(logits.sigmoid(), x)`, exact where a sigmoid would round to 0 or 1.

    For a decoder with `final=None`. Raises ValueError for targets outside [0, 1] (on a CPU).
    """
    _same_shape(logits, x)
    _in_unit_interval(x, "the target x", "scale the data to [0, 1], or take squared_error")
    return F.binary_cross_entropy_with_logits(_float32(logits), x, reduction="sum") / len(x)


def l1(z: Tensor) -> Tensor:
    """L1 norm of a code `z: (B, latent)`, mean over the batch: a sparsity penalty."""
    return z.abs().sum() / len(z)


def kl_bernoulli(rho_hat: Tensor, rho: float) -> Tensor:
    """KL(rho || rho_hat) in nats between Bernoulli variables, summed over units (Ng 2011).

    rho_hat: `(latent,)`, each unit's mean activation over the batch, in (0, 1).
    rho:     the mean activation wanted, a number in (0, 1).
    """
    if not 0 < rho < 1:
        raise ValueError(f"rho is a mean activation between 0 and 1, got {rho}")
    rho_hat = rho_hat.clamp(1e-6, 1 - 1e-6)
    return (rho * torch.log(rho / rho_hat) + (1 - rho) * torch.log((1 - rho) / (1 - rho_hat))).sum()


def contractive(encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Squared Frobenius norm of the Jacobian dz/dx, mean over the batch (Rifai et al. 2011, eq. 5).

    encode: `(B, *shape) -> (B, latent)`, each row from its own example only (no batch normalization
    in training mode). One backward pass per latent, all of them at once by vmap.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = encode(x)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None].expand(-1, len(x), -1)
        (jacobian,) = torch.autograd.grad(  # (latent, B, *shape)
            z, x, eye, create_graph=True, is_grads_batched=True
        )
    return jacobian.pow(2).sum() / len(x)


def kl_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) in nats, summed over latents, mean over the batch.

    `(B, latent)` both (Kingma and Welling 2014, appendix B).
    """
    _same_shape(mu, logvar)
    mu, logvar = _float32(mu), _float32(logvar)
    return 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum() / len(mu)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy in nats of telling real from fake, from their logits `(B, 1)`."""
    return F.softplus(-_float32(real)).mean() + F.softplus(_float32(fake)).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """The non-saturating loss in nats, of fakes' logits `(B, 1)` (Goodfellow et al. 2014)."""
    return F.softplus(-_float32(fake)).mean()


def perceptual(features: Callable[[Tensor], Sequence[Tensor]], x_hat: Tensor, x: Tensor) -> Tensor:
    """Squared error between feature maps, summed over features, mean over the batch.

    Johnson, Alahi and Fei-Fei (2016).
    features: a function `x -> list of tensors (B, ...)`, of a network that is not trained here.
    """
    _same_shape(x_hat, x)
    pairs = zip(features(x_hat), features(x), strict=True)
    return sum(squared_error(a, b) for a, b in pairs)


def _same_shape(x_hat, x):
    if x_hat.shape != x.shape:  # subtraction would broadcast
        shapes = f"{tuple(x_hat.shape)} and {tuple(x.shape)}"
        raise ValueError(f"x_hat and x must have the same shape, got {shapes}")


def _in_unit_interval(x, name, remedy):
    if x.device.type != "cpu":  # reading a number would wait for the device
        return
    values = x.detach().float().numpy()  # on one thread: waking a second one costs more
    if values.min() < 0 or values.max() > 1:
        got = f"{values.min():.3g} to {values.max():.3g}"
        raise ValueError(f"binary cross-entropy wants {name} in [0, 1], got {got}: {remedy}")


def _float32(x):
    """Half precision, as autocast gives it, in float32; everything else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x

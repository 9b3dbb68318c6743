"""The terms that losses are made of: tensors in, one scalar tensor out.

One convention everywhere: **sum over features, mean over the batch**, in the order `(x_hat, x)`. A term that is averaged over
features instead has another weight beside the others: then beta = 1 is no longer the ELBO.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def _same_shape(a, b):
    if a.shape != b.shape:                               # subtraction would broadcast, silently
        raise ValueError(f"x_hat and x must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")


def squared_error(x_hat, x):
    """Squared error per example, `sum_i (x_hat_i - x_i)^2`, mean over the batch; `(B, *shape)` both, in units of x squared."""
    _same_shape(x_hat, x)
    return F.mse_loss(x_hat, x, reduction="sum") / len(x)


class _BernoulliError(torch.autograd.Function):
    """Minus the log-likelihood, summed. `F.binary_cross_entropy` takes its logarithms one by one on a CPU; these go in vectors."""

    @staticmethod
    def forward(ctx, x_hat, x):
        ctx.save_for_backward(x_hat, x)
        return -(x.flatten() @ x_hat.log().clamp_(min=-100).flatten()
                 + (1 - x).flatten() @ torch.log1p(-x_hat).clamp_(min=-100).flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x_hat, x = ctx.saved_tensors
        to_x = grad * torch.log1p(-x_hat).clamp(min=-100).sub(x_hat.log().clamp(min=-100)) if ctx.needs_input_grad[1] else None
        return (x_hat - x).div_((x_hat * (1 - x_hat)).clamp_(min=1e-12)).mul_(grad), to_x


def bce(x_hat, x):
    """Binary cross-entropy in nats per example, `-sum_i x_i log x_hat_i + (1 - x_i) log(1 - x_hat_i)`; both in [0, 1].

    `x_hat` is a probability, not a logit: logarithms are cut off at -100, so that a confident error stays finite.
    """
    _same_shape(x_hat, x)
    if x_hat.device.type == "cpu":                       # elsewhere a look would wait for the device: there it becomes NaN
        low, high = x_hat.detach().aminmax()
        if low < 0 or high > 1:                          # and NaN stays NaN, which fit explains
            raise ValueError(f"bce wants x_hat in [0, 1], a sigmoid's output, got {low:.3g} to {high:.3g}: "
                             "for logits take bce_with_logits")
    return _BernoulliError.apply(x_hat.to(x.dtype), x) / len(x)


class _BernoulliErrorOfLogits(torch.autograd.Function):
    """The same from logits, `sum_i log(1 + exp(l_i)) - x_i l_i`, in half as many passes over the images as PyTorch's own."""

    @staticmethod
    def forward(ctx, logits, x):
        ctx.save_for_backward(logits, x)
        return F.softplus(logits).sum() - logits.flatten() @ x.flatten()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        logits, x = ctx.saved_tensors
        return torch.sigmoid(logits).sub_(x).mul_(grad), -grad * logits if ctx.needs_input_grad[1] else None


def bce_with_logits(logits, x):
    """`bce(logits.sigmoid(), x)`, faster, and exact where a sigmoid would round to 0 or 1: for a decoder with `final=None`."""
    _same_shape(logits, x)
    return _BernoulliErrorOfLogits.apply(logits.to(x.dtype), x) / len(x)


def l1(z):
    """Sum of absolute values of a code `z: (B, latent)`, mean over the batch: asks for codes that are mostly zero."""
    return z.abs().sum() / len(z)


def kl_bernoulli(rho_hat, rho):
    """KL(rho || rho_hat) in nats between coins, summed over units: the sparsity penalty of Ng (2011).

    rho_hat: (latent,), each unit's mean activation over the batch, in (0, 1); rho: the activation wished for, a number in (0, 1).
    """
    if not 0 < rho < 1:
        raise ValueError(f"rho is a share of examples, between 0 and 1, got {rho}")
    rho_hat = rho_hat.clamp(1e-6, 1 - 1e-6)
    return (rho * torch.log(rho / rho_hat) + (1 - rho) * torch.log((1 - rho) / (1 - rho_hat))).sum()


def contractive(encode, x):
    """Squared Frobenius norm of the encoder's Jacobian dz/dx, mean over the batch (Rifai et al. 2011, equation 5).

    encode: `(B, *shape) -> (B, latent)`, each row from its own example only (no batch normalization in training mode).
    One backward pass per latent, taken together by vmap.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = encode(x)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None].expand(-1, len(x), -1)
        (jacobian,) = torch.autograd.grad(z, x, eye, create_graph=True, is_grads_batched=True)      # (latent, B, *shape)
    return jacobian.pow(2).sum() / len(x)


def kl_normal(mu, logvar):
    """KL(N(mu, exp(logvar)) || N(0, I)) in nats, summed over latents, mean over the batch (Kingma and Welling 2014, appendix B)."""
    _same_shape(mu, logvar)
    return 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum() / len(mu)


def critic(real, fake):
    """The critic's loss in nats: logits `(B, 1)` of real and fake examples, cross-entropy of telling them apart."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator(fake):
    """The generator's non-saturating loss in nats (Goodfellow et al. 2014, section 3): logits `(B, 1)` of its fakes, to be called real."""
    return F.softplus(-fake).mean()


def perceptual(features, x_hat, x):
    """Squared error between feature maps, summed over maps and features, mean over the batch (Johnson et al. 2016).

    features: a function `x -> list of tensors (B, ...)`, of a network that is not trained here.
    """
    _same_shape(x_hat, x)
    return sum(squared_error(a, b) for a, b in zip(features(x_hat), features(x), strict=True))

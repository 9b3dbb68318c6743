"""Encoders, decoders, and the containers that put two or three of them together.

Shapes: `x: (B, *shape)`, `z: (B, latent)`. An encoder maps `x` to `z`, a decoder maps `z` to `x_hat` of the shape of `x`.
Any `nn.Module` that does so serves as well as the ones made here.
"""

from math import prod

import torch
from torch import nn


class Expect(nn.Module):
    """Lets `(B, *shape)` through unchanged and refuses everything else with a ValueError that says what was wanted."""

    def __init__(self, shape, what):
        super().__init__()
        self.shape, self.what = tuple(shape), what
        if not self.shape or any(not isinstance(n, int) or n < 1 for n in self.shape):
            raise ValueError(f"{what}: every size must be a whole number of at least 1, got {self.shape}")

    def forward(self, x):
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{self.what} of shape (B, {', '.join(map(str, self.shape))}) expected, got {tuple(x.shape)}")
        return x

    def extra_repr(self):
        return ", ".join(map(str, self.shape))


def mlp(sizes, *, activation=nn.ReLU, final=None, norm=False):
    """Fully connected layers `sizes[0] -> ... -> sizes[-1]`.

    sizes:       at least two widths.
    activation:  module class between the layers; `final` one after the last (None: nothing).
    norm:        batch normalization before each hidden activation (Ioffe and Szegedy 2015).
    """
    if len(sizes) < 2 or any(n < 1 for n in sizes):
        raise ValueError(f"mlp wants at least two sizes of at least 1, got {list(sizes)}")
    layers = []
    for n_in, n_out in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [nn.Linear(n_in, n_out, bias=not norm)] + [nn.BatchNorm1d(n_out)] * norm + [activation()]
    layers += [nn.Linear(sizes[-2], sizes[-1])] + ([final()] if final else [])
    return nn.Sequential(*layers)


def mlp_encoder(shape, hidden, latent, *, activation=nn.ReLU, final=None, norm=False):
    """Fully connected encoder: `(B, *shape) -> (B, latent)` through the widths in `hidden` (a list, may be empty)."""
    layers = mlp([prod(shape), *hidden, latent], activation=activation, final=final, norm=norm)
    return nn.Sequential(Expect(shape, "encoder input"), nn.Flatten(), *layers)


def mlp_decoder(latent, hidden, shape, *, activation=nn.ReLU, final=nn.Sigmoid, norm=False):
    """Fully connected decoder: `(B, latent) -> (B, *shape)`. `final=nn.Sigmoid` suits data in [0, 1]; None leaves it linear."""
    layers = mlp([latent, *hidden, prod(shape)], activation=activation, final=final, norm=norm)
    return nn.Sequential(Expect([latent], "code"), *layers, nn.Unflatten(1, tuple(shape)))


def _halved(shape, times):
    channels, height, width = shape
    if height % 2**times or width % 2**times:
        raise ValueError(f"{times} convolutions of stride 2 halve the image {times} times: {height}x{width} cannot be")
    return height // 2**times, width // 2**times


def conv_encoder(shape, channels, latent, *, activation=lambda: nn.LeakyReLU(0.2), norm=True):
    """Convolutional encoder: `(B, C, H, W) -> (B, latent)`; one 4x4 convolution of stride 2 per entry of `channels`.

    Each halves the height and the width; H and W must be divisible by 2 ** len(channels) (ValueError).
    """
    height, width = _halved(shape, len(channels))
    layers = [Expect(shape, "encoder input")]
    for c_in, c_out in zip((shape[0], *channels), channels):
        layers += [nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(c_out)] * norm + [activation()]
    layers += [nn.Flatten(), nn.Linear(channels[-1] * height * width, latent)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def conv_decoder(latent, channels, shape, *, activation=lambda: nn.LeakyReLU(0.2), norm=True, final=nn.Sigmoid):
    """The mirror of `conv_encoder`: `(B, latent) -> (B, C, H, W)`; one 4x4 transposed convolution of stride 2 per channel.

    `channels` runs from the smallest map to the largest: the encoder's list, reversed.
    A kernel of 4 is a multiple of the stride of 2, so every pixel is covered equally often: no checkerboard is built in
    (Odena, Dumoulin and Olah 2016).
    """
    height, width = _halved(shape, len(channels))
    first = channels[0]
    layers = [Expect([latent], "code"), nn.Linear(latent, first * height * width), nn.Unflatten(1, (first, height, width))]
    for c_in, c_out in zip(channels, channels[1:]):
        layers += [nn.BatchNorm2d(c_in)] * norm + [activation()]
        layers += [nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1, bias=not norm)]
    layers += [nn.BatchNorm2d(channels[-1])] * norm + [activation()]
    layers += [nn.ConvTranspose2d(channels[-1], shape[0], 4, stride=2, padding=1)] + ([final()] if final else [])
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class Autoencoder(nn.Module):
    """`x -> z -> x_hat`: an encoder and a decoder, trained together to give back what went in."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x):
        """Code `z: (B, latent)` of `x: (B, *shape)`."""
        return self.encoder(x)

    def decode(self, z):
        """Reconstruction `x_hat: (B, *shape)` of `z: (B, latent)`."""
        return self.decoder(z)

    def forward(self, x):
        return self.decode(self.encode(x))


class VAE(Autoencoder):
    """Variational autoencoder (Kingma and Welling 2014): the code of `x` is a normal distribution, not a point.

    The encoder gives `2 * latent` numbers: `mu` and `logvar = log(sigma ** 2)`, side by side. The prior is N(0, I).
    """

    def encode(self, x):
        """`mu, logvar: (B, latent)` each."""
        both = self.encoder(x)
        if both.shape[1] % 2:
            raise ValueError(f"a VAE's encoder gives 2 * latent numbers (mu and logvar), got {both.shape[1]}")
        return both.chunk(2, dim=1)

    def forward(self, x):
        """`x_hat, mu, logvar`, with `z = mu + sigma * eps` sampled, in eval mode too: the ELBO is an expectation over it."""
        mu, logvar = self.encode(x)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        return self.decode(z), mu, logvar

    def reconstruct(self, x):
        """`x_hat: (B, *shape)` of the mean code, without the noise."""
        return self.decode(self.encode(x)[0])

    @torch.no_grad()
    def sample(self, n):
        """`n` new images `(n, *shape)`: codes from the prior, decoded."""
        return self.decode(torch.randn(n, latent_size(self.decoder), device=next(self.parameters()).device))


class AAE(Autoencoder):
    """Adversarial autoencoder (Makhzani et al. 2015): a critic on the codes takes the place of the VAE's KL.

    The critic maps `(B, latent)` to one logit `(B, 1)`: large for codes that look drawn from the prior.
    """

    def __init__(self, encoder, decoder, critic):
        super().__init__(encoder, decoder)
        self.critic = critic

    sample = VAE.sample


class GAN(nn.Module):
    """Generative adversarial network (Goodfellow et al. 2014): `z ~ N(0, I) -> x`, judged by a critic; no encoder.

    The generator maps `(B, latent)` to `(B, *shape)`, the critic maps `(B, *shape)` to one logit `(B, 1)`.
    """

    def __init__(self, generator, critic, latent):
        super().__init__()
        self.generator, self.critic, self.latent = generator, critic, latent

    def forward(self, z):
        return self.generator(z)

    def sample(self, n):
        """`n` images `(n, *shape)` of codes from the prior; with gradient, since the critic trains the generator through it."""
        return self.generator(torch.randn(n, self.latent, device=next(self.parameters()).device))


def latent_size(decoder):
    """How many numbers a decoder expects: read off its input check, or off its first linear layer."""
    for module in decoder.modules():
        if isinstance(module, Expect):
            return module.shape[0]
        if isinstance(module, nn.Linear):
            return module.in_features
    raise ValueError("cannot tell the latent size of this decoder: it has no linear layer")


def parameter_count(module):
    """How many numbers training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

"""Encoders, decoders, and the containers that put two or three of them together.

Shapes: `x: (B, *shape)`, `z: (B, latent)`. An encoder maps `x` to `z`, a decoder maps `z` to
`x_hat` of the shape of `x`. Any `nn.Module` that does so serves as well as the ones made here.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

Sizes = Sequence[int]
Layer = Callable[[], nn.Module]  # a module class, or a function that makes a module


class Expect(nn.Module):
    """Passes `(B, *shape)` on; for any other shape a ValueError says what was expected."""

    def __init__(self, shape: Sizes, what: str):
        super().__init__()
        self.shape, self.what = tuple(shape), what
        if not self.shape or any(n < 1 for n in self.shape):
            raise ValueError(f"{what}: every size must be at least 1, got {self.shape}")

    def forward(self, x):
        if tuple(x.shape[1:]) != self.shape:
            sizes = ", ".join(map(str, self.shape))
            raise ValueError(f"{self.what} of shape (B, {sizes}) expected, got {tuple(x.shape)}")
        return x

    def extra_repr(self):
        return ", ".join(map(str, self.shape))


def mlp(
    sizes: Sizes, *, activation: Layer = nn.ReLU, final: Layer | None = None, norm: bool = False
) -> nn.Sequential:
    """Fully connected layers `sizes[0] -> ... -> sizes[-1]`.

    sizes:       at least two widths.
    activation:  module class between the layers; `final` one after the last (None: nothing).
    norm:        batch normalization before each hidden activation (Ioffe and Szegedy 2015).
    """
    if len(sizes) < 2 or any(n < 1 for n in sizes):
        raise ValueError(f"mlp wants at least two sizes of at least 1, got {list(sizes)}")
    layers = []
    for n_in, n_out in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers.append(nn.Linear(n_in, n_out, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(n_out))
        layers.append(activation())
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    if final is not None:
        layers.append(final())
    return nn.Sequential(*layers)


def mlp_encoder(shape: Sizes, hidden: Sizes, latent: int, **options) -> nn.Sequential:
    """Fully connected encoder: `(B, *shape) -> (B, latent)` through the widths in `hidden`.

    `options` are those of `mlp`.
    """
    layers = mlp([prod(shape), *hidden, latent], **options)
    return nn.Sequential(Expect(shape, "encoder input"), nn.Flatten(), *layers)


def mlp_decoder(
    latent: int, hidden: Sizes, shape: Sizes, *, final: Layer | None = nn.Sigmoid, **options
) -> nn.Sequential:
    """Fully connected decoder: `(B, latent) -> (B, *shape)` through the widths in `hidden`.

    `final=nn.Sigmoid` suits data in [0, 1], None leaves it linear; `options` are those of `mlp`.
    """
    layers = mlp([latent, *hidden, prod(shape)], final=final, **options)
    return nn.Sequential(Expect([latent], "code"), *layers, nn.Unflatten(1, tuple(shape)))


def _leaky_relu() -> nn.Module:
    """The activation of the convolutional networks: slope 0.2 below zero, as in DCGAN."""
    return nn.LeakyReLU(0.2)


def conv_encoder(
    shape: Sizes,
    channels: Sizes,
    latent: int,
    *,
    activation: Layer = _leaky_relu,
    norm: bool = True,
) -> nn.Sequential:
    """Convolutional encoder: `(B, C, H, W) -> (B, latent)`.

    One 4x4 convolution of stride 2 per entry of `channels`: each halves height and width, which
    must be divisible by `2 ** len(channels)` (ValueError).
    """
    height, width = _halved(shape, len(channels))
    layers = [Expect(shape, "encoder input")]
    for c_in, c_out in zip([shape[0], *channels[:-1]], channels, strict=True):
        layers.append(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm2d(c_out))
        layers.append(activation())
    layers += [nn.Flatten(), nn.Linear(channels[-1] * height * width, latent)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def conv_decoder(
    latent: int,
    channels: Sizes,
    shape: Sizes,
    *,
    activation: Layer = _leaky_relu,
    norm: bool = True,
    final: Layer | None = nn.Sigmoid,
) -> nn.Sequential:
    """The mirror of `conv_encoder`: `(B, latent) -> (B, C, H, W)`.

    One 4x4 transposed convolution of stride 2 per entry of `channels`, which is the encoder's list,
    reversed. A kernel of 4 is a multiple of the stride of 2, so that every pixel is covered equally
    often, which avoids checkerboards (Odena, Dumoulin and Olah 2016).
    """
    height, width = _halved(shape, len(channels))
    layers = [Expect([latent], "code"), nn.Linear(latent, channels[0] * height * width)]
    layers.append(nn.Unflatten(1, (channels[0], height, width)))
    for c_in, c_out in zip(channels[:-1], channels[1:], strict=True):
        if norm:
            layers.append(nn.BatchNorm2d(c_in))
        layers += [activation(), nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(channels[-1]))
    layers += [activation(), nn.ConvTranspose2d(channels[-1], shape[0], 4, stride=2, padding=1)]
    if final is not None:
        layers.append(final())
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _halved(shape, times):
    _, height, width = shape
    if height % 2**times or width % 2**times:
        raise ValueError(f"{height}x{width} cannot be halved {times} times by stride 2")
    return height // 2**times, width // 2**times


class Autoencoder(nn.Module):
    """`x -> z -> x_hat`: an encoder and a decoder, trained together to reconstruct the input."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Tensor:
        """Code `z: (B, latent)` of `x: (B, *shape)`."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Reconstruction `x_hat: (B, *shape)` of `z: (B, latent)`."""
        return self.decoder(z)

    def forward(self, x):
        return self.decode(self.encode(x))


class VAE(Autoencoder):
    """Variational autoencoder (Kingma and Welling 2014): the code of `x` is a normal distribution.

    The encoder gives `2 * latent` numbers: `mu` and `logvar = log(sigma ** 2)`, side by side. The
    prior is N(0, I).
    """

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`mu, logvar` of the approximate posterior q(z | x), `(B, latent)` each."""
        both = self.encoder(x)
        if both.shape[1] % 2:
            raise ValueError(f"a VAE's encoder gives 2 * latent numbers, got {both.shape[1]}")
        return both.chunk(2, dim=1)

    def forward(self, x):
        """`x_hat, mu, logvar`, with `z = mu + sigma * eps` sampled, in eval mode too."""
        mu, logvar = self.encode(x)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        return self.decode(z), mu, logvar

    def reconstruct(self, x: Tensor) -> Tensor:
        """`x_hat: (B, *shape)` of the mean code, without noise."""
        mu, _ = self.encode(x)
        return self.decode(mu)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """`n` new examples `(n, *shape)`: codes from the prior N(0, I), decoded."""
        return self.decode(_standard_normal(n, _latent_size(self.decoder), self))


class AAE(Autoencoder):
    """Adversarial autoencoder (Makhzani et al. 2015): a discriminator replaces the VAE's KL term.

    The discriminator maps codes `(B, latent)` to one logit `(B, 1)`, large for codes that look
    drawn from the prior.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, discriminator: nn.Module):
        super().__init__(encoder, decoder)
        self.discriminator = discriminator

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """`n` new examples `(n, *shape)`: codes from the prior N(0, I), decoded."""
        return self.decode(_standard_normal(n, _latent_size(self.decoder), self))


class GAN(nn.Module):
    """Generative adversarial network (Goodfellow et al. 2014): `z ~ N(0, I) -> x`, no encoder.

    The generator maps `(B, latent)` to `(B, *shape)`, the discriminator `(B, *shape)` to one logit
    `(B, 1)`.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent: int):
        super().__init__()
        self.generator, self.discriminator, self.latent = generator, discriminator, latent

    def forward(self, z):
        return self.generator(z)

    def sample(self, n: int) -> Tensor:
        """`n` examples `(n, *shape)` of codes from the prior, with gradient for the generator."""
        return self.generator(_standard_normal(n, self.latent, self))


def _standard_normal(n, latent, model):
    return torch.randn(n, latent, device=next(model.parameters()).device)


def _latent_size(decoder: nn.Module) -> int:
    """How many numbers a decoder expects: read off its `Expect`, or off its first linear layer."""
    for module in decoder.modules():
        if isinstance(module, Expect):
            return module.shape[0]
        if isinstance(module, nn.Linear):
            return module.in_features
    raise ValueError("cannot tell the latent size of this decoder: it has no linear layer")


def parameter_count(module: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

"""Shapes, errors, and what the containers promise."""

from aecourse import models
from aecourse.models import AAE, GAN, VAE, Autoencoder, mlp, mlp_decoder, mlp_encoder

import pytest
import torch
from torch import nn

GRAY, COLOR = (1, 28, 28), (3, 64, 64)


def fully_connected(latent=5, **options):
    encoder = mlp_encoder(GRAY, [16], 5, **options)
    return Autoencoder(encoder, mlp_decoder(latent, [16], GRAY, **options))


@pytest.mark.parametrize("norm", [False, True])
def test_mlp_autoencoder_shapes_and_range(norm):
    model, x = fully_connected(norm=norm), torch.rand(3, *GRAY)
    assert model.encode(x).shape == (3, 5) and model(x).shape == x.shape
    assert 0 <= model(x).min() and model(x).max() <= 1


def test_conv_autoencoder_mirrors_its_encoder():
    channels = [8, 16, 32]
    encoder = models.conv_encoder(COLOR, channels, 7)
    decoder = models.conv_decoder(7, channels[::-1], COLOR)
    x = torch.rand(2, *COLOR)
    assert encoder(x).shape == (2, 7) and decoder(encoder(x)).shape == x.shape
    assert channels == [8, 16, 32]  # the caller's list is left alone
    down = [m.weight.shape for m in encoder if isinstance(m, nn.Conv2d)]
    up = [m.weight.shape for m in decoder if isinstance(m, nn.ConvTranspose2d)]
    assert down == up[::-1]  # Conv2d (out, in), ConvTranspose2d (in, out)


def test_transposed_convolutions_cover_every_pixel_equally_often():
    layer = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    inner = layer(torch.ones(1, 1, 8, 8))[0, 0, 1:-1, 1:-1]
    assert (inner == inner[0, 0]).all()


def test_parameters_are_counted():
    assert models.parameter_count(mlp([10, 4, 3])) == 10 * 4 + 4 + 4 * 3 + 3


def test_vae_samples_around_mu_with_sigma():
    model = VAE(mlp_encoder((6,), [], 4), nn.Identity())  # so that x_hat is the code itself
    x = torch.randn(1, 6)
    mu, logvar = (part.detach() for part in model.encode(x))
    sigma = (0.5 * logvar).exp()
    z, mu_again, logvar_again = model(x.expand(20_000, 6))
    torch.testing.assert_close(z.mean(0), mu[0], atol=0.05 * float(sigma.max()), rtol=0)
    torch.testing.assert_close(z.std(0), sigma[0], atol=0, rtol=0.05)
    torch.testing.assert_close(mu_again[0], mu[0])
    torch.testing.assert_close(logvar_again[0], logvar[0])


def test_vae_gradient_flows_through_the_sample():
    model, x = VAE(mlp_encoder(GRAY, [8], 6), mlp_decoder(3, [8], GRAY)), torch.rand(4, *GRAY)
    model(x)[0].sum().backward()
    mu, logvar = model.encoder[-1].weight.grad.chunk(2)
    assert mu.abs().sum() > 0 and logvar.abs().sum() > 0
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    with pytest.raises(ValueError, match="2 \\* latent"):
        VAE(mlp_encoder(GRAY, [], 5), mlp_decoder(5, [], GRAY)).encode(x)


def test_models_with_a_prior_sample_from_it():
    vae = VAE(mlp_encoder(GRAY, [8], 6), mlp_decoder(3, [8], GRAY))
    aae = AAE(mlp_encoder(GRAY, [8], 3), mlp_decoder(3, [8], GRAY), mlp([3, 8, 1]))
    gan = GAN(mlp_decoder(3, [8], GRAY), nn.Sequential(nn.Flatten(), mlp([784, 8, 1])), latent=3)
    assert all(model.sample(4).shape == (4, *GRAY) for model in (vae, aae, gan))
    assert gan.sample(1).requires_grad and not vae.sample(1).requires_grad
    assert gan.discriminator(gan(torch.randn(4, 3))).shape == (4, 1)
    own = nn.Sequential(nn.Linear(6, 2))  # the latent size is read off any decoder
    assert VAE(nn.Linear(2, 12), own).sample(3).shape == (3, 2)
    with pytest.raises(ValueError, match="latent size"):
        VAE(nn.Linear(2, 12), nn.ReLU()).sample(3)


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 32, 32), (784,)])
def test_wrong_shapes_are_refused_with_the_expected_one(shape):
    with pytest.raises(ValueError, match=r"\(B, 1, 28, 28\) expected, got \(2, "):
        fully_connected()(torch.rand(2, *shape))
    with pytest.raises(ValueError, match=r"code of shape \(B, 4\) expected, got \(2, 5\)"):
        fully_connected(latent=4)(torch.rand(2, *GRAY))


@pytest.mark.parametrize(
    "make, arguments",
    [
        (mlp_encoder, (GRAY, [], 0)),
        (mlp_encoder, ((0, 4), [], 2)),
        (mlp, ([3],)),
        (models.conv_encoder, ((1, 30, 30), [4, 4], 3)),
        (models.conv_decoder, (0, [4], (1, 8, 8))),
    ],
)
def test_impossible_sizes_are_refused(make, arguments):
    with pytest.raises(ValueError):
        make(*arguments)

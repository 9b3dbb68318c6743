"""Shapes, errors, and what the containers promise."""

from aecourse.models import (
    AAE,
    GAN,
    VAE,
    Autoencoder,
    conv_decoder,
    conv_encoder,
    mlp,
    mlp_decoder,
    mlp_encoder,
    parameter_count,
)

import pytest
import torch
from torch import nn

GRAY, COLOR = (1, 28, 28), (3, 64, 64)


def fully_connected(latent=5, out=5, **kwargs):
    return Autoencoder(
        mlp_encoder(GRAY, [16], out, **kwargs), mlp_decoder(latent, [16], GRAY, **kwargs)
    )


@pytest.mark.parametrize("norm", [False, True])
def test_mlp_autoencoder_shapes_and_range(norm):
    model, x = fully_connected(norm=norm), torch.rand(3, *GRAY)
    assert model.encode(x).shape == (3, 5)
    assert model(x).shape == x.shape
    assert 0 <= model(x).min() and model(x).max() <= 1


def test_conv_autoencoder_mirrors_its_encoder():
    channels = [8, 16, 32]
    model = Autoencoder(conv_encoder(COLOR, channels, 7), conv_decoder(7, channels[::-1], COLOR))
    x = torch.rand(2, *COLOR)
    assert model.encode(x).shape == (2, 7) and model(x).shape == x.shape
    assert channels == [8, 16, 32]  # the caller's list is left alone
    down = [m.weight.shape for m in model.encoder if isinstance(m, nn.Conv2d)]
    up = [m.weight.shape for m in model.decoder if isinstance(m, nn.ConvTranspose2d)]
    assert (
        down == up[::-1]
    )  # Conv2d (out, in), ConvTranspose2d (in, out): the same numbers, mirrored


def test_transposed_convolutions_cover_every_pixel_equally_often():
    layer = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    inner = layer(torch.ones(1, 1, 8, 8))[0, 0, 1:-1, 1:-1]
    assert (inner == inner[0, 0]).all()


def test_mlp_parameters_are_counted():
    assert parameter_count(mlp([10, 4, 3])) == 10 * 4 + 4 + 4 * 3 + 3


def test_sample_reads_the_latent_size_off_any_decoder():
    plain = nn.Sequential(nn.Linear(6, 2))
    assert VAE(nn.Linear(2, 12), plain).sample(3).shape == (3, 2)
    with pytest.raises(ValueError, match="latent size"):
        VAE(nn.Linear(2, 12), nn.ReLU()).sample(3)


def test_vae_samples_around_mu_with_sigma():
    model = VAE(mlp_encoder((6,), [], 4), mlp_decoder(2, [], (6,), final=None))
    x = torch.randn(1, 6)
    mu, logvar = (part.detach() for part in model.encode(x))
    model.decoder = nn.Identity()  # so that x_hat is the code itself
    z, mu_again, logvar_again = model(x.expand(20_000, 6))
    torch.testing.assert_close(
        z.mean(0), mu[0], atol=0.05 * float((0.5 * logvar).exp().max()), rtol=0
    )
    torch.testing.assert_close(z.std(0), (0.5 * logvar[0]).exp(), atol=0, rtol=0.05)
    torch.testing.assert_close(mu_again[0], mu[0])
    torch.testing.assert_close(logvar_again[0], logvar[0])


def test_vae_gradient_flows_through_the_sample():
    model = VAE(mlp_encoder(GRAY, [8], 6), mlp_decoder(3, [8], GRAY))
    model(torch.rand(4, *GRAY))[0].sum().backward()
    last = [m for m in model.encoder if isinstance(m, nn.Linear)][-1]
    assert (
        last.weight.grad[:3].abs().sum() > 0 and last.weight.grad[3:].abs().sum() > 0
    )  # mu and logvar both
    assert model.sample(5).shape == (5, *GRAY) and not model.sample(1).requires_grad
    assert torch.equal(
        model.reconstruct(torch.ones(1, *GRAY)), model.reconstruct(torch.ones(1, *GRAY))
    )


def test_vae_with_an_odd_encoder_is_refused():
    with pytest.raises(ValueError, match="2 \\* latent"):
        VAE(mlp_encoder(GRAY, [], 5), mlp_decoder(5, [], GRAY)).encode(torch.rand(1, *GRAY))


def test_aae_and_gan_sample():
    aae = AAE(mlp_encoder(GRAY, [8], 3), mlp_decoder(3, [8], GRAY), mlp([3, 8, 1]))
    assert aae.sample(4).shape == (4, *GRAY)
    gan = GAN(mlp_decoder(3, [8], GRAY), nn.Sequential(nn.Flatten(), mlp([784, 8, 1])), latent=3)
    assert gan.sample(4).shape == (4, *GRAY) and gan.sample(1).requires_grad
    assert gan.discriminator(gan(torch.randn(4, 3))).shape == (4, 1)


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 32, 32), (784,)])
def test_a_wrong_input_shape_is_told_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"\(B, 1, 28, 28\) expected, got \(2, "):
        fully_connected()(torch.rand(2, *shape))


def test_a_decoder_for_another_code_is_told():
    with pytest.raises(ValueError, match=r"code of shape \(B, 4\) expected, got \(2, 5\)"):
        fully_connected(latent=4)(torch.rand(2, *GRAY))


@pytest.mark.parametrize(
    "make",
    [
        lambda: mlp_encoder(GRAY, [], 0),
        lambda: conv_encoder((1, 30, 30), [4, 4], 3),
        lambda: mlp([3]),
        lambda: conv_decoder(0, [4], (1, 8, 8)),
        lambda: mlp_encoder((0, 4), [], 2),
    ],
)
def test_impossible_sizes_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_compiled_model_computes_the_same():
    model = fully_connected()
    x = torch.rand(2, *GRAY)
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))

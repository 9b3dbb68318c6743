"""Plots: what they draw, where, and what they refuse."""

import copy
import importlib

from aecourse import metrics, plotting
from aecourse.models import VAE, Autoencoder, conv_decoder, conv_encoder

import matplotlib.pyplot as plt
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

CONV = Autoencoder(conv_encoder((3, 16, 16), [4, 8], 2), conv_decoder(2, [8, 4], (3, 16, 16)))
OWN_VAE = VAE(nn.Sequential(nn.Linear(12, 6)), nn.Sequential(nn.Sequential(nn.Linear(3, 12))))
CURVES, X, Z = {"a": [3, 2, 1], "valid a": [4, 3, 2]}, torch.rand(4, 3, 16, 16), torch.randn(20, 2)


def pixels(z):  # a decoder of images of one pixel: red is latent 1, green is latent 2
    return (z @ torch.eye(2, 3))[:, :, None, None]


DRAWN = {
    "images": lambda **o: plotting.images(X, columns=3, **o),
    "weights": lambda **o: plotting.images(X[:, 0], scale=2.0, columns=2, labels="ab", **o),
    "reconstructions": lambda **o: plotting.reconstructions({"x": X, "x_hat": X}, **o),
    "history": lambda **o: plotting.history(CURVES, reference={"r": 1.5}, **o),
    "classes": lambda **o: plotting.latent(Z, torch.arange(20) % 3, **o),
    "scale": lambda **o: plotting.latent(Z, Z[:, 0], **o),
    "bars": lambda **o: plotting.bars({"a": 1.0, "b": metrics.Interval(2, 1, 3)}, **o),
    "architecture": lambda **o: plotting.architecture_diagram(CONV, (3, 16, 16), **o),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_plots_draw_on_the_given_axes_or_on_their_own(draw):
    ax = plt.subplots()[1]
    assert draw(ax=ax, title="t") is ax and ax.get_title(loc="left") == "t"
    assert draw() is not ax and (ax.images or ax.lines or ax.collections or ax.patches)
    plt.close("all")


def test_images_fill_the_grid_row_by_row():
    x = torch.tensor([0.0, 0, 1, 0]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    drawn = plotting.images(x, columns=2).images[0].get_array()  # with gaps of one pixel
    assert (drawn[3:, :2] == 1).all() and (drawn[:2, [0, 1, 3, 4]] == 0).all()


def test_latent_grid_has_latent_1_to_the_right_and_latent_2_up():
    drawn = plotting.latent_grid(pixels, low=0, high=1, n=2).images[0].get_array()
    assert tuple(drawn[0, 0]) == (0, 1, 0) and tuple(drawn[-1, -1]) == (1, 0, 0)


@pytest.mark.parametrize("scores, scale", [([1, 2, 30], "log"), ([-2, 0, 3], "linear")])
def test_score_histogram_draws_each_score_where_it_is(scores, scale):
    ax = plotting.score_histogram(torch.tensor(scores), [0, 0, 1])
    bars = [(b.get_x(), b.get_x() + b.get_width()) for b in ax.patches if b.get_height()]
    assert ax.get_xscale() == scale and len(bars) == 3
    assert all(low <= score <= high for score, (low, high) in zip(scores, bars))


@pytest.mark.parametrize("model, shape, code", [(OWN_VAE, (12,), "3"), (CONV, (3, 16, 16), "2")])
def test_architecture_diagram_shows_the_code_and_changes_nothing(model, shape, code):
    model.train().decoder.eval()
    weights, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    ax = plotting.architecture_diagram(model, shape)
    assert [text.get_text() for text in ax.texts if text.get_weight() == "bold"] == [code]
    assert model.encoder.training and not model.decoder.training
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (0, 1, 8, 8), (5, 3)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="images wants"):
        plotting.images(torch.rand(shape))


def test_figures_in_a_notebook_carry_their_titles_as_alternative_text():
    shell = InteractiveShell.instance()
    importlib.reload(plotting)  # which registers with the shell
    data, metadata = shell.display_formatter.format(plotting.images(X, title="Four").figure)
    InteractiveShell.clear_instance()
    assert metadata == {"image/png": {"alt": "Four"}} and data["image/png"].startswith("iVBOR")

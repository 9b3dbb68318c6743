"""Every kind of autoencoder of the course on the same digits, with the same networks and the same number of epochs, in one table.

`python -m aecourse compare` measures it and writes COMPARISON.json and COMPARISON.md; the last lesson reads it. A kind is a model and
a loss: what tells it from the plain autoencoder is one line of the two.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from aecourse import _reading, data, losses, metrics
from aecourse.data import Batches, _store, add_gaussian
from aecourse.models import AAE, GAN, VAE, Autoencoder, conv_decoder, conv_encoder, mlp, mlp_decoder, mlp_encoder, parameter_count
from aecourse.recipes import deceive, discriminate, elbo, fool
from aecourse.training import Update, fit, forked_rng

STORED = Path(__file__).resolve().parents[1] / "COMPARISON.json"
SHAPE, LATENT, WIDE, HIDDEN, EPOCHS, SIGMA = (1, 28, 28), 16, 1000, [256], 10, 0.5
COLUMNS = {                                              # name in a row -> (head in the table, which direction is better, format)
    "reconstruction": ("squared error per image", "low", "{:.1f}"),
    "denoising": (f"PSNR, dB, from noise of {SIGMA}", "high", "{:.1f}"),
    "probe": ("linear probe, 1,000 labels, %", "high", "{:.1f}"),
    "sampling": ("Fréchet distance of new images", "low", "{:.1f}"),
    "parameters": ("parameters", None, "{:,.0f}"),
    "seconds": ("seconds to train", None, "{:.1f}"),
}

# -- the losses: what each kind adds to the plain one ----------------------------------------------------------------------------


def plain(model, x):
    return losses.squared_error(model(x), x)


def denoising(model, x):
    return losses.squared_error(model(add_gaussian(x, SIGMA)), x)


def sparse_l1(model, x):
    z = model.encode(x)
    return losses.squared_error(model.decode(z), x) + 0.1 * losses.l1(z)


def sparse_kl(model, x):
    z = model.encode(x)
    return losses.squared_error(model.decode(z), x) + 0.1 * losses.kl_bernoulli(z.mean(0), 0.05)


def contractive(model, x):
    return losses.squared_error(model(x), x) + 0.03 * losses.contractive(model.encode, x)


def tell_apart(model, x):
    return losses.critic(model.critic(x), model.critic(model.sample(len(x)).detach()))


# -- the models, and the updates of those that play a game ----------------------------------------------------------------------


def _autoencoder():
    return Autoencoder(mlp_encoder(SHAPE, HIDDEN, LATENT), mlp_decoder(LATENT, HIDDEN, SHAPE))


def _wide(final=nn.ReLU):
    return Autoencoder(mlp_encoder(SHAPE, [], WIDE, final=final), mlp_decoder(WIDE, [], SHAPE))


def _vae():
    return VAE(mlp_encoder(SHAPE, HIDDEN, 2 * LATENT), mlp_decoder(LATENT, HIDDEN, SHAPE))


def _conv():
    return Autoencoder(conv_encoder(SHAPE, [16, 32], LATENT), conv_decoder(LATENT, [32, 16], SHAPE))


def _linear():
    return Autoencoder(mlp_encoder(SHAPE, [], LATENT), mlp_decoder(LATENT, [], SHAPE, final=None))


def _aae():
    parts = _autoencoder()
    return AAE(parts.encoder, parts.decoder, mlp([LATENT, 128, 128, 1], activation=lambda: nn.LeakyReLU(0.2)))


def _gan():
    generator = mlp_decoder(LATENT, [256, 256], SHAPE, norm=True)
    critic = nn.Sequential(nn.Flatten(), *mlp([784, 256, 256, 1], activation=lambda: nn.LeakyReLU(0.2)))
    for layer in critic:
        if isinstance(layer, nn.Linear):
            spectral_norm(layer)                         # holds the critic back (Miyato et al. 2018)
    return GAN(generator, critic, LATENT)


def _adam(module, lr, betas=(0.5, 0.99)):
    return torch.optim.Adam(module.parameters(), lr=lr, betas=betas)


def _aae_updates(model):
    autoencoder = [*model.encoder.parameters(), *model.decoder.parameters()]
    return [Update(plain, torch.optim.Adam(autoencoder, lr=3e-3)), Update(discriminate, _adam(model.critic, 1e-3)),
            Update(fool, _adam(model.encoder, 1e-3))]


def _gan_updates(model):
    return [Update(tell_apart, _adam(model.critic, 2e-3)), Update(deceive, _adam(model.generator, 2e-3))]


class Kind(NamedTuple):
    """What one row is made of: `make()` gives the model; `loss` is its loss, or `updates(model)` its updates."""

    make: Callable
    loss: Callable | None = None
    updates: Callable | None = None
    latent: int = LATENT


KINDS = {
    "PCA": Kind(_linear),                                # not trained: its weights are in closed form
    "linear": Kind(_linear, plain),
    "undercomplete": Kind(_autoencoder, plain),
    "convolutional": Kind(_conv, plain),
    "contractive": Kind(_autoencoder, contractive),
    "overcomplete, no rule": Kind(_wide, plain, latent=WIDE),
    "denoising": Kind(_wide, denoising, latent=WIDE),
    "sparse, L1": Kind(_wide, sparse_l1, latent=WIDE),
    "sparse, KL": Kind(partial(_wide, final=nn.Sigmoid), sparse_kl, latent=WIDE),
    "variational": Kind(_vae, elbo),
    "adversarial": Kind(_aae, updates=_aae_updates),
    "GAN": Kind(_gan, updates=_gan_updates),
}

# -- measuring -------------------------------------------------------------------------------------------------------------------


class Bench:
    """The digits, and a network of ours that reads them, whose features the Fréchet distance compares; one for all kinds.

    train, test: how many images; the first ones of the source.
    """

    def __init__(self, seed=0, source=None, *, train=10_000, test=2_000):
        self.seed = seed
        (self.x, self.y), (self.x_test, self.y_test) = (
            (x[:n], y[:n]) for (x, y), n in ((data.digits("train", source), train), (data.digits("test", source), test)))
        with forked_rng(seed):
            self.reader = nn.Sequential(*conv_encoder(SHAPE, [16, 32], 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

            def read(model, x, y):
                return nn.functional.cross_entropy(model(x), y)

            fit(self.reader, read, Batches(self.x, self.y, seed=seed), epochs=3, lr=5e-3, progress=False)
        self.features_test = self.features(self.x_test)
        with forked_rng(seed):
            self.noisy = add_gaussian(self.x_test, SIGMA)

    @torch.no_grad()
    def features(self, x):
        """The reader's last hidden layer, `(n, 64)`."""
        return torch.cat([self.reader[:-1](part) for part in x.split(500)])

    def train(self, name):
        """Train one kind from `KINDS`; returns the model and the seconds that it took."""
        kind, began = KINDS[name], time.perf_counter()
        with forked_rng(self.seed):
            model = kind.make()
            if kind.loss is None and kind.updates is None:
                _solve(model, self.x)
            else:
                recipe = kind.loss or kind.updates(model)
                fit(model, recipe, Batches(self.x, seed=self.seed), EPOCHS, lr=3e-3, schedule="one-cycle", progress=False)
        return model.eval(), time.perf_counter() - began

    @torch.no_grad()
    def measure(self, name):
        """One row of the table: a dict with the keys of `COLUMNS`, None where a kind cannot do it (a GAN has no encoder)."""
        with torch.enable_grad():
            model, seconds = self.train(name)
        row = dict.fromkeys(COLUMNS) | {"parameters": parameter_count(model), "seconds": seconds}
        with forked_rng(self.seed):
            row["sampling"] = float(metrics.frechet(self.features(self.sample(model, len(self.x_test))), self.features_test))
        if isinstance(model, GAN):
            return row
        rebuild, code = getattr(model, "reconstruct", model), self.code(model)
        row["reconstruction"] = float(losses.squared_error(rebuild(self.x_test), self.x_test))
        row["denoising"] = float(metrics.psnr(rebuild(self.noisy).clamp(0, 1), self.x_test).mean())
        z, z_test = code(self.x[:1000]), code(self.x_test)
        row["probe"] = 100 * float(metrics.linear_probe(z, self.y[:1000], z_test, self.y_test))
        return row

    def code(self, model):
        """The function from images to codes `(n, latent)`: of a VAE the mean."""
        return (lambda x: model.encode(x)[0]) if isinstance(model, VAE) else model.encode

    def sample(self, model, n):
        """`n` new images: from the prior where the kind has one, else from a normal distribution fitted to the training codes."""
        if hasattr(model, "sample"):
            return model.sample(n)
        z = self.code(model)(self.x).double()
        covariance = torch.cov(z.T) + 1e-4 * torch.eye(z.shape[1], dtype=torch.float64)
        normal = torch.linalg.cholesky(covariance) @ torch.randn(z.shape[1], n, dtype=torch.float64)
        return model.decode((z.mean(0) + normal.T).float()).clamp(0, 1)

    def floor(self):
        """The Fréchet distance of real images: as many of the training images as there are test images."""
        return float(metrics.frechet(self.features(self.x[:len(self.x_test)]), self.features_test))


def _solve(model, x):
    """Put PCA's weights into a linear autoencoder."""
    pca = PCA(LATENT, random_state=0).fit(x.flatten(1).numpy())
    axes, center = torch.from_numpy(pca.components_).float(), torch.from_numpy(pca.mean_).float()
    encoder, decoder = (next(m for m in part.modules() if isinstance(m, nn.Linear)) for part in (model.encoder, model.decoder))
    with torch.no_grad():
        encoder.weight.copy_(axes), encoder.bias.copy_(-axes @ center)
        decoder.weight.copy_(axes.T), decoder.bias.copy_(center)


# -- the table -------------------------------------------------------------------------------------------------------------------


def resolve(source=None):
    """The digits that a word means: "strokes", "mnist" or "fashion-mnist"."""
    return _store.choose("digits", source, "strokes", ("mnist", "fashion-mnist"))


def stored(source=None):
    """What `python -m aecourse compare` last measured on this source: seed -> {"floor": number, "rows": name -> row}."""
    word = resolve(source)
    runs = _reading.read_json(STORED, page) if STORED.exists() else {}
    if word not in runs:
        raise LookupError(f"not measured on {word!r} yet: run python -m aecourse compare --sources {word}")
    return runs[word]


def average(runs):
    """The mean of each column over seeds, name -> row; `runs` as `stored` gives them. What one seed could not do stays None."""
    rows = [run["rows"] for run in runs.values()]
    return {name: {key: None if row[key] is None else mean(other[name][key] for other in rows) for key in COLUMNS}
            for name, row in rows[0].items()}


def floor(runs):
    """The mean over seeds of the Fréchet distance that real digits have."""
    return mean(run["floor"] for run in runs.values())


def table(rows):
    """Rows (name -> row) as a Markdown table, the best figure of each column in bold."""
    lines = ["| kind | " + " | ".join(head for head, _, _ in COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    best = {key: {"low": min, "high": max}[better]((row[key] for row in rows.values() if row.get(key) is not None), default=None)
            for key, (_, better, _) in COLUMNS.items() if better}
    for name, row in rows.items():
        cells = ["–" if row[key] is None else ("**{}**" if row[key] == best.get(key) else "{}").format(form.format(row[key]))
                 for key, (_, _, form) in COLUMNS.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(kept):
    """COMPARISON.md as text: a table per source, means over its seeds."""
    lines = ["# Every kind side by side", "", f"Digits, {EPOCHS} epochs for each kind, hidden layers of {HIDDEN[0]}, a code of {LATENT} "
             f"numbers ({WIDE:,} for the overcomplete ones). New images come from the prior where a kind has one, else from a normal "
             "distribution fitted to the training codes. The Fréchet distance compares features of a classifier that the command trains "
             "itself: it ranks the rows of one table, and means nothing beside other papers' figures. Made by "
             "`python -m aecourse compare`, not by hand."]
    for source, runs in kept.items():
        seeds = "From 1 seed" if len(runs) == 1 else f"Means of {len(runs)} seeds"
        lines += ["", f"## {source}", "", table(average(runs)), "", f"{seeds}. Fréchet distance of real digits: {floor(runs):.2f}."]
    return "\n".join(lines)

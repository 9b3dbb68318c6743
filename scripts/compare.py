"""Every kind of autoencoder of the course on the same digits, with the same networks and epochs.

    python scripts/compare.py --seeds 0,1,2 --sources embedded,real

writes reports/comparison.json and reports/comparison.md; lesson 13 shows the table and measures two
rows anew. A kind is a model and a loss: what tells it from the plain autoencoder is one of the two.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from statistics import mean

from aecourse import data, losses, metrics
from aecourse.data import Batches, add_gaussian
from aecourse.data.store import atomic_write, choose
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
from aecourse.seeding import forked_rng
from aecourse.training import Update, fit

import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

STORED = Path(__file__).resolve().parents[1] / "reports" / "comparison.json"
SHAPE, LATENT, WIDE, HIDDEN, EPOCHS, SIGMA = (1, 28, 28), 16, 1000, [256], 10, 0.5
COLUMNS = {  # name in a row -> (head in the table, which direction is better, format)
    "reconstruction": ("squared error per image", "low", "{:.1f}"),
    "denoising": (f"PSNR, dB, from noise of {SIGMA}", "high", "{:.1f}"),
    "probe": ("linear probe, 1,000 labels, %", "high", "{:.1f}"),
    "sampling": ("Fréchet distance of new images", "low", "{:.1f}"),
    "parameters": ("parameters", None, "{:,.0f}"),
    "seconds": ("seconds to train", None, "{:.1f}"),
}

# -- the losses: what each kind adds to the plain one ----------------------------------------------


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


def negative_elbo(model, x):
    x_hat, mu, logvar = model(x)
    recon, kl = losses.bce(x_hat, x), losses.kl_normal(mu, logvar)
    return {"loss": recon + kl, "recon": recon, "kl": kl}


def discriminate_codes(model, x):
    with torch.no_grad():
        z = model.encode(x)
    prior = torch.randn_like(z)
    return losses.discriminator_loss(model.discriminator(prior), model.discriminator(z))


def fool(model, x):
    return losses.generator_loss(model.discriminator(model.encode(x)))


def discriminate_images(model, x):
    fake = model.sample(len(x)).detach()
    return losses.discriminator_loss(model.discriminator(x), model.discriminator(fake))


def generate(model, x):
    return losses.generator_loss(model.discriminator(model.sample(len(x))))


def flow_matching(velocity, z):
    """Lesson 14's loss: on the line from noise to a code, the step from the one to the other."""
    noise, t = torch.randn_like(z), torch.rand(len(z), 1)
    step = velocity(torch.cat([noise + t * (z - noise), t], dim=1))
    return losses.squared_error(step, z - noise)


# -- the models, and the updates of those that have a discriminator --------------------------------


def make_autoencoder():
    return Autoencoder(mlp_encoder(SHAPE, HIDDEN, LATENT), mlp_decoder(LATENT, HIDDEN, SHAPE))


def make_overcomplete(final=nn.ReLU):
    return Autoencoder(mlp_encoder(SHAPE, [], WIDE, final=final), mlp_decoder(WIDE, [], SHAPE))


def make_vae():
    return VAE(mlp_encoder(SHAPE, HIDDEN, 2 * LATENT), mlp_decoder(LATENT, HIDDEN, SHAPE))


def make_convolutional():
    return Autoencoder(conv_encoder(SHAPE, [16, 32], LATENT), conv_decoder(LATENT, [32, 16], SHAPE))


def make_linear():
    return Autoencoder(mlp_encoder(SHAPE, [], LATENT), mlp_decoder(LATENT, [], SHAPE, final=None))


def make_aae():
    parts = make_autoencoder()
    discriminator = mlp([LATENT, 128, 128, 1], activation=partial(nn.LeakyReLU, 0.2))
    return AAE(parts.encoder, parts.decoder, discriminator)


def make_gan():
    generator = mlp_decoder(LATENT, [256, 256], SHAPE, norm=True)
    layers = mlp([784, 256, 256, 1], activation=partial(nn.LeakyReLU, 0.2))
    discriminator = nn.Sequential(nn.Flatten(), *layers)
    for layer in discriminator:
        if isinstance(layer, nn.Linear):
            spectral_norm(layer)  # bounds the discriminator's gradient (Miyato et al. 2018)
    return GAN(generator, discriminator, LATENT)


def adam(module, lr, betas=(0.5, 0.99)):
    return torch.optim.Adam(module.parameters(), lr=lr, betas=betas)


def aae_updates(model):
    autoencoder = [*model.encoder.parameters(), *model.decoder.parameters()]
    return [
        Update(plain, torch.optim.Adam(autoencoder, lr=3e-3)),
        Update(discriminate_codes, adam(model.discriminator, 1e-3)),
        Update(fool, adam(model.encoder, 1e-3)),
    ]


def gan_updates(model):
    return [
        Update(discriminate_images, adam(model.discriminator, 2e-3)),
        Update(generate, adam(model.generator, 2e-3)),
    ]


# kind -> (a function that makes the model, its loss or a function from the model to its updates)
KINDS = {
    "PCA": (make_linear, None),  # not trained: its weights are in closed form
    "linear": (make_linear, plain),
    "undercomplete": (make_autoencoder, plain),
    "convolutional": (make_convolutional, plain),
    "contractive": (make_autoencoder, contractive),
    "overcomplete, no regularizer": (make_overcomplete, plain),
    "denoising": (make_overcomplete, denoising),
    "sparse, L1": (make_overcomplete, sparse_l1),
    "sparse, KL": (partial(make_overcomplete, final=nn.Sigmoid), sparse_kl),
    "variational": (make_vae, negative_elbo),
    "adversarial": (make_aae, aae_updates),
    "GAN": (make_gan, gan_updates),
}

BASELINES = (
    "raw pixels",
    "random features",
    "variational, fitted normal",
    "undercomplete, flow matching",
)

# -- measuring -------------------------------------------------------------------------------------


class Bench:
    """The digits, and a classifier of them whose features the Fréchet distance compares.

    train, test: how many images; the first ones of the source.
    """

    def __init__(self, seed=0, source=None, *, train=10_000, test=2_000):
        self.seed = seed
        x, y = data.digits("train", source)
        x_test, y_test = data.digits("test", source)
        self.x, self.y, self.x_test, self.y_test = (
            x[:train],
            y[:train],
            x_test[:test],
            y_test[:test],
        )
        with forked_rng(seed):
            encoder = conv_encoder(SHAPE, [16, 32], 64)
            head = [nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)]
            self.classifier = nn.Sequential(*encoder, *head)

            def classify(model, x, y):
                return nn.functional.cross_entropy(model(x), y)

            batches = Batches(self.x, self.y, seed=seed)
            fit(self.classifier, classify, batches, epochs=3, lr=5e-3, progress=False)
        self.features_test = self.features(self.x_test)
        with forked_rng(seed):
            self.noisy = add_gaussian(self.x_test, SIGMA)

    @torch.no_grad()
    def features(self, x):
        """The classifier's last hidden layer, `(n, 64)`."""
        return torch.cat([self.classifier[:-1](part) for part in x.split(500)])

    def train(self, name):
        """Train one of `KINDS`; returns the model and the seconds that it took."""
        (make, loss), began = KINDS[name], time.perf_counter()
        with forked_rng(self.seed):
            model = make()
            if loss is None:
                solve_pca(model, self.x)
            else:
                loss = loss(model) if loss in (aae_updates, gan_updates) else loss
                batches = Batches(self.x, seed=self.seed)
                fit(model, loss, batches, EPOCHS, lr=3e-3, schedule="one-cycle", progress=False)
        return model.eval(), time.perf_counter() - began

    @torch.no_grad()
    def measure(self, name):
        """One row: a dict with the keys of `COLUMNS`, None where a kind cannot do it."""
        with torch.enable_grad():
            model, seconds = self.train(name)
        row = dict.fromkeys(COLUMNS) | {"parameters": parameter_count(model), "seconds": seconds}
        with forked_rng(self.seed):
            new = self.features(self.sample(model, len(self.x_test)))
        row["sampling"] = float(metrics.frechet_distance(new, self.features_test))
        if isinstance(model, GAN):  # it has no encoder
            return row
        reconstruct = getattr(model, "reconstruct", model)
        row["reconstruction"] = float(losses.squared_error(reconstruct(self.x_test), self.x_test))
        cleaned = reconstruct(self.noisy).clamp(0, 1)
        row["denoising"] = float(metrics.psnr(cleaned, self.x_test).mean())
        row["probe"] = self.probe(partial(self.code, model))
        return row

    def probe(self, encode):
        """Percent of test digits that a linear classifier of 1,000 codes gets right."""
        z, z_test = encode(self.x[:1000]), encode(self.x_test)
        return 100 * float(metrics.linear_probe(z, self.y[:1000], z_test, self.y_test))

    def baselines(self):
        """Rows of one column each: what the probe makes of pixels and of random ReLU units, how a
        VAE samples from a normal fitted to its codes, as the plain autoencoders do, and how a plain
        one samples by flow matching on its codes."""
        rows = {name: dict.fromkeys(COLUMNS) for name in BASELINES}
        with forked_rng(self.seed):
            untrained = make_overcomplete().encoder
        vae, autoencoder = (self.train(name)[0] for name in ("variational", "undercomplete"))
        with torch.no_grad(), forked_rng(self.seed):
            rows["raw pixels"]["probe"] = self.probe(nn.Flatten())
            rows["random features"]["probe"] = self.probe(untrained)
            new = self.features(self.sample_fitted(vae, len(self.x_test)))
        distance = metrics.frechet_distance(new, self.features_test)
        rows["variational, fitted normal"]["sampling"] = float(distance)
        new = self.features(self.sample_flow(autoencoder, len(self.x_test)))
        distance = metrics.frechet_distance(new, self.features_test)
        rows["undercomplete, flow matching"]["sampling"] = float(distance)
        return rows

    def code(self, model, x):
        """Codes `(n, latent)`: of a VAE the means."""
        return model.encode(x)[0] if isinstance(model, VAE) else model.encode(x)

    def sample(self, model, n):
        """`n` new images: from the prior, else from a normal fitted to the training codes."""
        return model.sample(n) if hasattr(model, "sample") else self.sample_fitted(model, n)

    def sample_fitted(self, model, n):
        z = self.code(model, self.x).double()
        covariance = torch.cov(z.T) + 1e-4 * torch.eye(z.shape[1], dtype=torch.float64)
        noise = torch.randn(z.shape[1], n, dtype=torch.float64)
        drawn = z.mean(0) + (torch.linalg.cholesky(covariance) @ noise).T
        return model.decode(drawn.float()).clamp(0, 1)

    def sample_flow(self, model, n):
        """`n` images by flow matching on the codes, as many epochs as the model had."""
        with torch.no_grad():
            z = self.code(model, self.x)
        center, scale = z.mean(0), z.std(0)
        with forked_rng(self.seed):
            velocity = mlp([LATENT + 1, *HIDDEN, *HIDDEN, LATENT], activation=nn.GELU)
            batches, options = Batches((z - center) / scale, seed=self.seed), {"lr": 3e-3}
            options |= {"schedule": "one-cycle", "progress": False}
            fit(velocity, flow_matching, batches, EPOCHS, **options)
            with torch.no_grad():
                x = torch.randn(n, LATENT)
                for t in torch.arange(50) / 50:  # Euler's method
                    x = x + velocity(torch.cat([x, t.expand(n, 1)], dim=1)) / 50
                return model.decode(center + scale * x).clamp(0, 1)

    def floor(self):
        """The Fréchet distance of real images: as many training images as test images."""
        real = self.features(self.x[: len(self.x_test)])
        return float(metrics.frechet_distance(real, self.features_test))


def solve_pca(model, x):
    """Put PCA's weights into a linear autoencoder."""
    pca = PCA(LATENT, random_state=0).fit(x.flatten(1).numpy())
    axes, center = torch.from_numpy(pca.components_).float(), torch.from_numpy(pca.mean_).float()
    parts = (model.encoder, model.decoder)
    encoder, decoder = (next(m for m in p.modules() if isinstance(m, nn.Linear)) for p in parts)
    with torch.no_grad():
        encoder.weight.copy_(axes)
        encoder.bias.copy_(-axes @ center)
        decoder.weight.copy_(axes.T)
        decoder.bias.copy_(center)


# -- the table -------------------------------------------------------------------------------------


def resolve(source=None):
    """The digits that a word means: "strokes", "mnist" or "fashion-mnist"."""
    return choose("digits", source, "strokes", ("mnist", "fashion-mnist"))


def stored(source=None):
    """What was last measured on a source: seed -> {"floor": number, "rows": name -> row}."""
    word = resolve(source)
    runs = json.loads(STORED.read_text()) if STORED.exists() else {}
    if word not in runs:
        raise LookupError(f"not measured yet: run python scripts/compare.py --sources {word}")
    return runs[word]


def average(runs):
    """The mean of each column over seeds, name -> row. What a kind cannot do stays None."""
    rows = [run["rows"] for run in runs.values()]
    return {
        name: {
            key: None if row[key] is None else mean(other[name][key] for other in rows)
            for key in COLUMNS
        }
        for name, row in rows[0].items()
    }


def floor(runs):
    """The mean over seeds of the Fréchet distance that real digits have."""
    return mean(run["floor"] for run in runs.values())


def table(rows):
    """Rows (name -> row) as a Markdown table, the best value of each column in bold."""
    heads = " | ".join(head for head, _, _ in COLUMNS.values())
    lines = [f"| kind | {heads} |", "|---|" + "---:|" * len(COLUMNS)]
    best = {}
    for key, (_, better, _) in COLUMNS.items():
        values = [row[key] for row in rows.values() if row[key] is not None]
        best[key] = {"low": min, "high": max}[better](values) if better and values else None
    for name, row in rows.items():
        cells = []
        for key, (_, _, form) in COLUMNS.items():
            cell = "–" if row[key] is None else form.format(row[key])
            is_best = row[key] is not None and row[key] == best[key]
            cells.append(f"**{cell}**" if is_best else cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(kept):
    """comparison.md as text: a table per source, means over its seeds."""
    lines = [
        "# Every kind side by side",
        "",
        f"Digits, {EPOCHS} epochs for each kind, hidden layers of {HIDDEN[0]}, a code of {LATENT} "
        f"numbers ({WIDE:,} for the overcomplete ones). New images come from the prior where a "
        "kind has one, else from a normal distribution fitted to the training codes. The Fréchet "
        "distance compares features of a classifier that the command trains itself: it ranks the "
        "rows of one table, and means nothing beside other papers' figures. Made by "
        "`python scripts/compare.py`.",
    ]
    for source, runs in kept.items():
        seeds = "From 1 seed" if len(runs) == 1 else f"Means of {len(runs)} seeds"
        real = f"Fréchet distance of real digits: {floor(runs):.2f}"
        lines += ["", f"## {source}", "", table(average(runs)), "", f"{seeds}. {real}."]
    return "\n".join(lines)


def rounded(row):
    return {key: value and float(f"{value:.6g}") for key, value in row.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2", help="numbers with commas; default 0,1,2")
    parser.add_argument("--sources", default="embedded,real", help="default embedded,real")
    args = parser.parse_args(argv)
    for source in map(resolve, args.sources.split(",")):
        for seed in map(int, args.seeds.split(",")):
            bench, rows = Bench(seed, source), {}
            for name in KINDS:
                print(f"{source}, seed {seed}: {name}", flush=True)
                row = bench.measure(name)
                rows[name] = rounded(row)
            rows |= {name: rounded(row) for name, row in bench.baselines().items()}
            kept = json.loads(STORED.read_text()) if STORED.exists() else {}
            run = {"floor": float(f"{bench.floor():.6g}"), "rows": rows}
            kept.setdefault(str(source), {})[str(seed)] = run
            for path, text in (
                (STORED, json.dumps(kept, indent=1)),
                (STORED.with_suffix(".md"), page(kept)),
            ):
                with atomic_write(path) as temporary:
                    temporary.write_text(text + "\n")


if __name__ == "__main__":
    main()

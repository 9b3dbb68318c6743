"""What the benchmark's child processes do: train the same VAE in the ways of several libraries, find frauds, count and time.

A job is a function `job(turn, **options)`. It calls `turn()` when it is ready and `turn(answer)` with each result; both
return when the parent asks for the next one, with what it asks for.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from aecourse import data, losses
from aecourse.data import Batches
from aecourse.models import VAE, Autoencoder, mlp_decoder, mlp_encoder
from aecourse.training import fit, forked_rng, set_seed

SHAPE, HIDDEN, LATENT, BATCH = (1, 28, 28), 400, 20, 128
RECIPE = {"lr": 6e-3, "schedule": "polynomial"}          # of our `fit`; the others: Adam at 1e-3, as PyTorch's example
SIZES = [128, 256, 512, 1024, 2048, 4096]                # batch sizes among which the best is looked for

# -- the model, and what it is judged by ------------------------------------------------------------------------------------


def make(shape=SHAPE, latent=LATENT):
    """The VAE that all train, d-400-latent-400-d, out of the course's parts; its decoder gives logits."""
    return VAE(mlp_encoder(shape, [HIDDEN], 2 * latent), mlp_decoder(latent, [HIDDEN], shape, final=None))


def elbo(model, x):
    logits, mu, logvar = model(x)
    return losses.bce_with_logits(logits, x) + losses.kl_normal(mu, logvar)


@torch.no_grad()
def nats(model, x):
    """Minus the ELBO in nats per image, Bernoulli, one code drawn for each of `x (n, 1, 28, 28)`; one judge for all.

    model: `encode` gives `mu, logvar`, `decode` gives logits.
    """
    training, total = model.training, 0.
    model.eval()
    with forked_rng(0):
        for part in x.split(1000):
            mu, logvar = model.encode(part)
            logits = model.decode(mu + (0.5 * logvar).exp() * torch.randn_like(mu))
            total += len(part) * float(losses.bce_with_logits(logits, part) + losses.kl_normal(mu, logvar))
    model.train(training)
    return total / len(x)


# -- the contenders: what a child process runs ------------------------------------------------------------------------------


class Work(NamedTuple):
    """So many epochs on the first `images` of a source of digits, which lie in `folder` as bytes."""

    source: str
    images: int
    epochs: int
    folder: str


class Clock:
    """Tells the parent of each epoch that is done, and does not run while others have their turn."""

    def __init__(self, turn, x_test):
        self.turn, self.x_test = turn, x_test

    def start(self):
        self.turn(None)
        self.began = time.perf_counter()

    def epoch_done(self, model):
        seconds = time.perf_counter() - self.began
        self.turn({"seconds": seconds, "loss": nats(model, self.x_test)})
        self.began = time.perf_counter()


class Example(nn.Module):
    """The same VAE as one writes it without the course: two heads, a sigmoid, a loss summed over the batch."""

    def __init__(self):
        super().__init__()
        self.hidden, self.mu, self.logvar = nn.Linear(784, HIDDEN), nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.back, self.out = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, 784)

    def encode(self, x):
        h = F.relu(self.hidden(x.flatten(1)))
        return self.mu(h), self.logvar(h)

    def decode(self, z):
        return self.out(F.relu(self.back(z))).view(-1, *SHAPE)

    def loss(self, x):
        mu, logvar = self.encode(x)
        std = torch.exp(0.5 * logvar)
        x_hat = torch.sigmoid(self.decode(mu + std * torch.randn_like(std)))
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return F.binary_cross_entropy(x_hat, x, reduction="sum") + kl


def _bytes(work):
    return torch.from_numpy(np.load(Path(work.folder, "x.npy"))), torch.from_numpy(np.load(Path(work.folder, "y.npy")))


def _loader(work):
    """torchvision's MNIST data set, whichever digits are in it, through ToTensor and a DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    class Digits(datasets.MNIST):
        def __init__(self):
            datasets.VisionDataset.__init__(self, work.folder, transform=transforms.ToTensor())
            self.data, self.targets = _bytes(work)

    return DataLoader(Digits(), batch_size=BATCH, shuffle=True)


def ours(clock, work):
    """The course's `fit` on the course's `Batches`."""
    x = data.digits("train", work.source)[0][:work.images]
    model = make()
    clock.start()
    fit(model, elbo, Batches(x, size=BATCH), work.epochs, **RECIPE,
        after_epoch=lambda epoch, model, history: clock.epoch_done(model))


def bare(clock, work):
    """The least that one can write: the same model and loss, data in memory, no bar, no log, no check."""
    x = _bytes(work)[0][:, None].float().div_(255)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    clock.start()
    for _ in range(work.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            batch = x.index_select(0, index)
            logits, mu, logvar = model(batch)
            kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum()
            loss = (F.binary_cross_entropy_with_logits(logits, batch, reduction="sum") + kl) / len(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        clock.epoch_done(model)


def plain(clock, work):
    """The way of PyTorch's own VAE example."""
    net, loader = Example(), _loader(work)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    clock.start()
    for _ in range(work.epochs):
        total = 0.
        for x, _ in loader:
            optimizer.zero_grad()
            loss = net.loss(x)
            loss.backward()
            total += loss.item()
            optimizer.step()
        clock.epoch_done(net)


def lightning(clock, work):
    """PyTorch Lightning's Trainer over the example's DataLoader; no logger, no checkpoints, no bar."""
    pl = importlib.import_module("lightning.pytorch")

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Example()

        def training_step(self, batch, index):
            return self.net.loss(batch[0])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

        def on_train_epoch_end(self):
            clock.epoch_done(self.net)

    module, loader = Module(), _loader(work)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    clock.start()
    pl.Trainer(max_epochs=work.epochs, accelerator="cpu", default_root_dir=work.folder, **quiet).fit(module, loader)


def pythae(clock, work):
    """Pythae's VAE and BaseTrainer, with the example's layers as encoder and decoder, data in memory as Pythae wants it."""
    models, parts, trainers = map(importlib.import_module, ("pythae.models", "pythae.models.nn", "pythae.trainers"))
    output = importlib.import_module("pythae.models.base.base_utils").ModelOutput
    dataset = importlib.import_module("pythae.data.datasets").BaseDataset
    callback = importlib.import_module("pythae.trainers.training_callbacks").TrainingCallback
    net = Example()

    class Encoder(parts.BaseEncoder):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            mu, logvar = self.net.encode(x)
            return output(embedding=mu, log_covariance=logvar)

    class Decoder(parts.BaseDecoder):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, z):
            return output(reconstruction=torch.sigmoid(self.net.decode(z)))

    class Tell(callback):
        def on_epoch_end(self, training_config, **kwargs):
            clock.epoch_done(net)

    x, y = _bytes(work)
    config = models.VAEConfig(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss="bce")
    training = trainers.BaseTrainerConfig(output_dir=work.folder, num_epochs=work.epochs, learning_rate=1e-3,
                                          per_device_train_batch_size=BATCH, no_cuda=True)
    trainer = trainers.BaseTrainer(models.VAE(config, Encoder(), Decoder()), dataset(x[:, None].float() / 255, y),
                                   training_config=training, callbacks=[Tell()])
    clock.start()
    trainer.train()


class Contender(NamedTuple):
    """`ours`: with the thread setting of `import aecourse`, else with PyTorch's own. `peer`: what must be installed."""

    train: Callable
    ours: bool = False
    peer: str | None = None


CONTENDERS = {
    "aecourse fit": Contender(ours, ours=True),
    "bare loop": Contender(bare),
    "bare loop, our thread setting": Contender(bare, ours=True),
    "PyTorch example": Contender(plain),
    "Lightning": Contender(lightning, peer="lightning"),
    "Pythae": Contender(pythae, peer="pythae"),
}


def _contend(turn, contender, work):
    work = Work(*work)
    clock = Clock(turn, data.digits("test", work.source)[0][:work.images])
    set_seed(0)
    CONTENDERS[contender].train(clock, work)


# -- the other jobs of child processes --------------------------------------------------------------------------------------


def _roof(turn, seconds=0.15):
    """In each turn the best rate of a matrix product, GFLOP/s: at the model's own sizes, small and large, and of squares."""
    sizes = [shape for b in (BATCH, SIZES[-1]) for shape in ((b, 784, HIDDEN), (b, HIDDEN, 784), (784, b, HIDDEN))]
    turn()
    while True:
        rates = []
        for m, k, n in [*sizes, (1024, 1024, 1024), (2048, 2048, 2048)]:
            a, b, out, done, began = torch.rand(m, k), torch.rand(k, n), torch.empty(m, n), 0, time.perf_counter()
            while (took := time.perf_counter() - began) < seconds:
                torch.mm(a, b, out=out)
                done += 1
            rates.append(2e-9 * m * k * n * done / took)
        turn(max(rates))


class _For:
    """Batches again and again, until the seconds are over; knows how many examples per second were trained on."""

    def __init__(self, batches, seconds):
        self.batches, self.seconds = batches, seconds

    def __iter__(self):
        began, examples = time.perf_counter(), 0
        while True:
            for batch in self.batches:
                yield batch
                examples += len(batch[0])
                self.rate = examples / (time.perf_counter() - began)
                if time.perf_counter() - began > self.seconds:
                    return


def _rates(turn, images):
    """In each turn, for each (batch size, seconds) that is asked for: images per second of our `fit`, on random images."""
    x, model = torch.rand(images, *SHAPE), make()
    asked = turn()
    while True:
        timed = [_For(Batches(x, size=size), seconds) for size, seconds in asked]
        for batches in timed:
            fit(model, elbo, batches, 1, schedule="constant", progress=False)
        asked = turn([batches.rate for batches in timed])


def _grow(turn, n, d, latent, batch):
    """Seconds per epoch of our `fit` on `n` rows of `d` numbers, the first epoch left out: it warms up."""
    turn()
    epochs = 5 if n <= 20_000 else 3
    history = fit(make((d,), latent), elbo, Batches(torch.rand(n, d), size=batch), epochs, progress=False)
    turn(median(history.seconds[1:]))


def _fraud(turn, source):
    """In each turn one method of `METHODS`: `name, seed, epochs` in; average precision and seconds to fit and score out."""
    from aecourse import metrics

    train, valid, test = (data.transactions(part, source) for part in ("train", "valid", "test"))
    normal = train.x[train.y == 0]
    mean, std = normal.mean(0), normal.std(0)            # learned where the model learns, as lesson 05 has it
    rows = Rows((normal - mean) / std, (valid.x - mean) / std, valid.y, (test.x - mean) / std)
    asked = turn()
    while True:
        name, seed, epochs = asked
        began = time.perf_counter()
        scores = METHODS[name](rows, seed, epochs)
        seconds = time.perf_counter() - began
        asked = turn({"precision": metrics.average_precision(scores, test.y), "seconds": seconds})


class Rows(NamedTuple):
    """Standardized transactions: normal ones to train on, a labeled period to choose by, those to be judged."""

    x: torch.Tensor
    x_valid: torch.Tensor
    y_valid: torch.Tensor
    x_test: torch.Tensor


def _body(rows):
    """Lesson 05's choice: hidden widths, code, its bound, learning rate. The public set has 29 columns, nearly linear."""
    return ([], 20, nn.Tanh, 3e-2) if rows.x.shape[1] == 29 else ([128], 8, None, 5e-3)


def _in_rulers(errors, x):
    """Lesson 05's score: each feature's error in units of the one that a normal training row in a hundred exceeds."""
    ruler = errors(x).quantile(0.99, dim=0)
    return lambda v: (errors(v) / ruler).sum(1)


def _lesson(rows, seed, epochs):
    """The autoencoder of lesson 05: a committee of three, on one thread, errors in rulers."""
    hidden, code, final, lr = _body(rows)
    d, committee, threads = rows.x.shape[1], [], torch.get_num_threads()
    torch.set_num_threads(1)

    def copy(model, x):
        return losses.squared_error(model(x), x)

    for member in range(seed, seed + 300, 100):
        set_seed(member)
        committee.append(Autoencoder(mlp_encoder((d,), hidden, code, activation=nn.GELU, final=final),
                                     mlp_decoder(code, hidden[::-1], (d,), activation=nn.GELU, final=None)))
        fit(committee[-1], copy, Batches(rows.x, size=256, seed=member), epochs or 20, lr=lr, progress=False)
    with torch.no_grad():
        scores = _in_rulers(lambda v: sum((model(v) - v) ** 2 for model in committee) / 3, rows.x)(rows.x_test)
    torch.set_num_threads(threads)
    return scores


def _pca(rows, seed, epochs):
    """Reconstruction error in rulers, the number of components chosen on the validation period, as in lesson 05."""
    from sklearn.decomposition import PCA

    from aecourse import metrics

    def scorer(code):
        pca = PCA(code, random_state=seed).fit(rows.x)
        return _in_rulers(lambda v: (torch.from_numpy(pca.inverse_transform(pca.transform(v))).float() - v) ** 2, rows.x)

    scorers = [scorer(code) for code in range(2, rows.x.shape[1], 2)]
    return max(scorers, key=lambda score: metrics.average_precision(score(rows.x_valid), rows.y_valid))(rows.x_test)


def _forest(rows, seed, epochs):
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(n_estimators=100, random_state=seed).fit(rows.x.numpy()).score_samples(rows.x_test.numpy())


def _pyod(module, name, rows, seed, epochs, **settings):
    """A detector of PyOD, with its own defaults but for `settings`."""
    if epochs and module in ("auto_encoder", "vae"):
        settings["epoch_num"] = epochs
    quiet = {"verbose": 0} if module in ("auto_encoder", "vae") else {}
    detector = getattr(importlib.import_module(f"pyod.models.{module}"), name)(random_state=seed, **quiet, **settings)
    return detector.fit(rows.x.numpy()).decision_function(rows.x_test.numpy())


def _pyod_our_body(rows, seed, epochs):
    """PyOD's autoencoder with the widths, epochs, batch size and learning rate of lesson 05's."""
    hidden, code, _, lr = _body(rows)
    return _pyod("auto_encoder", "AutoEncoder", rows, seed, epochs or 20, hidden_neuron_list=[*hidden, code], lr=lr,
                 batch_size=256, batch_norm=False, dropout_rate=0)


METHODS = {                                              # those of PyOD begin with its name
    "lesson 05": _lesson,
    "PCA, scored as in lesson 05": _pca,
    "isolation forest (scikit-learn)": _forest,
    "PyOD AutoEncoder": partial(_pyod, "auto_encoder", "AutoEncoder"),
    "PyOD AutoEncoder, lesson 05's sizes": _pyod_our_body,
    "PyOD VAE": partial(_pyod, "vae", "VAE"),
    # By default it divides by the variance of every component, 0 for the simulated data: of its categories one is always 1.
    "PyOD PCA": partial(_pyod, "pca", "PCA", n_components=0.999),
}

JOBS = {"contend": _contend, "roof": _roof, "rates": _rates, "grow": _grow, "fraud": _fraud}


def serve():
    """A child's life: one job, its turns told by lines of JSON on standard input, its answers on standard output."""
    job, options = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)                                        # whatever a library prints goes where errors go

    def turn(answer=None):
        print(json.dumps(answer), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)                                  # the parent has gone; no trainer that we are in need end well
        return json.loads(line)

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])       # a process's first one loads PyTorch's compiler: seconds
    JOBS[job](turn, **options)

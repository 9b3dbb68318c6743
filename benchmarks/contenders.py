"""Ways to train one VAE, 784-400-20-400-784, on digits in batches of 128: the course's and others'.

Each contender is a function `contender(clock, x, epochs)` with images `x (n, 28, 28)` of bytes. It
sets itself up, calls `clock.start()`, trains, and calls `clock.epoch_done(model)` after each epoch.
"""

import tempfile
import time
from pathlib import Path

from aecourse import losses
from aecourse.data import Batches
from aecourse.models import VAE, mlp_decoder, mlp_encoder
from aecourse.training import evaluate, fit, set_seed

import numpy as np
import torch
import torch.nn.functional as F

SHAPE, HIDDEN, LATENT, BATCH_SIZE = (1, 28, 28), 400, 20, 128


def make_vae(shape: tuple[int, ...] = SHAPE, latent: int = LATENT) -> VAE:
    """The VAE of all contenders; its decoder gives logits."""
    encoder = mlp_encoder(shape, [HIDDEN], 2 * latent)
    return VAE(encoder, mlp_decoder(latent, [HIDDEN], shape, final=None))


def negative_elbo(model, x):
    logits, mu, logvar = model(x)
    return losses.bce_with_logits(logits, x) + losses.kl_normal(mu, logvar)


def summed_loss(model, x):
    """The negative ELBO as PyTorch's VAE example writes it: by hand, summed over the batch."""
    logits, mu, logvar = model(x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl


class Clock:
    """Reports each epoch's seconds and test loss; stands still while others have their turn."""

    def __init__(self, turn, x_test: torch.Tensor):
        self.turn, self.test = turn, Batches(x_test, batch_size=1000, shuffle=False)

    def start(self) -> None:
        self.turn()
        self.started = time.perf_counter()

    def epoch_done(self, model: VAE) -> None:
        seconds = time.perf_counter() - self.started
        loss = evaluate(model, negative_elbo, self.test)["negative_elbo"]
        self.turn({"seconds": seconds, "loss": loss})
        self.started = time.perf_counter()


def course_fit(clock, x, epochs):
    """The course's `fit` on the course's `Batches`."""
    model, batches = make_vae(), Batches(x[:, None].float() / 255, batch_size=BATCH_SIZE)
    options = {"lr": 6e-3, "schedule": "polynomial"}
    options["after_epoch"] = lambda epoch, model, history: clock.epoch_done(model)
    clock.start()
    fit(model, negative_elbo, batches, epochs, **options)


def bare_loop(clock, x, epochs):
    """The least that one can write: data in memory, no bar, no log, no check."""
    model, x = make_vae(), x[:, None].float() / 255
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    clock.start()
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = summed_loss(model, x.index_select(0, index))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        clock.epoch_done(model)


def loader(x: torch.Tensor) -> torch.utils.data.DataLoader:
    """torchvision's MNIST data set, with these images in it, through ToTensor and a DataLoader."""
    from torchvision import datasets, transforms

    class Digits(datasets.MNIST):
        def __init__(self):
            datasets.VisionDataset.__init__(self, "", transform=transforms.ToTensor())
            self.data, self.targets = x, torch.zeros(len(x), dtype=torch.long)

    return torch.utils.data.DataLoader(Digits(), batch_size=BATCH_SIZE, shuffle=True)


def pytorch_example(clock, x, epochs):
    """The way of https://github.com/pytorch/examples/blob/main/vae/main.py."""
    model, batches = make_vae(), loader(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    clock.start()
    for _ in range(epochs):
        total = 0.0
        for batch, _ in batches:
            optimizer.zero_grad()
            loss = summed_loss(model, batch)
            loss.backward()
            total += loss.item()
            optimizer.step()
        clock.epoch_done(model)


def lightning(clock, x, epochs):
    """Lightning's Trainer over the example's DataLoader, without logger, checkpoints and bar."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = make_vae()

        def training_step(self, batch, index):
            return summed_loss(self.model, batch[0])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3)

        def on_train_epoch_end(self):
            clock.epoch_done(self.model)

    extras = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    module, batches = Module(), loader(x)
    clock.start()
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", **dict.fromkeys(extras, False))
    trainer.fit(module, batches)


def pythae(clock, x, epochs):
    """Pythae's VAE and BaseTrainer around the same layers, data in memory as Pythae wants it."""
    from pythae import models, trainers
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers.training_callbacks import TrainingCallback

    vae = make_vae()

    class Encoder(BaseEncoder):
        def forward(self, x):
            mu, logvar = vae.encode(x)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(vae.decode(z)))

    class Report(TrainingCallback):
        def on_epoch_end(self, training_config, **kwargs):
            clock.epoch_done(vae)

    encoder, decoder = Encoder(), Decoder()
    encoder.layers, decoder.layers = vae.encoder, vae.decoder  # so that they are trained
    config = models.VAEConfig(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss="bce")
    training = trainers.BaseTrainerConfig(tempfile.mkdtemp(), num_epochs=epochs, no_cuda=True)
    training.learning_rate, training.per_device_train_batch_size = 1e-3, BATCH_SIZE
    model = models.VAE(config, encoder, decoder)
    dataset = BaseDataset(x[:, None].float() / 255, torch.zeros(len(x)))
    trainer = trainers.BaseTrainer(model, dataset, None, training, callbacks=[Report()])
    clock.start()
    trainer.train()


CONTENDERS = {
    "aecourse fit": course_fit,
    "bare loop": bare_loop,
    "bare loop, our thread setting": bare_loop,
    "PyTorch example": pytorch_example,
    "Lightning": lightning,
    "Pythae": pythae,
}
OUR_SETTING = ("aecourse fit", "bare loop, our thread setting")  # the others: PyTorch's own


def contend(turn, name: str, epochs: int, folder: str) -> None:
    """A job: in each turn an epoch; answers its seconds and test loss.

    folder: where `train.npy` and `test.npy` lie, images `(n, 28, 28)` of bytes.
    """
    x, x_test = (torch.from_numpy(np.load(Path(folder, f"{k}.npy"))) for k in ("train", "test"))
    set_seed(0)
    CONTENDERS[name](Clock(turn, x_test[:, None]), x, epochs)

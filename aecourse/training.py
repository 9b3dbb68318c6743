"""One training loop for every model of the course.

A **loss** is a function `loss(model, *batch)` that returns a scalar tensor, or a dict of scalar tensors whose `"loss"` is minimized
while all entries are logged. A **training step** is a list of `Update(loss, optimizer)`, applied in order to each batch.
"""

import json
import math
import os
import random
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from aecourse._writing import arriving
from aecourse.checkpoints import History, fingerprint, load_checkpoint, rng_state, save_checkpoint, set_rng_state, writes


class Update(NamedTuple):
    """One thing to minimize, and the optimizer that may move for it."""

    loss: Callable
    optimizer: torch.optim.Optimizer


# Factors on the learning rate, as functions of the share of training that is done, t in [0, 1).
SCHEDULES = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.5 + 0.5 * math.cos(math.pi * t),
    # Up from 1/25 in the first 30 %, down to nothing after (Smith and Topin 2018).
    "one-cycle": lambda t: 0.04 + 0.96 * math.sin(math.pi / 2 * t / 0.3) ** 2 if t < 0.3
    else 0.5 + 0.5 * math.cos(math.pi * (t - 0.3) / 0.7),
    # Up in the first 3 %, level to 60 %, then straight down to nothing (as Hägele et al. 2024 have it).
    "trapezoid": lambda t: min(1.0, 0.04 + t / 0.03) if t < 0.6 else (1 - t) / 0.4,
    # Up in the first 3 %, then down by a power: early epochs are nearly as good as those of a shorter training.
    "polynomial": lambda t: min(1.0, 0.04 + t / 0.03) * (1 - t) ** 1.5,
}


def fit(model, loss, train, epochs, *, lr=1e-3, schedule=None, valid=None, after_epoch=None, checkpoint=None, log_to=None,
        progress=True):
    """Train `model` in place, and return its History.

    loss:        a loss function, or a list of `Update`s that are applied in order to each batch.
    train:       an iterable of batches (a tensor, or a tuple of tensors): `Batches`, a DataLoader, a list.
    epochs:      how often to go through it.
    lr:          peak learning rate of the Adam that is made for a plain loss; `Update`s bring their own.
    schedule:    "one-cycle", "cosine", "trapezoid", "polynomial", "constant", or a function of the share done; None: one-cycle
                 for a plain loss, constant for `Update`s.
    valid:       batches on which the same loss is evaluated after each epoch, logged as "valid <name>".
    after_epoch: called as `after_epoch(epoch, model, history)`; may return a dict of numbers to log. Random numbers drawn in
                 it do not change the training.
    checkpoint:  a path: written after each epoch, and continued from where it exists.
    log_to:      a path: a line of JSON for each epoch of the history, for others to read while this trains.
    progress:    show a bar.

    An interrupt keeps the model and the history so far. Raises FloatingPointError when a loss is NaN or infinite, ValueError when
    the loss does not return what it should, or the checkpoint is of another recipe.
    """
    updates = _updates(model, loss, lr)
    schedule = schedule or ("constant" if isinstance(loss, (list, tuple)) else "one-cycle")
    factor = SCHEDULES.get(schedule, schedule)
    if not callable(factor):
        raise ValueError(f"unknown schedule {schedule!r}: one of {', '.join(SCHEDULES)}, or a function of the share done")
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be a whole number of at least 1, got {epochs!r}")
    base = [[group["lr"] for group in update.optimizer.param_groups] for update in updates]
    device = next(model.parameters()).device
    recipe = fingerprint(model, updates, train, schedule, epochs)
    history, done = History(), 0
    if checkpoint is not None and Path(checkpoint).exists():
        history, done = load_checkpoint(checkpoint, model, updates, recipe, train=train)
    if log_to is not None and writes():
        _write_log(log_to, history)                              # no more and no less than what the checkpoint holds

    steps = len(train) if hasattr(train, "__len__") else None
    if steps is None and schedule != "constant":
        raise ValueError("a schedule needs to know how many batches there are: give a sized iterable, or schedule='constant'")
    bar = tqdm(total=epochs * steps if steps else None, initial=done * (steps or 0), disable=not progress, mininterval=0.2)
    model.train()
    try:
        for epoch in range(done, epochs):
            started, log, looked = time.perf_counter(), _Log(), time.perf_counter()
            if hasattr(train, "set_epoch"):
                train.set_epoch(epoch)
            for i, batch in enumerate(train):
                batch = _to(batch, device)
                share = (epoch + i / steps) / epochs if steps else 0
                for update, rates in zip(updates, base):
                    for group, rate in zip(update.optimizer.param_groups, rates):
                        group["lr"] = rate * factor(share)
                    log.add(len(batch[0]), step(model, update, batch))
                bar.update()
                if time.perf_counter() - looked > 0.5:           # reading a number waits for the device: seldom, then
                    looked = time.perf_counter()
                    bar.set_postfix_str(log.latest(epoch))
            if not log.sizes:
                raise ValueError("there is no batch to train on: the data is empty")
            numbers = log.means(epoch)
            if valid is not None:
                numbers |= {f"valid {name}": value for name, value in evaluate(model, updates, valid).items()}
            if after_epoch is not None:
                with forked_rng():
                    numbers |= after_epoch(epoch, model, history) or {}
                model.train()
            for name, value in numbers.items():
                history.setdefault(name, []).append(value)
            history.seconds.append(time.perf_counter() - started)
            bar.set_postfix_str(log.latest(epoch))
            if checkpoint is not None and writes():
                save_checkpoint(checkpoint, model, updates, history, recipe, train=train)
            if log_to is not None and writes():
                _write_log(log_to, history)
    except KeyboardInterrupt:
        print(f"Interrupted: the model is as it was at that moment, the history holds the {len(history.seconds)} finished epochs.")
    finally:
        bar.close()
        for update, rates in zip(updates, base):                 # as they came, for whoever goes on with these optimizers
            for group, rate in zip(update.optimizer.param_groups, rates):
                group["lr"] = rate
        model.eval()
    return history


def step(model, update, batch):
    """One update on one batch: the loss, its slope in what the optimizer may move and in nothing else, one move. Returns the terms."""
    terms = _terms(update.loss, model, batch)
    moves = [p for group in update.optimizer.param_groups for p in group["params"] if p.requires_grad]
    for p in moves:
        p.grad = None                                    # what another step left is discarded
    total, *_ = terms.values()
    if moves and total.requires_grad:
        total.backward(inputs=moves)
    if all(p.grad is None for p in moves):
        raise ValueError(f"the loss {_name(update.loss)!r} does not depend on what its optimizer may move")
    update.optimizer.step()
    return terms


def evaluate(model, loss, data, *, seed=0):
    """The mean of every logged term over `data`, as a dict of floats: each example counts once, in eval mode.

    Random numbers come from a fixed state of their own, so that the same weights give the same value, and nothing else is changed.
    `loss` is a loss, or a list of `Update`s. Gradients stay available to losses that need them (the contractive one does).
    """
    losses = [u.loss for u in loss] if isinstance(loss, (list, tuple)) else [loss]
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    log = _Log()
    try:
        model.eval()
        with forked_rng(seed):
            for batch in data:
                batch = _to(batch, device)
                for one in losses:
                    log.add(len(batch[0]), _terms(one, model, batch))
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not log.sizes:
        raise ValueError("there is no batch to evaluate on: the data is empty")
    return log.means(None)


def set_seed(seed):
    """Seed Python's, NumPy's and PyTorch's generators. Same seed, same machine, same numbers."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def default_device():
    """The accelerator that is here ("cuda", "mps", ...), else "cpu"; `AECOURSE_DEVICE` decides where it is set."""
    if os.environ.get("AECOURSE_DEVICE"):
        return torch.device(os.environ["AECOURSE_DEVICE"])
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


# -- what fit is made of ---------------------------------------------------------------------------------------------------------


def _updates(model, loss, lr):
    if not isinstance(model, torch.nn.Module) or not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"fit wants a model with parameters to train, got {type(model).__name__}")
    if isinstance(loss, (list, tuple)):
        if not loss or not all(isinstance(update, Update) for update in loss):
            raise ValueError("fit wants a loss function or a list of Update(loss, optimizer)")
        return list(loss)
    if not callable(loss):
        raise ValueError(f"fit wants a loss function or a list of Update(loss, optimizer), got {type(loss).__name__}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [Update(loss, torch.optim.Adam(parameters, lr=lr, fused=True))]      # fused: one pass over the weights, not ten


def _to(batch, device):
    batch = batch if isinstance(batch, (list, tuple)) else (batch,)
    return [part.to(device, non_blocking=True) if isinstance(part, torch.Tensor) else part for part in batch]


def _name(loss):
    name = getattr(loss, "__name__", "loss")
    return "loss" if name == "<lambda>" else name


def _terms(loss, model, batch):
    """The loss's terms by the names that they are logged under, the one to minimize first."""
    value, name = loss(model, *batch), _name(loss)
    terms = value if isinstance(value, dict) else {"loss": value}
    if "loss" not in terms:
        raise ValueError(f"the dict that {name!r} returns needs an entry 'loss', the one to minimize; it has {list(terms)}")
    for term, v in terms.items():
        if not isinstance(v, torch.Tensor) or v.ndim:
            got = f"a tensor of shape {tuple(v.shape)}" if isinstance(v, torch.Tensor) else type(v).__name__
            raise ValueError(f"{name!r} must return scalar tensors, but {term!r} is {got}: sum over features, mean over the batch")
    return {name: terms["loss"]} | {term: v for term, v in terms.items() if term != "loss"}


class _Log:
    """The terms of one epoch, kept on the device and read once at its end.

    They are copied into blocks: a small tensor that stays from each step cuts up the memory that the step gave back, and the
    process grows by about a batch at every step.
    """

    BLOCK = 1024

    def __init__(self):
        self.terms, self.sizes = {}, {}

    def add(self, size, terms):
        for name, value in terms.items():
            blocks, sizes = self.terms.setdefault(name, []), self.sizes.setdefault(name, [])
            if len(sizes) % self.BLOCK == 0:
                blocks.append(value.new_empty(self.BLOCK))
            blocks[-1][len(sizes) % self.BLOCK] = value.detach()
            sizes.append(size)

    def means(self, epoch):
        """The mean over examples of every term: a last, smaller batch counts for less."""
        numbers = {}
        for name, blocks in self.terms.items():
            sizes = torch.tensor(self.sizes[name], dtype=torch.float64)
            values = torch.cat(blocks)[:len(sizes)].double().cpu()
            if not values.isfinite().all():
                batch = int((~values.isfinite()).nonzero()[0])
                raise FloatingPointError(_diverged(name, float(values[batch]), epoch, batch))
            numbers[name] = float((values * sizes).sum() / sizes.sum())
        return numbers

    def latest(self, epoch):
        """The newest values, as a short text. The check for NaN comes with it, so that a lost run stops soon."""
        newest = {name: float(blocks[-1][(len(self.sizes[name]) - 1) % self.BLOCK]) for name, blocks in self.terms.items()}
        if not all(map(math.isfinite, newest.values())):
            self.means(epoch)
        return f"epoch {epoch + 1}, " + ", ".join(f"{name} {value:.4g}" for name, value in newest.items())


def _diverged(name, value, epoch, batch):
    where = "" if epoch is None else f" in epoch {epoch + 1},"
    return (f"{name!r} became {value}{where} batch {batch + 1}. Usual causes: a learning rate that is too high (divide it by 10), "
            "the logarithm of 0 or the exponential of a large number in the loss, a division by a standard deviation of 0, "
            "or NaN in the data.")


@contextmanager
def forked_rng(seed=None):
    """Random numbers drawn inside leave no trace outside; `seed` says where they start."""
    state = rng_state()
    try:
        if seed is not None:
            set_seed(seed)
        yield
    finally:
        set_rng_state(state)


def _write_log(path, history):
    full = {name: values for name, values in history.items() if len(values) == len(history.seconds)}
    lines = [{"epoch": i + 1, **{name: float(values[i]) for name, values in full.items()}, "seconds": round(seconds, 3)}
             for i, seconds in enumerate(history.seconds)]
    with arriving(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

"""One training loop for every model of the course.

A **loss** is a function `loss(model, *batch)` that returns a scalar tensor, or a dict of scalar
tensors whose `"loss"` is minimized while all entries are logged. A **training step** is a list of
`Update(loss, optimizer)`, applied in order to each batch.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from aecourse.checkpoints import describe_run, resume, save_checkpoint
from aecourse.data.batches import prepare, tensors_in
from aecourse.history import EpochLog, History
from aecourse.seeding import forked_rng, set_seed

import numpy as np
import torch
from tqdm.auto import tqdm

__all__ = ["SCHEDULES", "Update", "default_device", "evaluate", "fit", "set_seed", "step"]


class Update(NamedTuple):
    """A loss to minimize, and the optimizer whose parameters it may change."""

    loss: Callable
    optimizer: torch.optim.Optimizer


def _one_cycle(t):
    rise = 0.04 + 0.96 * math.sin(math.pi / 2 * t / 0.3) ** 2
    return rise if t < 0.3 else 0.5 + 0.5 * math.cos(math.pi * (t - 0.3) / 0.7)


def _warmup_stable_decay(t):
    return min(1.0, 0.04 + t / 0.03) if t < 0.6 else (1 - t) / 0.4


# Factors on the learning rate, as functions of the share of training that is done, t in [0, 1).
SCHEDULES = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.5 + 0.5 * math.cos(math.pi * t),
    "one-cycle": _one_cycle,  # Smith and Topin 2018
    "warmup-stable-decay": _warmup_stable_decay,  # Hägele et al. 2024
    "polynomial": lambda t: min(1.0, 0.04 + t / 0.03) * (1 - t) ** 1.5,
}


def fit(
    model: torch.nn.Module,
    loss: Callable | list[Update],
    train: Iterable,
    epochs: int,
    *,
    lr: float = 1e-3,
    schedule: str | Callable | None = None,
    valid: Iterable | None = None,
    after_epoch: Callable | None = None,
    checkpoint: str | Path | None = None,
    log_to: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place, and return its History.

    loss:        a loss function, or a list of `Update`s, applied in order to each batch.
    train:       an iterable of batches (a tensor, a tuple or a dict of tensors): `Batches`, a
                 DataLoader, a list. Floats of 64 bits are converted to the type of the weights.
    lr:          peak learning rate of the Adam that is made for a plain loss.
    schedule:    a name in `SCHEDULES`, or a function of the share of training done; None:
                 "one-cycle" for a plain loss, "constant" for `Update`s. "constant" leaves the rate
                 alone: a scheduler of your own can be stepped in `after_epoch`.
    valid:       batches on which the same loss is evaluated after each epoch, as "valid <name>".
    after_epoch: called as `after_epoch(epoch, model, history)`; the history holds this epoch. It
                 may return a dict of numbers to log, or True to end the training here. Random
                 numbers drawn in it do not change the training. To keep the best weights and stop:

                     def after_epoch(epoch, model, history):
                         scores = history["valid reconstruct"]
                         if scores[-1] == min(scores):
                             torch.save(model.state_dict(), "best.pt")
                         return epoch - scores.index(min(scores)) >= 5

    checkpoint:  a path: written after each epoch, and continued from where it exists;
                 `aecourse.checkpoints.describe_run` says what makes a run another one.
    log_to:      a path: a line of JSON per epoch, for others to read while this trains.
    progress:    show a bar.

    An interrupt keeps the model and the history so far. Raises FloatingPointError when a loss is
    NaN or infinite, ValueError for a loss that does not return what it should, or a checkpoint of
    another run.
    """
    updates = _as_updates(model, loss, lr)
    schedule = schedule or ("constant" if isinstance(loss, (list, tuple)) else "one-cycle")
    factor = SCHEDULES.get(schedule, schedule)
    if not callable(factor):
        raise ValueError(f"unknown schedule {schedule!r}: one of {', '.join(SCHEDULES)}")
    if epochs != int(epochs) or epochs < 1:
        raise ValueError(f"epochs must be a whole number of at least 1, got {epochs!r}")
    steps = _length(train)
    if steps is None and schedule != "constant":
        raise ValueError("a schedule needs the number of batches: take schedule='constant'")
    peaks = [group["lr"] for group in _groups(updates)]
    history, stopped = History(), False
    run = checkpoint and describe_run(model, updates, train, schedule, int(epochs))
    if checkpoint is not None and Path(checkpoint).exists():
        history, stopped = resume(checkpoint, model, updates, run, loader=train)
        if progress:
            done = f"{len(history.seconds)} of {epochs} epochs are done"
            tqdm.write(f"{checkpoint}: {done}{', it was stopped there' if stopped else ''}")
    first = int(epochs) if stopped else len(history.seconds)
    bar = tqdm(total=steps and epochs * steps, initial=first * (steps or 0), disable=not progress)
    model.train()
    try:
        for epoch in range(first, int(epochs)):
            started, log = time.perf_counter(), EpochLog()
            if hasattr(train, "set_epoch"):
                train.set_epoch(epoch)
            for i, batch in enumerate(train):
                if schedule != "constant":
                    for group, peak in zip(_groups(updates), peaks, strict=True):
                        group["lr"] = peak * factor((epoch + i / steps) / epochs)
                batch = prepare(batch, next(model.parameters()))
                for update in updates:
                    _log(log, update.loss, batch, step(model, update, batch))
                bar.update()
                if log.is_due():
                    bar.set_postfix_str(log.latest(epoch))
            numbers = log.means(epoch)
            if valid is not None:
                held_out = evaluate(model, updates, valid)
                numbers |= {f"valid {name}": value for name, value in held_out.items()}
            history.append(numbers)
            history.seconds.append(time.perf_counter() - started)
            if after_epoch is not None:
                with forked_rng():
                    answer = after_epoch(epoch, model, history)
                model.train()
                stopped = isinstance(answer, (bool, np.bool_)) and bool(answer)
                history.append(answer if isinstance(answer, dict) else {})
            history.seconds[-1] = time.perf_counter() - started
            bar.set_postfix_str(log.latest(epoch))
            if checkpoint is not None:
                save_checkpoint(checkpoint, model, updates, history, run, train, stopped)
            if log_to is not None:
                history.write(log_to)
            if stopped:
                break
    except KeyboardInterrupt:
        print(f"Interrupted: the history holds {len(history.seconds)} finished epochs.")
    finally:
        bar.close()
        if schedule != "constant":  # as they came, for whoever goes on with these optimizers
            for group, peak in zip(_groups(updates), peaks, strict=True):
                group["lr"] = peak
        model.eval()
    return history


def step(model: torch.nn.Module, update: Update, batch: list) -> dict[str, torch.Tensor]:
    """One update on one batch: loss, gradient, optimizer step. Returns the terms of the loss.

    The gradient is computed for the optimizer's parameters and for no others.
    """
    terms = _terms(update.loss, model, batch)
    groups = update.optimizer.param_groups
    parameters = [p for group in groups for p in group["params"] if p.requires_grad]
    update.optimizer.zero_grad()
    if parameters and terms["loss"].requires_grad:
        terms["loss"].backward(inputs=parameters)
    if all(p.grad is None for p in parameters):
        raise ValueError(f"{_name(update.loss)!r} does not depend on its optimizer's parameters")
    update.optimizer.step()
    return terms


def evaluate(
    model: torch.nn.Module, loss: Callable | list[Update], data: Iterable, *, seed: int = 0
) -> dict[str, float]:
    """The mean of every logged term over `data`, each example counted once, in eval mode.

    Random numbers come from a fixed state of their own, so that the same weights give the same
    value and a training is not changed. Gradients stay available to losses that need them.
    """
    updates = loss if isinstance(loss, (list, tuple)) else [Update(loss, None)]
    modes = {module: module.training for module in model.modules()}
    log = EpochLog()
    try:
        model.eval()
        with forked_rng(seed):
            for batch in data:
                batch = prepare(batch, next(model.parameters()))
                for update in updates:
                    _log(log, update.loss, batch, _terms(update.loss, model, batch))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return log.means()


def default_device() -> torch.device:
    """The accelerator that is here, else the CPU; `AECOURSE_DEVICE` overrides it."""
    if os.environ.get("AECOURSE_DEVICE"):
        return torch.device(os.environ["AECOURSE_DEVICE"])
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


# -- what fit is made of ---------------------------------------------------------------------------


def _as_updates(model, loss, lr):
    parameters = [p for p in getattr(model, "parameters", list)() if p.requires_grad]
    if not parameters:
        raise ValueError(f"fit wants a model with parameters, got {type(model).__name__}")
    if callable(loss):
        return [Update(loss, torch.optim.Adam(parameters, lr=lr, fused=True))]
    if isinstance(loss, (list, tuple)) and loss and all(isinstance(u, Update) for u in loss):
        return list(loss)
    raise ValueError(f"fit wants a loss or a list of Update(loss, optimizer), got {loss!r}")


def _groups(updates):
    return [group for update in updates for group in update.optimizer.param_groups]


def _length(train):
    try:
        return len(train)
    except TypeError:  # a generator, or a DataLoader of a stream
        return None


def _log(log, loss, batch, terms):
    tensors = tensors_in(batch)
    log.add(loss, _name(loss), len(tensors[0]) if tensors else 1, terms)


def _name(loss):
    name = getattr(getattr(loss, "func", loss), "__name__", "loss")  # func: of functools.partial
    return "loss" if name == "<lambda>" else name


def _terms(loss, model, batch):
    try:
        value = loss(model, *batch)
    except Exception as error:
        error.add_note(_what_came(loss, batch, error))
        raise
    terms = value if isinstance(value, dict) else {"loss": value}
    if "loss" not in terms:
        raise ValueError(f"the dict of {_name(loss)!r} has no entry 'loss', only {list(terms)}")
    for name, term in terms.items():
        if not isinstance(term, torch.Tensor) or term.ndim:
            got = tuple(term.shape) if isinstance(term, torch.Tensor) else type(term).__name__
            wanted = "scalar tensors (sum over features, mean over the batch)"
            raise ValueError(f"{_name(loss)!r} must return {wanted}, but {name!r} is {got}")
    return terms


def _what_came(loss, batch, error):
    tensors = tensors_in(batch)
    entries = ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors)
    note = f"A loss is called as loss(model, *batch), here {_name(loss)}(model, {entries})."
    if any(t.dtype == torch.uint8 for t in tensors):
        note += " Bytes have to become floats: images by x.float() / 255."
    if "more than 1 value per channel" in str(error):
        note += " Batch normalization needs two examples or more: set drop_last=True."
    return note

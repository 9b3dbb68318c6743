"""One training loop for every model of the course.

A **loss** is a function `loss(model, *batch)` that returns a scalar tensor, or a dict of scalar tensors whose `"loss"` is minimized
while all entries are logged. A **training step** is a list of `Update(loss, optimizer)`, applied in order to each batch.
"""

import ast
import copy
import hashlib
import inspect
import io
import json
import math
import os
import pickletools
import random
import re
import textwrap
import time
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from aecourse import _reading
from aecourse._writing import arriving


class Update(NamedTuple):
    """One thing to minimize, and the optimizer that may move for it."""

    loss: Callable
    optimizer: torch.optim.Optimizer


class History(dict):
    """What a training logged: a dict with one list per name, one number per epoch. `seconds` holds the time of each epoch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seconds = []

    def __repr__(self):
        ends = ", ".join(f"{name} {v[0]:.4g} -> {v[-1]:.4g}" for name, v in self.items() if v)
        return f"History({len(self.seconds)} epochs, {sum(self.seconds):.1f} s: {ends})"


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
    recipe = _fingerprint(model, updates, train, schedule, epochs)
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
    """One update on one batch: what was left in any gradient is discarded, then backward, then the optimizer. Returns the terms."""
    terms = _terms(update.loss, model, batch)
    model.zero_grad(set_to_none=True)
    update.optimizer.zero_grad(set_to_none=True)
    try:
        next(iter(terms.values())).backward()
    except RuntimeError as error:
        if "does not require grad" in str(error):
            raise ValueError(f"the loss {_name(update.loss)!r} does not depend on the model's parameters") from error
        raise
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
    state = _rng_state()
    try:
        if seed is not None:
            set_seed(seed)
        yield
    finally:
        _set_rng_state(state)


def _together():
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def writes():
    """Whether this process is the one that writes files: the only one, or the first of those that train together."""
    return not _together() or torch.distributed.get_rank() == 0


def _write_log(path, history):
    full = {name: values for name, values in history.items() if len(values) == len(history.seconds)}
    lines = [{"epoch": i + 1, **{name: float(values[i]) for name, values in full.items()}, "seconds": round(seconds, 3)}
             for i, seconds in enumerate(history.seconds)]
    with arriving(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


# -- checkpoints -----------------------------------------------------------------------------------------------------------------


def save_checkpoint(path, model, updates, history, recipe="", *, train=None):
    """Write all that is needed to go on; `path` is always whole. OSError: it could not be written, the old file is as it was."""
    state = {
        "recipe": recipe,
        "model": model.state_dict(),
        "optimizers": [update.optimizer.state_dict() for update in updates],
        "history": dict(history),
        "seconds": history.seconds,
        "random": _rng_state(train),
    }
    content = io.BytesIO()                               # torch ends the whole process when it meets a full disk itself
    torch.save(state, content)
    try:
        with arriving(path, content.getbuffer().nbytes) as temporary:
            temporary.write_bytes(content.getbuffer())
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}. The model keeps its weights, and fit goes on from the last checkpoint that "
                      "was written", str(path)) from error


def load_checkpoint(path, model, updates=(), recipe=None, *, train=None):
    """Put a checkpoint's weights, optimizers and random states back; returns `history, epochs done`.

    Nothing but tensors and plain containers is read (`weights_only`), so that a file can run no code, and all of it is
    known to fit before any of it is put back. With `recipe=None` any checkpoint whose weights fit the model is taken,
    random states and optimizers left alone. ValueError: damaged, or of another recipe.
    """
    weights = model.state_dict()
    try:
        state = _read_checkpoint(path, 2**26 + 16 * sum(v.nbytes for v in weights.values() if isinstance(v, torch.Tensor)),
                                 next(model.parameters()).device)
        missing = {"recipe", "model", "optimizers", "history", "seconds", "random"} - set(state)
    except Exception as error:                                   # torch raises a dozen kinds for a damaged file
        what = error if isinstance(error, (OSError, ValueError)) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint ({what}). Move it away to start anew.") from error
    if missing:
        raise ValueError(f"{path} is not a checkpoint of this course: it lacks {', '.join(sorted(missing))}. "
                         "Move it away to start anew.")
    if recipe is not None and state["recipe"] != recipe:
        raise ValueError(f"{path} belongs to another recipe (model, loss, data, schedule or epochs differ). "
                         "Choose another path, or move it away to start anew.")
    try:
        saved, history = state["model"], History(state["history"])
        history.seconds = state["seconds"]
        other = [name for name in {**weights, **saved}
                 if not (name in weights and name in saved and _alike(saved[name], weights[name]))]
        if other:
            raise ValueError(f"it holds the weights of another model, {other[0]!r} differs")
        numbers = {id(row): row for row in (history.seconds, *history.values())}.values()
        if not all(isinstance(row, list) and len(row) <= len(history.seconds) and all(map(_number, row)) for row in numbers):
            raise ValueError("its history is none")
        if recipe is not None:
            optimizers = [_checked_state(u.optimizer, one) for u, one in zip(updates, state["optimizers"], strict=True)]
            _put_rng_state(state["random"], train)
    except Exception as error:                                   # what a well-formed file of other content leads to
        raise ValueError(f"{path} is not a checkpoint for this training: {error}. Move it away to start anew.") from error
    saved = OrderedDict(saved)
    saved._metadata = getattr(weights, "_metadata", None)   # the model's own: the file's could ask for more than copying
    model.load_state_dict(saved)
    if recipe is not None:
        for update, saved in zip(updates, optimizers):
            update.optimizer.load_state_dict(saved)
    return history, len(history.seconds)


# The classes and functions that a checkpoint names: fewer than `weights_only` admits, some of which take any memory.
NAMED = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch [A-Z][A-Za-z0-9]*Storage")


def _read_checkpoint(path, largest, device):
    with _reading.sound_zip(path, largest) as file:
        pickled, = (name for name in file.namelist() if name.lower().endswith("/data.pkl"))
        for code, argument, _ in pickletools.genops(file.read(pickled)):
            if code.name == "GLOBAL" and not NAMED.fullmatch(argument):
                raise ValueError(f"it names {argument!r}, which no checkpoint needs")
        if damaged := file.testzip():                            # torch does not look at the checksums
            raise ValueError(f"the checksum of {damaged} differs")
    return torch.load(path, map_location=device, weights_only=True)


def _number(value):
    return isinstance(value, (int, float)) or isinstance(value, torch.Tensor) and value.ndim == 0


def _alike(value, like):
    """Whether a value from outside has the structure of one of ours: keys, lengths, shapes and types."""
    if isinstance(like, dict):
        return isinstance(value, dict) and value.keys() == like.keys() and all(_alike(value[key], like[key]) for key in like)
    if isinstance(like, (list, tuple)):
        return type(value) is type(like) and len(value) == len(like) and all(map(_alike, value, like))
    if isinstance(like, torch.Tensor):
        return isinstance(value, torch.Tensor) and (value.shape, value.dtype) == (like.shape, like.dtype)
    return isinstance(value, (int, float)) if isinstance(like, (int, float)) else type(value) is type(like)


def _checked_state(optimizer, saved):
    """`saved` as an own copy, if it has the structure of this optimizer's state: a fused step believes all shapes."""
    probe = copy.deepcopy(optimizer)                             # takes one step, to see what its state is
    for p in (p for group in probe.param_groups for p in group["params"]):
        p.grad = torch.zeros_like(p)
    probe.step()
    like = probe.state_dict()
    if not (set(saved) == {"state", "param_groups"} and _alike(saved["param_groups"], like["param_groups"])
            and all(i in like["state"] and _alike(state, like["state"][i]) for i, state in saved["state"].items())):
        raise ValueError("the state of an optimizer does not fit")
    own = {i: {name: v.detach().clone() if isinstance(v, torch.Tensor) else v for name, v in state.items()}
           for i, state in saved["state"].items()}
    return {"state": own, "param_groups": saved["param_groups"]}


def _put_rng_state(saved, train):
    """`_set_rng_state`, with what it replaces put back if `saved` is no such state."""
    before = _rng_state(train)
    like, cuda = before | {"python": before["python"][:2], "cuda": []}, saved["cuda"]
    fits = _alike(saved | {"python": saved["python"][:2], "cuda": []}, like) and 0 <= saved["numpy"]["state"]["pos"] <= 624
    fits &= len(saved["python"]) == 3 and isinstance(saved["python"][2], (float, type(None)))
    if not fits or not all(isinstance(part, torch.Tensor) for part in cuda):
        raise ValueError("its random states do not fit")
    try:
        _set_rng_state(saved, train)
    except Exception:
        _set_rng_state(before, train)
        raise


def _rng_state(train=None):
    numpy = np.random.get_state(legacy=False)
    state = {
        "python": random.getstate(),
        "numpy": numpy | {"state": numpy["state"] | {"key": torch.from_numpy(numpy["state"]["key"].astype(np.int64))}},
        "torch": torch.get_rng_state(),
        "cuda": [] if not torch.cuda.is_available() else [torch.cuda.get_rng_state()] if _together() else torch.cuda.get_rng_state_all(),
    }
    if isinstance(getattr(train, "generator", None), torch.Generator):      # a DataLoader that shuffles with its own
        state["loader"] = train.generator.get_state()
    return state


def _set_rng_state(state, train=None):
    random.setstate(state["python"])
    key = state["numpy"]["state"]["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state(state["numpy"] | {"state": state["numpy"]["state"] | {"key": key}})
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        states = [s.cpu() for s in state["cuda"]]
        torch.cuda.set_rng_state(states[0]) if _together() else torch.cuda.set_rng_state_all(states)     # each its own device
    if "loader" in state and train is not None:
        train.generator.set_state(state["loader"].cpu())


def _fingerprint(model, updates, train, schedule, epochs):
    """A digest of what makes two runs the same run: the model, the losses, their optimizers, the batches, the schedule."""
    sizes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in model.state_dict().items()]
    optimizers = [(type(u.optimizer).__name__, sorted(u.optimizer.defaults.items())) for u in updates]
    batches = getattr(train, "recipe", type(train).__name__)
    length = "any" if schedule == "constant" else epochs
    schedule = schedule if isinstance(schedule, str) else _meaning(schedule)
    parts = (str(model), sizes, [_meaning(u.loss) for u in updates], optimizers, batches, schedule, length)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _meaning(function):
    """A function's source without its comments, and the plain values that it takes from outside."""
    inner = inspect.unwrap(function)
    try:
        source = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(inner))))
    except (OSError, TypeError, SyntaxError):
        source = getattr(getattr(inner, "__code__", None), "co_code", type(inner).__name__)
    try:
        outside = inspect.getclosurevars(inner)
        outside = {**outside.globals, **outside.nonlocals}
    except TypeError:
        outside = {}
    plain = {name: value for name, value in outside.items() if isinstance(value, (bool, int, float, str))}
    return source, sorted(plain.items())

"""What a training leaves behind: its history, and a checkpoint, a file from which it goes on.

A checkpoint comes from who knows where: nothing but tensors and plain containers is read from it, and all of it is looked at
before any of it is used.
"""

import ast
import copy
import hashlib
import inspect
import io
import pickletools
import random
import re
import textwrap
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from aecourse import _reading
from aecourse._writing import arriving


class History(dict):
    """What a training logged: a dict with one list per name, one number per epoch. `seconds` holds the time of each epoch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seconds = []

    def __repr__(self):
        ends = ", ".join(f"{name} {v[0]:.4g} -> {v[-1]:.4g}" for name, v in self.items() if v)
        return f"History({len(self.seconds)} epochs, {sum(self.seconds):.1f} s: {ends})"


def several_processes():
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def writes():
    """Whether this process is the one that writes files: the only one, or the first of those that train together."""
    return not several_processes() or torch.distributed.get_rank() == 0


def save_checkpoint(path, model, updates, history, recipe="", *, train=None):
    """Write all that is needed to go on; `path` is always whole. OSError: it could not be written, the old file is as it was."""
    state = {
        "recipe": recipe,
        "model": model.state_dict(),
        "optimizers": [update.optimizer.state_dict() for update in updates],
        "history": dict(history),
        "seconds": history.seconds,
        "random": rng_state(train),
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
    """`set_rng_state`, with what it replaces put back if `saved` is no such state."""
    before = rng_state(train)
    like, cuda = before | {"python": before["python"][:2], "cuda": []}, saved["cuda"]
    fits = _alike(saved | {"python": saved["python"][:2], "cuda": []}, like) and 0 <= saved["numpy"]["state"]["pos"] <= 624
    fits &= len(saved["python"]) == 3 and isinstance(saved["python"][2], (float, type(None)))
    if not fits or not all(isinstance(part, torch.Tensor) for part in cuda):
        raise ValueError("its random states do not fit")
    try:
        set_rng_state(saved, train)
    except Exception:
        set_rng_state(before, train)
        raise


def rng_state(train=None):
    numpy = np.random.get_state(legacy=False)
    state = {
        "python": random.getstate(),
        "numpy": numpy | {"state": numpy["state"] | {"key": torch.from_numpy(numpy["state"]["key"].astype(np.int64))}},
        "torch": torch.get_rng_state(),
        "cuda": [] if not torch.cuda.is_available() else [torch.cuda.get_rng_state()] if several_processes() else torch.cuda.get_rng_state_all(),
    }
    if isinstance(getattr(train, "generator", None), torch.Generator):      # a DataLoader that shuffles with its own
        state["loader"] = train.generator.get_state()
    return state


def set_rng_state(state, train=None):
    random.setstate(state["python"])
    key = state["numpy"]["state"]["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state(state["numpy"] | {"state": state["numpy"]["state"] | {"key": key}})
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        states = [s.cpu() for s in state["cuda"]]
        torch.cuda.set_rng_state(states[0]) if several_processes() else torch.cuda.set_rng_state_all(states)     # each its own device
    if "loader" in state and train is not None:
        train.generator.set_state(state["loader"].cpu())


def fingerprint(model, updates, train, schedule, epochs):
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

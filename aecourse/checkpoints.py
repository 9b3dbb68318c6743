"""A checkpoint: a file from which a training goes on, and what makes a run another run."""

import functools
import hashlib
import inspect
import io
import re
import zipfile
from pathlib import Path

from aecourse.data.batches import Batches
from aecourse.data.store import atomic_write
from aecourse.history import History
from aecourse.seeding import rng_state, set_rng_state

import numpy as np
import torch


def save_checkpoint(path, model, updates, history, run, loader=None, stopped=False) -> None:
    """Write all that is needed to go on; of several processes the first does.

    Raises OSError where it could not be written: the old file is whole.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if torch.distributed.get_rank() > 0:
            return
    state = {
        "run": run,
        "model": _plain(model).state_dict(),
        "optimizers": [update.optimizer.state_dict() for update in updates],
        "history": dict(history),
        "seconds": history.seconds,
        "random": rng_state(loader),
        "stopped": stopped,
    }
    content = io.BytesIO()  # torch.save into a full disk ends the process
    torch.save(state, content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: str | Path, model: torch.nn.Module) -> tuple[History, int]:
    """Put a checkpoint's weights into `model`; returns its history and the number of its epochs.

    Nothing but tensors and plain containers is read. ValueError: damaged, or of another model.
    """
    state = _read(path)
    history = _load_weights(path, state, model)
    return history, len(history.seconds)


def resume(path, model, updates, run, *, loader=None) -> tuple[History, bool]:
    """Put weights, optimizers and random states back; returns the history, and whether it stopped.

    ValueError: damaged, of another model, or of another run than `describe_run` says this one is.
    """
    state = _read(path)
    other = sorted(key for key in run if run[key] != state["run"].get(key))
    if other == ["epochs"]:
        raise ValueError(
            f"{path} is a run of {state['run']['epochs']} epochs, whose schedule ends there. To go "
            "on with its weights, load_checkpoint(path, model) and fit without this checkpoint; a "
            "run with schedule='constant' takes any number of epochs."
        )
    if other:
        raise ValueError(
            f"{path} belongs to another run: {', '.join(other)} differ. Choose another path, or "
            "move it away to start anew."
        )
    try:
        for update, saved in zip(updates, state["optimizers"], strict=True):
            _check_moments(update.optimizer, saved)
        history = _load_weights(path, state, model)
        for update, saved in zip(updates, state["optimizers"], strict=True):
            update.optimizer.load_state_dict(saved)
        set_rng_state(state["random"], loader)
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit this training ({error!r}). Move it away.") from error
    return history, bool(state["stopped"])


def _plain(model):
    return getattr(model, "_orig_mod", model)  # what torch.compile wrapped


def _read(path):
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():  # torch.load does not look at the checksums
                raise ValueError(f"the checksum of {damaged} differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"run", "model", "optimizers", "history", "seconds", "random", "stopped"} - set(
            state
        )
    except Exception as error:  # zipfile and torch raise a dozen kinds for a damaged file
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({error}). Move it away to start anew."
        ) from error
    if missing:
        raise ValueError(f"{path} is no checkpoint of this course: it lacks {', '.join(missing)}.")
    return state


def _load_weights(path, state, model):
    try:
        history = History(state["history"], seconds=[float(s) for s in state["seconds"]])
        _plain(model).load_state_dict(state["model"])
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} holds the weights of another model: {error}") from error
    return history


def _check_moments(optimizer, saved):
    """A fused Adam believes the shapes of its moments: wrong ones would end the process."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, state in saved["state"].items():
        for name, value in state.items():
            if (
                isinstance(value, torch.Tensor)
                and value.ndim
                and value.shape != parameters[i].shape
            ):
                raise ValueError(f"{name} of parameter {i} has shape {tuple(value.shape)}")


# -- what makes a run another run ------------------------------------------------------------------


def describe_run(model, updates, train, schedule, epochs) -> dict:
    """What a checkpoint is compared with before a training goes on; another entry is another run.

    model:      the names, shapes and types of its weights.
    losses:     what each computes: its code without comments, the values that it takes from
                outside, and the same of the functions of its file that it calls.
    optimizers: their classes and settings.
    batches:    of `Batches` the shapes, batch size, order, seed and first 100 rows; of another
                loader its class.
    schedule, epochs: the number of epochs counts where the schedule depends on it.
    Not compared: the other rows, names of devices, versions of libraries, `after_epoch`.
    """
    rows = [t[:100] for t in train.tensors] if isinstance(train, Batches) else type(train)
    weights = [(k, tuple(v.shape), str(v.dtype)) for k, v in _plain(model).state_dict().items()]
    parts = {
        "model": weights,
        "losses": [_describe(update.loss, ()) for update in updates],
        "optimizers": [(type(u.optimizer).__name__, u.optimizer.defaults) for u in updates],
        "batches": [repr(train) if isinstance(train, Batches) else "", _describe(rows, ())],
        "schedule": _describe(schedule, ()),
    }
    run = {k: hashlib.sha256(repr(v).encode()).hexdigest()[:16] for k, v in parts.items()}
    return run | {"epochs": "any" if schedule == "constant" else epochs}


def _describe(value, inside):
    """A value as text that is the same in another process; `inside`: what it was found in."""
    if any(value is outer for outer in inside):
        return "itself"
    if isinstance(value, str) and re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", value):
        return "device"
    if isinstance(value, (bool, int, float, str, type(None), np.generic)):
        return repr(value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        content = torch.as_tensor(value).detach().cpu().contiguous().numpy().tobytes()
        return tuple(value.shape), hashlib.sha256(content).hexdigest()
    inside = (*inside, value)
    if isinstance(value, functools.partial):
        return _describe((value.func, value.args, value.keywords), inside)
    if inspect.ismethod(value):
        return _describe((value.__func__, value.__self__), inside)
    if inspect.isfunction(value):
        return _describe_function(value, inside)
    if isinstance(value, dict):
        return [(str(k), _describe(v, inside)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [_describe(v, inside) for v in value]
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, (type, torch.nn.Module)) or not hasattr(value, "__dict__"):
        return name
    if inspect.ismodule(value) or inspect.isroutine(value):
        return name
    call = inspect.getattr_static(type(value), "__call__", None)
    return name, _describe(call, inside), _describe(vars(value), inside)


def _describe_function(function, inside):
    function = inspect.unwrap(function)
    outside = inspect.getclosurevars(function)
    used = {**outside.globals, **outside.nonlocals}
    for name, value in used.items():  # of other files' functions the name is enough
        if inspect.isfunction(value) and value.__globals__ is not function.__globals__:
            used[name] = value.__qualname__
    return [_describe_code(function.__code__), _describe((function.__defaults__, used), inside)]


def _describe_code(code):
    consts = [_describe_code(c) if inspect.iscode(c) else repr(c) for c in code.co_consts]
    return code.co_code.hex(), code.co_names, consts

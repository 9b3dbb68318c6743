"""Random numbers: seeded, saved, and kept apart from a training's."""

import random
from contextlib import contextmanager

import numpy as np
import torch


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def forked_rng(seed: int | None = None):
    """Random numbers drawn inside leave no trace outside; `seed` says where they start."""
    state = rng_state()
    try:
        if seed is not None:
            set_seed(seed)
        yield
    finally:
        set_rng_state(state)


def rng_state(loader=None) -> dict:
    """The state of Python's, NumPy's and PyTorch's generators, and of a DataLoader's own."""
    numpy = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    state = {
        "python": random.getstate(),
        "numpy": numpy | {"state": {"key": key, "pos": numpy["state"]["pos"]}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    if isinstance(getattr(loader, "generator", None), torch.Generator):
        state["loader"] = loader.generator.get_state()
    return state


def set_rng_state(state: dict, loader=None) -> None:
    """Put back what `rng_state` gave; of several GPUs, those that are here."""
    random.setstate(state["python"])
    key = state["numpy"]["state"]["key"].numpy().astype(np.uint32)
    pos = state["numpy"]["state"]["pos"]
    np.random.set_state(state["numpy"] | {"state": {"key": key, "pos": pos}})
    torch.set_rng_state(state["torch"])
    for i, device_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device_state, i)
    if "loader" in state and isinstance(getattr(loader, "generator", None), torch.Generator):
        loader.generator.set_state(state["loader"])

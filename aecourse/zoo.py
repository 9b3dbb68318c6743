"""Weights of lessons' recipes after a longer training; `scripts/zoo.py` makes them."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

from aecourse import recipes
from aecourse.seeding import forked_rng

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).resolve().parents[1] / "zoo"


def load(name: str, model: nn.Module | None = None) -> nn.Module:
    """The network of a recipe with the weights that `zoo/` keeps for it, in eval mode, float32.

    name: of the recipe, "07" or "07-plane-vae". model: a network of its layers, which gets the
    weights; None makes it. Raises FileNotFoundError where no weights are kept under this name, and
    ValueError where they do not fit the network.
    """
    path, again = FOLDER / f"{name}.safetensors", f"`python scripts/zoo.py {name}` makes it"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; {again}")
    if model is None:
        with forked_rng(), redirect_stdout(io.StringIO()):  # a recipe seeds, and names its data
            model = recipes.load(name, "embedded")["model"]()
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        wanted = f"it holds that of the recipe {name!r}; if it is damaged, {again} anew"
        raise ValueError(f"{path} cannot be loaded into this network: {wanted}") from error
    return model.eval()


def card(name: str) -> dict:
    """What is known of the weights kept under this name: data, command, seconds, measures."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))

"""Explorers: experiments that answer while you drag, computed in the browser.

An `Explorer` is a name that `explorers.js` knows, and what its interface needs: networks, arrays,
settings. The same JavaScript serves JupyterLab, through anywidget, and the course's web pages.
"""

import base64
import json
from pathlib import Path

from aecourse import data, zoo
from aecourse.data import add_gaussian
from aecourse.seeding import forked_rng

import anywidget
import numpy as np
import torch
import traitlets
from scipy import ndimage
from torch import nn

NAMES = ("denoise", "plane", "q")
FOLDER = Path(__file__).parent
CODE = "\n".join((FOLDER / f"{name}.js").read_text("utf-8") for name in ("network", "explorers"))
LOOK = (FOLDER / "explorers.css").read_text("utf-8")
ACTIVATIONS = {nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.Sigmoid: "sigmoid"}


class Explorer(anywidget.AnyWidget):
    """An experiment in the browser; `denoise`, `plane` and `q` below make one.

    name:     one of NAMES.
    settings: what the interface needs beside weights; "question" and "options" are asked first.
    networks: name -> (module, shape of one input).
    arrays:   name -> tensor or array.
    dtype:    "float32", "float16", or "int8" with one scale per row; vectors stay in float32.
    """

    _esm = (
        CODE
        + """
    const render = ({ model, el }) =>
      mount(el, model.get("name"), model.get("pack"), model.get("weights"));
    export default { render };
    """
    )
    _css = LOOK
    name = traitlets.Unicode().tag(sync=True)
    pack = traitlets.Dict().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)

    def __init__(self, name, settings, networks=None, arrays=None, dtype="float16"):
        pack, weights = _pack(networks or {}, arrays or {}, dtype)
        super().__init__(name=name, pack={"settings": settings} | pack, weights=weights)

    def _repr_mimebundle_(self, **options):
        bundle, metadata = super()._repr_mimebundle_(**options)
        asked = self.pack["settings"].get("question", "")
        options = "".join(f"<li>{text}</li>" for text in self.pack["settings"].get("options", ()))
        bundle["text/html"] = (
            f'<div data-explorer="{self.name}"><p><b>Predict first.</b> {asked}</p>'
            f'<ol type="a">{options}</ol><i>Run this cell and try it.</i></div>'
        )
        return bundle, metadata

    def script(self) -> str:
        """A script that hands all of this to the explorers of a web page."""
        text = base64.b64encode(self.weights).decode()
        return f'aecourseExplorers.data("{self.name}", {json.dumps(self.pack)}, "{text}");\n'


def script() -> str:
    """The script of a web page that has explorers: it fills every `<div data-explorer="NAME">`.

    The data of each come from `explorers/NAME.js` beside the script.
    """
    style = f"document.head.append(element('style', {{ textContent: {json.dumps(LOOK)} }}));"
    page = f"{style}\nwatchPage(document.currentScript.src);"
    return f'"use strict";\n(() => {{\n{CODE}\n{page}\n}})();\n'


def data_script(name: str) -> str:
    """What `script` loads when the explorer of that name comes near: the zoo's networks as int8."""
    if name == "q":
        return q().script()
    digits = data.digits("test", "embedded")
    if name == "plane":
        networks = map(zoo.load, ("07-plane-ae", "07-plane-vae", "07-reader"))
        return plane(*networks, *digits, dtype="int8").script()
    if name == "denoise":
        train_x = data.digits("train", "embedded")[0]
        return denoise(zoo.load("03-blind"), train_x, *digits, dtype="int8").script()
    raise ValueError(f"there is no explorer {name!r}; there are {', '.join(NAMES)}")


def denoise(denoiser, train_x, test_x, test_y, dtype="float16") -> Explorer:
    """Draw, add noise, and see a blur, a linear map and a denoising autoencoder side by side.

    denoiser: a network from noisy to clean digits (B, 1, 28, 28), trained on noise of strengths
              from 0 to 1.
    train_x:  clean digits, for two baselines. The blur is told the strength of the noise: its
              width and its curve are tuned for each. The linear map is the least-squares one for
              noise from 0 to 1, cut to rank 150; like the network it is not told the strength.
    test_x, test_y: digits to begin with, and which they are.
    """
    with forked_rng(seed=0):
        blurs = [_tune_blur(train_x[:200], level) for level in np.linspace(0, 1, 21)]
        examples = torch.cat([_one_of_each(test_x, test_y), _house()])
        arrays = {"digits": examples, "noises": torch.randn(8, 784)}
        linear = _least_squares(train_x)
    arrays |= dict(zip(("blurs", "edges", "values"), zip(*blurs)))
    return Explorer(
        "denoise",
        {
            "question": "The autoencoder has seen nothing but digits. What does it make of a house "
            "under noise of 0.3?",
            "options": ["a house, nearer to the clean one than the blur's"]
            + ["a house, farther from it than the blur's", "a digit"],
        },
        {"autoencoder": (denoiser, (1, 28, 28)), "linear": (linear, (784,))},
        arrays,
        dtype,
    )


def _house():
    """An outline (1, 1, 28, 28): two walls, a floor and a roof."""
    corners = torch.tensor(
        [[21, 7], [13, 7], [5, 13.5], [13, 20], [21, 20], [21, 7]]
    )  # row, column
    pixels = torch.cartesian_prod(torch.arange(28.0), torch.arange(28.0))
    distances = []
    for a, b in zip(corners[:-1], corners[1:]):
        along = ((pixels - a) @ (b - a) / (b - a).square().sum()).clamp(0, 1)[:, None]
        distances.append((pixels - a - along * (b - a)).norm(dim=1))
    return (2 - torch.stack(distances).amin(0)).clamp(0, 1).view(1, 1, 28, 28)


def _one_of_each(x, y):
    return torch.stack([x[y == k][0] for k in range(10)])


def _tune_blur(clean, level, bins=64):
    """The best Gaussian blur followed by a curve, for noise of one strength.

    The blur is a matrix (28, 28) for rows and for columns; the curve has the edges of `bins` bins
    and the mean clean value in each.
    """
    noisy, clean, best = add_gaussian(clean, level).numpy(), clean.numpy(), None
    for width in (0, 0.5, 0.7, 0.85, 1, 1.2, 1.5):
        matrix = ndimage.gaussian_filter1d(np.eye(28), width, axis=0) if width else np.eye(28)
        blurred = (matrix @ noisy @ matrix.T).ravel()
        edges = np.quantile(blurred, np.linspace(0, 1, bins + 1)[1:-1])
        place = np.searchsorted(edges, blurred)
        counts = np.bincount(place, minlength=bins)
        values = np.bincount(place, clean.ravel(), bins) / np.maximum(counts, 1)
        error = np.square(values[place] - clean.ravel()).mean()
        if best is None or error < best[0]:
            best = error, (matrix, edges, values)
    return best[1]


def _least_squares(clean, rank=150):
    """The linear map from noisy to clean images, noise of 0 to 1, as two linear layers."""
    strength = torch.rand(len(clean), 1, 1, 1)
    noisy = torch.cat([add_gaussian(clean, strength).flatten(1), torch.ones(len(clean), 1)], 1)
    equations = noisy.T @ noisy + torch.eye(785)
    solution = torch.linalg.solve(equations, noisy.T @ clean.flatten(1))  # (785, 784)
    left, scale, right = torch.linalg.svd(solution[:-1])
    chain = nn.Sequential(nn.Linear(784, rank, bias=False), nn.Linear(rank, 784))
    chain[0].weight.data = (left[:, :rank] * scale[:rank]).T.contiguous()
    chain[1].weight.data = right[:rank].T.contiguous()
    chain[1].bias.data = solution[-1]
    return chain


@torch.no_grad()
def plane(plain, vae, classifier, test_x, test_y, dtype="float16") -> Explorer:
    """One pointer on two latent planes: of a plain autoencoder and of a VAE of the same layers.

    plain, vae: an `Autoencoder` and a `VAE` with codes of two numbers.
    classifier: a network for images (B, 1, 28, 28), with the classes 0 to 9 and "no digit".
    test_x, test_y: digits for the walk, for the points on the planes, and which they are.
    """
    plain.eval(), vae.eval()
    ends = _one_of_each(test_x, test_y)
    networks = {"classifier": (classifier, (1, 28, 28))}
    arrays = {"ends": ends, "labels": test_y[:500].float()}
    for name, model, encode in (
        ("plain", plain, plain.encode),
        ("VAE", vae, lambda x: vae.encode(x)[0]),
    ):
        codes = encode(test_x[:500])
        low, high = codes.quantile(torch.tensor([0.01, 0.99]), dim=0)
        low, size = low - 0.15 * (high - low), 1.3 * (high - low)  # of the plane that is shown
        scale = nn.Linear(2, 2)
        scale.weight.data, scale.bias.data = torch.diag(size), low
        networks[name] = (nn.Sequential(scale, model.decoder), (2,))
        shown = {"codes": codes, "ends": encode(ends)}
        arrays |= {f"{name} {key}": (z - low) / size for key, z in shown.items()}
    return Explorer(
        "plane",
        {
            "question": "Try many pairs, and look halfway. Whose images will the classifier accept "
            "least often? (It accepts a digit with a probability above 50 %.)",
            "options": ["the plain autoencoder's", "the VAE's", "the pixel blend's"],
        },
        networks,
        arrays,
        dtype,
    )


def q() -> Explorer:
    """The toy of lesson 07, x = z² / 2 plus noise: move q(z), and watch ELBO, KL and gap."""
    return Explorer(
        "q",
        {
            "x": 1,
            "noise": 0.25,
            "question": "The smallest gap between the ELBO and log p(x) that a normal q(z) can "
            "reach here is about",
            "options": ["0 nats", "0.7 nats", "2 nats"],
        },
    )


@torch.no_grad()
def _layers(module, x):
    """The layers of a chain of modules, which is put into eval mode, for one input x.

    Batch normalization is folded into the layer before it. Raises TypeError for what `forward` in
    network.js cannot do.
    """
    layers, wanted = [], module.eval()(x)
    for part in _chain(module):
        before, x, layer = x, part(x), None
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            _fold(part, layers[-1])
        elif isinstance(part, nn.Linear):
            layer = {"op": "linear", "inputs": part.in_features, "outputs": part.out_features}
        elif isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            if part.groups > 1 or part.dilation != (1, 1):
                raise TypeError("network.js has no groups and no dilation")
            transposed = isinstance(part, nn.ConvTranspose2d)
            small, large = (before, x) if transposed else (x, before)
            layer = {"op": "conv", "inputs": part.in_channels, "outputs": part.out_channels}
            layer |= {"small": [*small.shape[2:]], "large": [*large.shape[2:]]}
            layer |= {"kernel": part.kernel_size[0], "stride": part.stride[0]}
            layer |= {"padding": part.padding[0], "transposed": transposed}
        elif type(part) in ACTIVATIONS:
            layer = {"op": ACTIVATIONS[type(part)], "slope": getattr(part, "negative_slope", 0)}
        elif not torch.equal(before.flatten(), x.flatten()):
            raise TypeError(f"network.js has no {type(part).__name__}")
        if layer:
            if "outputs" in layer:
                layer["bias"] = torch.zeros(layer["outputs"])
            layers.append(layer | {k: p.detach() for k, p in part.named_parameters()})
    if x.shape != wanted.shape or not torch.allclose(x, wanted, atol=1e-5):
        raise TypeError("network.js runs chains of layers; this network is none")
    return layers


def _chain(module):
    """The modules without children, in order."""
    children = list(module.children())
    return [leaf for child in children for leaf in _chain(child)] if children else [module]


def _fold(norm, layer):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    each = layer["outputs"] // len(scale)  # one channel's share of a linear layer in front
    scale, shift = scale.repeat_interleave(each), shift.repeat_interleave(each)
    by_output = [1] * layer["weight"].ndim
    by_output[1 if layer.get("transposed") else 0] = -1
    layer["weight"] = layer["weight"] * scale.view(by_output)
    layer["bias"] = layer["bias"] * scale + shift


def _pack(networks, arrays, dtype):
    """(what and where as a dict for JSON, the numbers as bytes)."""
    arrays, pack = dict(arrays), {"networks": {}, "arrays": {}}
    for name, (module, shape) in networks.items():
        layers = pack["networks"][name] = _layers(module, torch.full((1, *shape), 0.5))
        for i, layer in enumerate(layers):
            for key in {"weight", "bias"} & set(layer):
                arrays[f"{name} {i} {key}"] = layer[key]
                layer[key] = f"{name} {i} {key}"
    parts, offset = [], 0
    for name, values in arrays.items():
        values = np.asarray(values, "float32")
        rows, kind = len(values), dtype if values.ndim > 1 else "float32"
        if kind == "int8":
            values = values.reshape(rows, -1)
            scales = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12) / 127
            part = scales.astype("<f4").tobytes() + np.rint(values / scales).astype("i1").tobytes()
        else:
            part = values.astype({"float32": "<f4", "float16": "<f2"}[kind]).tobytes()
        pack["arrays"][name] = {"dtype": kind, "offset": offset, "size": values.size, "rows": rows}
        parts.append(part)
        offset += len(part)
    return pack, b"".join(parts)

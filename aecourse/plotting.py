"""Plots: every function takes `ax=None`, draws, and returns the Axes; none calls show.

Colors are Okabe and Ito's, which color-blind people can tell apart. In a notebook, every figure
carries its titles as alternative text for screen readers.
"""

import base64
import copy
import textwrap
from io import BytesIO

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image
from torch import nn

BLACK, ORANGE, SKY, GREEN, YELLOW = "#222222", "#e69f00", "#56b4e9", "#009e73", "#e0c000"
BLUE, RED, PINK, GRAY = "#0072b2", "#d55e00", "#cc79a7", "#8c8c8c"

mpl.rc("figure", dpi=96, figsize=(7, 3.6), facecolor="white")
mpl.rc("figure.constrained_layout", use=True)
mpl.rc("savefig", facecolor="white")
mpl.rc("font", size=10)
mpl.rc("lines", linewidth=2)
mpl.rc("image", cmap="gray")
mpl.rc("legend", frameon=False)
mpl.rc("axes", titlesize=11, titlelocation="left", titleweight="bold", grid=False)
mpl.rc("axes", labelcolor="#444444", edgecolor="#999999")
mpl.rc("axes", prop_cycle=mpl.cycler(color=[BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK, YELLOW]))
mpl.rc("axes.spines", top=False, right=False)
mpl.rc(("xtick", "ytick"), color="#666666")


def images(x, *, columns=None, labels=None, title=None, scale=None, ax=None):
    """A grid of images `x (n, 1 or 3, H, W)` or `(n, H, W)`, values in [0, 1].

    columns: images per row (default: at most 16, near a 2:1 grid).
    labels: one short text per row.
    scale: maps [-scale, scale] to [0, 1], zero to mid-gray: for weights and differences.
    """
    x = _numpy(x)
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise ValueError(f"images wants (n, 1 or 3, H, W), n at least 1, got {x.shape}")
    x = np.clip(x / (2 * scale) + 0.5 if scale else x, 0, 1).transpose(0, 2, 3, 1)
    n, height, width, channels = x.shape
    columns = min(columns or min(16, int(np.ceil(np.sqrt(2 * n)))), n)
    rows, gap = -(-n // columns), max(1, width // 28)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    for i, image in enumerate(x):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    side = min(0.85, (9.3 - 1.2 * bool(labels)) / columns)  # inches per image, beside the labels
    ax = _axes(ax, min(9.5, 0.2 + columns * 0.85), 0.4 + rows * side * height / width)
    canvas = canvas if channels == 3 else canvas[..., 0]
    ax.imshow(canvas, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    middles = [(row + 0.5) * (height + gap) for row in range(rows)]
    ax.set_yticks(middles if labels else [], labels or None)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return set_title(ax, title)


def reconstructions(rows, *, title=None, ax=None):
    """Rows of the same images, one below the other: `rows` is a dict label -> `(n, C, H, W)`."""
    stacks = [_numpy(stack) for stack in rows.values()]
    shapes = {label: stack.shape for label, stack in zip(rows, stacks, strict=True)}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"every row must hold the same number of images of one size: {shapes}")
    x = np.concatenate(stacks)
    return images(x, columns=len(stacks[0]), labels=list(rows), title=title, ax=ax)


def history(history, *, names=None, reference=None, log=False, title=None, ylabel="loss", ax=None):
    """Curves of a History over epochs.

    names: which curves (default: all), each with its curve on held-out data, if there is one.
    reference: dict name -> value, each drawn as a dashed line.
    """
    ax = _axes(ax)
    for name in names or [n for n in history if not n.startswith("valid ")]:
        epochs = range(1, len(history[name]) + 1)
        marker = "o" if len(epochs) == 1 else None
        (line,) = ax.plot(epochs, history[name], label=name, marker=marker)
        if valid := history.get(f"valid {name}"):
            held_out = {"linestyle": ":", "label": f"{name}, held-out data"}
            ax.plot(epochs, valid, color=line.get_color(), **held_out)
    for (name, value), color in zip((reference or {}).items(), (BLACK, GRAY, RED, PINK)):
        ax.axhline(value, color=color, linestyle="--", linewidth=1.2, label=f"{name}: {value:.4g}")
    ax.set(xlabel="epoch", ylabel=ylabel, yscale="log" if log else "linear")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return set_title(ax, title)


def latent(z, y=None, *, title=None, size=6, ax=None):
    """Codes `z (n, 2)` as points, colored by `y (n,)`: up to 10 classes, or a number on a scale."""
    z = _numpy(z)
    if z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(f"latent wants codes of two numbers (n, 2), got {z.shape}")
    ax = _axes(ax, 5.4, 4.4)
    y = None if y is None else _numpy(y)
    if y is not None and y.dtype.kind in "iu" and len(np.unique(y)) <= 10:
        for value, color in zip(np.unique(y), plt.get_cmap("tab10").colors):
            codes = z[y == value]
            ax.scatter(*codes.T, s=size, color=color, alpha=0.6, linewidths=0)
            box = {"boxstyle": "circle,pad=.2", "facecolor": "white", "edgecolor": color}
            style = {"ha": "center", "va": "center", "weight": "bold", "bbox": box}
            ax.annotate(str(value), np.median(codes, axis=0), **style)
    else:
        colors = {"color": BLUE} if y is None else {"c": y, "cmap": "viridis"}
        points = ax.scatter(*z.T, s=size, alpha=0.7, linewidths=0, **colors)
        if y is not None:
            ax.figure.colorbar(points, ax=ax)
    ax.set(xlabel="latent 1", ylabel="latent 2")
    return set_title(ax, title)


@torch.no_grad()
def latent_grid(decode, *, low=-2.5, high=2.5, n=12, title=None, ax=None):
    """Decoded codes of an n x n grid between `low` and `high`, latent 1 to the right, latent 2 up.

    decode: `(B, 2) -> (B, C, H, W)`.
    """
    side = torch.linspace(low, high, n)
    z = torch.stack(torch.meshgrid(side.flip(0), side, indexing="ij"), dim=-1).view(-1, 2).flip(1)
    return images(decode(z), columns=n, title=title, ax=ax)


def score_histogram(
    scores, labels, *, names=("normal", "anomaly"), xlabel="score", title=None, ax=None
):
    """Scores `(n,)` of both classes (labels 0 and 1), the bars of each class summing to 100 %.

    The axis is logarithmic if all scores are positive, else linear.
    """
    scores, labels = _numpy(scores), _numpy(labels)
    if not np.isfinite(scores).all():
        raise ValueError("the scores hold NaN or infinity")
    ax = _axes(ax)
    positive = scores.min() > 0
    if positive:
        bins = np.geomspace(scores.min(), scores.max() * 1.0001, 50)
    else:
        bins = np.histogram_bin_edges(scores, 49)
    for value, color in ((0, BLUE), (1, RED)):
        chosen = scores[labels == value]
        percent = np.full(len(chosen), 100 / max(1, len(chosen)))
        label = f"{names[value]} ({len(chosen):,})"
        ax.hist(chosen, bins, weights=percent, color=color, alpha=0.6, label=label)
    ax.set(xscale="log" if positive else "linear", xlabel=xlabel, ylabel="share of its kind, %")
    ax.legend()
    return set_title(ax, title)


def bars(values, *, unit="", highlight=None, best=None, title=None, ax=None):
    """Horizontal bars of a dict name -> number or `metrics.Interval`, the first at the top.

    highlight: names drawn in color (the others are gray).
    best: "high" or "low", the better direction, written into the axis label.
    """
    ax = _axes(ax, 7, 0.7 + 0.38 * len(values))
    for row, (name, value) in enumerate(values.items()):
        number = end = getattr(value, "value", value)
        color = BLUE if highlight is None or name in highlight else "#b9c4cc"
        ax.barh(row, number, color=color, height=0.7)
        if hasattr(value, "low"):
            ax.plot([value.low, value.high], [row, row], color=BLACK, linewidth=1.5)
            end = value.high
        ax.annotate(f" {number:.4g}", (max(0, number, end), row), va="center", fontsize=9)
    ax.set_yticks(range(len(values)), values.keys())
    ax.invert_yaxis()
    ax.set_xlabel(unit + {"high": " (higher is better)", "low": " (lower is better)"}.get(best, ""))
    ax.margins(x=0.12)
    return set_title(ax, title)


def architecture_diagram(model, shape, *, title=None, ax=None):
    """The layers with weights of an autoencoder, each as a bar of its output's size (logarithmic).

    model: a module whose forward calls its `encoder` and its `decoder`; it is left as it was.
    shape: of one example, `(C, H, W)` or `(d,)`.
    """
    layers, code = _layers(model, shape)
    ax = _axes(ax, min(9.5, 1.1 * len(layers) + 1), 3)
    heights = [0.3 + np.log2(np.prod(size)) / 4 for _, size in layers]
    small = {"ha": "center", "fontsize": 8, "color": "#555555"}
    for i, ((name, size), h) in enumerate(zip(layers, heights)):
        color = ORANGE if i == code else BLUE if i in (0, len(layers) - 1) else "#9db7c9"
        bar = {"boxstyle": "round,pad=0.02", "facecolor": color, "edgecolor": "none"}
        ax.add_patch(FancyBboxPatch((i - 0.13, -h / 2), 0.26, h, **bar))
        weight = "bold" if i == code else None
        ax.annotate(
            "×".join(map(str, size)), (i, h / 2 + 0.12), ha="center", fontsize=9, weight=weight
        )
        ax.annotate(name, (i, -h / 2 - 0.35), **small)
        if i:
            ends = np.array([heights[i - 1], h]) / 2
            ax.fill_between([i - 0.87, i - 0.13], -ends, ends, color="#e8eef2", lw=0, zorder=0)
    ax.set(xlim=(-0.6, len(layers) - 0.4))
    ax.set(ylim=(-max(heights) / 2 - 0.6, max(heights) / 2 + 0.5))
    ax.axis("off")
    return set_title(ax, title)


@torch.no_grad()
def _layers(model, shape):
    """Names and output shapes of the layers with weights, and the index of the code among them."""
    model, layers, code = copy.deepcopy(model).eval(), [("input", tuple(shape))], []

    def add(layer, inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        layers.append((type(layer).__name__, tuple(first.shape[1:])))

    def mark_code(decoder, inputs):  # what the decoder takes: of a VAE a sample, not (mu, logvar)
        layers[-1] = ("code", tuple(inputs[0].shape[1:]))
        code.append(len(layers) - 1)

    def mark_output(decoder, inputs, output):
        layers[-1] = ("output", tuple(output.shape[1:]))

    parts = list(model.children())
    while parts:
        part = parts.pop()
        if isinstance(part, nn.Sequential):
            parts += part
        elif list(part.parameters()) and "Norm" not in type(part).__name__:
            part.register_forward_hook(add)
    model.decoder.register_forward_pre_hook(mark_code)
    model.decoder.register_forward_hook(mark_output)
    like = next(model.parameters())
    with torch.random.fork_rng():
        model(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    if not code:
        raise ValueError("architecture_diagram wants a model whose forward calls `model.decoder`")
    return layers, code[0]


def set_title(ax, title):
    """Give `ax` a title, wrapped to the width of the axes, and return `ax`."""
    if title:  # about 11 bold letters fit an inch
        share = ax.get_position().width if len(ax.figure.axes) > 1 else 1
        letters = max(20, int(11 * ax.figure.get_figwidth() * share))
        ax.set_title(textwrap.fill(title, letters), wrap=True)
    return ax


def _numpy(x):
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def _axes(ax, *figsize):
    return plt.subplots(figsize=figsize or None)[1] if ax is None else ax


def alternative_text(figure):
    """The figure's label if it has one, else its titles."""
    places = ("left", "center", "right")
    titles = [ax.get_title(place) for ax in figure.axes for place in places]
    text = ". ".join(t.replace("\n", " ") for t in [figure.get_suptitle(), *titles] if t)
    return figure.get_label() or text or "figure without a title"


def _with_alt(figure):
    """The figure as a small file and its text: charts as PNG of 256 colors, photographs as JPEG."""
    buffer, small = BytesIO(), BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    photographic = len(buffer.getvalue()) > 60_000
    image = Image.open(buffer).convert("RGB")
    image = image if photographic else image.quantize(256, dither=Image.Dither.NONE)
    image.save(small, "jpeg" if photographic else "png", quality=75, optimize=True)
    kind = "image/jpeg" if photographic else "image/png"
    return {kind: base64.b64encode(small.getvalue()).decode()}, {
        kind: {"alt": alternative_text(figure)}
    }


def _register_with_ipython():
    if (shell := get_ipython()) is not None:
        import matplotlib_inline.backend_inline  # noqa: F401  registers its formatter before ours

        shell.display_formatter.mimebundle_formatter.for_type(Figure, _with_alt)
        shell.display_formatter.formatters["image/png"].for_type(Figure, lambda figure: None)


_register_with_ipython()

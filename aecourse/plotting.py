"""Pictures. Every function takes `ax=None`, draws, and returns the Axes; none calls show.

A title says what to see. Colors are Okabe and Ito's, which color-blind people can tell apart. In a notebook every figure carries its
titles as alternative text, for those who listen to it.
"""

import base64
import textwrap
from io import BytesIO

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon
from PIL import Image

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK, GRAY = COLORS = (
    "#222222", "#e69f00", "#56b4e9", "#009e73", "#e0c000", "#0072b2", "#d55e00", "#cc79a7", "#8c8c8c")

STYLE = {
    "figure.dpi": 96, "figure.figsize": (7, 3.6), "figure.constrained_layout.use": True, "figure.facecolor": "white",
    "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK, YELLOW]),
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "axes.labelcolor": "#444444", "axes.edgecolor": "#999999", "axes.grid": False,
    "xtick.color": "#666666", "ytick.color": "#666666", "legend.frameon": False, "font.size": 10, "image.cmap": "gray",
    "savefig.facecolor": "white", "lines.linewidth": 2,
}
mpl.rcParams.update(STYLE)


def images(x, *, columns=None, labels=None, title=None, scale=None, ax=None):
    """A grid of images `x (n, 1 or 3, H, W)` or `(n, H, W)`, values in [0, 1].

    columns: images per row (default: at most 16, near a 2:1 grid); labels: one short text per row.
    scale:   stretch values from [-scale, scale] around mid-gray instead: for weights and differences.
    """
    x = _numpy(x)
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise ValueError(f"images wants (n, 1 or 3, H, W), n at least 1, got {x.shape}")
    x = np.clip(x / (2 * scale) + 0.5 if scale else x, 0, 1)
    columns = min(columns or min(16, int(np.ceil(np.sqrt(2 * len(x))))), len(x))
    rows, (channels, height, width), gap = -(-len(x) // columns), x.shape[1:], max(1, x.shape[-1] // 28)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels))
    for i, image in enumerate(x):
        r, c = divmod(i, columns)
        canvas[r * (height + gap):, c * (width + gap):][:height, :width] = image.transpose(1, 2, 0)
    side = min(0.85, (9.3 - 1.2 * bool(labels)) / columns)                 # inches per image; labels take room beside them
    ax = ax if ax is not None else _axes(figsize=(min(9.5, 0.2 + columns * 0.85), 0.4 + rows * side * height / width))
    ax.imshow(canvas if channels == 3 else canvas[..., 0], vmin=0, vmax=1, cmap="gray", interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([(r + 0.5) * (height + gap) for r in range(rows)] if labels else [], labels or None)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return _named(ax, title)


def reconstructions(rows, *, title=None, ax=None):
    """Rows of the same images, one under the other: `rows` is a dict label -> `(n, C, H, W)`."""
    stacks = [torch.as_tensor(_numpy(stack)) for stack in rows.values()]
    if len({stack.shape for stack in stacks}) != 1:
        raise ValueError(f"every row must hold the same number of images: {({k: tuple(v.shape) for k, v in rows.items()})}")
    return images(torch.cat(stacks), columns=len(stacks[0]), labels=list(rows), title=title, ax=ax)


def history(history, *, names=None, reference=None, log=False, title=None, ylabel="loss", ax=None):
    """Curves of a History over epochs; `reference` is a dict name -> value, each drawn as a dashed line."""
    ax = ax if ax is not None else _axes()
    for name in names or [n for n in history if not n.startswith("valid ")]:
        epochs = range(1, len(history[name]) + 1)
        (line,) = ax.plot(epochs, history[name], label=name, marker="o" if len(epochs) == 1 else None)
        if f"valid {name}" in history:
            ax.plot(epochs, history[f"valid {name}"], color=line.get_color(), linestyle=":", label=f"{name}, held-out data")
    for (name, value), color in zip((reference or {}).items(), (BLACK, GRAY, RED, PINK)):
        ax.axhline(value, color=color, linestyle="--", linewidth=1.2, label=f"{name}: {value:.4g}")
    ax.set(xlabel="epoch", ylabel=ylabel, yscale="log" if log else "linear")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return _named(ax, title)


def latent(z, y=None, *, title=None, size=6, labels=None, ax=None):
    """Codes `z (n, 2)` as points, colored by `y (n,)`: classes (up to 10 integers, named by `labels`), or a number on a scale."""
    z = _numpy(z)
    if z.ndim != 2 or z.shape[1] != 2:
        raise ValueError(f"latent wants codes of two numbers (n, 2), got {z.shape}")
    ax = ax if ax is not None else _axes(figsize=(5.4, 4.4))
    y = _numpy(y) if y is not None else None
    if y is not None and np.issubdtype(y.dtype, np.integer) and len(np.unique(y)) <= 10:
        colors = plt.get_cmap("tab10").colors
        for i, value in enumerate(np.unique(y)):
            chosen = z[y == value]
            ax.scatter(*chosen.T, s=size, color=colors[i], alpha=0.6, linewidths=0)
            ax.annotate(str(labels[i] if labels else value), np.median(chosen, axis=0), ha="center", va="center", weight="bold",
                        bbox={"boxstyle": "circle,pad=.2", "facecolor": "white", "edgecolor": colors[i]})
    else:
        drawn = ax.scatter(*z.T, s=size, c=y if y is not None else BLUE, cmap="viridis", alpha=0.7, linewidths=0)
        if y is not None:
            ax.figure.colorbar(drawn, ax=ax)
    ax.set(xlabel="code, number 1", ylabel="code, number 2")
    return _named(ax, title)


@torch.no_grad()
def latent_grid(decode, *, low=-2.5, high=2.5, n=12, title=None, ax=None):
    """What a decoder `(B, 2) -> (B, C, H, W)` draws on an n x n grid of codes between `low` and `high`; up is larger."""
    side = torch.linspace(low, high, n)
    z = torch.stack(torch.meshgrid(side.flip(0), side, indexing="ij"), dim=-1).view(-1, 2).flip(1)
    return images(decode(z), columns=n, title=title, ax=ax)


@torch.no_grad()
def traversal(decode, z, units, *, values=(-2, -1, 0, 1, 2), title=None, ax=None):
    """One row per unit of the code `z (latent,)`: what `decode` draws when that number alone is set to each of `values`."""
    codes = z.repeat(len(units) * len(values), 1)
    for i, unit in enumerate(units):
        codes[i * len(values):(i + 1) * len(values), unit] = torch.as_tensor(values, dtype=z.dtype)
    return images(decode(codes), columns=len(values), labels=[f"z[{unit}]" for unit in units], title=title, ax=ax)


def score_histogram(scores, labels, *, threshold=None, names=("normal", "anomaly"), xlabel="score", title=None, ax=None):
    """Scores `(n,)` of both kinds (labels 0 and 1) on a logarithmic axis, each kind's bars summing to 100 %."""
    scores, labels = np.maximum(_numpy(scores), 1e-12), _numpy(labels)
    ax = ax if ax is not None else _axes()
    bins = np.geomspace(scores.min(), scores.max() * 1.0001, 50)
    for value, color in ((0, BLUE), (1, RED)):
        chosen = scores[labels == value]
        ax.hist(chosen, bins, weights=np.full(len(chosen), 100 / max(1, len(chosen))), color=color, alpha=0.6,
                label=f"{names[value]} ({len(chosen):,})")
    if threshold is not None:
        ax.axvline(threshold, color=BLACK, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
    ax.set(xscale="log", xlabel=xlabel, ylabel="share of its kind, %")
    ax.legend()
    return _named(ax, title)


def bars(values, *, unit="", highlight=None, best=None, title=None, ax=None):
    """Horizontal bars from a dict name -> number or `metrics.Interval`, in the given order from the top.

    highlight: names drawn in color (the rest gray); best: "high" or "low" says in the label which direction is better.
    """
    ax = ax if ax is not None else _axes(figsize=(7, 0.7 + 0.38 * len(values)))
    for row, (name, value) in enumerate(values.items()):
        number = getattr(value, "value", value)
        ax.barh(row, number, color=BLUE if highlight is None or name in highlight else "#b9c4cc", height=0.7)
        if hasattr(value, "low"):
            ax.plot([value.low, value.high], [row, row], color=BLACK, linewidth=1.5)
        ax.annotate(f" {number:.4g}", (max(0, number, getattr(value, "high", number)), row), va="center", fontsize=9)
    ax.set_yticks(range(len(values)), values.keys())
    ax.invert_yaxis()
    ax.set_xlabel(unit + {"high": " (higher is better)", "low": " (lower is better)"}.get(best, ""))
    ax.margins(x=0.12)
    return _named(ax, title)


@torch.no_grad()
def diagram(model, shape, *, title=None, ax=None):
    """An autoencoder as it is: one bar per layer's output, as tall as the logarithm of its size, the code in color.

    model: anything with `encoder` and `decoder`; shape: of one example, `(C, H, W)` or `(d,)`.
    """
    sizes, training, x = [("input", tuple(shape))], model.training, torch.zeros(1, *shape, device=next(model.parameters()).device)
    model.eval()
    for part in (model.encoder, model.decoder):
        for layer in part if isinstance(part, torch.nn.Sequential) else [part]:
            x = layer(x)
            if any(True for _ in layer.parameters()) and not isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                sizes.append((type(layer).__name__, tuple(x.shape[1:])))
        if part is model.encoder:
            code = len(sizes) - 1
            x = x[:, : next(m for m in model.decoder.modules() if hasattr(m, "shape")).shape[0]] if hasattr(model, "sample") else x
    sizes[-1] = ("output", tuple(x.shape[1:]))
    model.train(training)
    ax = ax if ax is not None else _axes(figsize=(min(9.5, 1.1 * len(sizes) + 1), 3))
    tall = [0.3 + np.log2(np.prod(s)) / 4 for _, s in sizes]
    for i, ((name, s), h) in enumerate(zip(sizes, tall)):
        color = ORANGE if i == code else BLUE if i in (0, len(sizes) - 1) else "#9db7c9"
        ax.add_patch(FancyBboxPatch((i - 0.13, -h / 2), 0.26, h, boxstyle="round,pad=0.02", facecolor=color, edgecolor="none"))
        ax.annotate("×".join(map(str, s)), (i, h / 2 + 0.12), ha="center", fontsize=9, weight="bold" if i == code else None)
        ax.annotate("code" if i == code else name, (i, -h / 2 - 0.35), ha="center", fontsize=8, color="#555555")
        if i:
            ax.add_patch(Polygon([(i - 0.87, -tall[i - 1] / 2), (i - 0.87, tall[i - 1] / 2), (i - 0.13, h / 2), (i - 0.13, -h / 2)],
                                 facecolor="#e8eef2", edgecolor="none", zorder=0))
    ax.set(xlim=(-0.6, len(sizes) - 0.4), ylim=(-max(tall) / 2 - 0.6, max(tall) / 2 + 0.5))
    ax.axis("off")
    return _named(ax, title)


def _numpy(x):
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def _axes(figsize=None):
    return plt.subplots(figsize=figsize)[1]


def _named(ax, title):
    if title:                                            # about 11 bold letters an inch; an axes of a grid has its part of the width
        inches = ax.figure.get_figwidth() * (ax.get_position().width if len(ax.figure.axes) > 1 else 1)
        ax.set_title(textwrap.fill(title, max(20, int(11 * inches))), wrap=True)      # and never past the figure's edge
    return ax


def _alt(figure):
    """What a picture says in words: its titles, or its label where it was given one."""
    titles = [figure.get_suptitle()] + [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center", "right")]
    return figure.get_label() or ". ".join(t.replace("\n", " ") for t in titles if t) or "figure without a title"


def _with_alt(figure):
    """The figure as a small file of the kind that suits it: a chart as PNG of 256 colors, a grid of color pictures as JPEG."""
    buffer, small = BytesIO(), BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    photographic = len(buffer.getvalue()) > 60_000
    image = Image.open(buffer).convert("RGB")
    image = image if photographic else image.quantize(256, dither=Image.Dither.NONE)
    image.save(small, "jpeg" if photographic else "png", quality=75, optimize=True)
    kind = "image/jpeg" if photographic else "image/png"
    return {kind: base64.b64encode(small.getvalue()).decode()}, {kind: {"alt": _alt(figure)}}


def _tell_ipython():
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if get_ipython() is not None:
        import matplotlib_inline.backend_inline              # noqa: F401  its own formatter first, ours after
        formatter = get_ipython().display_formatter
        formatter.mimebundle_formatter.for_type(Figure, _with_alt)
        formatter.formatters["image/png"].for_type(Figure, lambda figure: None)       # drawn once, by the line above


_tell_ipython()

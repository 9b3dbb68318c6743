"""The part `growth`: how time and memory of the course's `fit` grow with the size of the work."""

from statistics import median

from aecourse import plotting
from aecourse.data import Batches
from aecourse.training import fit

import numpy as np
import torch
from tqdm import tqdm

from contenders import make_vae, negative_elbo
from turns import Worker

TITLE, DATA = "How cost grows", None
BASE = {"n": 20_000, "d": 100, "latent": 20, "batch": 128}  # rows, features, code, batch size
GROWTH = {  # one quantity varies at a time
    "n": [1_000, 20_000, 100_000, 1_000_000],
    "d": [25, 100, 400, 1600],
    "latent": [2, 20, 200],
    "batch": [16, 128, 1024],
}


def train(turn, n: int, d: int, latent: int, batch: int) -> None:
    """A job: answers the seconds per epoch on `n` rows of `d` numbers, after a first epoch."""
    turn()
    batches, epochs = Batches(torch.rand(n, d), batch_size=batch), 5 if n <= 20_000 else 3
    history = fit(make_vae((d,), latent), negative_elbo, batches, epochs, progress=False)
    turn(median(history.seconds[1:]))


def measure(plan, source: str) -> list[dict]:
    """Seconds per epoch, and MiB beyond those of a process that has imported PyTorch."""
    points = [BASE | {key: value} for key, values in GROWTH.items() for value in values]
    points = [p for i, p in enumerate(points) if p not in points[:i] and p["n"] <= plan.largest]
    for point in tqdm(points, unit="point"):
        with Worker("growth:train", **point) as worker:
            worker.answer()
            before = worker.peak_memory()
            point["seconds"] = worker.ask()
            point["memory"] = before and worker.peak_memory() - before
    return points


def curves(points: list[dict]) -> dict[str, tuple[list[dict], float]]:
    """For each quantity its points in order, and the power of it that the seconds grow with."""
    lines = {}
    for key in GROWTH:
        line = [p for p in points if all(p[k] == v for k, v in BASE.items() if k != key)]
        line.sort(key=lambda p: p[key])
        logs = (np.log([p[name] for p in line]) for name in (key, "seconds"))
        lines[key] = line, float(np.polyfit(*logs, 1)[0])
    return lines


def report(results: list[dict]) -> list:
    powers = [f"{key}^{power:.2f}" for key, (_, power) in curves(results).items()]
    table = [[*BASE, "seconds per epoch", "memory beyond the start, MiB"]]
    for point in results:
        memory = "–" if point["memory"] is None else f"{point['memory']:,}"
        table.append([*(f"{point[key]:,}" for key in BASE), f"{point['seconds']:.3g}", memory])
    text = "Rows n, features d, size of the code and of a batch vary one at a time. An epoch's time"
    return [f"{text} grows as {', '.join(powers)}.", table]


def draw(results: list[dict], figure) -> None:
    axes = figure.subplots(1, len(GROWTH))
    for ax, (key, (line, power)) in zip(axes, curves(results).items()):
        x, gibibytes = [p[key] for p in line], [(p["memory"] or np.nan) / 1024 for p in line]
        ax.loglog(x, [p["seconds"] for p in line], "o-")
        ax.loglog(x, gibibytes, "s--", color=plotting.ORANGE)
        ax.set(xlabel=key, title=f"time grows as {key}^{power:.2f}")
    axes[0].set_ylabel("seconds per epoch (blue)\nGiB beyond the start (orange)")

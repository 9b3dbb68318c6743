"""The part `fit`: how fast one VAE trains, by the course's `fit` and in other ways."""

import tempfile
from itertools import accumulate
from pathlib import Path
from statistics import median

from aecourse import data, plotting

import numpy as np

from contenders import CONTENDERS, OUR_SETTING
from turns import take_turns

TITLE, DATA = "Training speed", ("digits", "strokes", ("mnist", "fashion-mnist"))
TARGET = {"mnist": 105.9}  # nats; for other sources a loss that all contenders reach


def measure(plan, source: str) -> dict:
    """Each contender's seconds and test loss per epoch, rate, peak memory and time to a loss."""
    peers, epochs = ["Lightning", "Pythae"], plan.epochs or 10
    names = [name for name in CONTENDERS if name not in peers or name.lower() in plan.peers]
    settings = {name: name in OUR_SETTING for name in names}
    with tempfile.TemporaryDirectory() as folder:
        x = {part: data.digits(part, source)[0][: plan.images, 0] for part in ("train", "test")}
        for part, images in x.items():
            np.save(Path(folder, part), (255 * images).round().byte().numpy())
        options = {"questions": [None] * epochs, "epochs": epochs, "folder": folder}
        rows = take_turns("contenders:contend", settings, peers, **options)
    target = TARGET.get(source, max(min(row["loss"]) for row in rows.values()))
    for row in rows.values():
        row["rate"] = len(x["train"]) / median(row["seconds"])
        row["reached"] = seconds_to(target, row["seconds"], row["loss"])
    images = len(x["train"])
    return {"images": images, "epochs": epochs, "target": target, "contenders": rows}


def seconds_to(target: float, seconds: list[float], loss: list[float]) -> float | None:
    """The seconds until the loss is at most `target`, None if it never is; lists per epoch."""
    return next((s for s, value in zip(accumulate(seconds), loss) if value <= target), None)


def report(results: dict) -> list:
    target, rows = f"seconds to {results['target']:.1f}", results["contenders"]
    table = [["", "images/s", "seconds per epoch", "test loss", target, "peak memory, MiB"]]
    for name, row in rows.items():
        figures = f"{row['rate']:,.0f}", f"{median(row['seconds']):.2f}", f"{row['loss'][-1]:.2f}"
        reached = f"{row['reached']:.1f}" if row["reached"] else "–"
        table.append([name, *figures, reached, f"{row['peak']:,}" if row["peak"] else "–"])
    ratio = rows["aecourse fit"]["rate"] / rows["bare loop, our thread setting"]["rate"]
    return [
        f"VAE 784-400-20, {results['images']:,} images, batch 128, {results['epochs']} epochs; "
        "medians over epochs. The loss is the negative ELBO on test images, in nats. Our `fit` "
        f"takes {ratio:.2f} times as many images per second as the bare loop with our thread "
        "setting.",
        table,
    ]


def draw(results: dict, figure) -> None:
    left, right = figure.subplots(1, 2)
    rates = {name: row["rate"] / 1000 for name, row in results["contenders"].items()}
    ours, unit = ["aecourse fit"], "1,000 images per second"
    plotting.bars(rates, unit=unit, best="high", highlight=ours, ax=left)
    for name, row in results["contenders"].items():
        right.plot([*accumulate(row["seconds"])], row["loss"], marker=".", label=name)
    right.axhline(results["target"], color=plotting.GRAY, linewidth=1, linestyle="--")
    right.set(xlabel="seconds of training", ylabel="test loss, nats")
    right.legend(fontsize=8, loc="upper right")

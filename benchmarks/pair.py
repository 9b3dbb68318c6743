"""The part `pair`: two trainings at once against one alone, as when two notebooks are open."""

import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from aecourse import plotting

import numpy as np
from tqdm import tqdm

from turns import Worker

TITLE, DATA = "Two at once", None
SETTINGS = {"ours": True, "PyTorch's default": False}  # of the threads


def measure(plan, source: str) -> dict:
    """Images per second of `fit`: one epoch alone, and one in each of two processes at once."""
    results, rng = {}, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for part, n in {"train": plan.images, "test": 1000}.items():
            np.save(Path(folder, part), rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        options = {"name": "aecourse fit", "epochs": 1 + 2 * plan.rounds, "folder": folder}
        for name, course in SETTINGS.items():
            row = results[name] = {"alone": [], "both": []}
            make = partial(Worker, "contenders:contend", course=course, **options)
            with make() as one, make() as two:
                for worker in (one, two):
                    worker.answer()
                    worker.ask()  # warms up
                for _ in tqdm(range(plan.rounds), unit="round"):
                    row["alone"].append(plan.images / one.ask()["seconds"])
                    one.tell()
                    two.tell()
                    slower = max(one.answer()["seconds"], two.answer()["seconds"])
                    row["both"].append(2 * plan.images / slower)
            row["ratio"] = median(row["both"]) / median(row["alone"])
    return results


def report(results: dict) -> list:
    table = [["thread setting", "one alone, images/s", "two, their sum", "two over one"]]
    for name, row in results.items():
        alone, both = (f"{median(row[key]):,.0f}" for key in ("alone", "both"))
        table.append([name, alone, both, f"{row['ratio']:.2f}"])
    return ["Two processes that train the same VAE at the same time.", table]


def draw(results: dict, figure) -> None:
    ratios = {name: row["ratio"] for name, row in results.items()}
    unit, ax = "two at once, over one alone", figure.subplots()
    plotting.bars(ratios, unit=unit, best="high", highlight=["ours"], ax=ax)

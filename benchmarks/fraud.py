"""The part `fraud`: lesson 05's autoencoder beside PCA, an isolation forest and PyOD's detectors.

All learn from normal transactions of the training period and are judged by average precision on the
test period. A method is a function `method(rows, seed, epochs)` that returns the scores of the test
rows; epochs: None for its own.
"""

import time
from functools import partial
from importlib import import_module
from statistics import median
from types import SimpleNamespace

from aecourse import data, plotting, recipes
from aecourse.data import Batches
from aecourse.metrics import average_precision
from aecourse.training import fit, set_seed

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from turns import take_turns

TITLE, DATA = "Frauds found", ("transactions", "simulated", ("ulb",))


def scaled_score(errors, x):
    """Lesson 05's scaled score: a feature's error over what 1 % of `x` exceed, summed."""
    scale = errors(x).quantile(0.99, dim=0)
    return lambda v: (errors(v) / scale).sum(1)


def lesson_05(rows, seed, epochs):
    """Three autoencoders of lesson 05, scored as there by their mean error."""
    recipe, models = rows.recipe, []
    options = {"lr": recipe["lr"], "schedule": recipe.get("schedule"), "progress": False}
    for member in (seed, seed + 100, seed + 200):
        set_seed(member)
        models.append(recipe["model"]())
        batches = Batches(*recipe["train"], batch_size=recipe["batch_size"], seed=member)
        fit(models[-1], recipe["loss"], batches, epochs or recipe["epochs"], **options)
    with torch.no_grad():
        score = scaled_score(lambda x: sum((model(x) - x) ** 2 for model in models) / 3, rows.x)
        return score(rows.x_test)


def pca(rows, seed, epochs):
    """Scored as in lesson 05; the validation period chooses the number of components."""

    def score(components):
        model = PCA(components, random_state=seed).fit(rows.x)
        weights, mean = (torch.from_numpy(v).float() for v in (model.components_, model.mean_))
        return scaled_score(lambda x: ((x - mean) @ weights.T @ weights + mean - x) ** 2, rows.x)

    scores = [score(components) for components in range(2, rows.x.shape[1], 2)]
    best = max(scores, key=lambda score: average_precision(score(rows.x_valid), rows.y_valid))
    return best(rows.x_test)


def isolation_forest(rows, seed, epochs):
    forest = IsolationForest(n_estimators=100, random_state=seed).fit(rows.x.numpy())
    return -forest.score_samples(rows.x_test.numpy())


def pyod(rows, seed, epochs, module="auto_encoder", name="AutoEncoder", **settings):
    """A detector of PyOD, with its own defaults except for `settings`."""
    settings |= {"epoch_num": epochs} if epochs else {}
    detector = getattr(import_module(f"pyod.models.{module}"), name)
    detector = detector(random_state=seed, verbose=0, **settings).fit(rows.x.numpy())
    return detector.decision_function(rows.x_test.numpy())


def pyod_as_lesson_05(rows, seed, epochs):
    """PyOD's autoencoder with the widths, epochs, batch size and learning rate of lesson 05's."""
    recipe = rows.recipe
    layers = [m for m in recipe["model"]().encoder.modules() if isinstance(m, torch.nn.Linear)]
    settings = {"lr": recipe["lr"], "batch_size": recipe["batch_size"], "batch_norm": False}
    settings |= {"hidden_neuron_list": [m.out_features for m in layers], "dropout_rate": 0}
    return pyod(rows, seed, epochs or recipe["epochs"], **settings)


METHODS = {  # those of PyOD begin with its name
    "lesson 05": lesson_05,
    "PCA, scored as in lesson 05": pca,
    "isolation forest (scikit-learn)": isolation_forest,
    "PyOD AutoEncoder": pyod,
    "PyOD AutoEncoder, lesson 05's sizes": pyod_as_lesson_05,
    "PyOD VAE": partial(pyod, module="vae", name="VAE"),
}


def find_frauds(turn, name: str, source: str, epochs: int | None) -> None:
    """A job: in each turn one seed; answers average precision, and the seconds to fit and score."""
    import_module("pyod" if name.startswith("PyOD") else "sklearn")  # missing: not ready
    recipe = recipes.load("05", source)
    if name == "lesson 05":
        torch.set_num_threads(1)  # as in the lesson
    train, valid, test = (data.transactions(part, source) for part in ("train", "valid", "test"))
    normal = train.x[train.y == 0]
    x, x_valid, x_test = ((v - normal.mean(0)) / normal.std(0) for v in (normal, valid.x, test.x))
    rows = SimpleNamespace(recipe=recipe, x=x, x_valid=x_valid, y_valid=valid.y, x_test=x_test)
    seed = turn()
    while True:
        started = time.perf_counter()
        scores = np.asarray(METHODS[name](rows, seed, epochs))
        seconds = time.perf_counter() - started
        seed = turn({"precision": average_precision(scores, test.y), "seconds": seconds})


def measure(plan, source: str) -> dict:
    """Average precision and seconds of each method for each seed."""
    peers = [name for name in METHODS if name.startswith("PyOD")]
    names = [name for name in METHODS if name not in peers or "pyod" in plan.peers]
    settings = {name: name not in peers for name in names}
    options = {"questions": range(plan.rounds), "source": source, "epochs": plan.epochs}
    return take_turns("fraud:find_frauds", settings, peers, **options)


def report(results: dict) -> list:
    table = [["", "average precision", "over seeds", "seconds to fit and score"]]
    for name, row in results.items():
        precision, seconds = row["precision"], f"{median(row['seconds']):.1f}"
        over_seeds = f"{min(precision):.3f} to {max(precision):.3f}"
        table.append([name, f"{median(precision):.3f}", over_seeds, seconds])
    text = "Trained on the normal rows of the first 40 % of the time, judged on the last half"
    return [f"{text}; medians over seeds.", table]


def draw(results: dict, figure) -> None:
    left, right = figure.subplots(1, 2)
    units = {"precision": "average precision", "seconds": "seconds to fit and score"}
    for ax, key, best in ((left, "precision", "high"), (right, "seconds", "low")):
        medians = {name: median(row[key]) for name, row in results.items()}
        plotting.bars(medians, unit=units[key], best=best, highlight=["lesson 05"], ax=ax)
    right.set_yticks([])

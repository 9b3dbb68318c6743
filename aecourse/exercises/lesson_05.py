"""Exercises of lesson 05, Which transactions look like no other?"""

import math

from aecourse import metrics
from aecourse.exercises import Exercise, as_number, as_tensor, require, require_close

import numpy as np
import torch

# -- 1: the score of a row -------------------------------------------------------------------------


def _check_score(attempt, case):
    x, noise, m = case.values("B", "d"), case.values("B", "d"), case.size("m", 300, 600)
    sloppy = torch.logspace(0, 2, case.size("d"))  # the features' errors differ a lot
    normal_error = (case.values(m, "d") ** 2 * sloppy).to(case.dtype)
    squared = noise**2 * sloppy.to(case.dtype)
    got = as_tensor(attempt(x + squared.sqrt(), x.clone(), normal_error.clone()), what="scores")
    require(
        got.shape != x.shape,
        "You return one number per feature. The analyst needs one per transaction: sum over the "
        "features.",
    )
    got = as_tensor(got, (len(x),), "one score per transaction, a tensor")

    def scored(scale):
        return (squared / scale).sum(1)

    def of_quantile(q, interpolation="linear"):
        return scored(normal_error.quantile(q, dim=0, interpolation=interpolation))

    low, high = (of_quantile(0.99, side) for side in ("higher", "lower"))  # of any interpolation
    if not bool(((got >= low * 0.999) & (got <= high * 1.001)).all()):
        right = of_quantile(0.99)
        require_close(
            got,
            right,
            [
                (
                    squared.sum(1),
                    "Every feature still counts in the same unit. Divide each one's squared error "
                    "by its own scale first.",
                ),
                (
                    scored(normal_error.mean(0)),
                    "Your scale is the usual error, the mean. Asked for is the error that one "
                    "normal row in a hundred exceeds.",
                ),
                (
                    scored(normal_error.quantile(0.99)),
                    "One scale for all features cannot tell a sloppy feature from an exact one: "
                    "take the quantile along dim=0.",
                ),
                (
                    scored(squared.quantile(0.99, dim=0)),
                    "Your scale is taken from the rows that are being judged. It has to come from "
                    "`normal_error`, or frauds stretch it.",
                ),
                (right / x.shape[1], "You averaged over the features: sum over them."),
            ],
            f"The first row should score {right[0]:.3f}; yours says {got[0]:.3f}.",
            rtol=1e-3,
        )
    return (
        "One error as large as a normal row in a hundred makes it counts 1, whatever the feature."
    )


def scaled_score(x_hat, x, normal_error):
    scale = normal_error.quantile(0.99, dim=0)  # (d,): what one normal row in a hundred exceeds
    return ((x_hat - x) ** 2 / scale).sum(1)  # (n,)


score = Exercise(
    "Score each row: squared error per feature, divided by the 99 % quantile of that feature's "
    "`normal_error`, summed.",
    _check_score,
    [
        "Start with `(x_hat - x) ** 2`, shape (n, d), and look for the scale, shape (d,), in "
        "`normal_error`, shape (m, d).",
        "`normal_error.quantile(0.99, dim=0)` is the scale. Divide, then `.sum(1)`.",
    ],
    scaled_score,
    alternatives=[
        lambda x_hat, x, e: (
            np.square((x_hat - x).numpy()) / np.quantile(e.numpy(), 0.99, axis=0)
        ).sum(axis=1),
        lambda x_hat, x, e: [((a - b) ** 2 / e.quantile(0.99, 0)).sum() for a, b in zip(x_hat, x)],
        lambda x_hat, x, e: (x_hat - x) ** 2 @ (1 / e.sort(0).values[int(0.99 * len(e))]),
    ],
    wrong=[
        (lambda x_hat, x, e: ((x_hat - x) ** 2).sum(1), "same unit"),
        (lambda x_hat, x, e: (x_hat - x) ** 2 / e.quantile(0.99, dim=0), "one number per feature"),
        (lambda x_hat, x, e: ((x_hat - x) ** 2 / e.mean(0)).sum(1), "the usual error"),
        (lambda x_hat, x, e: ((x_hat - x) ** 2 / e.quantile(0.99)).sum(1), "One scale for all"),
        (
            lambda x_hat, x, e: ((x_hat - x) ** 2 / ((x_hat - x) ** 2).quantile(0.99, dim=0)).sum(
                1
            ),
            "being judged",
        ),
        (lambda x_hat, x, e: ((x_hat - x) ** 2 / e.amax(0)).sum(1), "should score"),
        (lambda x_hat, x, e: ((x_hat - x) ** 2 / e.quantile(0.999, 0)).sum(1), "should score"),
        (lambda x_hat, x, e: ((x_hat - x) ** 2 / e.quantile(0.98, 0)).sum(1), "should score"),
        (lambda x_hat, x, e: ((x_hat - x) ** 2 / e.quantile(0.99, 0)).mean(1), "You averaged"),
        (lambda x_hat, x, e: scaled_score(x_hat, x, e + 0.01), "Right for inputs with B = 6"),
    ],
)


# -- 2: from a share of false alarms to precision --------------------------------------------------


def _check_precision(attempt, case):
    number = case.number_between
    rates = [(0.9, 0.05, 0.0017)] * (case.number == 0)  # the vendor's
    rates += [(number(0.05, 1), 10 ** number(-4, -0.3), 10 ** number(-4, -0.1)) for _ in range(5)]
    rates.append((number(0.05, 1), 0.0, 0.3))
    got = [as_number(attempt(*each)) for each in rates]
    right = [t * b / (t * b + f * (1 - b)) for t, f, b in rates]

    def relative(values):  # small precisions count as much as large ones
        return torch.tensor(values, dtype=torch.float64) / torch.tensor(right, dtype=torch.float64)

    wrong = next((i for i, share in enumerate(got) if not 0 <= share <= 1 + 1e-6), 0)
    recall, false_alarms, base_rate = rates[wrong]
    require_close(
        relative(got),
        torch.ones(len(rates)),
        [
            (
                relative([t for t, _, _ in rates]),
                "That is the recall: the share of frauds that are caught. Asked for is the share "
                "of alerts that are frauds.",
            ),
            (
                relative([1 - f for _, f, _ in rates]),
                "That is the specificity, which knows nothing of how rare fraud is. Count the "
                "alerts of both kinds.",
            ),
            (
                relative([t / (t + f) for t, f, _ in rates]),
                "You left out the base rate: this holds only where half of all transactions are "
                "fraud. Weigh each rate by how many there are of its kind.",
            ),
        ],
        f"For recall {recall:.4g}, false alarms {false_alarms:.4g} and base rate {base_rate:.4g} "
        f"it should be {right[wrong]:.4f}; yours says {got[wrong]:.4f}. A share lies between 0 "
        "and 1.",
        rtol=1e-3,
    )
    return (
        "At 5 % false alarms and 0.17 % fraud, 97 of 100 alerts are wrong, however good the "
        "recall. AUROC never shows that."
    )


def precision_from_rates(recall, false_alarm_rate, base_rate):
    caught = recall * base_rate  # per transaction
    false_alarms = false_alarm_rate * (1 - base_rate)
    return caught / (caught + false_alarms)


precision = Exercise(
    "From the recall, the false alarm rate (share of normal rows that are flagged) and the base "
    "rate: the precision.",
    _check_precision,
    [
        "Imagine a million transactions. How many frauds are there, how many of them are flagged, "
        "and how many normal ones are?",
        "Alerts = recall * base_rate + false_alarm_rate * (1 - base_rate), per transaction. Which "
        "part of them is fraud?",
    ],
    precision_from_rates,
    alternatives=[
        lambda t, f, b: 1 / (1 + f / t * (1 - b) / b),
        lambda t, f, b: np.float32(t * b) / np.float32(t * b + f * (1 - b)),
    ],
    wrong=[
        (lambda t, f, b: t, "recall"),
        (lambda t, f, b: 1 - f, "specificity"),
        (lambda t, f, b: t / (t + f), "base rate"),
        (lambda t, f, b: t * b / (f + 1e-9), "between 0 and 1"),
        (lambda t, f, b: t * b / (t * b + f), "should be"),
        (lambda t, f, b: 0.9 * b / (0.9 * b + 0.05 * (1 - b)), "should be"),
        (lambda t, f, b: "3 %", "Return one number"),
    ],
)


# -- 3: the cheapest threshold ---------------------------------------------------------------------


def _check_threshold(attempt, case):
    n, unit = case.size("n", 40, 80), case.scale
    y = case.pixels(n).lt(0.15).long().numpy()
    scores = (unit * (case.normal(n) + 1.5 * torch.tensor(y))).numpy()
    amount = (unit * case.normal(n).exp()).numpy()
    lowest = scores.argmin()
    y[lowest], amount[lowest] = 1, 0.3 * unit * n  # flagging all is cheapest for low costs

    def flagged(threshold):
        return int((scores.astype(float) > threshold).sum())

    def cost(threshold, alarm, loss=amount):
        alert = scores.astype(float) > threshold
        return alarm * (alert & (y == 0)).sum() + loss[~alert & (y == 1)].sum(dtype=float)

    def cheapest(alarm, others=(-math.inf,), loss=amount):
        return min([*scores, *others], key=lambda t: cost(t, alarm, loss))

    alarms = [unit * price for price in (0.3, 0.03, 2.0, 100.0, 1e6, 0.0)]
    got = [as_number(attempt(scores, y, amount, a), "one threshold, a number") for a in alarms]
    require(not any(map(math.isnan, got)), "Your threshold is NaN.")
    for alarm, threshold in zip(alarms, got):
        best = cheapest(alarm)
        if cost(threshold, alarm) <= cost(best, alarm) * (1 + 1e-6):
            continue
        for others, diagnosis in (
            ([-math.inf for _ in alarms], "You flag every row, whatever a false alarm costs."),
            (
                [cheapest(a, ()) for a in alarms],
                "The cheapest choice can be to flag every row: try a threshold below all scores, "
                "too.",
            ),
            (
                [cheapest(a, loss=amount > 0) for a in alarms],
                "You count missed frauds; their *amounts* are lost. One of 2,000 is worse than ten "
                "of 5.",
            ),
        ):
            require([*map(flagged, got)] != [*map(flagged, others)], diagnosis)
        require(
            False,
            f"With false alarms at {alarm:g} your threshold of {threshold:.6g} flags "
            f"{flagged(threshold)} rows and costs {cost(threshold, alarm):,.4g}. One of "
            f"{best:.6g} flags {flagged(best)} and costs {cost(best, alarm):,.4g}.",
        )
    return (
        "No matter how the scores are scaled, the decision is about money: the same model, another "
        "threshold for each price."
    )


def cheapest_threshold(scores, y, amount, alarm_cost):
    def cost(threshold):
        alert = scores > threshold
        return alarm_cost * (alert & (y == 0)).sum() + amount[~alert & (y == 1)].sum()

    candidates = np.append(scores, scores.min() - 1)  # the last one flags everything
    return min(candidates, key=cost)


def _by_sorting(scores, y, amount, alarm_cost):
    order = np.argsort(-scores)
    change = np.where(y[order] == 1, -amount[order], alarm_cost)
    costs = np.append(0, change.cumsum())  # flag the first 0, 1, 2, ... rows
    k = int(costs.argmin())
    return scores[order][k] if k < len(scores) else scores.min() - 1


threshold = Exercise(
    "The threshold at which false alarms (at `alarm_cost` each) and missed frauds (their amounts) "
    "cost least together.",
    _check_threshold,
    [
        "Write `cost(threshold)` first: rows with `scores > threshold` are alerts. Only a score "
        "itself can be where the cost changes.",
        "`cost = alarm_cost * (alert & (y == 0)).sum() + amount[~alert & (y == 1)].sum()`; then "
        "`min(candidates, key=cost)`.",
        "The candidates are all scores, and one number below the smallest of them, for the case "
        "that flagging everything is cheapest.",
    ],
    cheapest_threshold,
    alternatives=[
        _by_sorting,
        lambda *given: torch.tensor(cheapest_threshold(*given)),
        lambda s, y, a, c: (
            -math.inf
            if cheapest_threshold(s, y, a, c) < s.min()
            else cheapest_threshold(s, y, a, c)
        ),
    ],
    wrong=[
        (lambda s, y, a, c: s.min() - 1, "flag every row"),
        (lambda s, y, a, c: -math.inf, "flag every row"),
        (lambda s, y, a, c: cheapest_threshold(s, y, a, 1), "your threshold of"),
        (lambda s, y, a, c: cheapest_threshold(s, y, a, c) + 0.003, "Right for inputs with"),
        (lambda s, y, a, c: math.nan, "is NaN"),
        (
            lambda s, y, a, c: min(
                s, key=lambda t: c * ((s > t) & (y == 0)).sum() + a[(s <= t) & (y == 1)].sum()
            ),
            "a threshold below all scores, too",
        ),
        (
            lambda s, y, a, c: min(
                [*s, s.min() - 1],
                key=lambda t: c * ((s > t) & (y == 0)).sum() + ((s <= t) & (y == 1)).sum(),
            ),
            "amounts",
        ),
        (lambda s, y, a, c: np.quantile(s, 0.9), "your threshold of"),
        (lambda s, y, a, c: s, "one threshold"),
    ],
)


# -- 4: an open study ------------------------------------------------------------------------------


def _check_study(attempt):
    said = attempt() if callable(attempt) else attempt
    require(
        isinstance(said, dict) and said,
        "Return a dict: the name of each variant -> its average precisions, one per seed.",
    )
    require(len(said) >= 2, "One variant alone shows nothing: put a baseline beside it.")
    runs = {}
    for name, values in said.items():
        values = list(values) if np.iterable(values) and not isinstance(values, str) else [values]
        values = [as_number(value, f"a list of numbers under {name!r}") for value in values]
        require(
            all(0 < value <= 1 for value in values),
            f"{name!r}: average precisions lie between 0 and 1.",
        )
        require(
            len(values) >= 3,
            f"{name!r} has {len(values)} seed{'s'[: len(values) != 1]}: fewer than three say "
            "nothing about luck.",
        )
        runs[name] = np.array(values)
    seed_range = max(np.ptp(values) for values in runs.values())
    require(
        seed_range > 0,
        "Within each variant all seeds give the same number: was the seed really changed? A method "
        "without chance differs if you draw other rows.",
    )
    means = {name: values.mean() for name, values in runs.items()}
    best, worst = max(means, key=means.get), min(means, key=means.get)
    gap = means[best] - means[worst]
    verdict = (
        "more than the range of the seeds: worth a claim"
        if gap > seed_range
        else "less than the range of the seeds: luck, so far"
    )
    return (
        f"{best!r} is ahead of {worst!r} by {gap:.3f}; the seeds range over {seed_range:.3f}. That "
        f"is {verdict}."
    )


def study_of_scale():
    """Does a scale per feature help? The model is the mean; one feature is exact, one sloppy."""
    results = {"plain": [], "scaled": []}
    for seed in (0, 1, 2):
        rng = np.random.default_rng(seed)
        normal, fraud = rng.normal(0, [1, 10], (2000, 2)), rng.normal(0, [5, 10], (20, 2))
        errors, y = np.concatenate([normal, fraud]) ** 2, np.repeat([0, 1], [2000, 20])
        for name, scale in (("plain", 1), ("scaled", np.quantile(normal**2, 0.99, axis=0))):
            results[name].append(metrics.average_precision((errors / scale).sum(axis=1), y))
    return results


study = Exercise(
    "Your own study: a function that returns a dict with at least two variants, each with the "
    "average precisions of at least three seeds.",
    _check_study,
    [
        "Change one thing only: the quantile of the scale, the width, noise on the input, the "
        "number of epochs. Keep everything else, the seeds too.",
        "`{'as in the lesson': [ap(seed) for seed in (0, 1, 2)], 'mine': [...]}`: then look "
        "whether the gap is larger than the range of the seeds.",
    ],
    study_of_scale,
    alternatives=[
        {"as it was": [0.61, 0.64, 0.66], "mine": [0.62, 0.63, 0.67]},
        {"PCA": [0.6, 0.6, 0.6], "mine": np.array([0.7, 0.71, 0.72], dtype=np.float32)},
        {"as it was": (0.61, 0.64, 0.66, 0.6), "mine": torch.tensor([0.61, 0.64, 0.66])},
    ],
    wrong=[
        (lambda: {"mine": [0.7, 0.7, 0.8]}, "baseline"),
        (lambda: {"a": [0.6], "b": [0.7]}, "luck"),
        (lambda: {"a": [60, 61, 62], "b": [70, 71, 72]}, "between 0 and 1"),
        (lambda: [0.6, 0.7, 0.8], "dict"),
        ({"a": [0.6, 0.6, 0.6], "b": [0.7, 0.7, 0.7]}, "the same number"),
        ({"a": [0.6, 0.7, "0.8"], "b": [0.6, 0.7, 0.8]}, "a list of numbers under 'a'"),
        ({"a": [0.6, 0.7, float("nan")], "b": [0.6, 0.7, 0.8]}, "between 0 and 1"),
    ],
)

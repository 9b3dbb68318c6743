"""Exercises of lesson 05, Which transactions look like no other?"""

from aecourse import metrics
from aecourse.exercises import Exercise, require

import numpy as np
import torch

# -- 1: the score of a row -------------------------------------------------------------------------


def _check_score(attempt):
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn(50, 4, generator=g), torch.randn(50, 4, generator=g)
    x_hat, normal_error = (
        x + noise,
        torch.rand(1000, 4, generator=g) * torch.tensor([1.0, 10.0, 0.1, 3.0]),
    )
    squared, got = noise**2, torch.as_tensor(attempt(x_hat, x, normal_error))
    require(
        got.shape != (50, 4),
        "You return one number per feature. The analyst needs one per transaction: sum over the "
        "features.",
    )
    require(
        got.shape == (50,),
        f"Return one score per transaction, shape (50,) here; yours has {tuple(got.shape)}.",
    )
    require(
        not torch.allclose(got, squared.sum(1), rtol=1e-4),
        "Every feature still counts in the same unit. Divide each one's "
        "squared error by its own scale first.",
    )
    require(
        not torch.allclose(got, (squared / normal_error.mean(0)).sum(1), rtol=1e-3),
        "Your scale is the usual error, the mean. "
        "Asked for is the error that one normal row in a hundred exceeds.",
    )
    require(
        not torch.allclose(got, (squared / normal_error.quantile(0.99)).sum(1), rtol=1e-3),
        "One scale for all features cannot "
        "tell a sloppy feature from an exact one: take the quantile along dim=0.",
    )
    require(
        not torch.allclose(got, (squared / squared.quantile(0.99, dim=0)).sum(1), rtol=1e-3),
        "Your scale is taken from the rows "
        "that are being judged. It has to come from `normal_error`, or frauds stretch it.",
    )
    right = (squared / normal_error.quantile(0.99, dim=0)).sum(1)
    require(
        torch.allclose(got.float(), right, rtol=2e-2),
        f"The first row should score {right[0]:.3f}; yours says {got[0]:.3f}.",
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
        lambda x_hat, x, normal_error: torch.tensor(
            (((x_hat - x) ** 2).numpy() / np.quantile(normal_error.numpy(), 0.99, axis=0)).sum(
                axis=1
            )
        )
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
    ],
)


# -- 2: from a share of false alarms to precision --------------------------------------------------


def _check_precision(attempt):
    cases = [(0.9, 0.05, 0.0017), (0.9, 0.05, 0.5), (0.5, 0.001, 0.005), (1.0, 0.01, 0.01)]
    right = [t * b / (t * b + f * (1 - b)) for t, f, b in cases]
    got = [float(attempt(*case)) for case in cases]
    require(
        not np.allclose(got, [t for t, _, _ in cases]),
        "That is the recall: the share of frauds that are caught. Asked for is the "
        "share of alerts that are frauds.",
    )
    require(
        not np.allclose(got, [1 - f for _, f, _ in cases]),
        "That is the specificity, which knows nothing of how rare fraud is. "
        "Count the alerts of both kinds.",
    )
    require(
        not np.allclose(got, [t / (t + f) for t, f, _ in cases]),
        "You left out the base rate: this holds only where half of all "
        "transactions are fraud. Weigh each rate by how many there are of its kind.",
    )
    require(
        all(0 <= v <= 1 for v in got), f"A share lies between 0 and 1; yours gives {max(got):.4g}."
    )
    require(
        np.allclose(got, right, rtol=1e-3),
        f"For recall 0.9, false alarms 0.05 and base rate 0.0017 it should be {right[0]:.4f}; "
        f"yours says {got[0]:.4f}.",
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
    alternatives=[lambda t, f, b: 1 / (1 + f / t * (1 - b) / b)],
    wrong=[
        (lambda t, f, b: t, "recall"),
        (lambda t, f, b: 1 - f, "specificity"),
        (lambda t, f, b: t / (t + f), "base rate"),
        (lambda t, f, b: t * b / f, "between 0 and 1"),
        (lambda t, f, b: t * b / (t * b + f), "should be"),
    ],
)


# -- 3: the cheapest threshold ---------------------------------------------------------------------


def _check_threshold(attempt):
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.1).astype(int)
    scores, amount = rng.normal(0, 1, 400) + 1.5 * y, rng.lognormal(4, 1, 400)

    def cost(threshold, alarm):
        alert = scores > threshold
        return alarm * (alert & (y == 0)).sum() + amount[(~alert) & (y == 1)].sum()

    for alarm in (1.0, 20.0, 1e6, 0.0):
        best = min(cost(t, alarm) for t in np.append(scores, scores.min() - 1))
        got = attempt(scores, y, amount, alarm)
        require(
            np.ndim(got) == 0 and np.isfinite(float(got)), "Return one threshold, a finite number."
        )
        got = float(got)
        require(
            alarm < 1e5 or cost(got, alarm) <= best,
            "At a million per false alarm you still raise some. Did you multiply the false "
            "alarms by their cost?",
        )
        catch_all = cost(got, alarm) == cost(scores.min() - 1, alarm)
        require(
            alarm == 0 or not catch_all,
            "You flag everything: false alarms seem to cost nothing in your sum.",
        )
        by_count = min(
            scores,
            key=lambda t: (
                alarm * ((scores > t) & (y == 0)).sum() + ((scores <= t) & (y == 1)).sum()
            ),
        )
        require(
            cost(got, alarm) <= best + 1e-6 or cost(got, alarm) != cost(by_count, alarm),
            "You count missed frauds; their "
            "*amounts* are lost. One of 2,000 is worse than ten of 5.",
        )
        require(
            cost(got, alarm) <= best + 1e-6,
            f"With false alarms at {alarm:g} your threshold costs {cost(got, alarm):,.0f}; "
            f"{best:,.0f} is possible. Try every score as a threshold.",
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
    alternatives=[_by_sorting],
    wrong=[
        (lambda s, y, a, c: s.min() - 1, "flag everything"),
        (
            lambda s, y, a, c: min(
                s, key=lambda t: c * ((s > t) & (y == 0)).sum() + ((s <= t) & (y == 1)).sum()
            ),
            "amounts",
        ),
        (lambda s, y, a, c: np.quantile(s, 0.9), "Try every score"),
        (lambda s, y, a, c: s, "one threshold"),
    ],
)


# -- 4: an open study ------------------------------------------------------------------------------


def _check_study(attempt):
    attempt = attempt()
    require(
        isinstance(attempt, dict) and attempt,
        "Return a dict: the name of each variant -> its average precisions, one per seed.",
    )
    runs = {
        name: np.atleast_1d(np.asarray(values, dtype=float)) for name, values in attempt.items()
    }
    require(len(runs) >= 2, "One variant alone shows nothing: put a baseline beside it.")
    for name, values in runs.items():
        require(
            values.ndim == 1 and np.isfinite(values).all(),
            f"{name!r}: a list of finite numbers, one per seed.",
        )
        require(
            ((values > 0) & (values <= 1)).all(),
            f"{name!r}: average precisions lie between 0 and 1.",
        )
        require(
            len(values) >= 3,
            f"{name!r} has {len(values)} seed{'s'[: len(values) != 1]}: fewer than three say "
            "nothing about luck.",
        )
    means = {name: values.mean() for name, values in runs.items()}
    best, worst = max(means, key=means.get), min(means, key=means.get)
    seed_range, gap = max(np.ptp(values) for values in runs.values()), means[best] - means[worst]
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
    alternatives=[lambda: {"as it was": [0.61, 0.64, 0.66], "mine": [0.62, 0.63, 0.67]}],
    wrong=[
        (lambda: {"mine": [0.7, 0.7, 0.8]}, "baseline"),
        (lambda: {"a": [0.6], "b": [0.7]}, "luck"),
        (lambda: {"a": [60, 61, 62], "b": [70, 71, 72]}, "between 0 and 1"),
        (lambda: [0.6, 0.7, 0.8], "dict"),
    ],
)

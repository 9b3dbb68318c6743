"""Exercises of lesson 00, Start here."""

import math

from aecourse.exercises import Exercise, is_whole, require

import torch

# -- 1: the loss by hand ---------------------------------------------------------------------------


def _check_loss(attempt):
    g = torch.Generator().manual_seed(0)
    x, x_hat = torch.rand(6, 1, 28, 28, generator=g), torch.rand(6, 1, 28, 28, generator=g)
    right, got = ((x_hat - x) ** 2).sum() / 6, attempt(x_hat, x)
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor without axes: sum over the pixels, then "
        "average over the pictures.",
    )
    value = float(got)
    require(
        not math.isclose(value, float(right) * 6, rel_tol=1e-4),
        "You summed over the batch as well: a larger batch would look "
        "worse. Average over the pictures.",
    )
    require(
        not math.isclose(value, float(right) / 784, rel_tol=1e-4),
        "You averaged over the pixels as well; the course sums over "
        "them. Yours is 784 times smaller.",
    )
    require(
        not math.isclose(value, float((x_hat - x).abs().sum() / 6), rel_tol=1e-4),
        "That is the absolute error. Square the differences instead of dropping their sign.",
    )
    require(
        value > 0,
        "An error cannot be negative: square each difference before you sum, or they cancel.",
    )
    require(
        math.isclose(value, float(right), rel_tol=1e-4),
        f"For a random pair this gives {value:.4g} where {float(right):.4g} is expected.",
    )
    leaf = x_hat.clone().requires_grad_()
    out = attempt(leaf, x)
    require(
        out.requires_grad,
        "The number is right, but no gradient flows through it: stay with tensors, without .item() "
        "or .detach().",
    )
    return "Sum over features, mean over the batch. Every loss of the course does so."


def squared_error(x_hat, x):
    return ((x_hat - x) ** 2).sum() / len(
        x
    )  # sum over everything, divided by the number of pictures


loss = Exercise(
    "Write the squared error by hand: sum over pixels, mean over pictures.",
    _check_loss,
    [
        "`(x_hat - x) ** 2` has the shape of `x`. Two things are left to do with it.",
        "Sum over all of it, then divide by the number of pictures, `len(x)`.",
    ],
    squared_error,
    alternatives=[
        lambda x_hat, x: (x_hat - x).pow(2).flatten(1).sum(1).mean(),
        lambda x_hat, x: torch.nn.functional.mse_loss(x_hat, x) * x[0].numel(),
    ],
    wrong=[
        (lambda x_hat, x: ((x_hat - x) ** 2).mean(), "averaged over the pixels"),
        (lambda x_hat, x: ((x_hat - x) ** 2).sum(), "summed over the batch"),
        (lambda x_hat, x: (x_hat - x).abs().sum() / len(x), "absolute error"),
        (lambda x_hat, x: (x_hat - x) ** 2, "one number"),
        (lambda x_hat, x: -((x_hat - x) ** 2).sum() / len(x), "cannot be negative"),
        (lambda x_hat, x: ((x_hat - x) ** 2).detach().sum() / len(x), "no gradient"),
    ],
)


# -- 2: when compression pays ----------------------------------------------------------------------


def _check_pays_from(attempt):
    cases = ((16, 205_840), (32, 1000), (1, 783), (783, 10), (16, 767), (16, 768))
    require(
        not all(attempt(k, p) == p // 784 + 1 for k, p in cases),
        "You forgot the codes: n pictures still cost n * k numbers.",
    )
    for k, p in cases:
        n, right = attempt(k, p), p // (784 - k) + 1
        require(
            is_whole(n),
            f"A number of pictures is a whole number; for k={k}, p={p} you returned {n!r}.",
        )
        require(
            n * k + p < n * 784,
            f"For k={k}, p={p} you say {n}, but then {n * k + p:,} numbers are stored and the "
            "pictures have "
            f"{n * 784:,}: not fewer.",
        )
        require(
            n == right, f"For k={k}, p={p} you say {n}, but {n - 1} pictures are enough already."
        )
    return (
        "For this lesson's decoder that is a few hundred pictures. Below that, the autoencoder "
        "compresses nothing."
    )


def fewest_pictures(k, p):
    return p // (784 - k) + 1  # n * k + p < n * 784  means  n > p / (784 - k)


pays_from = Exercise(
    "From how many pictures on are codes and decoder fewer numbers than the pictures?",
    _check_pays_from,
    [
        "Write both counts down: codes and decoder are `n * k + p`, the pictures are `n * 784`.",
        "`n * k + p < n * 784` means `n > p / (784 - k)`; the smallest whole `n` above a fraction "
        "is its floor plus 1.",
    ],
    fewest_pictures,
    alternatives=[
        lambda k, p: next(n for n in range(1, p + 2) if n * k + p < n * 784),
        lambda k, p: math.floor(p / (784 - k)) + 1,
    ],
    wrong=[
        (lambda k, p: p // 784 + 1, "forgot the codes"),
        (lambda k, p: p / (784 - k), "whole number"),
        (lambda k, p: math.ceil(p / (784 - k)), "not fewer"),
        (lambda k, p: p // (784 - k) + 2, "enough already"),
    ],
)


# -- 3: a claim of one's own -----------------------------------------------------------------------


def _check_own_claim(attempt):
    said = attempt()
    require(
        isinstance(said, (tuple, list)) and len(said) == 3,
        'Return three things: "a sentence", the measured value, {"below": bound}.',
    )
    sentence, value, bound = said
    require(
        isinstance(sentence, str) and len(sentence.split()) >= 4,
        "Say it in a sentence: what was measured, on what, against what?",
    )
    value = float(value)
    require(math.isfinite(value), "The measured value is NaN or infinite.")
    require(
        isinstance(bound, dict) and len(bound) == 1 and set(bound) <= {"below", "above"},
        'The bound is a dict with one entry: {"below": number} or {"above": number}.',
    )
    ((kind, limit),) = bound.items()
    require(
        value < limit if kind == "below" else value > limit,
        f"It does not hold: measured {value:.4g}, claimed {kind} {limit:.4g}.",
    )
    require(
        abs(limit) <= 10 * abs(value) and abs(value) <= 10 * abs(limit),
        f"It holds, but says little: {value:.4g} against a bound "
        f"of {limit:.4g}. Move the bound closer; run it with a few seeds to see how close you "
        "dare.",
    )
    return "A sentence, a measurement, a bound. Does it hold on other seeds?"


def noise_against_a_constant():
    torch.manual_seed(0)
    x = torch.rand(1000, 784)
    constant = ((x - x.mean()) ** 2).sum(1).mean()  # 784 pixels, each of variance 1/12
    return "Random pictures cost a constant answer about 65 per picture", constant, {"above": 60}


own_claim = Exercise(
    "A claim of your own: a sentence, a value, and a bound that is worth saying.",
    _check_own_claim,
    [
        "Take something this lesson measured, and change one thing: the digits' class, the "
        "corruption, the code size.",
        "For example the error on rotated digits: `test_x.rot90(1, (2, 3))`, over the error on "
        'upright ones, {"above": ...}.',
    ],
    noise_against_a_constant,
    alternatives=[lambda: ("Three is a little less than four", 3, {"below": 4})],
    wrong=[
        (lambda: ("The error is quite small", 5.0, {"below": 1000}), "says little"),
        (lambda: ("The error is quite small", 5.0, {"below": 4}), "does not hold"),
        (lambda: ("Small", 5.0, {"below": 6}), "in a sentence"),
        (lambda: ("The error is quite small", float("nan"), {"below": 6}), "NaN"),
        (lambda: 5.0, "three things"),
    ],
)

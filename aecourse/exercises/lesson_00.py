"""Exercises of lesson 00, Start here."""

import math

from aecourse.exercises import (
    Exercise,
    as_number,
    close,
    needs_gradient,
    require,
    require_close,
)

import torch

# -- 1: the loss by hand ---------------------------------------------------------------------------


def _check_loss(attempt, case):
    shape = case.shape("B", 1, "H", "W")
    x, x_hat = case.scale * case.pixels(*shape), case.scale * case.pixels(*shape)
    got = attempt(x_hat.requires_grad_(), x)
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor without axes: sum over the pixels, then average over the "
        "pictures.",
    )
    right, pictures = ((x_hat - x) ** 2).sum() / len(x), len(x)
    require_close(
        got,
        right,
        [
            (
                right * pictures,
                "You summed over the batch as well: a larger batch would look worse. Average over "
                "the pictures.",
            ),
            (
                right / x[0].numel(),
                "You averaged over the pixels as well; the course sums over them. Yours is "
                f"{x[0].numel()} times smaller.",
            ),
            (
                (x_hat - x).abs().sum() / pictures,
                "That is the absolute error. Square the differences instead of dropping their "
                "sign.",
            ),
            (-right, "An error cannot be negative: check the sign."),
            (
                (x_hat - x).sum() / pictures,
                "You did not square: differences of both signs cancel. Square each before you sum.",
            ),
        ],
    )
    (gradient,) = needs_gradient(got, x_hat)
    require(
        close(gradient, 2 * (x_hat - x) / pictures),
        "The number is right, but its gradient is not: no part of it may be detached.",
    )
    return "Sum over features, mean over the batch. Every loss of the course does so."


def squared_error(x_hat, x):
    return ((x_hat - x) ** 2).sum() / len(x)  # sum over all, divided by the number of pictures


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
        (lambda x_hat, x: (x_hat - x).sum() / len(x), "did not square"),
        (lambda x_hat, x: ((x_hat - x) ** 2).detach().sum() / len(x), "No gradient"),
        (lambda x_hat, x: ((x_hat - x).detach() * (x_hat - x)).sum() / len(x), "its gradient is"),
        (lambda x_hat, x: squared_error(x_hat, x).item(), "as a tensor"),
        # right for the first inputs only
        (lambda x_hat, x: ((x_hat - x) ** 2).sum() / 6, "Right for inputs with B = 6"),
        (lambda x_hat, x: squared_error(x_hat.clamp(0, 1), x.clamp(0, 1)), "values around 100"),
    ],
)


# -- 2: when compression pays ----------------------------------------------------------------------


def _check_pays_from(attempt, case):
    cases = [(16, 205_840)] * (case.number == 0)  # this lesson's
    for _ in range(4):
        k, n = case.whole(1, 783), case.whole(1, 400)
        cases += [(k, n * (784 - k) + more) for more in (-1, 0, 1, 784 - k)]
    said = [as_number(attempt(k, p), "one number, of pictures") for k, p in cases]
    require(
        said != [p // 784 + 1 for _, p in cases],
        "You forgot the codes: n pictures still cost n * k numbers.",
    )
    for (k, p), n in zip(cases, said):
        require(
            n.is_integer(),
            f"A number of pictures is a whole number; for k={k}, p={p} you returned {n!r}.",
        )
        require(
            n * k + p < n * 784,
            f"For k={k}, p={p} you say {n:g}, but then {n * k + p:,.0f} numbers are stored and the "
            f"pictures have {n * 784:,.0f}: not fewer.",
        )
        require(
            n == p // (784 - k) + 1,
            f"For k={k}, p={p} you say {n:g}, but {n - 1:g} pictures are enough already.",
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
        lambda k, p: torch.tensor(p).div(784 - k, rounding_mode="floor") + 1.0,
    ],
    wrong=[
        (lambda k, p: p // 784 + 1, "forgot the codes"),
        (lambda k, p: p / (784 - k), "whole number"),
        (lambda k, p: math.ceil(p / (784 - k)), "not fewer"),
        (lambda k, p: p // (784 - k) + 2, "enough already"),
        (lambda k, p: "263", "one number"),
        (lambda k, p: p // (784 - 16) + 1, "For k="),
    ],
)


# -- 3: a claim of one's own -----------------------------------------------------------------------


def _check_own_claim(attempt):
    said = attempt() if callable(attempt) else attempt
    require(
        isinstance(said, (tuple, list)) and len(said) == 3,
        'Return three things: "a sentence", the measured value, {"below": bound}.',
    )
    sentence, value, bound = said
    require(
        isinstance(sentence, str) and len(sentence.split()) >= 4,
        "Say it in a sentence: what was measured, on what, against what?",
    )
    value = as_number(value, "one number as the measured value")
    require(math.isfinite(value), "The measured value is NaN or infinite.")
    require(
        isinstance(bound, dict) and len(bound) == 1 and set(bound) <= {"below", "above"},
        'The bound is a dict with one entry: {"below": number} or {"above": number}.',
    )
    ((kind, limit),) = bound.items()
    limit = as_number(limit, "one number as the bound")
    require(math.isfinite(limit), "An infinite bound says nothing, and NaN is no bound.")
    require(
        value < limit if kind == "below" else value > limit,
        f"It does not hold: measured {value:.4g}, claimed {kind} {limit:.4g}.",
    )
    return (
        f"A sentence, a measurement, a bound: {value:.4g}, claimed {kind} {limit:.4g}. Run it with "
        "a few seeds: does it hold on them, and how close could the bound be?"
    )


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
        "For example the error on mirrored digits: `test_x.flip(3)`, over the error on "
        'those as they are, {"above": ...}.',
    ],
    noise_against_a_constant,
    alternatives=[
        lambda: ("Three is a little less than four", 3, {"below": 4}),
        lambda: ["Both ways give the same picture, up to rounding", 0.0, {"below": 1e-5}],
        lambda: ("Training takes many times as long as PCA", torch.tensor([83.2]), {"above": 3}),
    ],
    wrong=[
        (lambda: ("The error is quite small", 5.0, {"below": 4}), "does not hold"),
        (lambda: ("The error is quite small", 4, {"below": 4}), "does not hold"),
        (lambda: ("The error is quite small", 4, {"below": math.inf}), "says nothing"),
        (lambda: ("The error is quite small", 4, {"about": 4}), "with one entry"),
        (lambda: ("The error is quite small", "4", {"below": 5}), "as the measured value"),
        (lambda: ("Small", 5.0, {"below": 6}), "in a sentence"),
        (lambda: ("The error is quite small", float("nan"), {"below": 6}), "NaN"),
        (lambda: 5.0, "three things"),
    ],
)

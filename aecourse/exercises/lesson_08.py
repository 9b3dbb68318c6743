"""Exercises of lesson 08, Can it imagine a face?"""

import math

from aecourse.exercises import Exercise, require

import torch

# -- 1: the loss, with a sigma ---------------------------------------------------------------------------------------------------


def _check_negative_elbo(attempt):
    g = torch.Generator().manual_seed(0)
    x_hat, x = torch.rand(5, 3, 8, 8, generator=g), torch.rand(5, 3, 8, 8, generator=g)
    mu, logvar = torch.randn(5, 4, generator=g), torch.randn(5, 4, generator=g)
    error, kl, sigma = (
        ((x_hat - x) ** 2).sum() / 5,
        0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / 5,
        0.3,
    )

    def same(value):
        return math.isclose(float(got), float(value), rel_tol=1e-3)

    got = attempt(x_hat, x, mu, logvar, sigma)
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor without axes.",
    )
    require(
        not same(error / (2 * sigma**2) - kl),
        "The sign of the KL is wrong: you reward codes for running away from the prior.",
    )
    require(
        not same(error + kl), "Sigma is not used: the squared error has to be divided by 2 sigma^2."
    )
    require(
        not same(error / sigma**2 + kl),
        "A factor of 2 is missing: the Gaussian's exponent is -(x - x_hat)^2 / (2 sigma^2).",
    )
    require(
        not same(error / (2 * sigma) + kl),
        "You divided by sigma; the Gaussian's exponent has sigma squared.",
    )
    require(
        not same(error / 192 / (2 * sigma**2) + kl),
        "You averaged the error over pixels. Sum, or the KL weighs 192 times too much.",
    )
    require(
        not same(error / (2 * sigma**2) + kl / 4),
        "You averaged the KL over the latents. Sum, or it weighs 4 times too little.",
    )
    require(
        same(error / (2 * sigma**2) + kl),
        f"For a random batch this gives {float(got):.4g} where "
        f"{float(error / (2 * sigma**2) + kl):.4g} is expected: sums over features, means over the batch.",
    )
    leaf = mu.clone().requires_grad_()
    require(
        attempt(x_hat, x, leaf, logvar, sigma).requires_grad,
        "The number is right, but no gradient flows to the codes.",
    )
    return "Halve sigma, and the same KL weighs a quarter as much beside the error. That is beta by another name."


def gaussian_negative_elbo(x_hat, x, mu, logvar, sigma):
    # -log N(x; x_hat, sigma^2), less a constant
    recon = ((x_hat - x) ** 2).sum() / len(x) / (2 * sigma**2)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / len(x)
    return recon + kl


negative_elbo = Exercise(
    "Write the lesson's loss by hand: squared error over 2 sigma^2, plus the KL, summed over features, mean over the batch.",
    _check_negative_elbo,
    [
        "Two terms. Each is one sum over everything, divided by the number of faces, `len(x)`.",
        "The KL of one latent is `0.5 * (mu**2 + exp(logvar) - 1 - logvar)`.",
        "`((x_hat - x)**2).sum() / len(x) / (2 * sigma**2)` is the first term.",
    ],
    gaussian_negative_elbo,
    alternatives=[
        lambda x_hat, x, mu, logvar, sigma: (
            ((x_hat - x).pow(2).flatten(1).sum(1) / (2 * sigma**2)).mean()
            + torch.distributions.kl_divergence(
                torch.distributions.Normal(mu, (logvar / 2).exp()),
                torch.distributions.Normal(0.0, 1.0),
            )
            .sum(1)
            .mean()
        )
    ],
    wrong=[
        (
            lambda a, b, m, v, s: (
                ((a - b) ** 2).sum() / 5 / (2 * s**2) - 0.5 * (m**2 + v.exp() - 1 - v).sum() / 5
            ),
            "sign of the KL",
        ),
        (
            lambda a, b, m, v, s: (
                ((a - b) ** 2).sum() / 5 + 0.5 * (m**2 + v.exp() - 1 - v).sum() / 5
            ),
            "Sigma is not used",
        ),
        (
            lambda a, b, m, v, s: (
                ((a - b) ** 2).sum() / 5 / s**2 + 0.5 * (m**2 + v.exp() - 1 - v).sum() / 5
            ),
            "factor of 2",
        ),
        (
            lambda a, b, m, v, s: (
                ((a - b) ** 2).mean(0).mean() / (2 * s**2)
                + 0.5 * (m**2 + v.exp() - 1 - v).sum() / 5
            ),
            "averaged the error over pixels",
        ),
        (
            lambda a, b, m, v, s: (
                ((a - b) ** 2).sum() / 5 / (2 * s**2) + 0.5 * (m**2 + v.exp() - 1 - v).mean()
            ),
            "averaged the KL",
        ),
    ],
)


# -- 2: variations, with their labels --------------------------------------------------------------------------------------------


class _Known:
    """A VAE whose codes are known: mu is 10 for the first face, 20 for the second, ...; sigma is 0.5; the decoder changes nothing."""

    def encode(self, x):
        mu = 10.0 * torch.arange(1, len(x) + 1)[:, None].expand(-1, 6)
        return mu, torch.full_like(mu, 2 * math.log(0.5))

    def decode(self, z):
        return z


def _check_variations(attempt):
    torch.manual_seed(0)
    n = 400
    out = attempt(_Known(), torch.zeros(3, 3, 8, 8), n, 1.0)
    require(
        isinstance(out, torch.Tensor) and out.shape == (3 * n, 6),
        f"For 3 faces and n={n} the result has {3 * n} rows, one decoded "
        f"code each; yours is {tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__}.",
    )
    centers = out.view(3, n, 6).mean(1)
    mixed = (centers - 20).abs().max() < 1
    require(
        not mixed,
        "The variations come in the order 1, 2, 3, 1, 2, 3, ...: labels repeated by `y.repeat_interleave(n)` would "
        "belong to other faces. Keep the n variations of a face together.",
    )
    std = out.view(3, n, 6).std(1).mean()
    require(
        std > 1e-3,
        "All n variations of a face are the same: each needs its own noise. Draw it in the shape of the repeated mu.",
    )
    require(
        (centers - torch.tensor([[10.0], [20], [30]])).abs().max() < 0.3,
        "The variations of a face have to lie around its own mu.",
    )
    require(
        not abs(std - 0.25) < 0.03,
        "Your standard deviation is sigma squared: logvar is the log of the *variance*. sigma = exp(logvar / 2).",
    )
    require(
        abs(std - 0.5) < 0.05,
        f"The standard deviation should be sigma = 0.5 here; yours is {float(std):.3g}.",
    )
    one = out.view(3, n, 6)[0]
    require(
        one.std(1).mean() > 0.2,
        "All latents of a code got the same noise: draw one number per latent.",
    )
    wide = attempt(_Known(), torch.zeros(3, 3, 8, 8), n, 2.0).view(3, n, 6).std(1).mean()
    require(
        abs(wide - 1.0) < 0.1,
        "`width` has to multiply sigma: at width 2 the standard deviation doubles.",
    )
    return "These are samples of q(z|x), decoded: pictures that the encoder takes for nearly the same face."


def variations(model, x, n, width):
    with torch.no_grad():
        mu, logvar = model.encode(x)
        mu, sigma = mu.repeat_interleave(n, 0), (logvar / 2).exp().repeat_interleave(n, 0)
        return model.decode(mu + width * sigma * torch.randn_like(mu))


def _variations_by_axis(model, x, n, width):
    mu, logvar = model.encode(x)
    eps = torch.randn(len(x), n, mu.shape[1])
    return model.decode((mu[:, None] + width * (logvar / 2).exp()[:, None] * eps).flatten(0, 1))


def _in_turn(model, x, n, width):
    mu, logvar = model.encode(x)
    mu, logvar = mu.repeat(n, 1), logvar.repeat(n, 1)
    return model.decode(mu + width * (logvar / 2).exp() * torch.randn_like(mu))


def _squared(model, x, n, width):
    mu, logvar = (v.repeat_interleave(n, 0) for v in model.encode(x))
    return model.decode(mu + width * logvar.exp() * torch.randn_like(mu))


def _one_noise(model, x, n, width):
    mu, logvar = model.encode(x)
    return model.decode(mu + width * (logvar / 2).exp() * torch.randn_like(mu)).repeat_interleave(
        n, 0
    )


def _no_width(model, x, n, width):
    mu, logvar = (v.repeat_interleave(n, 0) for v in model.encode(x))
    return model.decode(mu + (logvar / 2).exp() * torch.randn_like(mu))


variation = Exercise(
    "Write variations(model, x, n, width): n variations of each face, the code's sigma stretched by width, a face's own ones together.",
    _check_variations,
    [
        "`mu, logvar = model.encode(x)`, then every row n times, then noise, then `model.decode`.",
        "`repeat_interleave(n, 0)` keeps the copies of a row together; `repeat(n, 1)` does not.",
        "`z = mu + width * (logvar / 2).exp() * torch.randn_like(mu)`, after the repetition: each copy needs its own noise.",
    ],
    variations,
    alternatives=[_variations_by_axis],
    wrong=[
        (_in_turn, "1, 2, 3, 1, 2, 3"),
        (_squared, "sigma squared"),
        (_one_noise, "are the same"),
        (_no_width, "at width 2"),
        (lambda model, x, n, width: model.decode(model.encode(x)[0]), "has 1200 rows"),
    ],
)


# -- 3: a direction that moves one thing only ------------------------------------------------------------------------------------


def _world(seed=0, n=4000, latent=8):
    """Codes in which two attributes go together: glasses are worn by 80 % of the old and by 20 % of the young."""
    g = torch.Generator().manual_seed(seed)
    old = (torch.rand(n, generator=g) < 0.5).float()
    glasses = (torch.rand(n, generator=g) < 0.2 + 0.6 * old).float()
    a, b = torch.zeros(latent), torch.zeros(latent)
    a[0], b[1], b[2] = 2.0, 1.5, 1.0
    return (
        0.3 * torch.randn(n, latent, generator=g) + glasses[:, None] * a + old[:, None] * b,
        glasses,
        old,
        a,
        b,
    )


def _check_direction(attempt):
    z, glasses, old, a, b = _world()
    d = torch.as_tensor(attempt(z, glasses, old)).float()
    require(
        d.shape == a.shape,
        f"A direction is one number per latent, of shape ({len(a)},); yours is {tuple(d.shape)}.",
    )
    along, carried = float(d @ a / (a @ a)), float(d @ b / (b @ b))
    require(along > 0, "It points the wrong way: added to a code, it takes the glasses off.")
    require(
        abs(carried) < 0.1 or along > 0.1 and abs(carried / along) < 0.1,
        f"Your direction puts glasses on *and* ages the face by "
        f"{carried:.2f} of a lifetime: in these codes the old wear glasses more often, and their mean differs in both ways.",
    )
    require(
        abs(along - 1) < 0.1,
        f"The direction is right, its length is not: added once it should move a face all the way, from 0 to 1 "
        f"of the attribute; yours moves it by {along:.2f}.",
    )
    return (
        "Within the old and within the young, compare those with and without: age cannot creep in. On the drawn faces factors are "
        "drawn independently; photographs of people never are so kind."
    )


def direction(z, wanted, other):
    # explain each latent by both attributes at once
    design = torch.stack([torch.ones_like(wanted), wanted, other], 1)
    return torch.linalg.lstsq(design, z).solution[1]  # and keep the share of the wanted one


def _within_groups(z, wanted, other):
    return (
        sum(
            z[(other == v) & (wanted == 1)].mean(0) - z[(other == v) & (wanted == 0)].mean(0)
            for v in (0, 1)
        )
        / 2
    )


def _plain_difference(z, wanted, other):
    return z[wanted == 1].mean(0) - z[wanted == 0].mean(0)


def _gram_schmidt(z, wanted, other):
    d, o = _plain_difference(z, wanted, other), _plain_difference(z, other, wanted)
    return d - (d @ o) / (o @ o) * o


single = Exercise(
    "Glasses and age go together in a collection. Write direction(z, wanted, other): what to add to a code to change only `wanted`.",
    _check_direction,
    [
        "Mean with glasses minus mean without compares mostly old faces with mostly young ones.",
        "Compare like with like: take the difference among the old, take it among the young, and average the two.",
        "Or fit `z = c + wanted * d + other * e` by least squares, and return `d`.",
    ],
    direction,
    alternatives=[_within_groups],
    wrong=[
        (_plain_difference, "and* ages the face"),
        (_gram_schmidt, "and* ages the face"),
        (lambda z, w, o: -direction(z, w, o), "wrong way"),
        (lambda z, w, o: direction(z, w, o) / 2, "its length is not"),
        (lambda z, w, o: z[w == 1] - z[w == 1].mean(0), "one number per latent"),
    ],
)


# -- 4: a small study ------------------------------------------------------------------------------------------------------------


def _check_study(attempt):
    said = attempt()
    require(
        isinstance(said, (tuple, list)) and len(said) == 3,
        'Return three things: "a sentence", [values, one per seed], {"below": bound}.',
    )
    sentence, values, bound = said
    require(
        isinstance(sentence, str) and len(sentence.split()) >= 4,
        "Say it in a sentence: what was measured, against what?",
    )
    require(
        isinstance(values, (list, tuple)) and len(values) >= 3,
        "One run is an anecdote: measure with three seeds or more.",
    )
    values = [float(v) for v in values]
    require(all(map(math.isfinite, values)), "One of the values is NaN or infinite.")
    require(len(set(values)) > 1, "All values are the same: does the seed reach the experiment?")
    require(
        isinstance(bound, dict) and len(bound) == 1 and set(bound) <= {"below", "above"},
        'The bound is a dict with one entry: {"below": number} or {"above": number}.',
    )
    ((kind, limit),) = bound.items()
    worst = max(values) if kind == "below" else min(values)
    require(
        worst < limit if kind == "below" else worst > limit,
        f"It does not hold on every seed: {worst:.4g}, claimed {kind} {limit:.4g}.",
    )
    room = max(4 * (max(values) - min(values)), 0.5 * abs(worst))
    require(
        abs(limit - worst) <= room,
        f"It holds, but says little: the worst value is {worst:.4g}, the bound {limit:.4g}. Move it closer.",
    )
    return "Measured, bounded, repeated. Would it hold on photographs?"


def far_from_the_prior():
    values = []
    for seed in range(3):
        torch.manual_seed(seed)
        # a code of the prior is never near 0 ...
        values.append(torch.randn(2000, 32).norm(dim=1).mean())
    return "Codes from a prior of 32 latents lie 5.6 from its center", values, {"above": 5.5}


study = Exercise(
    "A study of your own: a sentence, its value with three seeds or more, and a bound that holds on all of them.",
    _check_study,
    [
        "Change one thing: sigma, the number of latents, the size of the training set. Measure one thing: psnr, sharpness, a distance.",
        "For example: train on 1,000 faces for 4 epochs with sigma 0.05 and 0.2, and return the ratio of their samples' sharpness.",
    ],
    far_from_the_prior,
    alternatives=[
        lambda: ("A made-up ratio stays under one half", [0.41, 0.44, 0.46], {"below": 0.5})
    ],
    wrong=[
        (lambda: ("The samples are blurred a lot", [0.3], {"below": 0.5}), "anecdote"),
        (
            lambda: ("The samples are blurred a lot", [0.3, 0.3, 0.3], {"below": 0.5}),
            "does the seed reach",
        ),
        (
            lambda: ("The samples are blurred a lot", [0.3, 0.6, 0.4], {"below": 0.5}),
            "does not hold on every seed",
        ),
        (
            lambda: ("The samples are blurred a lot", [0.3, 0.31, 0.4], {"below": 100}),
            "says little",
        ),
        (lambda: 0.3, "three things"),
    ],
)

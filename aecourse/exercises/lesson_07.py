"""Exercises of lesson 07, What lies between two codes?"""

import math

from aecourse.exercises import (
    Exercise,
    Text,
    as_number,
    check_of_study,
    close,
    needs_gradient,
    require,
    require_close,
)

import torch
from torch.distributions import Normal, kl_divergence

# -- 1: the KL to another prior ----------------------------------------------------------------------------------------


def _check_kl(attempt, case):
    mu = case.values("B", "latent").requires_grad_()
    logvar = 0.7 * case.normal("B", "latent") - 0.5 + 2 * math.log(case.scale)
    m, s = (case.scale * case.number_between(*ends) for ends in ((-1.5, 1.5), (1.5, 3)))
    got = attempt(mu, logvar.requires_grad_(), m, s)
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor: summed over latents, mean over images.",
    )
    sigma, squared = (logvar / 2).exp(), logvar.exp() + (mu - m) ** 2
    each = kl_divergence(Normal(mu, sigma), Normal(m, s))

    def total(each):
        return each.sum(1).mean()

    right = total(each)
    require_close(
        got,
        right,
        [
            (
                total(kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0))),
                "That is the KL to N(0, 1): `m` and `s` have to enter.",
            ),
            (
                total(kl_divergence(Normal(m, s), Normal(mu, sigma))),
                "The wrong way round: that is KL(prior || approximate posterior). The average is "
                "taken over the *approximate posterior*, because the codes are samples of it.",
            ),
            (
                -right,
                "The sign: KL is never negative, and it is 0 when approximate posterior and prior "
                "are the same.",
            ),
            (each.mean(), "You averaged over the latents; the course sums over them."),
            (each.sum(), "You summed over the images as well: divide by their number."),
            (
                total(math.log(s) - logvar + squared / (2 * s**2) - 0.5),
                "`logvar` is the logarithm of the variance. The logarithm of sigma is half of it.",
            ),
            (
                total(math.log(s) - logvar / 2 + (logvar.exp() + mu**2) / (2 * s**2) - 0.5),
                "The prior's mean is missing: its distance from `mu` counts, (mu - m)^2.",
            ),
            (
                total(math.log(s) - logvar / 2 + (sigma + (mu - m) ** 2) / (2 * s**2) - 0.5),
                "The formula holds sigma^2, the variance, and exp(logvar / 2) is sigma itself.",
            ),
            (
                total(math.log(s) - logvar / 2 + (mu - m) ** 2 / (2 * s**2) - 0.5),
                "Codes are samples: the mean of (z - m)^2 is (mu - m)^2 plus the variance.",
            ),
            (
                total(logvar / 2 - math.log(s) + squared / (2 * s**2) - 0.5),
                "The two logarithms have each other's sign: it is log s - log sigma.",
            ),
            (
                total(math.log(s) - logvar / 2 + squared / s**2 - 0.5),
                "The squares are divided by *twice* the prior's variance.",
            ),
            (
                total(math.log(s) - logvar / 2 + squared / (2 * s) - 0.5),
                "The squares are divided by twice the prior's *variance*, and `s` is its standard "
                "deviation.",
            ),
            (
                total(each + 0.5),
                "For an approximate posterior equal to the prior you get half a nat per latent "
                "instead of 0: the constant -1/2 is missing.",
            ),
        ],
        f"The closed form gives {right.item():.4g} nats here; yours is {got.item():.4g}. "
        "Average log q(z) - log p(z) with z = mu + sigma * eps, term by term.",
    )
    gradients = needs_gradient(got, mu, logvar)
    require(
        all(map(close, gradients, torch.autograd.grad(right, (mu, logvar)))),
        "The number is right, but its gradient is not: no part of it may be detached.",
    )
    return "With m = 0 and s = 1 it is the lesson's formula. A learned prior (lesson 09 has another way) needs this one."


def kl_to_prior(mu, logvar, m, s):
    each = math.log(s) - logvar / 2 + (logvar.exp() + (mu - m) ** 2) / (2 * s**2) - 0.5
    return each.sum(dim=1).mean()


def _each(mu, logvar, m, s):
    return kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(m, s))


def _by_hand(logvar, squared, s, sign=1):
    return (sign * math.log(s) - logvar / 2 + squared / (2 * s**2) - 0.5).sum(1).mean()


kl = Exercise(
    "Write the KL from approximate posteriors `mu, logvar` (B, latent) to a prior N(m, s^2) with given numbers m and s, in nats: summed "
    "over latents, mean over images.",
    _check_kl,
    [
        "Write both densities: log N(z; m, s) = -log s - (z - m)^2 / (2 s^2) + a constant. The constants cancel.",
        "Average over z = mu + sigma * eps: the mean of (z - mu)^2 is sigma^2, and the mean of (z - m)^2 is "
        "sigma^2 + (mu - m)^2.",
        "log s - log sigma + (sigma^2 + (mu - m)^2) / (2 s^2) - 1/2, with log sigma = logvar / 2.",
    ],
    kl_to_prior,
    alternatives=[
        lambda mu, logvar, m, s: _each(mu, logvar, m, s).sum() / len(mu),
        lambda mu, logvar, m, s: kl_to_prior((mu - m) / s, logvar - 2 * math.log(s), 0.0, 1.0),
    ],
    wrong=[
        (lambda mu, logvar, m, s: kl_to_prior(mu, logvar, 0.0, 1.0), "have to enter"),
        (
            lambda mu, logvar, m, s: (
                kl_divergence(Normal(m, s), Normal(mu, (logvar / 2).exp())).sum(1).mean()
            ),
            "wrong way round",
        ),
        (lambda mu, logvar, m, s: _each(mu, logvar, m, s).mean(), "averaged over the latents"),
        (lambda mu, logvar, m, s: _each(mu, logvar, m, s).sum(), "summed over the images"),
        (lambda mu, logvar, m, s: -kl_to_prior(mu, logvar, m, s), "The sign"),
        (
            lambda mu, logvar, m, s: (_each(mu, logvar, m, s) - logvar / 2).sum(1).mean(),
            "half of it",
        ),
        (
            lambda mu, logvar, m, s: (
                (math.log(s) - logvar / 2 + (logvar.exp() + (mu - m) ** 2) / (2 * s) - 0.5)
                .sum(1)
                .mean()
            ),
            "standard deviation",
        ),
        (lambda mu, logvar, m, s: (_each(mu, logvar, m, s) + 0.5).sum(1).mean(), "constant -1/2"),
        (lambda mu, logvar, m, s: _by_hand(logvar, logvar.exp() + mu**2, s), "mean is missing"),
        (
            lambda mu, logvar, m, s: _by_hand(logvar, (logvar / 2).exp() + (mu - m) ** 2, s),
            "sigma itself",
        ),
        (lambda mu, logvar, m, s: _by_hand(logvar, (mu - m) ** 2, s), "plus the variance"),
        (
            lambda mu, logvar, m, s: _by_hand(-logvar, logvar.exp() + (mu - m) ** 2, s, -1),
            "each other's sign",
        ),
        (
            lambda mu, logvar, m, s: _by_hand(logvar, 2 * (logvar.exp() + (mu - m) ** 2), s),
            "*twice*",
        ),
        (
            lambda mu, logvar, m, s: _each(mu, logvar, m, s).detach().sum(1).mean(),
            "No gradient",
        ),
        (lambda mu, logvar, m, s: kl_to_prior(mu, logvar.detach(), m, s), "No gradient reaches"),
        (
            lambda mu, logvar, m, s: (
                kl_to_prior(mu, logvar, m, s).detach() + 0 * mu.sum() * logvar.sum()
            ),
            "No gradient reaches",
        ),
        (
            lambda mu, logvar, m, s: (
                kl_to_prior(mu, logvar, m, s) - (mu - mu.detach()).sum() * logvar.sum()
            ),
            "its gradient is not",
        ),
        (lambda mu, logvar, m, s: kl_to_prior(mu, logvar, m, s).item(), "as a tensor"),
        (lambda mu, logvar, m, s: _each(mu, logvar, m, s), "one number"),
        # right for the first inputs only
        (lambda mu, logvar, m, s: _each(mu, logvar, m, s).sum() / 6, "Right for inputs with B = 6"),
        (lambda mu, logvar, m, s: kl_to_prior(mu, logvar.clamp(-5, 5), m, s), "values around"),
    ],
)


# -- 2: four patients --------------------------------------------------------------------------------------------------

# Measured on test digits ("strokes", seed 0) with 784-400-20 after eight epochs: bce of a sampled code, bce of the mean
# code, KL, active latents; for each of the four ways of training.
CHARTS = {
    "A": (80.0, 79.4, 89.0, 20),
    "B": (364.2, 81.3, 4.2, 20),
    "C": (96.7, 87.9, 23.5, 20),
    "D": (205.1, 263.0, 0.0, 0),
}
TRUTH = {
    "A": "KL averaged over latents",
    "B": "no noise",
    "C": "healthy",
    "D": "recon averaged over pixels",
}


def patients():
    """The charts of four VAEs, as a table: what the correct terms are on test digits, whatever was trained on."""
    rows = [
        f"| {name} | {sampled:.0f} | {mean:.0f} | {nats:.1f} | {active} |"
        for name, (sampled, mean, nats, active) in CHARTS.items()
    ]
    return Text(
        "\n".join(
            [
                "| patient | error, sampled code (nats) | error, mean code (nats) | KL (nats) | active of 20 |",
                "|---|---|---|---|---|",
                *rows,
            ]
        )
    )


def _check_diagnosis(attempt):
    require(
        isinstance(attempt, dict) and set(attempt) == set(TRUTH),
        "Return a dict with an entry for A, B, C and D.",
    )
    known = set(TRUTH.values())
    for name, said in attempt.items():
        require(said is not ... and said is not None, f"Patient {name} is still waiting.")
        require(
            isinstance(said, str) and said in known,
            f"{said!r} is none of the four: {', '.join(sorted(known))}.",
        )
    require(len(set(attempt.values())) == 4, "Each diagnosis belongs to exactly one patient.")
    require(
        attempt["D"] == "recon averaged over pixels",
        "Look at D again: its code costs nothing and no latent is "
        "active. Which mistake makes the KL weigh 784 times too much?",
    )
    require(
        attempt["B"] == "no noise",
        "Look at B again: with the mean code it is as good as any, with a sampled code it "
        "falls apart. Its decoder has never seen the noise of the approximate posterior.",
    )
    require(
        attempt["C"] == "healthy",
        "A has the lower error, but health is the *sum* of error and KL: A's KL is larger than "
        "what it saves in error. Which mistake makes the KL weigh 20 times too little?",
    )
    return (
        "You read the terms, not the curve. Why is D worse with its mean code than with a sampled one? Posterior collapse: all its mean codes "
        "are 0, and samples of the prior in 20 dimensions, all that its decoder was trained on, lie far from 0."
    )


diagnosis = Exercise(
    "Match four trained VAEs, by their test-set terms, to: healthy, recon averaged over pixels, KL averaged over "
    "latents, no noise (z = mu in training).",
    _check_diagnosis,
    [
        "Each mistake changes the weight of one term or the noise. Ask for each: what would the network then neglect?",
        "A KL that weighs too much: the code collapses. A KL that weighs too little: codes get precise, at a high rate. "
        "No noise in training: the decoder cannot bear it in the test.",
        "Add error (sampled code) and KL: the lowest sum is the healthy one, because that sum is what it was trained on.",
    ],
    TRUTH,
    alternatives=[dict(reversed(TRUTH.items()))],
    wrong=[
        (
            TRUTH | {"A": "healthy", "C": "KL averaged over latents"},
            "larger than what it saves in error",
        ),
        (TRUTH | {"A": "recon averaged over pixels", "D": "KL averaged over latents"}, "Look at D"),
        (TRUTH | {"B": "healthy", "C": "no noise"}, "Look at B"),
        (TRUTH | {"B": "KL averaged over latents", "A": "no noise"}, "Look at B"),
        (TRUTH | {"A": "healthy"}, "exactly one patient"),
        (TRUTH | {"A": "fine"}, "none of the four"),
        (TRUTH | {"A": ...}, "still waiting"),
        ({"A": "healthy"}, "an entry for"),
    ],
)


# -- 3: the tighter bound ----------------------------------------------------------------------------------------------


def _check_tighter(attempt, case):
    k, n = case.size("k"), case.size("n")
    middle, wide = case.number_between(-400, 400), 4 * case.scale**0.5
    middle = -300 if case.number == 0 else middle
    log_w = middle + wide * (case.normal("k", "n") + 2 * case.normal("n"))
    got = as_number(attempt(log_w.clone()), "one number: the mean over images")
    log_w = log_w.double()
    over_samples, over_images = torch.logsumexp(log_w, 0), torch.logsumexp(log_w, 1)
    right = over_samples.mean() - math.log(k)
    require(
        math.isfinite(got),
        "Infinite or NaN: in single precision exp(-300) is 0 and exp(300) infinite. Take the largest "
        "out first, or use `torch.logsumexp`.",
    )
    require_close(
        got,
        right,
        [
            (
                log_w.mean(),
                "That is the average of the logarithms, the ELBO. The average belongs *inside* the "
                "logarithm.",
            ),
            (
                over_samples.mean(),
                "You summed over the samples and forgot to divide by their number: take off log k.",
            ),
            (
                over_samples.mean() - math.log(n),
                "You divided by the number of images; the samples are the first axis.",
            ),
            (
                over_images.mean() - math.log(n),
                "You averaged inside the logarithm over the images. Inside go the k samples of one "
                "image, along the first axis.",
            ),
            (
                torch.logsumexp(log_w.flatten(), 0) - math.log(k * n),
                "Each image has a logarithm of its own: average over samples inside, over images "
                "outside.",
            ),
            (
                log_w.amax(0).mean(),
                "The largest weight alone is an upper limit of what the average can be: the bound "
                "needs the average over all k samples.",
            ),
            (right * n, "You summed over the images; the course takes the mean."),
            (
                -right,
                "The sign: the bound lies below log p(x). Its negative is what one minimizes.",
            ),
            (
                over_samples.mean() + math.log(k),
                "A mean is the sum *divided* by k, so log k is taken off, not added.",
            ),
        ],
        f"The bound is {float(right):.5g} nats here; yours is {got:.5g}.",
        rtol=1e-5,
    )
    one = as_number(attempt(log_w[:1].to(case.dtype)), "one number: the mean over images")
    require_close(
        one,
        log_w[:1].mean(),
        otherwise="With one sample it should be the ELBO's estimate, `log_w.mean()`.",
        rtol=1e-5,
    )
    return "With k = 1 it is the ELBO, and it never falls as k grows. Papers that report log-likelihoods of VAEs use it."


def tighter_bound(log_w):
    k = len(log_w)
    return (torch.logsumexp(log_w, dim=0) - math.log(k)).mean()


def _by_the_largest(log_w):
    top = log_w.max(dim=0).values  # taken out, so that no exponential is 0 for all samples
    return (top + (log_w - top).exp().mean(dim=0).log()).mean()


tighter = Exercise(
    "From log weights `log_w` (k, n), k samples for each of n images, return the lower bound on log p(x) that averages the "
    "weights inside the logarithm, mean over images.",
    _check_tighter,
    [
        "Per image: the logarithm of the mean of `exp(log_w)` over the k samples. But exp(-300) is 0.",
        "`torch.logsumexp(log_w, dim=0)` is log(sum(exp(...))) without that accident.",
        "A mean is a sum divided by k, so take off log k. Then average over images.",
    ],
    tighter_bound,
    alternatives=[_by_the_largest, lambda log_w: log_w.double().exp().mean(0).log().mean()],
    wrong=[
        (lambda log_w: log_w.exp().mean(0).log().mean(), "Infinite or NaN"),
        (lambda log_w: log_w.mean(), "the ELBO"),
        (lambda log_w: torch.logsumexp(log_w, 0).mean(), "take off log k"),
        (
            lambda log_w: torch.logsumexp(log_w, 0).mean() - math.log(log_w.shape[1]),
            "number of images",
        ),
        (
            lambda log_w: torch.logsumexp(log_w, 1).mean() - math.log(log_w.shape[1]),
            "inside the logarithm over the images",
        ),
        (
            lambda log_w: torch.logsumexp(log_w.flatten(), 0) - math.log(log_w.numel()),
            "a logarithm of its own",
        ),
        (lambda log_w: log_w.amax(0).mean(), "largest weight alone"),
        (lambda log_w: tighter_bound(log_w) * log_w.shape[1], "summed over the images"),
        (lambda log_w: -tighter_bound(log_w), "The sign"),
        (lambda log_w: tighter_bound(log_w) + 2 * math.log(len(log_w)), "not added"),
        (lambda log_w: torch.logsumexp(log_w, 0) - math.log(len(log_w)), "one number"),
        (lambda log_w: (log_w + 300).exp().mean(0).log().mean() - 300, "Infinite or NaN"),
        (lambda log_w: torch.logsumexp(log_w, 0).mean() - math.log(5), "nats here; yours is"),
    ],
)


# -- 4: a study of one's own -------------------------------------------------------------------------------------------


def study():
    z = torch.linspace(-6, 6, 3001)
    dz, settings = z[1] - z[0], [0.1, 0.3, 1.0, 3.0]
    gaps = {"ours": [], "baseline": []}
    for noise in settings:  # the lesson's toy: x = z^2 / 2 plus noise, and x = 1
        log_joint = Normal(0, 1).log_prob(z) + Normal(z**2 / 2, noise).log_prob(torch.tensor(1.0))
        log_px = (log_joint.exp().sum() * dz).log()
        m, s = torch.cartesian_prod(torch.linspace(0, 2, 61), torch.logspace(-1.7, 0.3, 61)).T[
            :, :, None
        ]
        # approximate posteriors (3721, 1), each on the grid of codes
        one = Normal(m, s).log_prob(z)
        two = torch.logaddexp(one, Normal(-m, s).log_prob(z)) - math.log(2)
        for name, log_q in (("ours", one), ("baseline", two)):
            elbo = (log_q.exp() * (log_joint - log_q)).sum(1) * dz
            gaps[name].append((log_px - elbo.max()).item())
    return {
        "claim": "An approximate posterior with two modes closes the gap while the noise is small, and is not needed when it is large",
        "settings": settings,
        **gaps,
        "holds": lambda ours, baseline: (
            ours[0] - baseline[0] > 0.5 and ours[-1] - baseline[-1] < 0.05
        ),
    }


def _made(**changes):
    made = {
        "claim": "more components help the mixture until it passes the prior",
        "settings": [1, 10, 50],
        "ours": [60.0, 60.5, 60.2],
        "baseline": [30.0, 55.0, 71.0],
        "holds": lambda ours, baseline: baseline[0] < ours[0] and baseline[-1] > ours[-1],
    }
    return made | changes


own_study = Exercise(
    "Vary one thing in at least three steps (beta, latents, KL annealing, layers, the mixture's size), measure an autoencoder or "
    "a VAE against a baseline at each, and claim something that could have turned out false.",
    check_of_study("ours", "baseline"),
    [
        "Good questions: how many components does the mixture need? Does a smaller code have shallower valleys? From which "
        "depth on does KL annealing matter?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'ours' and 'baseline' one number per setting, and 'holds' a "
        "function of these two lists that is True when the claim is.",
        "`lambda ours, baseline: ours[0] > baseline[0] and ours[-1] < baseline[-1]` says: ours leads first and is behind last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="the baseline gains more from size than ours does",
            holds=lambda ours, baseline: baseline[-1] - baseline[0] > ours[-1] - ours[0] + 1,
        ),
        _made(
            claim="KL annealing changes no result by more than half a nat",
            baseline=[60.3, 60.2, 60.5],
            holds=lambda ours, baseline: max(abs(a - b) for a, b in zip(ours, baseline)) < 0.5,
        ),
    ],
    wrong=[
        (_made(holds=lambda ours, baseline: True), "cannot fail"),
        (_made(holds=lambda ours, baseline: min(ours) > 0), "cannot fail"),
        (_made(holds=lambda ours, baseline: ours[0] == 60), "exactly these numbers"),
        (_made(holds=lambda ours, baseline: baseline[0] < 40), "depend on the first list"),
        (_made(settings=[1, 50], ours=[60.0, 60.2], baseline=[30.0, 71.0]), "at least three"),
        (_made(holds=lambda ours, baseline: baseline[0] > ours[0]), "not true of what you found"),
        (_made(ours=[60.0, 60.5]), "one number per setting"),
        (_made(baseline=[float("nan"), 55.0, 71.0]), "NaN or infinity"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "the VAE wins"}, "a dict with the entries"),
    ],
)

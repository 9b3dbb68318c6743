"""Exercises of lesson 08, Can it imagine a face?"""

import math

from aecourse.exercises import (
    Exercise,
    as_tensor,
    check_of_study,
    close,
    needs_gradient,
    require,
    require_close,
)

import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

# -- 1: the loss, with a sigma ---------------------------------------------------------------------------------------------------


def _check_negative_elbo(attempt, case):
    shape, sigma = case.shape("B", 3, "H", "W"), case.scale * case.number_between(0.1, 0.5)
    x_hat, x = case.scale * case.pixels(*shape), case.scale * case.pixels(*shape)
    mu, logvar = case.normal("B", "latent"), case.normal("B", "latent")
    trained = [v.requires_grad_() for v in (x_hat, mu, logvar)]
    got = attempt(x_hat, x, mu, logvar, sigma)
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor without axes.",
    )
    error, numbers = ((x_hat - x) ** 2).sum() / len(x), x[0].numel()
    recon = error / (2 * sigma**2)
    prior, posterior = Normal(0.0, 1.0), Normal(mu, (logvar / 2).exp())
    kl = kl_divergence(posterior, prior).sum() / len(x)
    reverse_kl = kl_divergence(prior, posterior).sum() / len(x)
    kl_of_log_sigma = kl_divergence(Normal(mu, logvar.exp()), prior).sum() / len(x)
    right = recon + kl
    constant = (
        "You kept the Gaussian's constant: that is a negative ELBO, too, and trains the same. The "
        "lesson leaves it out, because sigma is fixed. Leave it out here, so that the numbers agree."
    )
    require_close(
        got,
        right,
        [
            (
                recon - kl,
                "The sign of the KL is wrong: you reward codes for running away from the prior.",
            ),
            (error + kl, "Sigma is not used: the squared error has to be divided by 2 sigma^2."),
            (
                2 * recon + kl,
                "A factor of 2 is missing: the Gaussian's exponent is -(x - x_hat)^2 / (2 sigma^2).",
            ),
            (
                error / (2 * sigma) + kl,
                "You divided by sigma; the Gaussian's exponent has sigma squared.",
            ),
            (
                recon / numbers + kl,
                f"You averaged the error over pixels. Sum, or the KL weighs {numbers} times too "
                "much.",
            ),
            (
                recon + kl / mu.shape[1],
                "You averaged the KL over the latents. Sum, or it weighs "
                f"{mu.shape[1]} times too little.",
            ),
            (right * len(x), "You summed over the batch: divide by the number of faces."),
            (
                recon * len(x) + kl,
                "The error is summed over the batch, the KL is not: divide the error, too, by the number of faces.",
            ),
            (
                recon + kl * len(x),
                "The KL is summed over the batch, the error is not: divide the KL, too, by the number of faces.",
            ),
            (
                -right,
                "This is the ELBO itself, to be maximized. A loss is minimized: return its negative.",
            ),
            (
                recon + kl_of_log_sigma,
                "You took logvar for the log of sigma. It is the log of the *variance*: sigma^2 = exp(logvar).",
            ),
            (
                recon + reverse_kl,
                "This is the reverse KL, from the prior to q. The ELBO has KL(q || prior), the mean under q.",
            ),
            (right + numbers * math.log(sigma * math.sqrt(2 * math.pi)), constant),
            (right + numbers * math.log(sigma), constant),
            (right + numbers * math.log(2 * math.pi) / 2, constant),
        ],
        f"For a random batch this gives {got.item():.4g} where {right.item():.4g} is expected: "
        "sums over features, means over the batch.",
    )
    gradients = needs_gradient(got, *trained)
    require(
        all(map(close, gradients, torch.autograd.grad(right, trained))),
        "The number is right, but its gradient is not: no part of it may be detached.",
    )
    return "Halve sigma, and the same KL weighs a quarter as much beside the error. That is beta by another name."


def gaussian_negative_elbo(x_hat, x, mu, logvar, sigma):
    # -log N(x; x_hat, sigma^2), less a constant
    recon = ((x_hat - x) ** 2).sum() / len(x) / (2 * sigma**2)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / len(x)
    return recon + kl


def _loss(change):
    """The loss, its terms changed: change(recon, kl, sigma, pixels per face, latents, faces)."""

    def loss(x_hat, x, mu, logvar, sigma):
        kl = gaussian_negative_elbo(x, x, mu, logvar, sigma)
        recon = gaussian_negative_elbo(x_hat, x, mu, logvar, sigma) - kl
        return change(recon, kl, sigma, x[0].numel(), mu.shape[1], len(x))

    return loss


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
            + kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
        ),
        lambda x_hat, x, mu, logvar, sigma: (
            -Normal(x_hat, sigma).log_prob(x).sum() / len(x)
            + Normal(x, sigma).log_prob(x).sum() / len(x)
            - 0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
        ),
    ],
    wrong=[
        (_loss(lambda recon, kl, *_: recon - kl), "sign of the KL"),
        (_loss(lambda recon, kl, s, *_: recon * 2 * s**2 + kl), "Sigma is not used"),
        (_loss(lambda recon, kl, *_: 2 * recon + kl), "factor of 2"),
        (_loss(lambda recon, kl, s, *_: recon * s + kl), "You divided by sigma"),
        (_loss(lambda recon, kl, s, pixels, *_: recon / pixels + kl), "averaged the error"),
        (_loss(lambda recon, kl, s, pixels, k, n: recon + kl / k), "averaged the KL"),
        (_loss(lambda recon, kl, s, pixels, k, n: n * (recon + kl)), "You summed over the batch"),
        (_loss(lambda recon, kl, s, pixels, k, n: n * recon + kl), "divide the error, too"),
        (_loss(lambda recon, kl, s, pixels, k, n: recon + n * kl), "divide the KL, too"),
        (_loss(lambda recon, kl, *_: -recon - kl), "the ELBO itself"),
        (
            lambda x_hat, x, mu, logvar, sigma: gaussian_negative_elbo(
                x_hat, x, mu, 2 * logvar, sigma
            ),
            "for the log of sigma",
        ),
        (
            lambda x_hat, x, mu, logvar, sigma: (
                gaussian_negative_elbo(x_hat, x, mu, logvar, sigma)
                - gaussian_negative_elbo(x, x, mu, logvar, sigma)
                + gaussian_negative_elbo(x, x, mu * (-logvar / 2).exp(), -logvar, sigma)
            ),
            "the reverse KL",
        ),
        (
            lambda x_hat, x, mu, logvar, sigma: (
                gaussian_negative_elbo(x, x, mu, logvar, sigma)
                - Normal(x_hat, sigma).log_prob(x).sum() / len(x)
            ),
            "the Gaussian's constant",
        ),
        (
            _loss(lambda recon, kl, s, pixels, *_: recon + kl + pixels * math.log(s)),
            "the Gaussian's constant",
        ),
        (_loss(lambda recon, kl, *_: (recon + kl).item()), "as a tensor"),
        (_loss(lambda recon, kl, *_: recon + kl.detach()), "No gradient reaches"),
        (_loss(lambda recon, kl, *_: recon + 2 * kl - kl.detach()), "its gradient is not"),
        (_loss(lambda recon, kl, s, p, k, n: (recon + kl) * n / 6), "Right for inputs with B = 6"),
        (_loss(lambda recon, kl, s, *_: recon * s**2 / max(s, 0.1) ** 2 + kl), "around 0.01"),
    ],
)


# -- 2: variations, with their labels --------------------------------------------------------------------------------------------


class _Known(nn.Module):
    """A VAE whose codes are known: mu and sigma are pixels times `unit`, of each face alone."""

    def __init__(self, latent, unit, dtype):
        super().__init__()
        self.latent, self.unit = latent, nn.Parameter(torch.tensor(unit, dtype=dtype))

    def encode(self, x):
        pixels = self.unit * x.flatten(1)
        mu, sigma = 9 * pixels[:, : self.latent], 0.1 * self.unit + pixels[:, -self.latent :]
        return mu, 2 * sigma.log()

    def decode(self, z):
        return 2 * z[:, :, None, None] + 1

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(mu + (logvar / 2).exp() * torch.randn_like(mu)), mu, logvar


def _check_variations(attempt, case):
    faces, latent, n = case.size("B"), case.size("latent", low=3), case.whole(300, 500)
    x, model = case.pixels("B", 3, "H", "W"), _Known(latent, case.scale, case.dtype)
    mu, logvar = (v.detach()[:, None].double() for v in model.encode(x))
    sigma, off = (logvar / 2).exp(), 6 / n**0.5  # six standard errors of a mean of n

    def noise_at(width):  # (faces, n, latent), in units of sigma
        out = attempt(model, x.clone(), n, width)
        shape = tuple(getattr(out, "shape", ()))
        require(
            isinstance(out, torch.Tensor) and shape == (faces * n, latent, 1, 1),
            f"For {faces} faces and n = {n} the result is `model.decode` of {faces * n} codes; yours "
            + (f"has shape {shape}." if shape else f"is a {type(out).__name__}."),
        )
        return (((as_tensor(out) - 1) / 2).view(faces, n, latent) - mu) / sigma

    def centered(eps):
        return bool((eps.mean(1).abs() < off).all())

    def of_size(std, bound=off):
        return bool((std.mean() - 1).abs() < 0.1 and ((std - 1).abs() < bound).all())

    eps = noise_at(1.0)
    in_turn = (mu + sigma * eps).view(n, faces, latent).transpose(0, 1)
    require(
        centered(eps) or not centered((in_turn - mu) / sigma),
        "The variations come in the order 1, 2, 3, 1, 2, 3, ...: labels repeated by `y.repeat_interleave(n)` would "
        "belong to other faces. Keep the n variations of a face together.",
    )
    require(
        eps.std(1).max() > 1e-3,
        "All n variations of a face are the same: each needs its own noise. Draw it in the shape of the repeated mu.",
    )
    require(centered(eps), "The variations of a face have to lie around its own mu.")
    std = eps.std(1)
    require(
        of_size(std) or not of_size(std / sigma[:, 0]),
        "Your standard deviation is sigma squared: logvar is the log of the *variance*. sigma = exp(logvar / 2).",
    )
    worst = std.flatten()[(std - 1).abs().argmax()]
    require(
        of_size(std),
        f"The standard deviation should be sigma for each latent of each face; for one of them yours is {worst:.3g} times sigma.",
    )
    require(
        eps.std(2).mean() > 0.3,
        "All latents of a code got the same noise: draw one number per latent.",
    )
    require(
        faces == 1 or not close(eps[0], eps[1], 1e-2),
        "All faces got the same noise: draw it in the shape of the repeated mu, one row for each variation.",
    )
    inside = 100 * (eps.abs() < 1).double().mean()
    require(
        abs(inside - 68.3) < 6,
        f"Of normal noise 68 % lies within one sigma; of yours {inside:.0f} %. Draw it by `torch.randn_like`.",
    )
    require(not close(noise_at(1.0), eps, 1e-2), "The same noise at every call: draw it anew.")
    width = case.number_between(2, 3)
    wide = noise_at(width) / width
    require(
        centered(wide),
        "`width` has to multiply sigma alone: at width 1 the variations lie around mu, at others not.",
    )
    require(
        of_size(wide.std(1)),
        f"`width` has to multiply sigma: at width {width:.2f} the standard deviation is "
        f"{width * wide.std(1).mean():.2f} times sigma.",
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


def _encoded_last(model, x, n, width):
    mu, logvar = model.encode(x.repeat_interleave(n, 0))
    return model.decode(Normal(mu, width * (logvar / 2).exp()).sample())


def _one_by_one(model, x, n, width):
    out = []
    for face in x:
        mu, logvar = model.encode(face[None])
        eps = torch.randn(n, mu.shape[1], dtype=mu.dtype)
        out.append(model.decode(mu + width * (logvar / 2).exp() * eps))
    return torch.cat(out)


def _in_turn(model, x, n, width):
    mu, logvar = model.encode(x.repeat(n, 1, 1, 1))
    return model.decode(mu + width * (logvar / 2).exp() * torch.randn_like(mu))


def _with(noise, power=0.5):
    """Variations whose noise is `noise(mu, n)`, of the repeated mu."""

    def drawn(model, x, n, width):
        mu, logvar = model.encode(x.repeat_interleave(n, 0))
        return model.decode(mu + width * (power * logvar).exp() * noise(mu, n))

    return drawn


def _one_noise(model, x, n, width):
    return variations(model, x, 1, width).repeat_interleave(n, 0)


def _fixed(mu, n):
    return torch.randn(mu.shape, generator=torch.Generator().manual_seed(0))


def _all_at_once(model, x, n, width):
    mu, logvar = model.encode(x.repeat_interleave(n, 0))
    return model.decode(width * (mu + (logvar / 2).exp() * torch.randn_like(mu)))


variation = Exercise(
    "Write variations(model, x, n, width): n variations of each face, the code's sigma stretched by width, a face's own ones together.",
    _check_variations,
    [
        "`mu, logvar = model.encode(x)`, then every row n times, then noise, then `model.decode`.",
        "`repeat_interleave(n, 0)` keeps the copies of a row together; `repeat(n, 1)` does not.",
        "`z = mu + width * (logvar / 2).exp() * torch.randn_like(mu)`, after the repetition: each copy needs its own noise.",
    ],
    variations,
    alternatives=[_variations_by_axis, _encoded_last, _one_by_one],
    wrong=[
        (_in_turn, "1, 2, 3, 1, 2, 3"),
        (_with(lambda mu, n: torch.randn_like(mu), power=1), "sigma squared"),
        (_one_noise, "are the same"),
        (
            lambda model, x, n, width: variations(model, x, n, 1),
            "`width` has to multiply sigma: at",
        ),
        (lambda model, x, n, width: variations(model, x, n, width**0.5), "`width` has to multiply"),
        (_all_at_once, "multiply sigma alone"),
        (lambda model, x, n, width: model.decode(model.encode(x)[0]), "codes; yours has shape"),
        (lambda model, x, n, width: model.encode(x.repeat_interleave(n, 0))[0], "model.decode"),
        (_with(lambda mu, n: torch.randn(len(mu), 1)), "All latents"),
        (_with(lambda mu, n: torch.randn(n, mu.shape[1]).repeat(len(mu) // n, 1)), "All faces got"),
        (_with(lambda mu, n: 12**0.5 * (torch.rand_like(mu) - 0.5)), "within one sigma"),
        (_with(_fixed), "at every call"),
    ],
)


# -- 3: a direction that moves one thing only ------------------------------------------------------------------------------------


def _check_direction(attempt, case):
    # codes in which two attributes go together: the old wear glasses more often
    n, latent = case.whole(2000, 4000), case.size("latent", 5, 9)
    old = (case.pixels(n) < case.number_between(0.4, 0.6)).to(case.dtype)
    often = case.number_between(0.1, 0.3)  # of the young: the share with glasses
    glasses = (case.pixels(n) < often + 0.55 * old).to(case.dtype)
    parts = case.values("latent", 3)  # what glasses add to a code, what age adds, and the rest
    design = torch.stack([glasses, old, torch.ones_like(old)], 1)
    z = design @ parts.T + 0.2 * case.values(n, "latent")
    d = as_tensor(attempt(z, glasses, old), (latent,), "one number per latent: a direction")
    require(bool(d.isfinite().all()), "The direction holds NaN or infinity: is a group empty?")
    along, aged, mean = torch.linalg.lstsq(parts.double(), d[:, None]).solution[:, 0].tolist()
    require(along > -0.1, "It points the wrong way: added to a code, it takes the glasses off.")
    require(
        along > 0.1,
        f"Added to a code, your direction hardly puts glasses on: it moves a face by {along:.2f} "
        "of the way from 0 to 1 of the attribute.",
    )
    little = 0.1 * along
    require(
        abs(aged) < little,
        f"Your direction puts glasses on *and* ages the face by {aged:.2f} of a lifetime: in these codes the old "
        "wear glasses more often, and their mean differs in both ways.",
    )
    require(
        abs(mean) < little,
        f"Your direction also holds {mean:.2f} times the code of a young face without glasses, which every code has "
        "in common. In a least-squares fit it needs a constant of its own.",
    )
    require(
        abs(along - 1) < 0.1,
        f"The direction is right, its length is not: added once it should move a face all the way, from 0 to 1 "
        f"of the attribute; yours moves it by {along:.2f}.",
    )
    require(
        close(d, parts[:, 0], 0.1),
        "It also moves latents that have to do with neither attribute.",
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
    alternatives=[
        _within_groups,
        lambda z, w, o: [float(v) for v in _within_groups(z, w, o)],
        lambda z, w, o: direction(z - z.mean(0), w - w.mean(), o - o.mean()),
    ],
    wrong=[
        (_plain_difference, "and* ages the face"),
        (_gram_schmidt, "and* ages the face"),
        (lambda z, w, o: -direction(z, w, o), "wrong way"),
        (lambda z, w, o: direction(z, w, o) / 2, "its length is not"),
        (lambda z, w, o: direction(z, w, o) / 20, "hardly puts glasses on"),
        (lambda z, w, o: direction(z, o, w), "hardly puts glasses on"),
        (lambda z, w, o: _plain_difference(z, w, o) / 4, "and* ages the face"),
        (lambda z, w, o: z[w == 1] - z[w == 1].mean(0), "one number per latent"),
        (
            lambda z, w, o: torch.linalg.lstsq(torch.stack([w, o], 1), z).solution[0],
            "a constant of its own",
        ),
        (lambda z, w, o: _within_groups(z, w, o).clamp(-9, 9), "values around 100"),
    ],
)


# -- 4: a small study ------------------------------------------------------------------------------------------------------------


def spherical_midpoints():
    settings, ours, baseline = [2, 8, 32, 128], [], []
    for latent in settings:
        torch.manual_seed(0)
        a, b = torch.randn(2, 2000, latent)  # two codes of the prior
        half = torch.cosine_similarity(a, b).arccos() / 2  # half of the angle between them
        straight, nearest = (a + b) / 2, a.norm(dim=1).quantile(0.01)
        baseline.append((straight.norm(dim=1) < nearest).double().mean())
        ours.append(((straight / half.cos()[:, None]).norm(dim=1) < nearest).double().mean())
    return {
        "claim": "With many latents most straight midpoints lie nearer to the center than 99 % of the prior's codes, and spherical ones do not",
        "settings": settings,
        "ours": ours,
        "baseline": baseline,
        "holds": lambda ours, baseline: ours[-1] < 0.1 and baseline[-1] > 0.8,
    }


def _made(**changes):
    made = {
        "claim": "PCA is ahead with few faces, and the VAE with many",
        "settings": [300, 1000, 3000],
        "ours": [19.2, 21.5, 22.4],
        "baseline": [20.6, 21.3, 21.7],
        "holds": lambda ours, baseline: ours[0] < baseline[0] and ours[-1] > baseline[-1],
    }
    return made | changes


study = Exercise(
    "A study of your own: vary one thing in at least three steps, measure the VAE and a baseline at each, and claim something that "
    "could have turned out false.",
    check_of_study("ours", "baseline"),
    [
        "Change one thing: sigma, the number of latents, the number of faces. Measure one thing: psnr, sharpness, a distance.",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'ours' and 'baseline' one number per setting, and 'holds' a "
        "function of these two lists that is True when the claim is.",
        "For example: 300, 1,000 and 3,000 faces, and PCA with as many numbers as baseline. "
        "`lambda ours, baseline: ours[0] < baseline[0] and ours[-1] > baseline[-1]` says: PCA leads first and is behind last.",
    ],
    spherical_midpoints,
    alternatives=[
        _made(),
        _made(
            claim="with a sigma of its own the VAE's PSNR is PCA's, to half a dB",
            ours=(20.4, 21.5, 21.9),
            holds=lambda ours, baseline: max(abs(a - b) for a, b in zip(ours, baseline)) < 0.5,
        ),
    ],
    wrong=[
        (_made(holds=lambda ours, baseline: True), "cannot fail"),
        (_made(holds=lambda ours, baseline: ours[0] == 19.2), "exactly these numbers"),
        (_made(holds=lambda ours, baseline: ours[0] < ours[-1]), "depend on the second list"),
        (_made(holds=lambda ours, baseline: ours[0] > baseline[0]), "not true of what you found"),
        (_made(ours=[19.2, 21.5]), "one number per setting"),
        (_made(settings=[300, 300, 3000]), "2 settings that differ"),
        (lambda: ("The samples are blurred", [0.3, 0.31, 0.4], {"below": 100}), "a dict with"),
    ],
)

"""Exercises of lesson 10, What if there is no encoder?"""

import math

from aecourse.exercises import (
    Exercise,
    as_number,
    as_truth,
    close,
    could_fail,
    needs_gradient,
    require,
    require_close,
)

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# -- 1: both losses, from logits -------------------------------------------------------------------


def _check_losses(attempt, case):
    case.size("B", 2)
    real = case.normal("B", 1).requires_grad_()
    fake = (case.normal("B", 1) - 0.5).requires_grad_()
    got = attempt(real, fake)
    require(
        isinstance(got, (tuple, list)) and len(got) == 2,
        "Return two numbers: the discriminator's loss, then the generator's.",
    )
    require(
        all(isinstance(part, torch.Tensor) and part.ndim == 0 for part in got),
        "Each loss is one number, as a tensor without axes: the mean over the batch.",
    )
    right = both_losses(real, fake)
    require_close(
        got[0],
        right[0],
        [
            (right[0] * len(real), "You summed over the batch; the course averages over it."),
            (
                right[0] / 2,
                "You averaged over real and fake together. The course adds the two means, so that "
                "a discriminator that guesses loses 2 log 2.",
            ),
            (
                both_losses(-real, -fake)[0],
                "Your discriminator is paid for being wrong: it should call the *real* ones real.",
            ),
            (
                F.softplus(-real).mean(),
                "Your discriminator never looks at the fakes: one that calls everything real would "
                "win.",
            ),
        ],
        f"The discriminator's loss is {right[0].item():.4g}; yours is {got[0].item():.4g}. It is "
        "-log D of the real ones plus -log(1 - D) of the fakes, D being the sigmoid of the logit.",
    )
    require_close(
        got[1],
        right[1],
        [
            (
                -F.softplus(fake).mean(),
                "That is the *saturating* loss, log(1 - D): right in theory, and flat just where "
                "the generator is bad. Minimize -log D instead.",
            ),
            (
                F.softplus(fake).mean(),
                "Your generator is on the discriminator's side: it is paid when its fakes are "
                "called fake.",
            ),
        ],
        f"The generator's loss, -log D of the fakes, is {right[1].item():.4g}; yours is "
        f"{got[1].item():.4g}.",
    )
    _same_gradients(got, right, real, fake)
    with torch.no_grad():
        real[0::2], fake[0::2], real[1::2], fake[1::2] = -200, -200, 200, 200
    got, right = attempt(real, fake), both_losses(real, fake)
    require(
        all(bool(part.isfinite()) for part in got),
        "For logits of -200 and 200 your loss is infinite or NaN, which ends a training. "
        "`softplus` and `logsigmoid` say the same for all logits.",
    )
    require(
        close(list(got), list(right)),
        f"For logits of -200 and 200 the losses are {right[0].item():.4g} and "
        f"{right[1].item():.4g}; yours are {got[0].item():.4g} and {got[1].item():.4g}. A clamp "
        "or an epsilon takes the gradient away, just where it is needed.",
    )
    _same_gradients(got, right, real, fake)
    return "As losses.discriminator_loss and losses.generator_loss of the course."


def _same_gradients(got, right, real, fake):
    for mine, other, logits in zip(got, right, ((real, fake), (fake,))):
        found, wanted = needs_gradient(mine, *logits), torch.autograd.grad(other, logits)
        require(
            close(torch.cat(found), torch.cat(wanted)),
            "The numbers are right, their gradients are not: nothing may be detached.",
        )


def both_losses(real, fake):
    # softplus(-l) = -log sigmoid(l)
    discriminator = F.softplus(-real).mean() + F.softplus(fake).mean()
    generator = F.softplus(-fake).mean()
    return discriminator, generator


def _by_cross_entropy(real, fake):
    cross = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones_like(fake), torch.zeros_like(fake)
    return cross(real, torch.ones_like(real)) + cross(fake, zeros), cross(fake, ones)


def _by_sigmoid(real, fake):
    d_real, d_fake = real.sigmoid(), fake.sigmoid()
    return -d_real.log().mean() - (1 - d_fake).log().mean(), -d_fake.log().mean()


def _by_clamped_sigmoid(real, fake):
    d_real, d_fake = (part.sigmoid().clamp(1e-7, 1 - 1e-7) for part in (real, fake))
    return -d_real.log().mean() - (1 - d_fake).log().mean(), -d_fake.log().mean()


def _safe_below_only(real, fake):  # finite for logits of -200, not for 200
    on_fakes = -(1 - fake.sigmoid()).log().mean()
    return on_fakes - F.logsigmoid(real).mean(), -F.logsigmoid(fake).mean()


def _sums(real, fake):
    return F.softplus(-real).sum() + F.softplus(fake).sum(), F.softplus(-fake).sum()


losses = Exercise(
    "Write both losses of the game from the discriminator's logits: `my_losses(real, fake)` "
    "returns the discriminator's loss, then the generator's non-saturating one. Mean over the "
    "batch.",
    _check_losses,
    [
        "D is the sigmoid of a logit l: the probability that the discriminator gives to 'real'. "
        "What is -log D, what is -log(1 - D)?",
        "-log sigmoid(l) = softplus(-l), and -log(1 - sigmoid(l)) = softplus(l). `F.softplus` is "
        "safe for all l.",
        "The discriminator: `F.softplus(-real).mean()` plus the same for the fakes with the other "
        "sign. The generator: the first formula, with `fake` in it.",
    ],
    both_losses,
    alternatives=[
        _by_cross_entropy,
        lambda real, fake: (
            -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean(),
            -F.logsigmoid(fake).mean(),
        ),
    ],
    wrong=[
        (_by_sigmoid, "infinite or NaN"),
        (_safe_below_only, "infinite or NaN"),
        (_by_clamped_sigmoid, "or an epsilon"),
        (lambda real, fake: both_losses(real, fake.detach()), "is detached"),
        (lambda real, fake: [loss.sum() / 6 for loss in _sums(real, fake)], "with B = 2"),
        (lambda real, fake: (both_losses(real, fake)[0], -F.softplus(fake).mean()), "saturating"),
        (
            lambda real, fake: (both_losses(real, fake)[0], F.softplus(fake).mean()),
            "on the discriminator's side",
        ),
        (lambda real, fake: (both_losses(-real, -fake)[0], real[0, 0]), "paid for being wrong"),
        (lambda real, fake: (F.softplus(-real).mean(), real[0, 0]), "never looks at the fakes"),
        (lambda real, fake: [v / 2 for v in both_losses(real, fake)], "over real and fake"),
        (_sums, "summed over the batch"),
        (lambda real, fake: both_losses(real, fake)[0], "two numbers"),
    ],
)


# -- 2: another gradient penalty -------------------------------------------------------------------


class _Quadratic(nn.Module):
    """A discriminator whose gradient at v is `curvature * v + gradient`; `seen`: what it got."""

    def __init__(self, curvature, gradient):
        super().__init__()
        self.curvature = nn.Parameter(gradient.new_tensor(curvature))
        self.gradient, self.seen = nn.Parameter(gradient), []

    def forward(self, v):
        v = v.flatten(1)
        self.seen.append(v.detach().clone())
        return 0.5 * self.curvature * v.pow(2).sum(1, keepdim=True) + v @ self.gradient[:, None]


def _check_penalty(attempt, case):
    shape = case.size("B"), case.size("C", 1, 4), case.size("H", 6), case.size("W", 6)
    real, fake, weight = case.values(*shape), case.values(*shape), case.number_between(0.5, 10)
    n, gradient = len(real), case.values(real[0].numel())
    length = gradient.norm()
    linear = _Quadratic(0.0, gradient)  # the same gradient everywhere
    got = attempt(linear, real, fake, weight)
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor without axes.",
    )
    require(linear.seen, "You never asked the discriminator.")
    right = weight * (length - 1) ** 2
    r1 = "That is R1: it pulls the length of the gradient to 0. This one pulls it to 1."
    pixels = "You took each pixel by itself. The length is that of an example's whole gradient."
    require_close(
        got,
        right,
        [
            (weight / 2 * length**2, r1),
            (weight * length**2, r1),
            (
                weight * (length**2 - 1) ** 2,
                "You compare the *squared* length with 1. Take the root first.",
            ),
            ((length - 1) ** 2, "`weight` is not used."),
            (
                weight * (length / n - 1) ** 2,
                f"Your gradients are {n} times too small, {n} being the batch: you differentiated "
                "the mean of the logits. Differentiate their *sum*: then each example gets its own "
                "gradient.",
            ),
            (weight * (gradient.abs() - 1).pow(2).mean(), pixels),
            (weight * (gradient.abs() - 1).pow(2).sum(), pixels),
            (
                weight * (n**0.5 * length - 1) ** 2,
                "You took one length for the whole batch. Each example has its own.",
            ),
            (
                weight * (length - 1).clamp(min=0) ** 2,
                "A gradient shorter than 1 costs nothing in yours. This penalty pulls it to 1 from "
                "both sides.",
            ),
            (n * right, "You summed over the batch: average over it."),
        ],
        f"For a gradient of constant length {length:.4g} and weight {weight:.4g} the penalty is "
        f"{right.item():.4g}; yours is {got.item():.4g}.",
        rtol=1e-3,
    )
    _check_points(attempt, linear, real, fake, weight)
    curved = _Quadratic(0.7, gradient)
    got = attempt(curved, real, fake, weight)
    lengths = (curved.curvature * torch.cat(curved.seen) + curved.gradient).norm(dim=1)
    right = weight * (lengths - 1).pow(2).mean()
    require_close(
        got,
        right,
        otherwise="The penalty is right if the gradient is the same everywhere, and not if it "
        "differs from point to point. Take each example's own length, then average.",
        rtol=1e-3,
    )
    require(
        got.requires_grad,
        "The number is right, but no gradient flows from it to the discriminator's weights: it "
        "would be logged and change nothing. `torch.autograd.grad` needs `create_graph=True`.",
    )
    wanted = torch.autograd.grad(right, curved.parameters())
    require(
        all(close(a, b, 1e-3) for a, b in zip(needs_gradient(got, curved), wanted)),
        "The number is right, its gradient for the weights is not.",
    )
    return (
        "R1 asks for a gradient of 0 at the data; this one for a gradient of length 1 all the way "
        "from fake to real."
    )


def _check_points(attempt, discriminator, real, fake, weight):
    """Each point is `share * a real one + (1 - share) * a fake`, of whichever pair."""
    n, examples = len(real), torch.cat([real, fake]).flatten(1).double()
    inverse, parts, shares = torch.linalg.pinv(examples), [], []
    for _ in range(2 + 60 // n):
        discriminator.seen.clear()
        attempt(discriminator, real, fake, weight)
        points = torch.cat(discriminator.seen).double()
        require(
            len(points) == n,
            f"The discriminator is to be asked at one point per pair, {n} here; you asked at "
            f"{len(points)}.",
        )
        part = (points @ inverse).view(n, 2, n)  # how much of each example is in each point
        share = part[:, 0].sum(1)  # 0 at the fake, 1 at the real one
        require(
            close(part.flatten(1) @ examples, points, 1e-3)
            and close(part.sum(2), torch.stack([share, 1 - share], 1), 1e-3)
            and close(part.abs().amax(2), part.sum(2).abs(), 1e-3),  # only one of each
            "Your points do not lie on the line between a real example and a fake. Draw one number "
            "per example, of shape (B, 1, 1, 1), for all of its pixels.",
        )
        parts.append(part)
        shares.append(share)
    share = torch.stack(shares)
    require(
        (share - share.round()).abs().max() > 1e-3,
        "You ask at the real or at the fake ones themselves. Ask at random points *between* the "
        "two of a pair.",
    )
    require(
        -1e-3 <= share.min() and share.max() <= 1.001,
        "Your points lie beyond the two ends: the share is between 0 and 1.",
    )
    require(
        n == 1 or share.std(1).min() > 1e-3,
        "All pairs got the same share. Draw one number per example.",
    )
    require(share.std(0).min() > 1e-3, "The same points at every call: draw them anew.")
    require(
        share.min() < 0.2 and share.max() > 0.8,
        f"Your shares run from {share.min():.2f} to {share.max():.2f}: parts of the line are never "
        "asked at.",
    )
    require(
        torch.cat(parts).abs().amax(0).min() > 0.02,
        "Some examples are never used: pair each real one with a fake.",
    )


def unit_gradient_penalty(discriminator, real, fake, weight):
    share = torch.rand(len(real), *[1] * (real.ndim - 1))  # one number per pair
    x = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return weight * (gradient.flatten(1).norm(dim=1) - 1).pow(2).mean()


def _variant(
    *,
    measure=lambda gradient: (gradient.norm(dim=1) - 1).pow(2).mean(),
    graph=True,
    mean=False,
    mix=lambda real, fake: fake.lerp(real, _share(real)),
):
    def attempt(discriminator, real, fake, weight):
        x = mix(real, fake).detach().requires_grad_()
        logit = discriminator(x).mean() if mean else discriminator(x).sum()
        (gradient,) = torch.autograd.grad(logit, x, create_graph=graph)
        return weight * measure(gradient.flatten(1))

    return attempt


def _share(real):
    return torch.rand(len(real), 1, 1, 1, dtype=real.dtype)


def _penalty_by_loop(discriminator, real, fake, weight):
    total = 0.0
    for a, b in zip(real, fake):
        x = torch.lerp(a, b, torch.rand(()).item()).requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(x[None]), x, create_graph=True)
        total = total + (gradient.norm() - 1) ** 2
    return weight * total / len(real)


penalty = Exercise(
    "Write WGAN-GP's penalty: `my_penalty(discriminator, real, fake, weight)` takes the gradient "
    "of the logit at one random point between each real example and its fake, and returns weight "
    "times (its length - 1) squared, mean over the batch.",
    _check_penalty,
    [
        "Start from R1 in step 3. Two things change: where the gradient is taken, and what its "
        "length is compared with.",
        "One share per pair: `torch.rand(len(real), 1, 1, 1)`. The point is "
        "`share * real + (1 - share) * fake`.",
        "`gradient.flatten(1).norm(dim=1)` is one length per example. Do not forget "
        "`create_graph=True`.",
    ],
    unit_gradient_penalty,
    alternatives=[
        _variant(),
        _variant(mix=lambda real, fake: fake[torch.randperm(len(fake))].lerp(real, _share(real))),
        _penalty_by_loop,
    ],
    wrong=[
        (_variant(measure=lambda g: g.pow(2).sum(1).mean()), "That is R1"),
        (_variant(measure=lambda g: (g.pow(2).sum(1) - 1).pow(2).mean()), "the root first"),
        (_variant(measure=lambda g: (g.abs() - 1).pow(2).mean()), "each pixel by itself"),
        (_variant(measure=lambda g: (g.norm(dim=1) - 1).relu().pow(2).mean()), "shorter than 1"),
        (_variant(measure=lambda g: (g.norm() - 1).pow(2)), "for the whole batch"),
        (_variant(measure=lambda g: (g.norm(dim=1).mean() - 1).pow(2)), "own length"),
        (_variant(mean=True), "differentiated the mean"),
        (_variant(graph=False), "create_graph"),
        (_variant(mix=lambda real, fake: real), "themselves"),
        (_variant(mix=lambda real, fake: fake.lerp(real, _share(real).round())), "themselves"),
        (_variant(mix=lambda real, fake: torch.cat([real, fake])), "one point per pair"),
        (_variant(mix=lambda real, fake: fake.lerp(real, torch.rand_like(real))), "one number per"),
        (_variant(mix=lambda real, fake: fake.lerp(real, torch.rand(1).to(real))), "same share"),
        (_variant(mix=lambda real, fake: fake.lerp(real, _share(real) / 2)), "never asked at"),
        (_variant(mix=lambda real, fake: fake.lerp(real, 2 * _share(real))), "beyond the two ends"),
        (
            _variant(mix=lambda real, fake: fake[:1].lerp(real, _share(real))),
            "Some examples are never used",
        ),
    ],
)


# -- 3: what is wrong with this generator? ---------------------------------------------------------


def _patients(case):
    """Name -> (train, test, fake, what is wrong), features (n, d); faces come in twelve kinds."""
    d = case.size("d", 7)
    middles = 3 * case.values(12, d)
    middles = middles[torch.cdist(middles[:1], middles)[0].argsort()]  # the first two are near

    def sample(n, kinds=12):
        return middles[case.wholes(0, kinds - 1, n)] + case.values(n, d)

    train, test = sample(case.size("n", 500, 700)), sample(300)
    copied = train[torch.randperm(len(train))[:300]]
    return {
        "an honest one": (train, test, sample(300), "fine"),
        "another honest one": (sample(500), sample(400), sample(250), "fine"),
        "one that draws a single face": (
            train,
            test,
            test[:1] + case.values(300, d) / 5,
            "collapsed",
        ),
        "one that draws two kinds of twelve": (train, test, sample(300, kinds=2), "collapsed"),
        "one that copies its training set": (train, test, copied, "copies"),
        "one that copies with a little noise": (
            train,
            test,
            copied + 0.02 * case.values(*copied.shape),
            "copies",
        ),
        "one whose faces lie far from all data": (
            train,
            test,
            sample(300) + 25 * case.scale,
            "off",
        ),
        "one that draws noise": (train, test, 12 * case.values(300, d), "off"),
    }


def _check_doctor(attempt, case):
    words = {"fine", "collapsed", "copies", "off"}
    answers = {}
    for name, (train, test, fake, wanted) in _patients(case).items():
        got = attempt(train.clone(), test.clone(), fake.clone())
        require(
            isinstance(got, str) and got in words,
            f"Return one of {', '.join(sorted(words))}; for {name} you return {got!r}.",
        )
        answers[name] = got, wanted
    said = {wanted: {got for got, w in answers.values() if w == wanted} for wanted in words}
    require(
        not all(got == "fine" for got, _ in answers.values()),
        "Every patient leaves healthy: your doctor measures nothing.",
    )
    require(
        said["fine"] != {"copies"},
        "Healthy generators are called copies. New faces lie *near* training faces too: compare "
        "with how near the test faces lie.",
    )
    require(
        "fine" not in said["copies"] or said["collapsed"] == {"fine"},
        "A generator that copies its training set passes as fine: its means, variances and kinds "
        "are perfect. Only the distance to the nearest *training* face gives it away.",
    )
    require(
        "fine" not in said["collapsed"],
        "A generator that draws few kinds of face passes as fine: each of its faces is good. "
        "Ask the other way round: does every *test* face have a generated one near it?",
    )
    require(
        said["off"] != {"collapsed"},
        "Faces far from all data are called collapsed: no test face has a generated one near it, "
        "but that is because they are not faces. Look at the distance from the fakes to the data "
        "first.",
    )
    for name, (got, wanted) in answers.items():
        require(got == wanted, f"{name[0].upper() + name[1:]}: you say {got!r}, it is {wanted!r}.")
    return (
        "Three distances, three questions: is it a face, is it a copy, is every kind there? No "
        "single number asks all three."
    )


def doctor(train, test, fake):
    # how near a new face lies to the training faces
    usual = torch.cdist(test, train).amin(1).median()
    to_train = torch.cdist(fake, train).amin(1).median()
    missed = torch.cdist(test, fake).amin(1)  # from each real face to the nearest fake
    if to_train > 2 * usual:
        return "off"
    if to_train < 0.3 * usual:
        return "copies"
    return "collapsed" if (missed > 2 * usual).float().mean() > 0.3 else "fine"


def _doctor_by_variance(train, test, fake):
    nearest = torch.cdist(fake, train).amin(1).median() / torch.cdist(test, train).amin(1).median()
    if nearest > 2:
        return "off"
    if nearest < 0.3:
        return "copies"
    return "collapsed" if fake.var(0).sum() < 0.7 * test.var(0).sum() else "fine"


def _doctor_by_moments(train, test, fake):
    gap, variance = (fake.mean(0) - test.mean(0)).pow(2).sum(), test.var(0).sum()
    if gap > variance or fake.var(0).sum() > 3 * variance:
        return "off"
    return "collapsed" if fake.var(0).sum() < 0.7 * variance else "fine"


def _doctor_of_one_scale(train, test, fake):
    to_train, missed = (
        torch.cdist(a, b).amin(1).median() for a, b in ((fake, train), (test, fake))
    )
    if to_train > 4:
        return "off"
    return "copies" if to_train < 0.6 else "collapsed" if missed > 4 else "fine"


def _doctor_without_coverage(train, test, fake):
    nearest = torch.cdist(fake, train).amin(1).median() / torch.cdist(test, train).amin(1).median()
    return "off" if nearest > 2 else "copies" if nearest < 0.3 else "fine"


def _doctor_by_coverage_alone(train, test, fake):
    usual = torch.cdist(test, train).amin(1).median()
    if torch.cdist(fake, train).amin(1).median() < 0.3 * usual:
        return "copies"
    missed = (torch.cdist(test, fake).amin(1) > 2 * usual).float().mean()
    return "collapsed" if missed > 0.3 else "fine"


def _doctor_who_fears_neighbors(train, test, fake):
    typical = torch.cdist(train, train).median()  # any near neighbor looks like a copy
    return "copies" if torch.cdist(fake, train).amin(1).median() < 0.5 * typical else "off"


diagnosis = Exercise(
    "What is wrong with this generator? Write `my_doctor(train, test, fake)` from features (n, d) "
    "of training faces, test faces and generated ones: return 'off' (not like the data), 'copies' "
    "(training faces by heart), 'collapsed' (few kinds), or 'fine'.",
    _check_doctor,
    [
        "All you need is `torch.cdist` and the distance to the nearest neighbor. From whom to "
        "whom? There are three useful directions.",
        "How near a test face lies to the training faces is your yardstick: a healthy generator's "
        "faces lie about as near.",
        "Far from the training faces: off. Far nearer than the yardstick: copies. Near enough, but "
        "many test faces have no generated one near them: collapsed.",
    ],
    doctor,
    alternatives=[_doctor_by_variance],
    wrong=[
        (lambda train, test, fake: "fine", "leaves healthy"),
        (_doctor_by_moments, "copies its training set passes"),
        (_doctor_of_one_scale, "but not for inputs with"),
        (_doctor_without_coverage, "few kinds of face passes"),
        (_doctor_by_coverage_alone, "called collapsed"),
        (_doctor_who_fears_neighbors, "called copies"),
        (lambda train, test, fake: ["fine"], "one of"),
    ],
)


# -- 4: a study of one's own -----------------------------------------------------------------------


def _check_study(attempt):
    said = attempt() if callable(attempt) else attempt
    wanted = {"claim", "without", "with", "holds"}
    require(
        isinstance(said, dict) and wanted <= set(said),
        f"A study is a dict with the entries {', '.join(sorted(wanted))}.",
    )
    claim, holds, runs = said["claim"], said["holds"], {}
    require(isinstance(claim, str) and len(claim.split()) >= 5, "Say the claim in a sentence.")
    for name in ("without", "with"):
        values = list(said[name]) if np.iterable(said[name]) else []
        require(
            len(values) >= 3,
            f"{name!r} has {len(values)} runs. GANs differ from seed to seed more than any other "
            "model of this course: three seeds or more.",
        )
        runs[name] = values = [as_number(value, f"numbers under {name!r}") for value in values]
        require(
            all(map(math.isfinite, values)),
            f"{name!r} holds NaN or infinity: a measurement is a finite number.",
        )
        require(
            len(set(values)) > 1 or values[0].is_integer(),
            f"All values of {name!r} are the same: does the seed reach the experiment?",
        )
    require(callable(holds), "'holds' is a function of one value without and one with the change.")

    def pairs(without, changed):
        return [
            as_truth(holds(a, b), "True or False from 'holds'") for a in without for b in changed
        ]

    found = pairs(*runs.values())
    require(
        any(found),
        "By your own measure the claim is true of no pair of runs. That is a result: say what is.",
    )
    require(
        all(found),
        f"It holds for {sum(found)} of {len(found)} pairs of runs: your seeds overlap. Claim less, "
        "or change more.",
    )

    could_fail(lambda without, changed: all(pairs(without, changed)), *runs.values())
    return f"Measured on several seeds, and it could have failed: {claim}"


def study():
    # how large a gradient a confident discriminator leaves to its generator
    def gap(loss_of, seed):
        torch.manual_seed(seed)
        logit = (torch.randn(500) - 6).requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(logit).mean(), logit)
        return gradient.abs().sum().item()

    return {
        "claim": "The non-saturating loss leaves a beaten generator 20 times the gradient",
        "without": [gap(lambda logit: -F.softplus(logit), seed) for seed in range(3)],
        "with": [gap(lambda logit: F.softplus(-logit), seed) for seed in range(3)],
        "holds": lambda without, with_it: with_it > 20 * without,
    }


def _made(**changes):
    return {
        "claim": "with noise on its inputs the discriminator keeps more modes alive",
        "without": [2, 1, 4],
        "with": [8, 7, 8],
        "holds": lambda without, with_it: with_it > without,
    } | changes


own_study = Exercise(
    "A study of your own: change one thing about a GAN, train three seeds or more without and with "
    "it, measure one number of each, and claim something that holds for every pair and could have "
    "failed.",
    _check_study,
    [
        "The ring trains in seconds: vary the size of the batch, the noise, the number of "
        "discriminator steps per generator step, the latent.",
        "Return a dict: 'claim' a sentence, 'without' and 'with' one number per seed, 'holds' a "
        "function of one number of each.",
        "`lambda without, with_it: with_it > without` says that every run with the change beats "
        "every run without it; `abs(with_it - without) < 1` says that it makes no difference "
        "of 1.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="averaged weights halve the distance to the data",
            without=[4.1, 3.8, 5.0],
            **{"with": [1.9, 1.7, 1.8]},
            holds=lambda a, b: b < 0.6 * a,
        ),
        _made(
            claim="the noise makes no difference of one mode",
            without=[7.5, 8.0, 7.6],
            **{"with": np.array([7.8, 7.7, 8.1])},
            holds=lambda a, b: abs(b - a) < 1,
        ),
    ],
    wrong=[
        (_made(holds=lambda a, b: True), "cannot fail"),
        (_made(holds=lambda a, b: b > 6), "does not depend on the first list"),
        (_made(holds=lambda a, b: a != b), "cannot fail"),
        (_made(without=[1.0, 2.0, 3.0], holds=lambda a, b: a in (1, 2, 3)), "exactly these"),
        (_made(without=[2, 8, 4]), "your seeds overlap"),
        (_made(without=[2]), "three seeds or more"),
        (_made(holds=lambda a, b: b < a), "true of no pair"),
        (_made(without=[1.5, 1.5, 1.5]), "does the seed reach"),
        (_made(without=[1.5, float("nan"), 2]), "NaN or infinity"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "noise helps"}, "a dict with the entries"),
    ],
)

"""Exercises of lesson 10, What if there is no encoder?"""

import math

from aecourse.exercises import Exercise, require

import torch
import torch.nn.functional as F

# -- 1: both losses, from logits ---------------------------------------------------------------------------------------


def _check_losses(attempt):
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(6, 1, generator=g), torch.randn(6, 1, generator=g) - 0.5
    got = attempt(real, fake)
    require(
        isinstance(got, (tuple, list)) and len(got) == 2,
        "Return two numbers: the discriminator's loss, then the generator's.",
    )
    require(
        all(isinstance(part, torch.Tensor) and part.ndim == 0 for part in got),
        "Each loss is one number, as a tensor without axes: the mean over the batch.",
    )
    discriminator, generator = map(float, got)

    def same(a, b):
        return math.isclose(a, float(b), rel_tol=1e-4)

    right, fool = F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()
    require(
        not same(discriminator, 6 * right),
        "You summed over the batch; the course averages over it.",
    )
    require(
        not same(discriminator, right / 2),
        "You averaged over real and fake together. The course adds the two means, so that "
        "a discriminator that guesses loses 2 log 2.",
    )
    require(
        not same(discriminator, F.softplus(real).mean() + F.softplus(-fake).mean()),
        "Your discriminator is paid for being wrong: it should call the *real* ones real.",
    )
    require(
        not same(discriminator, F.softplus(-real).mean()),
        "Your discriminator never looks at the fakes: one that calls everything real would win.",
    )
    require(
        same(discriminator, right),
        f"For a random batch the discriminator's loss is {discriminator:.4g} where {float(right):.4g} is expected: "
        "-log D of the real ones plus -log(1 - D) of the fakes, D being the sigmoid of the logit.",
    )
    require(
        not same(generator, -F.softplus(fake).mean()),
        "That is the *saturating* loss, log(1 - D): right in theory, and "
        "flat just where the generator is bad. Minimize -log D instead.",
    )
    require(
        not same(generator, F.softplus(fake).mean()),
        "Your generator is on the discriminator's side: it is paid when its fakes are called fake.",
    )
    require(
        same(generator, fool),
        f"For a random batch the generator's loss is {generator:.4g} where {float(fool):.4g} is "
        "expected: -log D of the fakes.",
    )
    sure = [float(v) for v in attempt(torch.full((2, 1), -200.0), torch.full((2, 1), -200.0))]
    require(
        all(map(math.isfinite, sure)),
        "For logits of -200 your loss is infinite or NaN: the sigmoid is exactly 0 there, "
        "and log 0 ends a training. `softplus` or `logsigmoid` say the same without passing through 0.",
    )
    require(
        math.isclose(sure[1], 200, rel_tol=1e-3),
        f"For logits of -200 the generator's loss is 200; yours is {sure[1]:.4g}. "
        "A clamp keeps it finite and takes the gradient away, just where it is needed.",
    )
    return "Equal to losses.discriminator_loss and losses.generator_loss. A discriminator that guesses has logits 0 and loses 2 log 2 = 1.386."


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


losses = Exercise(
    "Write both losses of the game from the discriminator's logits: `my_losses(real, fake)` returns the discriminator's loss, then the "
    "generator's non-saturating one. Mean over the batch.",
    _check_losses,
    [
        "D is the sigmoid of a logit l: the chance that the discriminator gives to 'real'. What is -log D, what is -log(1 - D)?",
        "-log sigmoid(l) = softplus(-l), and -log(1 - sigmoid(l)) = softplus(l). `F.softplus` is safe for all l.",
        "The discriminator: `F.softplus(-real).mean()` plus the same for the fakes with the other sign. The generator: the first "
        "formula, with `fake` in it.",
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
        (_by_clamped_sigmoid, "A clamp keeps it finite"),
        (lambda real, fake: (both_losses(real, fake)[0], -F.softplus(fake).mean()), "saturating"),
        (
            lambda real, fake: (both_losses(real, fake)[0], F.softplus(fake).mean()),
            "on the discriminator's side",
        ),
        (
            lambda real, fake: (both_losses(-real, -fake)[0], F.softplus(-fake).mean()),
            "paid for being wrong",
        ),
        (
            lambda real, fake: (F.softplus(-real).mean(), F.softplus(-fake).mean()),
            "never looks at the fakes",
        ),
        (
            lambda real, fake: (both_losses(real, fake)[0] / 2, F.softplus(-fake).mean()),
            "averaged over real and fake",
        ),
        (
            lambda real, fake: (
                F.softplus(-real).sum() + F.softplus(fake).sum(),
                F.softplus(-fake).sum(),
            ),
            "summed over the batch",
        ),
        (lambda real, fake: both_losses(real, fake)[0], "two numbers"),
    ],
)


# -- 2: another gradient penalty ---------------------------------------------------------------------------------------


def _check_penalty(attempt):
    g = torch.Generator().manual_seed(0)
    gradient = torch.randn(12, generator=g)
    real, fake = torch.randn(5, 3, 2, 2, generator=g), torch.randn(5, 3, 2, 2, generator=g)
    seen = []

    def linear(v):  # the same gradient everywhere
        seen.append(v.detach().flatten(1))
        return v.flatten(1) @ gradient[:, None]

    def nonlinear(v):  # its gradient is v
        return 0.5 * v.flatten(1).pow(2).sum(1, keepdim=True)

    def near(value, other):
        return math.isclose(float(value.detach()), float(other), rel_tol=1e-3)

    torch.manual_seed(0)
    got, wanted = attempt(linear, real, fake, 4.0), 4 * (gradient.norm() - 1) ** 2
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor without axes.",
    )
    require(seen, "You never asked the discriminator.")
    require(
        not near(got, 2 * gradient.pow(2).sum()) and not near(got, 4 * gradient.pow(2).sum()),
        "That is R1: it pulls the length of the gradient to 0. This one pulls it to 1.",
    )
    require(
        not near(got, 4 * (gradient.pow(2).sum() - 1) ** 2),
        "You compare the *squared* length with 1. Take the root first.",
    )
    require(not near(got, wanted / 4), "`weight` is not used.")
    require(
        not near(got, 4 * ((gradient / 5).norm() - 1) ** 2),
        "Your gradients are 5 times too small, 5 being the batch: you "
        "differentiated the mean of the logits. Differentiate their *sum*: then each example gets its own gradient.",
    )
    require(
        not near(got, 4 * (gradient.abs() - 1).pow(2).mean())
        and not near(got, 4 * (gradient.abs() - 1).pow(2).sum()),
        "You took each pixel's gradient for itself. The length is that of the whole gradient of one example.",
    )
    require(
        near(got, wanted),
        f"For a discriminator of constant gradient the penalty is {float(wanted):.4g}; yours is {float(got):.4g}: weight "
        "times the squared difference of the gradient's length to 1, mean over the batch.",
    )
    points, start, way = seen[-1], fake.flatten(1), (real - fake).flatten(1)
    require(
        points.shape == start.shape,
        f"The discriminator is to be asked at one point per pair, 5 here; you asked at {len(points)}.",
    )
    share = (points - start) / way  # 0 at the fake, 1 at the real one
    ends = (share - share.round()).abs().max() < 1e-3
    require(
        not ends,
        "You ask at the real or at the fake ones themselves. Ask at random points *between* the two of a pair.",
    )
    require(
        share.std(1).max() < 1e-2,
        "Your points do not lie on the line between real and fake: every pixel got its own share. Draw "
        "one number per example, of shape (B, 1, 1, 1).",
    )
    require(
        -1e-3 <= share.min() and share.max() <= 1.001,
        "Your points lie beyond the two ends: the share is between 0 and 1.",
    )
    require(
        share.mean(1).std() > 1e-2, "All pairs got the same share. Draw one number per example."
    )
    got, lengths = attempt(nonlinear, real, real, 4.0), real.flatten(1).norm(dim=1)
    require(
        near(got, 4 * (lengths - 1).pow(2).mean()),
        f"For a nonlinear discriminator and real = fake the penalty is "
        f"{float(4 * (lengths - 1).pow(2).mean()):.4g}; yours is {float(got.detach()):.4g}. Take each example's own length, then average.",
    )
    leaf = gradient.clone().requires_grad_()
    got = attempt(lambda v: v.flatten(1) @ leaf[:, None], real, fake, 4.0)
    require(
        got.requires_grad,
        "The number is right, but no gradient flows from it to the discriminator's weights: it would be logged "
        "and change nothing. `torch.autograd.grad` needs `create_graph=True`.",
    )
    (moved,) = torch.autograd.grad(got, leaf)
    require(
        torch.allclose(moved, 8 * (gradient.norm() - 1) * gradient / gradient.norm(), rtol=1e-3),
        "The number is right, its gradient for the weights is not.",
    )
    return "R1 asks for a gradient of 0 at the data; this one for a gradient of length 1 all the way from fake to real."


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
    mix=lambda real, fake: fake.lerp(real, torch.rand(len(real), 1, 1, 1)),
):
    def attempt(discriminator, real, fake, weight):
        x = mix(real, fake).detach().requires_grad_()
        logit = discriminator(x).mean() if mean else discriminator(x).sum()
        (gradient,) = torch.autograd.grad(logit, x, create_graph=graph)
        return weight * measure(gradient.flatten(1))

    return attempt


penalty = Exercise(
    "Write WGAN-GP's penalty: `my_penalty(discriminator, real, fake, weight)` asks for the gradient of the logit at one random point between "
    "each real example and its fake, and returns weight times (its length - 1) squared, mean over the batch.",
    _check_penalty,
    [
        "Start from R1 in step 3. Two things change: where the gradient is taken, and what its length is compared with.",
        "One share per pair: `torch.rand(len(real), 1, 1, 1)`. The point is `share * real + (1 - share) * fake`.",
        "`gradient.flatten(1).norm(dim=1)` is one length per example. Do not forget `create_graph=True`.",
    ],
    unit_gradient_penalty,
    alternatives=[
        _variant(),
        _variant(
            measure=lambda gradient: (
                (gradient.pow(2).sum(1).sqrt() - 1).square().sum() / len(gradient)
            )
        ),
    ],
    wrong=[
        (_variant(measure=lambda gradient: gradient.pow(2).sum(1).mean()), "That is R1"),
        (
            _variant(measure=lambda gradient: (gradient.pow(2).sum(1) - 1).pow(2).mean()),
            "the root first",
        ),
        (
            _variant(measure=lambda gradient: (gradient.abs() - 1).pow(2).mean()),
            "each pixel's gradient",
        ),
        (_variant(mean=True), "differentiated the mean"),
        (_variant(graph=False), "create_graph"),
        (_variant(mix=lambda real, fake: real), "themselves"),
        (
            _variant(
                mix=lambda real, fake: torch.where(torch.rand(len(real), 1, 1, 1) < 0.5, real, fake)
            ),
            "themselves",
        ),
        (_variant(mix=lambda real, fake: torch.cat([real, fake])), "one point per pair"),
        (
            _variant(mix=lambda real, fake: fake.lerp(real, torch.rand_like(real))),
            "every pixel got its own share",
        ),
        (_variant(mix=lambda real, fake: fake.lerp(real, torch.rand(1))), "same share"),
    ],
)


# -- 3: what is wrong with this generator? -----------------------------------------------------------------------------


def _patients():
    """Name -> (train, test, fake, what is wrong), features (n, 8); the sample has twelve modes, as faces come in kinds."""
    g = torch.Generator().manual_seed(0)
    middles = 3 * torch.randn(12, 8, generator=g)

    def sample(n, kinds=12):
        return middles[torch.randint(kinds, (n,), generator=g)] + torch.randn(n, 8, generator=g)

    train, test = sample(1000), sample(500)
    noisy = 0.02 * torch.randn(500, 8, generator=g)
    return {
        "an honest one": (train, test, sample(500), "fine"),
        "another honest one": (sample(800), sample(400), sample(300), "fine"),
        "one that draws a single face": (
            train,
            test,
            test[:1] + 0.2 * torch.randn(500, 8, generator=g),
            "collapsed",
        ),
        "one that draws two kinds of twelve": (train, test, sample(500, kinds=2), "collapsed"),
        "one that copies its training set": (
            train,
            test,
            train[torch.randperm(1000, generator=g)[:500]],
            "copies",
        ),
        "one that copies with a little noise": (
            train,
            test,
            train[torch.randperm(1000, generator=g)[:500]] + noisy,
            "copies",
        ),
        "one whose faces lie far from all data": (train, test, sample(500) + 25, "off"),
        "one that draws noise": (train, test, 12 * torch.randn(500, 8, generator=g), "off"),
    }


def _check_doctor(attempt):
    words = {"fine", "collapsed", "copies", "off"}
    answers = {}
    for name, (train, test, fake, wanted) in _patients().items():
        got = attempt(train.clone(), test.clone(), fake.clone())
        require(
            got in words,
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
        "A generator that copies its training set passes as "
        "fine: its means, variances and kinds are perfect. Only the distance to the nearest *training* face gives it away.",
    )
    require(
        "fine" not in said["collapsed"],
        "A generator that draws few kinds of face passes as fine: each of its faces is good. "
        "Ask the other way round: does every *test* face have a generated one near it?",
    )
    require(
        said["off"] != {"collapsed"},
        "Faces far from all data are called collapsed: no test face has a generated one near it, "
        "but that is because they are not faces. Look at the distance from the fakes to the data first.",
    )
    for name, (got, wanted) in answers.items():
        require(got == wanted, f"{name[0].upper() + name[1:]}: you say {got!r}, it is {wanted!r}.")
    return "Three distances, three questions: is it a face, is it a copy, is every kind there? No single number asks all three."


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


def _doctor_by_frechet(train, test, fake):
    gap = (fake.mean(0) - test.mean(0)).pow(2).sum()
    if gap > 100 or fake.var(0).sum() > 3 * test.var(0).sum():
        return "off"
    return "collapsed" if fake.var(0).sum() < 0.7 * test.var(0).sum() else "fine"


def _doctor_without_coverage(train, test, fake):
    nearest = torch.cdist(fake, train).amin(1).median() / torch.cdist(test, train).amin(1).median()
    return "off" if nearest > 2 else "copies" if nearest < 0.3 else "fine"


def _doctor_by_coverage_alone(train, test, fake):
    usual = torch.cdist(test, train).amin(1).median()
    if torch.cdist(fake, train).amin(1).median() < 0.3 * usual:
        return "copies"
    return (
        "collapsed"
        if (torch.cdist(test, fake).amin(1) > 2 * usual).float().mean() > 0.3
        else "fine"
    )


def _doctor_who_fears_neighbors(train, test, fake):
    typical = torch.cdist(train, train).median()  # any near neighbor looks like a copy
    return "copies" if torch.cdist(fake, train).amin(1).median() < 0.5 * typical else "off"


diagnosis = Exercise(
    "What is wrong with this generator? Write `my_doctor(train, test, fake)` from features (n, d) of training faces, test faces and "
    "generated ones: return 'off' (not like the data), 'copies' (training faces by heart), 'collapsed' (few kinds), or 'fine'.",
    _check_doctor,
    [
        "All you need is `torch.cdist` and the distance to the nearest neighbor. From whom to whom? There are three useful directions.",
        "How near a test face lies to the training faces is your yardstick: a healthy generator's faces lie about as near.",
        "Far from the training faces: off. Far nearer than the yardstick: copies. Near enough, but many test faces have no generated one "
        "near them: collapsed.",
    ],
    doctor,
    alternatives=[_doctor_by_variance],
    wrong=[
        (lambda train, test, fake: "fine", "leaves healthy"),
        (_doctor_by_frechet, "copies its training set passes"),
        (_doctor_without_coverage, "few kinds of face passes"),
        (_doctor_by_coverage_alone, "called collapsed"),
        (_doctor_who_fears_neighbors, "called copies"),
        (lambda train, test, fake: True, "one of"),
    ],
)


# -- 4: a study of one's own -------------------------------------------------------------------------------------------


def _check_study(attempt):
    said = attempt() if callable(attempt) else attempt
    wanted = {"claim", "without", "with", "holds"}
    require(
        isinstance(said, dict) and wanted <= set(said),
        f"A study is a dict with the entries {', '.join(sorted(wanted))}.",
    )
    require(
        isinstance(said["claim"], str) and len(said["claim"].split()) >= 5,
        "Say the claim in a sentence.",
    )
    runs = {}
    for name in ("without", "with"):
        runs[name] = [float(value) for value in said[name]]
        require(
            len(runs[name]) >= 3,
            f"{name!r} has {len(runs[name])} runs. GANs differ from seed to seed more than any other model of "
            "this course: three seeds or more.",
        )
        require(
            all(map(math.isfinite, runs[name])), f"{name!r} holds a value that is NaN or infinite."
        )
        require(
            len(set(runs[name])) > 1 or runs[name][0] == round(runs[name][0]),
            f"All values of {name!r} are the same: does the seed reach the experiment?",
        )
    holds, without, changed = said["holds"], runs["without"], runs["with"]
    require(callable(holds), "'holds' is a function of one value without and one with the change.")
    pairs = [bool(holds(a, b)) for a in without for b in changed]
    require(
        any(pairs),
        "By your own measure the claim is true of no pair of runs. That is a result: say what is.",
    )
    require(
        all(pairs),
        f"It holds for {sum(pairs)} of {len(pairs)} pairs of runs: your seeds overlap. Claim less, or change more.",
    )
    require(
        not all(holds(b, a) for a in without for b in changed),
        "Your claim is as true with the two groups exchanged. A claim that "
        "cannot fail says nothing.",
    )
    return f"Measured on several seeds, and it could have failed: {said['claim']}"


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
    "A study of your own: change one thing about a GAN, train three seeds or more without and with it, measure one number of each, "
    "and claim something that holds for every pair and could have failed.",
    _check_study,
    [
        "The ring trains in seconds: vary the size of the batch, the noise, the number of discriminator steps per generator step, the latent.",
        "Return a dict: 'claim' a sentence, 'without' and 'with' one number per seed, 'holds' a function of one number of each.",
        "`lambda without, with_it: with_it > without` says that every run with the change beats every run without it.",
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
    ],
    wrong=[
        (_made(holds=lambda a, b: True), "cannot fail"),
        (_made(without=[2, 8, 4]), "your seeds overlap"),
        (_made(without=[2]), "three seeds or more"),
        (_made(holds=lambda a, b: b < a), "true of no pair"),
        (_made(without=[1.5, 1.5, 1.5]), "does the seed reach"),
        (_made(without=[1.5, float("nan"), 2]), "NaN or infinite"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "noise helps"}, "a dict with the entries"),
    ],
)

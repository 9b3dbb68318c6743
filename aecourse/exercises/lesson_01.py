"""Exercises of lesson 01, What does copying the input teach?"""

from aecourse import losses
from aecourse.exercises import (
    Exercise,
    as_tensor,
    check_of_study,
    close,
    require,
    require_close,
)

import numpy as np
import torch
from torch import nn

# -- 1: one step of training -----------------------------------------------------------------------


def train_step(model, optimizer, x):
    optimizer.zero_grad()  # forget the gradient of the step before
    x_hat = model(x)  # forward
    loss = ((x_hat - x) ** 2).sum() / len(x)  # sum over features, mean over the batch
    loss.backward()  # the gradient of the loss for every weight
    optimizer.step()  # move every weight a little downhill


def _step_that(loss=losses.squared_error, zero=True, order="backward, step"):
    """A training step, right or with one thing wrong."""

    def step(model, optimizer, x):
        if zero:
            optimizer.zero_grad()
        value = loss(model(x), x)
        for action in order.split(", "):
            {"backward": value.backward, "step": optimizer.step, "zero": optimizer.zero_grad}[
                action
            ]()

    return step


def _after(step, case):
    """The weights of a small autoencoder after three calls of `step`, and what happened in them.

    Returns the weights before and after, flat, and a list of "backward" and "step" in the order of
    events.
    """
    batch, d, k = case.size("B"), case.size("d", low=4), case.size("k", high=3)
    model = nn.Sequential(nn.Linear(d, k, bias=False), nn.Linear(k, d, bias=False)).to(case.dtype)
    g, events = torch.Generator().manual_seed(case.number), []
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.4 * torch.randn(p.shape, generator=g))
            p.register_hook(lambda gradient: events.append("backward"))
    rate = 0.02 / d / case.scale**2  # the gradient grows with the square of the unit
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.5)
    optimizer.register_step_pre_hook(lambda *_: events.append("step"))
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    for _ in range(3):
        step(model, optimizer, case.scale * torch.randn(batch, d, generator=g).to(case.dtype))
    return start, nn.utils.parameters_to_vector(model.parameters()).detach(), events


FAULTS = [
    (
        _step_that(zero=False),
        "The gradient of the step before is still in there: PyTorch *adds* new gradients to old "
        "ones. Call `optimizer.zero_grad()` in each step.",
    ),
    (
        _step_that(lambda a, b: (a - b).pow(2).mean()),
        "You averaged over the features; the course sums over them. Your gradients are too small.",
    ),
    (
        _step_that(lambda a, b: (a - b).pow(2).sum()),
        "You summed over the batch as well; take the mean over the "
        "examples, or a larger batch means larger steps.",
    ),
    (
        _step_that(lambda a, b: -losses.squared_error(a, b)),
        "You walk uphill: the loss gets larger. Minimize the error itself, not its negative.",
    ),
    (
        _step_that(lambda a, b: (a - b).abs().sum() / len(b)),
        "That is the absolute error. Square the differences.",
    ),
    (
        _step_that(lambda a, b: a.pow(2).sum() / len(b)),
        "Your loss never looks at `x`: it asks the network for zeros. "
        "The target is the input itself.",
    ),
]


def _check_step(attempt, case):
    try:
        start, got, events = _after(attempt, case)
    except RuntimeError as error:
        require(
            "inplace operation" not in str(error),
            "You step before `backward`: the weights have moved, and the gradient at "
            "the old ones can no longer be computed. (PyTorch says: modified by an inplace "
            "operation.)",
        )
        raise
    require(bool(got.isfinite().all()), "After three steps some weights are NaN or infinite.")
    require("step" in events, "`optimizer.step()` was never called: it moves the weights.")
    if torch.equal(got, start):
        still = "No weight moved in three steps: "
        require("backward" in events, still + "there was no gradient. Call `loss.backward()`.")
        require(
            events[0] == "backward",
            still + "you step before `backward`, when there is no gradient yet.",
        )
        require(
            False,
            still + "when the optimizer stepped, the gradient was gone. `zero_grad` comes before "
            "`backward` or after `step`, not between them.",
        )
    right = _after(train_step, case)[1]
    if not close(got - start, right - start, 1e-3):
        for step, diagnosis in FAULTS:
            require(not close(got - start, _after(step, case)[1] - start, 1e-3), diagnosis)
        require(
            False,
            f"After three steps the weights are off by up to {float((got - right).abs().max()):.2g}"
            ". The order is zero_grad, forward, loss, backward, step; the loss is the squared "
            "error, summed over features, mean over the batch.",
        )
    return (
        "Five lines, and they train every model of this course. `fit` is this, with a schedule "
        "and a log."
    )


def _step_by_hand(model, optimizer, x):
    gradients = torch.autograd.grad(
        (model(x) - x).pow(2).flatten(1).sum(1).mean(), list(model.parameters())
    )
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        p.grad = gradient
    optimizer.step()


step = Exercise(
    "Write one training step of an autoencoder: `my_step(model, optimizer, x)` makes the "
    "reconstruction of the batch "
    "`x (B, d)` a little better. Squared error, summed over features, mean over the batch.",
    _check_step,
    [
        "Five things, in this order: forget the old gradient, forward, loss, backward, step.",
        "`optimizer.zero_grad()`, then `x_hat = model(x)`, then the loss, `loss.backward()`, "
        "`optimizer.step()`.",
    ],
    train_step,
    alternatives=[
        _step_by_hand,
        _step_that(),
        _step_that(zero=False, order="backward, step, zero"),
        _step_that(lambda a, b: (a.double() - b.double()).square().sum(1).mean()),
    ],
    wrong=[
        (_step_that(zero=False), "*adds* new gradients"),
        (_step_that(order="step, backward"), "step before `backward`"),
        (_step_that(zero=False, order="step, backward"), "the gradient at the old ones"),
        (_step_that(order="backward, zero, step"), "the gradient was gone"),
        (_step_that(zero=False, order="step, backward, zero"), "when there is no gradient yet"),
        (_step_that(order="backward"), "never called"),
        (_step_that(order="step"), "Call `loss.backward()`"),
        (_step_that(lambda a, b: (a - b).pow(2).mean()), "averaged over the features"),
        (_step_that(lambda a, b: (a - b).pow(2).sum()), "summed over the batch"),
        (_step_that(lambda a, b: a.pow(2).sum() / len(b)), "never looks at `x`"),
        (_step_that(lambda a, b: -losses.squared_error(a, b)), "uphill"),
        (_step_that(lambda a, b: (a - b).abs().sum() / len(b)), "absolute error"),
        (_step_that(lambda a, b: ((a - b) * (a - b).detach()).sum() / len(b)), "are off by"),
        (_step_that(lambda a, b: (a - b).pow(2).sum() / 6), "Right for inputs with B = 6"),
    ],
)


# -- 2: the best memorizer of all ------------------------------------------------------------------


def _check_memorizer(attempt, case):
    train, new = (case.scale * case.pixels("B", 1, "H", "W") for _ in range(2))
    made = attempt(train.clone())
    require(
        isinstance(made, (tuple, list)) and len(made) == 2 and all(map(callable, made)),
        "Return a pair of functions: `return encode, decode`.",
    )
    encode, decode = made
    z = encode(train.clone())
    as_tensor(z, (len(train), 1), "a code of one number for each image, a tensor (B, 1),")
    try:
        of_new = decode(encode(new.clone()))
    except (LookupError, ValueError) as error:
        require(
            False,
            f"On new images your pair raises a {type(error).__name__}. It must give something for "
            "each of them, whatever it is.",
        )
    of_new = as_tensor(of_new, new.shape, "images (B, 1, H, W) for new images, a tensor")
    x_hat = as_tensor(decode(z), train.shape, "images (B, 1, H, W) from `decode`, a tensor")
    require(
        not close(x_hat, new),
        "Your decoder remembers what the encoder saw last. It may know the *training images*; of "
        "the image at hand it gets the code, and nothing else.",
    )
    error = float((x_hat - train).pow(2).sum() / len(train))
    require(
        close(x_hat, train, 1e-5),
        f"The training images do not come back exactly: the error is {error:.3g}, and it can be 0.",
    )
    mixed = train[case.wholes(0, len(train) - 1, 5)]
    require_close(
        decode(encode(mixed.clone())),
        mixed,
        [
            (
                train[torch.arange(5) % len(train)],
                "Your code is the place in the *batch*. For the same images in another order the "
                "wrong ones come back: the code has to be a function of the image.",
            )
        ],
        "For five of the training images, in another order, others come back: the code has to be "
        "a function of each image alone.",
    )
    require(
        not close(of_new, new),
        "New images come back exactly, too. One number each cannot tell that: your pair keeps the "
        "images that `encode` is shown. It may keep the training images only.",
    )
    require(bool(of_new.isfinite().all()), "On new images your pair gives NaN or infinity.")
    error, mean = ((x - new).pow(2).sum() / len(new) for x in (of_new, train.mean(0)))
    return (
        "Training error 0, with one number and no training at all. On new images (of random "
        f"pixels) the error is {error:.1f}, where the mean training image has {mean:.1f}. So a "
        "training error of 0 proves nothing."
    )


def memorizer(train):
    def encode(x):  # the number of the nearest training image
        return torch.cdist(x.flatten(1), train.flatten(1)).argmin(1, keepdim=True).float()

    def decode(z):  # look it up
        return train[z[:, 0].long()]

    return encode, decode


def _by_gray(train):
    grays = train.flatten(1).double().sum(1)
    return (
        lambda x: x.flatten(1).double().sum(1, keepdim=True),
        lambda z: train[(z.double() - grays).abs().argmin(1)],
    )


def _by_dict(train, default=(0,)):
    numbers = {image.numpy().tobytes(): [i] for i, image in enumerate(train)}

    def encode(x):
        codes = [numbers.get(image.numpy().tobytes(), default) for image in x]
        if None in codes:
            raise KeyError("an image that was never seen")
        return np.array(codes)

    return encode, lambda z: train.numpy()[z[:, 0]]


def _by_batch(train):
    return lambda x: torch.arange(len(x))[:, None], lambda z: train[z[:, 0] % len(train)]


def _with_memory(train, every=False):
    seen = []

    def encode(x):
        seen[:] = [*seen, *x] if every else x
        return torch.arange(len(seen) - len(x), len(seen))[:, None]

    return encode, lambda z: torch.stack([seen[i] for i in z[:, 0]])


memory = Exercise(
    "Write the best memorizer there is. `my_memorizer(train)` gets a few training images (n, 1, H, "
    "W) and returns two "
    "functions: `encode` with a code of ONE number, (B, 1), and `decode`. Every training image has "
    "to come back exactly; new images give something, whatever it is. No training is needed.",
    _check_memorizer,
    [
        "The decoder may keep all training images. What is the least that the code has to say?",
        "The code can be the number of a training image: 0, 1, 2, ... For an image that is in the "
        "list, which one is it?",
        "`torch.cdist(x.flatten(1), train.flatten(1)).argmin(1)` is the number of the nearest "
        "training image.",
    ],
    memorizer,
    alternatives=[_by_gray, _by_dict],
    wrong=[
        (_by_batch, "place in the *batch*"),
        (_with_memory, "saw last"),
        (lambda train: _with_memory(train, every=True), "keeps the images"),
        (lambda train: _by_dict(train, default=None), "On new images your pair raises a KeyError"),
        (
            lambda train: (lambda x: x.flatten(1), lambda z: z.view(len(z), *train.shape[1:])),
            "one number for each image",
        ),
        (lambda train: memorizer(train[:6]), "Right for inputs with B = 6"),
        (
            lambda train: (
                lambda x: x.flatten(1).mean(1, keepdim=True),
                lambda z: train.mean(0).expand(len(z), -1, -1, -1),
            ),
            "do not come back exactly",
        ),
        (lambda train: memorizer(train)[0], "a pair of functions"),
    ],
)


# -- 3: what is wrong with this one? ---------------------------------------------------------------

WHY = {
    "memorizes": "It gives back its training images and nothing else: compare `test` with `train`.",
    "copies": "Out-of-distribution images come back as well: it learned nothing about its data.",
    "too narrow": "Even on its own training images most of the variance is lost.",
    "learned": "New images of its kind come back, others do not: that is what you want.",
}
# (what it is, what was said): what to look at instead
MIXED_UP = {
    ("learned", "memorizes"): "`test` is nearly always a little above `train`: ask for a wide gap.",
    ("copies", "memorizes"): "`test` is nearly always a little above `train`: ask for a wide gap.",
    ("too narrow", "memorizes"): "A large test error alone is not memorizing: look at `train`.",
}


def _fractions(kind, case):
    """Fraction of variance unexplained of training, test and out-of-distribution images."""
    number = case.number_between
    if kind == "memorizes":
        return number(0, 0.15), number(0.6, 1.2), number(0.85, 1.6)
    if kind == "too narrow":
        train = number(0.6, 0.95)
        return train, train * number(1, 1.04), number(0.97, 1.1)
    train = number(0.0004, 0.08) if kind == "copies" else number(0.02, 0.16)
    ood = train + number(0.01, 0.15) if kind == "copies" else number(0.85, 1.6)
    return train, train * number(1, 1.25), ood


def _check_diagnosis(attempt, case):
    for _ in range(10):
        for kind in WHY:
            numbers = [float(f"{number:.2g}") for number in _fractions(kind, case)]
            word = attempt(*numbers)
            require(
                isinstance(word, str) and word in WHY,
                f"Answer with one of {', '.join(map(repr, WHY))}; you said {word!r}.",
            )
            train, test, ood = numbers
            require(
                word == kind,
                f"train = {train}, test = {test}, ood = {ood}: you say {word!r}, but it is "
                f"{kind!r}. {MIXED_UP.get((kind, word), WHY[kind])}",
            )
    return (
        "Forty of forty. Three numbers tell four networks apart; the training error alone tells "
        "none."
    )


def diagnose(train, test, ood):
    if train > 0.4:
        return "too narrow"  # not even its own images come back
    if test > 3 * train and test > 0.4:
        return "memorizes"  # its own do, others of their kind do not
    if ood < 0.4:
        return "copies"  # everything does
    return "learned"


def _diagnose_by_train(train, test, ood):
    return "too narrow" if train > 0.4 else "copies" if ood < 0.4 else "learned"


def _diagnose_without_ood(train, test, ood):
    return "too narrow" if train > 0.4 else "memorizes" if test > 0.4 else "learned"


def _diagnose_any_gap(train, test, ood):
    return (
        "too narrow"
        if train > 0.4
        else "copies"
        if ood < 0.4
        else "memorizes"
        if test > train
        else "learned"
    )


def _diagnose_by_test(train, test, ood):
    return "memorizes" if test > 0.4 else "copies" if ood < 0.4 else "learned"


diagnosis = Exercise(
    "Of a trained autoencoder you know three numbers: the fraction of variance unexplained "
    "(0: perfect, 1: as bad as the mean image) on its training images, on test images, and on "
    "out-of-distribution images (of another kind). "
    'Return "memorizes", "copies", "too narrow" or "learned".',
    _check_diagnosis,
    [
        "Ask one thing at a time. First: do its own training images come back?",
        "If they do: do test images? If they do as well: do out-of-distribution images?",
        '`if train > 0.4: return "too narrow"`, and go on in the same way.',
    ],
    diagnose,
    alternatives=[
        lambda train, test, ood: (
            "too narrow"
            if train > 0.5
            else "memorizes"
            if test - train > 0.3
            else "copies"
            if ood - test < 0.2
            else "learned"
        )
    ],
    wrong=[
        (_diagnose_by_train, "you say 'learned', but it is 'memorizes'. It gives back"),
        (_diagnose_without_ood, "Out-of-distribution images come back as well"),
        (_diagnose_any_gap, "wide gap"),
        (_diagnose_by_test, "A large test error alone"),
        (lambda train, test, ood: "overfits", "Answer with one of"),
        (lambda train, test, ood: "learned", "you say 'learned', but it is"),
    ],
)


# -- 4: a study of one's own -----------------------------------------------------------------------


def study():
    from aecourse.data import Batches
    from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
    from aecourse.training import fit, set_seed

    def reconstruct(model, x):
        return losses.squared_error(model(x), x)

    set_seed(0)
    mix, unexplained = 1.5 * torch.randn(3, 10), []
    x, new = (
        torch.tanh(torch.randn(2000, 3) @ mix),
        torch.tanh(torch.randn(1000, 3) @ mix),
    )  # 10 numbers, made of 3
    for k in (1, 2, 3, 5):
        model = Autoencoder(
            mlp_encoder((10,), [64], k, activation=nn.GELU),
            mlp_decoder(k, [64], (10,), activation=nn.GELU, final=None),
        )
        fit(model, reconstruct, Batches(x), 15, lr=1e-2, progress=False)
        with torch.no_grad():
            unexplained.append(
                (reconstruct(model, new) / (new - new.mean(0)).pow(2).sum(1).mean()).item()
            )
    return {
        "claim": "From the second to the third number much is gained, to the fifth little",
        "settings": [1, 2, 3, 5],
        "unexplained": unexplained,
        "holds": lambda unexplained: (
            unexplained[1] - unexplained[2] > 3 * (unexplained[2] - unexplained[3])
            and unexplained[1] - unexplained[2] > 0.05
        ),
    }


def _made(**changes):
    made = {
        "claim": "A code twice as large halves the unexplained variance",
        "settings": [2, 4, 8],
        "unexplained": [0.6, 0.28, 0.11],
        "holds": lambda unexplained: all(
            b < 0.6 * a for a, b in zip(unexplained, unexplained[1:], strict=False)
        ),
    }
    return made | changes


own_study = Exercise(
    "Vary one thing in at least three steps: the code size, the number of variables behind the "
    "data, the noise on the data, the number of training images. Measure on unseen data the "
    "fraction of variance unexplained, and claim something that could have turned out false.",
    check_of_study("unexplained", what="fraction of variance unexplained", least=0, most=20),
    [
        "Good questions: how does the best code size change with the noise on the data? From how "
        "many images on does the network generalize?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'unexplained' one fraction for each "
        "setting, 'holds' a function of "
        "`unexplained` that is True when the claim is.",
        "`lambda unexplained: unexplained[0] > 2 * unexplained[-1]` says: at the first setting it "
        "is more than twice that at the last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="The second step gains less than the first one did",
            holds=lambda unexplained: (
                unexplained[0] - unexplained[1] > unexplained[1] - unexplained[2] > 0
            ),
        ),
        _made(  # nothing was found, and that is said
            claim="The fraction of variance unexplained hardly changes",
            unexplained=np.array([0.31, 0.30, 0.29], dtype=np.float32),
            holds=lambda unexplained: max(unexplained) - min(unexplained) < 0.05,
        ),
    ],
    wrong=[
        (_made(holds=lambda unexplained: min(unexplained) >= 0), "cannot fail"),
        (_made(holds=lambda unexplained: True), "cannot fail"),
        (_made(holds=lambda unexplained: unexplained == [0.6, 0.28, 0.11]), "exactly these"),
        (_made(settings=[2, 8], unexplained=[0.6, 0.1]), "at least three"),
        (_made(unexplained=[0.6, 0.3]), "one fraction of variance unexplained per setting"),
        (_made(unexplained=[31.5, 14.7, 5.8]), "above 20"),
        (_made(holds=lambda unexplained: unexplained[0] < unexplained[-1]), "not true of what"),
        (_made(unexplained=[0.5, 0.5, 0.5]), "same numbers over and over"),
        (_made(claim="smaller"), "in a sentence"),
        ({"claim": "A larger code is better"}, "A study is a dict"),
    ],
)

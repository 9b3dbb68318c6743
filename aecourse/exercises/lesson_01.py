"""Exercises of lesson 01, What does copying the input teach?"""

import math

from aecourse import losses
from aecourse.exercises import Exercise, require

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


def _after(step):
    """A small autoencoder after three calls of `step`.

    Returns its weights after and before, the count of optimizer steps, whether gradients remain.
    """
    g = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 5))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.4 * torch.randn(p.shape, generator=g))
    start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.004)
    losses.squared_error(
        model(torch.ones(3, 5)), torch.ones(3, 5)
    ).backward()  # what an earlier step left behind
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    for _ in range(3):
        step(model, optimizer, torch.randn(4, 5, generator=g))
    gradients = any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    return (
        torch.cat([p.detach().flatten() for p in model.parameters()]),
        start,
        len(steps),
        gradients,
    )


FAULTS = [
    (
        _step_that(zero=False),
        "The gradient of the step before is still in there: PyTorch *adds* new gradients to old "
        "ones. Call `optimizer.zero_grad()` before `backward`.",
    ),
    (
        _step_that(lambda a, b: (a - b).pow(2).mean()),
        "You averaged over the features; the course sums over them. Your "
        "steps are 5 times too small here.",
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


def _check_step(attempt):
    right = _after(train_step)[0]
    try:
        got, start, steps, gradients = _after(attempt)
    except RuntimeError as error:
        require(
            "inplace operation" not in str(error),
            "You step before `backward`: the weights have moved, and the gradient at "
            "the old ones can no longer be computed. (PyTorch says: modified by an inplace "
            "operation.)",
        )
        raise
    require(bool(got.isfinite().all()), "After three steps some weights are NaN or infinite.")
    if torch.equal(got, start):
        require(steps, "No weight moved in three steps: `optimizer.step()` was never called.")
        require(
            gradients,
            "No weight moved in three steps: when the optimizer stepped, the gradient was gone. "
            "`zero_grad` "
            "comes before `backward`, not between `backward` and `step`.",
        )
        require(
            False,
            "No weight moved in three steps: you step before `backward`, when there is no gradient "
            "yet.",
        )
    if torch.allclose(got, right, rtol=1e-4, atol=1e-6):
        return (
            "Five lines, and they train every model of this course. `fit` is this, with a schedule "
            "and a log."
        )
    for step, diagnosis in FAULTS:
        require(not torch.allclose(got, _after(step)[0], rtol=1e-4, atol=1e-6), diagnosis)
    require(
        False,
        f"After three steps the weights are off by up to {float((got - right).abs().max()):.2g}. "
        "The order is "
        "zero_grad, forward, loss, backward, step; the loss is the squared error, summed over "
        "features, "
        "mean over the batch.",
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
    alternatives=[_step_by_hand, _step_that()],
    wrong=[
        (_step_that(zero=False), "*adds* new gradients"),
        (_step_that(order="step, backward"), "step before `backward`"),
        (_step_that(zero=False, order="step, backward"), "the gradient at the old ones"),
        (_step_that(order="backward, zero, step"), "the gradient was gone"),
        (_step_that(order="backward"), "never called"),
        (_step_that(lambda a, b: (a - b).pow(2).mean()), "averaged over the features"),
        (_step_that(lambda a, b: (a - b).pow(2).sum()), "summed over the batch"),
        (_step_that(lambda a, b: a.pow(2).sum() / len(b)), "never looks at `x`"),
        (_step_that(lambda a, b: -losses.squared_error(a, b)), "uphill"),
    ],
)


# -- 2: the best memorizer of all ------------------------------------------------------------------


def _some_images(n, seed):
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    cx, cy, width = (
        low + (high - low) * torch.rand(n, 1, 1, generator=g)
        for low, high in ((3, 9), (3, 9), (1, 3))
    )
    return torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2))[
        :, None
    ]  # blobs (n, 1, 12, 12)


def _check_memorizer(attempt):
    train, new = _some_images(10, 0), _some_images(200, 1)
    made = attempt(train.clone())
    require(
        isinstance(made, (tuple, list)) and len(made) == 2 and all(map(callable, made)),
        "Return a pair of functions: `return encode, decode`.",
    )
    encode, decode = made
    z = encode(train.clone())
    require(
        isinstance(z, torch.Tensor) and tuple(z.shape) == (10, 1),
        "The code is to be one number for each image: a tensor of shape (B, 1). "
        f"Yours has shape {tuple(getattr(z, 'shape', ()))} for 10 images.",
    )
    encode(new.clone())
    x_hat = decode(z)
    require(
        isinstance(x_hat, torch.Tensor)
        and tuple(x_hat.shape) in ((10, 1, 12, 12), (200, 1, 12, 12)),
        "`decode` gives images (B, 1, H, W); yours has shape "
        f"{tuple(getattr(x_hat, 'shape', ()))}.",
    )
    require(
        len(x_hat) == 10 and not _same(x_hat, new[:10]),
        "Your decoder remembers what the encoder saw last. It may know the *training images*; of "
        "the image at hand "
        "it gets the code, and nothing else.",
    )
    require(
        _same(x_hat, train),
        "The training images do not come back exactly: the error is "
        f"{float(losses.squared_error(x_hat.float(), train)):.3g}, and it can be 0.",
    )
    mixed = train[[7, 2, 9, 0, 2]]
    require(
        _same(decode(encode(mixed.clone())), mixed),
        "Your code is the place in the *batch*. For the same images in another order the wrong "
        "ones come back: "
        "the code has to be a function of the image.",
    )
    x_hat = decode(encode(new.clone()))
    require(
        tuple(x_hat.shape) == tuple(new.shape) and bool(x_hat.isfinite().all()),
        "On new images your pair must give something too, whatever it is: one image for each.",
    )
    error, mean = (
        losses.squared_error(x_hat.float(), new),
        losses.squared_error(train.mean(0).expand_as(new), new),
    )
    return (
        "Training error 0, with one number and no training at all. On new images the error is "
        f"{error:.1f}, where the "
        f"mean training image has {mean:.1f}. So a training error of 0 proves nothing."
    )


def _same(a, b):
    return a.shape == b.shape and bool(torch.allclose(a.float(), b, atol=1e-4))


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


def _by_batch(train):
    return lambda x: torch.arange(float(len(x)))[:, None], lambda z: train[
        z[:, 0].long() % len(train)
    ]


def _with_memory(train):
    seen = {}

    def encode(x):
        seen["x"] = x
        return torch.zeros(len(x), 1)

    return encode, lambda z: seen["x"][: len(z)]


memory = Exercise(
    "Write the best memorizer there is. `my_memorizer(train)` gets a few training images (n, 1, H, "
    "W) and returns two "
    "functions: `encode` with a code of ONE number, (B, 1), and `decode`. Every training image has "
    "to come back exactly. "
    "No training is needed.",
    _check_memorizer,
    [
        "The decoder may keep all training images. What is the least that the code has to say?",
        "The code can be the number of a training image: 0, 1, 2, ... For an image that is in the "
        "list, which one is it?",
        "`torch.cdist(x.flatten(1), train.flatten(1)).argmin(1)` is the number of the nearest "
        "training image.",
    ],
    memorizer,
    alternatives=[_by_gray],
    wrong=[
        (_by_batch, "place in the *batch*"),
        (_with_memory, "saw last"),
        (
            lambda train: (lambda x: x.flatten(1), lambda z: z.view(-1, 1, 12, 12)),
            "one number for each image",
        ),
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

PATIENTS = [  # training, test, out-of-distribution images: fraction unexplained
    (0.02, 0.93, 1.10, "memorizes"),
    (0.001, 0.61, 0.85, "memorizes"),
    (0.10, 0.70, 1.30, "memorizes"),
    (0.02, 0.03, 0.05, "copies"),
    (0.0004, 0.0005, 0.001, "copies"),
    (0.06, 0.06, 0.10, "copies"),
    (0.82, 0.83, 1.02, "too narrow"),
    (0.64, 0.66, 0.97, "too narrow"),
    (0.93, 0.93, 0.99, "too narrow"),
    (0.10, 0.12, 0.99, "learned"),
    (0.05, 0.06, 1.60, "learned"),
    (0.15, 0.18, 0.90, "learned"),
]
WHY = {
    "memorizes": "It gives back what it was trained on and nothing else: compare `test` with `train`.",
    "copies": "Out-of-distribution images come back as well: it learned nothing about its data.",
    "too narrow": "Even on its own training images most of the variance is lost.",
    "learned": "New images of its kind come back, others do not: that is what you want.",
}


def _check_diagnosis(attempt):
    said = [attempt(*patient[:3]) for patient in PATIENTS]
    for word in said:
        require(word in WHY, f"Answer with one of {', '.join(map(repr, WHY))}; you said {word!r}.")
    missed = [
        (patient, word) for patient, word in zip(PATIENTS, said, strict=True) if word != patient[3]
    ]
    if not missed:
        return (
            "Twelve of twelve. Three numbers tell four networks apart; the training error alone "
            "tells none."
        )
    require(
        not all(p[3] == "memorizes" and word == "learned" for p, word in missed),
        "You trust the training error: those that memorize pass as learned. What do they do on "
        "images they have not "
        "seen?",
    )
    require(
        not all(p[3] == "copies" and word == "learned" for p, word in missed),
        "You never ask about out-of-distribution images, so those that copy pass as learned. They "
        "are good at everything, and know "
        "nothing.",
    )
    require(
        not any(p[3] in ("learned", "copies") and word == "memorizes" for p, word in missed),
        "You call a network a memorizer because `test` is a little larger than `train`. That is "
        "always so: ask for a "
        "wide gap.",
    )
    require(
        not any(p[3] == "too narrow" and word == "memorizes" for p, word in missed),
        "A large test error alone is not memorizing: look at `train`. Those that lose their "
        "training images too have "
        "memorized nothing.",
    )
    (train, test, ood, right), word = missed[0]
    require(
        False,
        f"train = {train}, test = {test}, ood = {ood}: you say {word!r}, but it is {right!r}. "
        f"{WHY[right]}",
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
    "Be the doctor. Of a trained autoencoder you know three numbers: the fraction of variance "
    "unexplained (0: perfect, 1: as bad as the mean picture) on its training images, on test "
    "images, "
    "and on out-of-distribution images (of another kind). "
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
        (_diagnose_by_train, "trust the training error"),
        (_diagnose_without_ood, "never ask about out-of-distribution"),
        (_diagnose_any_gap, "wide gap"),
        (_diagnose_by_test, "A large test error alone"),
        (lambda train, test, ood: "overfits", "Answer with one of"),
        (lambda train, test, ood: "learned", "you say 'learned'"),
    ],
)


# -- 4: a study of one's own -----------------------------------------------------------------------


def _check_study(attempt):
    said = attempt() if callable(attempt) else attempt
    wanted = ["claim", "settings", "unexplained", "holds"]
    require(
        isinstance(said, dict) and set(wanted) <= set(said),
        f"A study is a dict with {', '.join(wanted)}.",
    )
    require(
        isinstance(said["claim"], str) and len(said["claim"].split()) >= 5,
        "Say the claim in a full sentence.",
    )
    unexplained = [float(value) for value in said["unexplained"]]
    require(
        len(unexplained) == len(said["settings"]),
        f"One value of 'unexplained' for each setting: {len(said['settings'])} are "
        f"needed, {len(unexplained)} are there.",
    )
    require(
        len(unexplained) >= 3,
        f"{len(unexplained)} settings are too few: with two, any change looks like a law. Take "
        "three or "
        "more.",
    )
    require(
        all(math.isfinite(value) and value >= 0 for value in unexplained),
        "A fraction of variance is a finite number of at least 0; 'unexplained' has others.",
    )
    require(
        max(unexplained) < 20,
        f"'unexplained' has a value of {max(unexplained):.3g}: that is no fraction. Divide the "
        "error by the error of "
        "the mean.",
    )
    require(
        len(set(unexplained)) > 1,
        "All settings gave the very same number: were they really different?",
    )
    holds = said["holds"]
    require(
        callable(holds),
        "'holds' is a function of the list `unexplained` that says whether your claim is true of "
        "it.",
    )
    require(
        bool(holds(unexplained)),
        "Your own numbers do not bear the claim out. Say what they do say: that is a result too.",
    )
    others = [
        unexplained[::-1],
        [max(unexplained)] * len(unexplained),
        [min(unexplained)] * len(unexplained),
        [1.0] * len(unexplained),
    ]
    require(
        not all(bool(holds(other)) for other in others),
        "Your claim would be true of the reversed list, and of equal numbers, too. Claim something "
        "that can fail.",
    )
    return f"A claim that could have failed, and did not: {said['claim']}"


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
    "Vary one thing in at least three steps: the code size, the number of hidden numbers behind "
    "the data, the noise on "
    "the data, the number of training images. Measure on unseen data the fraction of variance "
    "unexplained, and "
    "claim something that could have turned out false.",
    _check_study,
    [
        "Good questions: how does the best code size change with the noise on the data? How many "
        "images end the memorizing?",
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
    ],
    wrong=[
        (_made(holds=lambda unexplained: min(unexplained) >= 0), "can fail"),
        (_made(holds=lambda unexplained: True), "can fail"),
        (_made(settings=[2, 8], unexplained=[0.6, 0.1]), "too few"),
        (_made(unexplained=[0.6, 0.3]), "One value of 'unexplained'"),
        (_made(unexplained=[31.5, 14.7, 5.8]), "no fraction"),
        (_made(holds=lambda unexplained: unexplained[0] < unexplained[-1]), "do not bear"),
        (_made(unexplained=[0.5, 0.5, 0.5]), "very same number"),
        (_made(claim="smaller"), "full sentence"),
        ({"claim": "A larger code is better"}, "a dict with"),
    ],
)

"""Exercises of lesson 04, Which other regularizers stop it from copying?"""

from aecourse import losses
from aecourse.exercises import (
    Exercise,
    as_number,
    check_of_study,
    close,
    needs_gradient,
    require,
    require_close,
)

import numpy as np
import torch

# -- 1: who is on, and how often -------------------------------------------------------------------


def _check_counts(attempt, case):
    z = case.values("B", case.size("latent", 10, 30)).relu()
    z[:, : case.whole(2, 4)] = 0  # units that are never on
    z[0, -1], z[1:, -1] = case.scale, 0  # on for one image
    got = attempt(z.clone())
    got = list(got) if np.iterable(got) else []
    require(len(got) == 2, "Return two numbers: units on per image, units never on.")
    each = "one number for each of the two, not one per image or per unit"
    on, never = (as_number(value, each) for value in got)
    right, silent = (z > 0).sum() / len(z), (z == 0).all(0).sum()
    require(
        not (close(on, silent) and close(never, right)) or close(on, right),
        "Both numbers are right, and the other way round: units on per image come first.",
    )
    require_close(
        on,
        right,
        [
            (
                (z > 0).sum(0).float().mean(),
                "You counted per *unit*. Sum over the units of an image (dim=1) first, then take "
                "the mean over the images.",
            ),
            (
                z.sum() / len(z),
                "You added up the values. A unit of 4.0 is on once, not four times: compare with 0 "
                "first.",
            ),
            (
                (z > 0).float().mean(),
                "That is the *share* of units that are on. Wanted is how many: sum over units, "
                "mean over images.",
            ),
            ((z > 0).sum(), "You counted the units of all images. Take the mean over the images."),
            (
                (z > 0.05).sum() / len(z),
                "You counted activations above 0.05. A unit is on where it is above 0, however "
                "little.",
            ),
        ],
        f"{float(right):.4g} units per image are on here. You return {on:.4g}.",
    )
    require_close(
        never,
        silent,
        [
            (
                (z == 0).sum(),
                "You counted every zero of the table. A unit is inactive when it is off for *all* "
                "images.",
            ),
            (
                (z == 0).any(0).sum(),
                "You counted the units that are off for *at least one* image. Wanted are those off "
                "for all of them.",
            ),
            (
                (z == 0).all(0).float().mean(),
                "That is the *share* of units that are never on. Wanted is how many.",
            ),
            (
                (z > 0).any(0).sum(),
                "You counted the units that are on for at least one image. Wanted are the others.",
            ),
            (
                (z.amax(0) - z.amin(0) < 0.05).sum(),
                "You counted the units that hardly change, within 0.05. These are ReLU units: "
                "compare with 0.",
            ),
        ],
        f"{silent} units are off for all images here. You return {never:g}.",
    )
    return (
        "Two different things: few units per image is what you want, units that are never on are "
        "wasted."
    )


def sparsity(z):
    on = z > 0  # (n, latent), True where a unit takes part
    return on.sum(dim=1).float().mean(), (~on.any(dim=0)).sum()


counts = Exercise(
    "Given codes `z (n, latent)` of ReLU units, return two numbers: how many units are on per "
    "image, on average, and how "
    "many units are on for no image at all.",
    _check_counts,
    [
        "A ReLU unit is on where its value is above 0. Rows are images, columns are units.",
        "`(z > 0).sum(dim=1)` counts along a row: the units of one image.",
        "A unit that is never on has a column without a single True: `~(z > 0).any(dim=0)`.",
    ],
    sparsity,
    alternatives=[
        lambda z: (float((z > 0).sum() / len(z)), int((z.amax(0) <= 0).sum())),
        lambda z: torch.stack([torch.sign(z).sum(1).mean(), (z.sum(0) == 0).sum()]),
        lambda z: [np.count_nonzero(z, axis=1).mean(), z.shape[1] - (z > 0).any(0).sum()],
    ],
    wrong=[
        (lambda z: ((z > 0).sum(0).float().mean(), (z.amax(0) == 0).sum()), "per *unit*"),
        (lambda z: (z.sum(1).mean(), (z.amax(0) == 0).sum()), "added up the values"),
        (lambda z: ((z > 0).float().mean(), (z.amax(0) == 0).sum()), "the *share*"),
        (lambda z: ((z > 0).sum(1).float().mean(), (z == 0).sum()), "every zero"),
        (lambda z: ((z > 0).sum(1).float().mean(), (z == 0).any(0).sum()), "at least one"),
        (lambda z: ((z > 0).sum(1), (z.amax(0) == 0).sum()), "one number for each of the two"),
        (lambda z: (sparsity(z)[0], sparsity(z)[1] / z.shape[1]), "*share* of units that are nev"),
        (lambda z: (z > 0).sum(1).float().mean(), "Return two numbers"),
        (lambda z: ((z > 0).sum() / 6, (z.amax(0) == 0).sum()), "Right for inputs with"),
        (lambda z: sparsity((z - 0.1).relu()), "units per image are on here"),
        (lambda z: sparsity(z)[::-1], "the other way round"),
        (lambda z: (sparsity(z)[0], (z > 0).any(0).sum()), "Wanted are the others"),
        (lambda z: ((z > 0.05).sum(1).float().mean(), sparsity(z)[1]), "above 0.05"),
        (lambda z: (sparsity(z)[0], (z.amax(0) - z.amin(0) < 0.05).sum()), "within 0.05"),
    ],
)


# -- 2: a penalty without a free scale -------------------------------------------------------------


def _check_fair(attempt, case):
    z = case.values("B", "latent").requires_grad_()
    decoder = case.values("pixels", "latent").requires_grad_()

    def penalty(by):  # of the same pictures
        got = attempt(z / by, by * decoder)
        return got, as_number(got, "one number for the batch: sum over units, mean over images")

    (got, value), lengths = penalty(1), decoder.norm(dim=0)
    alike, each = penalty(10)[1], penalty(1 + torch.arange(z.shape[1]))[1]
    right = (z.abs() * lengths).sum() / len(z)
    require_close(
        got,
        right,
        [
            (
                losses.l1(z),
                "It is still the old penalty: with the code divided by 10 and the decoder "
                "multiplied by 10, the pictures are the same and your penalty is a tenth.",
            ),
            (right * len(z), "You summed over the images; the course takes the mean."),
            (right / z.shape[1], "You averaged over the units; the course sums over them."),
            (
                (z.abs() * decoder.abs().sum(0)).sum() / len(z),
                "No rescaling changes it, but you took the sum of absolute values for a column's "
                "length. The length is `norm(dim=0)`.",
            ),
            (
                (z.abs() * decoder.pow(2).sum(0)).sum() / len(z),
                "You took the sum of squares of a column; its length is the root of that.",
            ),
            (
                (z.abs() * decoder.abs().amax(0)).sum() / len(z),
                "No rescaling changes it, but you took the largest weight of a column. Its length "
                "is the root of the sum of squares, `norm(dim=0)`.",
            ),
            (
                (z * lengths).sum() / len(z),
                "A unit with a minus sign is on as well: take absolute values.",
            ),
            ((z.relu() * lengths).sum() / len(z), "A unit with a minus sign is on as well."),
        ],
        f"With the code divided by 10 and the decoder multiplied by 10 the pictures are the same, "
        f"but your penalty goes from {value:.4g} to {alike:.4g}."
        if not close(value, alike)
        else "All units scaled alike do not change it any more, but each unit by a factor of its "
        "own does. Use the length of *each unit's* column, not one number for the whole decoder."
        if not close(value, each)
        else None,
    )
    of_z, of_decoder = needs_gradient(got, z, decoder)
    right_z, right_decoder = torch.autograd.grad(right, (z, decoder))
    require(
        close(of_z, right_z) and close(of_decoder, right_decoder),
        "The number is right, but its gradient is not: no part of it may be detached.",
    )
    return (
        "For columns of length 1 it is the plain L1. Now even a free decoder has nothing to gain."
    )


def fair_l1(z, decoder):
    lengths = decoder.norm(dim=0)  # (latent,): the length of each column
    return (z.abs() * lengths).sum() / len(z)


fair = Exercise(
    "Write an L1 penalty that rescaling cannot lower: given codes `z (B, latent)` and decoder weights "
    "`decoder (pixels, latent)`, "
    "count each |z| by how large a picture it draws. Sum over units, mean over images. Encoder and "
    "decoder are trained on it.",
    _check_fair,
    [
        "What a unit adds to the picture is `z[j] * decoder[:, j]`. How long is that vector?",
        "Its length is |z_j| times the length of column j. That product does not change when z "
        "shrinks and the column grows.",
        "`decoder.norm(dim=0)` has the lengths of the columns, one per unit; it broadcasts against "
        "`z.abs()`.",
    ],
    fair_l1,
    alternatives=[
        lambda z, decoder: losses.l1(z * decoder.norm(dim=0)),
        lambda z, decoder: (z[:, None] * decoder).norm(dim=1).sum(1).mean(),
        lambda z, decoder: (z.double().abs() @ decoder.double().pow(2).sum(0).sqrt()).mean(),
    ],
    wrong=[
        (lambda z, decoder: losses.l1(z), "still the old penalty"),
        (lambda z, decoder: losses.l1(z) + decoder.norm(), "pictures are the same"),
        (lambda z, decoder: losses.l1(z) * decoder.norm(), "each unit by a factor"),
        (lambda z, decoder: (z.abs() * decoder.norm(dim=0)).sum(), "summed over the images"),
        (lambda z, decoder: (z.abs() * decoder.norm(dim=0)).mean(), "averaged over the units"),
        (
            lambda z, decoder: (z.abs() * decoder.abs().sum(0)).sum() / len(z),
            "sum of absolute values",
        ),
        (lambda z, decoder: (z.abs() * decoder.pow(2).sum(0)).sum() / len(z), "sum of squares of"),
        (lambda z, decoder: (z.abs() * decoder.abs().amax(0)).sum() / len(z), "largest weight"),
        (lambda z, decoder: (z * decoder.norm(dim=0)).sum() / len(z), "minus sign"),
        (lambda z, decoder: fair_l1(z.relu(), decoder), "minus sign"),
        (lambda z, decoder: fair_l1(z, decoder).item(), "No gradient flows"),
        (lambda z, decoder: fair_l1(z, decoder.detach()), "No gradient reaches all"),
        (lambda z, decoder: fair_l1(z, (decoder + decoder.detach()) / 2), "its gradient is not"),
        (lambda z, decoder: (z.abs() * decoder.norm(dim=0)).sum() / 6, "Right for inputs with B"),
        (lambda z, decoder: fair_l1(z, decoder) / 2, "is right"),
        (lambda z, decoder: z * decoder.norm(dim=0), "one number for the batch"),
    ],
)


# -- 3: the contractive penalty of another layer ---------------------------------------------------


def _check_tanh(attempt, case):
    x, weight = case.normal("B", "pixels") / case.scale / 3, case.values("latent", "pixels")
    bias = case.normal("latent")
    z = torch.tanh(x @ weight.T + bias).requires_grad_()
    by_autograd = losses.contractive(lambda v: torch.tanh(v @ weight.T + bias), x).item()
    got = attempt(z, weight.requires_grad_())
    value = as_number(got, "one number for the batch")
    derivative, rows = 1 - z**2, weight.pow(2).sum(1)
    right = (derivative**2 @ rows).mean()
    require_close(
        got,
        by_autograd,
        [
            (
                ((z * (1 - z)) ** 2 @ rows).mean(),
                "That is the sigmoid's derivative, z (1 - z). That of tanh is 1 - z².",
            ),
            (
                (derivative @ rows).mean(),
                "You squared the weights and not the derivative. An entry of the Jacobian is "
                "derivative times weight; square the product.",
            ),
            (
                (derivative**2 @ weight.abs().sum(1)).mean(),
                "You squared the derivative and not the weights.",
            ),
            (
                derivative.pow(2).sum(1).mean() * rows.sum(),
                "You multiplied two sums. Each unit's derivative goes with *its own* row of "
                "weights: multiply first, then sum.",
            ),
            (right * len(x), "You summed over the images; the course takes the mean."),
            (right / len(weight), "You averaged over the units; the course sums over them."),
        ],
        f"Autograd finds {by_autograd:.5g} for this layer, you {value:.5g}.",
        rtol=1e-3,
    )
    of_z, of_weight = needs_gradient(got, z, weight)
    right_z, right_weight = torch.autograd.grad(right, (z, weight))
    require(
        close(of_z, right_z, 1e-3) and close(of_weight, right_weight, 1e-3),
        "The number is right, but its gradient is not: no part of it may be detached.",
    )
    return "Equal to autograd's, and it takes no backward pass."


def tanh_contractive(z, weight):
    derivative = 1 - z**2  # (B, latent): the derivative of tanh, from its own output
    return (derivative**2 @ weight.pow(2).sum(dim=1)).mean()


closed_form = Exercise(
    "The encoder is one tanh layer, z = tanh(W x + b). Given `z (B, latent)` and `weight (latent, "
    "pixels)`, return the "
    "contractive penalty without autograd: the squared entries of dz/dx, summed, mean over images. "
    "The encoder is trained on it.",
    _check_tanh,
    [
        "The entry of the Jacobian in row j, column i is the derivative of unit j times the weight "
        "W[j, i].",
        "The derivative of tanh is 1 - tanh². You have tanh already: it is z.",
        "Squared and summed over i: d_j² times the sum of the squares in row j of W.",
    ],
    tanh_contractive,
    alternatives=[
        lambda z, weight: ((1 - z**2)[:, :, None] * weight).pow(2).sum() / len(z),
        lambda z, weight: torch.einsum("bj,ji->b", (1 - z * z) ** 2, weight**2).mean(),
        lambda z, weight: sum((torch.diag(1 - v**2) @ weight).norm() ** 2 for v in z) / len(z),
    ],
    wrong=[
        (
            lambda z, weight: ((z * (1 - z)) ** 2 @ weight.pow(2).sum(1)).mean(),
            "sigmoid's derivative",
        ),
        (lambda z, weight: ((1 - z**2) @ weight.pow(2).sum(1)).mean(), "not the derivative"),
        (lambda z, weight: ((1 - z**2) ** 2 @ weight.abs().sum(1)).mean(), "not the weights"),
        (
            lambda z, weight: (1 - z**2).pow(2).sum(1).mean() * weight.pow(2).sum(),
            "multiplied two sums",
        ),
        (
            lambda z, weight: ((1 - z**2) ** 2 @ weight.pow(2).sum(1)).sum(),
            "summed over the images",
        ),
        (
            lambda z, weight: ((1 - z**2) ** 2 * weight.pow(2).sum(1)).mean(),
            "averaged over the units",
        ),
        (lambda z, weight: (1 - z**2) ** 2 @ weight.pow(2).sum(1), "one number for the batch"),
        (lambda z, weight: weight.pow(2).sum(), "Autograd finds"),
        (lambda z, weight: tanh_contractive(z, weight).item(), "No gradient flows"),
        (lambda z, weight: tanh_contractive(z, weight.detach()), "No gradient reaches all"),
        (lambda z, weight: tanh_contractive((z + z.detach()) / 2, weight), "its gradient is not"),
        (
            lambda z, weight: ((1 - z**2) ** 2 @ weight.pow(2).sum(1)).sum() / 6,
            "Right for inputs with B = 6",
        ),
    ],
)


# -- 4: what happened to this sparse autoencoder? --------------------------------------------------


KINDS = {  # what was measured in each of them
    "sparse": "few units are on per image, each of them is on for some image, and the decoder's "
    "columns are as long as before",
    "rescaled": "as many units are on as before, while the code shrank and the decoder's columns "
    "grew. Count units, do not add up values",
    "inactive": "few units are on per image, because most of them are on for no image. Look along the "
    "other axis of the code, too",
    "shrunk": "the code is smaller, as many units are on as before, and the decoder's columns are "
    "as long as before",
}


def _patient(kind, case):
    """Codes and decoders before and after training: `(z0, d0, z1, d1)`.

    The penalty falls alike in all kinds, to about a fifth or less.
    """
    n, latent = case.size("n", 120, 200), case.size("latent", 40, 60)
    z0 = case.values(n, latent).relu()  # half of the units on
    d0 = case.values(case.size("pixels", 5, 9), latent)
    z1 = z0 * (0.9 + 0.2 * case.pixels(n, latent))
    if kind in ("sparse", "inactive"):
        z1 = (case.normal(n, latent) - case.number_between(1.2, 1.7)).relu()  # a tenth on
        z1[:latent].fill_diagonal_(1.0)  # each unit on for at least one image
    if kind == "inactive":
        z1[:, torch.randperm(latent)[: int(case.number_between(0.7, 0.9) * latent)]] = 0
    factor = case.number_between(5, 15) * (0.7 + 0.6 * case.pixels(latent))
    z1 = z1 / factor * (z0.sum() / z1.sum())
    return z0, d0, z1, d0 * factor if kind == "rescaled" else d0.clone()


def _check_diagnosis(attempt, case):
    for kind in [*KINDS] * 3:
        word = attempt(*_patient(kind, case))
        require(
            isinstance(word, str) and word in KINDS,
            f"Return one of {', '.join(map(repr, KINDS))}; you returned {word!r}.",
        )
        require(
            word == kind,
            f"You say {word!r}, but one is {kind!r}: {KINDS[kind]}. The penalty fell in all.",
        )
    return (
        "Three numbers are enough: units on per image, units never on, length of the columns. The "
        "loss is none of them."
    )


def diagnose(z0, d0, z1, d1):
    def on(z):
        return (z > 0).sum(dim=1).float().mean().item()  # units on per image

    never = (
        (z1 > 0).any(dim=0).logical_not().float().mean().item()
    )  # share of units that are on for no image
    if d1.norm(dim=0).mean() > 2 * d0.norm(dim=0).mean() and on(z1) > 0.7 * on(z0):
        return "rescaled"
    if on(z1) > 0.7 * on(z0):
        return "shrunk"
    return "inactive" if never > 0.5 else "sparse"


def _by_penalty(z0, d0, z1, d1):
    fall = losses.l1(z1) / losses.l1(z0)
    return (
        "shrunk"
        if fall > 0.5
        else "inactive"
        if diagnose(z0, d0, z1, d1) == "inactive"
        else "sparse"
    )


def _without_columns(z0, d0, z1, d1):
    return diagnose(z0, d0, z1, d0)


def _by_penalty_and_units(z0, d0, z1, d1):
    said = diagnose(z0, d0, z1, d0)  # a small code instead of long columns
    return "rescaled" if said == "shrunk" and losses.l1(z1) < 0.3 * losses.l1(z0) else said


def _without_the_other_axis(z0, d0, z1, d1):
    said = diagnose(z0, d0, z1, d1)
    return "sparse" if said == "inactive" else said


diagnosis = Exercise(
    "Four people trained a sparse autoencoder with an L1 penalty. From the codes and the decoder's "
    "weights before (`z0, d0`) "
    "and after (`z1, d1`) training, say which it is: 'sparse' (few units on per image), 'rescaled' "
    "(columns longer), 'inactive' (most units never on) or 'shrunk' (code smaller, as many units on, "
    "columns as long). In all four the penalty fell alike.",
    _check_diagnosis,
    [
        "Codes are (n, latent), decoder weights (pixels, latent). Which numbers of this lesson "
        "would tell the four apart?",
        "Units on per image fall in 'sparse' and in 'inactive'. Columns grow in 'rescaled' only. Many "
        "units are never on in 'inactive' only.",
        "`(z1 > 0).float().mean()` is the share of units on; `d1.norm(dim=0).mean()` the mean "
        "length of a column; "
        "`(z1 > 0).any(dim=0)` says which units are ever on.",
    ],
    diagnose,
    alternatives=[
        lambda z0, d0, z1, d1: (
            "rescaled"
            if d1.norm() > 3 * d0.norm()
            else "inactive"
            if (z1.amax(0) == 0).float().mean() > 0.5
            else "sparse"
            if (z1 > 0).float().mean() < 0.3
            else "shrunk"
        )
    ],
    wrong=[
        (_by_penalty, "You say 'sparse', but one is 'rescaled'"),
        (_by_penalty_and_units, "You say 'rescaled', but one is 'shrunk'"),
        (_without_columns, "the decoder's columns grew"),
        (_without_the_other_axis, "the other axis"),
        (
            lambda *codes: diagnose(*codes).replace("sparse", "inactive"),
            "each of them is on for some",
        ),
        (
            lambda z0, d0, z1, d1: diagnose(z0, d0 / d0.norm(dim=0), z1, d1),
            "columns are as long as before",
        ),
        (lambda *codes: "sparse", "You say 'sparse', but one is"),
        (lambda *codes: "sick", "Return one of"),
    ],
)


# -- 5: a study of one's own -----------------------------------------------------------------------


def study():
    from aecourse import data
    from aecourse.data import Batches
    from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
    from aecourse.training import fit, set_seed

    from torch import nn

    x, errors = data.subspace(2500, 10, 3, seed=0)[0], {0.0: [], 1.0: []}
    train, test = x[:2000], x[2000:]
    settings = [5, 10, 40]  # units, for data of 10 numbers that lie near a subspace of 3
    for units in settings:
        for decay in errors:

            def decayed(model, x, decay=decay):
                return (
                    losses.squared_error(model(x), x) + decay * model.encoder[2].weight.pow(2).sum()
                )

            set_seed(0)
            model = Autoencoder(
                mlp_encoder((10,), [], units, final=nn.ReLU),
                mlp_decoder(units, [], (10,), final=None),
            )
            fit(model, decayed, Batches(train, batch_size=100), 5, lr=1e-2, progress=False)
            with torch.no_grad():
                errors[decay].append(losses.squared_error(model(test), test).item())
    return {
        "claim": "Weight decay makes the error worse at every width",
        "settings": settings,
        "without": errors[0.0],
        "with": errors[1.0],
        "holds": lambda a, b: all(p < q for p, q in zip(a, b)),
    }


def _made(**changes):
    made = {
        "claim": "The penalty helps most when labels are few",
        "settings": [50, 200, 1000],
        "without": [0.50, 0.70, 0.85],
        "with": [0.60, 0.74, 0.86],
        "holds": lambda a, b: b[0] - a[0] > b[-1] - a[-1] > 0,
    }
    return made | changes


own_study = Exercise(
    "Make a claim about a regularizer of this lesson, measure it at three or more settings of "
    "something, without it and with it, and say by a function of the two lists whether it holds.",
    check_of_study("without", "with", what="measurement"),
    [
        "Good questions: with how few labels does sparsity help? Does a wider code need a stronger "
        "penalty? Does a regularizer still "
        "help when there are only 500 training images?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'without' and 'with' one "
        "measurement per setting, and 'holds', a "
        "function of these two lists that is True when the claim is.",
        "`lambda a, b: b[0] - a[0] > b[-1] - a[-1]` says: the regularizer gains more at the first setting "
        "than at the last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="With the penalty the accuracy is always higher",
            holds=lambda a, b: all(p < q for p, q in zip(a, b)),
        ),
        _made(  # nothing was found, and that is said
            claim="With the penalty the accuracy is the same within 2 points",
            without=[0.59, 0.75, 0.85],
            holds=lambda a, b: max(abs(p - q) for p, q in zip(a, b)) < 0.02,
        ),
    ],
    wrong=[
        (_made(holds=lambda a, b: True), "cannot fail"),
        (_made(holds=lambda a, b: len(a) == len(b)), "cannot fail"),
        (_made(holds=lambda a, b: b[0] == 0.60), "exactly these numbers"),
        (_made(holds=lambda a, b: b[-1] > b[0]), "depend on the first list"),
        (_made(settings=[50, 1000], without=[0.5, 0.8], **{"with": [0.6, 0.9]}), "at least three"),
        (_made(holds=lambda a, b: a[0] > b[0]), "not true of what you found"),
        (_made(without=[0.5, 0.7]), "one measurement per setting"),
        (_made(without=[float("nan")] * 3), "finite"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "sparse is better"}, "a dict with the entries"),
    ],
)

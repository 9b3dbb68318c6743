"""Exercises of lesson 04, Which other rules stop it from copying?"""

import math

from aecourse import losses
from aecourse.exercises import Exercise, check_of_study, is_number, require

import torch
import torch.nn.functional as F

# -- 1: who is on, and how often -------------------------------------------------------------------

CODES = torch.tensor(
    [
        [0.0, 2.0, 0.0, 0.5, 0.0, 0.1],
        [0.0, 1.0, 0.0, 0.0, 0.0, 3.0],
        [0.0, 0.2, 0.0, 0.0, 0.0, 0.0],
        [0.0, 4.0, 0.0, 0.0, 0.7, 0.3],
    ]
)  # 4 images, 6 units: (3 + 2 + 1 + 3) / 4 = 2.25; two units never


def _check_counts(attempt):
    got = attempt(CODES.clone())
    require(
        isinstance(got, (tuple, list)) and len(got) == 2,
        "Return two numbers: units on per image, units never on.",
    )
    on, never = (float(v) if is_number(v) else math.nan for v in got)
    require(
        math.isfinite(on) and math.isfinite(never),
        "Each of the two is one number, not one per image or per unit.",
    )
    require(
        not math.isclose(on, 2 * 9 / 12),
        "You counted per *unit*. Sum over the units of an image (dim=1) first, "
        "then take the mean over the images.",
    )
    require(
        not math.isclose(on, float(CODES.mean(0).sum()), rel_tol=1e-4),
        "You added up the values. A unit of 4.0 is on once, not four times: compare with 0 first.",
    )
    require(
        not math.isclose(on, 9 / 24, rel_tol=1e-4),
        "That is the *share* of units that are on. Wanted is how many: "
        "sum over units, mean over images.",
    )
    require(
        math.isclose(on, 2.25, rel_tol=1e-4),
        f"Of the four images 3, 2, 1 and 3 units are on: 2.25 per image. You return {on:.4g}.",
    )
    require(
        never != 15,
        "You counted every zero of the table. A unit is silent when it is off for *all* images.",
    )
    require(
        never != 5,
        "You counted the units that are off for *at least one* image. Silent means: off for all of "
        "them.",
    )
    require(
        never == 2,
        f"Units 0 and 2 are off for all four images, so 2 are silent. You return {never:g}.",
    )
    g = torch.Generator().manual_seed(0)
    z = (torch.randn(50, 30, generator=g) - 1.9).clamp(min=0)
    on, never = (float(v) for v in attempt(z.clone()))
    require(
        math.isclose(on, float((z > 0).sum(1).float().mean()), rel_tol=1e-4)
        and never == int((z.amax(0) == 0).sum()),
        "Right for the example, and not for another code of 50 images and 30 units: is a number "
        "fixed in it?",
    )
    return (
        "Two different things: few units per image is what you want, units that are never on are "
        "wasted."
    )


def sparsity(z):
    on = z > 0  # (n, latent), True where a unit takes part
    return on.sum(dim=1).float().mean().item(), (~on.any(dim=0)).sum().item()


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
        lambda z: torch.stack([torch.sign(z).sum(1).mean(), (z.sum(0) == 0).sum()]).tolist(),
    ],
    wrong=[
        (lambda z: ((z > 0).sum(0).float().mean(), (z.amax(0) == 0).sum()), "per *unit*"),
        (lambda z: (z.sum(1).mean(), (z.amax(0) == 0).sum()), "added up the values"),
        (lambda z: ((z > 0).float().mean(), (z.amax(0) == 0).sum()), "the *share*"),
        (lambda z: ((z > 0).sum(1).float().mean(), (z == 0).sum()), "every zero"),
        (lambda z: ((z > 0).sum(1).float().mean(), (z == 0).any(0).sum()), "at least one"),
        (lambda z: ((z > 0).sum(1), (z.amax(0) == 0).sum()), "Each of the two is one number"),
        (lambda z: (2.25, 2), "another code"),
    ],
)


# -- 2: a penalty that cannot be gamed -------------------------------------------------------------


def _check_fair(attempt):
    g = torch.Generator().manual_seed(1)
    z, decoder = (
        torch.randn(8, 5, generator=g).relu(),
        torch.randn(7, 5, generator=g),
    )  # decoder: (pixels, latent)

    def value(z, decoder):
        got = attempt(z.clone(), decoder.clone())
        require(
            is_number(got), "Return one number for the batch: sum over units, mean over images."
        )
        return float(got)

    got, again, lengths = value(z, decoder), value(z / 10, 10 * decoder), decoder.norm(dim=0)
    require(math.isfinite(got), "Your penalty is NaN or infinite.")
    require(
        not math.isclose(got, float(losses.l1(z)), rel_tol=1e-4) and not again < 0.5 * got,
        "It is still the old penalty: with the code divided by 10 and the decoder multiplied by "
        "10, the pictures are "
        "the same and your penalty is a tenth.",
    )
    require(
        math.isclose(got, again, rel_tol=1e-4),
        f"With the code divided by 10 and the decoder multiplied by 10 the "
        f"pictures are the same, but your penalty goes from {got:.4g} to "
        f"{again:.4g}.",
    )
    each = torch.tensor([0.1, 1.0, 5.0, 2.0, 0.5])
    one = value(z / each, each * decoder)
    require(
        math.isclose(got, one, rel_tol=1e-4),
        "All units scaled alike do not fool it any more, but each unit by a factor of its own "
        "does. Use the length of "
        "*each unit's* column, not one number for the whole decoder.",
    )
    right = float((z * lengths).sum() / len(z))
    require(
        not math.isclose(got, right * len(z), rel_tol=1e-4),
        "You summed over the images; the course takes the mean.",
    )
    require(
        not math.isclose(got, right / 5, rel_tol=1e-4),
        "You averaged over the units; the course sums over them.",
    )
    require(
        not math.isclose(got, float((z * decoder.abs().sum(0)).sum() / len(z)), rel_tol=1e-4),
        "It cannot be gamed, but you took the sum of absolute values for a column's length. The "
        "length is `norm(dim=0)`.",
    )
    require(
        math.isclose(got, right, rel_tol=1e-4),
        f"It should be {right:.4g} here: each |z| times the length of its "
        f"column, summed over units, mean over images. Yours is {got:.4g}.",
    )
    require(
        math.isclose(value(-z, decoder), right, rel_tol=1e-4),
        "A unit that is on with a minus sign is on as well: take absolute values.",
    )
    return (
        "For columns of length 1 it is the plain L1. Now even a free decoder has nothing to gain."
    )


def fair_l1(z, decoder):
    lengths = decoder.norm(dim=0)  # (latent,): how large a stroke each unit draws
    return (z.abs() * lengths).sum() / len(z)


fair = Exercise(
    "Write an L1 penalty that cannot be gamed: given codes `z (B, latent)` and decoder weights "
    "`decoder (pixels, latent)`, "
    "count each |z| by how large a picture it draws. Sum over units, mean over images.",
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
        (lambda z, decoder: (z * decoder.norm(dim=0)).sum() / len(z), "minus sign"),
        (lambda z, decoder: z * decoder.norm(dim=0), "one number for the batch"),
    ],
)


# -- 3: the contractive penalty of another layer ---------------------------------------------------


def _check_tanh(attempt):
    g = torch.Generator().manual_seed(2)
    x, weight, bias = (torch.randn(*size, generator=g) for size in ((6, 4), (3, 4), (3,)))
    z = torch.tanh(x @ weight.T + bias)
    right = losses.contractive(lambda v: torch.tanh(v @ weight.T + bias), x).item()
    got = torch.as_tensor(attempt(z.clone(), weight.clone()))
    require(
        got.numel() == 1,
        f"Return one number for the batch, not a tensor of shape {tuple(got.shape)}.",
    )
    got, derivative, rows = float(got), 1 - z**2, weight.pow(2).sum(1)
    require(
        not math.isclose(got, float(((z * (1 - z)) ** 2 @ rows).mean()), rel_tol=1e-4),
        "That is the sigmoid's derivative, z (1 - z). That of tanh is 1 - z².",
    )
    require(
        not math.isclose(got, float((derivative @ rows).mean()), rel_tol=1e-4),
        "You squared the weights and not the derivative. An entry of the Jacobian is derivative "
        "times weight; square the product.",
    )
    require(
        not math.isclose(got, float((derivative**2 @ weight.abs().sum(1)).mean()), rel_tol=1e-4),
        "You squared the derivative and not the weights.",
    )
    require(
        not math.isclose(
            got, float(derivative.pow(2).sum(1).mean() * weight.pow(2).sum()), rel_tol=1e-4
        ),
        "You multiplied two sums. Each unit's derivative goes with *its own* row of weights: "
        "multiply first, then sum.",
    )
    require(
        not math.isclose(got, right * len(x), rel_tol=1e-4),
        "You summed over the images; the course takes the mean.",
    )
    require(
        not math.isclose(got, right / 3, rel_tol=1e-4),
        "You averaged over the units; the course sums over them.",
    )
    require(
        math.isclose(got, right, rel_tol=1e-4),
        f"Autograd finds {right:.5g} for this layer, you {got:.5g}.",
    )
    return "Equal to autograd's, and it takes no backward pass."


def tanh_contractive(z, weight):
    derivative = 1 - z**2  # (B, latent): the derivative of tanh, from its own output
    return (derivative**2 @ weight.pow(2).sum(dim=1)).mean()


closed_form = Exercise(
    "The encoder is one tanh layer, z = tanh(W x + b). Given `z (B, latent)` and `weight (latent, "
    "pixels)`, return the "
    "contractive penalty without autograd: the squared entries of dz/dx, summed, mean over images.",
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
    ],
)


# -- 4: what is wrong with this sparse autoencoder? ------------------------------------------------


def _patient(kind, seed=0, n=200, latent=40, pixels=30):
    """Codes and decoders before and after one of four kinds of training: `(z0, d0, z1, d1)`."""
    g = torch.Generator().manual_seed(seed)
    z0 = torch.randn(n, latent, generator=g).relu()  # half of the units on
    d0 = F.normalize(torch.randn(pixels, latent, generator=g), dim=0)
    if kind == "gamed":  # the same units on, code small, columns long
        factor = 5 + 10 * torch.rand(latent, generator=g)
        return z0, d0, z0 * (0.9 + 0.2 * torch.rand(n, latent, generator=g)) / factor, d0 * factor
    if kind == "no effect":
        return z0, d0, z0 * (0.95 + 0.1 * torch.rand(n, latent, generator=g)), d0
    rare = (
        torch.randn(n, latent, generator=g) - 1.4
    ).relu() * 3  # a twelfth of the units on, as large as before
    if kind == "dead":
        rare[:, torch.randperm(latent, generator=g)[: int(0.8 * latent)]] = 0
    else:
        rare[torch.arange(latent), torch.arange(latent)] = (
            1.0  # each unit on for at least one image
        )
    return z0, d0, rare, d0


KINDS = ("works", "gamed", "dead", "no effect")


def _check_diagnosis(attempt):
    cases = [(kind, seed) for seed in (0, 1, 2) for kind in KINDS]
    said = {case: attempt(*(t.clone() for t in _patient(*case))) for case in cases}
    strange = [word for word in said.values() if word not in KINDS]
    require(
        not strange,
        f"Return one of {', '.join(map(repr, KINDS))}; you returned {strange[0]!r}."
        if strange
        else "",
    )
    require(
        len(set(said.values())) > 1,
        f"You say {said[cases[0]]!r} to every training. Only one of the four is.",
    )

    def calls(kind, word):
        return any(said[kind, seed] == word for seed in (0, 1, 2))

    require(
        not calls("gamed", "works"),
        "You were fooled: in one training the penalty fell to a tenth, and as many units are on as "
        "before. The code "
        "shrank and the decoder's columns grew. Count units, do not add up values.",
    )
    require(
        not calls("gamed", "no effect"),
        "In one training as many units are on as before, but something did happen: "
        "compare the lengths of the decoder's columns, `d.norm(dim=0)`.",
    )
    require(
        not calls("dead", "works"),
        "One training has few units on per image because four fifths of its units are "
        "never on. Look along the other axis of the code, too.",
    )
    require(
        not calls("works", "dead"),
        "In one training few units are on per image, but each of them is on for some "
        "image. Dead is a unit that is on for none.",
    )
    require(
        not calls("works", "gamed"),
        "You call a training gamed that is not: its decoder's columns are as long as "
        "before. A smaller penalty alone is no proof.",
    )
    require(
        not calls("no effect", "works"),
        "In one training nothing became sparse: as many units are on as before.",
    )
    missed = next(((case, word) for case, word in said.items() if word != case[0]), None)
    require(
        missed is None,
        f"One training is {missed[0][0]!r}, you say {missed[1]!r}." if missed else "",
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
        return "gamed"
    if on(z1) > 0.7 * on(z0):
        return "no effect"
    return "dead" if never > 0.5 else "works"


def _by_penalty(z0, d0, z1, d1):
    return "works" if losses.l1(z1) < 0.7 * losses.l1(z0) else "no effect"


def _by_dead_share_alone(z0, d0, z1, d1):
    return (
        "gamed"
        if d1.norm() > 2 * d0.norm()
        else "dead"
        if (z1 > 0).float().mean() < 0.3
        else "no effect"
    )


def _without_the_other_axis(z0, d0, z1, d1):
    return (
        "gamed"
        if d1.norm() > 2 * d0.norm()
        else "works"
        if (z1 > 0).float().mean() < 0.3
        else "no effect"
    )


def _without_columns(z0, d0, z1, d1):
    few = (z1 > 0).float().mean() < 0.7 * (z0 > 0).float().mean()
    return "no effect" if not few else "dead" if (z1.amax(0) == 0).float().mean() > 0.5 else "works"


def _any_smaller_penalty_is_gaming(z0, d0, z1, d1):
    said = diagnose(z0, d0, z1, d1)
    return "gamed" if said == "works" and losses.l1(z1) < losses.l1(z0) else said


diagnosis = Exercise(
    "Four people trained a sparse autoencoder with an L1 penalty. From the codes and the decoder's "
    "weights before (`z0, d0`) "
    "and after (`z1, d1`) training, say which it is: 'works', 'gamed', 'dead' or 'no effect'.",
    _check_diagnosis,
    [
        "Codes are (n, latent), decoder weights (pixels, latent). Which numbers of this lesson "
        "would tell the four apart?",
        "Units on per image fall in 'works' and in 'dead'. Columns grow in 'gamed' only. Many "
        "units are never on in 'dead' only.",
        "`(z1 > 0).float().mean()` is the share of units on; `d1.norm(dim=0).mean()` the mean "
        "length of a column; "
        "`(z1 > 0).any(dim=0)` says which units are ever on.",
    ],
    diagnose,
    alternatives=[
        lambda z0, d0, z1, d1: (
            "gamed"
            if d1.norm() > 3 * d0.norm()
            else "dead"
            if (z1.amax(0) == 0).float().mean() > 0.5
            else "works"
            if (z1 > 0).float().mean() < 0.3
            else "no effect"
        )
    ],
    wrong=[
        (_by_penalty, "You were fooled"),
        (_without_columns, "something did happen"),
        (_by_dead_share_alone, "on for none"),
        (_without_the_other_axis, "the other axis"),
        (_any_smaller_penalty_is_gaming, "no proof"),
        (lambda *codes: "works", "to every training"),
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
    "Make a claim about a rule of this lesson, measure it at three or more settings of something, "
    "without the rule and with "
    "it, and say by a function of the two lists whether it holds.",
    check_of_study("without", "with", what="measurement"),
    [
        "Good questions: with how few labels does sparsity help? Does a wider code need a stronger "
        "penalty? Does a rule still "
        "help when there are only 500 training pictures?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'without' and 'with' one "
        "measurement per setting, and 'holds', a "
        "function of these two lists that is True when the claim is.",
        "`lambda a, b: b[0] - a[0] > b[-1] - a[-1]` says: the rule gains more at the first setting "
        "than at the last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="With the rule the accuracy is always higher",
            holds=lambda a, b: all(p < q for p, q in zip(a, b)),
        ),
    ],
    wrong=[
        (_made(holds=lambda a, b: True), "cannot fail"),
        (_made(holds=lambda a, b: len(a) == len(b)), "cannot fail"),
        (_made(settings=[50, 1000], without=[0.5, 0.8], **{"with": [0.6, 0.9]}), "at least three"),
        (_made(holds=lambda a, b: a[0] > b[0]), "not true of what you found"),
        (_made(without=[0.5, 0.7]), "one measurement per setting"),
        (_made(without=[float("nan")] * 3), "finite"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "sparse is better"}, "a dict with the entries"),
    ],
)

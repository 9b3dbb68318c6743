"""Exercises of lesson 02, Is an autoencoder just PCA?"""

import math

from aecourse import data
from aecourse.exercises import (
    Exercise,
    as_number,
    as_tensor,
    check_of_study,
    close,
    require,
    require_close,
)

import numpy as np
import torch

# -- 1: PCA's error, before any image is reconstructed ------------------------------------------


def _check_smallest_code(attempt, case):
    unit = 2.0 ** case.whole(-7, 7) if case.number else 1.0  # sums of its multiples are exact
    d = case.size("d", low=4)
    variances = unit * case.wholes(1, 40, d).sort(descending=True).values.to(case.dtype)
    left_out = [variances[k:].sum().item() for k in range(d + 1)]
    budgets = [budget for edge in left_out for budget in (edge, edge + unit / 2)] + [
        2 * sum(left_out)
    ]
    got = [as_number(attempt(variances.clone(), v), "one whole number, k") for v in budgets]
    require(all(k.is_integer() for k in got), "Return one whole number, k.")
    wanted = [next(k for k in range(d + 1) if left_out[k] <= budget) for budget in budgets]
    kept = variances.cumsum(0)
    mean = [*(float(variances[k:].mean()) for k in range(d)), 0.0]
    pairs = list(zip(got, wanted))
    mistakes = [
        (
            got == [int((kept < budget).sum()) + 1 for budget in budgets],
            "You compared the budget with the variance that is *kept*. The error is what is left: "
            "the sum of the others.",
        ),
        (
            got == [int((variances > budget).sum()) for budget in budgets],
            "You compared each variance alone with the budget. The error adds up over *all* "
            "directions left out.",
        ),
        (
            all(k == w + 1 for k, w in pairs if w < d),
            "Off by one: you return one number more than it takes. Mind that `cumsum()[0]` belongs "
            "to k = 1.",
        ),
        (
            all(k == w - 1 for k, w in pairs if w),
            "Off by one: you return one number too few. `cumsum()[0]` is what is kept with k = 1, "
            "not with k = 0.",
        ),
        (
            got == [next(k for k in range(d + 1) if mean[k] <= budget) for budget in budgets],
            "You averaged over the directions left out; the course sums over features, so sum "
            "them.",
        ),
    ]
    for (k, right), budget in zip(pairs, budgets):
        if k != right:
            for made, diagnosis in mistakes:
                require(not made, diagnosis)
            require(
                False,
                f"For the variances {variances.tolist()} and a budget of {budget}, k = {right} is "
                f"enough and fewer are not; you return {k:g}.",
            )
    return (
        "PCA's error is the variance left out: the code size follows from the variances, with "
        "nothing trained."
    )


def smallest_code(variances, budget):
    for k in range(len(variances) + 1):
        if variances[k:].sum() <= budget:  # the error with k numbers: the variance of all others
            return k


code_size = Exercise(
    "Given the variance of the data along each principal component, largest first, return the "
    "smallest code size k "
    "whose squared error per image is at most `budget`.",
    _check_smallest_code,
    [
        "PCA projects an image onto the first k components. What it loses is the part along all "
        "the others.",
        "The mean square of one coordinate around its mean is its variance. So the error with k "
        "numbers is "
        "`variances[k:].sum()`.",
        "Try k = 0, 1, 2, ... and return the first one that is good enough. k = len(variances) "
        "leaves nothing out.",
    ],
    smallest_code,
    alternatives=[
        lambda v, budget: int((v.flip(0).cumsum(0).flip(0) > budget).sum()),
        lambda v, budget: sum(1 for k in range(len(v)) if v[k:].sum().item() > budget),
    ],
    wrong=[
        (lambda v, budget: int((v.cumsum(0) < budget).sum()) + 1, "is *kept*"),
        (lambda v, budget: int((v > budget).sum()), "each variance alone"),
        (lambda v, budget: smallest_code(v, budget) + 1, "one number more"),
        (lambda v, budget: max(0, smallest_code(v, budget) - 1), "one number too few"),
        (
            lambda v, budget: next((k for k in range(len(v)) if v[k:].mean() <= budget), len(v)),
            "averaged over the directions",
        ),
        (lambda v, budget: v[v > budget], "one whole number"),
        (lambda v, budget: next(k for k in range(99) if v[k:].sum() < budget + 1e-9), "is enough"),
        (lambda v, budget: smallest_code(v, budget) + 0.5, "Return one whole number, k."),
    ],
)


# -- 2: PCA's axes, out of a linear autoencoder ----------------------------------------------------


def _check_axes(attempt, case):
    n, d = case.size("n", 60, 90), case.size("d", low=5)
    k = case.size("k", high=4)
    directions = torch.linalg.qr(case.normal(d, d)).Q
    mixed = directions[:k, :k] + 2 * torch.eye(k, dtype=case.dtype)  # of the decoder's columns
    decoder = directions[:, :k] @ mixed
    x = case.values(n, k) * torch.linspace(4, 1, k) + case.scale * 2  # the mean is not 0
    z = x @ torch.linalg.inv(mixed).T
    got = as_tensor(attempt(decoder.clone(), z.clone()), what="a tensor of the axes")
    require(
        got.shape != decoder.shape,
        "Return one axis per *row*, (k, d), as scikit-learn's `components_` has "
        "them: yours are columns.",
    )
    require(
        got.shape == (k, d),
        f"Return k axes of d numbers each, ({k}, {d}) here; yours have shape {tuple(got.shape)}.",
    )
    require(not got.is_complex(), "Axes are real numbers: for a symmetric matrix take `eigh`.")
    basis = directions[:, :k].double()
    require(
        close(got @ basis @ basis.T, got, 1e-2),
        "Your axes leave the subspace that the decoder's columns span: start "
        "from these columns, or from reconstructions `z @ decoder.T`.",
    )
    lengths = got.norm(dim=1)
    require(
        close(lengths, torch.ones(k), 1e-2),
        f"Axes have length 1; yours have {[round(float(v), 2) for v in lengths]}.",
    )
    require(
        close(got @ got.T, torch.eye(k), 1e-2),
        "Your axes are not orthogonal. A column of the decoder divided by its length is one of "
        "many axes of the subspace; PCA's are at right angles.",
    )

    def along(codes):  # the cosines of the angles to the axes of these points, up to their signs
        points = codes.double() @ decoder.double().T
        return (got @ torch.linalg.svd(points, full_matrices=False).Vh[:k].T).abs()

    cosines, same = along(z - z.mean(0)), torch.eye(k)
    require_close(
        cosines,
        same,
        [
            (
                same.flip(0),
                "The right axes in the wrong order: the largest variance comes first "
                "(`torch.linalg.eigh` sorts upwards).",
            )
        ],
        "These are the axes of points that were not centered. PCA looks at the deviation from the "
        "mean: subtract it first."
        if close(along(z), same, 1e-2)
        else "An orthogonal basis of the right subspace, but not PCA's. The decoder alone cannot tell "
        "which way the *data* vary most: the codes have to enter.",
        rtol=1e-2,
    )
    return (
        "So nothing was lost: training found the subspace, and one small SVD turns its basis into "
        "PCA's."
    )


def pca_axes(decoder, z):
    reconstructed = z @ decoder.T  # (n, d): the data, projected onto the subspace
    reconstructed = reconstructed - reconstructed.mean(0)
    return torch.linalg.svd(reconstructed, full_matrices=False).Vh[: z.shape[1]]


def _axes_by_covariance(decoder, z):
    q, r = torch.linalg.qr(decoder)  # an orthonormal basis of the subspace, and the codes in it
    values, vectors = torch.linalg.eigh(torch.cov((z @ r.T).T))
    return (q @ vectors.flip(1)).T


axes = Exercise(
    "A linear autoencoder has decoder weights `decoder (d, k)` and gives codes `z (n, k)` to the "
    "data. Return PCA's "
    "k axes as rows (k, d), without looking at the data again. Signs do not matter.",
    _check_axes,
    [
        "The reconstructions are `z @ decoder.T`. Those points lie in the subspace. In which "
        "direction do they vary most?",
        "The right singular vectors of a centered data matrix are PCA's axes, largest variance "
        "first.",
        "`torch.linalg.svd(..., full_matrices=False).Vh` has them as rows; only the first k of "
        "them matter.",
    ],
    pca_axes,
    alternatives=[
        _axes_by_covariance,
        lambda decoder, z: np.linalg.svd((z - z.mean(0)) @ decoder.T)[2][: z.shape[1]],
        lambda decoder, z: list(-pca_axes(decoder.double(), z.double())),
    ],
    wrong=[
        (
            lambda decoder, z: torch.linalg.svd(z @ decoder.T).Vh[: z.shape[1]],
            "were not centered",
        ),
        (
            lambda decoder, z: torch.linalg.eig(decoder @ torch.cov(z.T) @ decoder.T)[1].T[
                : z.shape[1]
            ],
            "take `eigh`",
        ),
        (lambda decoder, z: (decoder / decoder.norm(dim=0)).T, "not orthogonal"),
        (lambda decoder, z: decoder, "one axis per *row*"),
        (lambda decoder, z: decoder.T, "length 1"),
        (lambda decoder, z: torch.linalg.qr(decoder).Q.T, "the codes have to enter"),
        (
            lambda decoder, z: torch.linalg.svd(decoder, full_matrices=False).U.T,
            "the codes have to enter",
        ),
        (lambda decoder, z: _axes_by_covariance(decoder, z).flip(0), "wrong order"),
        (lambda decoder, z: torch.eye(*decoder.T.shape), "leave the subspace"),
        (lambda decoder, z: pca_axes(decoder, z)[:1], "Return k axes of d numbers"),
    ],
)


# -- 3: is it linear? ------------------------------------------------------------------------------


def _check_nonlinearity(attempt, case):
    pairs, k, shape = case.size("B"), case.size("k"), case.shape(1, "H", "W")
    weight, shift = case.normal(k, *shape), case.values(*shape) + 3 * case.scale
    a, b = case.normal(pairs, k), case.normal(pairs, k)

    def linear(z):
        return case.scale * torch.tensordot(z, weight, 1) + shift

    def nonlinear(z):
        return case.scale * torch.tensordot(z, weight, 1).tanh() + shift

    def summed(differences):
        return float(differences.pow(2).sum() / pairs)

    def measured(decode):
        return as_number(attempt(decode, a.clone(), b.clone()))

    got = measured(linear)
    require(math.isfinite(got), "Your measure is NaN or infinite.")
    require(
        not close(got, summed(linear(a + b) - linear(a) - linear(b))),
        "`decode(a + b)` counts the bias once, `decode(a) + decode(b)` twice. Compare the image "
        "of the middle code with the middle of the two images.",
    )
    require(
        abs(got) <= 1e-6 * summed(linear(a)),
        f"For a linear decoder with a bias your measure gives {got:.3g}, and it should "
        "give 0. Compare the image of the middle code with the middle of the two images.",
    )
    gap = nonlinear((a + b) / 2) - (nonlinear(a) + nonlinear(b)) / 2
    absolute, cancel = float(gap.abs().sum() / pairs), "Positive and negative differences cancel: "
    require_close(
        measured(nonlinear),
        summed(gap),
        [
            (summed(gap) / gap[0].numel(), "You averaged over the features; the course sums."),
            (summed(gap) * pairs, "You summed over the pairs as well: take the mean over them."),
            (absolute, "That is the absolute difference: square it."),
            (gap.sum() / pairs, cancel + "square them before you sum."),
            (gap.mean(), cancel + "square them before you average."),
            (summed(2 * gap), "The middle of two images is *half* of their sum."),
        ],
        rtol=1e-3,
    )
    return (
        "Zero for PCA and for the linear autoencoder, whatever they were trained on. Try it on "
        "`deep`."
    )


def measure_nonlinearity(decode, a, b):
    middle_of_images = (decode(a) + decode(b)) / 2
    return (decode((a + b) / 2) - middle_of_images).pow(2).flatten(1).sum(1).mean()


def _gap(decode, a, b):
    return decode((a + b) / 2) - (decode(a) + decode(b)) / 2


nonlinearity = Exercise(
    "Measure how far a decoder is from linear: the squared distance between the image of the "
    "middle code and the "
    "middle of the two images, summed over pixels, mean over pairs of codes.",
    _check_nonlinearity,
    [
        "A linear map takes the middle of two codes to the middle of their images.",
        "Compare `decode((a + b) / 2)` with `(decode(a) + decode(b)) / 2`.",
        "Square the difference, sum over all axes but the first, average over the first.",
    ],
    measure_nonlinearity,
    alternatives=[
        lambda decode, a, b: (
            ((decode(a.lerp(b, 0.5)) - decode(a).lerp(decode(b), 0.5)) ** 2).sum() / len(a)
        ),
        lambda decode, a, b: np.square(_gap(decode, a, b).numpy()).sum((1, 2, 3)).mean(),
        lambda decode, a, b: sum(_gap(decode, p, q).norm() ** 2 for p, q in zip(a, b)) / len(a),
    ],
    wrong=[
        (
            lambda decode, a, b: (decode(a + b) - decode(a) - decode(b)).pow(2).sum() / len(a),
            "counts the bias once",
        ),
        (lambda decode, a, b: _gap(decode, a, b).pow(2).mean(), "averaged over the features"),
        (lambda decode, a, b: _gap(decode, a, b).pow(2).sum(), "summed over the pairs"),
        (
            lambda decode, a, b: (decode(a) - decode(b)).pow(2).flatten(1).sum(1).mean(),
            "should give 0",
        ),
        (lambda decode, a, b: _gap(decode, a, b).abs().sum() / len(a), "absolute difference"),
        (lambda decode, a, b: _gap(decode, a, b).sum() / len(a), "before you sum"),
        (lambda decode, a, b: _gap(decode, a, b).pow(2).sum() / 6, "Right for inputs with B = 6"),
        (
            lambda decode, a, b: decode(a).pow(2).flatten(1).sum(1),
            "Return one number",
        ),
        (
            lambda decode, a, b: (_gap(decode, a, b).pow(2).flatten(1).sum(1).sqrt()).mean(),
            "is right",
        ),
        (lambda decode, a, b: measure_nonlinearity(decode, a, b) * math.nan, "NaN or infinite"),
    ],
)


# -- 4: a study of one's own -----------------------------------------------------------------------


def study():
    from aecourse import losses
    from aecourse.data import Batches
    from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
    from aecourse.training import fit, set_seed

    from sklearn.decomposition import PCA
    from torch import nn

    def reconstruct(model, x):
        return losses.squared_error(model(x), x)

    test, settings, errors = (
        data.swiss_roll(1000, seed=1)[0],
        [10, 100, 1000],
        {"pca": [], "autoencoder": []},
    )
    for n in settings:  # points of the Swiss roll, two numbers for each
        train = data.swiss_roll(n, seed=0)[0]
        pca = PCA(2).fit(train.numpy())
        errors["pca"].append(
            ((pca.inverse_transform(pca.transform(test.numpy())) - test.numpy()) ** 2).sum(1).mean()
        )
        set_seed(0)
        model = Autoencoder(
            mlp_encoder((3,), [64, 64], 2, activation=nn.GELU),
            mlp_decoder(2, [64, 64], (3,), activation=nn.GELU, final=None),
        )
        fit(
            model,
            reconstruct,
            Batches(train, batch_size=100),
            max(15, 20_000 // max(n, 100)),
            lr=1e-2,
            progress=False,
        )
        with torch.no_grad():
            errors["autoencoder"].append(reconstruct(model, test).item())
    return {
        "claim": "On the Swiss roll PCA wins with 10 points and loses with 1000",
        "settings": settings,
        **errors,
        "holds": lambda pca, autoencoder: pca[0] < autoencoder[0] and pca[-1] > autoencoder[-1],
    }


def _made(**changes):
    made = {
        "claim": "PCA wins with few images and loses with many",
        "settings": [50, 500, 5000],
        "pca": [24.0, 16.0, 15.0],
        "autoencoder": [40.0, 17.0, 9.0],
        "holds": lambda pca, autoencoder: pca[0] < autoencoder[0] and pca[-1] > autoencoder[-1],
    }
    return made | changes


own_study = Exercise(
    "Vary one thing in at least three steps (code size, number of images, noise, depth, a data set "
    "of yours), "
    "measure PCA and an autoencoder at each, and claim something that could have turned out false.",
    check_of_study("pca", "autoencoder", what="error", least=0),
    [
        "Good questions: from which code size on does PCA catch up? Does noise on the data help "
        "the one or the other?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'pca' and 'autoencoder' one "
        "held-out error per setting, "
        "and 'holds' a function of these two lists that is True when the claim is.",
        "`lambda pca, autoencoder: pca[0] < autoencoder[0] and pca[-1] > autoencoder[-1]` says: "
        "PCA wins first and "
        "loses last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="the autoencoder gains more from data than PCA does",
            holds=lambda p, a: a[0] / a[-1] > p[0] / p[-1],
        ),
        _made(  # nothing was found, and that is said
            claim="the two differ by less than ten percent everywhere",
            autoencoder=[23.1, 16.4, 15.2],
            holds=lambda p, a: all(abs(u - v) < 0.1 * u for u, v in zip(p, a)),
        ),
    ],
    wrong=[
        (_made(holds=lambda pca, autoencoder: True), "cannot fail"),
        (_made(holds=lambda pca, autoencoder: min(pca) >= 0), "cannot fail"),
        (_made(holds=lambda pca, autoencoder: pca[0] == 24.0), "exactly these numbers"),
        (_made(holds=lambda pca, autoencoder: pca[0] > pca[-1]), "depend on the second list"),
        (_made(settings=[50, 5000], pca=[24.0, 15.0], autoencoder=[40.0, 9.0]), "at least three"),
        (
            _made(holds=lambda pca, autoencoder: pca[0] > autoencoder[0]),
            "not true of what you found",
        ),
        (_made(pca=[24.0, 16.0]), "one error per setting"),
        (_made(autoencoder=[float("nan")] * 3), "finite"),
        (_made(pca=[-24.0, 16.0, 15.0]), "below 0"),
        (_made(claim="yes"), "in a sentence"),
        ({"claim": "PCA wins"}, "a dict with the entries"),
    ],
)

"""Exercises of lesson 02, Is an autoencoder just PCA?"""

import math

from aecourse import data
from aecourse.exercises import Exercise, check_of_study, is_whole, require

import torch

# -- 1: PCA's error, before any picture is reconstructed -------------------------------------------

VARIANCES = torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.25])


def _check_smallest_code(attempt):
    def right(budget):
        return next(k for k in range(8) if float(VARIANCES[k:].sum()) <= budget)

    budgets = (0.3, 0.25, 1.0, 4.0, 5.0, 8.5, 0.0, 17.0)
    got = [attempt(VARIANCES, budget) for budget in budgets]
    require(all(is_whole(k) for k in got), "Return one whole number, k.")
    got, wanted = [int(k) for k in got], [right(budget) for budget in budgets]
    case = next((i for i, pair in enumerate(zip(got, wanted)) if pair[0] != pair[1]), None)
    if case is None:
        return (
            "PCA's error is what it threw away: you can read the code size off the variances, with "
            "nothing trained."
        )
    kept = [int((VARIANCES.cumsum(0) < budget).sum()) + 1 for budget in budgets]
    require(
        got != kept,
        "You compared the budget with the variance that is *kept*. The error is what is left: the "
        "sum of the others.",
    )
    single = [int((VARIANCES > budget).sum()) for budget in budgets]
    require(
        got != single,
        "You compared each variance alone with the budget. The error adds up over *all* "
        "directions left out.",
    )
    require(
        not all(k == w + 1 for k, w in zip(got, wanted) if w < 7),
        "Off by one: you return one number more than it takes. Mind that `cumsum()[0]` belongs to "
        "k = 1.",
    )
    require(
        not all(k == w - 1 for k, w in zip(got, wanted) if w),
        "Off by one: you return one number too few. `cumsum()[0]` is what is kept with k = 1, not "
        "with k = 0.",
    )
    mean = [
        next((k for k in range(7) if float(VARIANCES[k:].mean()) <= budget), 7)
        for budget in budgets
    ]
    require(
        got != mean,
        "You averaged over the directions left out; the course sums over features, so sum them.",
    )
    require(
        False,
        f"For the variances {VARIANCES.tolist()} and a budget of {budgets[case]}, k = "
        f"{wanted[case]} is "
        f"enough and fewer are not; you return {got[case]}.",
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
        "PCA drops an image onto the first k directions. What it loses is how far the image "
        "reaches along all the others.",
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
    ],
)


# -- 2: PCA's axes, out of a linear autoencoder ----------------------------------------------------


def _mixed_up(d=12, k=3, n=4000):
    """PCA's axes (k, d) of data in a subspace, and a perfect autoencoder's decoder (d, k), codes (n, k)."""
    x, _ = data.subspace(n, d, k, seed=3)
    x = x - x.mean(0)
    axes = torch.linalg.svd(x, full_matrices=False).Vh[:k]
    mixed = torch.tensor([[2.0, 0.3, -0.5], [0.4, 0.5, 0.2], [-0.8, 0.6, 3.0]])
    return axes, axes.T @ mixed, x @ axes.T @ torch.linalg.inv(mixed).T


def _check_axes(attempt):
    axes, decoder, z = _mixed_up()
    got = attempt(decoder.clone(), z.clone())
    require(
        isinstance(got, torch.Tensor), f"Return a tensor of the axes, not {type(got).__name__}."
    )
    require(
        got.shape != decoder.shape,
        "Return one axis per *row*, (k, d), as scikit-learn's `components_` has "
        "them: yours are columns.",
    )
    require(
        got.shape == axes.shape,
        f"Return k axes of d numbers each, (3, 12) here; yours have shape {tuple(got.shape)}.",
    )
    inside = got @ axes.T @ axes
    require(
        (inside - got).norm() < 1e-2 * got.norm(),
        "Your axes leave the plane that the decoder draws in: start "
        "from its columns, or from reconstructions `z @ decoder.T`.",
    )
    lengths = got.norm(dim=1)
    require(
        bool(((lengths - 1).abs() < 1e-2).all()),
        f"Axes have length 1; yours have {[round(float(v), 2) for v in lengths]}.",
    )
    require(
        (got @ got.T - torch.eye(3)).abs().max() < 1e-2,
        "Your axes are not at right angles. A column of the "
        "decoder divided by its length is one of many slanted "
        "axes of the plane; PCA's are orthogonal.",
    )
    match = (got @ axes.T).abs()
    require(
        not (match.flip(0).diagonal() > 0.99).all(),
        "The right axes in the wrong order: the largest variance "
        "comes first (`torch.linalg.eigh` sorts upwards).",
    )
    require(
        (match.diagonal() > 0.99).all(),
        "An orthogonal basis of the right plane, but not PCA's. The decoder "
        "alone cannot tell which way the *data* vary most: the codes have to "
        "enter.",
    )
    return (
        "So nothing was lost: training found the plane, and one small SVD turns its axes into "
        "PCA's."
    )


def pca_axes(decoder, z):
    reconstructed = z @ decoder.T  # (n, d): the data, dropped onto the plane
    reconstructed = reconstructed - reconstructed.mean(0)
    return torch.linalg.svd(reconstructed, full_matrices=False).Vh[: z.shape[1]]


def _axes_by_covariance(decoder, z):
    q, r = torch.linalg.qr(decoder)  # an orthonormal basis of the plane, and the codes in it
    values, vectors = torch.linalg.eigh(torch.cov((z @ r.T).T))
    return (q @ vectors.flip(1)).T


axes = Exercise(
    "A linear autoencoder has decoder weights `decoder (d, k)` and gives codes `z (n, k)` to the "
    "data. Return PCA's "
    "k axes as rows (k, d), without looking at the data again. Signs do not matter.",
    _check_axes,
    [
        "What the model says about the data is `z @ decoder.T`. Those points lie in the plane. In "
        "which direction do "
        "they vary most?",
        "The right singular vectors of a centered data matrix are PCA's axes, largest variance "
        "first.",
        "`torch.linalg.svd(..., full_matrices=False).Vh` has them as rows; only the first k of "
        "them matter.",
    ],
    pca_axes,
    alternatives=[_axes_by_covariance],
    wrong=[
        (lambda decoder, z: (decoder / decoder.norm(dim=0)).T, "not at right angles"),
        (lambda decoder, z: decoder, "one axis per *row*"),
        (lambda decoder, z: decoder.T, "length 1"),
        (lambda decoder, z: torch.linalg.qr(decoder).Q.T, "the codes have to enter"),
        (
            lambda decoder, z: torch.linalg.svd(decoder, full_matrices=False).U.T,
            "the codes have to enter",
        ),
        (lambda decoder, z: _axes_by_covariance(decoder, z).flip(0), "wrong order"),
        (lambda decoder, z: torch.eye(3, 12), "leave the plane"),
    ],
)


# -- 3: is it linear? ------------------------------------------------------------------------------


def _check_nonlinearity(attempt):
    g = torch.Generator().manual_seed(0)
    weight, shift = torch.randn(5, 3, generator=g), 4 + torch.randn(5, generator=g)
    a, b = torch.randn(50, 3, generator=g), torch.randn(50, 3, generator=g)

    def measured(decode):
        return float(torch.as_tensor(attempt(decode, a, b)))

    def linear(z):
        return z @ weight.T + shift

    def nonlinear(z):
        return torch.relu(z @ weight.T) + shift

    of_linear, of_nonlinear = measured(linear), measured(nonlinear)
    middle = (nonlinear((a + b) / 2) - (nonlinear(a) + nonlinear(b)) / 2).pow(2).sum(1).mean()
    require(
        math.isfinite(of_linear) and math.isfinite(of_nonlinear), "Your measure is NaN or infinite."
    )
    require(
        of_linear < 1e-3,
        f"For a decoder that is a matrix and a shift your measure gives {of_linear:.3g}, and it "
        "should "
        "give 0. Compare the picture of the middle code with the middle of the two pictures. "
        "(`decode(a + b)` counts the shift once, `decode(a) + decode(b)` twice.)",
    )
    require(
        of_nonlinear > 1e-3,
        f"For a decoder with a ReLU your measure gives {of_nonlinear:.3g}: positive and negative "
        "differences must not cancel, so square them.",
    )
    require(
        not math.isclose(of_nonlinear, float(middle) / 5, rel_tol=1e-3),
        "You averaged over the features; the course sums over them.",
    )
    require(
        math.isclose(of_nonlinear, float(middle), rel_tol=1e-3),
        f"For a decoder with a ReLU the squared distance is "
        f"{float(middle):.4g} per pair; yours is {of_nonlinear:.4g}. "
        "Sum over features, mean over pairs, at the middle of "
        "the two codes.",
    )
    return (
        "Zero for PCA and for the linear autoencoder, whatever they were trained on. Try it on "
        "`deep`."
    )


def measure_nonlinearity(decode, a, b):
    middle_of_pictures = (decode(a) + decode(b)) / 2
    return (decode((a + b) / 2) - middle_of_pictures).pow(2).flatten(1).sum(1).mean()


nonlinearity = Exercise(
    "Measure how far a decoder is from linear: the squared distance between the picture of the "
    "middle code and the "
    "middle of the two pictures, summed over pixels, mean over pairs of codes.",
    _check_nonlinearity,
    [
        "A linear map takes the middle of two codes to the middle of their pictures.",
        "Compare `decode((a + b) / 2)` with `(decode(a) + decode(b)) / 2`.",
        "Square the difference, sum over all axes but the first, average over the first.",
    ],
    measure_nonlinearity,
    alternatives=[
        lambda decode, a, b: (
            ((decode(a.lerp(b, 0.5)) - decode(a).lerp(decode(b), 0.5)) ** 2).sum() / len(a)
        )
    ],
    wrong=[
        (
            lambda decode, a, b: (
                (decode(a + b) - decode(a) - decode(b)).pow(2).flatten(1).sum(1).mean()
            ),
            "counts the shift once",
        ),
        (
            lambda decode, a, b: (decode((a + b) / 2) - (decode(a) + decode(b)) / 2).pow(2).mean(),
            "averaged over the features",
        ),
        (
            lambda decode, a, b: (decode(a) - decode(b)).pow(2).flatten(1).sum(1).mean(),
            "should give 0",
        ),
        (
            lambda decode, a, b: (
                (decode((a + b) / 2) - (decode(a) + decode(b)) / 2).abs().flatten(1).sum(1).mean()
            ),
            "squared distance is",
        ),
        (
            lambda decode, a, b: (
                (decode((a + b) / 2) - (decode(a) + decode(b)) / 2).sum(1).mean().clamp(max=0)
            ),
            "must not cancel",
        ),
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
    for n in settings:  # points of the rolled sheet, two numbers for each
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
        "claim": "On the rolled sheet PCA wins with 10 points and loses with 1000",
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
    ],
    wrong=[
        (_made(holds=lambda pca, autoencoder: True), "cannot fail"),
        (_made(holds=lambda pca, autoencoder: min(pca) >= 0), "cannot fail"),
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

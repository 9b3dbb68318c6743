"""Exercises of lesson 15, What does one unit of a network stand for?"""

from aecourse import metrics
from aecourse.exercises import (
    Exercise,
    as_number,
    as_tensor,
    check_of_study,
    close,
    needs_gradient,
    require,
    require_close,
)

import numpy as np
import torch
from scipy.stats import rankdata
from torch.nn import functional as F

# -- 1: an area under the ROC curve that counts ties right -----------------------------------------


def _check_auroc(attempt, case):
    n = case.size("n", 40, 60)
    labels = torch.arange(n) < n // 4
    scores = (case.values(n) + case.scale * labels - 0.5 * case.scale).relu()  # many zeros
    order = torch.randperm(n)
    labels, scores = labels[order], scores[order]
    value = as_number(attempt(scores.clone(), labels.clone()), "one number")
    positive, negative = scores[labels][:, None], scores[~labels]
    wins, ties = (positive > negative).double().mean(), (positive == negative).double().mean()
    place = torch.empty(n)
    place[scores.argsort(stable=True)] = torch.arange(1.0, n + 1)
    count = int(labels.sum())
    by_place = (place[labels].sum() - count * (count + 1) / 2) / (count * (n - count))
    require_close(
        value,
        wins + ties / 2,
        [
            (
                wins,
                "You count a tie as a loss. Two zeros say nothing: they are worth half a point. As "
                "it is, a latent that is always silent gets 0 instead of 0.5.",
            ),
            (
                wins + ties,
                "You count a tie as a win. As it is, a latent that is always silent gets 1 instead "
                "of 0.5.",
            ),
            (
                1 - wins - ties / 2,
                "The two groups are exchanged: it is the probability that the *positive* scores "
                "higher.",
            ),
            (
                wins / (1 - ties),
                "You leave ties out. Then a latent that is active for one positive example and "
                "silent otherwise gets 1. A tie counts as half.",
            ),
            (
                by_place,
                "You gave equal scores different ranks, by their place after sorting. Equal scores "
                "share the mean of their ranks.",
            ),
        ],
        f"This gives {value:.4g}; over all pairs of a positive and a negative it is "
        f"{float(wins + ties / 2):.4g}.",
    )
    silent = as_number(attempt(torch.zeros_like(scores), labels.clone()), "one number")
    require(close(silent, 0.5), f"A latent that is always silent has 0.5. You return {silent:.4g}.")
    return "A sparse latent is mostly zeros: without the half points its AUROC means nothing."


def area_under_roc(scores, labels):
    positive, negative = scores[labels], scores[~labels]
    wins = (positive[:, None] > negative).double()  # (positives, negatives)
    ties = (positive[:, None] == negative).double()
    return (wins + ties / 2).mean()


def _by_ranks(scores, labels):
    ranks = rankdata(scores.numpy())
    p, n = int(labels.sum()), len(labels)
    return (ranks[labels.numpy()].sum() - p * (p + 1) / 2) / (p * (n - p))


area = Exercise(
    "Given `scores (n,)` of one latent and `labels (n,)`, True where the cause is there, return the "
    "AUROC: the probability that a random positive scores higher than a random negative, a tie "
    "counting as half.",
    _check_auroc,
    [
        "Compare each positive with each negative: `scores[labels][:, None]` against "
        "`scores[~labels]`.",
        "A pair is worth 1, where the positive is higher, 1/2 where both are equal, else 0. The "
        "AUROC is the mean over all pairs.",
        "`((p > q) + 0.5 * (p == q)).mean()`, once the two are numbers and not truth values.",
    ],
    area_under_roc,
    alternatives=[
        _by_ranks,
        metrics.auroc,
        lambda scores, labels: (
            0.5 + torch.sign(scores[labels][:, None] - scores[~labels]).mean().item() / 2
        ),
    ],
    wrong=[
        (
            lambda scores, labels: (scores[labels][:, None] > scores[~labels]).float().mean(),
            "a tie as a loss",
        ),
        (
            lambda scores, labels: (scores[labels][:, None] >= scores[~labels]).float().mean(),
            "a tie as a win",
        ),
        (lambda scores, labels: area_under_roc(scores, ~labels), "exchanged"),
        (
            lambda scores, labels: _by_ranks(scores.argsort(stable=True).argsort(), labels),
            "different ranks",
        ),
        (lambda scores, labels: metrics.average_precision(scores, labels), "over all pairs"),
        (
            lambda scores, labels: area_under_roc(scores, labels) if scores.any() else 0.0,
            "always silent has 0.5",
        ),
        (lambda scores, labels: scores[labels], "one number"),
    ],
)


# -- 2: TopK ---------------------------------------------------------------------------------------


def _largest(scores, k, dim=1):
    """1 at the k largest scores along `dim`, 0 elsewhere."""
    return torch.zeros_like(scores).scatter(dim, scores.topk(k, dim=dim).indices, 1.0)


def _check_topk(attempt, case):
    n, latent = case.size("B", 12, 12), case.size("latent", 13, 20)
    k = case.whole(3, 5)
    pre = case.values(n, latent)
    pre[0] = -pre[0].abs()  # fewer than k above zero: none, and then two
    pre[1, 2:] = -pre[1, 2:].abs()
    pre[1, :2] = pre[1, :2].abs()
    pre.requires_grad_()
    got = attempt(pre, k)
    value = as_tensor(got, (n, latent), "a tensor")
    with torch.no_grad():
        kept = _largest(pre, k)
        right = (pre * kept).relu()
        largest = _largest(pre.abs(), k)
        smallest = _largest(-pre, k)
        least = pre.relu().flatten().sort(descending=True).values[: k * n][-1]
        fewer, more = topk(pre, k - 1), topk(pre, k + 1)
        of_columns = _largest(pre, k, dim=0)
        moved = F.pad(pre.relu().topk(k, dim=1).values, (0, latent - k))
    require_close(
        value,
        right,
        [
            (
                pre * kept,
                "Negative values are among what you keep: where fewer than k are above zero, keep "
                "only these.",
            ),
            (
                pre * largest,
                "You kept the largest *absolute* values. An activation below zero is not active.",
            ),
            (pre.abs() * largest, "You kept the largest *absolute* values."),
            (pre * smallest, "You kept the k smallest."),
            (kept, "You return which ones are kept. Return their values."),
            (kept * (pre > 0), "You return which ones are kept. Return their values."),
            (
                pre.relu() * (pre >= least),
                "You kept the largest of the whole batch (a BatchTopK). Wanted are k for each row.",
            ),
            (pre.relu(), "This is ReLU alone: all values above zero are still there."),
            (
                fewer,
                f"You kept {k - 1} of each row, not {k}. A comparison with the k-th largest has to "
                "let the k-th largest itself pass: `>=`.",
            ),
            (more, f"You kept {k + 1} of each row, not {k}."),
            *(
                (
                    of_columns * part,
                    "You kept the k largest of each *column*: of one latent over the batch. Wanted "
                    "are those of each row, `dim=1`.",
                )
                for part in (pre, pre.relu())
            ),
            (
                moved,
                "The values are right, but they stand at the front of the row. Each has to stay at "
                "its latent: `topk` returns the indices as well.",
            ),
            (
                F.softmax(pre, dim=1) * kept,
                "You return shares. Return the values themselves: the decoder needs their size.",
            ),
        ],
        f"Of each row the {k} largest remain, where they are above zero, at their places. Yours "
        f"has {float((value != 0).sum()) / n:.3g} other than zero per row.",
    )
    (gradient,) = needs_gradient(got, pre)
    require(
        close(gradient, (right > 0).to(pre.dtype)),
        "The values are right, but their gradient is not: what is kept passes it on unchanged, "
        "what is not gets none.",
    )
    return "No penalty, so no shrinkage: the values that stay are not pulled towards zero."


def topk(pre, k):
    top = pre.relu().topk(k, dim=1)
    return torch.zeros_like(pre).scatter(1, top.indices, top.values)


def _by_threshold(pre, k):
    least = pre.sort(dim=1, descending=True).values[:, k - 1 : k]
    return torch.where(pre >= least, pre.relu(), 0.0 * pre)


kept = Exercise(
    "Write TopK: of each row of `pre (B, latent)` keep the `k` largest values where they are above "
    "zero, at their places, and set all others to 0. The encoder is trained through it.",
    _check_topk,
    [
        "`pre.topk(k, dim=1)` gives the k largest of each row and where they were.",
        "`torch.zeros_like(pre).scatter(1, indices, values)` puts values back to their places.",
        "Where fewer than k are above zero, some of the k are negative: apply ReLU first, or after.",
    ],
    topk,
    alternatives=[
        _by_threshold,
        lambda pre, k: pre.relu() * torch.zeros_like(pre).scatter(1, pre.topk(k, 1).indices, 1.0),
        lambda pre, k: torch.stack(
            [torch.where(row >= row.sort().values[-k], row, 0).relu() for row in pre]
        ),
    ],
    wrong=[
        (lambda pre, k: pre.relu(), "ReLU alone"),
        (
            lambda pre, k: _largest(pre, k) * pre,
            "Negative values",
        ),
        (
            lambda pre, k: pre * _largest(pre.abs(), k),
            "*absolute* values",
        ),
        (lambda pre, k: topk(pre.T, 1).T, "other than zero per row"),
        (lambda pre, k: topk(pre.T, k).T, "of each *column*"),
        (
            lambda pre, k: pre * _largest(pre, k, dim=0),
            "of each *column*",
        ),
        (lambda pre, k: topk(pre, k + 1), "of each row, not"),
        (
            lambda pre, k: pre.relu() * (pre > pre.topk(k, dim=1).values[:, -1:]),
            "let the k-th largest itself pass",
        ),
        (
            lambda pre, k: F.pad(pre.relu().topk(k, dim=1).values, (0, pre.shape[1] - k)),
            "at the front of the row",
        ),
        (
            lambda pre, k: F.softmax(pre, 1) * _largest(pre, k),
            "You return shares",
        ),
        (lambda pre, k: topk(pre, k).sign(), "Return their values"),
        (lambda pre, k: topk(pre.flatten()[None], k * len(pre)).view_as(pre), "whole batch"),
        (lambda pre, k: topk(pre, k - 1), "of each row, not"),
        (lambda pre, k: 2 * topk(pre, k), "largest remain"),
        (lambda pre, k: pre.relu().topk(k, dim=1).values, "of shape"),
        (lambda pre, k: topk(pre, k).detach(), "No gradient flows"),
        (lambda pre, k: (topk(pre, k) + topk(pre, k).detach()) / 2, "their gradient is not"),
    ],
)


# -- 3: fidelity -----------------------------------------------------------------------------------


def _check_fidelity(attempt, case):
    n, d = case.size("n", 30, 50), case.size("d", 4, 8)
    latent = case.size("latent", 10, 16)
    a = case.values(n, d) * (1 + torch.arange(d)) + 3 * case.scale
    a_hat = a + 0.4 * case.values(n, d) * (1 + case.pixels(n, 1)) + 0.3 * case.scale
    z = (case.values(n, latent) - 0.7 * case.scale).relu()
    got = attempt(a.clone(), a_hat.clone(), z.clone())
    got = list(got) if np.iterable(got) else []
    require(len(got) == 2, "Return two numbers: the fraction of variance unexplained, and L0.")
    each = "one number for each of the two"
    fvu, l0 = (as_number(value, each) for value in got)
    error, center = (a_hat - a).pow(2), a - a.mean(0)
    right_fvu, right_l0 = error.sum() / center.pow(2).sum(), (z > 0).sum() / n
    sample_variance = a.var(0).sum()  # divides by n - 1
    require(
        not (close(fvu, right_l0) and close(l0, right_fvu)),
        "Both numbers are right, and the other way round: the unexplained variance comes first.",
    )
    require_close(
        fvu,
        right_fvu,
        [
            (
                1 - right_fvu,
                "That is the fraction *explained*. Unexplained is what is wrong: 0 is perfect.",
            ),
            (
                error.sum() / a.pow(2).sum(),
                "You divided by the squares of the activations themselves. A reconstruction by the "
                "mean alone has to score 1: subtract the mean first.",
            ),
            (
                error.sum() / (a - a.mean()).pow(2).sum(),
                "You subtracted one mean for all units. Each unit has its own: `a.mean(0)`.",
            ),
            (
                (error.sum(1) / center.pow(2).sum(1)).mean(),
                "You averaged ratios of single examples: one near the mean then decides. Sum first, "
                "then divide.",
            ),
            (
                (error.sum(0) / center.pow(2).sum(0)).mean(),
                "You averaged ratios of single units: a unit that hardly varies then counts as much "
                "as all. Sum first, then divide.",
            ),
            (
                right_fvu.sqrt(),
                "You took a root: a fraction of *variance* is a ratio of squares.",
            ),
            (
                error.sum() / n,
                "That is the squared error. Divide it by what the mean alone leaves.",
            ),
            (error.mean(), "That is the squared error. Divide it by what the mean alone leaves."),
            *(
                (
                    (a_hat - a).var(0, correction=c).sum() / a.var(0, correction=c).sum(),
                    "You subtracted the error's own mean: a reconstruction that is off by a "
                    "constant is then forgiven. Square the errors as they are.",
                )
                for c in (0, 1)
            ),
            (
                error.sum() / n / sample_variance,
                "Nearly. You divide the error by n, and `var` divides by n - 1. Divide a sum by a "
                "sum, or use `correction=0`.",
            ),
            *(
                (
                    value / variance,
                    "Both lines have to treat the units alike: you averaged over units in one and "
                    "added up in the other.",
                )
                for variance in (sample_variance, a.var(0, correction=0).sum())
                for value in (error.mean(), d * error.sum() / n)
            ),
            *(
                (
                    sign * (1 - a_hat.var(0).sum() / sample_variance) + (sign < 0),
                    "You compare how much the two vary, not whether they agree. Take their "
                    "difference first.",
                )
                for sign in (1, -1)
            ),
        ],
        f"{float(right_fvu):.4g} of the variance is unexplained here. You return {fvu:.4g}.",
    )
    require_close(
        l0,
        right_l0,
        [
            (
                (z > 0).float().mean(),
                "That is the *share* of latents that are active. L0 is how many, per example.",
            ),
            ((z > 0).sum(), "You counted over all examples. Take the mean over them."),
            (
                (z > 0).sum() / latent,
                "You averaged over the latents. Sum over them, mean over rows.",
            ),
            (z.sum() / n, "You added up the values: that is the L1 norm. L0 counts."),
            ((z > 0).any(0).sum(), "You counted latents that are ever active. Count per example."),
            (
                (z > 0).sum(1).max(),
                "That is the example with the most. Take the mean over examples.",
            ),
            (
                (z <= 0).sum() / n,
                "You counted the latents that are silent. L0 counts those that are not 0.",
            ),
        ],
        f"{float(right_l0):.4g} latents are active per example. You return {l0:.4g}.",
    )
    return "One number without the other says nothing: with enough active latents anything fits."


def fidelity(a, a_hat, z):
    unexplained = (a_hat - a).pow(2).sum() / (a - a.mean(dim=0)).pow(2).sum()
    return unexplained, (z > 0).sum(dim=1).double().mean()


faithful = Exercise(
    "Given activations `a (n, d)`, their reconstructions `a_hat (n, d)` and codes `z (n, latent)`, none "
    "below zero, return two numbers: the fraction of variance unexplained, and L0.",
    _check_fidelity,
    [
        "Reconstructing every example by the mean `a.mean(0)` leaves all of the variance: that has to "
        "score 1.",
        "Squared error, summed over everything, divided by the squared distance from the mean, "
        "summed over everything.",
        "L0 is the number of active latents of an example, `(z > 0).sum(dim=1)`, mean over examples.",
    ],
    fidelity,
    alternatives=[
        lambda a, a_hat, z: (
            float(((a_hat - a) ** 2).mean() / a.var(0, correction=0).mean()),
            np.count_nonzero(z, axis=1).mean(),
        ),
        lambda a, a_hat, z: [
            ((a_hat - a).norm() / (a - a.mean(0)).norm()) ** 2,
            z.sign().sum(1).mean(),
        ],
    ],
    wrong=[
        (lambda a, a_hat, z: fidelity(a, a_hat, z)[::-1], "the other way round"),
        (lambda a, a_hat, z: (1 - fidelity(a, a_hat, z)[0], 0), "*explained*"),
        (lambda a, a_hat, z: ((a_hat - a).pow(2).sum() / a.pow(2).sum(), 0), "mean first"),
        (
            lambda a, a_hat, z: ((a_hat - a).pow(2).sum() / (a - a.mean()).pow(2).sum(), 0),
            "one mean for all",
        ),
        (lambda a, a_hat, z: (fidelity(a, a_hat, z)[0].sqrt(), 0), "took a root"),
        (lambda a, a_hat, z: ((a_hat - a).pow(2).sum(1).mean(), 0), "Divide it by"),
        (
            lambda a, a_hat, z: (
                ((a_hat - a).pow(2).sum(0) / (a - a.mean(0)).pow(2).sum(0)).mean(),
                0,
            ),
            "ratios of single units",
        ),
        (
            lambda a, a_hat, z: (
                ((a_hat - a).pow(2).sum(1) / (a - a.mean(0)).pow(2).sum(1)).mean(),
                0,
            ),
            "ratios of single examples",
        ),
        (
            lambda a, a_hat, z: (fidelity(a, a_hat, z)[0], (z > 0).float().mean()),
            "the *share* of latents",
        ),
        (lambda a, a_hat, z: (fidelity(a, a_hat, z)[0], z.sum(1).mean()), "L1 norm"),
        (lambda a, a_hat, z: (fidelity(a, a_hat, z)[0], (z > 0).sum()), "over all examples"),
        (lambda a, a_hat, z: (fidelity(a, a_hat, z)[0], (z > 0).any(0).sum()), "ever active"),
        (lambda a, a_hat, z: (fidelity(a, a_hat, z)[0], (z > 0).sum(0).float().mean()), "latents"),
        (lambda a, a_hat, z: fidelity(a, a_hat, z)[0], "Return two numbers"),
        (lambda a, a_hat, z: ((a_hat - a).var(0).sum() / a.var(0).sum(), 0), "error's own mean"),
        (lambda a, a_hat, z: ((a_hat - a).pow(2).sum(1).mean() / a.var(0).sum(), 0), "Nearly"),
        (lambda a, a_hat, z: ((a_hat - a).pow(2).mean() / a.var(0).sum(), 0), "units alike"),
        (
            lambda a, a_hat, z: ((a_hat - a).pow(2).sum(1).mean() / a.var(0).mean(), 0),
            "units alike",
        ),
        (lambda a, a_hat, z: (1 - a_hat.var(0).sum() / a.var(0).sum(), 0), "whether they agree"),
        (lambda a, a_hat, z: (a_hat.var(0).sum() / a.var(0).sum(), 0), "whether they agree"),
        (lambda a, a_hat, z: (fidelity(a, a_hat, z)[0], (z > 0).sum(1).max()), "with the most"),
        (lambda a, a_hat, z: (fidelity(a, a_hat, z)[0], (z == 0).sum() / len(z)), "are silent"),
    ],
)


# -- 4: what is wrong with this dictionary? --------------------------------------------------------


SIGNS = {  # what was measured in each of them
    "healthy": "each latent is active for some inputs and for few, no two atoms agree, and no "
    "factor on the code improves the reconstruction much",
    "dead": "most latents are active for no input",
    "dense": "an input activates most of the latents",
    "duplicates": "many atoms have another one of the same direction, by cosine similarity",
    "shrunk": "the reconstruction has the right direction and is too short: multiplying the code by "
    "a number above 1 removes most of the error",
}


def _dictionary(kind, case):
    """Activations `(n, d)`, codes `(n, latent)`, unit atoms `(latent, d)` of one of the kinds."""
    n, d = case.size("n", 150, 250), case.size("d", 24, 32)
    latent = case.size("latent", 40, 60)
    atoms = F.normalize(case.normal(latent, d), dim=1)
    share = {"dense": (0.7, 0.9), "dead": (0.3, 0.4)}.get(kind, (0.06, 0.1))  # of what lives
    active = case.pixels(n, latent) < case.number_between(*share)
    active[:latent] |= torch.eye(latent, dtype=torch.bool)
    if kind == "dead":
        active[:, torch.randperm(latent)[: int(case.number_between(0.6, 0.85) * latent)]] = False
    if kind == "duplicates":
        half = latent // 2
        atoms[half : 2 * half] = F.normalize(atoms[:half] + 0.02 * case.normal(half, d), dim=1)
    z = active * (0.5 + case.pixels(n, latent)) * case.scale
    a = z @ atoms + case.number_between(0.05, 0.5) * case.values(n, d)
    if kind == "shrunk":
        z = z * case.number_between(0.4, 0.65)
    return a, z, atoms


def _against(word, a, z, atoms):
    """What speaks against the diagnosis `word`, measured."""
    active, a_hat = z > 0, z @ atoms
    nearest = (atoms @ atoms.T - 2 * torch.eye(len(atoms), dtype=atoms.dtype)).amax(dim=1)
    factor = (a * a_hat).sum() / a_hat.pow(2).sum()
    return {
        "healthy": "",
        "dead": f" {active.any(dim=0).float().mean():.0%} of its latents are active for some input.",
        "dense": f" An input activates {active.float().mean():.0%} of its latents on average.",
        "duplicates": f" {(nearest > 0.95).float().mean():.0%} of its atoms have *another* one with "
        "a cosine above 0.95; each has 1 with itself.",
        "shrunk": f" The factor on its code that fits best is {factor:.2f}. Noise makes "
        "activations longer than their reconstruction, and its error larger, without shrinkage.",
    }[word]


def _check_diagnosis(attempt, case):
    for kind in [*SIGNS] * 4:
        a, z, atoms = _dictionary(kind, case)
        word = attempt(a.clone(), z.clone(), atoms.clone())
        require(
            isinstance(word, str) and word in SIGNS,
            f"Return one of {', '.join(map(repr, SIGNS))}; you returned {word!r}.",
        )
        require(
            word == kind,
            f"You say {word!r}, but this one is {kind!r}: {SIGNS[kind]}."
            + _against(word, a, z, atoms),
        )
    return "The reconstruction error alone tells none of them apart. Look at all four numbers."


def examine(a, z, atoms):
    active = z > 0
    cosine = atoms @ atoms.T - 2 * torch.eye(len(atoms), dtype=atoms.dtype)
    a_hat = z @ atoms
    factor = (a * a_hat).sum() / a_hat.pow(2).sum()  # of least squares
    if (~active.any(dim=0)).float().mean() > 0.4:
        return "dead"
    if active.float().mean() > 0.4:
        return "dense"
    if (cosine.amax(dim=1) > 0.95).float().mean() > 0.4:
        return "duplicates"
    return "shrunk" if factor > 1.25 else "healthy"


def _examine_by_counts(a, z, atoms):
    on = (z > 0).float()
    if (on.sum(0) == 0).sum() > len(atoms) / 2:
        return "dead"
    if on.sum(1).mean() > len(atoms) / 3:
        return "dense"
    if torch.pdist(atoms).lt(0.3).sum() > len(atoms) / 4:
        return "duplicates"
    slope = np.polyfit((z @ atoms).flatten().numpy(), a.flatten().numpy(), 1)[0]
    return "shrunk" if slope > 1.3 else "healthy"


def _examine_by_lengths(a, z, atoms):
    word = examine(a, z, atoms)
    short = (z @ atoms).norm() < 0.8 * a.norm()
    return ("shrunk" if short else "healthy") if word in ("shrunk", "healthy") else word


def _examine_by_error(a, z, atoms):
    word = examine(a, z, atoms)
    unexplained = (z @ atoms - a).pow(2).sum() / a.pow(2).sum()
    bad = "shrunk" if unexplained > 0.15 else "healthy"
    return bad if word in ("shrunk", "healthy") else word


def _examine_without(kind, said="healthy"):
    def answer(a, z, atoms):
        word = examine(a, z, atoms)
        return said if word == kind else word

    return answer


checkup = Exercise(
    "A sparse autoencoder without a bias: a_hat = z @ atoms. Activations may be noisy. From "
    "activations `a (n, d)`, codes "
    "`z (n, latent)` and atoms of length 1 `atoms (latent, d)` say what it is: 'healthy', 'dead' (most "
    "latents never active), 'dense' (an input activates most latents), 'duplicates' (atoms twice) or "
    "'shrunk' (codes too small by a common factor).",
    _check_diagnosis,
    [
        "Look along both axes of `z > 0`, at `atoms @ atoms.T`, and at `z @ atoms` beside `a`.",
        "Share of latents never active; share of latents active per input; cosine with the nearest "
        "*other* atom.",
        "The factor that fits best is `(a * a_hat).sum() / a_hat.pow(2).sum()`: near 1 unless the "
        "code shrank.",
    ],
    examine,
    alternatives=[_examine_by_counts],
    wrong=[
        (_examine_without("dead"), "this one is 'dead'"),
        (_examine_without("dense"), "this one is 'dense'"),
        (_examine_without("duplicates"), "this one is 'duplicates'"),
        (_examine_without("shrunk"), "this one is 'shrunk'"),
        (_examine_without("healthy", "shrunk"), "no factor on the code"),
        (lambda a, z, atoms: "healthy", "this one is 'dead'"),
        (lambda a, z, atoms: "sick", "Return one of"),
        (
            lambda a, z, atoms: "duplicates" if (atoms @ atoms.T).max() > 0.95 else "healthy",
            "each has 1 with itself",
        ),
        (_examine_by_lengths, "Noise makes activations longer"),
        (_examine_by_error, "Noise makes activations longer"),
        (
            lambda a, z, atoms: "dead" if (z == 0).float().mean() > 0.5 else "healthy",
            "100% of its latents are active for some input",
        ),
        (
            lambda a, z, atoms: "dense" if (z > 0).any(0).float().mean() > 0.5 else "healthy",
            "of its latents on average",
        ),
    ],
)


# -- 5: a study of one's own -----------------------------------------------------------------------


def study():
    from aecourse.training import set_seed

    def recovered(probability, k=3, directions=30, numbers=12, n=2000):
        """Mean cosine of each true direction with its nearest: k-means' centers, PCA's axes."""
        from sklearn.cluster import KMeans

        set_seed(0)
        true = F.normalize(torch.randn(directions, numbers), dim=1)
        x = (torch.rand(n, directions) < probability) * torch.rand(n, directions) @ true
        x = F.normalize(x[x.norm(dim=1) > 0], dim=1)
        centers = KMeans(directions, n_init=1, random_state=0).fit(x.numpy()).cluster_centers_
        axes = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh
        found = [F.normalize(torch.from_numpy(centers), dim=1), torch.cat([axes, -axes])]
        return [(true @ f.T).amax(1).mean().item() for f in found]

    settings = [0.02, 0.1, 0.4]  # how often each cause is there
    clusters, axes = zip(*(recovered(p) for p in settings))
    return {
        "claim": "The sparser the causes, the closer centers of k-means come to their directions",
        "settings": settings,
        "baseline": [*axes],
        "with": [*clusters],
        "holds": lambda a, b: b[0] - a[0] > b[-1] - a[-1],
    }


def _made(**changes):
    made = {
        "claim": "The dictionary leads the units most when causes are sparse",
        "settings": [0.1, 0.3, 0.9],
        "baseline": [0.80, 0.74, 0.66],
        "with": [0.95, 0.84, 0.67],
        "holds": lambda a, b: b[0] - a[0] > b[-1] - a[-1] > 0,
    }
    return made | changes


own_study = Exercise(
    "Make a claim about sparse autoencoders, measure it at three or more settings of something, with "
    "a baseline beside it, and say by a function of the two lists whether it holds.",
    check_of_study("baseline", "with", what="measurement"),
    [
        "Good questions: how few cards are enough? Does a wider network need fewer latents per "
        "symbol? What if some symbols are ten times as frequent as others?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'baseline' and 'with' one measurement "
        "per setting, and 'holds', a function of these two lists that is True when the claim is.",
        "`lambda a, b: b[0] - a[0] > b[-1] - a[-1]` says: the lead is larger at the first setting "
        "than at the last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="The dictionary is ahead of the baseline at all settings",
            holds=lambda a, b: all(p < q for p, q in zip(a, b)),
        ),
        _made(  # nothing was found, and that is said
            claim="The dictionary and the baseline are the same within 2 points",
            baseline=[0.94, 0.85, 0.68],
            holds=lambda a, b: max(abs(p - q) for p, q in zip(a, b)) < 0.02,
        ),
    ],
    wrong=[
        (_made(holds=lambda a, b: True), "cannot fail"),
        (_made(holds=lambda a, b: b[0] == 0.95), "exactly these numbers"),
        (_made(holds=lambda a, b: b[-1] < b[0]), "depend on the first list"),
        (_made(settings=[0.1, 0.9], baseline=[0.8, 0.7], **{"with": [0.9, 0.7]}), "three steps"),
        (_made(holds=lambda a, b: a[0] > b[0]), "not true of what you found"),
        (_made(baseline=[0.5, 0.7]), "one measurement per setting"),
        (_made(baseline=[float("nan")] * 3), "finite"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "sparse is better"}, "a dict with the entries"),
    ],
)

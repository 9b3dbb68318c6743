"""Exercises of lesson 11, Do unlabeled data help?"""

import copy
import math

from aecourse.exercises import Exercise, check_of_study, require

import torch
from torch import nn

# -- 1: what the labels are worth --------------------------------------------------------------------------------------


def _check_worth(attempt):
    labels, accuracy = [10, 100, 1000, 10_000], [40.0, 60.0, 80.0, 90.0]

    def asked(target):
        got = attempt(list(labels), list(accuracy), target)
        require(got is not None, "Your function returns nothing.")
        return float(got)

    exact = asked(60.0)
    require(
        not math.isclose(exact, 2.0, rel_tol=1e-6),
        "You return the logarithm of the number of labels. Undo it at the end: `10 ** ...`.",
    )
    require(
        math.isclose(exact, 100, rel_tol=1e-4),
        f"The curve passes 60 % at exactly 100 labels; you return {exact:g}.",
    )
    between = asked(70.0)
    require(
        not math.isclose(between, 550, rel_tol=1e-3),
        "Between 100 and 1,000 labels you go along a straight line "
        "over the *labels* and end at 550. Over their logarithm the middle is sqrt(100 * 1000), about 316.",
    )
    require(
        between not in (100, 1000),
        f"70 % lies between two measured points, and you return the point "
        f"{between:g} itself. Interpolate.",
    )
    require(
        math.isclose(between, 10**2.5, rel_tol=1e-3),
        f"70 % is halfway from 60 to 80 %, so halfway between 100 and "
        f"1,000 on the logarithmic axis: 316. You return {between:g}.",
    )
    require(
        math.isclose(asked(85.0), 10**3.5, rel_tol=1e-3),
        "70 % you find, 85 % you do not: take the two points that "
        "lie around the target, whichever they are.",
    )
    never = asked(95.0)
    require(
        never == math.inf,
        f"95 % is never reached: the last point is 90 %. You return {never:g}, which promises "
        "what nobody measured. Return `math.inf`.",
    )
    first = asked(30.0)
    require(
        first == 10,
        f"Already the first point is above 30 %, so the smallest number that was measured, 10, is "
        f"enough; you return {first:g}.",
    )
    return "This is the exchange rate between unlabeled images and labels. Expect it to differ along the curve."


def labels_needed(labels, accuracy, target):
    if target > max(accuracy):
        return math.inf  # never reached: do not extrapolate
    i = next(i for i, reached in enumerate(accuracy) if reached >= target)
    if i == 0:
        return labels[0]
    share = (target - accuracy[i - 1]) / (accuracy[i] - accuracy[i - 1])
    return labels[i - 1] * (labels[i] / labels[i - 1]) ** share


def _by_numpy(labels, accuracy, target):
    import numpy as np

    return (
        math.inf if target > accuracy[-1] else 10 ** np.interp(target, accuracy, np.log10(labels))
    )


def _linear(labels, accuracy, target):
    import numpy as np

    return np.interp(target, accuracy, labels)


def _extrapolated(labels, accuracy, target):
    import numpy as np

    return 10 ** np.interp(target, accuracy, np.log10(labels))


worth = Exercise(
    "Given a learning curve, `accuracy` in percent (rising) at numbers of `labels`, return how many labels it takes to "
    "reach `target`: a straight line over log(labels) between the points, `math.inf` if it is never reached.",
    _check_worth,
    [
        "First the ends: a target above the last accuracy is `math.inf`, one below the first is `labels[0]`.",
        "Between two points, `share = (target - a) / (b - a)` says how far along you are.",
        "On a logarithmic axis that share of the way from n to m is `n * (m / n) ** share`. `numpy.interp` on "
        "`numpy.log10(labels)` does the same.",
    ],
    labels_needed,
    alternatives=[_by_numpy],
    wrong=[
        (_linear, "over the *labels*"),
        (_extrapolated, "never reached"),
        (
            lambda labels, accuracy, target: math.log10(labels_needed(labels, accuracy, target)),
            "Undo it",
        ),
        (
            lambda labels, accuracy, target: next(
                (n for n, a in zip(labels, accuracy) if a >= target), math.inf
            ),
            "Interpolate",
        ),
    ],
)


# -- 2: is it really pre-trained? --------------------------------------------------------------------------------------


def _classifier(kind, seed, widths=(12,)):
    """A small autoencoder, and a classifier with three classes made from it in the way `kind`."""
    from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder

    torch.manual_seed(seed)

    def made():
        return mlp_encoder((1, 6, 6), list(widths[:-1]), widths[-1], final=nn.ReLU)

    model = Autoencoder(made(), mlp_decoder(widths[-1], [], (1, 6, 6)))
    encoder = {"shared": model.encoder, "fresh": made()}.get(kind) or copy.deepcopy(model.encoder)
    if kind == "frozen":
        encoder.requires_grad_(False)
    return model, nn.Sequential(encoder, nn.Linear(widths[-1], 3))


def _check_inspection(attempt):
    said = {}
    for kind in ("copied", "shared", "frozen", "fresh"):
        for seed, widths in ((0, (12,)), (1, (20, 8))):
            model, classifier = _classifier(kind, seed, widths)
            before = {name: value.clone() for name, value in model.state_dict().items()}
            got = attempt(model, classifier)
            require(
                isinstance(got, str) and got in ("copied", "shared", "frozen", "fresh"),
                f"Return one of 'copied', 'shared', 'frozen', 'fresh'; you return {got!r}.",
            )
            require(
                all(torch.equal(before[name], value) for name, value in model.state_dict().items()),
                "Your inspection changed the autoencoder's weights.",
            )
            said.setdefault(kind, []).append(got)
    require(
        "copied" not in said["shared"],
        "You call a shared encoder copied. Equal values are not enough: if both hold "
        "the *same* tensor (`is`, or equal `data_ptr()`), then training one trains the other.",
    )
    require(
        "fresh" not in said["copied"] + said["frozen"],
        "You call copied weights fresh. A copy is another tensor with "
        "the same values: compare with `torch.equal`, not `is`.",
    )
    require(
        "copied" not in said["frozen"],
        "You call a frozen encoder copied. Its weights have `requires_grad` False: "
        "'fine-tuning' would move the last layer only.",
    )
    require(
        "copied" not in said["fresh"],
        "You call random weights copied: compare the values themselves. Equal shapes say nothing.",
    )
    for kind, answers in said.items():
        other = next((answer for answer in answers if answer != kind), None)
        require(other is None, f"A classifier whose encoder is {kind} you call {other}.")
    return "Three lines of checking, and the three commonest reasons why pre-training 'did not help' are ruled out."


def inspect_weights(autoencoder, classifier):
    encoder = list(autoencoder.encoder.parameters())
    mine = list(classifier.parameters())[: len(encoder)]
    if all(a is b for a, b in zip(mine, encoder)):
        return "shared"
    if not all(torch.equal(a, b) for a, b in zip(mine, encoder)):
        return "fresh"
    return "copied" if all(a.requires_grad for a in mine) else "frozen"


def _by_address(autoencoder, classifier):
    encoder, mine = next(autoencoder.encoder.parameters()), next(classifier.parameters())
    if mine.data_ptr() == encoder.data_ptr():
        return "shared"
    if (mine - encoder).abs().max() > 0:
        return "fresh"
    return "copied" if mine.requires_grad else "frozen"


def _values_only(autoencoder, classifier):
    same = torch.equal(next(autoencoder.encoder.parameters()), next(classifier.parameters()))
    return (
        ("copied" if next(classifier.parameters()).requires_grad else "frozen") if same else "fresh"
    )


def _identity_only(autoencoder, classifier):
    return (
        "shared"
        if next(autoencoder.encoder.parameters()) is next(classifier.parameters())
        else "fresh"
    )


def _not_frozen(autoencoder, classifier):
    said = inspect_weights(autoencoder, classifier)
    return "copied" if said == "frozen" else said


def _shapes_only(autoencoder, classifier):
    a, b = next(autoencoder.encoder.parameters()), next(classifier.parameters())
    if a is b:
        return "shared"
    return ("copied" if b.requires_grad else "frozen") if a.shape == b.shape else "fresh"


inspection = Exercise(
    "Given an autoencoder and a classifier that was made from it, say what happened to the encoder's weights: "
    "'copied', 'shared', 'frozen' or 'fresh'.",
    _check_inspection,
    [
        "`list(autoencoder.encoder.parameters())` and the first parameters of `classifier.parameters()` belong together, "
        "in order.",
        "Two questions about a pair of tensors: are they the same object (`a is b`)? Have they the same values "
        "(`torch.equal(a, b)`)?",
        "Same object: shared. Other values: fresh. Else look at `requires_grad`: copied or frozen.",
    ],
    inspect_weights,
    alternatives=[_by_address],
    wrong=[
        (_values_only, "training one trains the other"),
        (_identity_only, "You call copied weights fresh"),
        (_not_frozen, "move the last layer only"),
        (_shapes_only, "Equal shapes say nothing"),
        (lambda autoencoder, classifier: "copied", "training one trains the other"),
        (lambda autoencoder, classifier: True, "Return one of"),
    ],
)


# -- 3: what is wrong with these features? -----------------------------------------------------------------------------

KINDS = ("fine", "collapsed", "mismatched", "folded")


def _features(kind, seed, n=300):
    """Features z (n, 12) and labels y (n,), for training and test, with the fault `kind`; three classes."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (2 * n,), generator=g)
    centers = 4 * torch.eye(3, 12)[torch.randperm(3, generator=g)]
    z = centers[y] + torch.randn(2 * n, 12, generator=g)
    # rings around each other: near neighbors agree, no linear boundary divides
    if kind == "folded":
        angle = 6.2832 * torch.rand(2 * n, generator=g)
        ring = torch.stack([angle.cos(), angle.sin()], 1) * (1 + 2 * y)[:, None]
        z = torch.cat([ring, torch.zeros(2 * n, 10)], 1) + 0.1 * torch.randn(2 * n, 12, generator=g)
    if kind == "collapsed":
        z = 0.7 * torch.ones(2 * n, 12)
    if kind == "fine":
        z[:, 4:] = 0  # most units silent, the others say all that is wanted
    if kind == "mismatched":
        z[n:] = -z[n:] + 3  # the test images went through another preprocessing
    return z[:n], y[:n], z[n:], y[n:]


def _check_diagnose(attempt):
    found = {}
    for seed in range(2):
        for kind in KINDS:
            said = attempt(*_features(kind, seed))
            require(
                isinstance(said, str) and said in KINDS,
                f"Return one of {', '.join(KINDS)}; you return {said!r}.",
            )
            found.setdefault(kind, []).append(said)
    wrong = {kind: said for kind, said in found.items() if set(said) != {kind}}
    require(
        "collapsed" not in found["fine"],
        "You call good features collapsed because some of their units are "
        "silent. A ReLU layer always has such units; collapsed means *all*.",
    )
    require(
        "fine" not in found["mismatched"],
        "You call features fine whose probe is good on the training rows and "
        "fails on test images. A probe is judged on rows it has not seen.",
    )
    require(
        not (
            wrong.keys() & {"folded", "mismatched"}
            and "folded" in found["mismatched"] + found["collapsed"]
        ),
        "You say folded wherever the linear probe fails. Folded means that the classes *are* apart: near neighbors "
        "in the test set agree. Ask a k-nearest-neighbor classifier.",
    )
    require(
        "mismatched" not in found["folded"],
        "You say mismatched of features that are merely folded. If test and "
        "training features come from one source, their means and variances agree, and neighbors can be trusted.",
    )
    for kind, said in wrong.items():
        require(False, f"Features that are {kind} you call {said[0]}.")
    return (
        "A failed probe has several causes, and each has another cure. Now you can tell them apart."
    )


def diagnose_features(z, y, z_test, y_test):
    from aecourse import metrics

    from sklearn.neighbors import KNeighborsClassifier

    if z.std(0).max() < 1e-3:  # every image has the same code
        return "collapsed"
    if metrics.linear_probe(z, y, z_test, y_test) > 0.8:
        return "fine"
    neighbors = KNeighborsClassifier(5).fit(z, y).score(z_test, y_test)
    return "folded" if neighbors > 0.8 else "mismatched"


def _by_moments(z, y, z_test, y_test):
    from aecourse import metrics

    std = z.std(0).max()
    if std == 0:
        return "collapsed"
    if (z.mean(0) - z_test.mean(0)).abs().max() > std / 2:
        return "mismatched"
    half = len(z) // 2
    return (
        "fine" if metrics.linear_probe(z[:half], y[:half], z[half:], y[half:]) > 0.7 else "folded"
    )


def _probe_only(z, y, z_test, y_test):
    from aecourse import metrics

    return "fine" if metrics.linear_probe(z, y, z_test, y_test) > 0.8 else "folded"


def _on_training_rows(z, y, z_test, y_test):
    from aecourse import metrics

    if z.std(0).max() < 1e-3:
        return "collapsed"
    return "fine" if metrics.linear_probe(z, y, z, y) > 0.8 else "folded"


def _any_silent(z, y, z_test, y_test):
    return "collapsed" if bool((z.std(0) < 1e-3).any()) else diagnose_features(z, y, z_test, y_test)


def _no_neighbors(z, y, z_test, y_test):
    from aecourse import metrics

    if z.std(0).max() < 1e-3:
        return "collapsed"
    return "fine" if metrics.linear_probe(z, y, z_test, y_test) > 0.8 else "mismatched"


diagnosis = Exercise(
    "A linear probe reads nothing off these features. Why? Return 'collapsed' (every image has the same code), "
    "'mismatched' (test images were prepared in another way than training images), 'folded' (the classes are apart, "
    "but no linear decision boundary divides them) or 'fine'.",
    _check_diagnose,
    [
        "Begin with what is cheapest to see: does any unit vary at all over the images?",
        "`metrics.linear_probe(z, y, z_test, y_test)` tells fine features from the rest, if you test on the test rows.",
        "Two are left. With folded features a nearest-neighbor classifier (`sklearn.neighbors.KNeighborsClassifier`) does "
        "well on the test rows; with mismatched ones nothing does.",
    ],
    diagnose_features,
    alternatives=[_by_moments],
    wrong=[
        (_probe_only, "wherever the linear probe fails"),
        (_on_training_rows, "has not seen"),
        (_any_silent, "collapsed means *all*"),
        (_no_neighbors, "merely folded"),
        (lambda z, y, z_test, y_test: "fine", "has not seen"),
        (lambda z, y, z_test, y_test: True, "Return one of"),
    ],
)


def _rows(y, per_class, seed):
    """Row numbers of a random draw, `per_class` of every class in `y`."""
    mixed = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    return torch.cat([mixed[y[mixed] == c][:per_class] for c in y.unique()])


# -- 4: a study of one's own -------------------------------------------------------------------------------------------


def _mean_accuracies(name, entries, n):
    rows = [torch.as_tensor(row, dtype=torch.float64).flatten() for row in entries]
    require(len(rows) == n, f"{name!r} needs one entry per setting: {n}, not {len(rows)}.")
    require(
        all(len(row) >= 2 for row in rows),
        f"{name!r} has one accuracy per setting. Which labels were drawn is luck: give two "
        "draws or more, as a list for each setting.",
    )
    require(
        all(bool(((row >= 0) & (row <= 100)).all()) for row in rows),
        "An accuracy lies between 0 and 100 %.",
    )
    return [float(row.mean()) for row in rows]


def study():
    from aecourse import data, losses, metrics
    from aecourse.data import Batches
    from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
    from aecourse.training import fit, set_seed

    def denoise(model, x):
        return losses.squared_error(model(x + 0.3 * torch.randn_like(x)), x)

    # a rolled sheet; which third of its length: three classes
    roll, place = data.swiss_roll(1400, seed=0)
    y, settings, found = (place * 3).long().clamp(max=2), [9, 30, 90], {"features": [], "rival": []}
    set_seed(0)
    model = Autoencoder(
        mlp_encoder((3,), [], 64, final=nn.ReLU), mlp_decoder(64, [], (3,), final=None)
    )
    fit(model, denoise, Batches(roll[:1000], batch_size=100), 20, lr=1e-2, progress=False)
    with torch.no_grad():
        inputs = {"features": model.encode(roll), "rival": roll}
    for n in settings:
        for name, z in inputs.items():
            rows = [_rows(y[:1000], n // 3, seed) for seed in range(3)]
            found[name].append(
                [100 * metrics.linear_probe(z[r], y[r], z[1000:], y[1000:]) for r in rows]
            )
    return {
        "claim": "On a rolled sheet, features beat raw coordinates with 90 labels",
        "settings": settings,
        **found,
        "holds": lambda features, rival: features[-1] > rival[-1] + 5,
    }


def _made(**changes):
    made = {
        "claim": "the gain shrinks as labels are added",
        "settings": [30, 300, 3000],
        "features": [[60.0, 64.0], [84.0, 85.0], [93.0, 93.2]],
        "rival": [[50.0, 55.0], [79.0, 80.0], [92.0, 92.5]],
        "holds": lambda features, rival: features[0] - rival[0] > features[-1] - rival[-1] + 2,
    }
    return made | changes


own_study = Exercise(
    "Vary one thing in at least three steps (labels, unlabeled images, noise, width, another data set), measure your "
    "features and a rival at each over two draws or more, and claim something that could have turned out false.",
    check_of_study("features", "rival", read=_mean_accuracies),
    [
        "Good questions: how many unlabeled images are enough? Does more noise make better features? Does a second hidden "
        "layer help the probe?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'features' and 'rival' one list of accuracies in percent "
        "per setting (one per draw), and 'holds', a function of the two lists of means.",
        "`lambda features, rival: features[0] - rival[0] > features[-1] - rival[-1] + 2` says: the gain shrinks by more "
        "than 2 points.",
    ],
    study,
    alternatives=[
        _made(),
        _made(claim="features win with the fewest labels", holds=lambda f, r: f[0] > r[0]),
    ],
    wrong=[
        (_made(holds=lambda features, rival: True), "cannot fail"),
        (_made(features=[[60.0], [84.0], [93.0]]), "two draws or more"),
        (
            _made(
                settings=[30, 3000],
                features=[[60.0, 64.0], [93.0, 93.2]],
                rival=[[50.0, 55.0], [92.0, 92.5]],
            ),
            "at least three",
        ),
        (_made(holds=lambda features, rival: features[0] < rival[0]), "not true of what you found"),
        (_made(rival=[[50.0, 55.0]]), "one entry per setting"),
        (_made(features=[[math.nan, 64.0], [84.0, 85.0], [93.0, 93.2]]), "between 0 and 100"),
        (_made(claim="yes"), "in a sentence"),
        ({"claim": "features win"}, "a dict with the entries"),
    ],
)

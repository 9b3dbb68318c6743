"""Exercises of lesson 11, Do unlabeled data help?"""

import copy
import math

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
from torch import nn

# -- 1: what the labels are worth ------------------------------------------------------------------


def _check_worth(attempt, case):
    labels, accuracy = [10, 100, 1000, 10_000], [40.0, 60.0, 80.0, 90.0]
    if case.number:
        labels, accuracy = [case.whole(3, 30)], [case.number_between(10, 40)]
        for _ in range(case.size("points", 3, 6)):
            labels.append(labels[-1] * case.whole(2, 10))
            accuracy.append(accuracy[-1] + case.number_between(2, 9))

    def asked(target):
        return as_number(attempt(list(labels), list(accuracy), target), "one number of labels")

    points = list(zip(labels, accuracy))
    for n, reached in points:
        got = asked(reached)
        logarithm = "You return the logarithm of the number of labels. Undo it at the end."
        require_close(
            got,
            n,
            [(math.log10(n), f"{logarithm} (`10 ** ...`)"), (math.log(n), logarithm)],
            f"The curve passes {reached:.4g} % at exactly {n:,} labels; you return {got:,.4g}.",
        )
    for (n, low), (m, high) in zip(points, points[1:]):
        for share in (0.5, case.number_between(0.1, 0.9)):
            target = low + share * (high - low)
            got, right, linear = asked(target), n * (m / n) ** share, n + share * (m - n)
            between = f"{target:.3g} % lies between {low:.3g} % at {n:,} and {high:.3g} % at {m:,} "
            point = between + "labels, and you return one of these points itself. Interpolate."
            require_close(
                got,
                right,
                [
                    (
                        linear,
                        f"Between {n:,} and {m:,} labels you go along a straight line over the "
                        f"*labels* and end at {linear:,.4g}; over their logarithm it is "
                        f"{right:,.4g}.",
                    ),
                    (n, point),
                    (m, point),
                ],
                f"{between}labels: it takes {right:,.4g}. You return {got:,.4g}.",
            )
    never, first = asked(accuracy[-1] + 5), asked(accuracy[0] - 5)
    require(
        never == math.inf,
        f"{accuracy[-1] + 5:.3g} % is never reached: the last point is {accuracy[-1]:.3g} %. You "
        f"return {never:g}, which promises what nobody measured. Return `math.inf`.",
    )
    require(
        close(first, labels[0]),
        f"Already the first point is above {accuracy[0] - 5:.3g} %, so the smallest number that "
        f"was measured, {labels[0]}, is enough; you return {first:g}.",
    )
    return (
        "This is the exchange rate between unlabeled images and labels. Expect it to differ along "
        "the curve."
    )


def labels_needed(labels, accuracy, target):
    if target > max(accuracy):
        return math.inf  # never reached: do not extrapolate
    i = next(i for i, reached in enumerate(accuracy) if reached >= target)
    if i == 0:
        return labels[0]
    share = (target - accuracy[i - 1]) / (accuracy[i] - accuracy[i - 1])
    return labels[i - 1] * (labels[i] / labels[i - 1]) ** share


def _by_numpy(labels, accuracy, target):
    if target > accuracy[-1]:
        return math.inf
    return 10 ** np.interp(target, accuracy, np.log10(labels))


def _linear(labels, accuracy, target):
    return np.interp(target, accuracy, labels)


def _extrapolated(labels, accuracy, target):
    return 10 ** np.interp(target, accuracy, np.log10(labels))


worth = Exercise(
    "Given a learning curve, `accuracy` in percent (rising) at numbers of `labels`, return how "
    "many labels it takes to reach `target`: a straight line over log(labels) between the points, "
    "`labels[0]` below the first point, `math.inf` if it is never reached.",
    _check_worth,
    [
        "First the ends: a target above the last accuracy is `math.inf`, one below the first is "
        "`labels[0]`.",
        "Between two points, `share = (target - a) / (b - a)` says how far along you are.",
        "On a logarithmic axis that share of the way from n to m is `n * (m / n) ** share`. "
        "`numpy.interp` on `numpy.log10(labels)` does the same.",
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
        (lambda *given: min(labels_needed(*given), 10_000), "never reached"),
        (lambda *given: given[0][0] * labels_needed(*given) / 10, "but not for inputs"),
    ],
)


# -- 2: is it really pre-trained? ------------------------------------------------------------------


def _classifier(kind, case):
    """A small autoencoder, and a classifier with three classes made from it in the way `kind`."""
    from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder

    shape, latent = (1, case.size("H"), case.size("W")), case.size("latent")
    hidden = [case.size("hidden")] * (case.number % 2)

    def made():
        encoder = mlp_encoder(shape, hidden, latent, final=nn.ReLU).to(case.dtype)
        with torch.no_grad():
            for weight in encoder.parameters():
                weight.mul_(case.scale * (weight.ndim > 1))  # a bias starts at 0, as often
        return encoder

    model = Autoencoder(made(), mlp_decoder(latent, [], shape).to(case.dtype))
    encoder = model.encoder if kind == "shared" else copy.deepcopy(model.encoder)
    if "random" in kind:
        encoder = made()
    return model, nn.Sequential(encoder.requires_grad_("frozen" not in kind), nn.Linear(latent, 3))


def _check_inspection(attempt, case):
    said = {}
    for kind in ("copied", "shared", "frozen", "random", "random, frozen"):
        model, classifier = _classifier(kind, case)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        said[kind] = attempt(model, classifier)
        require(
            isinstance(said[kind], str) and said[kind] in ("copied", "shared", "frozen", "random"),
            f"Return one of 'copied', 'shared', 'frozen', 'random'; you return {said[kind]!r}.",
        )
        require(
            all(torch.equal(before[name], value) for name, value in model.state_dict().items()),
            "Your inspection changed the autoencoder's weights.",
        )
    require(
        said["shared"] != "copied",
        "You call a shared encoder copied. Equal values are not enough: if both hold the *same* "
        "tensor (`is`, or equal `data_ptr()`), then training one trains the other.",
    )
    require(
        "random" not in (said["copied"], said["frozen"]),
        "You call copied weights random. A copy is another tensor with the same values: compare "
        "with `torch.equal`, not `is`.",
    )
    require(
        said["frozen"] != "copied",
        "You call a frozen encoder copied. Its weights have `requires_grad` False: 'fine-tuning' "
        "would move the last layer only.",
    )
    require(
        said["random"] != "copied",
        "You call random weights copied: compare the values of the weights. Equal shapes say "
        "nothing, and equal biases little: many start at 0.",
    )
    require(
        said["random, frozen"] != "frozen",
        "You call random weights frozen. They cannot move, but nothing was copied into them: look "
        "at their values first.",
    )
    for kind, answer in said.items():
        require(answer in kind, f"A classifier whose encoder is {kind} you call {answer}.")
    return (
        "Three lines of checking, and the three commonest reasons why pre-training 'did not help' "
        "are ruled out."
    )


def inspect_weights(autoencoder, classifier):
    encoder = list(autoencoder.encoder.parameters())
    mine = list(classifier.parameters())[: len(encoder)]
    if all(a is b for a, b in zip(mine, encoder)):
        return "shared"
    if not all(torch.equal(a, b) for a, b in zip(mine, encoder)):
        return "random"
    return "copied" if all(a.requires_grad for a in mine) else "frozen"


def _by_address(autoencoder, classifier):
    encoder, mine = next(autoencoder.encoder.parameters()), next(classifier.parameters())
    if mine.data_ptr() == encoder.data_ptr():
        return "shared"
    if (mine - encoder).abs().max() > 0:
        return "random"
    return "copied" if mine.requires_grad else "frozen"


def _values_only(autoencoder, classifier):
    same = torch.equal(next(autoencoder.encoder.parameters()), next(classifier.parameters()))
    return (
        ("copied" if next(classifier.parameters()).requires_grad else "frozen")
        if same
        else "random"
    )


def _identity_only(autoencoder, classifier):
    return (
        "shared"
        if next(autoencoder.encoder.parameters()) is next(classifier.parameters())
        else "random"
    )


def _not_frozen(autoencoder, classifier):
    said = inspect_weights(autoencoder, classifier)
    return "copied" if said == "frozen" else said


def _last_bias(autoencoder, classifier):
    a, b = list(autoencoder.encoder.parameters())[-1], list(classifier.parameters())[-3]
    if a is b:
        return "shared"
    return ("copied" if b.requires_grad else "frozen") if torch.equal(a, b) else "random"


def _gradient_first(autoencoder, classifier):
    frozen = not next(classifier.parameters()).requires_grad
    return "frozen" if frozen else inspect_weights(autoencoder, classifier)


def _shapes_only(autoencoder, classifier):
    a, b = next(autoencoder.encoder.parameters()), next(classifier.parameters())
    if a is b:
        return "shared"
    return ("copied" if b.requires_grad else "frozen") if a.shape == b.shape else "random"


inspection = Exercise(
    "Given an autoencoder and a classifier that was made from it, say what happened to the "
    "encoder's weights: 'copied', 'shared', 'frozen' or 'random'.",
    _check_inspection,
    [
        "`list(autoencoder.encoder.parameters())` and the first parameters of "
        "`classifier.parameters()` belong together, in order.",
        "Two questions about a pair of tensors: are they the same object (`a is b`)? Have they the "
        "same values (`torch.equal(a, b)`)?",
        "Same object: shared. Other values: random. Else look at `requires_grad`: copied or frozen.",
    ],
    inspect_weights,
    alternatives=[_by_address],
    wrong=[
        (_values_only, "training one trains the other"),
        (_identity_only, "You call copied weights random"),
        (_not_frozen, "move the last layer only"),
        (_shapes_only, "Equal shapes say nothing"),
        (_last_bias, "equal biases little"),
        (_gradient_first, "random weights frozen"),
        (lambda autoencoder, classifier: "copied", "training one trains the other"),
        (lambda autoencoder, classifier: True, "Return one of"),
    ],
)


# -- 3: what is wrong with these features? ---------------------------------------------------------

KINDS = ("fine", "collapsed", "mismatched", "nonlinear")


def _features(kind, case):
    """Features z (n, d) and labels y (n,), for training and test, with the fault `kind`."""
    n, d, classes = case.whole(150, 250), case.size("d"), case.size("classes", 2, 4)
    y = case.wholes(0, classes - 1, n + 150)
    z = 4 * torch.eye(classes, d, dtype=case.dtype)[y] + case.normal(len(y), d)
    if kind == "nonlinear":  # rings around each other: near neighbors agree, no line divides them
        angle = 2 * math.pi * case.pixels(len(y))
        z = 0.1 * case.normal(len(y), d)
        z[:, :2] += torch.stack([angle.cos(), angle.sin()], 1) * (1 + 2 * y)[:, None]
    if kind == "collapsed":
        z = torch.full_like(z, 0.7 * (case.number % 2))
    if kind == "fine":
        z[:, 4:] = 0  # most units silent, the others say all that is wanted
    if kind == "mismatched":
        z[n:] = 3 - z[n:]  # the test images went through another preprocessing
    z = case.scale * z
    return z[:n], y[:n], z[n:], y[n:]


def _check_diagnose(attempt, case):
    found = {}
    # in many dimensions a linear boundary divides any training rows
    low = 300 if case.number == 2 else 9
    case.size("d", low, low + 3)
    for kind in KINDS:
        said = attempt(*_features(kind, case))
        require(
            isinstance(said, str) and said in KINDS,
            f"Return one of {', '.join(KINDS)}; you return {said!r}.",
        )
        found[kind] = said
    require(
        found["fine"] != "collapsed",
        "You call good features collapsed because some of their units are silent. A ReLU layer "
        "always has such units; collapsed means *all*.",
    )
    require(
        found["mismatched"] != "fine",
        "You call features fine that fail on test images. A probe is judged on rows it has not "
        "seen.",
    )
    require(
        found["nonlinear"] != "fine",
        "You call features fine whose classes no linear boundary divides. A probe is judged on "
        "rows it has not seen.",
    )
    require(
        "nonlinear" not in (found["mismatched"], found["collapsed"]),
        "You say nonlinear where the linear probe fails for another reason. Nonlinear means that the "
        "classes *are* apart: near neighbors in the test set agree. Ask a k-nearest-neighbor "
        "classifier.",
    )
    require(
        found["nonlinear"] != "mismatched",
        "You say mismatched of features that are merely nonlinear. If test and training features come "
        "from one source, their means and variances agree, and neighbors can be trusted.",
    )
    for kind, said in found.items():
        require(said == kind, f"Features that are {kind} you call {said}.")
    return (
        "A failed probe has several causes, and each has another cure. Now you can tell them apart."
    )


def diagnose_features(z, y, z_test, y_test):
    from aecourse import metrics

    from sklearn.neighbors import KNeighborsClassifier

    if z.std(0).max() <= 1e-3 * z.abs().max():  # every image has the same code
        return "collapsed"
    if metrics.linear_probe(z, y, z_test, y_test) > 0.8:
        return "fine"
    neighbors = KNeighborsClassifier(5).fit(z, y).score(z_test, y_test)
    return "nonlinear" if neighbors > 0.8 else "mismatched"


def _by_moments(z, y, z_test, y_test):
    from aecourse import metrics

    std = z.std(0).max()
    if std < 1e-6:
        return "collapsed"
    if (z.mean(0) - z_test.mean(0)).abs().max() > std / 2:
        return "mismatched"
    half = len(z) // 2
    return (
        "fine"
        if metrics.linear_probe(z[:half], y[:half], z[half:], y[half:]) > 0.7
        else "nonlinear"
    )


def _probe_only(z, y, z_test, y_test):
    from aecourse import metrics

    return "fine" if metrics.linear_probe(z, y, z_test, y_test) > 0.8 else "nonlinear"


def _on_training_rows(z, y, z_test, y_test):
    from aecourse import metrics

    if z.std(0).max() < 1e-3:
        return "collapsed"
    return "fine" if metrics.linear_probe(z, y, z, y) > 0.8 else "nonlinear"


def _on_test_rows(z, y, z_test, y_test):
    from aecourse import metrics

    said = diagnose_features(z, y, z_test, y_test)
    if said in ("collapsed", "fine"):
        return said
    return (
        "mismatched" if metrics.linear_probe(z_test, y_test, z_test, y_test) > 0.8 else "nonlinear"
    )


def _any_silent(z, y, z_test, y_test):
    return "collapsed" if bool((z.std(0) < 1e-3).any()) else diagnose_features(z, y, z_test, y_test)


def _no_neighbors(z, y, z_test, y_test):
    from aecourse import metrics

    if z.std(0).max() < 1e-3:
        return "collapsed"
    return "fine" if metrics.linear_probe(z, y, z_test, y_test) > 0.8 else "mismatched"


diagnosis = Exercise(
    "Does a linear probe fail on these features, and why? Return 'collapsed' (every image has the "
    "same code), 'mismatched' (test images were prepared in another way than training images), "
    "'nonlinear' (the classes are apart, but no linear decision boundary divides them) or 'fine'.",
    _check_diagnose,
    [
        "Begin with what is cheapest to see: does any unit vary at all over the images?",
        "`metrics.linear_probe(z, y, z_test, y_test)` tells fine features from the rest, if you "
        "test on the test rows.",
        "Two are left. With nonlinear features a nearest-neighbor classifier "
        "(`sklearn.neighbors.KNeighborsClassifier`) does well on the test rows; with mismatched "
        "ones nothing does.",
    ],
    diagnose_features,
    alternatives=[_by_moments],
    wrong=[
        (_probe_only, "for another reason"),
        (_on_training_rows, "has not seen"),
        (_on_test_rows, "merely nonlinear"),
        (_any_silent, "collapsed means *all*"),
        (_no_neighbors, "merely nonlinear"),
        (lambda z, y, z_test, y_test: "fine", "has not seen"),
        (lambda z, y, z_test, y_test: ["fine"], "Return one of"),
    ],
)


def _rows(y, per_class, seed):
    """Row numbers of a random draw, `per_class` of every class in `y`."""
    mixed = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    return torch.cat([mixed[y[mixed] == c][:per_class] for c in y.unique()])


# -- 4: a study of one's own -----------------------------------------------------------------------


def _mean_accuracies(name, entries, n):
    entries = list(entries) if np.iterable(entries) else []
    require(len(entries) == n, f"{name!r} needs one entry per setting: {n}, not {len(entries)}.")
    rows = [as_tensor(row, what=f"accuracies under {name!r}").flatten() for row in entries]
    require(
        all(len(row) >= 2 for row in rows),
        f"{name!r} has one accuracy per setting. Which labels were drawn is luck: give two draws "
        "or more, as a list for each setting.",
    )
    require(
        all(bool(((row >= 0) & (row <= 100)).all()) for row in rows),
        "An accuracy lies between 0 and 100 %.",
    )
    require(
        max(float(row.max()) for row in rows) > 1,
        f"Give accuracies in percent: under {name!r} none is above 1, so these look like fractions.",
    )
    return [float(row.mean()) for row in rows]


_check_study = check_of_study(
    "features", "baseline", what="accuracy", least=0, most=100, read=_mean_accuracies
)


def study():
    from aecourse import data, losses, metrics
    from aecourse.data import Batches
    from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
    from aecourse.training import fit, set_seed

    def denoise(model, x):
        return losses.squared_error(model(x + 0.3 * torch.randn_like(x)), x)

    def make_model():
        encoder = mlp_encoder((3,), [], 64, final=nn.ReLU)
        return Autoencoder(encoder, mlp_decoder(64, [], (3,), final=None))

    # a Swiss roll; which third of its length: three classes
    roll, place = data.swiss_roll(1400, seed=0)
    y, settings = (place * 3).long().clamp(max=2), [9, 30, 90]
    found = {"features": [], "baseline": []}
    set_seed(0)
    model, untrained = make_model(), make_model()  # the baseline: random features, as wide
    fit(model, denoise, Batches(roll[:1000], batch_size=100), 20, lr=1e-2, progress=False)
    with torch.no_grad():
        inputs = {"features": model.encode(roll), "baseline": untrained.encode(roll)}
    for n in settings:
        for name, z in inputs.items():
            rows = [_rows(y[:1000], n // 3, seed) for seed in range(3)]
            found[name].append(
                [100 * metrics.linear_probe(z[r], y[r], z[1000:], y[1000:]) for r in rows]
            )
    return {
        "claim": "On a Swiss roll, pre-trained and random features differ by less than 4 points",
        "settings": settings,
        **found,
        "holds": lambda features, baseline: max(abs(f - b) for f, b in zip(features, baseline)) < 4,
    }


def _made(**changes):
    made = {
        "claim": "the gain shrinks as labels are added",
        "settings": [30, 300, 3000],
        "features": [[60.0, 64.0], [84.0, 85.0], [93.0, 93.2]],
        "baseline": [[50.0, 55.0], [79.0, 80.0], [92.0, 92.5]],
        "holds": lambda features, baseline: (
            features[0] - baseline[0] > features[-1] - baseline[-1] + 2
        ),
    }
    return made | changes


own_study = Exercise(
    "Vary one thing in at least three steps (labels, unlabeled images, noise, width, another data "
    "set), measure your features and a baseline at each over two draws or more, and claim something "
    "that could have turned out false.",
    _check_study,
    [
        "Good questions: how many unlabeled images are enough? Does more noise make better "
        "features? Does a second hidden layer help the probe?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'features' and 'baseline' one list of "
        "accuracies in percent per setting (one per draw), and 'holds', a function of the two "
        "lists of means.",
        "`lambda features, baseline: features[0] - baseline[0] > features[-1] - baseline[-1] + 2` says: the "
        "gain shrinks by more than 2 points. `max(abs(f - r) for f, r in zip(features, baseline)) < 2`"
        " says that there is none of 2 points.",
    ],
    study,
    alternatives=[
        _made(),
        _made(claim="features win with the fewest labels", holds=lambda f, r: f[0] > r[0]),
        _made(
            claim="learned and random features differ by less than 2 points",
            features=np.array([[60.0, 61.0], [84.0, 85.0], [93.0, 93.2]]),
            baseline=torch.tensor([[61.0, 61.5], [84.5, 83.0], [92.0, 92.5]]),
            holds=lambda f, r: max(abs(a - b) for a, b in zip(f, r)) < 2,
        ),
    ],
    wrong=[
        (_made(holds=lambda features, baseline: True), "cannot fail"),
        (_made(holds=lambda features, baseline: features != baseline), "cannot fail"),
        (_made(holds=lambda features, baseline: features[0] == 62), "exactly these numbers"),
        (_made(holds=lambda features, baseline: features[0] > 60), "depend on the second list"),
        (_made(features=[[60.0], [84.0], [93.0]]), "two draws or more"),
        (
            _made(
                settings=[30, 3000],
                features=[[60.0, 64.0], [93.0, 93.2]],
                baseline=[[50.0, 55.0], [92.0, 92.5]],
            ),
            "at least three",
        ),
        (
            _made(holds=lambda features, baseline: features[0] < baseline[0]),
            "not true of what you found",
        ),
        (_made(baseline=[[50.0, 55.0]]), "one entry per setting"),
        (_made(features=[[math.nan, 64.0], [84.0, 85.0], [93.0, 93.2]]), "between 0 and 100"),
        (
            _made(
                features=[[0.60, 0.64], [0.84, 0.85], [0.93, 0.932]],
                baseline=[[0.50, 0.55], [0.79, 0.80], [0.92, 0.925]],
            ),
            "look like fractions",
        ),
        (_made(claim="yes"), "in a sentence"),
        ({"claim": "features win"}, "a dict with the entries"),
    ],
)

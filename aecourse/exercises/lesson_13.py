"""Exercises of lesson 13, Debug an autoencoder."""

from aecourse import losses
from aecourse.data import Batches
from aecourse.exercises import Exercise, is_truth, require
from aecourse.models import VAE, Autoencoder, mlp_decoder, mlp_encoder

import torch
from torch import nn

SHAPE = (1, 8, 8)

# -- 1: the museum ---------------------------------------------------------------------------------------------------------------

CAUSES = {
    "A": "healthy",
    "B": "shapes",
    "C": "target",
    "D": "weights",
    "E": "mode",
    "F": "parameters",
}
LOOK = {  # where to look again; says nothing about the answer
    "A": "Row A: compare its output with its input, and read its loss word for word.",
    "B": "Row B: which shape has model(x).flatten(1), and which has x.flatten(2)? Subtract a (32, 1, 784) from a (32, 784).",
    "C": "Row C: what would a model that copies its input have as a loss?",
    "D": "Row D: one term is a mean over 784 pixels, the other a sum over the code. How large is each?",
    "E": "Row E: which of its layers behave differently while it trains? Its loss is right.",
    "F": "Row F: what does PyTorch find when it looks for the parameters of this encoder?",
}


def _check_museum(attempt):
    require(isinstance(attempt, dict), 'Give a dict: {"A": "...", "B": "...", ...}.')
    missing = [row for row in CAUSES if not isinstance(attempt.get(row), str)]
    require(not missing, f"Still without a diagnosis: {', '.join(missing)}.")
    said = {row: attempt[row].strip().lower() for row in CAUSES}
    unknown = sorted({word for word in said.values()} - set(CAUSES.values()))
    require(not unknown, f"Not one of the six words: {', '.join(unknown)}.")
    twice = sorted({word for word in said.values() if list(said.values()).count(word) > 1})
    require(
        not twice,
        f"Each cause belongs to one row, but you named {', '.join(twice)} more than once.",
    )
    wrong = [row for row in CAUSES if said[row] != CAUSES[row]]
    require(not wrong, f"{len(wrong)} rows are not right yet. {LOOK[wrong[0]] if wrong else ''}")
    return "All six. Three of them you could have found by their pictures; the other three only by asking."


museum = Exercise(
    "One word for each row: healthy, target, shapes, weights, mode, parameters.",
    _check_museum,
    [
        "Two rows give one gray picture for all digits. Both have the wrong loss: in which one is the wrong thing compared, in which "
        "one is the right thing weighed wrongly?",
        "Row F's loss and data are right, and its result is mediocre. Count its parameters.",
        "Row E was never told that training is over.",
    ],
    CAUSES,
    alternatives=[{row: cause.upper() for row, cause in reversed(CAUSES.items())}],
    wrong=[
        (CAUSES | {"B": "weights", "D": "shapes"}, "Subtract a (32, 1, 784)"),
        (CAUSES | {"A": "mode", "E": "healthy"}, "2 rows are not right yet"),
        (CAUSES | {"E": "parameters", "F": "mode"}, "which of its layers behave differently"),
        (CAUSES | {"C": "healthy"}, "more than once"),
        (CAUSES | {"C": "noise"}, "Not one of the six words"),
        (CAUSES | {"F": ...}, "Still without"),
    ],
)


# -- 2: the test error -----------------------------------------------------------------------------------------------------------


class _Watched(nn.Module):
    """A model whose error on an example is known, and that remembers the mode in which it was asked."""

    def __init__(self):
        super().__init__()
        self.weight, self.modes = nn.Parameter(torch.zeros(1)), []

    def forward(self, x):
        self.modes.append(self.training)
        return x * self.weight


def _check_test_error(attempt):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(103, 5, generator=g)
    x[-3:] *= 10  # the last, small batch is unlike the others
    true = float(x.pow(2).sum(1).mean())
    batches = Batches(x, batch_size=25, shuffle=False)
    model = _Watched().train()
    value = attempt(model, lambda model, x: losses.squared_error(model(x), x), batches)
    require(value is not None, "Nothing was returned.")
    value = float(value)
    means = [float(part.pow(2).sum(1).mean()) for part in x.split(25)]
    require(
        abs(value - sum(means) / len(means)) > 1e-3 * true,
        "That is the mean of batch means: the last batch of 3 counts as much as "
        "one of 25. Weigh each batch by its size.",
    )
    require(
        abs(value - means[-1]) > 1e-3 * true,
        "That is the last batch alone. Add up over all batches.",
    )
    require(
        abs(value - true * len(x)) > 1e-3 * true * len(x),
        "That is the sum over all examples. Divide by how many there were.",
    )
    require(
        abs(value - true * len(x) / len(means)) > 1e-3 * true,
        "You summed over examples and divided by the number of batches.",
    )
    require(
        abs(value - true) < 1e-4 * true,
        f"On data whose error is {true:.4f} this gives {value:.4f}.",
    )
    require(
        not any(model.modes),
        "The number is right here, but you asked the model in train mode: call model.eval() first.",
    )
    require(
        model.training,
        "Right, but the model came in train mode and leaves in eval mode: whoever trains on is surprised. Put it back.",
    )
    return "Each example counts once, in eval mode, and nothing is left changed. evaluate() of the course does the same."


def test_error(model, loss, batches):
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    with torch.no_grad():
        for (x,) in batches:
            total += loss(model, x).item() * len(x)  # the loss is a mean over the batch: undo it
            count += len(x)
    model.train(was_training)
    return total / count


test_error.__test__ = False  # pytest takes names that begin with test for tests


def _restore(change):
    def attempt(model, loss, batches):
        model.eval()
        value = change([(loss(model, x).item(), len(x)) for (x,) in batches])
        model.train()
        return value

    return attempt


def _in_train_mode(model, loss, batches):
    return sum(loss(model, x).item() * len(x) for (x,) in batches) / sum(len(x) for (x,) in batches)


def _left_in_eval(model, loss, batches):
    model.eval()
    return _in_train_mode(model, loss, batches)


average = Exercise(
    "Write the test error of a model over batches of any size: each example counts once.",
    _check_test_error,
    [
        "`loss(model, x)` is a mean over its batch. Times `len(x)` it is a sum again.",
        "Sum `loss * len(x)` and `len(x)` over the batches, divide once at the end; eval mode before, the old mode after.",
    ],
    test_error,
    alternatives=[_restore(lambda pairs: sum(v * n for v, n in pairs) / sum(n for _, n in pairs))],
    wrong=[
        (_restore(lambda pairs: sum(v for v, _ in pairs) / len(pairs)), "mean of batch means"),
        (_restore(lambda pairs: pairs[-1][0]), "last batch alone"),
        (_restore(lambda pairs: sum(v * n for v, n in pairs)), "sum over all examples"),
        (
            _restore(lambda pairs: sum(v * n for v, n in pairs) / len(pairs)),
            "divided by the number of batches",
        ),
        (_in_train_mode, "in train mode"),
        (_left_in_eval, "leaves in eval mode"),
    ],
)


# -- 3: a loss with three bugs ---------------------------------------------------------------------------------------------------


def _check_negative_elbo(attempt):
    torch.manual_seed(0)
    vae = VAE(mlp_encoder(SHAPE, [], 8), mlp_decoder(4, [], SHAPE))
    with torch.no_grad():
        next(m for m in vae.encoder.modules() if isinstance(m, nn.Linear)).weight.mul_(3)
    x = torch.rand(6, *SHAPE)

    def of(loss, x):
        torch.manual_seed(1)
        return float(loss(vae, x))

    torch.manual_seed(1)
    x_hat, mu, logvar = vae(x)
    recon, kl = losses.bce(x_hat, x).item(), losses.kl_normal(mu, logvar).item()
    torch.manual_seed(1)
    value = attempt(vae, x)
    require(
        isinstance(value, torch.Tensor) and value.ndim == 0,
        "Return one number, as a tensor without axes.",
    )
    value, near = float(value), lambda a, b: abs(a - b) < 1e-3 * abs(b)
    for wrong, diagnosis in (
        (recon - kl, "The KL still has the wrong sign: it is a cost, and you subtract it."),
        (
            recon / 64 + kl,
            "The reconstruction is averaged over the pixels: the KL weighs 64 times too much, and the code collapses.",
        ),
        (
            recon + kl / 4,
            "The KL is averaged over the code: it weighs too little, and the codes leave the prior.",
        ),
        (recon / 64 - kl / 4, "Nothing is mended yet: two averages and a sign."),
        (
            recon / 64 + kl / 4,
            "Both terms are averaged over their features: 64 pixels against 4 numbers, not one ELBO.",
        ),
        (
            6 * (recon + kl),
            "You summed over the batch as well: the loss grows with the batch. Mean over the batch.",
        ),
    ):
        require(not near(value, wrong), diagnosis)
    require(
        near(value, recon + kl),
        f"On a small VAE this gives {value:.3f}, and {recon + kl:.3f} is right: {recon:.3f} for the "
        f"pixels and {kl:.3f} for the code.",
    )
    torch.manual_seed(1)
    require(attempt(vae, x).requires_grad, "The number is right, but no gradient flows through it.")
    return "Sum over features, mean over the batch, both terms added: one ELBO."


def repaired_loss(model, x):
    x_hat, mu, logvar = model(x)
    recon = nn.functional.binary_cross_entropy(x_hat, x, reduction="sum") / len(x)
    kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum() / len(x)
    return recon + kl


def _variant(reduce_recon, reduce_kl, sign=1):
    def loss(model, x):
        x_hat, mu, logvar = model(x)
        recon = nn.functional.binary_cross_entropy(x_hat, x, reduction="none").flatten(1)
        kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar)
        return reduce_recon(recon) + sign * reduce_kl(kl)

    return loss


def _sum(v):
    return v.sum(1).mean()


negative_elbo = Exercise(
    "This loss of a VAE has three bugs. Write it without them.",
    _check_negative_elbo,
    [
        "Sum over features, mean over the batch: which of the two terms does that? Then look at the sign.",
        '`reduction="sum"` and a division by `len(x)` for the pixels, `.sum() / len(x)` for the KL, and a plus.',
    ],
    repaired_loss,
    alternatives=[_variant(_sum, _sum)],
    wrong=[
        (_variant(torch.mean, torch.mean, -1), "Nothing is mended"),
        (_variant(_sum, _sum, -1), "wrong sign"),
        (_variant(torch.mean, _sum), "averaged over the pixels"),
        (_variant(_sum, torch.mean), "averaged over the code"),
        (_variant(torch.mean, torch.mean), "Both terms are averaged"),
        (lambda model, x: len(x) * repaired_loss(model, x), "summed over the batch"),
        (lambda model, x: repaired_loss(model, x).detach(), "no gradient"),
    ],
)


# -- 4: a checkup of one's own ---------------------------------------------------------------------------------------------------


class _Fixed(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, z):
        return self.value.expand(len(z), *self.value.shape[1:]) + 0 * z.sum()


class _Noise(nn.Module):
    def forward(self, z):
        return z + 0.5 * torch.randn_like(z)


def _patients():
    """Small models, told apart by what ails them: (name, what is wrong or None, model)."""
    torch.manual_seed(0)
    axes = torch.linalg.qr(torch.randn(64, 8)).Q
    x = (torch.randn(200, 8) @ axes.T).view(-1, *SHAPE)

    def linear(n, m, weight):
        layer = nn.Linear(n, m)
        with torch.no_grad():
            layer.weight.copy_(weight), layer.bias.zero_()
        return layer

    def healthy():
        return nn.Sequential(nn.Flatten(), linear(64, 8, axes.T)), nn.Sequential(
            linear(8, 64, axes), nn.Unflatten(1, SHAPE)
        )

    norm = nn.BatchNorm1d(8, affine=False)
    encoder, decoder = healthy()
    other = torch.linalg.qr(torch.randn(64, 8)).Q
    norm.train()(encoder(x))
    return x, [
        ("a healthy one", None, Autoencoder(*healthy()).eval()),
        (
            "a healthy one with another basis",
            None,
            Autoencoder(
                nn.Sequential(nn.Flatten(), linear(64, 8, -2 * axes.T)),
                nn.Sequential(linear(8, 64, -axes / 2), nn.Unflatten(1, SHAPE)),
            ).eval(),
        ),
        (
            "one that gives the mean for all",
            "constant",
            Autoencoder(healthy()[0], _Fixed(x.mean(0, keepdim=True))).eval(),
        ),
        (
            "one whose answer is random",
            "random",
            Autoencoder(nn.Sequential(*healthy()[0], _Noise()), healthy()[1]).eval(),
        ),
        (
            "one that was left in train mode",
            "mode",
            Autoencoder(nn.Sequential(*encoder, norm), decoder).train(),
        ),
        (
            "one that rebuilds another world",
            "error",
            Autoencoder(
                nn.Sequential(nn.Flatten(), linear(64, 8, other.T)),
                nn.Sequential(linear(8, 64, other), nn.Unflatten(1, SHAPE)),
            ).eval(),
        ),
    ]


MISSED = {
    "constant": "You call a model healthy that gives the same picture for every input: compare its error with the mean picture's.",
    "random": "You call a model healthy whose answer changes when it is asked again: ask twice.",
    "mode": "You call a model healthy that was left in train mode: does its answer for one picture depend on the others in the batch?",
    "error": "You call a model healthy that rebuilds nothing of these pictures: measure its error on x.",
}


def _check_checkup(attempt):
    x, patients = _patients()
    said = {}
    for name, _, model in patients:
        mode = model.training
        said[name] = attempt(model, x)
        require(
            is_truth(said[name]),
            "Return True for a healthy model, False for a sick one.",
        )
        require(
            model.training == mode,
            "Your checkup changed the mode of the model. A doctor leaves the patient as found.",
        )
    require(
        any(map(bool, said.values())),
        "You call every model sick, the healthy ones too. Loosen a limit.",
    )
    for name, ill, _ in patients:
        if ill:
            require(not said[name], MISSED[ill])
    for name, ill, _ in patients:
        require(
            bool(said[name]) == (ill is None),
            f"You call {name} sick. A code has no preferred size or sign.",
        )
    return "Six patients, no false alarm and none missed. Which bug of this lesson would your checkup still miss?"


def is_healthy(model, x):
    with torch.no_grad():
        once, twice = model(x), model(x)
        alone = torch.cat([model(pair) for pair in x.split(2)])
    spread = (x - x.mean(0)).pow(2).mean()
    beats_the_mean = (once - x).pow(2).mean() < 0.7 * spread
    steady = torch.allclose(once, twice, atol=1e-4) and torch.allclose(once, alone, atol=1e-3)
    return bool(beats_the_mean) and steady


def _only_error(model, x):
    return bool((model(x) - x).pow(2).mean() < 0.7 * (x - x.mean(0)).pow(2).mean())


def _only_steady(model, x):
    return torch.allclose(model(x), model(x))


def _sets_eval(model, x):
    model.eval()
    return is_healthy(model, x)


def _small_code(model, x):
    return is_healthy(model, x) and bool(model.encode(x).std() < 1.5)


checkup = Exercise(
    "A checkup of your own: `is_healthy(model, x)` returns True or False. Six models wait for it.",
    _check_checkup,
    [
        "Which questions of step 7 can be asked of a model and a batch alone?",
        "Three suffice here: is the error below the mean picture's, is the answer the same twice, is it the same in another batch?",
    ],
    is_healthy,
    alternatives=[
        lambda model, x: bool(is_healthy(model, x) and model.encode(x).std(0).min() > 1e-6)
    ],
    wrong=[
        (lambda model, x: True, "same picture for every input"),
        (lambda model, x: False, "every model sick"),
        (_only_steady, "same picture for every input"),
        (_only_error, "ask twice"),
        (_sets_eval, "changed the mode"),
        (_small_code, "no preferred size or sign"),
        (lambda model, x: 0.5, "Return True"),
    ],
)

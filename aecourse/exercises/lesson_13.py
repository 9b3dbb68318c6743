"""Exercises of lesson 13, Debug an autoencoder."""

from aecourse import losses
from aecourse.data import Batches
from aecourse.exercises import (
    Exercise,
    as_number,
    as_truth,
    close,
    needs_gradient,
    require,
    require_close,
)
from aecourse.exercises.inputs import Stub
from aecourse.models import VAE, Autoencoder, mlp_decoder, mlp_encoder
from aecourse.training import evaluate

import torch
from torch import nn

# -- 1: the museum ---------------------------------------------------------------------------------

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
    "B": "Row B: which shape has model(x).flatten(1), and which has x.flatten(2)? Subtract a "
    "(32, 1, 784) from a (32, 784).",
    "C": "Row C: what would a model that copies its input have as a loss?",
    "D": "Row D: one term is a mean over 784 pixels, the other a sum over the code. How large is "
    "each?",
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
    return "All six."


museum = Exercise(
    "One word for each row: healthy, target, shapes, weights, mode, parameters.",
    _check_museum,
    [
        "Two rows give one gray picture for all digits. Both have the wrong loss: in which one is "
        "the wrong thing compared, in which one is the right thing weighed wrongly?",
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


# -- 2: the test error -----------------------------------------------------------------------------


def _check_test_error(attempt, case):
    size = case.size("batch size", 3)
    rest = case.whole(1, size - 1)
    x = case.values(4 * size + rest, "d")
    x[-rest:] *= 10  # the last, small batch is unlike the others
    batches = Batches(x, batch_size=size, shuffle=False)
    model, power = Stub(dtype=case.dtype), 1 + (case.number + 1) % 2

    def loss(model, x):
        return (model(x) - x).abs().pow(power).sum() / len(x)

    means = [loss(model, part).item() for part in x.split(size)]
    right = loss(model, x).item()
    for training in (True, False):
        model.train(training).modes.clear()
        got = as_number(attempt(model, loss, batches), "one number, the error")
        require_close(
            got,
            right,
            [
                (
                    sum(means) / 5,
                    f"That is the mean of batch means: the last batch of {rest} counts as much as "
                    f"one of {size}. Weigh each batch by its size.",
                ),
                (means[-1], "That is the last batch alone. Add up over all batches."),
                (
                    right * len(x),
                    "That is the sum over all examples. Divide by how many there were.",
                ),
                (
                    right * len(x) / 5,
                    "You summed over examples and divided by the number of batches.",
                ),
            ],
            f"On data whose error is {right:.5g} this gives {got:.5g}.",
        )
        require(
            not any(model.modes),
            "The number is right here, but you asked the model in train mode: call model.eval() "
            "first.",
        )
        came, leaves = ("train", "eval") if training else ("eval", "train")
        require(
            model.training == training,
            f"Right, but a model that came in {came} mode leaves in {leaves} mode: whoever uses it "
            "next is surprised. Put it back.",
        )
    return (
        "Each example counts once, in eval mode, and nothing is left changed. evaluate() of the "
        "course does the same."
    )


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


def _weighing(change, leave=None):
    """An answer that makes one number of the batches' losses and sizes; `leave`: in which mode."""

    def attempt(model, loss, batches):
        was_training = model.training
        model.eval()
        value = change([(loss(model, x), len(x)) for (x,) in batches])
        model.train(was_training if leave is None else leave)
        return value

    return attempt


def _mean(pairs):
    return sum(v * n for v, n in pairs) / sum(n for _, n in pairs)


def _in_train_mode(model, loss, batches):
    return _mean([(loss(model, x), len(x)) for (x,) in batches])


average = Exercise(
    "Write the test error of a model over batches of any size: each example counts once.",
    _check_test_error,
    [
        "`loss(model, x)` is a mean over its batch. Times `len(x)` it is a sum again.",
        "Sum `loss * len(x)` and `len(x)` over the batches, divide once at the end; eval mode "
        "before, the old mode after.",
    ],
    test_error,
    alternatives=[
        _weighing(_mean),
        lambda model, loss, batches: next(iter(evaluate(model, loss, batches).values())),
    ],
    wrong=[
        (_weighing(lambda pairs: sum(v for v, _ in pairs) / len(pairs)), "mean of batch means"),
        (_weighing(lambda pairs: pairs[-1][0]), "last batch alone"),
        (_weighing(lambda pairs: sum(v * n for v, n in pairs)), "sum over all examples"),
        (
            _weighing(lambda pairs: sum(v * n for v, n in pairs) / len(pairs)),
            "divided by the number of batches",
        ),
        (_in_train_mode, "in train mode"),
        (_weighing(_mean, leave=False), "leaves in eval mode"),
        (_weighing(_mean, leave=True), "leaves in train mode"),
        (
            lambda model, _, batches: test_error(
                model, lambda model, x: losses.squared_error(model(x), x), batches
            ),
            "but not for inputs",
        ),
    ],
)


# -- 3: a loss with three bugs ---------------------------------------------------------------------


def _check_negative_elbo(attempt, case):
    shape, latent = (1, case.size("H"), case.size("W")), case.size("latent", 3)
    vae = VAE(mlp_encoder(shape, [], 2 * latent), mlp_decoder(latent, [], shape)).to(case.dtype)
    with torch.no_grad():
        vae.encoder[2].weight.mul_(3)
    x, pixels = case.pixels("B", *shape), shape[1] * shape[2]

    def of(loss):  # with the same noise
        torch.manual_seed(1)
        return loss(vae, x)

    try:
        value = of(attempt)
    except ValueError as error:
        require(
            "support" not in str(error),
            "`torch.distributions.Bernoulli` refuses gray pixels unless `validate_args=False`. "
            "`nn.functional.binary_cross_entropy` takes them.",
        )
        raise
    require(
        isinstance(value, torch.Tensor) and value.ndim == 0,
        "Return one number, as a tensor without axes.",
    )
    right = of(repaired_loss)
    kl = of(lambda vae, x: losses.kl_normal(*vae.encode(x)))
    recon = right - kl
    require_close(
        value,
        right,
        [
            (recon - kl, "The KL still has the wrong sign: it is a cost, and you subtract it."),
            (-right, "That is the ELBO itself, which is to be large. A loss is its negative."),
            (
                recon / pixels + kl,
                f"The reconstruction is averaged over the pixels: the KL weighs {pixels} times too "
                "much, and the code collapses.",
            ),
            (
                recon + kl / latent,
                "The KL is averaged over the code: it weighs too little, and the codes leave the "
                "prior.",
            ),
            (
                recon / pixels - kl / latent,
                "Nothing is mended yet: two averages and a sign.",
            ),
            (
                recon / pixels + kl / latent,
                f"Both terms are averaged over their features: {pixels} pixels against {latent} "
                "numbers, not one ELBO.",
            ),
            (
                len(x) * right,
                "You summed over the batch as well: the loss grows with the batch. Mean over the "
                "batch.",
            ),
        ],
        f"On a small VAE this gives {value.item():.5g}, and {right.item():.5g} is right: "
        f"{recon.item():.5g} for the pixels and {kl.item():.5g} for the code.",
        rtol=1e-3,
    )
    for mine, wanted in zip(
        needs_gradient(value, vae), torch.autograd.grad(right, list(vae.parameters()))
    ):
        require(
            close(mine, wanted, 1e-3),
            "The number is right, its gradient is not: neither term may be detached.",
        )
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


def _by_distributions(model, x, validate):
    x_hat, mu, logvar = model(x)
    pixels = torch.distributions.Bernoulli(x_hat, validate_args=validate)
    q, p = (torch.distributions.Normal(m, s) for m, s in ((mu, (logvar / 2).exp()), (0.0, 1.0)))
    kl = torch.distributions.kl_divergence(q, p)
    return _sum(kl) - _sum(pixels.log_prob(x).flatten(1))


def _sum(v):
    return v.sum(1).mean()


negative_elbo = Exercise(
    "This loss of a VAE has three bugs. Write it without them.",
    _check_negative_elbo,
    [
        "Sum over features, mean over the batch: which of the two terms does that? Then look at "
        "the sign.",
        '`reduction="sum"` and a division by `len(x)` for the pixels, `.sum() / len(x)` for the '
        "KL, and a plus.",
    ],
    repaired_loss,
    alternatives=[_variant(_sum, _sum), lambda model, x: _by_distributions(model, x, False)],
    wrong=[
        (_variant(torch.mean, torch.mean, -1), "Nothing is mended"),
        (_variant(_sum, _sum, -1), "wrong sign"),
        (_variant(torch.mean, _sum), "averaged over the pixels"),
        (_variant(_sum, torch.mean), "averaged over the code"),
        (_variant(torch.mean, torch.mean), "Both terms are averaged"),
        (lambda model, x: len(x) * repaired_loss(model, x), "summed over the batch"),
        (lambda model, x: -repaired_loss(model, x), "its negative"),
        (lambda model, x: repaired_loss(model, x) * 6 / len(x), "but not for inputs with"),
        (lambda model, x: repaired_loss(model, x).detach(), "No gradient flows"),
        (_variant(_sum, lambda kl: _sum(kl).detach()), "neither term"),
        (lambda model, x: _by_distributions(model, x, True), "validate_args=False"),
    ],
)


# -- 4: a checkup of one's own ---------------------------------------------------------------------


class _Layer(nn.Module):
    """A layer that is a function of its input and of whether it is in training mode."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, v):
        return self.function(v, self.training)


def _patients(case):
    """Pictures, and small models told apart by what ails them: (name, what or None, model)."""
    shape, n, scale = (1, case.size("H", 6), case.size("W", 6)), 40, case.scale
    axes, other = (torch.linalg.qr(case.normal(shape[1] * shape[2], 8)).Q for _ in range(2))
    x = (case.scale * (case.normal(n, 8) + 1) @ axes.T).view(n, *shape)

    def linear(weight):
        layer = nn.Linear(*weight.T.shape, bias=False)
        layer.weight = nn.Parameter(weight)
        return layer

    def model(axes, *extra, size=1.0):
        decoder = *map(_Layer, extra), linear(axes / size), nn.Unflatten(1, shape)
        encoder = nn.Flatten(), linear(size * axes.T)
        return Autoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder)).eval()

    def noise(z, training):
        return z + 0.5 * scale * torch.randn_like(z)

    def normalized(z, training):  # over the batch; a batch of one raises no error
        return z - z.mean(0) + scale if training else z

    def constant(z, training):
        return (x.flatten(1).mean(0) @ axes).expand_as(z)

    return x, [
        ("a healthy one", None, model(axes)),
        ("a healthy one with another basis", None, model(axes, size=-2.0)),
        ("one that gives the mean for all", "constant", model(axes, constant)),
        ("one whose answer is random", "random", model(axes, noise)),
        ("one that was left in train mode", "mode", model(axes, normalized).train()),
        ("one that rebuilds another world", "error", model(other)),
    ]


MISSED = {
    "constant": "You call a model healthy that gives the same picture for every input: compare its "
    "error with the mean picture's.",
    "random": "You call a model healthy whose answer changes when it is asked again: ask twice.",
    "mode": "You call a model healthy that was left in train mode: does its answer for one picture "
    "depend on the others in the batch?",
    "error": "You call a model healthy that rebuilds nothing of these pictures: measure its error "
    "on x.",
}


def _check_checkup(attempt, case):
    x, patients = _patients(case)
    said = {}
    for name, _, model in patients:
        mode = model.training
        said[name] = as_truth(
            attempt(model, x.clone()), "True for a healthy model, False for a sick one"
        )
        require(
            model.training == mode,
            "Your checkup changed the mode of the model. A doctor leaves the patient as found.",
        )
    require(
        any(said.values()),
        "You call every model sick, the healthy ones too. Loosen a limit.",
    )
    for name, ill, _ in patients:
        require(not (ill and said[name]), MISSED.get(ill))
    for name, ill, _ in patients:
        require(
            ill or said[name],
            f"You call {name} sick. Neither a code nor a picture has a preferred size or sign.",
        )
    return (
        "Six patients, no false alarm and none missed. Which bug of this lesson would your checkup "
        "still miss?"
    )


def is_healthy(model, x):
    with torch.no_grad():
        once, twice = model(x), model(x)
        alone = torch.cat([model(pair) for pair in x.split(2)])
    spread = (x - x.mean(0)).pow(2).mean()  # the error of the mean picture
    errors = [(a - b).pow(2).mean() / spread for a, b in ((once, x), (once, twice), (once, alone))]
    return bool(errors[0] < 0.7 and errors[1] < 1e-6 and errors[2] < 1e-6)


def _only_error(model, x):
    return bool((model(x) - x).pow(2).mean() < 0.7 * (x - x.mean(0)).pow(2).mean())


def _only_steady(model, x):
    return torch.allclose(model(x), model(x))


def _sets_eval(model, x):
    model.eval()
    return is_healthy(model, x)


def _small_code(model, x):
    return is_healthy(model, x) and bool(model.encode(x).std() < 1.5)


def _small_error(model, x):
    return is_healthy(model, x) and bool((model(x) - x).pow(2).mean() < 1e-12)


def _beats_zero(model, x):
    error, steady = (model(x) - x).pow(2).mean(), torch.allclose(model(x), model(x))
    return steady and not model.training and bool(error < 0.9 * x.pow(2).mean())


def _asks_one_picture(model, x):
    with torch.no_grad():
        steady = torch.allclose(model(x)[:1], model(x[:1]), rtol=1e-3, atol=1e-3 * x.abs().max())
        steady = steady and torch.allclose(model(x), model(x))
        return steady and ((model(x) - x).norm() < 0.5 * (x - x.mean(0)).norm()).numpy()


checkup = Exercise(
    "A checkup of your own: `is_healthy(model, x)` returns True or False. Six models wait for it.",
    _check_checkup,
    [
        "Which questions of step 7 can be asked of a model and a batch alone?",
        "Three suffice here: is the error below the mean picture's, is the answer the same twice, "
        "is it the same in another batch?",
    ],
    is_healthy,
    alternatives=[
        lambda model, x: bool(is_healthy(model, x) and model.encode(x).std(0).min() > 0),
        _asks_one_picture,
    ],
    wrong=[
        (lambda model, x: True, "same picture for every input"),
        (lambda model, x: False, "every model sick"),
        (_only_steady, "same picture for every input"),
        (_only_error, "ask twice"),
        (_sets_eval, "changed the mode"),
        (_small_code, "preferred size or sign"),
        (_small_error, "values around 100"),
        (_beats_zero, "same picture for every input"),
        (lambda model, x: 0.5, "Return True"),
    ],
)

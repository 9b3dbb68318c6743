"""Exercises of lesson 03, Can a code larger than the input be of use?"""

import math

from aecourse.exercises import (
    Exercise,
    as_tensor,
    check_of_study,
    close,
    needs_gradient,
    require,
    require_close,
)
from aecourse.exercises.inputs import Stub

import torch
from torch import nn

# -- 1: another noise ------------------------------------------------------------------------------


def _check_occlude(attempt, case):
    size = (4, 3, 5, 2)[case.number % 4]
    height, width = case.size("H", size + 3, size + 8), case.size("W", size + 3, size + 8)
    x = 0.2 + 0.8 * case.pixels(400 + case.whole(0, 9), 1, height, width)
    given = x.clone()
    got = as_tensor(attempt(x, size), x.shape)
    require(
        torch.equal(x, given),
        "You changed the tensor that you were given: the clean picture, which is the "
        "target, is corrupted too. Work on a copy (`x.clone()`), or multiply by a mask.",
    )
    changed, black = ((got - x).abs() > 1e-6)[:, 0], (got == 0)[:, 0]
    require(bool(changed.any()), "Nothing is covered: no pixel has changed.")
    counts = changed.flatten(1).sum(1)
    require(
        not bool((counts == size**2).all()) or bool(black.any()),
        f"{size**2} pixels of each picture changed, and none of them is black: black is 0.",
    )
    require(
        torch.equal(changed, black),
        "Pixels outside the square changed their value. Only the square is covered, with 0; the "
        "rest stays as it was.",
    )
    rows, columns = black.any(2), black.any(1)
    tall, wide = rows.sum(1), columns.sum(1)
    solid = counts == tall * wide
    require(
        not bool((counts < size**2).any() and (counts <= size**2).all() and solid.all()),
        f"Some squares are cut off at the edge, or too small: all {size**2} pixels of a square of "
        f"size {size} have to lie inside the picture, which is {x.shape[2]} x {x.shape[3]} here.",
    )
    require(
        bool((counts == size**2).all() and (tall == size).all() and (wide == size).all()),
        f"With size {size} a square of {size} x {size} should be black in each picture; in yours "
        f"{int(counts.min())} to {int(counts.max())} pixels are, in up to {int(tall.max())} rows "
        f"and {int(wide.max())} columns.",
    )
    top, left = rows.float().argmax(1), columns.float().argmax(1)
    places = set(zip(top.tolist(), left.tolist()))
    require(
        len(places) > 1, "All pictures are covered at the same place. Draw one place per picture."
    )
    require(
        len(set(top.tolist())) > 1 and len(set(left.tolist())) > 1,
        "The square moves in one direction only.",
    )
    down, right = height - size, width - size
    possible = (down + 1) * (right + 1)
    require(
        len(places) > possible / 2,
        f"Of {possible} places only {len(places)} occur: row and column of the square depend on "
        "each other. Draw them apart.",
    )
    require(
        int(top.max()) == down and int(left.max()) == right and int(top.min() + left.min()) == 0,
        f"Some places are never covered. In a picture of {height} x {width} the first row of the "
        f"square runs from 0 to {down} and its first column from 0 to {right}; yours from "
        f"{int(top.min())} to {int(top.max())} and from {int(left.min())} to {int(left.max())}. "
        "(`torch.randint(high)` stops before `high`.)",
    )
    require(
        not close(attempt(x, size), got),
        "The same places at every call. The noise has to be drawn anew, or the "
        "network learns it by heart.",
    )
    alone = as_tensor(attempt(x[:1], size), x[:1].shape)
    require(int((alone == 0).sum()) == size**2, "A batch of one picture gets no square like these.")
    return (
        "A noise that no filter can undo: what was under the square has to be known. Train with it: "
        "`train_model(lambda model, x: losses.squared_error(model(my_occlude(x, 10)), x))`."
    )


def occlude(x, size):
    batch, _, height, width = x.shape
    top = torch.randint(height - size + 1, (batch, 1, 1, 1))
    left = torch.randint(width - size + 1, (batch, 1, 1, 1))
    row, column = torch.arange(height).view(-1, 1), torch.arange(width)
    covered = (row >= top) & (row < top + size)  # (B, 1, H, 1)
    covered = covered & (column >= left) & (column < left + size)  # (B, 1, H, W)
    return x * ~covered


def _occlude_by_loop(x, size, stop=1, one=False, diagonal=False):
    x = x.clone()
    place = None
    for picture in x:
        if place is None or not one:
            place = [torch.randint(n - size + stop, ()).item() for n in picture.shape[1:]]
        top, left = place if not diagonal else (min(place), min(place))
        picture[:, top : top + size, left : left + size] = 0
    return x


def _occlude_in_place(x, size):
    x[:, :, 2 : 2 + size, 2 : 2 + size] = 0
    return x


def _occlude_over_the_edge(x, size):
    x = x.clone()
    for picture in x:
        top, left = [torch.randint(n, ()).item() for n in picture.shape[1:]]
        picture[:, top : top + size, left : left + size] = 0
    return x


def _occlude_rescaled(x, size):
    return occlude(x, size) * x[0].numel() / (x[0].numel() - size**2)


occlusion = Exercise(
    "Cover one square of `size` x `size` pixels in each picture (B, 1, H, W) with black, at a "
    "random place inside the "
    "picture, another one for every picture. Leave the given tensor as it was.",
    _check_occlude,
    [
        "Copy the tensor first. Then draw, for each picture, the first row and the first column of "
        "the square.",
        "In a picture of height H the first row can be 0, 1, ..., H - size. `torch.randint(n, "
        "shape)` draws from 0 to "
        "n - 1.",
        "A loop over pictures is fine: `picture[:, top:top + size, left:left + size] = 0` on the "
        "copy.",
    ],
    occlude,
    alternatives=[
        _occlude_by_loop,
        lambda x, size: occlude(x, size).numpy(),
        lambda x, size: occlude(x.double(), size),
    ],
    wrong=[
        (_occlude_in_place, "the tensor that you were given"),
        (lambda x, size: _occlude_by_loop(x, size, one=True), "at the same place"),
        (lambda x, size: _occlude_by_loop(x, size, stop=0), "never covered"),
        (lambda x, size: _occlude_by_loop(x, size, diagonal=True), "depend on each other"),
        (_occlude_over_the_edge, "cut off at the edge"),
        (_occlude_rescaled, "outside the square"),
        (lambda x, size: x + 0.5 * (occlude(x, size) == 0), "none of them is black"),
        (lambda x, size: occlude(x, size) * (x[:1] > 0.21), "square of 4 x 4"),
        (lambda x, size: x * (torch.rand_like(x) >= 0.1), "square of 4 x 4"),
        (lambda x, size: x.clone(), "Nothing is covered"),
        (lambda x, size: occlude(x, size // 2 * 2), "Right for"),  # even sizes only
        (lambda x, size: occlude(x, 4), "Right for"),
    ],
)


# -- 2: the denoising loss by hand -----------------------------------------------------------------


def _check_denoising(attempt, case):
    picture = (1, case.size("H", 4, 9), case.size("W", 4, 9))
    x = 0.2 + 0.8 * case.pixels(300 + case.whole(0, 9), *picture)
    given, model = x.clone(), Stub(dtype=x.dtype)
    loss = attempt(model, x)
    require(
        isinstance(loss, torch.Tensor) and loss.ndim == 0,
        "Return one number, as a tensor, so that it has a gradient.",
    )
    require(
        torch.equal(x, given),
        "You changed the clean pictures. They are the target: corrupt a copy.",
    )
    require(len(model.seen) > 0, "The model was never called.")
    shapes = {tuple(seen.shape[1:]) for seen in model.seen}
    require(
        shapes == {picture} and sum(map(len, model.seen)) == len(x),
        f"The model got tensors of shape {[tuple(seen.shape) for seen in model.seen[:3]]}, not "
        f"each picture of {tuple(x.shape)} once.",
    )
    seen = torch.cat(model.seen).to(x)
    require(
        not torch.equal(seen, x),
        "The model got the clean pictures: there is no noise in front of it, so it can copy.",
    )
    alive = seen != 0
    require(
        not close(seen[alive], 2 * x[alive]),
        "The pixels that survive are twice as bright: that is "
        "dropout. In masking noise they keep their value.",
    )
    require(
        close(seen[alive], x[alive]),
        "The pixels that survive have to keep their value; yours changed.",
    )
    require(
        not torch.equal(alive, alive[:, :, :1, :1].expand_as(x)),
        "Whole pictures were erased: draw one number per pixel, with the shape of `x`.",
    )
    require(
        not torch.equal(alive, alive[:1].expand_as(x)),
        "The same pixels were erased in all pictures: draw for each picture, with the "
        "shape of `x`.",
    )
    lines = alive[:, :, :1].expand_as(x), alive[..., :1].expand_as(x)
    require(
        not any(torch.equal(alive, line) for line in lines),
        "Whole rows or columns were erased: draw one number per pixel, with the shape of `x`.",
    )
    erased = 1 - alive.double().mean().item()
    require(
        0.46 < erased < 0.54,
        f"Each pixel is erased with probability 0.5; yours are in {100 * erased:.0f} % of "
        "the cases.",
    )
    x_hat = model(seen)
    wanted = (x_hat - x).pow(2).sum() / len(x)
    require_close(
        loss,
        wanted,
        [
            (
                (x_hat - seen).pow(2).sum() / len(x),
                "Your target is the noisy picture, so the network learns to copy the noise. The "
                "target is the clean `x`.",
            ),
            (
                wanted / x[0].numel(),
                "You averaged over the pixels. The course sums over the pixels and averages over "
                "the pictures.",
            ),
            (
                wanted * len(x),
                "You summed over the pictures as well: divide by their number.",
            ),
            (
                (x_hat - x).abs().sum() / len(x),
                "That is the absolute error. Square the differences.",
            ),
        ],
        f"The squared error would be {wanted.item():.4g} here; yours is {loss.item():.4g}.",
    )
    gradients = needs_gradient(loss, model)
    require(
        all(map(close, gradients, needs_gradient(wanted, model))),
        "The number is right, but its gradient is not: no part of it may be detached.",
    )
    model.seen.clear()
    attempt(model, x)
    require(
        not close(torch.cat(model.seen), seen),
        "The same noise at every call. The network would learn it by heart: draw it anew.",
    )
    return "That is all of it. `train_model(my_denoising)` trains on it."


def masked_loss(model, x):
    noisy = x * (torch.rand_like(x) >= 0.5)  # the survivors keep their value
    return (model(noisy) - x).pow(2).sum() / len(x)  # sum over pixels, mean over pictures


def _mask(x):
    return x * (torch.rand_like(x) >= 0.5)


def _with_functions(model, x):
    noisy = torch.where(torch.rand(x.shape) < 0.5, 0.0, x)
    return nn.functional.mse_loss(model(noisy), x, reduction="sum") / len(x)


def _mask_pictures(model, x):
    return (model(x * (torch.rand(len(x), 1, 1, 1) >= 0.5)) - x).pow(2).sum() / len(x)


def _mask_places(model, x):
    return (model(x * (torch.rand(x.shape[1:]) >= 0.5)) - x).pow(2).sum() / len(x)


def _noisy_target(model, x):
    noisy = _mask(x)
    return (model(noisy) - noisy).pow(2).sum() / len(x)


def _same_noise(model, x):
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) >= 0.5
    return (model(x * mask) - x).pow(2).sum() / len(x)


def _half_detached(model, x):
    x_hat = model(_mask(x))
    return ((x_hat.detach() - x) * (x_hat - x)).sum() / len(x)


denoising = Exercise(
    "Write a denoising loss by hand: masking noise of probability 0.5, drawn anew at each call, "
    "and the squared error "
    "against the clean pictures, summed over pixels, mean over pictures.",
    _check_denoising,
    [
        "Three lines: corrupt `x`, call the model on the result, compare with the clean `x`.",
        "`torch.rand_like(x) >= 0.5` is True for about half of the pixels. Multiplying by it "
        "erases the others.",
        "`(x_hat - x).pow(2).sum() / len(x)` sums over pixels and averages over pictures.",
    ],
    masked_loss,
    alternatives=[
        _with_functions,
        lambda model, x: (model(_mask(x)) - x).square().flatten(1).sum(1).mean(),
        lambda model, x: (model(_mask(x)).double() - x.double()).pow(2).sum() / len(x),
        lambda model, x: sum((model(_mask(one)) - one).pow(2).sum() for one in x.split(1)) / len(x),
    ],
    wrong=[
        (_noisy_target, "target is the noisy picture"),
        (_same_noise, "by heart"),
        (
            lambda model, x: (model(nn.functional.dropout(x, 0.5)) - x).pow(2).sum() / len(x),
            "twice as bright",
        ),
        (lambda model, x: (model(_mask(x)) - x).pow(2).mean(), "averaged over the pixels"),
        (lambda model, x: (model(_mask(x)) - x).pow(2).sum(), "summed over the pictures"),
        (lambda model, x: (model(x) - x).pow(2).sum() / len(x), "no noise in front"),
        (lambda model, x: (_mask(model(x)) - x).pow(2).sum() / len(x), "no noise in front"),
        (_mask_pictures, "one number per pixel"),
        (_mask_places, "for each picture"),
        (lambda model, x: (model(_mask(x)) - x).abs().sum() / len(x), "absolute error"),
        (lambda model, x: (model(_mask(x)) - x).pow(2).sum().item() / len(x), "as a tensor"),
        (lambda model, x: masked_loss(model, x).detach(), "No gradient"),
        (_half_detached, "its gradient is not"),
        (lambda model, x: masked_loss(model, x) * x[0].numel() / 784, "The squared error would be"),
        (
            lambda model, x: (model(x * (torch.rand_like(x[:, :, :1]) < 0.5)) - x).sum(),
            "Whole rows",
        ),
    ],
)


# -- 3: the noise level from a denoiser ------------------------------------------------------------


def _check_noise_level(attempt, case):
    picture = [(1, 28, 28), (2000,), (3, 20, 20), (2, 700)][case.number % 4]
    count = 12 if case.number == 0 else case.size("B")
    clean = case.scale * case.pixels(count, *picture)
    sigma = case.scale * torch.linspace(0.05, 0.6, count).view(-1, *[1] * len(picture))
    y = clean + sigma * case.normal(count, *picture)

    def denoise(noisy):  # perfect: the clean picture that is nearest
        rows = noisy.detach().reshape(-1, clean[0].numel()).to(clean)
        return clean[torch.cdist(rows, clean.flatten(1)).argmin(1)].reshape(noisy.shape)

    shown = attempt(denoise, y.clone())
    got = as_tensor(shown, (count,), "one number per picture, a tensor")
    noise = (y - clean).double().flatten(1)
    right = noise.pow(2).mean(1).sqrt()

    def near(other):  # a good estimate of another kind differs a little
        return bool(((got - other).abs() <= 0.12 * other.abs()).all())

    for mistake, diagnosis in (
        (right**2, "That is the variance. The standard deviation is its square root."),
        (
            right * math.sqrt(2 / math.pi),
            "The mean *absolute* value of Gaussian noise is 0.8 sigma. Square, average, and take "
            "the root.",
        ),
        (
            right * math.sqrt(noise.shape[1]),
            "You summed over the pixels. Here an average is wanted.",
        ),
        (
            clean.double().flatten(1).std(dim=1),
            "You measured how much the picture varies. Measure what the denoiser took away.",
        ),
        (
            noise.mean(1),
            "You averaged the noise itself, and its two signs cancel: square before you average.",
        ),
        (noise.mean(1).abs(), "The two signs of the noise cancel: square before you average."),
    ):
        require(near(right) or not near(mistake), diagnosis)
    worst = (got - right).abs().argmax()
    require(
        near(right),
        f"A picture with sigma {float(right[worst]):.4g} gets {float(got[worst]):.4g}. What is left "
        "when you take the clean picture from the noisy one?",
    )
    return (
        "The residual of a good denoiser is the noise itself: whoever can denoise blindly knows "
        "its strength, too."
    )


def sigma_of(D, y):
    noise = y - D(y)  # what a perfect denoiser took away
    return noise.pow(2).flatten(1).mean(1).sqrt()


noise_level = Exercise(
    "Given a perfect denoiser `D` and noisy pictures `y` (B, ...), without the clean ones, "
    "estimate the standard "
    "deviation of the noise in each picture, (B,).",
    _check_noise_level,
    [
        "What does a perfect denoiser take away from a picture?",
        "`y - D(y)` is the noise. You want its size, picture by picture.",
        "Square, average over all axes but the first, take the root.",
    ],
    sigma_of,
    alternatives=[
        lambda D, y: (y - D(y)).flatten(1).std(dim=1),
        lambda D, y: torch.stack([n.std() for n in y - D(y)]),
        lambda D, y: [float((one - D(one)).double().std()) for one in y.split(1)],
        lambda D, y: (y - D(y)).flatten(1).double().numpy().std(axis=1),
        lambda D, y: (y - D(y)).abs().flatten(1).mean(1) * math.sqrt(math.pi / 2),
        lambda D, y: (y - D(y)).abs().flatten(1).median(1).values / 0.6745,
    ],
    wrong=[
        (lambda D, y: (y - D(y)).flatten(1).var(dim=1), "the variance"),
        (lambda D, y: (y - D(y)).abs().flatten(1).mean(1), "absolute"),
        (lambda D, y: (y - D(y)).flatten(1).norm(dim=1), "summed over the pixels"),
        (lambda D, y: (y - D(y)).flatten(1).mean(1), "two signs cancel"),
        (lambda D, y: (y - D(y)).flatten(1).mean(1).abs(), "two signs of the noise cancel"),
        (lambda D, y: (y - D(y)).std(), "one number per picture"),
        (lambda D, y: (y - D(y)).std().expand(len(y)), "A picture with sigma"),
        (lambda D, y: (y - D(y)).pow(2).flatten(1).sum(1).div(784).sqrt(), "Right for"),
        (lambda D, y: sigma_of(D, y).clamp(max=1), "Right for"),
        (lambda D, y: D(y).flatten(1).std(dim=1), "how much the picture varies"),
        (lambda D, y: y.pow(2).flatten(1).mean(1).sqrt(), "gets "),
    ],
)


# -- 4: a study of one's own -----------------------------------------------------------------------


def study():
    from aecourse.data import Batches, subspace
    from aecourse.models import mlp
    from aecourse.training import fit, set_seed

    train, basis = subspace(2000, 20, 3, seed=0)  # points on a subspace of 3 dimensions in 20
    test = (subspace(500, 20, 3, seed=1)[0] @ subspace(1, 20, 3, seed=1)[1]) @ basis.T
    settings, dB = [0.1, 0.5, 2.0], {"baseline": [], "denoiser": []}
    for sigma in settings:

        def denoise(model, x, sigma=sigma):
            return (model(x + sigma * torch.randn_like(x)) - x).pow(2).sum() / len(x)

        set_seed(0)
        model, noisy = mlp([20, 64, 20]), test + sigma * torch.randn_like(test)
        fit(model, denoise, Batches(train, batch_size=100), 20, lr=5e-3, progress=False)
        with torch.no_grad():
            for name, x_hat in (("baseline", noisy @ basis @ basis.T), ("denoiser", model(noisy))):
                dB[name].append(-10 * (x_hat - test).pow(2).mean().log10().item())
    return {
        "claim": "Projection on the subspace wins under weak noise, the denoiser under strong noise",
        "settings": settings,
        **dB,
        "holds": lambda baseline, denoiser: (
            baseline[0] > denoiser[0] and baseline[-1] < denoiser[-1]
        ),
    }


def _made(**changes):
    made = {
        "claim": "the blur catches up when the noise is weak",
        "settings": [0.1, 0.3, 0.5],
        "baseline": [26.0, 20.0, 17.0],
        "denoiser": [25.0, 21.0, 19.5],
        "holds": lambda b, d: d[0] - b[0] < d[1] - b[1] < d[2] - b[2],
    }
    return made | changes


own_study = Exercise(
    "Vary one thing about the noise, the data or the training in at least three steps, measure a "
    "baseline and a "
    "denoiser in dB at each, and claim something that could have turned out false.",
    check_of_study("baseline", "denoiser", what="value in dB"),
    [
        "Good questions: from which strength on does the blur catch up? Does occlusion as training "
        "noise help against "
        "masking?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'baseline' and 'denoiser' one "
        "number of dB per setting, "
        "and 'holds' a function of these two lists that is True when the claim is.",
        "`lambda baseline, denoiser: denoiser[0] < baseline[0] and denoiser[-1] > baseline[-1]` "
        "says: the baseline wins first and loses last. `max(abs(b - d) for b, d in zip(baseline, "
        "denoiser)) < 0.5` says: they differ by less than half a dB.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="the denoiser loses less from weak to strong noise",
            holds=lambda b, d: d[0] - d[-1] < b[0] - b[-1],
        ),
        _made(
            claim="the two differ by less than half a dB at every strength",
            denoiser=[26.2, 19.8, 17.3],
            holds=lambda b, d: max(abs(x - y) for x, y in zip(b, d)) < 0.5,
        ),
        _made(baseline=torch.tensor([26.0, 20.0, 17.0]), settings=(0.1, 0.3, 0.5)),
    ],
    wrong=[
        (_made(holds=lambda b, d: True), "cannot fail"),
        (_made(holds=lambda b, d: max(d) > 0), "cannot fail"),
        (_made(holds=lambda b, d: d[0] < 25.5), "does not depend on the first list"),
        (_made(holds=lambda b, d: b[0] == 26.0 and d[0] < b[0]), "exactly these numbers"),
        (
            _made(settings=[0.1, 0.5], baseline=[26.0, 17.0], denoiser=[25.0, 19.5]),
            "at least three",
        ),
        (_made(holds=lambda b, d: d[0] > b[0]), "not true of what you found"),
        (_made(baseline=[26.0, 20.0]), "one value in dB per setting"),
        (_made(denoiser=[float("inf"), 21.0, 19.5]), "NaN or infinity"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "the denoiser wins"}, "a dict with the entries"),
    ],
)

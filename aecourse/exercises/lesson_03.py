"""Exercises of lesson 03, Can a code larger than the input be of use?"""

import math

from aecourse.exercises import Exercise, check_of_study, require

import torch
from torch import nn

# -- 1: a noise of one's own -----------------------------------------------------------------------


def _check_occlude(attempt):
    torch.manual_seed(0)
    x = 0.2 + 0.8 * torch.rand(400, 1, 12, 10)
    given = x.clone()
    got = attempt(x, 4)
    require(
        isinstance(got, torch.Tensor) and got.shape == x.shape,
        f"Return a tensor of the shape given, {tuple(x.shape)}.",
    )
    require(
        torch.equal(x, given),
        "You changed the tensor that you were given: the clean picture, which is the "
        "target, is spoiled too. Work on a copy (`x.clone()`), or multiply by a mask.",
    )
    black = (got == 0)[:, 0]
    require(
        torch.equal(got[:, 0][~black], x[:, 0][~black]),
        "Pixels outside the square changed their value. Only the "
        "square is covered; the rest stays as it was.",
    )
    counts = black.flatten(1).sum(1)
    require(bool(counts.any()), "Nothing is covered: no pixel is 0.")
    rows, columns = black.any(2), black.any(1)
    tall, wide = rows.sum(1), columns.sum(1)
    require(
        not bool((counts < 16).any() and (counts <= 16).all() and (counts == tall * wide).all()),
        "Some squares are cut off at the edge, or one pixel too small: all 16 pixels of a square "
        "of size 4 have "
        "to lie inside the picture.",
    )
    require(
        bool((counts == 16).all() and (tall == 4).all() and (wide == 4).all()),
        "With size 4 a square of 4 x 4 "
        f"should be black in each picture; in yours {int(counts.min())} to {int(counts.max())} "
        "pixels are.",
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
    require(
        len(places) > 7 or not all(a == b for a, b in places),
        "The square moves on the diagonal only: draw row and column apart.",
    )
    require(
        int(top.max()) == 8 and int(left.max()) == 6 and int(top.min()) == int(left.min()) == 0,
        "Some places are never covered. In a picture of 12 x 10 the first row of the square runs "
        "from 0 to 8 and "
        f"its first column from 0 to 6; yours from {int(top.min())} to {int(top.max())} and from "
        f"{int(left.min())} to {int(left.max())}. (`torch.randint(high)` stops before `high`.)",
    )
    again = attempt(x, 4)
    require(
        not torch.equal(again, got),
        "The same places at every call. The noise has to be drawn anew, or the "
        "network learns it by heart.",
    )
    return (
        "A noise that no filter can undo: what was under the square has to be known. Try it with "
        "`train_denoiser(lambda x: "
        "my_occlude(x, 10))`."
    )


def occlude(x, size):
    batch, _, height, width = x.shape
    top = torch.randint(height - size + 1, (batch, 1, 1, 1))
    left = torch.randint(width - size + 1, (batch, 1, 1, 1))
    row, column = torch.arange(height).view(-1, 1), torch.arange(width)
    covered = (
        (row >= top) & (row < top + size) & (column >= left) & (column < left + size)
    )  # (B, 1, H, W)
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
    alternatives=[_occlude_by_loop],
    wrong=[
        (_occlude_in_place, "the tensor that you were given"),
        (lambda x, size: _occlude_by_loop(x, size, one=True), "at the same place"),
        (lambda x, size: _occlude_by_loop(x, size, stop=0), "never covered"),
        (lambda x, size: _occlude_by_loop(x, size, diagonal=True), "on the diagonal"),
        (_occlude_over_the_edge, "cut off at the edge"),
        (_occlude_rescaled, "outside the square"),
        (lambda x, size: x * (torch.rand_like(x) >= 0.1), "square of 4 x 4"),
        (lambda x, size: x.clone(), "Nothing is covered"),
    ],
)


# -- 2: the denoising loss by hand -----------------------------------------------------------------


class _Probe(nn.Module):
    """A model that remembers what it was given, and answers with a constant or with its input."""

    def __init__(self, answer=None):
        super().__init__()
        self.scale, self.answer, self.seen = nn.Parameter(torch.ones(())), answer, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.scale * (x if self.answer is None else torch.full_like(x, self.answer))


def _check_denoising(attempt):
    torch.manual_seed(0)
    x = 0.2 + 0.8 * torch.rand(200, 1, 6, 6)
    given, probe = x.clone(), _Probe(answer=0.3)
    loss = attempt(probe, x)
    require(
        isinstance(loss, torch.Tensor) and loss.ndim == 0,
        "Return one number, as a tensor, so that it has a gradient.",
    )
    require(
        torch.equal(x, given), "You changed the clean pictures. They are the target: spoil a copy."
    )
    require(len(probe.seen) > 0, "The model was never called.")
    seen = probe.seen[0]
    require(
        seen.shape == x.shape,
        f"The model got pictures of shape {tuple(seen.shape)}, not {tuple(x.shape)}.",
    )
    require(
        not torch.equal(seen, x),
        "The model got the clean pictures: there is no noise in front of it, so it can copy.",
    )
    alive = seen != 0
    require(
        not torch.allclose(seen[alive], 2 * x[alive]),
        "The pixels that survive are twice as bright: that is "
        "dropout. In masking noise they keep their value.",
    )
    require(
        torch.equal(seen[alive], x[alive]),
        "The pixels that survive have to keep their value; yours changed.",
    )
    rows = alive.flatten(1).float()
    require(
        rows.mean(1).std() < 0.2,
        "Whole pictures were erased: draw one number per pixel, with the shape of `x`.",
    )
    require(
        rows.mean(0).std() < 0.2,
        "The same pixels were erased in all pictures: draw for each picture, with the "
        "shape of `x`.",
    )
    erased = 1 - alive.float().mean().item()
    require(
        0.46 < erased < 0.54,
        f"Each pixel is erased with probability 0.5; yours are in {100 * erased:.0f} % of "
        "the cases.",
    )
    wanted = (0.3 - x).pow(2).sum() / len(x)
    require(
        not torch.isclose(loss, (0.3 - seen).pow(2).sum() / len(x)),
        "Your target is the noisy picture, so the "
        "network learns to copy the noise. The target is the clean `x`.",
    )
    require(
        not torch.isclose(loss, wanted / 36, rtol=1e-3),
        "You averaged over the pixels. The course sums over the "
        "pixels and averages over the pictures.",
    )
    require(
        not torch.isclose(loss, wanted * len(x), rtol=1e-3),
        "You summed over the pictures as well: divide by their number.",
    )
    require(
        torch.isclose(loss, wanted, rtol=1e-3),
        f"The squared error would be {wanted.item():.4g} here; yours is {loss.item():.4g}.",
    )
    attempt(probe, x)
    require(
        not torch.equal(probe.seen[-1], seen),
        "The same noise at every call. The network would learn it by heart: draw it anew.",
    )
    require(
        loss.requires_grad,
        "The loss has no gradient: keep it a tensor, with no `.item()`, `.detach()` or "
        "`no_grad()`.",
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


denoising = Exercise(
    "Write a denoising loss by hand: masking noise of probability 0.5, drawn anew at each call, "
    "and the squared error "
    "against the clean pictures, summed over pixels, mean over pictures.",
    _check_denoising,
    [
        "Three lines: spoil `x`, call the model on what is left, compare with the clean `x`.",
        "`torch.rand_like(x) >= 0.5` is True for about half of the pixels. Multiplying by it "
        "erases the others.",
        "`(x_hat - x).pow(2).sum() / len(x)` sums over pixels and averages over pictures.",
    ],
    masked_loss,
    alternatives=[
        _with_functions,
        lambda model, x: (model(_mask(x)) - x).square().flatten(1).sum(1).mean(),
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
        (lambda model, x: (model(_mask(x)) - x).pow(2).sum().item() / len(x), "as a tensor"),
    ],
)


# -- 3: a denoiser as a thermometer ----------------------------------------------------------------


def _check_noise_level(attempt):
    torch.manual_seed(0)
    sigma = torch.linspace(0.05, 0.6, 12)
    clean = torch.rand(12, 1, 28, 28)
    y = clean + sigma.view(-1, 1, 1, 1) * torch.randn(12, 1, 28, 28)
    got = attempt(lambda noisy: clean, y)
    require(isinstance(got, torch.Tensor), f"Return a tensor, not {type(got).__name__}.")
    require(
        got.shape == (12,),
        f"One number per picture: shape (12,) here; yours is {tuple(got.shape)}.",
    )

    def close(other, share=0.12):
        return bool(((got - other).abs() < share * other).all())

    require(
        not close(sigma**2, 0.25),
        "That is the variance. The standard deviation is its square root.",
    )
    require(
        not close(sigma * math.sqrt(2 / math.pi)),
        "The mean *absolute* value of Gaussian noise is 0.8 sigma. "
        "Square, average, and take the root.",
    )
    require(not close(sigma * 28), "You summed over the pixels. Here an average is wanted.")
    require(
        not close(clean.flatten(1).std(dim=1)),
        "You measured how much the picture varies. Measure what the denoiser took away.",
    )
    require(not got.abs().max() < 0.1, "Noise averages out to zero: square before you average.")
    require(
        close(sigma),
        f"Pictures with sigma {sigma[0]:.2f}, {sigma[5]:.2f} and {sigma[11]:.2f} get {got[0]:.2f}, "
        f"{got[5]:.2f} and {got[11]:.2f}. What is left when you take the clean picture from the "
        "noisy one?",
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
    ],
    wrong=[
        (lambda D, y: (y - D(y)).flatten(1).var(dim=1), "the variance"),
        (lambda D, y: (y - D(y)).abs().flatten(1).mean(1), "absolute"),
        (lambda D, y: (y - D(y)).flatten(1).norm(dim=1), "summed over the pixels"),
        (lambda D, y: (y - D(y)).flatten(1).mean(1), "averages out"),
        (lambda D, y: (y - D(y)).std(), "One number per picture"),
        (lambda D, y: D(y).flatten(1).std(dim=1), "how much the picture varies"),
        (lambda D, y: y.pow(2).flatten(1).mean(1).sqrt(), "get "),
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
        "says: the baseline wins "
        "first and loses last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="the denoiser loses less from weak to strong noise",
            holds=lambda b, d: d[0] - d[-1] < b[0] - b[-1],
        ),
    ],
    wrong=[
        (_made(holds=lambda b, d: True), "cannot fail"),
        (_made(holds=lambda b, d: max(d) > 0), "cannot fail"),
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

"""Exercises of lesson 14, What do today's image generators keep of all this?"""

from aecourse.exercises import (
    Exercise,
    as_tensor,
    check_of_study,
    close,
    needs_gradient,
    require,
    require_close,
)

import torch
from torch import nn

# -- 1: flow matching, by hand ---------------------------------------------------------------------


class _Field(nn.Module):
    """A known velocity: `a x + b t + c condition`; `seen` holds what it was given."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        for name, value in (("a", 0.7), ("b", -0.4), ("c", 0.3)):
            setattr(self, name, nn.Parameter(torch.tensor(value, dtype=dtype)))
        self.seen = []

    def forward(self, x, t, condition=None):
        self.seen.append((x.detach().clone(), torch.as_tensor(t).detach().clone(), condition))
        t = torch.as_tensor(t, dtype=x.dtype)
        t = t.reshape(-1, 1) if t.numel() == len(x) else t.reshape(-1)[:1]
        return self.a * x + self.b * t + (0 if condition is None else self.c * condition)


def _check_flow_matching(attempt, case):
    z, noise, t = case.values("B", "d"), case.normal("B", "d"), case.pixels("B")
    network, n, times = _Field(case.dtype), len(z), t[:, None]
    got = attempt(network, z.clone(), noise.clone(), t.clone())
    require(
        isinstance(got, torch.Tensor) and got.ndim == 0,
        "Return one number, as a tensor without axes.",
    )
    require(len(network.seen) == 1, f"Ask the network once; you asked {len(network.seen)} times.")
    x, given_t, _ = network.seen[0]
    require_close(
        x,
        (1 - times) * noise + times * z,
        [
            (times * noise + (1 - times) * z, "Your line runs from code to noise: t = 0 is noise."),
            (times * (noise + z), "The shares of noise and code have to add up to 1."),
            (noise + times * z, "The noise has to shrink, too: its share is 1 - t."),
            (z + times * noise, "The share of noise is 1 - t, that of the code is t."),
            (z, "The network has to see a point of the line, not the code."),
        ],
        "What the network gets is not the point (1 - t) noise + t z of each row's own line. "
        "`t[:, None]` is one number per row.",
    )
    require_close(given_t.reshape(-1), t, otherwise="Give the network the t of each row.")
    v, target = network(x, t), z - noise
    right = (v - target).pow(2).sum() / n
    require_close(
        got,
        right,
        [
            ((v + target).pow(2).sum() / n, "The velocity leads from noise to code: z - noise."),
            ((v - z).pow(2).sum() / n, "That is a denoiser's target. The velocity is z - noise."),
            ((v - noise).pow(2).sum() / n, "That predicts the noise. The velocity is z - noise."),
            ((v - target).pow(2).mean(), "You averaged over the numbers of a code: sum over them."),
            ((v - target).pow(2).sum(), "You summed over the batch: average over it."),
            ((v - (z - x)).pow(2).sum() / n, "z - x is only what is left of the way at t."),
        ],
        f"This gives {got.item():.5g} where {right.item():.5g} is right: the squared error of the "
        "velocity, summed over a code, mean over the batch.",
    )
    found = needs_gradient(got, network.a, network.b)
    wanted = torch.autograd.grad(right, (network.a, network.b))
    require(all(map(close, found, wanted)), "The number is right, its gradient is not.")
    return "Lines cross, so no network reaches 0: the loss that stays is what x and t leave open."


def flow_matching_loss(network, z, noise, t):
    x = (1 - t[:, None]) * noise + t[:, None] * z
    return (network(x, t) - (z - noise)).pow(2).sum() / len(z)


def _flow_by_lerp(network, z, noise, t):
    x = torch.lerp(noise, z, t.unsqueeze(1))
    return ((network(x, t) - z + noise) ** 2).sum(dim=1).mean()


def _flow(line=lambda z, noise, t: (1 - t) * noise + t * z, target=None, reduce=None, when=None):
    """The loss with one part changed."""

    def loss(network, z, noise, t):
        x = line(z, noise, t[:, None])
        v = network(x, t if when is None else when(t))
        error = (v - (z - noise if target is None else target(z, noise, x))).pow(2)
        return error.sum() / len(z) if reduce is None else reduce(error)

    return loss


flow_matching = Exercise(
    "Write flow matching by hand: `my_flow_matching(network, z, noise, t)`, with codes and noise "
    "(B, d) and times (B,), returns the loss, summed over a code, mean over the batch.",
    _check_flow_matching,
    [
        "Three lines: the point of the line between noise and code, what the network says there, "
        "its squared distance from the velocity of the line.",
        "`t[:, None]` has shape (B, 1), one number for all of a code. The network takes t of (B,).",
        "The velocity of `(1 - t) * noise + t * z` is its derivative with respect to t.",
    ],
    flow_matching_loss,
    alternatives=[_flow_by_lerp],
    wrong=[
        (_flow(line=lambda z, noise, t: t * noise + (1 - t) * z), "from code to noise"),
        (_flow(line=lambda z, noise, t: noise + t * z), "has to shrink"),
        (_flow(line=lambda z, noise, t: z + t * noise), "is 1 - t"),
        (_flow(line=lambda z, noise, t: z), "not the code"),
        (_flow(line=lambda z, noise, t: noise.lerp(z, t.mean())), "own line"),
        (_flow(target=lambda z, noise, x: noise - z), "from noise to code"),
        (_flow(target=lambda z, noise, x: z), "denoiser's target"),
        (_flow(target=lambda z, noise, x: noise), "predicts the noise"),
        (_flow(target=lambda z, noise, x: z - x), "left of the way"),
        (_flow(reduce=lambda error: error.mean()), "sum over them"),
        (_flow(reduce=lambda error: error.sum()), "average over it"),
        (_flow(when=lambda t: 1 - t), "the t of each row"),
        (lambda *inputs: flow_matching_loss(*inputs).detach(), "gradient"),
    ],
)


# -- 2: Euler's method, with guidance --------------------------------------------------------------


def _euler(network, x, steps, condition, w, *, late=False, add=None, size=None):
    """Euler's method with guidance; `late`, `add` and `size` make known mistakes."""
    add = add or (lambda v, given: v + w * (given - v))
    for i in range(steps):
        t = (i + late) / steps
        x = x + add(network(x, t), network(x, t, condition)) * (1 / steps if size is None else size)
    return x


def _check_sampler(attempt, case):
    x, condition = case.values("B", "d"), case.values("B", "d")
    for steps, w in ((case.whole(3, 7), case.number_between(2, 4)), (1, 1.0), (4, 0.0)):
        _check_run(attempt, x, steps, condition, w)
    return "w = 0 leaves the condition out, w = 1 models it, and beyond it is exaggerated."


def _check_run(attempt, x, steps, condition, w):
    network = _Field(x.dtype)
    got = as_tensor(attempt(network, x.clone(), steps, condition.clone(), w), x.shape, "codes")
    require(network.seen, "You never asked the network.")
    times = {round(float(t.reshape(-1)[0]), 6) for _, t, _ in network.seen}
    known = _Field(x.dtype)

    def run(**change):
        return _euler(known, x, steps, condition, w, **change)

    require_close(
        got,
        run(),
        [
            (run(late=True), "You ask at the end of each step. Euler asks at its beginning."),
            (run(size=1), "Each step is 1 / steps long."),
            (run(size=-1 / steps), "You walk from code to noise: add the velocity."),
            (
                run(add=lambda v, given: given + w * (given - v)),
                "That is the paper's w, which is ours less 1: start from the unconditional one.",
            ),
            (run(add=lambda v, given: given), "The guidance is not used."),
            (run(add=lambda v, given: v), "The condition is not used."),
            (
                run(add=lambda v, given: v + w * given),
                "Weight the *difference* of the two velocities.",
            ),
            (
                run(add=lambda v, given: given + w * (v - given)),
                "You have the two velocities exchanged: w = 1 is the conditional one.",
            ),
        ],
        f"The codes are not right for {steps} step(s) and w = {w:.3g}; the network was asked "
        f"at t = {', '.join(f'{t:.3g}' for t in sorted(times)[:6])}.",
    )
    require(
        len(times) == steps,
        f"For {steps} steps ask at {steps} times; yours are {len(times)}.",
    )


def guided_euler(network, x, steps, condition, w):
    for i in range(steps):
        v, given = network(x, i / steps), network(x, i / steps, condition)
        x = x + (v + w * (given - v)) / steps
    return x


def _euler_by_times(network, x, steps, condition, w):
    times = torch.linspace(0, 1, steps + 1, dtype=x.dtype)
    for t, t_next in zip(times[:-1], times[1:]):
        v = (1 - w) * network(x, t) + w * network(x, t, condition)
        x = x + (t_next - t) * v
    return x


def _mistaken(add=None, **change):
    def attempt(network, x, steps, condition, w):
        mixed = None if add is None else lambda v, given: add(v, given, w)
        return _euler(network, x, steps, condition, w, add=mixed, **change)

    return attempt


sampler = Exercise(
    "Write the sampler: `my_generate(network, x, steps, condition, w)` follows the guided velocity "
    "from t = 0 to 1. `network(x, t)` is the unconditional velocity, `network(x, t, condition)` "
    "the conditional one, t one number.",
    _check_sampler,
    [
        "A loop over the steps. At each: two velocities, one combination, one step.",
        "The i-th step, from 0, begins at t = i / steps and is 1 / steps long.",
        "With `v` and `given`, the two velocities, `v + w * (given - v)` is the second at w = 1.",
    ],
    guided_euler,
    alternatives=[_euler_by_times],
    wrong=[
        (_mistaken(late=True), "at the end of each step"),
        (_mistaken(size=1), "1 / steps long"),
        (
            lambda network, x, steps, condition, w: (
                2 * x - guided_euler(network, x, steps, condition, w)
            ),
            "The codes are not right",
        ),
        (_mistaken(add=lambda v, given, w: given + w * (given - v)), "the paper's w"),
        (_mistaken(add=lambda v, given, w: given), "not used"),
        (_mistaken(add=lambda v, given, w: v), "The condition is not used"),
        (_mistaken(add=lambda v, given, w: v + w * given), "*difference*"),
        (_mistaken(add=lambda v, given, w: given + w * (v - given)), "exchanged"),
        (lambda network, x, steps, condition, w: x, "never asked"),
        (
            lambda network, x, steps, condition, w: guided_euler(
                network, x, steps + 1, condition, w
            ),
            "The codes are not right",
        ),
    ],
)


# -- 3: the straight-through estimator -------------------------------------------------------------


def _check_quantize(attempt, case):
    size, entries = case.size("size"), case.size("entries", 3)
    q = case.values("B", "tokens", "size").requires_grad_()
    codebook = case.values("entries", "size").requires_grad_()
    got = attempt(q, codebook)
    require(
        isinstance(got, torch.Tensor) and got.shape == q.shape,
        f"Return a tensor of the shape of q, {tuple(q.shape)}: one entry per token.",
    )
    flat, table = q.detach().view(-1, size), codebook.detach()
    distance = torch.cdist(flat.double(), table.double())

    def entry(index):
        return table[index].view_as(q)

    require_close(
        got,
        entry(distance.argmin(1)),
        [
            (q, "Forward, this is q itself. The value has to be the entry, the gradient q's."),
            (entry(distance.argmax(1)), "You took the farthest entry."),
            (
                entry((flat @ table.T).argmax(1)),
                "You took the entry with the largest product: long entries win. Take the nearest.",
            ),
            (entry(distance.argmin(1)) - q, "This is the difference: add q, without gradient."),
            (q + entry(distance.argmin(1)), "This is q + e. Add only the difference, e - q."),
            (2 * q - entry(distance.argmin(1)), "This is 2 q - e: the difference is e - q."),
        ],
        f"Not each token is the nearest of the {entries} entries.",
    )
    require(
        got.requires_grad,
        "No gradient flows: `argmin` has none. `q + (e - q).detach()` lets it pass.",
    )
    weights = case.normal("B", "tokens", "size")
    of_q, of_codebook = torch.autograd.grad((got * weights).sum(), (q, codebook), allow_unused=True)
    require(of_q is not None, "The gradient goes to the codebook, and the encoder gets none.")
    require_close(
        of_q,
        weights,
        [
            (2 * weights, "The gradient of q is doubled: detach the difference as a whole."),
            (0 * weights, "The gradients of q cancel: detach the difference as a whole."),
            (-weights, "The gradient of q has the wrong sign: detach the difference, not q."),
        ],
        "The gradient of q has to be that of the output, unchanged.",
    )
    require(
        of_codebook is None or not bool(of_codebook.any()),
        "The codebook gets this gradient, too. Its own loss trains it: detach the difference.",
    )
    return "Forward a choice, backward the identity: wrong as a derivative, good enough to train."


def straight_through(q, codebook):
    nearest = torch.cdist(q.flatten(0, 1), codebook).argmin(1)
    e = codebook[nearest].view_as(q)
    return q + (e - q).detach()


def _by_differences(q, codebook):
    nearest = (q[:, :, None] - codebook).pow(2).sum(3).argmin(2)
    return codebook.detach()[nearest] - q.detach() + q


def _entries(q, codebook):
    return codebook[(q[:, :, None] - codebook).pow(2).sum(3).argmin(2)]


quantize = Exercise(
    "Write `my_quantize(q, codebook)`: q (B, tokens, size), codebook (entries, size). Each token "
    "becomes its nearest entry; the gradient passes straight through to q, and none goes to the "
    "codebook.",
    _check_quantize,
    [
        "First the nearest entry of each token: distances to all, then `argmin`.",
        "`q.flatten(0, 1)` is (B * tokens, size), which `torch.cdist` compares with the codebook.",
        "`q + (e - q).detach()` has the value of e and the gradient of q.",
    ],
    straight_through,
    alternatives=[_by_differences],
    wrong=[
        (lambda q, codebook: _entries(q, codebook).detach(), "No gradient flows"),
        (_entries, "to the codebook"),
        (lambda q, codebook: q + (_entries(q, codebook) - q), "cancel"),
        (lambda q, codebook: q + _entries(q, codebook).detach(), "This is q + e"),
        (lambda q, codebook: q + _entries(q, codebook), "This is q + e"),
        (lambda q, codebook: q + (q - _entries(q, codebook)).detach(), "2 q - e"),
        (lambda q, codebook: q - (_entries(q, codebook) - q).detach(), "2 q - e"),
        (lambda q, codebook: q.detach() + (_entries(q, codebook) - q), "wrong sign"),
        (
            lambda q, codebook: _entries(q, codebook) + (q - _entries(q, codebook)).detach(),
            "q itself",
        ),
        (lambda q, codebook: (_entries(q, codebook) - q).detach(), "the difference: add q"),
        (lambda q, codebook: (q + _entries(q, codebook) - q).detach(), "No gradient flows"),
        (lambda q, codebook: q + _entries(q, codebook) - q.detach(), "The codebook gets"),
        (
            lambda q, codebook: _entries(q, codebook).detach() + (q - _entries(q, codebook)),
            "q itself",
        ),
        (lambda q, codebook: 2 * q + (_entries(q, codebook) - 2 * q).detach(), "doubled"),
        (
            lambda q, codebook: (
                q
                + (
                    codebook[torch.cdist(q.flatten(0, 1), codebook).argmax(1)].view_as(q) - q
                ).detach()
            ),
            "farthest",
        ),
        (
            lambda q, codebook: q + (codebook[(q @ codebook.T).argmax(2)] - q).detach(),
            "largest product",
        ),
        (lambda q, codebook: (torch.cdist(q, codebook[None]).softmax(2)) @ codebook, "nearest"),
    ],
)


# -- 4: a small study ------------------------------------------------------------------------------


def straight_lines():
    settings, one_step, many_steps = [0.1, 0.5, 2.0], [], []
    for distance in settings:  # of two codes; the exact velocity is known
        torch.manual_seed(0)
        codes, start = torch.tensor([[distance], [-distance]]), torch.randn(500, 1)
        for steps, found in ((1, one_step), (50, many_steps)):
            x = start
            for i in range(steps):
                t = i / steps
                off = (x - t * codes.T).pow(2) / (2 * (1 - t) ** 2)
                x = x + ((-off).softmax(1) @ codes - x) / (1 - t) / steps
            found.append((x.abs() - distance).abs().mean().item() / distance)
    return {
        "claim": "One Euler step ends at the mean of two codes, fifty end at one of them",
        "settings": settings,
        "ours": many_steps,
        "baseline": one_step,
        "holds": lambda ours, baseline: max(ours) < 0.2 and min(baseline) > 0.9,
    }


def _made(**changes):
    made = {
        "claim": "With few steps the mixture is ahead, with many the flow",
        "settings": [2, 8, 32],
        "ours": [6.1, 2.4, 1.9],
        "baseline": [2.1, 2.1, 2.0],
        "holds": lambda ours, baseline: ours[0] > baseline[0] and ours[-1] < baseline[-1],
    }
    return made | changes


study = Exercise(
    "A study of your own: vary one thing in at least three steps, measure the latent flow and a "
    "baseline at each, and claim something that could have turned out false.",
    check_of_study("ours", "baseline"),
    [
        "Change one thing: steps, epochs, width, the number of faces, the guidance. Measure one "
        "thing: a Fréchet distance, a diversity, a share found.",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'ours' and 'baseline' one number "
        "per setting, and 'holds' a function of these two lists.",
        "For example: 2, 8 and 32 steps, and the mixture as baseline. `lambda ours, baseline: "
        "ours[0] > baseline[0] and ours[-1] < baseline[-1]` says: the mixture leads first.",
    ],
    straight_lines,
    alternatives=[
        _made(),
        _made(
            claim="the width makes no difference of more than a tenth beside the mixture",
            ours=(1.95, 1.9, 1.92),
            holds=lambda ours, baseline: max(ours) - min(ours) < 0.1 < min(baseline),
        ),
    ],
    wrong=[
        (_made(holds=lambda ours, baseline: True), "cannot fail"),
        (_made(holds=lambda ours, baseline: ours[0] == 6.1), "exactly these numbers"),
        (_made(holds=lambda ours, baseline: ours[0] < baseline[0]), "not true of what you found"),
        (_made(ours=[6.1, 2.4]), "one number per setting"),
        (_made(settings=[2, 8]), "You tried 2 settings"),
        (lambda: ("Steps help", [6.1, 2.4, 1.9], {"below": 3}), "A study is a dict"),
    ],
)

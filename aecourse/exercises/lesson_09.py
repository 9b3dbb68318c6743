"""Exercises of lesson 09, Can a discriminator replace the KL?"""

import math

from aecourse.exercises import (
    Exercise,
    as_number,
    as_truth,
    check_of_study,
    close,
    require,
    require_close,
)

import torch

# -- 1: a prior of your own ------------------------------------------------------------------------------------------------------


def _check_disc(attempt, case):
    for n in (case.size("B"), case.size("n", 15_000, 25_000)):
        z = attempt(n)
        shape = tuple(getattr(z, "shape", ()))
        require(
            isinstance(z, torch.Tensor) and shape == (n, 2),
            f"A prior gives n codes of two numbers: with n = {n} a tensor of shape ({n}, 2); yours "
            + (
                f"has shape {shape}."
                if isinstance(z, torch.Tensor)
                else f"is a {type(z).__name__}."
            ),
        )
        require(not close(attempt(n), z), "The same codes at every call: draw them anew.")
    z = z.detach().double()
    radius = z.norm(dim=1)
    inner, outside = ((radius < 1).double().mean(), (radius > 2.001).double().mean())
    require(
        not (outside > 0.15 and z.abs().max() < 2.001),
        "That is a square: its corners stick out of the disc. Draw an angle and a radius, "
        "or throw the corners away.",
    )
    require(
        outside == 0 and bool(z.isfinite().all()),
        f"{100 * outside:.0f} % of your codes lie outside of the disc of radius 2, or are not finite.",
    )
    require(
        radius.max() > 1.98,
        f"Your farthest code is {radius.max():.2f} from the center; the disc reaches out to 2.",
    )
    require(inner > 0.01, "The middle is empty: you drew the rim of the disc, not the disc.")
    require(
        abs(inner - 0.5) > 0.02,
        "Too dense in the middle: half of your codes lie within radius 1, which is a quarter of the area. "
        "A ring's area grows with its radius, so draw the radius as 2 * sqrt(u).",
    )
    # eight sectors times eight rings of equal area
    sector = ((torch.atan2(z[:, 1], z[:, 0]) / math.pi + 1) * 4).long().clamp(0, 7)
    ring = (2 * radius**2).long().clamp(0, 7)
    parts = torch.bincount(8 * sector + ring, minlength=64).view(8, 8) / n
    require(
        parts.sum(1).min() > 0.05,
        "Some directions are missing: the angle has to run over the whole circle, from 0 to 2 pi.",
    )
    for found, what in ((parts.sum(1), "sectors"), (parts.sum(0), "rings"), (parts, "parts")):
        even = 1 / found.numel()
        require(
            (found - even).abs().max() < 6 * (even / n) ** 0.5,
            f"Not even: of {found.numel()} {what} of equal area the emptiest holds {100 * found.min():.1f} % "
            f"of your codes, the fullest {100 * found.max():.1f} %. Each should hold {100 * even:.1f} %.",
        )
    return "You never wrote a density down, and need none: hand this function to `train` as a prior and look at the codes."


def disc(n):
    radius = 2 * torch.rand(n).sqrt()  # the area within r grows as r squared
    angle = 2 * math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _thrown_away(n):
    z = 4 * torch.rand(4 * n + 50, 2) - 2  # a square, many more than needed
    return z[z.norm(dim=1) <= 2][:n]


def _from_normal(n):
    z = torch.randn(n, 4, dtype=torch.float64)  # on a sphere in 4 dimensions two of them are even
    return 2 * z[:, :2] / z.norm(dim=1, keepdim=True)


def _even_radius(n):
    radius, angle = 2 * torch.rand(n), 2 * math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _rim(n):
    angle = 2 * math.pi * torch.rand(n)
    return 2 * torch.stack([angle.cos(), angle.sin()], 1) * 0.999


def _half(n):
    radius, angle = 2 * torch.rand(n).sqrt(), math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _wound(n):
    u = torch.rand(n)  # angle and radius go together: even rings, even sectors, a spiral
    return (
        2 * u.sqrt()[:, None] * torch.stack([(2 * math.pi * u).cos(), (2 * math.pi * u).sin()], 1)
    )


own_prior = Exercise(
    "Write a prior: n codes of two numbers, spread evenly over a disc of radius 2.",
    _check_disc,
    [
        "An angle and a radius for each code; then `torch.stack([r * angle.cos(), r * angle.sin()], 1)`.",
        "The disc within radius 1 has a quarter of the area of the disc within radius 2: so it has to hold a quarter of the codes.",
        "`radius = 2 * torch.rand(n).sqrt()`. Or draw from a square, and throw away what lies outside of the disc.",
    ],
    disc,
    alternatives=[_thrown_away, _from_normal],
    wrong=[
        (_even_radius, "Too dense in the middle"),
        (lambda n: 4 * torch.rand(n, 2) - 2, "That is a square"),
        (_rim, "The middle is empty"),
        (_half, "Some directions are missing"),
        (lambda n: torch.randn(n, 2), "outside of the disc"),
        (lambda n: disc(n).T, "of shape"),
        (lambda n: disc(n).numpy(), "yours is a ndarray"),
        (lambda n: disc(20_000), "of shape"),
        (lambda n: (4 * torch.rand(n, 2) - 2)[: n // 2], "of shape"),
        (lambda n: 1.5 * disc(n), "outside of the disc"),
        (lambda n: disc(n) / 2**0.5, "reaches out to 2"),
        (_wound, "parts of equal area"),
        (lambda n: torch.manual_seed(0) and disc(n), "at every call"),
    ],
)


# -- 2: what a log says ----------------------------------------------------------------------------------------------------------

TIE = 2 * math.log(2)
WORDS = ("matched", "discriminator too weak", "discriminator too strong")


def _runs(case):
    """Seven runs: (loss of the discriminator per epoch, distance, floor, what is the case)."""
    runs = []
    for start, end, word in (
        (1.3, 1.38, WORDS[0]),
        (1.1, 1.37, WORDS[0]),
        (1.39, 1.39, WORDS[1]),
        (0.5, 1.38, WORDS[1]),  # it was ahead once
        (0.8, 0.04, WORDS[2]),
        (1.39, 0.52, WORDS[2]),  # every discriminator starts at a tie
        (0.1, 1.38, WORDS[0]),
    ):
        turn, after = case.whole(1, 9), case.whole(2, 4)  # epochs
        curve = [start + (end - start) * (i / turn) ** 2 for i in range(turn)] + [end] * after
        floor = case.scale * case.number_between(0.003, 0.03)
        times = case.number_between(*((0.8, 1.5) if word == WORDS[0] else (12, 500)))
        runs.append(([round(v, 2) for v in curve], times * floor, floor, word))
    return runs


def _check_diagnosis(attempt, case):
    runs = _runs(case)

    def said_of(curve, distance, floor):
        word = attempt(list(curve), distance, floor)
        require(
            isinstance(word, str) and word in WORDS,
            f"Answer with one of {', '.join(map(repr, WORDS))}; one of yours is {word!r}.",
        )
        return word

    said = [said_of(*run[:3]) for run in runs]
    of_weak = {mine for mine, run in zip(said, runs) if run[3] == WORDS[1]}
    require(
        of_weak != {WORDS[0]},
        "You trust the discriminator: a loss of 2 ln 2 says that *this* discriminator cannot tell codes from prior. One that never learned anything "
        "cannot either. The distance knows which of the two it is.",
    )
    of_strong = {mine for mine, run in zip(said, runs) if run[3] == WORDS[2]}
    require(
        not (of_weak == {WORDS[2]} and of_strong == {WORDS[1]}),
        "Weak and strong are exchanged, or your tie is not 2 ln 2: a final loss near 1.386 means that the discriminator cannot tell.",
    )
    require(
        of_weak != {WORDS[2]},
        "A large distance alone does not mean that the discriminator is too strong: where its loss stays at 2 ln 2, it sees nothing, and the encoder "
        "is told nothing. Look at both numbers.",
    )
    for (curve, distance, floor, right), mine in zip(runs, said):
        if mine == right:
            continue
        require(
            said_of(curve[-1:] * len(curve), distance, floor) != right,
            f"You judged a run by more than its end: its discriminator's loss goes from {curve[0]} to {curve[-1]}, and you say '{mine}'. "
            "What counts is where it ended.",
        )
        require(
            all(
                said_of(curve, unit * distance, unit * floor) == mine
                for unit in (1e-4, 1e-2, 1e2, 1e4)
            ),
            f"Distance {distance:.3g}, floor {floor:.3g}: you say '{mine}', and another word where both are in another unit. "
            "Compare with `floor`, what two samples of that size give, not with a number of your own.",
        )
        require(
            False,
            f"Discriminator's loss {curve[0]} to {curve[-1]}, distance {distance:.3g}, floor {floor:.3g}: that is '{right}', "
            f"and you say '{mine}'.",
        )
    return "Two numbers, three diagnoses. In lesson 10 there is no prior to compare with, and it gets harder."


def diagnosis(discriminator_loss, distance, floor):
    if distance < 3 * floor:  # as near as two samples of the prior, or nearly
        return "matched"
    tie = 2 * math.log(2)  # the loss of a discriminator that cannot tell
    return (
        "discriminator too weak"
        if discriminator_loss[-1] > 0.9 * tie
        else "discriminator too strong"
    )


def _by_discriminator(discriminator_loss, distance, floor):
    return "matched" if discriminator_loss[-1] > 0.9 * TIE else "discriminator too strong"


def _by_distance(discriminator_loss, distance, floor):
    return "matched" if distance < 3 * floor else "discriminator too strong"


def _by_first(discriminator_loss, distance, floor):
    return diagnosis(discriminator_loss[:1], distance, floor)


def _exchanged(discriminator_loss, distance, floor):
    word = diagnosis(discriminator_loss, distance, floor)
    return {WORDS[1]: WORDS[2], WORDS[2]: WORDS[1]}.get(word, word)


reading = Exercise(
    "Read a log: given a run's discriminator loss per epoch, the distance of its codes to the prior and the floor of that distance, name the case.",
    _check_diagnosis,
    [
        "The discriminator's loss at a tie is 2 ln 2 = 1.386. But there are two ways to a tie: good codes, or a bad discriminator.",
        "First ask the distance: is it about the floor? Then the codes match, whatever the curve looked like on the way.",
        "If it is not: does the discriminator know it? A final loss near 1.386 means that it does not.",
    ],
    diagnosis,
    alternatives=[
        lambda c, d, f: (
            "matched"
            if d <= 2 * f
            else "discriminator too strong"
            if sum(c[-2:]) / 2 < 1.2
            else "discriminator too weak"
        )
    ],
    wrong=[
        (_by_discriminator, "You trust the discriminator"),
        (_by_distance, "A large distance alone"),
        (_by_first, "by more than its end"),
        (_exchanged, "are exchanged"),
        (lambda c, d, f: diagnosis(c, d, 0.0020), "two samples of that size"),
        (lambda c, d, f: diagnosis(c, d, max(f, 0.003)), "values around 0.01"),
        (lambda c, d, f: diagnosis(c, d, 100 * f), "that is 'discriminator"),
        (lambda c, d, f: True, "Answer with one of"),
    ],
)


# -- 3: is the difference more than chance? --------------------------------------------------------------------------------------


def _check_p_value(attempt, case):
    one, two, n = case.size("n_a", 15, 40), case.size("n_b", 15, 40), case.whole(30, 60)
    both, seen = case.values(one + two, "d"), []

    def gap(u, v):
        return (u.mean(0) - v.mean(0)).norm()

    def signed(u, v):
        return float((u.mean(0) - v.mean(0))[0])

    for moved, statistic in ((2.0, gap), (0.2, gap), (-0.1, signed), (0.0, lambda u, v: 1.0)):
        a, b = both[:one] + moved * case.scale, both[one:]
        seen.clear()

        def watched(u, v, statistic=statistic):
            seen.append((u, v, statistic(u, v)))
            return seen[-1][2]

        p = as_number(attempt(watched, a.clone(), b.clone(), n), "one number, the p-value")
        require(
            all(isinstance(part, torch.Tensor) for u, v, _ in seen for part in (u, v)),
            "The statistic takes two tensors, the two samples.",
        )
        splits = [
            (u, v, value) for u, v, value in seen if not (torch.equal(u, a) and torch.equal(v, b))
        ]
        require(
            len(splits) == n,
            f"The statistic was computed for {len(splits)} splits besides yours; it takes one for each of n = {n} shuffles.",
        )
        require(
            all(u.shape == a.shape and v.shape == b.shape for u, v, _ in splits),
            f"Split into samples of the same sizes as before: {one} and {two} rows.",
        )
        rows = torch.stack([torch.cat([u, v])[:, 0] for u, v, _ in splits])
        require(
            bool((rows.sort(1)[0] == torch.cat([a, b])[:, 0].sort()[0]).all()),
            "A permutation uses each row once, as it is; yours do not. Do you draw with replacement?",
        )
        stayed = torch.isin(rows[:, :one], a[:, 0])
        require(
            not stayed.all(),
            "Your shuffles never mix the two samples: each keeps its own rows, in another order, and the statistic stays what "
            "it was. Put both together, shuffle, and split anew.",
        )
        require(
            not (rows == rows[0]).all(),
            "All your shuffles are one and the same split: draw a new order for each.",
        )
        share, fair = stayed.double().mean(), one / (one + two)
        require(
            abs(share - fair) < 3 / (one * n) ** 0.5,
            f"A random split leaves {100 * fair:.0f} % of the first sample's rows in it; yours {100 * share:.0f} %.",
        )
        right = statistic(a, b)
        hits, more = (
            sum(map(bool, v)) for v in zip(*((s >= right, s > right) for *_, s in splits))
        )
        require_close(
            p,
            (1 + hits) / (1 + n),
            [
                (
                    hits / n,
                    f"You count {hits} of {n}. The split you have is one of the possible ones, so that a p-value of 0 "
                    "cannot be: (1 + hits) / (1 + n).",
                ),
                (
                    (1 + more) / (1 + n),
                    "Shuffles that give the same statistic as yours count, too: `>=`.",
                ),
                (
                    (1 + n - hits) / (1 + n),
                    "You count the wrong side: count the shuffles that give a statistic at least as *large* as yours.",
                ),
            ],
            f"Of {n} shuffles {hits} give a statistic at least as large as yours: p = (1 + {hits}) / (1 + {n}) = "
            f"{(1 + hits) / (1 + n):.3g}; yours is {p:.3g}.",
        )
    return (
        "No formula, no table, any statistic: exchange the labels, and see what chance would give."
    )


def p_value(statistic, a, b, n):
    both, seen, hits = torch.cat([a, b]), statistic(a, b), 0
    for _ in range(n):
        mixed = both[torch.randperm(len(both))]
        hits += statistic(mixed[: len(a)], mixed[len(a) :]) >= seen
    return (1 + hits) / (1 + n)


def _p_by_list(statistic, a, b, n):
    both = torch.cat([a, b])
    values = [statistic(a, b)]
    for _ in range(n):
        order = torch.randperm(len(both))
        values.append(statistic(both[order[: len(a)]], both[order[len(a) :]]))
    return sum(v >= values[0] for v in values) / len(values)


def _shuffled(a, b, n, order=lambda k: torch.randperm(k), cut=None):
    both = torch.cat([a, b])
    for _ in range(n):
        mixed = both[order(len(both))]
        yield mixed[: cut or len(a)], mixed[cut or len(a) :]


def _counting(splits, at_least=lambda new, seen: new >= seen, more=1):
    """An answer that draws its splits by `splits(a, b, n)`."""

    def answer(statistic, a, b, n):
        seen = statistic(a, b)
        return (more + sum(at_least(statistic(*s), seen) for s in splits(a, b, n))) / (more + n)

    return answer


def _own_rows(a, b, n):
    for _ in range(n):
        yield a[torch.randperm(len(a))], b[torch.randperm(len(b))]


def _replaced(a, b, n):
    return _shuffled(a, b, n, lambda k: torch.randint(k, (k,)))


def _late(k):  # the first quarter of the rows stays where it is
    return torch.cat([torch.arange(k // 4), k // 4 + torch.randperm(k - k // 4)])


permutation = Exercise(
    "Write p_value(statistic, a, b, n): how often do n random splits of both samples together give a statistic at least as large as theirs?",
    _check_p_value,
    [
        "If both samples are of one distribution, it does not matter which row stood in which. So shuffle them, and see what the statistic does.",
        "`both = torch.cat([a, b])`, then `mixed = both[torch.randperm(len(both))]`, then the first `len(a)` rows against the rest.",
        "Count the splits with a statistic `>=` the one you saw. The split you saw is one of them: `(1 + hits) / (1 + n)`.",
    ],
    p_value,
    alternatives=[
        _p_by_list,
        lambda statistic, a, b, n: torch.as_tensor(p_value(statistic, a, b, n)),
    ],
    wrong=[
        (_counting(_shuffled, more=0), "a p-value of 0"),
        (_counting(_own_rows), "never mix the two samples"),
        (_counting(_shuffled, lambda new, seen: new <= seen), "the wrong side"),
        (_counting(_shuffled, lambda new, seen: new > seen), "count, too"),
        (_counting(_shuffled, lambda new, seen: abs(new) >= abs(seen)), "shuffles"),
        (_counting(_replaced), "with replacement"),
        (_counting(lambda a, b, n: _shuffled(a, b, n, cut=(len(a) + len(b)) // 2)), "same sizes"),
        (_counting(lambda a, b, n: _shuffled(a, b, 99)), "one for each of n"),
        (_counting(lambda a, b, n: [next(_shuffled(a, b, 1))] * n), "one and the same"),
        (_counting(lambda a, b, n: _shuffled(a, b, n, _late)), "A random split leaves"),
        (lambda statistic, a, b, n: statistic(a, b), "for 0 splits"),
        (lambda statistic, a, b, n: str(p_value(statistic, a, b, n)), "one number"),
    ],
)


# -- 4: a study of one's own -----------------------------------------------------------------------------------------------------


_study = check_of_study("ours", "baseline")


def _check_study(attempt):
    said = attempt() if callable(attempt) else attempt
    require(
        isinstance(said, dict) and {"claim", "ours", "baseline", "holds"} <= set(said),
        "Return a dict with the entries 'claim', 'ours', 'baseline', 'holds'.",
    )
    said = said | {
        name: said[name].tolist()  # arrays and tensors are as good as lists
        for name in ("ours", "baseline")
        if hasattr(said[name], "tolist")
    }
    seeds = len(said["ours"]) if isinstance(said["ours"], (list, tuple)) else 0
    require(
        seeds >= 3,
        "Give 'ours' as a list of one number per seed. Training against a discriminator is a game of chance: one or two seeds say "
        "nothing. Take three or more.",
    )
    praise = _study(said | {"settings": range(seeds)})
    ours, baseline = ([as_number(v) for v in said[name]] for name in ("ours", "baseline"))
    require(
        len(set(ours)) > 1, "All values of 'ours' are the same: does the seed reach the training?"
    )
    for i in range(seeds):
        others = [values[:i] + [values[i - 1]] + values[i + 1 :] for values in (ours, baseline)]
        require(
            as_truth(said["holds"](*others)),
            f"Your claim rests on seed number {i + 1} alone: with another seed's values in its place it is not true. That is luck until you "
            "have more seeds.",
        )
    return praise


def study():
    """A prior with thin tails against one with heavy ones: how far out does the farthest of 1,000 codes lie?"""
    ours, baseline = [], []
    for seed in range(5):
        torch.manual_seed(seed)
        ours.append((4 * torch.rand(1000, 2) - 2).norm(dim=1).max())  # a square
        baseline.append(torch.randn(1000, 2).norm(dim=1).max())  # a normal distribution
    return {
        "claim": "The farthest code of a square prior lies nearer than a normal one's",
        "ours": ours,
        "baseline": baseline,
        "holds": lambda ours, baseline: max(ours) < min(baseline),
    }


def _made(**changed):
    return {
        "claim": "two steps of the discriminator bring the codes nearer",
        "ours": [0.02, 0.03, 0.02],
        "baseline": [0.06, 0.07, 0.05],
        "holds": lambda ours, baseline: all(a < b for a, b in zip(ours, baseline)),
    } | changed


def _mean_gap(ours, baseline):
    return (sum(baseline) - sum(ours)) / len(ours)


own_study = Exercise(
    "Compare two ways of training over three seeds or more, and claim something about both that does not rest on one seed.",
    _check_study,
    [
        "Good questions: do two updates of the discriminator per batch help? A discriminator of 16 units? A sharper prior? Fewer images?",
        "Return a dict: 'claim' a sentence, 'ours' and 'baseline' one number per seed, and 'holds' a function of these two lists that is "
        "True when the claim is. That the two differ by less than a bound is a claim, too.",
        "For example the energy distance of `codes(train(ring, seed=s)[0], digits_x)` to 2,000 draws of `ring`, for s in 0, 1, 2, against the same "
        "with other rates: `train(ring, lrs=..., seed=s)`. "
        "`lambda ours, baseline: all(a < b for a, b in zip(ours, baseline))` says: ours is lower on every seed.",
    ],
    study,
    alternatives=[
        _made(),
        lambda: _made(
            ours=(3.0, 4, 5), baseline=(1, 2, 3.1), holds=lambda a, b: _mean_gap(a, b) < -1
        ),
        _made(ours=torch.tensor([0.02, 0.03, 0.02]), baseline=torch.tensor([0.06, 0.07, 0.05])),
        _made(
            claim="16 units do as well as 128, to a hundredth",
            baseline=[0.025, 0.028, 0.021],
            holds=lambda a, b: max(abs(x - y) for x, y in zip(a, b)) < 0.01,
        ),
    ],
    wrong=[
        (_made(ours=[0.02], baseline=[0.06]), "game of chance"),
        (_made(ours=[0.02, 0.09, 0.02]), "not true of what you found"),
        (_made(ours=[0.02, 0.02, 0.02]), "does the seed reach"),
        (_made(holds=lambda a, b: a[0] == 0.02), "exactly these numbers"),
        (_made(holds=lambda a, b: max(a) < 0.04), "depend on the second list"),
        (_made(holds=lambda a, b: True), "cannot fail"),
        (
            _made(
                ours=[0.01, 0.02, 0.03],
                baseline=[0.011, 0.021, 0.3],
                holds=lambda a, b: _mean_gap(a, b) > 0.05,
            ),
            "rests on seed number 3 alone",
        ),
        (_made(baseline=[0.1, 0.2]), "one number per setting"),
        (_made(ours=[float("nan"), 1, 2]), "NaN or infinity"),
        (lambda: 0.3, "a dict with the entries"),
    ],
)

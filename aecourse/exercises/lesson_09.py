"""Exercises of lesson 09, Can a discriminator replace the KL?"""

import math

from aecourse.exercises import Exercise, is_number, require

import torch

# -- 1: a prior of your own ------------------------------------------------------------------------------------------------------


def _check_disc(attempt):
    torch.manual_seed(0)
    n = 20_000
    z = attempt(n)
    require(
        isinstance(z, torch.Tensor) and z.shape == (n, 2),
        f"A prior gives n codes of two numbers, a tensor of shape ({n}, 2); "
        f"yours is {tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__}.",
    )
    z = z.detach().float()
    radius = z.norm(dim=1)
    corners = float((radius > 2.001).float().mean())
    require(
        corners < 0.15 or radius.max() > 3.2,
        "That is a square: its corners stick out of the disc. Draw an angle and a radius, "
        "or throw the corners away.",
    )
    require(
        corners == 0, f"{100 * corners:.0f} % of your codes lie outside of the disc of radius 2."
    )
    require(
        float((radius < 1).float().mean()) > 0.01,
        "The middle is empty: you drew the rim of the disc, not the disc.",
    )
    inner = float((radius < 1).float().mean())
    require(
        abs(inner - 0.5) > 0.02,
        "Too dense in the middle: half of your codes lie within radius 1, which is a quarter of the area. "
        "A ring's area grows with its radius, so draw the radius as 2 * sqrt(u).",
    )
    angle = torch.atan2(z[:, 1], z[:, 0])
    quarters = torch.histc(angle, 8, -math.pi, math.pi) / n
    require(
        quarters.max() < 0.15,
        "Some directions are missing: the angle has to run over the whole circle, from 0 to 2 pi.",
    )
    bands = torch.histc(radius.pow(2), 8, 0, 4) / n  # eight bands of equal area
    require(
        (bands - 1 / 8).abs().max() < 0.02,
        f"Not even: of eight bands of equal area the emptiest holds {100 * float(bands.min()):.0f} % "
        "of your codes, the fullest "
        f"{100 * float(bands.max()):.0f} %. Each should hold 12.5 %.",
    )
    return "You never wrote a density down, and need none: hand this function to `train` as a prior and look at the codes."


def disc(n):
    radius = 2 * torch.rand(n).sqrt()  # the area within r grows as r squared
    angle = 2 * math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _thrown_away(n):
    z = 4 * torch.rand(2 * n, 2) - 2  # a square, twice as many as needed
    return z[z.norm(dim=1) <= 2][:n]


def _even_radius(n):
    radius, angle = 2 * torch.rand(n), 2 * math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _rim(n):
    angle = 2 * math.pi * torch.rand(n)
    return 2 * torch.stack([angle.cos(), angle.sin()], 1) * 0.999


def _half(n):
    radius, angle = 2 * torch.rand(n).sqrt(), math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


own_prior = Exercise(
    "Write a prior: n codes of two numbers, spread evenly over a disc of radius 2.",
    _check_disc,
    [
        "An angle and a radius for each code; then `torch.stack([r * angle.cos(), r * angle.sin()], 1)`.",
        "The disc within radius 1 has a quarter of the area of the disc within radius 2: so it has to hold a quarter of the codes.",
        "`radius = 2 * torch.rand(n).sqrt()`. Or draw from a square, and throw away what lies outside of the disc.",
    ],
    disc,
    alternatives=[_thrown_away],
    wrong=[
        (_even_radius, "Too dense in the middle"),
        (lambda n: 4 * torch.rand(n, 2) - 2, "That is a square"),
        (_rim, "The middle is empty"),
        (_half, "Some directions are missing"),
        (lambda n: torch.randn(n, 2), "outside of the disc"),
        (lambda n: disc(n).T, "of shape"),
    ],
)


# -- 2: what a log says ----------------------------------------------------------------------------------------------------------

TIE = 2 * math.log(2)

# A run's discriminator loss, epoch by epoch; the energy distance of its codes to the prior;
# that of two samples of the prior; what is the case.
_RUNS = [
    ([1.30, 1.22, 1.31, 1.36, 1.38], 0.004, 0.004, "matched"),
    ([1.10, 0.95, 1.21, 1.33, 1.37], 0.010, 0.011, "matched"),
    ([1.39, 1.39, 1.39, 1.38, 1.39], 1.900, 0.004, "discriminator too weak"),
    ([1.45, 1.40, 1.39, 1.39, 1.38], 0.310, 0.011, "discriminator too weak"),
    ([0.80, 0.41, 0.20, 0.09, 0.04], 1.200, 0.004, "discriminator too strong"),
    ([1.21, 0.90, 0.75, 0.66, 0.52], 0.240, 0.011, "discriminator too strong"),
    ([0.08, 0.30, 0.90, 1.31, 1.38], 0.005, 0.004, "matched"),
]


def _check_diagnosis(attempt):
    said = [attempt(list(curve), distance, floor) for curve, distance, floor, _ in _RUNS]
    words = {"matched", "discriminator too weak", "discriminator too strong"}
    require(
        set(said) <= words,
        f"Answer with one of {', '.join(map(repr, sorted(words)))}; one of yours is "
        f"{next((s for s in said if s not in words), None)!r}.",
    )
    truth = [word for *_, word in _RUNS]
    require(
        not all(s == "matched" for s, t in zip(said, truth) if t == "discriminator too weak"),
        "You trust the discriminator: a loss of 2 ln 2 says that *this* discriminator cannot tell codes from prior. One that never learned anything "
        "cannot either. The distance knows which of the two it is.",
    )
    require(
        not all(
            s == "discriminator too strong"
            for s, t in zip(said, truth)
            if t == "discriminator too weak"
        ),
        "A large distance alone does not mean that the discriminator is too strong: where its loss stays at 2 ln 2, it sees nothing, and the encoder "
        "is told nothing. Look at both numbers.",
    )
    require(
        said[-1] == "matched" or said[0] != "matched",
        "You judged the last run by its first epochs. What counts is where it ended.",
    )
    require(
        said[1] == "matched" or said[0] != "matched",
        "Two samples of the prior itself are not at distance 0: compare with `floor`, what "
        "two samples of that size give, not with a number of your own.",
    )
    for (curve, distance, floor, right), mine in zip(_RUNS, said):
        require(
            mine == right,
            f"Discriminator's loss {curve[0]} to {curve[-1]}, distance {distance}, floor {floor}: that is '{right}', "
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


def _by_start(discriminator_loss, distance, floor):
    if discriminator_loss[0] < 0.5:
        return "discriminator too strong"
    return diagnosis(discriminator_loss, distance, floor)


def _by_zero(discriminator_loss, distance, floor):
    return diagnosis(discriminator_loss, distance, 0.0020)


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
        (_by_start, "by its first epochs"),
        (_by_zero, "two samples of that size"),
        (lambda c, d, f: True, "Answer with one of"),
    ],
)


# -- 3: is the difference more than chance? --------------------------------------------------------------------------------------


def _mean_gap(a, b):
    return float((a.mean(0) - b.mean(0)).norm())


def _check_p_value(attempt):
    g = torch.Generator().manual_seed(0)
    a, far = torch.randn(60, 3, generator=g), torch.randn(60, 3, generator=g) + 2
    seen = []

    def watched(u, v):
        seen.append((u, v))
        return _mean_gap(u, v)

    torch.manual_seed(0)
    p = attempt(watched, a, far, 99)
    require(
        is_number(p) and math.isfinite(float(p)),
        "Return one number, the p-value.",
    )
    require(
        len(seen) > 50,
        f"The statistic was computed {len(seen)} times; it takes one for the split you have and one for each of n = 99 "
        "shuffled ones.",
    )
    sums = {round(float(u.sum()), 3) for u, _ in seen}
    require(
        len(sums) > 20,
        "Your shuffles never mix the two samples: each keeps its own rows, in another order, and the statistic stays what "
        "it was. Put both together, shuffle, and split anew.",
    )
    shuffled = [(u, v) for u, v in seen[1:]] or seen
    require(
        all(len(u) == 60 and len(v) == 60 for u, v in shuffled),
        "Split into samples of the same sizes as before.",
    )
    rows = torch.cat(shuffled[-1])
    require(
        len(rows.unique(dim=0)) == 120,
        "You draw with replacement: some rows stand twice. A permutation uses each row once.",
    )
    require(
        float(p) > 0,
        "A p-value of 0 says impossible, after 99 tries. The split you have is one of the possible ones: count it, "
        "(1 + hits) / (1 + n).",
    )
    require(
        float(p) < 0.5,
        "Far apart, and your p-value is near 1: count the shuffles that give a statistic at least as *large* as yours.",
    )
    require(
        abs(float(p) - 0.01) < 1e-4,
        f"These samples are so far apart that no shuffle comes near: p = 1 / (1 + 99) = 0.01; yours is "
        f"{float(p):.3g}.",
    )
    torch.manual_seed(1)
    null = [
        float(attempt(_mean_gap, torch.randn(20, 3), torch.randn(20, 3), 39)) for _ in range(200)
    ]
    low = sum(v <= 0.1 for v in null) / len(null)
    require(
        low < 0.2,
        f"For two samples of one distribution, p <= 0.1 should come up in a tenth of the cases; yours does in {100 * low:.0f} %.",
    )
    require(
        sum(null) / len(null) < 0.65,
        "For two samples of one distribution your p-values are too large: they should be uniform from 0 to 1.",
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


def _never_zero(statistic, a, b, n):
    return p_value(statistic, a, b, n) * (1 + n) / n - 1 / n


def _own_rows(statistic, a, b, n):
    seen = statistic(a, b)
    return (
        1
        + sum(
            statistic(a[torch.randperm(len(a))], b[torch.randperm(len(b))]) >= seen
            for _ in range(n)
        )
    ) / (1 + n)


def _small_side(statistic, a, b, n):
    return 1 - p_value(statistic, a, b, n) + 1 / (1 + n)


def _replaced(statistic, a, b, n):
    both, seen, hits = torch.cat([a, b]), statistic(a, b), 0
    for _ in range(n):
        mixed = both[torch.randint(len(both), (len(both),))]
        hits += statistic(mixed[: len(a)], mixed[len(a) :]) >= seen
    return (1 + hits) / (1 + n)


permutation = Exercise(
    "Write p_value(statistic, a, b, n): how often do n random splits of both samples together give a statistic at least as large as theirs?",
    _check_p_value,
    [
        "If both samples are of one distribution, it does not matter which row stood in which. So shuffle them, and see what the statistic does.",
        "`both = torch.cat([a, b])`, then `mixed = both[torch.randperm(len(both))]`, then the first `len(a)` rows against the rest.",
        "Count the splits with a statistic `>=` the one you saw. The split you saw is one of them: `(1 + hits) / (1 + n)`.",
    ],
    p_value,
    alternatives=[_p_by_list],
    wrong=[
        (_never_zero, "A p-value of 0"),
        (_own_rows, "never mix the two samples"),
        (_small_side, "near 1"),
        (_replaced, "with replacement"),
        (lambda statistic, a, b, n: statistic(a, b), "computed 1 times"),
    ],
)


# -- 4: a study of one's own -----------------------------------------------------------------------------------------------------


def _check_study(attempt):
    said = attempt() if callable(attempt) else attempt
    wanted = {"claim", "ours", "rival", "better"}
    require(
        isinstance(said, dict) and wanted <= set(said),
        f"Return a dict with the entries {', '.join(map(repr, sorted(wanted)))}.",
    )
    require(
        isinstance(said["claim"], str) and len(said["claim"].split()) >= 4,
        "Say in a sentence what was measured, and against what.",
    )
    require(said["better"] in ("low", "high"), "'better' is 'low' or 'high': which way is good?")
    ours, rival = ([float(v) for v in said[name]] for name in ("ours", "rival"))
    require(
        len(ours) == len(rival),
        f"One value per seed for each of the two: {len(ours)} and {len(rival)} were given.",
    )
    require(
        len(ours) >= 3,
        "Training against a discriminator is a game of chance: one or two seeds say nothing. Take three or more.",
    )
    require(all(map(math.isfinite, ours + rival)), "Every value has to be a finite number.")
    require(
        len(set(ours)) > 1, "All values of 'ours' are the same: does the seed reach the training?"
    )
    sign = 1 if said["better"] == "high" else -1
    gaps = [sign * (a - b) for a, b in zip(ours, rival)]
    wins = sum(gap > 0 for gap in gaps)
    require(
        wins == len(gaps),
        f"It wins on {wins} of {len(gaps)} seeds. Claim less, or find out what the losing seed has.",
    )
    mean = sum(gaps) / len(gaps)
    scatter = (sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1)) ** 0.5
    require(
        mean > scatter,
        f"The gap is {mean:.3g} on average and scatters by {scatter:.3g} from seed to seed: that is luck until you "
        "have more seeds.",
    )
    return f"{len(gaps)} seeds, a gap of {mean:.3g} with a scatter of {scatter:.3g}. Does it hold on the other source of data?"


def study():
    """A prior with thin tails against one with heavy ones: how far out does the farthest of 1,000 codes lie?"""
    ours, rival = [], []
    for seed in range(5):
        torch.manual_seed(seed)
        ours.append((4 * torch.rand(1000, 2) - 2).norm(dim=1).max())  # a square
        rival.append(torch.randn(1000, 2).norm(dim=1).max())  # a normal distribution
    return {
        "claim": "The farthest code of a square prior lies nearer than a normal one's",
        "ours": ours,
        "rival": rival,
        "better": "low",
    }


def _made(**changed):
    return {
        "claim": "two steps of the discriminator bring the codes nearer",
        "ours": [0.02, 0.03, 0.02],
        "rival": [0.06, 0.07, 0.05],
        "better": "low",
    } | changed


own_study = Exercise(
    "Compare two ways of training over three seeds or more, and claim which is better, by a gap that is larger than its scatter.",
    _check_study,
    [
        "Good questions: do two updates of the discriminator per batch help? A discriminator of 16 units? A sharper prior? Fewer images?",
        "Return a dict: 'claim' a sentence, 'ours' and 'rival' one number per seed, and 'better', which is 'low' or 'high'.",
        "For example `train(ring, seed=s)` for s in 0, 1, 2 against the same with another discriminator, and the energy distance of each.",
    ],
    study,
    alternatives=[_made(), lambda: _made(ours=[3.0, 4, 5], rival=[1, 2, 3.1], better="high")],
    wrong=[
        (_made(ours=[0.02], rival=[0.06]), "game of chance"),
        (_made(ours=[0.02, 0.09, 0.02]), "wins on 2 of 3"),
        (_made(ours=[0.02, 0.02, 0.02]), "does the seed reach"),
        (_made(better="yes"), "which way is good"),
        (_made(ours=[0.01, 0.02, 0.03], rival=[0.011, 0.021, 0.3]), "that is luck"),
        (_made(rival=[0.1, 0.2]), "One value per seed"),
        (_made(ours=[float("nan"), 1, 2]), "finite number"),
        (lambda: 0.3, "a dict with the entries"),
    ],
)

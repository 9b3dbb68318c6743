"""Exercises of lesson 06, How many bytes does a picture need?"""

import math

from aecourse.exercises import Exercise, check_of_study, is_number, require

import torch

# -- 1: what an ideal coder needs ------------------------------------------------------------------


def _codes():
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(400, 5, generator=g) * torch.tensor([0.1, 0.5, 1.0, 2.0, 6.0])
        + torch.tensor([0.0, 3, 0, -2, 0])
    ).round()


def _entropies(q):
    shares = [torch.unique(column, return_counts=True)[1].double() / len(column) for column in q.T]
    return [float(-(share * share.log2()).sum()) for share in shares]


def _check_bytes(attempt):
    q = _codes()
    got, bits = float(attempt(q)), sum(_entropies(q))

    def same(value):
        return math.isclose(got, value, rel_tol=1e-3)

    pooled = _entropies(q.reshape(-1, 1))[0]
    require(not same(bits), "These are bits. A byte is 8 of them.")
    require(
        not same(-bits / 8),
        "The sign is wrong: the logarithm of a share is negative, the bits are minus that.",
    )
    require(
        not (same(bits * math.log(2) / 8) or same(bits * math.log(2))),
        "You took the natural logarithm, which counts nats. Bits want the logarithm to base 2.",
    )
    require(
        not (same(pooled * 5 / 8) or same(pooled / 8) or same(pooled)),
        "You counted the values of all numbers together. Each number of the code has frequencies "
        "of its own: go "
        "column by column. Together they look less predictable than they are.",
    )
    require(
        not same(bits / 8 / 5),
        "This is the mean over the numbers of the code. A picture needs all of them: sum.",
    )
    require(not same(bits / 8 * 400), "This is the whole file. Per picture was asked for.")
    fixed = sum(math.log2(len(torch.unique(column))) for column in q.T)
    require(
        not (same(fixed / 8) or same(fixed)),
        "This gives all values the same number of bits, as if they were "
        "equally frequent. The coder saves just because they are not: weigh by their shares.",
    )
    require(
        same(bits / 8),
        f"For a small table this gives {got:.4g} where {bits / 8:.4g} bytes are needed: the sum "
        "over "
        "the columns of -sum(p log2 p), over 8.",
    )
    one = float(attempt(torch.ones(50, 3)))
    require(
        math.isclose(one, 0, abs_tol=1e-6), "Numbers that are always the same need no bytes at all."
    )
    return (
        "No coder that treats each number of the code by itself can do better, on average. LZMA "
        "came within a third."
    )


def bytes_needed(q):
    bits = 0.0
    for column in q.T:  # one number of the code, over all pictures
        share = torch.unique(column, return_counts=True)[1] / len(column)
        bits -= (share * share.log2()).sum().item()
    return bits / 8


def _bytes_by_histogram(q):
    total = 0.0
    for column in (q - q.min()).long().T:
        p = torch.bincount(column).double() / len(column)
        total += torch.special.entr(p).sum().item() / math.log(2)
    return total / 8


def _pooled(q):
    share = torch.unique(q, return_counts=True)[1] / q.numel()
    return -(share * share.log2()).sum().item() * q.shape[1] / 8


ideal = Exercise(
    "Given rounded codes q (n, k), return how many bytes per picture an ideal coder needs that "
    "knows how frequent each "
    "value of each number is.",
    _check_bytes,
    [
        "A value of probability p costs -log2 p bits. On average over the values, weigh each by "
        "its p.",
        "`torch.unique(column, return_counts=True)[1]` counts how often each value of a column "
        "occurs.",
        "Sum over the columns of q, and divide by 8.",
    ],
    bytes_needed,
    alternatives=[_bytes_by_histogram],
    wrong=[
        (lambda q: 8 * bytes_needed(q), "These are bits"),
        (lambda q: math.log(2) * bytes_needed(q), "natural logarithm"),
        (_pooled, "column by column"),
        (lambda q: bytes_needed(q) / q.shape[1], "mean over the numbers"),
        (lambda q: bytes_needed(q) * len(q), "whole file"),
        (
            lambda q: sum(math.log2(len(torch.unique(column))) for column in q.T) / 8,
            "equally frequent",
        ),
        (lambda q: -bytes_needed(q), "sign is wrong"),
    ],
)


# -- 2: straight through ---------------------------------------------------------------------------


def _check_round(attempt):
    z = torch.tensor([-1.7, -0.2, 0.4, 0.6, 3.2], requires_grad=True)
    rounded = attempt(z)
    require(
        isinstance(rounded, torch.Tensor) and rounded.shape == z.shape,
        "Return a tensor of the shape of z.",
    )
    require(
        not torch.equal(rounded, z),
        "Nothing is rounded: forward, the values have to be whole numbers.",
    )
    require(
        torch.equal(attempt(z), rounded),
        "Two calls give two results. That is the other way, noise; here the values are rounded.",
    )
    require(
        not torch.allclose(rounded, z.floor()), "You cut off instead of rounding: 0.6 belongs to 1."
    )
    require(torch.allclose(rounded, z.round()), f"{z.tolist()} should become {z.round().tolist()}.")
    require(
        rounded.requires_grad,
        "No gradient flows at all: the result is detached from z. Detach only the part that is "
        "to have none.",
    )
    (gradient,) = torch.autograd.grad((rounded * torch.tensor([1.0, 2, 3, 4, 5])).sum(), z)
    require(
        gradient.abs().max() > 0,
        "Forward is right, but the gradient is zero: rounding is flat almost everywhere. The "
        "encoder would learn nothing.",
    )
    require(
        torch.allclose(gradient, torch.tensor([1.0, 2, 3, 4, 5])),
        "The gradient has to pass as if nothing had happened: "
        f"asked for 1, 2, 3, 4, 5 it came back as {[round(g, 2) for g in gradient.tolist()]}.",
    )
    return (
        "It says: round, and pretend that you did not. The gradient is wrong, and good enough to "
        "train with."
    )


def round_straight_through(z):
    return z + (z.round() - z).detach()  # forward: z.round(); backward: the gradient of z alone


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


straight_through = Exercise(
    "Write a rounding that a gradient passes: forward it gives z.round(), backward it acts as if "
    "it had not been there.",
    _check_round,
    [
        "Write the result as z plus something. What is the something?",
        "z.round() is z + (z.round() - z). Backward, the bracket should count as a constant.",
        "`.detach()` turns a tensor into a constant for the gradient.",
    ],
    round_straight_through,
    alternatives=[_Through.apply, lambda z: z - (z - z.round()).detach()],
    wrong=[
        (lambda z: z.round(), "gradient is zero"),
        (lambda z: z.round().detach(), "detached from z"),
        (lambda z: z.detach().round() + z, "should become"),
        (lambda z: z + torch.rand_like(z) - 0.5, "Two calls"),
        (lambda z: z + (z.floor() - z).detach(), "cut off"),
        (lambda z: z + 0.0 * z.round(), "Nothing is rounded"),
        (lambda z: 2 * z + (z.round() - 2 * z).detach(), "as if nothing had happened"),
    ],
)


# -- 3: three broken files -------------------------------------------------------------------------

FAULTS = ("cut off", "overflow", "order", "step")


def broken(name):
    """A codec with a bug: the step, codes before writing and after reading; (200, 8) both."""
    g = torch.Generator().manual_seed({"A": 1, "B": 2, "C": 3}[name])
    z = torch.randn(200, 8, generator=g) * torch.tensor([1.0, 2, 4, 6, 8, 10, 12, 16])
    step = {"A": 0.5, "B": 0.25, "C": 1.0}[name]
    q = (z / step).round()
    if name == "A":  # towards zero, as a cast to whole numbers does
        back = (z / step).to(torch.int8).float()
    elif name == "B":  # 130 in one signed byte is -126
        back = (q + 128) % 256 - 128
    else:  # written number by number, read picture by picture
        back = q.T.reshape(200, 8)
    return step, z, back * step


_SYMPTOMS = {
    "A overflow": (
        "With an overflow a few codes would be off by 256 steps. Look at the largest error of "
        "A: it is below one step."
    ),
    "A order": (
        "With the order wrong, codes would land on other pictures. In A every code is near its own."
    ),
    "A step": (
        "With another step all codes would be too large or too small by one factor, and the "
        "error would grow with them. In A it does not."
    ),
    "B cut off": (
        "Codes that are cut off are wrong by up to a step, all of them. In B most are rounded "
        "correctly, and a few are off by 64, which is 256 steps."
    ),
    "B order": "With the order wrong, nearly no code would be right. In B most of them are.",
    "B step": "With another step all codes would be wrong by one factor. In B most of them are right.",
    "C cut off": (
        "Codes that are cut off are wrong by less than a step. In C the errors are as large as "
        "the codes."
    ),
    "C overflow": (
        "An overflow spoils a few codes by 256 steps. In C nearly all are wrong, and none by "
        "that much."
    ),
    "C step": (
        "With another step, z_back would be in proportion to z. In C the two have next to "
        "nothing to do with each other, yet sorted they are the same values."
    ),
}


def _check_diagnosis(attempt):
    said = attempt() if callable(attempt) else attempt
    require(
        isinstance(said, dict) and set(said) == set("ABC"),
        "Give a dict with one word for each of 'A', 'B' and 'C'.",
    )
    for name, word in said.items():
        require(word in FAULTS, f"{name}: {word!r} is none of the four: {', '.join(FAULTS)}.")
    for name, right in zip("ABC", ("cut off", "overflow", "order")):
        if said[name] != right:
            require(False, _SYMPTOMS[f"{name} {said[name]}"])
    return (
        "All three wrote a file without complaint, and two of them would have passed for a bad "
        "training. Decode "
        "what you wrote and compare, always."
    )


def diagnose():
    found = {}
    for name in "ABC":
        step, z, back = broken(name)
        error = (back - z).abs() / step  # in steps: 1/2 is the most that rounding can do
        if (error > 200).any():
            found[name] = "overflow"  # a few, by 256 steps
        elif torch.corrcoef(torch.stack([z.flatten(), back.flatten()]))[0, 1] < 0.5:
            found[name] = "order"  # the values are there, at other places
        else:
            found[name] = "cut off" if error.max() <= 1 else "step"
    return found


diagnosis = Exercise(
    "Three codecs write their files without complaint and decode bad pictures. Find out what is "
    "wrong with each: 'cut off' "
    "(instead of rounded), 'overflow', 'order' or 'step'.",
    _check_diagnosis,
    [
        "`step, z, z_back = ex.broken('A')`. Rounding moves a code by half a step at most: look at "
        "(z_back - z) / step.",
        "How many codes are wrong, and by how much? Plot z_back against z, one point for each "
        "code.",
        "A signed byte holds -128 to 127. What becomes of 130?",
    ],
    diagnose,
    alternatives=[{"A": "cut off", "B": "overflow", "C": "order"}],
    wrong=[
        ({"A": "step", "B": "overflow", "C": "order"}, "grow with them"),
        ({"A": "overflow", "B": "cut off", "C": "order"}, "below one step"),
        ({"A": "cut off", "B": "step", "C": "order"}, "In B most of them are right"),
        ({"A": "cut off", "B": "cut off", "C": "order"}, "256 steps"),
        ({"A": "cut off", "B": "overflow", "C": "overflow"}, "nearly all are wrong"),
        ({"A": "cut off", "B": "overflow", "C": "step"}, "sorted they are the same"),
        ({"A": "floor", "B": "overflow", "C": "order"}, "none of the four"),
        ({"A": "cut off"}, "one word for each"),
    ],
)


# -- 4: the decoder's bill -------------------------------------------------------------------------


def _check_break_even(attempt):
    def pays(n, decoder, ours, theirs):
        return decoder + n * ours <= n * theirs + 1e-6

    for decoder, ours, theirs in (
        (1000.0, 20.0, 30.0),
        (120_000.0, 15.0, 62.0),
        (10.0, 1.0, 100.0),
    ):
        n = attempt(decoder, ours, theirs)
        require(
            not abs(n - decoder / theirs) < 1.01 or pays(round(n), decoder, ours, theirs),
            "You divided by their bytes. Our own files cost something too: what counts is what one "
            "picture saves.",
        )
        require(
            not abs(n - decoder / ours) < 1.01,
            "You divided by our bytes. What counts is what one picture saves.",
        )
        require(float(n) == int(n), f"{n} pictures? Give a whole number: round up.")
        require(
            pays(n, decoder, ours, theirs),
            f"With a decoder of {decoder:,.0f} bytes, files of {ours:.0f} against "
            f"{theirs:.0f} bytes: {n} pictures are too few, {decoder + n * ours:,.0f} bytes "
            f"against {n * theirs:,.0f}.",
        )
        require(
            not pays(n - 2, decoder, ours, theirs),
            f"It pays earlier than at {n} pictures: at {int(n) - 2} already.",
        )
    for ours in (30.0, 31.0):
        try:
            never = attempt(1000.0, ours, 30.0)
        except ZeroDivisionError:
            require(
                False, "What if both files are equally large? Then it never pays: return math.inf."
            )
        require(
            not (is_number(never) and never < 0),
            "A negative number of pictures: where our files are the larger ones it never pays. "
            "Return math.inf.",
        )
        require(
            never == math.inf, "Where our files are not smaller it never pays: return math.inf."
        )
    return "A format that everybody has costs nothing to send. That is JPEG's strongest argument."


def break_even(decoder, ours, theirs):
    if ours >= theirs:
        return math.inf  # each picture costs more: it never pays
    return math.ceil(decoder / (theirs - ours))


def _count_up(decoder, ours, theirs):
    if theirs - ours <= 0:
        return float("inf")
    n = 1
    while decoder + n * ours > n * theirs:
        n += 1
    return n


bill = Exercise(
    "The receiver has no decoder: it has to be sent first. Given its bytes, and the bytes per "
    "picture of our files and "
    "theirs, return the number of pictures from which on our way is the smaller one (math.inf: "
    "never).",
    _check_break_even,
    [
        "We send decoder + n * ours, they send n * theirs. When are the two equal?",
        "Each picture saves theirs - ours. How many savings make a decoder?",
        "Round up with math.ceil, and return math.inf where nothing is saved.",
    ],
    break_even,
    alternatives=[_count_up],
    wrong=[
        (lambda decoder, ours, theirs: math.ceil(decoder / theirs), "divided by their bytes"),
        (lambda decoder, ours, theirs: math.ceil(decoder / ours), "divided by our bytes"),
        (lambda decoder, ours, theirs: decoder / (theirs - ours) + 0.01, "whole number"),
        (lambda decoder, ours, theirs: math.ceil(decoder / (theirs - ours)), "equally large"),
        (
            lambda decoder, ours, theirs: (
                math.ceil(decoder / ((theirs - ours) or 1e-12)) if ours != theirs else math.inf
            ),
            "negative number",
        ),
        (
            lambda decoder, ours, theirs: (
                2 * break_even(decoder, ours, theirs) if ours < theirs else math.inf
            ),
            "pays earlier",
        ),
    ],
)


# -- 5: a study of one's own -----------------------------------------------------------------------


def study():
    import lzma
    from io import BytesIO

    from aecourse import data

    from PIL import Image
    from sklearn.decomposition import PCA

    x, _ = data.digits("train", "strokes")
    codes = (
        PCA(30, random_state=0)
        .fit(x[:2000].flatten(1).numpy())
        .transform(x[2000:3000].flatten(1).numpy())
        .round()
    )
    settings, ours, baseline = [10, 100, 1000], [], []
    for n in settings:  # pictures in one file: who pays more for starting it?
        ours.append(len(lzma.compress(codes[:n].T.astype("int8").tobytes())) / n)
        file, tall = BytesIO(), x[2000 : 2000 + n].flatten(0, 2).numpy()
        Image.fromarray((255 * tall).astype("uint8")).save(file, "JPEG", quality=5, optimize=True)
        baseline.append(len(file.getvalue()) / n)
    return {
        "claim": "JPEG's bytes per picture fall more than ours as a file holds more pictures",
        "settings": settings,
        "ours": ours,
        "baseline": baseline,
        "holds": lambda ours, baseline: baseline[0] - baseline[-1] > ours[0] - ours[-1] > 0,
    }


def _made(**changes):
    made = {
        "claim": "the autoencoder leads at few bytes and trails at many",
        "settings": [20, 50, 100, 200],
        "ours": [22.9, 24.5, 25.0, 25.1],
        "baseline": [16.0, 21.2, 25.4, 32.6],
        "holds": lambda ours, baseline: ours[0] > baseline[0] and ours[-1] < baseline[-1],
    }
    return made | changes


own_study = Exercise(
    "Vary one thing in at least three steps (weight of a bit, pictures in a file, training "
    "pictures, size of the network, "
    "kind of picture), measure your codec and a baseline at each, and claim something that could "
    "have turned out false.",
    check_of_study("ours", "baseline"),
    [
        "Good questions: does a decoder trained on shifted digits cost bytes? Does a spatial code "
        "(the 7 × 7 map itself) "
        "help? How few training pictures will do before PCA is better?",
        "Return a dict: 'claim' a sentence, 'settings' a list, 'ours' and 'baseline' one number "
        "per setting (PSNR at equal bytes, "
        "or bytes at equal PSNR), and 'holds' a function of these two lists that is True when the "
        "claim is.",
        "`lambda ours, baseline: ours[0] > baseline[0] and ours[-1] < baseline[-1]` says: we win "
        "first and lose last.",
    ],
    study,
    alternatives=[
        _made(),
        _made(
            claim="the baseline gains more from each further byte",
            holds=lambda o, r: r[-1] - r[0] > o[-1] - o[0],
        ),
    ],
    wrong=[
        (_made(holds=lambda ours, baseline: True), "cannot fail"),
        (_made(settings=[20, 200], ours=[22.9, 25.1], baseline=[16.0, 32.6]), "at least three"),
        (_made(holds=lambda ours, baseline: ours[0] < baseline[0]), "not true of what you found"),
        (_made(baseline=[16.0]), "one number per setting"),
        (_made(ours=[float("inf")] * 4), "finite"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "we win"}, "a dict with the entries"),
    ],
)

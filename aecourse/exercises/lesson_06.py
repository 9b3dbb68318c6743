"""Exercises of lesson 06, How many bytes does a picture need?"""

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

import torch

# -- 1: what an ideal coder needs ------------------------------------------------------------------


def _entropies(q):
    shares = [torch.unique(column, return_counts=True)[1].double() / len(column) for column in q.T]
    return [float(-(share * share.log2()).sum()) for share in shares]


def _check_bytes(attempt, case):
    n, k = case.size("n", 30, 90), case.size("k", 3)
    wide, middle = (1 + case.scale) * case.pixels("k"), (1 + case.scale) * case.normal("k")
    q = (middle + wide * case.normal(n, "k")).round()
    bits, pooled = sum(_entropies(q)), _entropies(q.reshape(-1, 1))[0]
    fixed = sum(math.log2(len(torch.unique(column))) for column in q.T)
    apart = (
        "You counted the values of all numbers together. Each number of the code has frequencies "
        "of its own: go column by column. Together they look less predictable than they are."
    )
    nats = "You took the natural logarithm, which counts nats. Bits want the logarithm to base 2."
    alike = (
        "This gives all values the same number of bits, as if they were equally frequent. The "
        "coder saves just because they are not: weigh by their shares."
    )
    got = as_number(attempt(q.clone()), "one number, of bytes")
    require_close(
        got,
        bits / 8,
        [
            (bits, "These are bits. A byte is 8 of them."),
            (
                -bits / 8,
                "The sign is wrong: the logarithm of a share is negative, the bits are minus that.",
            ),
            (bits * math.log(2) / 8, nats),
            (bits * math.log(2), nats),
            (pooled * k / 8, apart),
            (pooled / 8, apart),
            (pooled, apart),
            (
                bits / 8 / k,
                "This is the mean over the numbers of the code. A picture needs all of them: sum.",
            ),
            (bits / 8 * n, "This is the whole file. Per picture was asked for."),
            (fixed / 8, alike),
            (fixed, alike),
        ],
        f"For a small table this gives {got:.4g} where {bits / 8:.4g} bytes are needed: the sum "
        "over the columns of -sum(p log2 p), over 8.",
    )
    none = as_number(attempt(torch.ones_like(q)), "one number, of bytes")
    require(abs(none) < 1e-6, "Numbers that are always the same need no bytes at all.")
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
    alternatives=[
        _bytes_by_histogram,
        lambda q: torch.tensor(_entropies(q)).sum() / 8,
        lambda q: torch.tensor([_entropies(q)]).sum(1, keepdim=True) / 8,
    ],
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
        (lambda q: bytes_needed(q) * 60 / len(q), "where"),
        (lambda q: bytes_needed(q.clamp(-6, 6)), "values around 100"),
        (lambda q: bytes_needed(q) + 1 / len(q), "where"),
        (lambda q: str(bytes_needed(q)), "one number"),
    ],
)


# -- 2: straight through ---------------------------------------------------------------------------


def _check_round(attempt, case):
    z = case.values("B", "latent").requires_grad_()
    rounded, again = attempt(z), attempt(z)
    require(isinstance(rounded, torch.Tensor), "Return a tensor of the shape of z.")
    found = as_tensor(rounded, z.shape)
    require(
        close(again, found),
        "Two calls give two results. That is the other way, noise; here the values are rounded.",
    )
    cut = "You cut off instead of rounding: 0.6 belongs to 1, and -0.6 to -1."
    require_close(
        found,
        z.round(),
        [
            (z, "Nothing is rounded: forward, the values have to be whole numbers."),
            (z.floor(), cut),
            (z.trunc(), cut),
        ],
        f"{z[0].tolist()} should become {z[0].round().tolist()}.",
    )
    require(
        rounded.requires_grad,
        "No gradient flows at all: the result is detached from z. Detach only the part that is "
        "to have none.",
    )
    wanted = case.normal("B", "latent")
    (gradient,) = torch.autograd.grad((rounded * wanted).sum(), z, allow_unused=True)
    require(
        gradient is not None and bool(gradient.any()),
        "Forward is right, but the gradient is zero: rounding is flat almost everywhere. The "
        "encoder would learn nothing.",
    )
    require(
        close(gradient, wanted),
        "The gradient has to pass as if nothing had happened: asked for "
        f"{[round(g, 2) for g in wanted[0].tolist()]} it came back as "
        f"{[round(g, 2) for g in gradient[0].tolist()]}.",
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
    alternatives=[
        _Through.apply,
        lambda z: z - (z - z.round()).detach(),
        lambda z: z.round().detach() + z - z.detach(),
    ],
    wrong=[
        (lambda z: z.round(), "gradient is zero"),
        (lambda z: z.round().detach(), "detached from z"),
        (lambda z: z.detach().round() + z, "should become"),
        (lambda z: z + torch.rand_like(z) - 0.5, "Two calls"),
        (lambda z: z + (z.floor() - z).detach(), "cut off"),
        (lambda z: z + (z.trunc() - z).detach(), "cut off"),
        (lambda z: z + (z.int() - z).detach(), "cut off"),
        (lambda z: z + (z.clamp(-9, 9).round() - z).detach(), "values around 100"),
        (lambda z: round_straight_through(z).tolist(), "a tensor of the shape"),
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
        require(
            isinstance(word, str) and word in FAULTS,
            f"{name}: {word!r} is none of the four: {', '.join(FAULTS)}.",
        )
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


def _check_break_even(attempt, case):
    for _ in range(4):
        decoder, ours = (case.scale * case.whole(*ends) for ends in ((500, 200_000), (5, 60)))
        saved = case.scale * case.whole(2, 400) / 8
        theirs = ours + saved
        n = as_number(attempt(decoder, ours, theirs), "one number, of pictures")
        least = decoder / saved  # at this number the two are equal
        tie = abs(least - round(least)) < 1e-6  # there "from which on" can be read in two ways
        if n in ((round(least), round(least) + 1) if tie else (math.ceil(least),)):
            continue
        for divided, whose in ((decoder / theirs, "their"), (decoder / ours, "our")):
            require(
                abs(n - divided) > 1.01,
                f"You divided by {whose} bytes. What counts is what one picture saves: our own "
                "files cost something too.",
            )
        require(
            n != math.inf, f"It does pay: each picture saves {saved:.4g} of {theirs:.4g} bytes."
        )
        require(n.is_integer(), f"{n} pictures? Give a whole number: round up.")
        require(
            n >= least,
            f"With a decoder of {decoder:,.6g} bytes, files of {ours:.6g} against {theirs:.6g} "
            f"bytes: {n:.0f} pictures are too few, {decoder + n * ours:,.6g} bytes against "
            f"{n * theirs:,.6g}.",
        )
        require(False, f"It pays earlier than at {n:.0f} pictures: at {n - 1:.0f} already.")
    for more in (0, case.whole(1, 9)):
        try:
            n = attempt(decoder, theirs + case.scale * more, theirs)
        except ZeroDivisionError:
            require(
                False, "What if both files are equally large? Then it never pays: return math.inf."
            )
        n = as_number(n, "one number, of pictures")
        require(
            n >= 0,
            "A negative number of pictures: where our files are the larger ones it never pays. "
            "Return math.inf.",
        )
        require(n == math.inf, "Where our files are not smaller it never pays: return math.inf.")
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
    alternatives=[
        _count_up,
        lambda decoder, ours, theirs: (
            decoder // (theirs - ours) + 1 if ours < theirs else torch.tensor(math.inf)
        ),
    ],
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
        (lambda decoder, ours, theirs: break_even(decoder, ours, theirs) + 1, "pays earlier"),
        (lambda decoder, ours, theirs: break_even(decoder, ours, theirs) - 1, "too few"),
        (lambda decoder, ours, theirs: math.inf, "It does pay"),
        (
            lambda decoder, ours, theirs: (
                math.ceil(decoder / max(1, theirs - ours)) if ours < theirs else math.inf
            ),
            "values around 0.01",
        ),
        (lambda decoder, ours, theirs: "never", "one number"),
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
        _made(
            claim="a deeper network changes nothing, to half a dB",
            baseline=[22.7, 24.7, 24.6, 25.3],
            holds=lambda o, r: max(abs(a - b) for a, b in zip(o, r)) < 0.5,
        ),
    ],
    wrong=[
        (_made(holds=lambda ours, baseline: True), "cannot fail"),
        (_made(holds=lambda ours, baseline: ours[0] == 22.9), "exactly these numbers"),
        (_made(holds=lambda ours, baseline: ours[-1] > ours[0]), "depend on the second list"),
        (_made(holds=lambda ours, baseline: baseline[0] < 20), "depend on the first list"),
        (_made(settings=[20, 200], ours=[22.9, 25.1], baseline=[16.0, 32.6]), "at least three"),
        (_made(holds=lambda ours, baseline: ours[0] < baseline[0]), "not true of what you found"),
        (_made(baseline=[16.0]), "one number per setting"),
        (_made(ours=[float("inf")] * 4), "finite"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "we win"}, "a dict with the entries"),
    ],
)

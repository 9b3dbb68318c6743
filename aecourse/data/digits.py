"""Handwritten digits: drawn by a simulated pen (embedded), or MNIST and Fashion-MNIST through torchvision."""

import contextlib
import io
import shutil

import numpy as np
import torch

from . import _store

# How people write, on a 10 x 10 grid with y pointing down: "70" is the point x=7, y=0. A stroke is a quadratic B-spline that is
# drawn towards each of its points in turn; a point that stands twice is a corner; " | " lifts the pen. Each list holds ways to
# write one form of a digit: they share their structure, so a writer may do anything in between.
FORMS = [
    (["60 30 03 06 39 69 96 93 60 40", "60 40 23 26 39 59 76 73 60 40", "71 20 04 17 39 79 86 73 50 21", "61 31 04 06 28 68 96 93 61 41"],
     ["30 03 06 39 69 96 93 60 50 32", "41 13 16 39 69 96 94 60 20 12", "20 03 07 49 89 96 82 70 60 61", "50 20 14 17 39 79 96 83 40 23"]),
    (["50 53 56 59", "50 44 55 59"],
     ["23 50 50 55 59", "32 50 50 54 49", "04 40 50 54 59"],
     ["23 50 50 55 59 | 19 99", "12 50 50 55 59 | 29 79"]),
    (["13 20 70 84 56 09 09 59 99", "11 30 90 85 46 19 19 49 88", "02 50 80 83 67 18 18 59 97", "32 40 60 62 57 28 28 49 78"],
     ["13 20 70 84 57 19 07 27 59 98", "12 30 80 84 46 19 17 37 68 99", "22 40 70 73 67 09 06 36 68 97", "04 10 80 85 49 29 06 45 69 99"]),
    (["12 30 80 84 44 44 86 89 49 08", "11 50 90 83 34 34 85 79 39 18", "10 40 80 73 45 45 96 89 39 07", "21 40 60 63 33 33 96 99 39 06",
      "01 30 90 86 36 36 76 79 49 28", "13 20 60 83 54 54 86 79 29 06"],
     ["10 80 80 44 44 86 99 49 08", "00 90 90 54 54 87 79 39 08", "11 60 70 43 43 75 69 49 17"],
     ["12 30 80 84 55 34 36 65 89 59 08", "01 40 90 74 45 34 45 76 79 49 18"]),
    (["20 15 15 55 95 | 70 75 69", "10 06 06 56 96 | 81 75 79", "30 25 25 55 85 | 72 66 59", "30 05 05 55 85 | 80 74 59"],
     ["60 05 05 55 95 | 60 65 69", "70 16 16 56 96 | 70 74 69"],
     ["10 05 46 84 80 | 80 75 69", "20 14 36 75 81 | 81 76 79", "11 04 34 73 80 | 80 65 39"],
     ["20 25 25 55 74 80 80 75 69", "30 04 04 46 73 70 70 65 59", "11 13 13 44 74 82 82 76 79"]),
    (["90 30 30 24 24 63 97 79 39 08", "80 20 20 15 15 64 86 89 49 18", "91 40 40 14 14 84 96 69 29 09", "80 40 40 25 25 55 77 69 49 18"],
     ["30 24 24 74 97 59 08 | 30 60 90", "21 25 25 64 88 49 18 | 20 50 81"],
     ["90 60 20 03 34 75 98 59 08", "80 50 30 24 44 75 87 49 18", "91 40 34 25 44 66 78 59 17"]),
    (["80 30 04 07 39 79 86 65 35 07", "60 23 15 08 39 69 87 75 46 18", "70 41 14 07 19 59 87 55 26 17", "90 40 03 08 49 89 96 64 35 17"],
     ["60 33 17 49 79 86 54 35 46", "60 34 18 39 79 86 65 37 29"]),
    (["10 50 90 90 65 49", "01 50 80 80 54 39", "10 60 90 84 57 59"],
     ["03 11 50 90 90 65 49", "12 10 50 80 80 64 49", "24 20 40 80 80 65 49"],
     ["10 50 90 90 65 49 | 35 85", "11 50 80 80 54 39 | 15 75", "12 50 90 80 65 59 | 44 94"]),
    (["80 40 00 13 44 86 99 49 09 06 54 83 80 50", "71 50 20 13 54 87 79 49 19 17 55 83 71 50",
      "82 60 20 23 44 76 79 49 19 16 44 73 80 60", "91 50 20 23 45 66 69 39 19 16 44 83 80 61",
      "70 50 31 32 44 86 89 49 09 06 54 62 61 60"],
     ["50 20 03 45 84 80 50 | 54 15 09 59 99 85 54", "50 30 13 44 74 70 50 | 44 26 19 49 79 76 44"],
     ["90 50 10 04 45 76 79 49 19 16 45 72 90", "81 50 20 13 44 87 89 49 09 17 55 63 80"],
     ["20 60 90 83 54 16 09 49 89 87 44 13 10 30", "30 60 80 73 44 15 19 49 79 76 45 23 20 40"],
     ["55 73 80 40 10 13 34 76 79 49 19 17 45", "64 82 70 40 20 23 45 86 79 39 09 06 54"]),
    (["82 50 10 04 35 74 81 81 75 69", "81 40 11 13 45 84 82 82 76 79", "70 40 13 25 54 73 71 71 66 49", "71 50 21 23 44 63 71 71 65 59",
      "80 60 32 34 54 72 80 80 75 69"],
     ["82 50 10 04 35 74 82 86 69 29 18", "71 40 11 13 35 74 71 76 59 39 28", "72 50 31 23 44 63 72 76 69 39 17"],
     ["70 40 14 35 74 80 80 75 69", "60 31 15 35 64 80 80 74 69", "81 30 04 26 75 80 80 75 79", "62 20 03 24 63 71 71 75 69"]),
]
SHARES = [(.8, .2), (.65, .2, .15), (.6, .4), (.7, .2, .1), (.45, .15, .2, .2), (.5, .2, .3), (.8, .2), (.45, .25, .3),
          (.4, .15, .15, .15, .15), (.55, .2, .25)]
SAMPLES = 80                                                               # points along the path of one digit


def _points(form):
    """The control points of one way to write: a list of strokes, each (k, 2)."""
    return [np.array([[int(x), int(y)] for x, y in stroke.split()], dtype=np.float32) for stroke in form.split(" | ")]


def _spline(counts, lengths, haste):
    """The matrix (SAMPLES, all points) from control points to points along quadratic B-splines, averaged over `haste` knots."""
    ends = np.round(np.cumsum(lengths) / np.sum(lengths) * SAMPLES).astype(int)
    matrix = np.zeros((SAMPLES, sum(counts)), dtype=np.float32)
    for count, first, start, end in zip(counts, np.cumsum([0, *counts]), [0, *ends], ends):
        for shift in np.linspace(-haste, haste, 5):
            place = np.clip(np.linspace(0, count, end - start) + shift, 0, count - 1e-4)
            knot, t = place.astype(int), place % 1
            for offset, weight in ((-1, (1 - t) ** 2 / 2), (0, .5 + t * (1 - t)), (1, t ** 2 / 2)):
                point = np.clip(knot + offset, 0, count - 1) + first       # the first and the last point count twice
                np.add.at(matrix, (np.arange(start, end), point), weight / 5)
    return matrix


def _write(forms, n, rng):
    """The paths of `n` digits of these kindred forms, (n, SAMPLES, 2), and the pen's radius along them, (n, SAMPLES)."""
    def draw(spread, *shape):
        return (spread * rng.standard_normal((n, *shape))).astype(np.float32)

    strokes = [_points(form) for form in forms]
    points = np.stack([np.concatenate(form) for form in strokes])
    blend = rng.dirichlet([.7] * len(forms), n).astype(np.float32)
    control = np.einsum("nf,fkd->nkd", blend, points) - 4.5
    corner = np.all(points[0, 1:] == points[0, :-1], axis=1)
    wobble = draw(.5, *control.shape[1:])
    wobble[:, 1:] = (wobble[:, 1:] + wobble[:, :-1]) / 1.4                 # neighbors wobble together
    wobble[:, 1:][:, corner] = wobble[:, :-1][:, corner]                   # a corner stays a corner
    lengths = [np.linalg.norm(np.diff(stroke, axis=0), axis=1).sum() for stroke in strokes[0]]
    counts = [len(stroke) for stroke in strokes[0]]
    haste = rng.random((n, 1, 1), dtype=np.float32)                        # who writes fast cuts the corners
    path = sum(weight * (_spline(counts, lengths, reach) @ (control + wobble)) for weight, reach in ((1 - haste, 0), (haste, .8)))
    wave = np.sin(.45 * path[..., ::-1] + draw(3, 1, 2)) * draw(.35, 1, 2)  # the elastic paper
    path = path + wave
    height = path[..., 1] / 4.5
    path[..., 1] += draw(.7, 1) * (1 - height ** 2)                        # a larger upper or lower half
    path[..., 0] *= .8 * np.exp(draw(.2, 1) + draw(.15, 1) * height)       # narrow or wide, and wider below or above
    path[..., 0] -= (.15 + draw(.28, 1)) * path[..., 1]                    # slant
    angle = draw(.1, 1)
    path = np.stack([np.cos(angle) * path[..., 0] - np.sin(angle) * path[..., 1],
                     np.sin(angle) * path[..., 0] + np.cos(angle) * path[..., 1]], axis=-1)
    along = np.linspace(0, 1, SAMPLES, dtype=np.float32)
    pressure = 1 + draw(.12, 1) * np.sin(5 * along + draw(3, 1)) - .25 * np.maximum(0, 1 - 12 * np.minimum(along, 1 - along))
    return path, np.exp(.12 + draw(.28, 1)) * pressure


def _render(path, radius):
    """Ink in [0, 1], (n, 28, 28): anti-aliased distance to the path, by MNIST's convention of size and place.

    The digit fills a box of 20 x 20 pixels and its centre of mass lies in the middle. Near the edge of a disc of radius r around q,
    the signed distance of p is (|p - q|^2 - r^2) / 2r, which is linear in (|p|^2, p, 1): a matrix product.
    """
    low, high = path.min(1, keepdims=True), path.max(1, keepdims=True)
    path = (path - low) * ((20 - 2 * radius.mean(1)[:, None, None]) / (high - low).max(2, keepdims=True))
    step = np.linalg.norm(np.diff(path, axis=1, append=path[:, -1:]), axis=2) * radius
    path = path - (path * step[..., None]).sum(1, keepdims=True) / step.sum(1)[:, None, None]
    y, x = np.mgrid[-13.5:14, -13.5:14].reshape(2, -1).astype(np.float32)
    pixels = np.stack([x * x + y * y, x, y, np.ones_like(x)])
    discs = np.stack([.5 / radius, -path[..., 0] / radius, -path[..., 1] / radius,
                      ((path ** 2).sum(2) - radius ** 2) / (2 * radius)], axis=2).astype(np.float32)
    distance = np.concatenate([(part @ pixels).min(1) for part in np.array_split(discs, max(1, len(discs) // 200))])
    return np.clip(.6 - distance, 0, 1).reshape(-1, 28, 28)


def _strokes(split):
    """The embedded digits as a dict of uint8 arrays: 1,200 per class to train on, 200 per class to test on."""
    per_class, rng = (1200, np.random.default_rng(7)) if split == "train" else (200, np.random.default_rng(8))
    images, labels = [], []
    for digit, (families, shares) in enumerate(zip(FORMS, SHARES)):
        counts = np.diff(np.round(np.cumsum([0, *shares]) * per_class).astype(int))
        images += [_render(*_write(forms, count, rng)) for forms, count in zip(families, counts)]
        labels += [digit] * per_class
    order = rng.permutation(len(labels))
    x = np.round(255 * np.concatenate(images)).astype(np.uint8)
    return {"x": x[order], "y": np.array(labels, dtype=np.uint8)[order]}


def _torchvision(name, split):
    """MNIST or Fashion-MNIST, from the data folder, from the mirror, or from the net, in this order."""
    from torchvision import datasets
    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    raw = f"{kind.__name__}/raw"
    files = [resource for resource, _ in kind.resources]
    try:
        if not (_store.folder() / raw).is_dir():
            with _store.arriving(_store.folder() / raw) as temporary:
                if all(_store.find(f"{raw}/{file}") for file in files):
                    temporary.mkdir()
                    for file in files:
                        shutil.copy(_store.find(f"{raw}/{file}"), temporary / file)
                else:
                    with contextlib.redirect_stderr(io.StringIO()):
                        kind(temporary.parent, download=True)
                    (temporary.parent / raw).rename(temporary)
        with contextlib.redirect_stderr(io.StringIO()):
            data = kind(_store.folder(), train=split == "train", download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise _store.missing("digits", f"put the four files {', '.join(files)} into {_store.folder() / raw}", error) from error
    return data.data.numpy(), data.targets.numpy()


def digits(split="train", source=None):
    """Images of digits (n, 1, 28, 28), float32 in [0, 1], and labels (n,), int64.

    `source`: "strokes" (embedded; 12,000 train, 2,000 test), "mnist" or "fashion-mnist" (60,000 and 10,000).
    Raises ValueError for an unknown split or source, DataError for files that are damaged or cannot be had.
    """
    if split not in ("train", "test"):
        raise ValueError(f"data.digits: unknown split {split!r}. Known are 'train' and 'test'.")
    source = _store.choose("digits", source, "strokes", ("mnist", "fashion-mnist"))
    if source == "strokes":
        arrays = _store.cached(f"digits-strokes-{split}", lambda: _strokes(split))
        x, y = arrays["x"], arrays["y"]
    else:
        x, y = _torchvision(source, split)
    _store.announce("digits", source, f"{split}: {len(x):,} images of 28 x 28")
    return torch.from_numpy(x).unsqueeze(1).float() / 255, torch.from_numpy(y).long()

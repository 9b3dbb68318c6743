"""Handwritten digits: drawn by a simulated pen (embedded), or MNIST and Fashion-MNIST through torchvision."""

import contextlib
import hashlib
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from aecourse import _reading
from aecourse.data import _store

# How people write: the digit, the share of this line, and kindred ways of writing, which mix in any proportion. "70" is
# the point x=7, y=0 on a 10 x 10 grid, y pointing down. The pen is drawn towards one point after the other (a quadratic
# B-spline); a point that stands twice is a corner; "|" lifts the pen.
FORMS = [
    (0, .80, "60 30 03 06 39 69 96 93 60 40, 60 40 23 26 39 59 76 73 60 40, 71 20 04 17 39 79 86 73 50 21, "
             "61 31 04 06 28 68 96 93 61 41"),
    (0, .20, "30 03 06 39 69 96 93 60 50 32, 41 13 16 39 69 96 94 60 20 12, 20 03 07 49 89 96 82 70 60 61, "
             "50 20 14 17 39 79 96 83 40 23"),
    (1, .65, "50 53 56 59, 50 44 55 59"),
    (1, .20, "23 50 50 55 59, 32 50 50 54 49, 04 40 50 54 59"),
    (1, .15, "23 50 50 55 59 | 19 99, 12 50 50 55 59 | 29 79"),
    (2, .60, "13 20 70 84 56 09 09 59 99, 11 30 90 85 46 19 19 49 88, 02 50 80 83 67 18 18 59 97, "
             "32 40 60 62 57 28 28 49 78"),
    (2, .40, "13 20 70 84 57 19 07 27 59 98, 12 30 80 84 46 19 17 37 68 99, 22 40 70 73 67 09 06 36 68 97, "
             "04 10 80 85 49 29 06 45 69 99"),
    (3, .50, "12 30 80 84 44 44 86 89 49 08, 11 50 90 83 34 34 85 79 39 18, 10 40 80 73 45 45 96 89 39 07, "
             "21 40 60 63 33 33 96 99 39 06, 01 30 90 86 36 36 76 79 49 28, 13 20 60 83 54 54 86 79 29 06"),
    (3, .15, "10 80 80 44 44 86 99 49 08, 00 90 90 54 54 87 79 39 08, 11 60 70 43 43 75 69 49 17"),
    (3, .10, "12 30 80 84 55 34 36 65 89 59 08, 01 40 90 74 45 34 45 76 79 49 18"),
    (3, .25, "14 11 40 80 84 44 44 86 89 49 18 06, 24 21 50 80 73 54 54 97 89 39 09 07, "
             "04 01 40 70 74 34 34 76 79 39 08 05"),
    (4, .45, "20 15 15 55 95 | 70 75 69, 10 06 06 56 96 | 81 75 79, 30 25 25 55 85 | 72 66 59, "
             "30 05 05 55 85 | 80 74 59"),
    (4, .15, "60 05 05 55 95 | 60 65 69, 70 16 16 56 96 | 70 74 69"),
    (4, .20, "10 05 46 84 80 | 80 75 69, 20 14 36 75 81 | 81 76 79, 11 04 34 73 80 | 80 65 39"),
    (4, .20, "20 25 25 55 74 80 80 75 69, 30 04 04 46 73 70 70 65 59, 11 13 13 44 74 82 82 76 79"),
    (5, .50, "90 30 30 24 24 63 97 79 39 08, 80 20 20 15 15 64 86 89 49 18, 91 40 40 14 14 84 96 69 29 09, "
             "80 40 40 25 25 55 77 69 49 18"),
    (5, .20, "30 24 24 74 97 59 08 | 30 60 90, 21 25 25 64 88 49 18 | 20 50 81"),
    (5, .30, "90 60 20 03 34 75 98 59 08, 80 50 30 24 44 75 87 49 18, 91 40 34 25 44 66 78 59 17"),
    (6, .80, "80 30 04 07 39 79 86 65 35 07, 60 23 15 08 39 69 87 75 46 18, 70 41 14 07 19 59 87 55 26 17, "
             "90 40 03 08 49 89 96 64 35 17, 70 40 14 07 29 69 87 66 56 46, 50 33 25 17 29 59 67 56 37 28"),
    (6, .20, "60 33 17 49 79 86 54 35 46, 60 34 18 39 79 86 65 37 29"),
    (7, .45, "10 50 90 90 65 49, 01 50 80 80 54 39, 10 60 90 84 57 59"),
    (7, .25, "03 11 50 90 90 65 49, 12 10 50 80 80 64 49, 24 20 40 80 80 65 49"),
    (7, .30, "10 50 90 90 65 49 | 35 85, 11 50 80 80 54 39 | 15 75, 12 50 90 80 65 59 | 44 94"),
    (8, .40, "80 40 00 13 44 86 99 49 09 06 54 83 80 50, 71 50 20 13 54 87 79 49 19 17 55 83 71 50, "
             "82 60 20 23 44 76 79 49 19 16 44 73 80 60, 91 50 20 23 45 66 69 39 19 16 44 83 80 61, "
             "70 50 31 32 44 86 89 49 09 06 54 62 61 60"),
    (8, .15, "50 20 03 45 84 80 50 | 54 15 09 59 99 85 54, 50 30 13 44 74 70 50 | 44 26 19 49 79 76 44"),
    (8, .15, "90 50 10 04 45 76 79 49 19 16 45 72 90, 81 50 20 13 44 87 89 49 09 17 55 63 80"),
    (8, .15, "20 60 90 83 54 16 09 49 89 87 44 13 10 30, 30 60 80 73 44 15 19 49 79 76 45 23 20 40"),
    (8, .15, "55 73 80 40 10 13 34 76 79 49 19 17 45, 64 82 70 40 20 23 45 86 79 39 09 06 54"),
    (9, .55, "82 50 10 04 35 74 81 81 75 69, 81 40 11 13 45 84 82 82 76 79, 70 40 13 25 54 73 71 71 66 49, "
             "71 50 21 23 44 63 71 71 65 59, 80 60 32 34 54 72 80 80 75 69"),
    (9, .20, "82 50 10 04 35 74 82 86 69 29 18, 71 40 11 13 35 74 71 76 59 39 28, 72 50 31 23 44 63 72 76 69 39 17"),
    (9, .25, "70 40 14 35 74 80 80 75 69, 60 31 15 35 64 80 80 74 69, 81 30 04 26 75 80 80 75 79, "
             "62 20 03 24 63 71 71 75 69"),
]
SAMPLES = 80                                             # discs along the path of one digit, less than a pixel apart


def _spline(count, samples, haste):
    """The matrix (samples, count) from control points to a quadratic B-spline, averaged over +-`haste` points."""
    place = np.linspace(0, count, samples) + np.linspace(-haste, haste, 5)[:, None]
    knot, t = np.divmod(place.clip(0, count - 1e-4), 1)
    pulls = (-1, (1 - t) ** 2 / 2), (0, t * (1 - t) + 1 / 2), (1, t ** 2 / 2)
    near = [(knot + k).clip(0, count - 1).astype(int) for k, _ in pulls]   # at its ends the path reaches its last point
    return sum(pull[..., None] * np.eye(count)[i] for i, (_, pull) in zip(near, pulls)).mean(0).astype(np.float32)


def _write(forms, n, rng):
    """`n` digits of these kindred forms: their paths (n, SAMPLES, 2), and the pen's radius along them (n, SAMPLES)."""
    def vary(spread, *shape):
        return (spread * rng.standard_normal((n, *shape))).astype(np.float32)

    strokes = [stroke.split() for stroke in forms.split(",")[0].split("|")]
    forms = np.array([[[int(x), int(y)] for x, y in form.replace("|", "").split()] for form in forms.split(",")]) - 4.5
    corner = np.all(forms[0, 1:] == forms[0, :-1], axis=1)
    points = np.einsum("nf,fkd->nkd", rng.dirichlet([.7] * len(forms), n), forms).astype(np.float32)
    points += vary(.3, *points.shape[1:])
    wobble = vary(.3, *points.shape[1:])
    points[:, 1:] += wobble[:, 1:] + wobble[:, :-1]                        # neighbors wobble together
    points[:, 1:][:, corner] = points[:, :-1][:, corner]                   # and a corner stays a corner

    ends = np.cumsum([0, *map(len, strokes)])
    length = np.array([np.abs(np.diff(forms[0, i:j], axis=0)).sum() for i, j in zip(ends, ends[1:])])
    samples = np.diff(np.rint(np.cumsum([0, *length]) / length.sum() * SAMPLES).astype(int))
    neat, hasty = (np.concatenate([_spline(j - i, m, haste) @ points[:, i:j]
                                   for i, j, m in zip(ends, ends[1:], samples)], axis=1) for haste in (0, .8))
    path = neat + rng.random((n, 1, 1), dtype=np.float32) * (hasty - neat)          # who writes fast cuts corners
    path += vary(.55, 1, 2) * np.sin(.45 * path[..., ::-1] + vary(3, 1, 2))         # bends of the whole figure
    x, y = path[..., 0], path[..., 1]
    y += vary(.7, 1) * (1 - (y / 4.5) ** 2)                                         # a larger upper or lower half
    x *= .8 * np.exp(vary(.2, 1) + vary(.15, 1) * y / 4.5)                          # narrow or wide, and wider below
    x -= (.15 + vary(.28, 1)) * y                                                   # slant
    y += vary(.1, 1) * x                                                            # a line that climbs or falls
    along = np.linspace(0, 1, SAMPLES, dtype=np.float32)
    pressure = 1 + vary(.22, 1) * np.sin(5 * along + vary(3, 1)) - .25 * (1 - 12 * np.minimum(along, 1 - along)).clip(0)
    return path, np.exp(.14 + vary(.3, 1)) * pressure.clip(.4, 1.6)


def _render(path, radius):
    """Ink in [0, 1], (n, 28, 28), anti-aliased: a disc of this radius (in pixels) at each point of the path.

    As in MNIST the digit fills a box of 20 x 20 pixels, its center of mass in the middle. Near the edge of a disc of
    radius r around q the signed distance of p is (|p - q|^2 - r^2) / 2r: linear in (|p|^2, p, 1), a matrix product.
    """
    low, high = path.min(1, keepdims=True), path.max(1, keepdims=True)
    path = (path - low) * ((20 - 2 * radius.mean(1)[:, None, None]) / (high - low).max(2, keepdims=True))
    step = np.linalg.norm(np.diff(path, axis=1, append=path[:, -1:]), axis=2)
    mass = radius * step.clip(0, 2)                                                 # a longer step is a lifted pen
    path -= np.einsum("nk,nkd->nd", mass / mass.sum(1, keepdims=True), path)[:, None]
    y, x = np.mgrid[-13.5:14, -13.5:14].reshape(2, 1, -1).astype(np.float32)
    pixels = np.concatenate([x * x + y * y, x, y, np.ones_like(x)])
    qx, qy = path[..., 0], path[..., 1]
    discs = np.stack([0 * qx + .5, -qx, -qy, (qx ** 2 + qy ** 2 - radius ** 2) / 2], axis=2) / radius[..., None]
    distance = np.concatenate([(part @ pixels).min(1) for part in np.array_split(discs, len(discs) // 200 + 1)])
    return (.6 - distance).clip(0, 1).reshape(-1, 28, 28)


def _strokes(split):
    """The embedded digits as a dict of uint8 arrays: 1,200 per class to train on, 200 per class to test on."""
    per_class, rng = {"train": (1200, np.random.default_rng(7)), "test": (200, np.random.default_rng(8))}[split]
    images, labels = [], []
    for digit, share, forms in FORMS:
        count = round(share * per_class)
        images.append(_render(*_write(forms, count, rng)))
        labels += [digit] * count
    order = rng.permutation(len(labels))
    x = np.round(255 * np.concatenate(images)).astype(np.uint8)
    return {"x": x[order], "y": np.array(labels, dtype=np.uint8)[order]}


def _torchvision(name, split):
    """MNIST or Fashion-MNIST as a dict of uint8 arrays, from the data folder, the mirror or the net, in this order.

    torchvision verifies, unpacks and reads in a temporary folder. What it downloaded is kept whole or not at all.
    """
    from torchvision import datasets
    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    home = f"{kind.__name__}/raw"
    files = [file for file, _ in kind.resources]
    try:
        with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):      # silences its bars
            raw = Path(root) / home
            raw.mkdir(parents=True)
            for file, md5 in kind.resources:
                if found := _store.find(f"{home}/{file}", f"{home}/{file.removesuffix('.gz')}"):
                    content = _reading.read(found)
                    if found.suffix == ".gz" and hashlib.md5(content).hexdigest() != md5:
                        raise OSError(f"{found} is damaged or another file (its md5 differs): remove or replace it")
                    (raw / found.name).write_bytes(content)
            data = kind(root, train=split == "train", download=True)
            x, y = data.data.numpy(), data.targets.numpy()
            if x.shape != (len(y), 28, 28) or not len(y) or y.max() > 9:
                raise ValueError(f"{split} has images of shape {x.shape} and {len(y)} labels")
            if not _store.find(home):
                with contextlib.suppress(OSError), _store.arriving(_store.folder() / home) as kept:
                    shutil.copytree(raw, kept, ignore=shutil.ignore_patterns("*-ubyte"))
    except Exception as error:                            # whatever the network does, or a damaged file to torchvision
        where = (_store.find(home) or _store.folder() / home) / f"{dict(train='train', test='t10k')[split]}-*-ubyte"
        raise _store.missing("digits", f"put the four files {', '.join(files)} into {_store.folder() / home}",
                             f"{name} ({where}) could not be had: {str(error) or type(error).__name__}") from error
    return {"x": x, "y": y.astype(np.uint8)}


def digits(split="train", source=None):
    """Images of digits (n, 1, 28, 28), float32 in [0, 1], and labels (n,), int64.

    `source`: "strokes" (embedded; 12,000 train, 2,000 test), "mnist" or "fashion-mnist" (60,000 and 10,000).
    Raises ValueError for an unknown split or source, DataError for files that are damaged or cannot be had.
    """
    if split not in ("train", "test"):
        raise ValueError(f"data.digits: unknown split {split!r}. Known are 'train' and 'test'.")
    source = _store.choose("digits", source, "strokes", ("mnist", "fashion-mnist"))
    if isinstance(source, Path):
        raise ValueError(f"data.digits: unknown source '{source}'. Known are 'strokes', 'mnist' and 'fashion-mnist'.")
    version = f"-{_store.checksum(__file__)[:8]}" if source == "strokes" else ""         # a new pen, a new cache
    arrays = _store.cached(f"digits-{source}-{split}{version}",
                           lambda: _strokes(split) if source == "strokes" else _torchvision(source, split),
                           lambda arrays: _reading.unfit(arrays, {"x": ("u1", 28, 28), "y": ("u1",)})
                           or ("a label is above 9" if arrays["y"].max() > 9 else ""))
    _store.announce("digits", source, f"{split}: {len(arrays['y']):,} images of 28 x 28")
    return torch.from_numpy(arrays["x"]).unsqueeze(1).float().div_(255), torch.from_numpy(arrays["y"]).long()

"""Handwritten digits: drawn by a simulated pen (embedded), or MNIST and Fashion-MNIST."""

import gzip
import hashlib
from pathlib import Path

from aecourse.data import store

import numpy as np
import torch

_STROKES = Path(__file__).with_name("tables") / "strokes.txt"  # says how it is read
_SAMPLES = 80  # discs along the path of one digit, less than a pixel apart


def _spline(count, samples, width):
    """The matrix (samples, count) of a quadratic B-spline, averaged over +-`width` points."""
    place = np.linspace(0, count, samples) + np.linspace(-width, width, 5)[:, None]
    knot, t = np.divmod(place.clip(0, count - 1e-4), 1)
    weights = (1 - t) ** 2 / 2, t * (1 - t) + 1 / 2, t**2 / 2
    # At its ends the path reaches the first and the last point.
    points = ((knot + k).clip(0, count - 1).astype(int) for k in (-1, 0, 1))
    matrix = sum(w[..., None] * np.eye(count)[i] for i, w in zip(points, weights, strict=True))
    return matrix.mean(0).astype(np.float32)


def _draw_paths(forms, n, rng):
    """`n` digits of these variants: paths (n, _SAMPLES, 2), and the pen's radius (n, _SAMPLES)."""

    def normal(std, *shape):
        return (std * rng.standard_normal((n, *shape))).astype(np.float32)

    strokes = [len(stroke.split()) for stroke in forms[0].split("|")]
    forms = [form.replace("|", "").split() for form in forms]
    forms = np.array([[[int(x), int(y)] for x, y in form] for form in forms]) - 4.5
    corner = np.all(forms[0, 1:] == forms[0, :-1], axis=1)
    mixture = rng.dirichlet([0.7] * len(forms), n)
    points = np.einsum("nf,fkd->nkd", mixture, forms).astype(np.float32)
    points += normal(0.3, *points.shape[1:])
    wobble = normal(0.3, *points.shape[1:])
    points[:, 1:] += wobble[:, 1:] + wobble[:, :-1]  # correlated between neighbors
    points[:, 1:][:, corner] = points[:, :-1][:, corner]  # and a corner stays a corner

    parts = [slice(j - k, j) for k, j in zip(strokes, np.cumsum(strokes), strict=True)]
    length = np.array([np.abs(np.diff(forms[0, part], axis=0)).sum() for part in parts])
    samples = np.diff(np.rint(np.cumsum([0, *length]) / length.sum() * _SAMPLES).astype(int))
    curves = list(zip(strokes, samples, parts, strict=True))
    neat, hasty = (  # fast writing cuts corners
        np.concatenate([_spline(k, m, width) @ points[:, part] for k, m, part in curves], axis=1)
        for width in (0, 0.8)
    )
    path = neat + rng.random((n, 1, 1), dtype=np.float32) * (hasty - neat)
    path += normal(0.55, 1, 2) * np.sin(0.45 * path[..., ::-1] + normal(3, 1, 2))  # the whole bends
    x, y = path[..., 0], path[..., 1]
    y += normal(0.7, 1) * (1 - (y / 4.5) ** 2)  # a larger upper or lower half
    x *= 0.8 * np.exp(normal(0.2, 1) + normal(0.15, 1) * y / 4.5)  # width, also from top to bottom
    x -= (0.15 + normal(0.28, 1)) * y  # slant
    y += normal(0.1, 1) * x  # a line that rises or falls
    along = np.linspace(0, 1, _SAMPLES, dtype=np.float32)
    thin_ends = 0.25 * (1 - 12 * np.minimum(along, 1 - along)).clip(0)
    pressure = 1 + normal(0.22, 1) * np.sin(5 * along + normal(3, 1)) - thin_ends
    return path, np.exp(0.14 + normal(0.3, 1)) * pressure.clip(0.4, 1.6)


def _render(path, radius):
    """Anti-aliased images (n, 28, 28) in [0, 1]: a disc of this radius at each point of the path.

    As in MNIST the digit fills a box of 20 x 20 pixels, its center of mass in the middle. Near the
    edge of a disc of radius r around q the signed distance of p is (|p - q|^2 - r^2) / 2r: linear
    in (|p|^2, p, 1), a matrix product.
    """
    low, high = path.min(1, keepdims=True), path.max(1, keepdims=True)
    size = 20 - 2 * radius.mean(1)[:, None, None]
    path = (path - low) * (size / (high - low).max(2, keepdims=True))
    step = np.linalg.norm(np.diff(path, axis=1, append=path[:, -1:]), axis=2)
    mass = radius * step.clip(0, 2)  # a longer step is a lifted pen
    path -= np.einsum("nk,nkd->nd", mass / mass.sum(1, keepdims=True), path)[:, None]
    y, x = np.mgrid[-13.5:14, -13.5:14].reshape(2, 1, -1).astype(np.float32)
    pixels = np.concatenate([x * x + y * y, x, y, np.ones_like(x)])
    qx, qy = path[..., 0], path[..., 1]
    discs = np.stack([0 * qx + 0.5, -qx, -qy, (qx**2 + qy**2 - radius**2) / 2], axis=2)
    parts = np.array_split(discs / radius[..., None], len(discs) // 200 + 1)
    distance = np.concatenate([(part @ pixels).min(1) for part in parts])
    return (0.6 - distance).clip(0, 1).reshape(-1, 28, 28)


def _strokes(split):
    """The embedded digits as uint8 arrays: 1,200 per class in "train", 200 per class in "test"."""
    per_class, seed = {"train": (1200, 7), "test": (200, 8)}[split]
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for block in _STROKES.read_text().split("\n\n")[1:]:
        entry, *forms = block.splitlines()
        digit, fraction = entry.split()
        count = round(float(fraction) * per_class)
        images.append(_render(*_draw_paths(forms, count, rng)))
        labels += [int(digit)] * count
    order = rng.permutation(len(labels))
    x = np.round(255 * np.concatenate(images)).astype(np.uint8)
    return {"x": x[order], "y": np.array(labels, dtype=np.uint8)[order]}


def _read_idx(path, md5):
    """The uint8 array of an idx file (http://yann.lecun.com/exdb/mnist), plain or gzipped."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            if md5 and hashlib.md5(content).hexdigest() != md5:
                raise ValueError("its md5 differs")
            content = gzip.decompress(content)
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()
    except Exception as error:  # gzip and NumPy raise several kinds for a damaged file
        raise ValueError(f"{path} is damaged ({error}); delete or replace it") from error


def _mnist(source, split):
    """MNIST or Fashion-MNIST as uint8 arrays. torchvision downloads what is not there.

    Files are found as torchvision or Kaggle lays them out: {file}.gz, {file}, or {file}/{file}.
    """
    from torchvision import datasets

    kind = datasets.FashionMNIST if source == "fashion-mnist" else datasets.MNIST
    name, own = kind.__name__, isinstance(source, Path)
    roots = [source, source / name] if own else [Path(name)]
    folders = [root / raw for root in roots for raw in ("raw", "")]
    resources = kind.resources[:2] if split == "train" else kind.resources[2:]

    def find(file):
        stem = file.removesuffix(".gz")
        forms = (file, f"{stem}/{stem}", stem.replace("-idx", ".idx"), stem)
        return store.find(*(folder / form for folder in folders for form in forms))

    try:
        if not own and not all(find(file) for file, _ in resources):
            kind(store.folder(), download=True)  # verifies the md5 sums
        if absent := [file for file, _ in resources if not find(file)]:
            raise FileNotFoundError(f"{' and '.join(absent)} not found, packed or unpacked")
        x, y = (_read_idx(find(file), None if own else md5) for file, md5 in resources)
        if x.shape != (len(y), 28, 28) or y.shape != (len(x),) or y.max() > 9:
            raise ValueError(f"images {x.shape} and labels {y.shape} up to {y.max()} do not fit")
    except Exception as error:  # of many kinds: the network's, or of a damaged file
        files = ", ".join(file for file, _ in kind.resources)
        put = f"put the four files {files} into {store.folder() / name / 'raw'}"
        raise store.missing("digits", put, f"{source}: {error}") from error
    return {"x": x, "y": y}


def digits(
    split: str = "train", source: str | Path | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of digits (n, 1, 28, 28), float32 in [0, 1], and labels (n,), int64.

    `source`: "strokes" (embedded; 12,000 train, 2,000 test), "mnist" or "fashion-mnist" (60,000 and
    10,000), or the path of a folder with MNIST's four files.
    Raises ValueError for an unknown split or source, DataError for damaged or missing files.
    """
    if split not in ("train", "test"):
        raise ValueError(f"data.digits: unknown split {split!r}. Known are 'train' and 'test'.")
    source = store.choose("digits", source, "strokes", ("mnist", "fashion-mnist"))
    if source == "strokes":
        made_from = Path(__file__).read_bytes() + _STROKES.read_bytes()
        version = hashlib.sha256(made_from).hexdigest()[:8]
        arrays = store.cached(f"digits-strokes-{split}-{version}", lambda: _strokes(split))
    elif isinstance(source, Path):
        arrays = _mnist(source, split)
    else:
        arrays = store.cached(f"digits-{source}-{split}", lambda: _mnist(source, split))
    store.announce("digits", source, f"{split}: {len(arrays['y']):,} images of 28 x 28")
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    return x.unsqueeze(1).float().div_(255), y.long()

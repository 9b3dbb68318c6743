"""Faces: small color portraits with known factors, or photographs."""

import hashlib
import io
import os
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from .. import _reading
from . import _portrait, _store
from ._portrait import FACTORS

_DRAWN = {"train": 10_000, "test": 2_000}
_IMAGES = {".jpg", ".jpeg", ".png"}
_PIXELS = 2**26                                           # of one image: 67 megapixels unpack to 268 MB
_CELEBA_KEPT = 24_000                                     # of 202,599: as floats these are 1.2 GB


def faces(split="train", source=None, *, size=64, n=None):
    """Color portraits in which the face fills most of the frame.

    split: "train" or "test". source: "drawn" (embedded: 10,000 and 2,000 painted portraits), "lfw", "celeba", the path
    of a folder of images, or None: what `AECOURSE_DATA` says. size: pixels of a side. n: only the first n, which takes the
    memory of n; all where there are fewer.
    Returns x, float32 (n, 3, size, size) in [0, 1], and factors, a dict of float32 tensors (n,): all of `FACTORS` for
    "drawn", the 40 attributes for "celeba" if their list is there, else empty. Photographs are split by person ("lfw"),
    by the official partition ("celeba" if its list is there), else by file name, 5 to 1.
    Raises ValueError for an unknown split or source or a folder without images, DataError for absent photographs.
    """
    if split not in _DRAWN:
        raise ValueError(f"data.faces: unknown split {split!r}. Known are 'train' and 'test'.")
    if not (isinstance(size, int) and size >= 8):
        raise ValueError(f"data.faces: size has to be a whole number of pixels, at least 8; given was {size!r}.")
    if not (n is None or isinstance(n, int) and n >= 1):
        raise ValueError(f"data.faces: n has to be a whole number of faces, at least 1; given was {n!r}.")
    source = _store.choose("faces", source, "drawn", ("lfw", "celeba"))
    known = {"drawn": _drawn, "lfw": _lfw, "celeba": _celeba}
    x, factors, what = known[source](split, size) if source in known else _folder(source, split, size)
    x, factors = x[:n], {name: values[:n] for name, values in factors.items()}
    _store.announce("faces", source, f"{len(x):,} {what}, {size}x{size} ({split})")
    return torch.from_numpy(x).float().div_(255), {name: torch.from_numpy(values) for name, values in factors.items()}


def draw_faces(factors, *, size=64):
    """Paint faces of these factors, so that one can be changed and all others held.

    factors: a dict, name in `FACTORS` -> number or (n,) array or tensor; what is missing is that of a neutral face.
    Returns x, float32 (n, 3, size, size) in [0, 1].
    Raises ValueError for an unknown name, unequal lengths or a value out of range.
    """
    if unknown := sorted(set(factors) - set(FACTORS)):
        raise ValueError(f"draw_faces: unknown factor {', '.join(map(repr, unknown))}. Known are {', '.join(FACTORS)}.")
    given = {name: np.asarray(value, np.float32) for name, value in factors.items()}
    try:
        n, = np.broadcast_shapes((1,), *(value.shape for value in given.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in given.items())
        raise ValueError(f"draw_faces: every factor has to be a number or (n,), with the same n; given were {shapes}")
    for name, value in given.items():
        low, high, meaning, *_ = FACTORS[name]
        if not ((value >= low) & (value <= high)).all():
            raise ValueError(f"draw_faces: {name} has to be in [{low}, {high}]; "
                             f"given were {value.min():g} to {value.max():g}.")
        if name == "hair_style" and (value % 1).any():
            raise ValueError(f"draw_faces: hair_style has to be a whole number: {meaning}.")
    whole = {name: np.broadcast_to(given.get(name, np.float32(factor.neutral)), n) for name, factor in FACTORS.items()}
    return torch.from_numpy(_portrait.render(whole, size)).float().div_(255)


def _drawn(split, size):
    def make():
        factors = _portrait.sample(_DRAWN[split], np.random.default_rng([7, list(_DRAWN).index(split)]))
        return {"x": _portrait.render(factors, size), **factors}

    rows = {"x": ("u1", 3, size, size), **dict.fromkeys(FACTORS, ("f4",))}
    arrays = _store.cached(f"faces-drawn-{_portrait.VERSION}-{split}-{size}", make, lambda a: _reading.unfit(a, rows))
    return arrays.pop("x"), arrays, f"painted portraits with {len(arrays)} known factors"


def _lfw(split, size):
    def fetch(folder):                                                    # scikit-learn verifies the checksum
        from sklearn.datasets import fetch_lfw_people
        fetch_lfw_people(data_home=folder, funneled=True, min_faces_per_person=200, resize=0.2)

    put = f"put lfw_one_per_person.tar, or the folder 'lfw_funneled' with its folder per person, into {_store.folder()}"
    place = (_store.find("lfw_one_per_person.tar") or _store.find("lfw", "lfw_funneled", "lfw-deepfunneled", "lfw_home")
             or _store.folder() / "lfw_home")
    pictures = _photographs("LFW", place, put, fetch)
    x, names, note = _read("lfw", place, pictures, lambda w, h: (w * 128 / 250, h * 128 / 250), size)
    people = np.array([PurePosixPath(name).parent.name for name in names])
    keep = _by_name(people, split)                                        # no person is in both
    return x[keep], {}, f"photographs of {len(set(people[keep])):,} people{note}"


def _celeba(split, size):
    def fetch(folder):
        from torchvision.datasets import CelebA
        CelebA(folder.parent, split="all", download=True)
        (folder / "img_align_celeba.zip").unlink(missing_ok=True)

    home = _store.find("celeba") or _store.folder() / "celeba"
    put = (f"put CelebA's aligned images into {home / 'img_align_celeba'} "
           "(and list_attr_celeba.txt, list_eval_partition.txt beside it)")
    pictures = _photographs("CelebA", home, put, fetch)
    kept = list(pictures)[::-(-len(pictures) // _CELEBA_KEPT)]             # evenly spread, to bound the memory
    middle = lambda w, h: (w * 148 / 178, h * 148 / 218)
    x, names, note = _read("celeba", home, {k: pictures[k] for k in kept}, middle, size)
    names = [PurePosixPath(name).name for name in names]
    part, attributes = home / "list_eval_partition.txt", home / "list_attr_celeba.txt"
    keep, factors = _by_name(names, split), {}
    if os.path.exists(part):
        known = _list(part, 0, names, {"0", "1", "2"})
        keep = np.array([known[name] == [{"train": "0", "test": "2"}[split]] for name in names])
    if os.path.exists(attributes):
        known = _list(attributes, 2, names, {"1", "-1"})
        table = np.array([known[name] for name, k in zip(names, keep) if k], np.float32).reshape(-1, len(known[""])) > 0
        factors = {name: table[:, k].astype(np.float32) for k, name in enumerate(known[""])}
    return x[keep], factors, f"photographs, of {len(kept):,} kept from {len(pictures):,}{note}"


def _list(path, top, names, values):
    """One of CelebA's lists: image -> its values, for all `names`; "" -> the columns' names, the last of `top` lines."""
    try:
        lines = [line.split() for line in _reading.read(path).decode("utf-8-sig").splitlines() if line.strip()]
        columns = lines[top - 1] if top else [""]
        known = {name: row for name, *row in lines[top:]}
        if len(known) < len(lines) - top or len(set(columns)) < len(columns):
            raise ValueError("a name is in it twice")
        for name in names:
            if len(known.get(name, ())) != len(columns) or not values.issuperset(known[name]):
                raise ValueError(f"{name!r} has no row of {len(columns)} values, each of them {' or '.join(sorted(values))}")
    except (OSError, ValueError, IndexError) as error:
        raise _store.DataError(f"data.faces: {path} is no list of CelebA ({error}): fetch it again, or remove it to do "
                               "without.") from error
    return known | {"": columns}


def _folder(path, split, size):
    pictures = _in_folder(path)
    if not pictures:
        raise ValueError(f"data.faces: {path} has to be a folder with .jpg or .png images in it; there is none.")
    x, names, note = _read("folder", path, pictures, _square, size)
    return x[_by_name(names, split)], {}, f"images{note}"


def parts(split="train", source=None, *, size=64, rows=2_000):
    """The pixels that `faces` gives, as uint8 (n, 3, size, size), `rows` at a time: a folder need not fit in memory."""
    source = _store.choose("faces", source, "drawn", ("lfw", "celeba"))
    if isinstance(source, str):
        yield from (255 * faces(split, source, size=size)[0]).round().byte().split(rows)
        return
    pictures = _in_folder(source)
    mine = [name for name, keep in zip(pictures, _by_name(pictures, split)) if keep]
    for i in range(0, len(mine), rows):
        x = _decode("folder", {name: pictures[name] for name in mine[i:i + rows]}, _square, size)["x"]
        yield torch.from_numpy(x)


def _square(width, height):
    return min(width, height), min(width, height)


def _by_name(names, split):
    """Which of the names are of this split: a fixed hash sends one in six to the test set, whatever else is there."""
    return np.array([(zlib.crc32(os.fsencode(name)) % 6 == 0) == (split == "test") for name in names], bool)


def _photographs(title, place, put, fetch):
    """Name -> image file in the folder or tar `place`; where it is absent, `fetch(folder)` downloads it."""
    if not os.path.exists(place):
        try:
            with _store.arriving(place) as temporary:
                fetch(temporary)
        except Exception as error:                                        # whatever the network and the host can do
            raise _store.missing("faces", put, f"{title} could not be downloaded: {error}") from error
    pictures = _in_tar(place) if place.is_file() else _in_folder(place)
    if not pictures:
        raise _store.missing("faces", put, f"no image in {place}")
    return pictures


def _in_folder(folder):
    """Name -> path of the images at any depth, in the order of their names."""
    paths = [p for p in folder.rglob("*") if p.suffix.lower() in _IMAGES]
    return {p.relative_to(folder).as_posix(): p for p in sorted(paths)}


def _in_tar(path):
    """Name -> file in memory of a tar's images. Nothing is unpacked to disk."""
    try:
        found = dict(_reading.members(path, lambda name: name.suffix.lower() in _IMAGES))
        return {name: io.BytesIO(found[name]) for name in sorted(found)}
    except OSError as error:
        raise _store.DataError(f"data.faces: {path} cannot be read as a tar ({error}): fetch it again.") from error


def _read(kind, place, pictures, part, size):
    """Pictures (name -> path or open file) as uint8 (n,3,size,size), cached by what the files look like from outside.

    part(width, height) gives width and height of the middle to keep. Returns the pixels, their names (n,), and a note
    on unreadable files.
    """
    files = [place] if place.is_file() else pictures.values()
    looks = ((path, path.stat() if os.path.exists(path) else path.lstat()) for path in files)
    stats = "".join(f"{path}|{look.st_size}|{look.st_mtime_ns}\n" for path, look in looks)
    rows = {"x": ("u1", 3, size, size), "names": ("U",)}

    def make():
        arrays = _decode(kind, pictures, part, size)
        if not len(arrays["names"]):
            broken = arrays["broken"].tolist()
            raise ValueError(f"data.faces: none of the {len(broken)} images can be read, the first being {broken[0]}. "
                             "Replace them by .jpg or .png images, or take source='drawn'.")
        return arrays

    arrays = _store.cached(f"faces-{kind}-{hashlib.sha256(os.fsencode(stats)).hexdigest()[:12]}-{size}", make,
                           lambda arrays: _reading.unfit(arrays, rows, ("broken",)))
    broken = arrays["broken"].tolist()
    for name in broken[:5]:
        print(f"faces: left out, no readable image: {name}")
    return arrays["x"], arrays["names"], f" ({len(broken)} unreadable ones left out)" if broken else ""


def _decode(kind, pictures, part, size):
    """Pictures as `_read` takes them, as a dict of arrays: the pixels, the names, and what is wrong with the unreadable ones."""
    def one(item):
        name, file = item
        try:
            file = file if isinstance(file, io.BytesIO) else _reading.regular(file)
            with Image.open(file, formats=("JPEG", "PNG")) as image:          # not the fifty others, whatever the name
                if image.width * image.height > _PIXELS:
                    raise ValueError(f"{image.width:,} x {image.height:,} pixels are too many")
                (w, h), (dx, dy) = image.size, part(*image.size)
                box = (w - dx) / 2, (h - dy) / 2, (w + dx) / 2, (h + dy) / 2
                small = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box)      # antialiased
            return name, np.asarray(small).transpose(2, 0, 1), ""
        except Exception as error:                                        # whatever a damaged image makes a decoder raise
            return name, None, _store.printable(f"{name} ({error})")

    with ThreadPoolExecutor(2) as pool, warnings.catch_warnings(action="ignore"):         # of odd metadata
        done = list(tqdm(pool.map(one, pictures.items()), total=len(pictures), desc=f"reading {kind}", leave=False))
    good = [(name, pixels) for name, pixels, broken in done if not broken]
    return {"x": np.array([pixels for _, pixels in good], np.uint8).reshape(-1, 3, size, size),
            "names": np.array([name for name, _ in good], str), "broken": np.array([b for *_, b in done if b], str)}

"""Faces: small color portraits with known factors, or photographs."""

import hashlib
import io
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from . import _portrait, _store
from ._portrait import FACTORS

_DRAWN = {"train": 10_000, "test": 2_000}
_IMAGES = {".jpg", ".jpeg", ".png"}
_CELEBA_KEPT = 24_000                                     # of 202,599: as floats these are 1.2 GB


def faces(split="train", source=None, *, size=64):
    """Colour portraits in which the face fills most of the frame.

    split: "train" or "test". source: "drawn" (embedded: 10,000 and 2,000 painted portraits), "lfw", "celeba", the path
    of a folder of images, or None: what `AECOURSE_DATA` says. size: pixels of a side.
    Returns x, float32 (n, 3, size, size) in [0, 1], and factors, a dict of float32 tensors (n,): all of `FACTORS` for
    "drawn", the 40 attributes for "celeba" if their list is there, else empty. Photographs are split by person ("lfw"),
    by the official partition ("celeba" if its list is there), else by file name, 5 to 1.
    Raises ValueError for an unknown split or source or a folder without images, DataError for absent photographs.
    """
    if split not in _DRAWN:
        raise ValueError(f"data.faces: unknown split {split!r}. Known are 'train' and 'test'.")
    if not (isinstance(size, int) and size >= 8):
        raise ValueError(f"data.faces: size has to be a whole number of pixels, at least 8; given was {size!r}.")
    source = _store.choose("faces", source, "drawn", ("lfw", "celeba"))
    known = {"drawn": _drawn, "lfw": _lfw, "celeba": _celeba}
    x, factors, what = known[source](split, size) if source in known else _folder(source, split, size)
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
    given = {name: np.atleast_1d(np.asarray(value, np.float32)) for name, value in factors.items()}
    if any(value.ndim > 1 for value in given.values()) or len({len(value) for value in given.values()} - {1}) > 1:
        raise ValueError("draw_faces: every factor has to be a number or (n,), with the same n; given were "
                         + ", ".join(f"{name} {value.shape}" for name, value in given.items()))
    for name, value in given.items():
        low, high = FACTORS[name].low, FACTORS[name].high
        if not ((value >= low) & (value <= high)).all():
            raise ValueError(f"draw_faces: {name} has to be in [{low}, {high}]; "
                             f"given were {value.min():g} to {value.max():g}.")
        if name == "hair_style" and (value % 1).any():
            raise ValueError(f"draw_faces: hair_style has to be a whole number: {FACTORS[name].meaning}.")
    n = max((len(value) for value in given.values()), default=1)
    whole = {name: np.broadcast_to(given.get(name, np.float32(factor.neutral)), n) for name, factor in FACTORS.items()}
    return torch.from_numpy(_portrait.render(whole, size)).float().div_(255)


def _drawn(split, size):
    def make():
        factors = _portrait.sample(_DRAWN[split], np.random.default_rng([7, list(_DRAWN).index(split)]))
        return {"x": _portrait.render(factors, size), **factors}

    version = _store.checksum(_portrait.__file__)[:8]                     # another painter, another cache
    arrays = _store.cached(f"faces-drawn-{version}-{split}-{size}", make)
    return arrays.pop("x"), arrays, f"painted portraits with {len(arrays)} known factors"


def _lfw(split, size):
    put = f"put lfw_one_per_person.tar, or the folder 'lfw_funneled' with its folder per person, into {_store.folder()}"
    tar = _store.find("lfw_one_per_person.tar")
    home = _store.find("lfw", "lfw_funneled", "lfw-deepfunneled", "lfw_home")
    if not tar and not home:
        from sklearn.datasets import fetch_lfw_people
        home = _store.folder() / "lfw_home"
        try:
            with _store.arriving(home) as temporary:                      # scikit-learn verifies the checksum
                fetch_lfw_people(data_home=temporary, funneled=True, min_faces_per_person=200, resize=0.2)
        except Exception as error:                                        # whatever the network and the host can do
            raise _store.missing("faces", put, f"LFW could not be downloaded: {error}") from error
    pictures = _in_tar(tar) if tar else _in_folder(home)
    if not pictures:
        raise _store.missing("faces", put, f"no image in {tar or home}")
    middle = lambda w, h: (w * 61 / 250, h * 61 / 250, w * 189 / 250, h * 189 / 250)      # the face of a 250x250 frame
    x, names, note = _read("lfw", [tar] if tar else pictures.values(), pictures, middle, size)
    keep = _by_name((PurePosixPath(name).parent.name for name in names), split)           # no person is in both
    return x[keep], {}, f"photographs of {len({PurePosixPath(name).parent for name in names[keep]}):,} people{note}"


def _celeba(split, size):
    home = _store.find("celeba") or _store.folder() / "celeba"
    put = (f"put CelebA's aligned images into {home / 'img_align_celeba'} "
           "(and list_attr_celeba.txt, list_eval_partition.txt beside it)")
    if not home.exists():
        from torchvision.datasets import CelebA
        try:
            with _store.arriving(home) as temporary:
                CelebA(temporary.parent, split="all", download=True)
                (temporary / "img_align_celeba.zip").unlink(missing_ok=True)
        except Exception as error:                                        # its host refuses in many ways
            raise _store.missing("faces", put, f"CelebA could not be downloaded: {error}") from error
    pictures = _in_folder(home)
    if not pictures:
        raise _store.missing("faces", put, f"no image in {home}")
    kept = list(pictures)[::-(-len(pictures) // _CELEBA_KEPT)]             # evenly spread, to bound the memory
    middle = lambda w, h: (w * 15 / 178, h * 35 / 218, w * 163 / 178, h * 183 / 218)
    x, names, note = _read("celeba", [pictures[k] for k in kept], {k: pictures[k] for k in kept}, middle, size)
    names = [PurePosixPath(name).name for name in names]
    part, attributes = home / "list_eval_partition.txt", home / "list_attr_celeba.txt"
    if part.exists():
        known = dict(line.split() for line in part.read_text().splitlines() if line.strip())
        keep = np.array([{"train": "0", "test": "2"}[split] == known.get(name) for name in names])
    else:
        keep = _by_name(names, split)
    factors = {}
    if attributes.exists():
        _, header, *lines = attributes.read_text().splitlines()
        rows = {name: values for name, *values in map(str.split, lines)}
        table = np.array([rows[name] for name, k in zip(names, keep) if k], np.float32) > 0
        factors = {name: table[:, k].astype(np.float32) for k, name in enumerate(header.split())}
    return x[keep], factors, f"photographs, of {len(kept):,} kept from {len(pictures):,}{note}"


def _folder(path, split, size):
    pictures = _in_folder(path) if path.is_dir() else {}
    if not pictures:
        raise ValueError(f"data.faces: {path} has to be a folder with .jpg or .png images in it; there is none.")

    def middle(w, h):
        side = min(w, h)
        return (w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2

    x, names, note = _read("folder", pictures.values(), pictures, middle, size)
    keep = _by_name(names, split)
    return x[keep], {}, f"images{note}"


def _by_name(names, split):
    """Which of the names are of this split: a fixed hash sends one in six to the test set, whatever else is there."""
    return np.array([(zlib.crc32(name.encode()) % 6 == 0) == (split == "test") for name in names], bool)


def _in_folder(folder):
    """Name -> path of the images at any depth, in the order of their names."""
    paths = [p for p in Path(folder).rglob("*") if p.suffix.lower() in _IMAGES and p.is_file()]
    return {p.relative_to(folder).as_posix(): p for p in sorted(paths)}


def _in_tar(path):
    """Name -> file in memory of a tar's images. Nothing is unpacked to disk."""
    try:
        with tarfile.open(path) as tar:
            members = [m for m in tar if m.isfile() and PurePosixPath(m.name).suffix.lower() in _IMAGES]
            for name in (m.name for m in members):
                if name.startswith("/") or ".." in PurePosixPath(name).parts:
                    raise _store.DataError(f"data.faces: {path} is not to be trusted: {name!r} points out of it.")
            return {m.name: io.BytesIO(tar.extractfile(m).read()) for m in sorted(members, key=lambda m: m.name)}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _store.DataError(f"data.faces: {path} cannot be read as a tar ({error}): fetch it again.") from error


def _read(kind, files, pictures, crop, size):
    """Pictures (name -> path or open file) as uint8 (n,3,size,size), cached by what `files` look like from outside.

    crop(width, height) gives the box to keep. Returns the pixels, their names (n,), and a note on unreadable files.
    """
    def one(item):
        try:
            with Image.open(item[1]) as image:
                box = crop(*image.size)
                small = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box)      # antialiased
            return item[0], np.asarray(small).transpose(2, 0, 1), ""
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return item[0], None, f"{item[0]} ({error})"

    def make():
        with ThreadPoolExecutor(2) as pool:
            done = list(tqdm(pool.map(one, pictures.items()), total=len(pictures), desc=f"reading {kind}", leave=False))
        good = [(name, pixels) for name, pixels, broken in done if not broken]
        return {"x": np.array([pixels for _, pixels in good], np.uint8).reshape(-1, 3, size, size),
                "names": np.array([name for name, _ in good], str), "broken": np.array([b for *_, b in done if b], str)}

    stats = "".join(f"{path}|{path.stat().st_size}|{path.stat().st_mtime_ns}\n" for path in files)
    arrays = _store.cached(f"faces-{kind}-{hashlib.sha256(stats.encode()).hexdigest()[:12]}-{size}", make)
    broken = [str(b) for b in arrays["broken"]]
    if not len(arrays["names"]):
        raise ValueError(f"data.faces: none of the {len(broken)} images can be read, the first being {broken[0]}.")
    for name in broken[:5]:
        print(f"faces: left out, no readable image: {name}")
    return arrays["x"], arrays["names"], f" ({len(broken)} unreadable ones left out)" if broken else ""

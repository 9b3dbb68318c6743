"""Faces: synthetic portraits with known factors, or photographs."""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

from aecourse.data import portrait, store
from aecourse.data.portrait import FACTORS

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

_DRAWN = {"train": 10_000, "test": 2_000}
_SUFFIXES = set(".avif .bmp .gif .heic .jfif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
_FOLDERS = {"train", "training"}, {"test", "testing"}, {"val", "valid", "validation"}
_CELEBA_KEPT = 24_000  # of 202,599: as floats these are 1.2 GB


def faces(
    split: str = "train", source: str | Path | None = None, *, size: int = 64, n: int | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Color portraits in which the face fills most of the frame.

    split: "train" or "test". source: "drawn" (embedded: 10,000 and 2,000 synthetic portraits),
    "lfw", "celeba", a folder of images, or None: what `AECOURSE_DATA` says. n: only the first n.
    Photographs are split by person ("lfw"), by CelebA's partition, by folders named train and test
    (or valid), else 5 to 1 by a hash of the file's name; what is left out is printed.
    Returns x, float32 (n, 3, size, size) in [0, 1], and factors, name -> float32 (n,): `FACTORS`,
    or CelebA's attributes. With `AECOURSE_MEMMAP=1` x is uint8, in a file that may exceed memory.
    Raises ValueError for wrong arguments or no readable image, DataError for absent photographs.
    """
    if split not in _DRAWN:
        raise ValueError(f"data.faces: unknown split {split!r}. Known are 'train' and 'test'.")
    for name, value, least in ("size", size, 8), ("n", 1 if n is None else n, 1):
        if not (isinstance(value, (int, np.integer)) and value >= least):
            raise ValueError(f"data.faces: {name} has to be an integer >= {least}, got {value!r}.")
    source = store.choose("faces", source, "drawn", ("lfw", "celeba"))
    load = {"drawn": _drawn, "lfw": _lfw, "celeba": _celeba}.get(source)
    pixels, factors, what, note = load(split, size) if load else _folder(split, size, source)
    x = torch.from_numpy(pixels[:n])
    store.announce("faces", source, f"{len(x):,} {what}, {size}x{size} ({split}){note}")
    factors = {name: torch.from_numpy(values[:n]) for name, values in factors.items()}
    return x if os.environ.get("AECOURSE_MEMMAP") == "1" else x.float().div_(255), factors


def draw_faces(factors: dict, *, size: int = 64) -> torch.Tensor:
    """Paint faces of these factors, so that one can be changed while all others are held.

    factors: name in `FACTORS` -> a number, or an array or tensor (n,); the others are neutral.
    Returns x, float32 (n, 3, size, size) in [0, 1]. Raises ValueError for wrong names and values.
    """
    if unknown := ", ".join(repr(name) for name in factors if name not in FACTORS):
        raise ValueError(f"draw_faces: unknown factor {unknown}. Known are {', '.join(FACTORS)}.")
    given = {name: np.asarray(value, np.float32) for name, value in factors.items()}
    try:
        (n,) = np.broadcast_shapes((1,), *(value.shape for value in given.values()))
    except ValueError as error:
        raise ValueError(f"draw_faces: factors are numbers or (n,), of one n ({error}).") from error
    for name, value in given.items():
        low, high, meaning, *_ = FACTORS[name]
        valid = (low <= value) & (value <= high) & ((name != "hair_style") | (value % 1 == 0))
        if not valid.all():
            raise ValueError(f"draw_faces: {name} has to be in [{low}, {high}] ({meaning}).")
    every = {k: np.broadcast_to(np.float32(given.get(k, f.neutral)), n) for k, f in FACTORS.items()}
    return torch.from_numpy(portrait.render(every, size)).float().div_(255)


def _drawn(split, size):
    n, generator = _DRAWN[split], np.random.default_rng([7, list(_DRAWN).index(split)])
    factors = portrait.sample(n, generator)
    parts = [{k: v[i : i + 1000] for k, v in factors.items()} for i in range(0, n, 1000)]
    name = f"faces-drawn-{portrait.VERSION}-{split}"
    pixels, _ = _cached(name, n, size, lambda _: (portrait.render(part, size) for part in parts))
    return pixels, factors, f"painted portraits with {len(factors)} known factors", ""


def _lfw(split, size):
    def fetch(folder):
        if archive := store.find("lfw_one_per_person.tar"):
            return shutil.unpack_archive(archive, Path(folder, "lfw_home"), filter="data")
        from sklearn.datasets import fetch_lfw_people  # verifies the checksum

        fetch_lfw_people(data_home=folder, funneled=True, min_faces_per_person=200, resize=0.2)

    place = store.find("lfw", "lfw_funneled", "lfw-deepfunneled", "lfw_home")
    place = place or store.folder() / "lfw_home"
    put = f"put a whole lfw_one_per_person.tar (found: {store.find('lfw_one_per_person.tar')}) or"
    images, skipped = _find(place, fetch, f"{put} lfw_funneled into {store.folder()}")
    mine = _hashed(images, split, lambda path: path.parent.name)
    pixels, read, note = _read("lfw", images, mine, skipped, size, 61 / 250)
    return pixels, {}, f"photographs of {len({p.parent.name for p in read}):,} people", note


def _celeba(split, size, home=None):
    from torchvision.datasets import CelebA  # verifies the checksums

    home = home or store.find("celeba", "celeba-dataset") or store.folder() / "celeba"
    put = f"put CelebA's aligned images into {home / 'img_align_celeba'}, its lists beside it"
    found, skipped = _find(home, partial(CelebA, split="all", download=True), put)
    step = 1 if os.environ.get("AECOURSE_MEMMAP") == "1" else -(-len(found) // _CELEBA_KEPT)
    images = found[::step]
    skipped["to save memory"] = len(found) - len(images)
    mine = _hashed(images, split, lambda path: path.name)
    for parts in _celeba_list(home, "list_eval_partition", images).values():  # one column
        mine = [p for p, k in zip(images, parts) if k == {"train": 0, "test": 2}[split]]
    pixels, read, note = _read("celeba", images, mine, skipped, size, 15 / 178)
    attributes = _celeba_list(home, "list_attr_celeba", read)
    factors = {name: np.float32(values > 0) for name, values in attributes.items()}
    return pixels, factors, "photographs", note


def _celeba_list(home, name, images):
    """A list of CelebA, .txt or Kaggle's .csv: column -> values (n,), or {} if there is none."""
    for path in sorted(home.glob(f"{name}.*")):
        try:
            lines = path.read_text("utf-8-sig").replace(",", " ").splitlines()
            rows = [line.split() for line in lines if line.strip()]
            known = {name: values for name, *values in rows}
            table = np.array([known[image.name] for image in images], np.float32)
            return dict(zip(max(rows[:2], key=len)[-table.shape[1] :], table.T))
        except (OSError, ValueError, LookupError) as error:
            what = f"{path} is no list of CelebA ({error!r}): replace it, or remove it"
            raise store.DataError(f"data.faces: {what}.") from error
    return {}


def _folder(split, size, root):
    if any(root.glob("list_attr_celeba.*")):
        return _celeba(split, size, root)
    images, skipped = _find(root)
    names = {path: path.relative_to(root).as_posix() for path in images}
    folders = {path: set(name.lower().split("/")[:-1]) for path, name in names.items()}
    train, test, valid = ([p for p in images if folders[p] & words] for words in _FOLDERS)
    given = {"train": train, "test": test or valid}
    mine = given[split] if all(given.values()) else _hashed(images, split, names.get)
    pixels, _, note = _read("folder", images, mine, skipped, size)
    return pixels, {}, "images", note


def _hashed(images, split, key):
    """The images of this split: a hash of the key sends one key in six to the test set."""
    keys = sorted({key(path) for path in images})
    if len(keys) < 2:
        raise ValueError(f"data.faces: {images[0]} is alone; 2 are needed, one of them to test on.")
    test = {name for name in keys if zlib.crc32(os.fsencode(name)) % 6 == 0}
    test = test if 0 < len(test) < len(keys) else {*keys[::6]}  # too few for a hash
    return [path for path in images if (key(path) in test) == (split == "test")]


def _find(root, fetch=None, put=None):
    """The images in `root`, which is downloaded if absent; other files, as reason -> number."""
    if fetch and not root.exists():
        try:
            store.folder().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=store.folder()) as folder:
                fetch(folder)
                os.replace(Path(folder, root.name), root)
        except Exception as error:  # network, host, disk and archives raise many kinds
            raise store.missing("faces", put, f"no {root.name}: {error}") from error
    files, seen = [], {}
    for folder, folders, names in os.walk(root, followlinks=True):
        new = seen.setdefault(os.path.realpath(folder), folder) == folder  # not by another link
        folders[:] = [name for name in sorted(folders) if new and name[0] != "."]
        files += [Path(folder, name) for name in sorted(names) if new]
    shown = sorted(path for path in files if path.name[0] != ".")
    images = [path for path in shown if path.suffix.lower() in _SUFFIXES]
    skipped = Counter(f"of another kind ({p.suffix})" for p in sorted({*shown} - {*images}))
    skipped["hidden"] = len(files) - len(shown)
    if not images:
        what = f"{root} is no folder with images in it{_note(skipped)}"
        raise store.missing("faces", put, what) if put else ValueError(f"data.faces: {what}.")
    return images, skipped


def _decode(path, size, bleed):
    """uint8 (1, 3, size, size) of an image as viewers show it: EXIF-turned, on white, 8 bits."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):  # 16 bits, which `convert` would clip at 255
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC, bleed)
    return np.asarray(image).transpose(2, 0, 1)[None].copy()


def _read(kind, images, mine, skipped, size, bleed=0):
    """The images `mine` as uint8 (n, 3, size, size), paths of those read, a note on the others."""

    def chunks(unreadable):
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            for path in tqdm(mine, f"reading {kind}", leave=False):
                try:
                    yield _decode(path, size, bleed)
                except Exception as error:  # damaged images raise many kinds
                    unreadable[str(path)] = str(error) or type(error).__name__
        if len(unreadable) == len(mine):
            example = ": ".join(min(unreadable.items()))
            raise ValueError(f"data.faces: no readable image ({example}). Save as JPEG or PNG.")

    looks = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in mine if p.exists()]
    digest = hashlib.sha256(repr(looks).encode()).hexdigest()[:16]
    pixels, unreadable = _cached(f"faces-{kind}-{digest}", len(mine), size, chunks)
    named = [f"{Path(path).name!r}: {why}" for path, why in sorted(unreadable.items())]
    skipped["of another split"] = len(images) - len(mine)
    skipped[f"unreadable ({', '.join(named[:3])})"] = len(named)
    return pixels, [path for path in mine if str(path) not in unreadable], _note(skipped)


def _note(skipped):
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in skipped.most_common(9) if n)
    return reasons and f"; left out: {reasons}"


def _cached(name, n, size, chunks):
    """n images, mapped from a file that `chunks(unreadable)` yields, less the unreadable ones."""
    path = store.folder() / "cache" / f"{name}-{size}.bin"
    notes = path.with_suffix(".json")
    mode = "c" if 3 * n * size * size < 2**32 else "r"  # Linux counts "c" as memory
    with suppress(OSError, ValueError):  # not there yet, or damaged
        unreadable = json.loads(notes.read_text())
        shape = n - len(unreadable), 3, size, size
        return np.memmap(path, np.uint8, mode, shape=shape), unreadable
    unreadable = {}
    try:
        with store.atomic_write(path) as temporary, open(temporary, "wb") as file:
            file.writelines(chunks(unreadable))
        with store.atomic_write(notes) as temporary:
            temporary.write_text(json.dumps(unreadable))
    except OSError as error:
        print(f"{path.name} could not be kept ({error}): it will be made again next time")
        return np.concatenate(list(chunks(unreadable))), unreadable
    return np.memmap(path, np.uint8, mode).reshape(-1, 3, size, size), unreadable

"""Where data lives, how it gets there, and what is said when it cannot.

Everything arrives whole or not at all: files are written under a temporary name, flushed, verified and renamed.
"""

import hashlib
import http.client
import os
import shutil
import urllib.request
from pathlib import Path

import numpy as np

from aecourse import _reading
from aecourse._writing import arriving


class DataError(RuntimeError):
    """Data that cannot be had: the message says what to put where, and that the embedded data needs nothing."""


def folder():
    """The folder where downloads and caches land: `AECOURSE_DATA_DIR`, else `data/` of the checkout, else a user cache."""
    if os.environ.get("AECOURSE_DATA_DIR"):
        return Path(os.environ["AECOURSE_DATA_DIR"]).expanduser()
    checkout = Path(__file__).resolve().parents[2]
    return checkout / "data" if (checkout / "pyproject.toml").exists() else Path.home() / ".cache" / "aecourse"


def find(*names):
    """The first of these files (or folders) in the data folder, then in the read-only `AECOURSE_MIRROR`; None if absent."""
    places = [folder()] + ([Path(os.environ["AECOURSE_MIRROR"]).expanduser()] if os.environ.get("AECOURSE_MIRROR") else [])
    return next((place / name for place in places for name in names if os.path.exists(place / name)), None)


def choose(kind, source, embedded, real):
    """Which source a call means: its own word, else `AECOURSE_DATA`, else the embedded one.

    `embedded` and `real` stand for the kind's embedded source and for the first of its real ones (a tuple of names).
    Returns one of the names, or a Path where `source` is an existing file or folder. Raises ValueError otherwise.
    """
    word = source if source is not None else os.environ.get("AECOURSE_DATA") or "embedded"
    word = {"embedded": embedded, "real": real[0] if real else embedded}.get(word, word)
    if word in (embedded, *real):
        return word
    if source is not None and os.path.exists(Path(word).expanduser()):
        return Path(word).expanduser()
    names = ", ".join(f"'{name}'" for name in ("embedded", "real", embedded, *real))
    raise ValueError(f"data.{kind}: unknown source {str(word)!r}. Known are {names}, or the path of an existing file or folder.")


def announce(kind, source, what):
    """Say in one line which source is in use: there is never a silent switch."""
    print(f"{kind}: {printable(f'{source}, {what}')}")


def printable(text):
    """A name from outside as it can be shown: what no encoding has, and what steers a terminal, is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def cached(name, make, unfit=lambda arrays: ""):
    """The dict of arrays that `make()` returns, kept as `cache/<name>.npz` in the data folder.

    A damaged cache, or one of which `unfit` says what is wrong with its arrays, is told and made again. A folder that
    cannot be written costs the cache, not the data.
    """
    path = folder() / "cache" / f"{name}.npz"
    if os.path.lexists(path):
        try:
            arrays = _reading.arrays(path)
            arrays = {key: arrays[key] for key in arrays.pop("keys").tolist()}
            if what := unfit(arrays):
                raise ValueError(what)
            return arrays
        except Exception as error:                       # what a damaged or hostile file makes zipfile and NumPy raise
            print(f"{printable(path.name)} is damaged ({printable(error)[:200]}): making it again")
    arrays = make()
    try:
        with arriving(path, sum(array.nbytes for array in arrays.values())) as temporary:
            np.savez(temporary, keys=list(arrays), **arrays)
    except OSError as error:
        print(f"{path.name} could not be kept ({error}): the data is right, but will be made again next time")
    return arrays


def checksum(path, algorithm="sha256"):
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def download(url, path, *, sha256=None, md5=None, timeout=30):
    """Fetch `url` to `path`: verified after the download, then renamed. Raises DataError and leaves nothing behind."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as reply:
            told = reply.headers.get("Content-Length", "")
            size = int(told) if told.isdecimal() else None
            with arriving(path, size) as temporary:
                with open(temporary, "wb") as file:
                    shutil.copyfileobj(reply, file)
                if size is not None and temporary.stat().st_size != size:
                    raise DataError(f"cut off after {temporary.stat().st_size:,} of {size:,} bytes")
                for algorithm, digest in (("sha256", sha256), ("md5", md5)):
                    if digest and checksum(temporary, algorithm) != digest:
                        raise DataError(f"the file that came is not the file that was meant (its {algorithm} differs)")
    except (OSError, http.client.HTTPException, DataError) as error:
        raise DataError(f"could not download {url}: {error}") from error
    return Path(path)


def missing(kind, put, error):
    """The one clear error of a source that cannot be had. `put`: what to put where."""
    return DataError(f"data.{kind}: {error}\nTo use it without a download, {put}.\n"
                     f"The embedded data needs no file and no network: source='embedded'.")

"""Where data lives, how it gets there, and what is said when it cannot.

Everything arrives whole or not at all: files are written under a temporary name, flushed, verified and renamed.
"""

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np


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
    return next((place / name for place in places for name in names if (place / name).exists()), None)


def choose(kind, source, embedded, real):
    """Which source a call means: its own word, else `AECOURSE_DATA`, else the embedded one.

    `embedded` and `real` stand for the kind's embedded source and for the first of its real ones (a tuple of names).
    Returns one of the names, or a Path where `source` is an existing file or folder. Raises ValueError otherwise.
    """
    word = source if source is not None else os.environ.get("AECOURSE_DATA") or "embedded"
    word = {"embedded": embedded, "real": real[0] if real else embedded}.get(word, word)
    if word in (embedded, *real):
        return word
    if source is not None and Path(word).expanduser().exists():
        return Path(word).expanduser()
    names = ", ".join(f"'{name}'" for name in ("embedded", "real", embedded, *real))
    raise ValueError(f"data.{kind}: unknown source {str(word)!r}. Known are {names}, or the path of an existing file or folder.")


def announce(kind, source, what):
    """Say in one line which source is in use: there is never a silent switch."""
    print(f"{kind}: {source}, {what}")


@contextmanager
def arriving(path):
    """A temporary path beside `path`, to be filled with a file or a folder; renamed to `path` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield work / path.name
        if (work / path.name).is_file():
            with open(work / path.name, "rb+") as file:
                os.fsync(file.fileno())
        try:
            os.replace(work / path.name, path)
        except OSError:
            if not path.is_dir():                        # else another process was first: its folder is as good as ours
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def cached(name, make):
    """The dict of arrays that `make()` returns, kept as `cache/<name>.npz` in the data folder.

    A damaged cache is told and made again. A folder that cannot be written costs the cache, not the data.
    """
    path = folder() / "cache" / f"{name}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as file:
                return {str(key): file[key] for key in file["keys"]}   # the zip's CRC is checked in reading
        except (OSError, ValueError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            print(f"{path.name} is damaged ({error}): making it again")
    arrays = make()
    try:
        with arriving(path) as temporary:
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
        with arriving(path) as temporary:
            with urllib.request.urlopen(url, timeout=timeout) as reply, open(temporary, "wb") as file:
                shutil.copyfileobj(reply, file)
                wanted = reply.headers.get("Content-Length")
            if wanted is not None and temporary.stat().st_size != int(wanted):
                raise DataError(f"cut off after {temporary.stat().st_size:,} of {int(wanted):,} bytes")
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

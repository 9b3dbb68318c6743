"""Where data lives, how it gets there, and what is reported when it cannot."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np


class DataError(RuntimeError):
    """Data that cannot be had; the message says what to put where."""


def folder() -> Path:
    """The folder of downloads and caches: `AECOURSE_DATA_DIR`, else `data/` of the checkout."""
    if os.environ.get("AECOURSE_DATA_DIR"):
        return Path(os.environ["AECOURSE_DATA_DIR"]).expanduser()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").exists():
        return checkout / "data"
    return Path.home() / ".cache" / "aecourse"


def find(*names: str) -> Path | None:
    """The first of these files or folders in the data folder, then in `AECOURSE_MIRROR`."""
    places = [folder()]
    if os.environ.get("AECOURSE_MIRROR"):
        places.append(Path(os.environ["AECOURSE_MIRROR"]).expanduser())
    paths = [place / name for place in places for name in names]
    return next((path for path in paths if path.exists()), None)


def choose(
    kind: str, source: str | Path | None, embedded: str, real: tuple[str, ...] = ()
) -> str | Path:
    """The source that a call means: its own word, else `AECOURSE_DATA`, else the embedded one.

    "embedded" and "real" stand for the embedded source of this kind and for its first real one.
    Returns one of the names, or the Path of an existing file or folder; else raises ValueError.
    """
    word = source if source is not None else os.environ.get("AECOURSE_DATA") or "embedded"
    word = {"embedded": embedded, "real": real[0] if real else embedded}.get(word, word)
    if word in (embedded, *real):
        return word
    path = Path(word).expanduser()
    if path.exists():
        return path.resolve()
    known = ", ".join(map(repr, ("embedded", "real", embedded, *real)))
    known += ", or the path of an existing file or folder"
    raise ValueError(f"data.{kind}: unknown source {str(word)!r}. Known are {known}.")


def announce(kind: str, source: str | Path, what: str) -> None:
    """Print in one line which source is in use: a lesson never switches it silently."""
    print(f"{kind}: {source}, {what}")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path to write a file to, which replaces `path` when the block succeeds.

    A process that is killed leaves the old file whole, and at most a hidden `.part` file that may
    be deleted. Raises OSError where there is no room or no right to write.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.add_note(f"{path} was not written; what was there before is as it was.")
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def cached(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The dict of arrays that `make()` returns, kept as `cache/<name>.npz` in the data folder.

    A cache that cannot be read is reported and made again. Where the folder cannot be written, the
    data comes without a cache.
    """
    path = folder() / "cache" / f"{name}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as file:  # verifies the zip's checksums
                return {key: file[key] for key in file.files}
        except Exception as error:  # NumPy and zipfile raise a dozen kinds for a damaged file
            print(f"{path.name} is damaged ({type(error).__name__}): making it again")
    arrays = make()
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        print(f"{path.name} could not be kept ({error}): it will be made again next time")
    return arrays


def download(url: str, name: str, sha256: str) -> Path:
    """Fetch `url` to `name` in the data folder; pooch verifies the checksum. Raises DataError."""
    import pooch

    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder()))
    except Exception as error:  # those of requests, and ValueError for another checksum
        raise DataError(f"could not download {url}: {error}") from error


def missing(kind: str, put: str, error: object) -> DataError:
    """The one clear error of a source that cannot be had. `put` says what to put where."""
    return DataError(
        f"data.{kind}: {error}\nTo use it without a download, {put}.\n"
        f"The embedded data needs no file and no network: source='embedded'."
    )

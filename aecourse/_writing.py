"""Files that arrive whole or not at all, whoever else writes them, and whenever the writer is killed or the disk is full."""

import errno
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from tqdm import tqdm

try:
    import fcntl
except ImportError:                                      # Windows
    fcntl = None

DAY = 86400                                              # seconds
ROOM, RIGHT = "Free some space, or choose a folder with more", "Choose a folder that you may write to"
ADVICE = {errno.ENOSPC: ROOM, errno.EDQUOT: ROOM, errno.EFBIG: "Choose a folder on a disk that takes files as large as that",
          errno.EACCES: RIGHT, errno.EPERM: RIGHT, errno.EROFS: RIGHT}


@contextmanager
def arriving(path, size=None):
    """A temporary path beside `path`, to be filled with a file or a folder; renamed to `path` only if the block succeeds.

    What writers of `path` left when they were killed is removed first, what living ones are writing is not. OSError that
    says what to do: no room there (`size`: how many bytes are to come, where that is known), or no right to write.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _workplace(path) as work:
            yield work / path.name
            if (work / path.name).is_file():
                with open(work / path.name, "rb+") as file:
                    os.fsync(file.fileno())
            try:
                os.replace(work / path.name, path)
            except OSError:
                if not path.is_dir():                    # else another process was first: its folder is as good as ours
                    raise
    except OSError as error:
        if error.errno not in ADVICE:                    # of a network, say: its own words are better
            raise
        raise OSError(error.errno, _explained(path, size, error), str(path)) from error


def _explained(path, size, error):
    of = f" of {tqdm.format_sizeof(size, 'B')}" if size else ""
    text = f"{error.strerror}: {path.name}{of} could not be written"
    if ADVICE[error.errno] is ROOM:
        there = next(folder for folder in path.absolute().parents if os.path.exists(folder))
        text += f", {tqdm.format_sizeof(shutil.disk_usage(there).free, 'B')} are free there"
    return text + ("; the old file is as it was" if os.path.isfile(path) else "") + f". {ADVICE[error.errno]}"


@contextmanager
def _workplace(path):
    """A new folder beside `path`, held while it is in use and then removed, as are those that nobody holds any more."""
    for left in path.parent.glob(f".{escape(path.name)}-????????.part"):
        with _held(left) as held, suppress(OSError):
            if held or held is None and time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left)
    while True:
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".part", dir=path.parent))
        with _held(work) as held:
            if held is not False and work.exists():      # else another process swept it away before it was held
                try:
                    return (yield work)
                finally:
                    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _held(folder):
    """Hold `folder` by a lock that ends with this process at the latest. Gives True, or False where somebody else holds it,
    or None where there are no such locks (Windows, some network drives)."""
    handle = held = None
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
    try:
        yield held
    finally:
        if handle is not None:
            os.close(handle)

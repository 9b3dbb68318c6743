"""Files that nobody vouches for: only regular ones are read, and no size is believed that the file does not bear out.

Every function raises OSError or ValueError saying what is wrong; who calls it says which file that is and what to do.
"""

import bz2
import gzip
import io
import json
import lzma
import stat
import tarfile
import zipfile
import zlib
from math import prod
from pathlib import Path, PurePosixPath

import numpy as np

LARGEST = 2**26                                          # bytes of one recording, image in an archive, or list
FLOOR, RATIO = 2**24, 50                                 # a compressed file may unpack to 16 MiB and 50 times its own size
LONGEST, EXTENDED = 2**13, (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
                            tarfile.GNUTYPE_LONGLINK)    # bytes of what a tar says about a file, and where it says it
PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def regular(path):
    """`path`, which leads to a regular file: a pipe or a device could be read forever."""
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(f"{path} is no regular file")
    return Path(path)


def read(path, largest=LARGEST):
    """The bytes of a file that should be small."""
    if (size := regular(path).stat().st_size) > largest:
        raise OSError(f"{path} has {size:,} bytes, and more than {largest:,} are not read")
    return path.read_bytes()


class _Packed(io.FileIO):
    """A compressed file without stretches of zeros: `gzip` would take a terabyte of them for padding, byte by byte."""

    zeros = 0

    def read(self, size=-1):
        content = super().read(size)
        self.zeros = 0 if content.strip(b"\0") else self.zeros + len(content)
        if self.zeros > 2**16:
            raise OSError("it has nothing but zeros in it")
        return content


class _Unpacked(io.RawIOBase):
    """What a compressed file unpacks to, as long as it stays below `left` bytes and whole."""

    def __init__(self, path, opener, left):
        self.packed, self.left = _Packed(path), left
        self.file = opener(self.packed)

    def readable(self):
        return True

    def readinto(self, buffer):
        try:
            n = self.file.readinto(buffer)
        except (EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
            raise OSError(f"it is damaged: {str(error) or type(error).__name__}") from error
        self.left -= n
        if self.left < 0:
            raise OSError("it unpacks to far more than data does")
        return n

    def close(self):
        self.file.close()
        self.packed.close()
        super().close()


def room(path):
    """How many bytes a file may unpack to."""
    return FLOOR + RATIO * path.stat().st_size


def unpacked(path):
    """A file to read bytes from, plain, or unpacked where it begins as gzip, bzip2 or xz does."""
    with open(regular(path), "rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)
    if path.suffix == ".gz" and opener is not gzip.open:
        raise OSError("it is not gzipped, as its name says")
    return io.BufferedReader(_Unpacked(path, opener, room(path))) if opener else open(path, "rb")


class _Header(tarfile.TarInfo):
    """A header of a tar. A damaged one, which tarfile takes for the archive's end, is an error; so is a long extended one."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(tarfile.BLOCKSIZE):          # the mark of the end
                raise
            raise tarfile.ReadError(f"cut off or damaged, {error}") from error
        if header.size < 0 or header.size > LONGEST and header.type in EXTENDED:       # older tarfiles parse it for hours
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def members(path, wanted):
    """(name, bytes) of each file in a tar whose PurePosixPath `wanted` accepts: none goes to disk, no link is followed."""
    seen = set()
    try:                                                 # as a stream: it cannot be sent backwards, round and round
        with unpacked(path) as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if tar.offset > room(path):              # or tarfile would look for the next one for days
                    raise OSError(f"{member.name!r} is cut off")
                if not member.isreg() or not wanted(name):
                    continue
                if name.is_absolute() or ".." in name.parts:
                    raise OSError(f"it is not to be trusted: {member.name!r} points out of it")
                if member.size > LARGEST or member.issparse() or name in seen:
                    raise OSError(f"{member.name!r} is in it twice" if name in seen else f"{member.name!r} is too large")
                seen.add(name)
                content = tar.extractfile(member).read()
                if len(content) != member.size:
                    raise OSError(f"it is cut off in {member.name!r}")
                yield member.name, content
            behind = tar.fileobj.read(2**20)             # and so to the checksum of a compressed one
            if behind.strip(b"\0") or tar.fileobj.read(1):
                raise OSError("something stands behind its end")
    except OSError:
        raise
    except Exception as error:                           # what hostile headers make tarfile raise
        raise OSError(f"it is no whole tar archive: {error}") from error


def sound_zip(path, largest=2**36):
    """An open ZipFile whose entries are stored as they are, once, and are no more than the file holds."""
    size = regular(path).stat().st_size
    if size > largest:
        raise ValueError(f"it has {size:,} bytes, and more than {largest:,} are not read")
    file = zipfile.ZipFile(path)
    entries = file.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size \
            or len({entry.filename for entry in entries}) < len(entries):
        file.close()
        raise ValueError("its parts are packed, overlap, or have one name")
    return file


def arrays(path):
    """The arrays of an .npz that `np.savez` wrote: name -> array. Pickled objects are refused."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with sound_zip(path) as file:
        for entry in file.infolist():                    # NumPy makes room for what a header says before it looks
            with file.open(entry) as array:
                shape, _, dtype = headers[np.lib.format.read_magic(array)](array)
                if prod(shape) * dtype.itemsize != entry.file_size - array.tell():
                    raise ValueError(f"{entry.filename} is not as long as its shape {shape} says")
    with np.load(path, allow_pickle=False) as file:      # the zip's checksums are verified in reading
        return {name: file[name] for name in file.files}


def unfit(arrays, rows, texts=()):
    """What is wrong with these arrays, in words; "" if nothing. `rows`: name -> dtype and shape of a row, as ("u1", 28, 28).

    All named in `rows` have one length of at least 1, and finite numbers; those in `texts` are strings of any shape.
    """
    if arrays.keys() != {*rows, *texts}:
        return f"it holds {', '.join(arrays) or 'nothing'}, not {', '.join([*rows, *texts])}"
    n = {array.shape[:1] for name, array in arrays.items() if name in rows}
    if len(n) > 1 or n & {(), (0,)}:
        return "its arrays have no rows, or not the same number"
    for name, array in arrays.items():
        kind, *shape = rows.get(name, ("U", *array.shape[1:]))
        if not array.dtype.isnative or not array.dtype.str[1:].startswith(kind) or list(array.shape[1:]) != shape:
            return f"{name} has shape {array.shape} of {array.dtype}"
        if kind[0] == "f" and not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
    return ""


def read_json(path, use):
    """What a JSON file holds, if `use(it)` works; ValueError naming the file if not."""
    try:
        kept = json.loads(read(path))
        use(kept)
    except Exception as error:                           # what `use` makes of what it did not expect
        raise ValueError(f"{path} is damaged or another file ({type(error).__name__}: {error}). "
                         "Restore it, or move it away to start anew.") from error
    return kept

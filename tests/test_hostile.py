"""More than two thousand hostile files: each is refused in clear words or read right, runs no code, and nothing is lost.

A process of its own reads them, with a limit on its memory and a clock for each, and writes a line for every input.
"""

import builtins
import bz2
import collections
import contextlib
import faulthandler
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import pathlib
import pickle
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import wave
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Callable, NamedTuple

import aecourse  # noqa: F401  (before torch, as in the lessons)

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import datasets

from aecourse import __main__ as cli
from aecourse import comparison
from aecourse.data import DataError, digits, faces, noises, speech, transactions
from aecourse.training import History, Update, load_checkpoint, save_checkpoint

joblib = import_module("joblib")                         # comes with scikit-learn
SECONDS, GIBIBYTES, GROWTH = 30, 3, 400                  # for one input; of address space, of it really used (MiB) by all
KINDS = ("checkpoint", "idx", "idx.gz", "cache", "csv", "csv.gz", "wav", "wav in tar", "noise", "jpg", "png", "tar of jpg",
         "celeba", "json")
TODO = re.compile(r"embedded|source=|[Mm]ove it away|fetch it again|[Ww]anted|[Rr]eplace|has to be")


class Kind(NamedTuple):
    """One kind of file, in its smallest form."""
    files: dict                   # path in the data folder -> bytes of what is good
    target: str                   # which of them is damaged
    load: Callable                # data folder -> list of arrays
    valid: Callable               # arrays that differ from the right ones -> whether the format could not know; None: it can
    inputs: Callable              # (good bytes, folder of the case, random) -> (label, bytes or function of a path[, valid])


# -- damage that any file can have ------------------------------------------------------------------------------------------


def damages(good, rng, times=1):
    """Some hundred broken copies of some bytes: (what was done to them, bytes)."""
    n = len(good)
    some = lambda k, low=0, high=n: (rng.randrange(low, high) for _ in range(round(times * k)))
    for end in {0, 1, 2, 3, 4, 6, 8, 16, 100, n // 4, n // 2, n - 1, n - 2, n - 4, n - 8, n - 9, n - 22, n - 100, *some(12)}:
        yield f"cut off at {end}", good[:max(end, 0)]
    for i in [*some(18), *some(8, 0, min(n, 512)), *some(6, max(0, n - 200))]:
        yield f"bit flipped in byte {i}", good[:i] + bytes([good[i] ^ 1 << rng.randrange(8)]) + good[i + 1:]
    for i in some(10, 0, min(n - 4, 96)):                # where headers tell sizes
        yield f"size at {i} enormous", good[:i] + rng.choice([b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0" * 4,
                                                              b"\x80\0\0\0"]) + good[i + 4:]
    for i in some(5):
        j = min(n, i + rng.choice([1, 16, 512, 4096]))
        yield f"{i} to {j} zeroed", good[:i] + bytes(j - i) + good[j:]
        yield f"{i} to {j} twice", good[:j] + good[i:]
        yield f"{i} to {j} missing", good[:i] + good[j:]
        yield f"{i} to {j} noise", good[:i] + rng.randbytes(j - i) + good[j:]
    yield from (("halves swapped", good[n // 2:] + good[:n // 2]), ("backwards", good[::-1]), ("twice", good + good),
                ("garbage behind", good + rng.randbytes(700)), ("garbage before", rng.randbytes(700) + good),
                ("all zeros", bytes(n)), ("all ones", b"\xff" * n), ("noise", rng.randbytes(n)),
                ("a BOM before", b"\xef\xbb\xbf" + good),
                ("null bytes between", good[:n // 2] + b"\0\0" + good[n // 2:]),
                ("utf-16", good.decode("latin1").encode("utf-16")),
                ("an error page", b"<!DOCTYPE html>\n<html><title>404</title></html>\n"), ("gzipped", gzip.compress(good)))
    for name, other in OTHERS.items():
        if not good.startswith(other[:4]):
            yield f"a {name} under this name", other


def obstacles(target):
    """What else than a file can stand under a file's name: (label, a function that puts it there)."""
    def replaced(make):
        def put(path):
            content = path.read_bytes()
            path.unlink()
            make(path, content)
        return put

    def sparse(path, content):
        with open(path, "wb") as file:
            file.write(content)
            file.truncate(10**12)

    def sparse_before(path, content):
        with open(path, "wb") as file:
            file.seek(10**12)
            file.write(content)

    def unreadable(path, content):
        path.write_bytes(content)
        path.chmod(0)

    yield "a folder", replaced(lambda path, _: path.mkdir())
    yield "a full folder", replaced(lambda path, _: (path.mkdir(), (path / target).mkdir(parents=True)))
    yield "a dangling link", replaced(lambda path, _: path.symlink_to("nowhere"))
    yield "a link to itself", replaced(lambda path, _: path.symlink_to(path))
    yield "a link to zeros without end", replaced(lambda path, _: path.symlink_to("/dev/zero"))
    yield "a link to the null device", replaced(lambda path, _: path.symlink_to("/dev/null"))
    yield "a link to another file", replaced(lambda path, _: path.symlink_to(__file__))
    yield "a pipe", replaced(lambda path, _: os.mkfifo(path))
    yield "unreadable", replaced(unreadable)
    yield "a terabyte, sparse", replaced(sparse)
    yield "a terabyte, sparse, before it", replaced(sparse_before)


# -- checkpoints ------------------------------------------------------------------------------------------------------------


def payloads(canary):
    """(function, arguments): each would make the canary."""
    touch, code = ["touch", canary], f"open({canary!r}, 'w').close()"
    legacy = io.BytesIO()
    torch.save(Evil(os.system, " ".join(touch)), legacy, _use_new_zipfile_serialization=False)
    yield from ((os.system, " ".join(touch)), (subprocess.Popen, touch), (subprocess.check_call, touch), (os.mkdir, canary),
                (builtins.exec, code), (builtins.eval, code), (builtins.open, canary, "w"),
                (pathlib.Path.touch, Path(canary)),
                (shutil.copy, __file__, canary), (os.symlink, "/", canary), (pickle.loads, pickle.dumps(
                    Evil(os.mkdir, canary))), (torch.storage._load_from_bytes, legacy.getvalue()), (np.save, canary, 1),
                (torch.save, 1, canary), (joblib.dump, 1, canary))


class Evil:
    """Pickled, it is a call."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


class EvilState(dict):
    def __reduce__(self):
        return dict, (), None, None, iter([("model", Evil(os.mkdir, CANARY))])


class Odd(Evil):
    def __reduce__(self):
        return collections.OrderedDict, (), {"items": "abc", "keys": "abc", "copy": "abc"}


def saved(value, **kwargs):
    buffer = io.BytesIO()
    torch.save(value, buffer, **kwargs)
    return buffer.getvalue()


def archive(pickled, records=(), compression=zipfile.ZIP_STORED, name="archive/data.pkl", more=()):
    """A zip as torch.save makes it, around any pickle."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", compression) as file:
        for key, content in ((name, pickled), ("archive/byteorder", "little"), *dict(records).items(),
                             ("archive/version", "3\n"), *more):
            file.writestr(key, content)
    return buffer.getvalue()


def number(n):
    return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def tensor(numel, size, stride, offset=0, kind=b"FloatStorage", key="0"):
    """The pickle of a tensor that says of itself what you like."""
    storage = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text(key) + text("cpu") + number(numel) + b"tQ"
    return (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(size) + numbers(stride)
            + b"\x89ccollections\nOrderedDict\n)RtR.")


def called(name, argument):
    return b"\x80\x02c" + name + b"\n" + argument + b"\x85R."


def tiny():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 5))
    return model, [Update(lambda model, x: model(x).square().mean(), torch.optim.Adam(model.parameters(), fused=True))]


def a_step(model, updates):
    model.train()
    model.zero_grad()
    updates[0].loss(model, torch.rand(8, 5)).backward()
    updates[0].optimizer.step()


def checkpoint(folder):
    model, updates = tiny()
    a_step(model, updates)
    history = History({"loss": [3.0, 2.0], "valid loss": [4.0, 3.0]})
    history.seconds = [0.1, 0.1]
    save_checkpoint(folder / "run.pt", model, updates, history, "r")
    good = (folder / "run.pt").read_bytes()

    def load(home):
        model, updates = tiny()
        before = [v.clone() for v in model.state_dict().values()]
        try:
            history, epochs = load_checkpoint(home / "run.pt", model, updates, "r")
        except BaseException:                            # refused, nothing may have been put into the model
            assert all(map(torch.equal, before, model.state_dict().values())), "half of it was loaded"
            raise
        a_step(model, updates)                           # with its optimizer's and its random states
        return [*(v.numpy() for v in model.state_dict().values()), np.array(epochs), np.array(history["loss"]),
                np.random.rand(3),
                np.array([random.random(), random.gauss(0, 1)])]

    def inputs(good, case, rng):
        for i, (call, *arguments) in enumerate(payloads(CANARY)):
            evil, name = Evil(call, *arguments), getattr(call, "__name__", call)
            yield f"{name}, a bare pickle", pickle.dumps(evil, protocol=i % 6)
            yield f"{name}, in a zip", archive(pickle.dumps(evil, protocol=2))
            yield f"{name}, saved by torch", saved({"model": evil}, pickle_protocol=2 + i % 4)
            yield f"{name}, saved by an older torch", saved({"model": evil}, _use_new_zipfile_serialization=False)
            yield f"{name}, deep in a good one", saved({**state(), "history": {"loss": [1.0, evil]}})
        for code in (b"cposix\nsystem\n", b"cnt\nsystem\n", b"c__builtin__\nexec\n", b"cbuiltins\nexec\n",
                     b"csys\nmodules\n",
                     b"ctorch.serialization\nadd_safe_globals\n", b"ctorch\nload\n", b"ctorch.hub\nload\n",
                     b"cos.path\nos\n"):
            word = text(f"touch {CANARY}" if b"system" in code else f"open({CANARY!r}, 'w')")
            yield f"{code!r} called", archive(b"\x80\x02" + code + word + b"\x85R.")
            yield f"{code!r} built", archive(b"\x80\x02" + code + word + b"b.")
            yield f"{code!r} as an old instance", archive(b"(" + word + b"i" + code[1:] + b".")
        joined = io.BytesIO()
        joblib.dump(Evil(os.mkdir, CANARY), joined)
        yield "a joblib dump", joined.getvalue()
        yield "an npz of objects", npz({"x": np.array([Evil(os.mkdir, CANARY)], object)})
        yield "an npy of objects", npy(np.array([Evil(os.mkdir, CANARY)], object))
        old = io.BytesIO()
        with tarfile.open(fileobj=old, mode="w") as tar:
            for name in ("sys_info", "storages", "tensors", "pickle"):
                body = pickle.dumps(Evil(os.mkdir, CANARY))
                tar.addfile(member(name, len(body)), io.BytesIO(body))
        yield "the oldest format, a tar", old.getvalue()
        program = ("archive/code/__torch__.py", f"def forward(self):\n  open({CANARY!r}, 'w')\n")
        yield "a TorchScript archive", archive(pickle.dumps(1, 2),
                                               more=(program, ("archive/constants.pkl", pickle.dumps((), 2))))
        yield "a TorchScript archive with a call", archive(pickle.dumps(Evil(os.mkdir, CANARY), 2), more=(
            program, ("archive/constants.pkl", pickle.dumps(Evil(os.mkdir, CANARY), 2))))
        yield "a call by setitems", archive(pickle.dumps(EvilState(), 2))

        record = {"archive/data/0": struct.pack("<4f", 1, 2, 3, 4)}
        for what, body in {
                "numel of a million": tensor(10**6, [10**6], [1]), "numel of 10^12": tensor(10**12, [4], [1]),
            "numel < 0": tensor(-4, [4], [1]),
                "more than it stores": tensor(4, [1000], [1]), "all of one number": tensor(4, [10**12], [0]),
            "offset": tensor(4, [4], [1], 9),
                "offset < 0": tensor(4, [4], [1], -1), "stride < 0": tensor(4, [4], [-1], 3),
            "size < 0": tensor(4, [-4], [1]),
                "no such record": tensor(4, [4], [1], key="7"),
            "a record that climbs": tensor(4, [4], [1], key="../../../0"),
                "another dtype": tensor(4, [4], [1], kind=b"LongStorage"),
            "no such dtype": tensor(4, [4], [1], kind=b"EvilStorage"),
                "10^12 bytes": called(b"builtins\nbytearray", number(10**12)),
            "a tensor of 10^12": called(b"torch\nFloatTensor", number(10**12)),
                "a storage of 10^12": called(b"torch.storage\nUntypedStorage", number(10**12)),
            "2^40 digits": b"\x80\x02\x8b\xff\xff\xff\x7f.",
                "a long text": b"\x80\x02X\xff\xff\xff\xff.", "an endless tuple": b"\x80\x02" + b"(" * 10**5 + b".",
            "no end": b"\x80\x02N" * 9,
                "a stack that is empty": b"\x80\x02R.", "itself": b"\x80\x02]q\x00h\x00a.",
            "deep": b"\x80\x02" + b"]" * 30_000 + b"a" * 29_999 + b".",
                "a memo far out": b"\x80\x02Nr\xff\xff\xff\x7f.", "nothing": b"", "an integer": b"\x80\x02K\x01.",
            "a list": b"\x80\x02].",
        }.items():
            yield f"a pickle with {what}", archive(body, record)
        laughs = [1.0]
        for _ in range(60):
            laughs = [laughs, laughs]
        loop = []
        loop.append(loop)
        expanded, far = torch.zeros(1).expand(10**12), {"version": 1, "assign_to_params_buffers": True}
        for what, path, value in [
                ("no model", "model", None), ("a list of weights", "model", []), ("no weights", "model", {}),
            ("laughs", "model", laughs),
                *((f"a weight {what}", "model/0.weight", value) for what, value in {
                    "too large": torch.zeros(3, 6), "missing": None, "of text": "abc",
                    "of whole numbers": torch.zeros(3, 5, dtype=torch.int64),
                    "of complex numbers": torch.zeros(3, 5, dtype=torch.complex64), "expanded": expanded,
                    "empty": torch.zeros(0),
                    "laughing": laughs}.items()),
                ("one weight more", "model/9.weight", torch.zeros(3)), ("a number as a name", "model/7", torch.zeros(3)),
                *((f"optimizers {what}", "optimizers", value) for what, value in {
                    "none": [], "a number": 7, "two": [{}, {}], "text": "ab", "laughing": [laughs],
                    "looping": loop}.items()),
                *((f"a moment {what}", "optimizers/0/state/0/exp_avg", value) for what, value in {
                    "of one number": torch.zeros(()), "too small": torch.zeros(1, 5), "too large": torch.zeros(30, 50),
                    "of text": "a",
                    "of doubles": torch.zeros(3, 5, dtype=torch.float64), "laughing": laughs, "missing": None,
                    "expanded": expanded}.items()),
                ("a step of text", "optimizers/0/state/0/step", "3"),
            ("a state of no parameter", "optimizers/0/state/77", {}),
                ("a state that laughs", "optimizers/0/state", laughs),
            ("a rate of text", "optimizers/0/param_groups/0/lr", "high"),
                ("betas of text", "optimizers/0/param_groups/0/betas", "ab"),
            ("other parameters", "optimizers/0/param_groups/0/params", [5]),
                ("no groups", "optimizers/0/param_groups", []), ("groups that laugh", "optimizers/0/param_groups", laughs),
                ("a history of text", "history", "abc"), ("a history that is a list", "history", [1.0]),
            ("laughs in it", "history/loss", laughs),
                ("a loss of text", "history/loss", ["a", "b"]), ("a loss too long", "history/loss", [1.0] * 9),
            ("a tensor", "history/loss", torch.ones(2)),
                ("seconds of text", "seconds", "abc"), ("seconds that are one", "seconds", 3),
            ("no seconds", "seconds", None),
                ("no random states", "random", {}), ("random text", "random", "abc"), ("random laughs", "random", laughs),
                ("Python's short", "random/python", (3, (1, 2), None)), ("Python's text", "random/python", "abc"),
                ("Python's gauss a text", "random/python", (*random.getstate()[:2], "abc")),
            ("NumPy's none", "random/numpy", {}),
                ("NumPy's place far out", "random/numpy/state/pos", 2**31 - 1),
            ("NumPy's place before", "random/numpy/state/pos", -5),
                ("NumPy's place enormous", "random/numpy/state/pos", 10**300),
            ("NumPy's key short", "random/numpy/state/key", torch.zeros(3)),
                ("NumPy's key expanded", "random/numpy/state/key", torch.zeros(1, dtype=torch.int64).expand(10**12)),
                ("NumPy's of another kind", "random/numpy/bit_generator", "PCG64"),
            ("torch's short", "random/torch", torch.zeros(3, dtype=torch.uint8)),
                ("torch's zeros", "random/torch", torch.zeros(5056, dtype=torch.uint8)),
            ("torch's floats", "random/torch", torch.zeros(5056)),
                ("a GPU's of text", "random/cuda", ["abc"]),
            ("a loader's that is not there", "random/loader", torch.zeros(5056, dtype=torch.uint8)),
                ("another recipe", "recipe", "s"), ("a recipe that is a tensor", "recipe", torch.ones(2)),
            ("no recipe", "recipe", None)]:
            changed = put_in(state(), path.split("/"), value)
            yield f"a state with {what}", saved(changed)
        for what, metadata in (("assign", {"": far, "0": far, "1": far, "2": far}), ("a list", []), ("text", "abc")):
            changed = state()
            changed["model"] = collections.OrderedDict(changed["model"])
            changed["model"]._metadata = metadata
            yield f"metadata: {what}", saved(changed)    # of no use to the reader, which has its own
        yield "methods of its own", saved({**state(), "model": Odd(None)})

        body = zipfile.ZipFile(io.BytesIO(good)).read("run/data.pkl") if b"run/data.pkl" in good else inner(good)
        yield "two pickles", archive(body, more=(("other/data.pkl", body),))
        yield "a pickle in capitals beside it", archive(body, name="archive/DATA.PKL",
                                                        more=(("other/data.pkl", b"\x80\x02K\x01."),))
        yield "one name twice", archive(body, more=(("archive/data.pkl", body),))
        yield "packed", archive(body, compression=zipfile.ZIP_DEFLATED)
        yield "a bomb", archive(body, {"archive/data/0": bytes(2**24)}, zipfile.ZIP_DEFLATED)
        yield from zip_lies(good)
        yield from damages(good, rng)

    return Kind({"run.pt": good}, "run.pt", load, None, inputs)


def state():
    return torch.load(io.BytesIO(GOOD["checkpoint"]), weights_only=True)


def inner(good):
    with zipfile.ZipFile(io.BytesIO(good)) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


def put_in(value, path, what):
    """`what` at this path of nested containers; None takes the entry out."""
    *way, last = (int(step) if step.isdigit() and step != "7" else step for step in path)
    part = value
    for step in way:
        part = part[step]
    if what is None:
        del part[last]
    else:
        part[7 if last == "7" else last] = what
    return value


def zip_lies(good):
    """Zips whose directory says what is not so."""
    places = [m.start() for m in re.finditer(b"PK\x01\x02", good)]
    for i in places[:3]:
        for at, size, what in ((8, 2, "encrypted"), (10, 2, "a method"), (16, 4, "a checksum"), (20, 4, "a packed size"),
                               (24, 4, "a size"),
                               (28, 2, "a name's length"), (30, 2, "an extra length"), (42, 4, "an offset")):
            for value in (b"\xff" * size, b"\x01" + bytes(size - 1)):
                yield f"a zip that lies about {what} at {i}", good[:i + at] + value + good[i + at + size:]
    end = good.rindex(b"PK\x05\x06")
    for at in (4, 6, 8, 10, 12, 16, 20):
        yield f"a zip whose end lies at {at}", good[:end + at] + b"\xfe\xff" + good[end + at + 2:]


# -- arrays -----------------------------------------------------------------------------------------------------------------


def npz(arrays, compressed=False):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def lying_npy(shape, descr="<f8", body=bytes(64), version=b"\x01\x00"):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(header)) + header + body


def idx(array, code=8, dims=None, values=None):
    """The bytes of an idx file (http://yann.lecun.com/exdb/mnist), whatever it says of itself."""
    dims = array.shape if dims is None else dims
    return struct.pack(f">HBB{len(dims)}I", 0, code, len(dims), *dims) + (array.tobytes() if values is None else values)


def mnist(folder, gz):
    rng, files = np.random.default_rng(0), {}
    for prefix, n in (("train", 6), ("t10k", 5)):
        files[f"MNIST/raw/{prefix}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"MNIST/raw/{prefix}-labels-idx1-ubyte"] = idx(rng.integers(0, 10, n, dtype=np.uint8))
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    if datasets.MNIST.mirrors != ["http://127.0.0.1:9/"]:                  # nobody listens there
        datasets.MNIST.mirrors = ["http://127.0.0.1:9/"]
        datasets.MNIST.resources = [(Path(name).name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]

    def valid(x, y):
        return x.shape == (len(y), 1, 28, 28) and x.min() >= 0 and x.max() <= 1 and y.min() >= 0 and y.max() <= 9

    def inputs(good, case, rng):
        if gz:
            yield from damages(good, rng, times=2)
            yield "a bomb", gzip.compress(bytes(2**24)) * 50
            yield "another good file", gzip.compress(idx(np.zeros((5, 28, 28), np.uint8)))
            return
        zeros = np.zeros((5, 28, 28), np.uint8)
        for dims in ((0, 28, 28), (5, 28, 28, 1), (5, 784), (5,), (), (4, 28, 28), (6, 28, 28), (5, 14, 56), (5, 56, 14),
                     (1, 28, 140),
                     (2**31, 28, 28), (2**32 - 1,) * 3, (10**6, 10**3, 10**3), (1,) * 9, (0,) * 3, (5, 28, 0)):
            yield f"dimensions {dims}", idx(zeros, dims=dims)
        for code in (0, 7, 9, 10, 11, 12, 13, 14, 15, 255):
            for width in (1, {9: 1, 11: 2, 12: 4, 13: 4}.get(code, 8)):
                yield f"values of type {code}, {width} bytes each", idx(zeros, code=code, values=bytes(width * zeros.size))
        yield from damages(good, rng)

    end = ".gz" if gz else ""
    return Kind(packed if gz else files, f"MNIST/raw/t10k-images-idx3-ubyte{end}",
                lambda home: [v.numpy() for v in digits("test", "mnist")], None if gz else valid, inputs)


def labels(folder):
    """The other file of a pair."""
    whole = mnist(folder, gz=False)

    def inputs(good, case, rng):
        for value in (10, 200, 255):
            yield f"label {value}", idx(np.array([1, 2, value, 3, 4], np.uint8))
        for n in (0, 1, 4, 6, 1000):
            yield f"{n} labels", idx(np.zeros(n, np.uint8))
        yield from list(damages(good, rng))[::3]

    return whole._replace(target="MNIST/raw/t10k-labels-idx1-ubyte", inputs=inputs)


def small(module, name, value):
    """Put something small in the place of what makes the embedded data."""
    setattr(import_module(module), name, value)


def cache(which):
    """The cache of a reader, whose embedded data is small here."""
    def make(folder):
        rng = np.random.default_rng(0)
        files, bad = {}, {}
        if which == "digits":
            made = {"x": rng.integers(0, 256, (4, 28, 28), dtype=np.uint8), "y": np.arange(4, dtype=np.uint8)}
            small("aecourse.data.digits", "_strokes", lambda split: made)
            load = lambda home: [v.numpy() for v in digits("test", "strokes")]
            bad = {"y": [np.array([1, 2, 200, 3], np.uint8), np.arange(4.0), np.arange(4, dtype=np.int8),
                         np.arange(3, dtype=np.uint8),
                         np.array(["1"] * 4)], "x": [np.zeros((0, 28, 28), np.uint8), np.zeros((4, 27, 28), np.uint8),
                                                     np.zeros((4, 28, 28)),
                                                     np.zeros((), np.uint8), np.full((4, 28, 28), np.nan),
                                                     np.zeros((5, 28, 28), np.uint8)]}
        elif which == "speech":
            made = {"x": rng.integers(-9, 9, (4, 8000)).astype(np.int16), "y": np.arange(4, dtype=np.uint8),
                    "length": np.array([100, 8000, 7, 9]), "voice": np.array(["ann", "bob", "ann", "eve"])}
            small("aecourse.data.speech", "synthesize", lambda split: made)
            load = lambda home: [speech("test", "synthesised").x.numpy(),
                                 *map(np.asarray, speech("test", "synthesised")[1:])]
            bad = {"y": [np.full(4, 10, np.uint8), np.zeros(0, np.uint8)],
                   "x": [np.zeros((4, 8000)), np.zeros((4, 7999), np.int16),
                   np.zeros((4, 8000), ">i2")], "length": [np.array([0, 1, 2, 3]), np.array([9, 9, 9, 8001]),
                                                           np.array([-1, 9, 9, 9])],
                   "voice": [np.arange(4), np.array([b"a"] * 4), np.array(["a"] * 3)]}
        elif which == "noises":
            made = {kind: rng.normal(size=800).astype(np.float32) for kind in ("running tap", "dishes", "white")}
            small("aecourse.data.speech", "_synthesized_noises", lambda: made)
            load = lambda home: [v.numpy() for v in noises("test", "synthesised").values()]
            bad = {"dishes": [np.full(800, np.nan, np.float32), np.zeros(800, int), np.zeros((800, 2), np.float32),
                              np.array("a"),
                              np.full(800, np.inf, np.float32), np.zeros(0, np.float32)]}
        elif which == "faces":
            module = import_module("aecourse.data.faces")
            module._DRAWN = {"train": 3, "test": 2}
            made = module._portrait.sample(2, np.random.default_rng(0))
            x = rng.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
            module._portrait.render = lambda factors, size=64: x
            load = lambda home: [v.numpy() for v in (lambda x, f: (x, *f.values()))(*faces("test", "drawn", size=8))]
            bad = {"x": [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 3, 8, 8))], "smile": [
                np.full(2, np.nan, np.float32), np.zeros((2, 2), np.float32), np.zeros(3, np.float32), np.array(["a", "b"])]}
        else:
            files = {"mine.csv": csv_file(rows())}
            load = lambda home: table(home / "mine.csv")
            bad = {"x": [np.zeros((60, 28), np.float32), np.full((60, 29), np.inf, np.float32), np.zeros((60, 29))],
                   "kind": [np.array(["a"] * 60), np.zeros(60)],
                   "hours": [np.full(60, np.nan), np.zeros(59), np.zeros(60, int)],
                   "weight": [np.zeros((60, 1), np.float32)], "note": [np.zeros(3), np.array(3)]}
        path = fresh(folder, files)
        quietly(lambda: load(path))
        (target,) = (path / "cache").iterdir()
        good = target.read_bytes()

        def inputs(good, case, rng):
            with np.load(io.BytesIO(good)) as file:
                arrays = {name: file[name] for name in file.files}
            for name, values in bad.items():
                for value in values:
                    yield f"{name} of shape {value.shape}, {value.dtype}", npz(arrays | {name: value})
            if which == "digits":
                yield "an array less", npz({k: v for k, v in arrays.items() if k != "y"})
                yield "an array more", npz(arrays | {"z": np.zeros(3), "keys": np.array(["x", "y", "z"])})
                for keys in (np.array(["x"]), np.array(["x", "q"]), np.array(3), np.array([["x", "y"]]), np.array([1.5]),
                             np.array(["x"] * 10**5)):
                    yield f"keys {keys.shape} {keys.dtype}", npz(arrays | {"keys": keys})
                yield "no keys", npz({k: v for k, v in arrays.items() if k != "keys"})
                yield "packed", npz(arrays, compressed=True)
                yield "a bomb", npz(arrays | {"x": np.zeros((20_000, 28, 28), np.uint8)}, compressed=True)
                yield "objects", npz(arrays | {"y": np.array([Evil(os.mkdir, CANARY)], object)})
                yield "objects as keys", npz(arrays | {"keys": np.array([Evil(os.mkdir, CANARY)], object)})
                yield "objects alone", npy(np.array([Evil(os.mkdir, CANARY)], object))
                yield "a pickle", pickle.dumps(Evil(os.mkdir, CANARY))
                yield "one array", npy(np.zeros(4))
                for lie in ((10**12,), (10**6, 10**6), (2**62, 4), (-1,), (1.5,), "(9,)*9", "__import__('os').mkdir",
                            (9,) * 70):
                    yield f"an npy of shape {lie}", archive(b"",
                                                            more=(("y.npy", lying_npy(lie)),
                                                                  ("keys.npy", npy(np.array(["y"])))))
                    yield f"an npy of shape {lie}, alone", lying_npy(lie)
                for descr in ("|O", "<V1000000000000", "<U1000000000", "abc", "<f16", [("a", "O")], "<M8", ">f8"):
                    for version in (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"):
                        yield f"an npy of {descr}, {version}", archive(b"",
                                                                       more=(("x.npy",
                                                                              lying_npy((1,), descr, version=version)),))
            yield from list(zip_lies(good))[::2 if which == "digits" else 9]
            yield from list(damages(good, rng))[::2 if which == "digits" else 9]

        return Kind(files | {f"cache/{target.name}": good}, f"cache/{target.name}", load, None, inputs)
    return make


# -- tables -----------------------------------------------------------------------------------------------------------------

COLUMNS = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class")


def rows(n=60):
    rng = np.random.default_rng(0)
    cells = np.column_stack([np.linspace(0, 172_700, n).round(), rng.normal(size=(n, 28)).round(3),
                             rng.lognormal(3, 1, n).round(2)])
    return [[*(f"{v:g}" for v in row), str(int(i % 10 == 3))] for i, row in enumerate(cells)]


def csv_file(table, header=COLUMNS, sep=",", end="\n"):
    return end.join(sep.join(row) for row in (header, *table)).encode() + end.encode()


def table(path):
    got = [transactions(split, path) for split in ("train", "valid", "test")]
    return [torch.cat([getattr(part, name) for part in got]).numpy() for name in ("x", "y", "hours", "amount", "weight")]


def csv(folder, gz):
    def valid(x, y, hours, amount, weight):
        return x.shape == (len(y), 29) and all(np.isfinite(v).all() for v in (x, hours, amount, weight)) and set(y) == {0,
                                                                                                                        1} \
            and (amount >= 0).all() and (hours >= 0).all()

    def inputs(good, case, rng):
        pack = gzip.compress if gz else bytes
        if gz:
            yield "a bomb of one line", gzip.compress(bytes(2**22)) * 9
            yield "a bomb of blank lines", gzip.compress(b"\n" * 2**22) * 9
            yield "a bomb of rows", gzip.compress(good) + gzip.compress(("0," * 30 + "0\n").encode() * 2**16) * 9
            yield "not gzipped", gzip.decompress(good)
            yield "xz", lzma.compress(gzip.decompress(good))
            yield "gzipped twice", gzip.compress(good)
        plain = csv_file(rows())
        for row, column, value in ((r, c, v) for r in (0, 59) for c in (0, 5, 29, 30) for v in (
                "nan", "inf", "-inf", "1e400", "1e39", "-1", "", " ", "text", "1_0", "0x1F", "1,5", "\0", "٣", "2", "1e-400",
            "\"", "#", "--1",
                "9" * 400, "1\r", "None", "=1+1")):
            cells = rows()
            cells[row][column] = value
            if (row, column) in ((0, 0), (59, 5), (59, 30), (0, 29)) or not gz and row == column == 0:
                yield f"{value[:9]!r} in row {row}, column {column}", pack(csv_file(cells)), valid
        for what, content in {
                "no rows": csv_file([]), "no header": csv_file(rows()[1:], rows()[0]), "a blank header": b"\n" + plain,
                "a row too short": plain + b"1,2,3\n",
            "a row too long": plain + ",".join(rows()[1] + ["7"]).encode() + b"\n",
                "a column too few": csv_file([row[:-1] for row in rows()], COLUMNS[:-1]),
            "all one column twice": csv_file(rows(), ("Time",) * 31),
                "Class twice": csv_file([row + ["1"] for row in rows()], (*COLUMNS, "Class")),
            "semicolons": csv_file(rows(), sep=";"),
                "tabs": csv_file(rows(), sep="\t"),
            "a million columns": b",".join([b"V"] * 10**6) + b"\n" + b",".join([b"1"] * 10**6),
                "a million empty cells": plain + b"," * 10**6, "a header of a megabyte": b"V" * 10**6 + plain,
            "one Class": csv_file(rows()[:3]),
                "nulls": bytes(5000), "a quote that is not closed": plain.replace(b",0\n", b',"0\n', 1),
            "a quoted line end": b'"Ti\nme"' + plain[4:],
                "latin1": plain.replace(b"Amount", "Betr\xe4ge".encode("latin1")),
            "all on one line": plain.replace(b"\n", b","),
                "a surrogate": plain.replace(b"V1,", b"\xed\xa0\x80,"), "only commas": b"," * 60_000,
            "an exponent": plain.replace(b".", b"e"),
        }.items():
            yield what, pack(content)
        for what, content in {"old line ends": csv_file(rows(), end="\r"), "Windows line ends": csv_file(rows(), end="\r\n"),
                              "mixed line ends": plain.replace(b"\n", b"\r\n", 20), "a BOM": b"\xef\xbb\xbf" + plain,
                              "blank lines": plain + b"\n\n\n",
                              "comments": plain + b"# the end\n",
                              "quoted": re.sub(rb"[^,\n]+", lambda m: b'"' + m[0] + b'"', plain)}.items():
            yield what, pack(content)
        yield from damages(good, rng)

    name = "mine.csv.gz" if gz else "mine.csv"
    good = gzip.compress(csv_file(rows()), mtime=0) if gz else csv_file(rows())
    return Kind({name: good}, name, lambda home: table(home / name), None if gz else valid, inputs)


# -- sounds -----------------------------------------------------------------------------------------------------------------


def wav(n=400, rate=8000, channels=1, width=2, seed=0):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels), file.setsampwidth(width), file.setframerate(rate)
        file.writeframes(random.Random(seed).randbytes(n * width * channels))
    return buffer.getvalue()


def chunk(name, body, size=None):
    return name + struct.pack("<I", len(body) if size is None else size) + body


def hostile_wavs():
    form = lambda tag=1, channels=1, rate=8000, align=2, bits=16: struct.pack("<HHIIHH", tag, channels, rate, rate * align,
                                                                              align, bits)
    riff = lambda *chunks, size=None: chunk(b"RIFF", b"WAVE" + b"".join(chunks), size)
    sound = chunk(b"data", random.Random(1).randbytes(800))
    for what, value in {"no channel": form(channels=0), "65535 channels": form(channels=65535), "no bits": form(bits=0),
                        "8 bits": form(bits=8),
                        "12 bits": form(bits=12), "24 bits": form(bits=24), "65535 bits": form(bits=65535),
                        "no rate": form(rate=0),
                        "a rate of 2^32": form()[:4] + b"\xff" * 4 + form()[8:], "ADPCM": form(tag=2),
                        "floats": form(tag=3, bits=32),
                        "mp3": form(tag=85), "extensible": form(tag=65534), "extensible, whole": form(tag=65534) + bytes(24),
                        "a short format": form()[:9],
                        "none of it": b""}.items():
        yield f"a wav with {what}", riff(chunk(b"fmt ", value), sound)
    for size in (0, 1, 3, 799, 801, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1):
        yield f"a sound of {size} bytes, it says", riff(chunk(b"fmt ", form()), chunk(b"data", sound[8:], size))
        yield f"a format of {size} bytes, it says", riff(chunk(b"fmt ", form(), size), sound)
        yield f"a file of {size} bytes, it says", riff(chunk(b"fmt ", form()), sound, size=size)
        yield f"a strange chunk of {size} bytes, it says", riff(chunk(b"LIST", b"abcd", size), chunk(b"fmt ", form()), sound)
    yield "sound before its format", riff(sound, chunk(b"fmt ", form()))
    yield "ten thousand chunks", riff(*[chunk(b"junk", b"")] * 10_000, chunk(b"fmt ", form()), sound)
    yield "wavs within wavs", functools.reduce(lambda inside, _: riff(chunk(b"data", inside)), range(50), b"")
    yield "two sounds", riff(chunk(b"fmt ", form()), sound, sound)
    yield "RIFX", b"RIFX" + wav()[4:]
    yield "RF64", b"RF64" + wav()[4:]
    for n, rate, channels, width in ((0, 8000, 1, 2), (1, 8000, 1, 2), (9, 44_100, 1, 2), (9, 8000, 2, 2), (9, 8000, 1, 1),
                                     (9, 8000, 1, 3),
                                     (9, 8000, 1, 4), (10**6, 8000, 1, 2)):
        yield f"{n} samples, {rate} a second, {channels} channels of {width} bytes", wav(n, rate, channels, width)


def heard(x, y, voice, length):
    return x.shape == (len(y), 8000) and np.isfinite(x).all() and np.abs(x).max() <= 1 and y.max() <= 9 and length.min() > 0


def spoken(path):
    return [np.asarray(v) for v in speech("train", path)]


def wavs(folder):
    names = ("1_ann_7.wav", "2_bob_8.wav", "3_ann_0.wav")
    files = {f"words/{name}": wav(seed=i) for i, name in enumerate(names)}

    def inputs(good, case, rng):
        yield from hostile_wavs()
        for name in ("1_ann_99999999999999999999.wav", "\u0661_ann_7.wav", "1_" + "a" * 200 + "_7.wav", "1_a\x1b[2J_7.wav",
                     "1_\udcff_7.wav", "1_a\n_7.wav",
                     "1_ann_7.wav.wav", ".wav", "1_ann_-7.wav", "1__7.wav"):
            yield f"a name {name[:20]!r}", lambda path, name=name: (path.parent / name).write_bytes(wav(seed=9)), heard
        yield "a folder that is a word", lambda path: (path.parent / "4_ann_7.wav").mkdir()
        yield "a pipe that is a word", lambda path: os.mkfifo(path.parent / "4_ann_7.wav")
        yield "a link to a folder above", lambda path: (path.parent / "up").symlink_to(path.parent.parent), heard
        yield from damages(good, rng)

    return Kind(files, "words/1_ann_7.wav", lambda home: spoken(home / "words"), heard, inputs)


def noise(folder):
    files = {f"noise/{name}.wav": wav(90_000, seed=i) for i,
             name in enumerate(("running_tap", "doing_the_dishes", "white_noise"))}

    def valid(*clips):
        return all(clip.ndim == 1 and np.isfinite(clip).all() and len(clip) > 9 for clip in clips)

    def inputs(good, case, rng):
        yield "silence", wav(90_000)[:44] + bytes(180_000)
        yield "silent to the end", good[:44 + 100_000] + bytes(80_000)
        yield from hostile_wavs()
        yield from damages(good, rng)

    return Kind(files, "noise/running_tap.wav", lambda home: [v.numpy() for v in noises("test", "recorded").values()], valid,
                inputs)


# -- archives ---------------------------------------------------------------------------------------------------------------


def member(name, size=0, **more):
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar(members, mode="w", form=tarfile.PAX_FORMAT, end=True):
    """A tar of (TarInfo or name, bytes); a TarInfo may lie about the size."""
    buffer = io.BytesIO()
    for info, body in members:
        info = member(info, len(body)) if isinstance(info, str) else info
        buffer.write(info.tobuf(form, "utf-8", "surrogateescape") + body + bytes(-len(body) % 512))
    buffer.write(bytes(1024 if end else 0))
    return {"w": bytes, "w:gz": functools.partial(gzip.compress, mtime=0), "w:bz2": bz2.compress,
            "w:xz": lzma.compress}[mode](buffer.getvalue())


def checksummed(header):
    header = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def patched(name, body, at, value):
    """One member in whose header some bytes stand that no honest tar has; the header's checksum is right."""
    header = member(name, len(body)).tobuf(tarfile.USTAR_FORMAT)
    return checksummed(header[:at] + value + header[at + len(value):]) + body + bytes(-len(body) % 512)


def hostile_tars(good, case, name, body, start):
    """`good`: (name, bytes) of what should be in it; (name, body): something else that a reader would take."""
    outside = str(case / "elsewhere" / "evil")
    for path in (f"../{name}", f"../../../{name}", f"a/../../{name}", f"{outside}/{name}", f"/{name}", f"..//{name}",
                 f"./../{name}", f"a/b/../../../{name}",
                 f"../elsewhere/{name}", f"//{name}"):
        yield f"a path {path[-25:]!r}", tar([*good, (path, body)])
        yield f"a path {path[-25:]!r}, gzipped", tar([(path, body), *good], "w:gz")
    for path in (f"{name[:-4]}\udcff{name[-4:]}", f"{name[:-4]}\x1b[31m{name[-4:]}", f"{name[:-4]}\n{name[-4:]}",
                 "a/" * 300 + name, f"\u202e{name}",
                 f"{name[:-4]}\0{name[-4:]}", "x" * 5000 + name[-4:], name.upper(), f"C:\\{name}", f"~/{name}",
                 f"con/{name}", " " + name):
        yield f"a name {path[:25]!r}", tar([*good, (path, body)]), start
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
                 tarfile.CONTTYPE, b"Z", b"S", b"x", b"g",
                 b"L", b"K", b"N", b"V", b"D"):
        for link in ("/etc/passwd", "../../elsewhere/kept"):
            yield f"a member of type {kind} to {link}", tar([*good,
                                                             (member(name, type=kind, linkname=link, devmajor=1, devminor=5),
                                                              b"")]), start
        yield f"a member of type {kind} with a body", tar([*good,
                                                           (member(name, len(body), type=kind, linkname="a"), body)]), start
    yield "a link and what it leads to", tar([*good, (member("d", type=tarfile.SYMTYPE, linkname=str(case / "elsewhere")),
                                                      b""), (f"d/{name}", body)]), start
    yield "a name twice", tar([*good, good[0]])
    yield "another file under a name that is there", tar([*good, (good[0][0], body)])
    for size in (b"\x80" + bytes(3) + (10**12).to_bytes(8, "big"), b"\x80" + b"\x7f" * 11, b"\xff" * 12,
                 b"\xff" * 8 + b"\xff\xff\xfe\x00", b"77777777777\0",
                 b"-0000000001\0", b"abcdefghijk\0", bytes(12), b"\x80" + bytes(11)):
        for mode in (bytes, gzip.compress):
            yield f"a size of {size!r}, {mode.__name__}", mode(patched(name, body, 124, size) + tar(good))
            yield f"a size of {size!r} at the end, {mode.__name__}", mode(tar(good, end=False) + patched(name, body, 124,
                                                                                                         size))
            yield f"a strange file of a size of {size!r}, {mode.__name__}", mode(patched("strange", body, 124,
                                                                                         size) + tar(good)), start
    for at, value in ((100, b"\xff" * 8), (136, b"\xff" * 12), (257, b"evil!\0"), (148, b"\0" * 8), (156, b"\0"),
                      (345, b"../" * 9), (329, b"\xff" * 16)):
        yield f"a header with {value[:4]!r} at {at}", patched(name, body, at, value) + tar(good), start
    for key, value in (("size", "-1"), ("size", "10" * 9), ("size", "abc"), ("size", ""), ("size", "1.5"),
                       ("path", f"../../{name}"), ("path", "\0"),
                       ("path", f"{outside}/{name}"), ("GNU.sparse.major", "1"), ("GNU.sparse.size", "1000000000000"),
                       ("GNU.sparse.map", "0,10,1000000000000,1"),
                       ("GNU.sparse.name", f"../{name}"), ("GNU.sparse.realsize", "1000000000000"), ("mtime", "nan"),
                       ("mtime", "9" * 400), ("uid", "x"),
                       ("hdrcharset", "BINARY"), ("comment", "x" * 10**5), ("linkpath", "../../x")):
        info = member(name, len(body), pax_headers={key: value})
        if key == "GNU.sparse.map":
            info.pax_headers |= {"GNU.sparse.size": "1000000000000", "GNU.sparse.numblocks": "2"}
        if key.startswith("GNU.sparse.m"):
            info.pax_headers |= {"GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000000000000", "GNU.sparse.name": name}
        yield f"a header that says {key} is {value[:20]!r}", tar([*good, (info, body)]), start
    for record in (b"99999999999 path=x\n", b"0 path=x\n", b"-5 path=x\n", b"12 path", b"7 a=b\n" * 2000, b"1" * 20_000,
                   b"\xff" * 99, b"30 path=\xff\xfe/../../e\n"):
        yield f"an extended header {record[:9]!r}", tar([(member("x", len(record), type=b"x"), record), (name, body),
                                                         *good]), start
    for size in (10**12, 10**9, 2**24, 0):
        for kind in (b"L", b"x", b"g", b"K"):
            head = checksummed(member("x", type=kind).tobuf(tarfile.USTAR_FORMAT)[:124] + b"\x80" + size.to_bytes(11, "big")
                               + member("x", type=kind).tobuf(tarfile.USTAR_FORMAT)[136:])
            yield f"a name of {size} characters, type {kind}", head + tar(good), start
            bomb = gzip.compress(head) + gzip.compress(bytes(2**20)) * 40
            yield f"a name of {size} characters, type {kind}, gzipped", bomb
    zeros, enormous = bytes(2**22), b"\x80" + bytes(3) + (10**10).to_bytes(8, "big")
    strange = patched("strange", b"", 124, enormous)
    yield "a bomb", gzip.compress(patched(name, b"", 124, enormous)) + gzip.compress(zeros) * 200
    small = b"".join(patched(f"{i}{name}", b"", 124, b"00100000000\0") for i in range(9))
    yield "a bomb of small ones", gzip.compress(small) + gzip.compress(zeros) * 50
    for pack in (gzip.compress, lzma.compress, bz2.compress):
        yield f"a bomb in a strange file, {pack.__module__}", pack(strange) + pack(zeros) * 60
    xz = bytearray(lzma.compress(tar(good)))             # of its header, the dictionary's size and the checksum
    xz[16], xz[20:24] = 40, struct.pack("<I", zlib.crc32(xz[12:16] + b"\x28" + xz[17:20]))
    yield "an xz that wants four gigabytes for its dictionary", bytes(xz)
    yield "no end", tar(good, end=False)
    yield "something behind the end", tar(good) + tar([(name, body)])
    yield "nothing in it", tar([])
    yield "only folders", tar([(member("a", type=tarfile.DIRTYPE), b"")])
    yield "only strange files", tar([("strange", b"abc")])
    for mode in ("w:gz", "w:bz2", "w:xz"):
        whole = tar(good, mode)
        yield f"{mode}, whole", whole
        for end in (9, len(whole) // 2, len(whole) - 1, len(whole) - 9):
            yield f"{mode}, cut off at {end}", whole[:end]


def damaged_tars(good, rng, valid):
    """Damage to a tar: no member may go missing without a word, unless all from one on is zeros, the mark of the end."""
    for at in [m.start() - 257 for m in re.finditer(b"ustar", good)]:
        yield f"the header at {at} zeroed", good[:at] + bytes(512) + good[at + 512:]
        yield f"the header at {at} noise", good[:at] + rng.randbytes(512) + good[at + 512:]
        yield f"cut off before the header at {at}", good[:at]
        yield f"cut off behind the header at {at}", good[:at + 512]
    for what, content in damages(good, rng):
        yield what, content, *[valid] * (len(content) == len(good) and not content[-2048:].strip(b"\0"))


def wavs_in_tar(folder):
    good = [(f"recordings/{name}", wav(seed=i)) for i, name in enumerate(("1_ann_7.wav", "2_bob_8.wav", "3_ann_0.wav"))]

    def inputs(archive, case, rng):
        yield from hostile_tars(good, case, "4_eve_9.wav", wav(seed=9), heard)
        for what, body in list(hostile_wavs())[::4]:
            yield f"{what}, inside", tar([*good, ("4_eve_9.wav", body)]), heard
        yield from damaged_tars(archive, rng, heard)

    return Kind({"mine.tar": tar(good)}, "mine.tar", lambda home: spoken(home / "mine.tar"),
                lambda x, *rest: heard(x, *rest) and len(x) >= 2, inputs)        # both words that are there to train


# -- pictures ---------------------------------------------------------------------------------------------------------------


def picture(form, seed=0, size=(20, 20), mode="RGB", **more):
    buffer = io.BytesIO()
    pixels = random.Random(seed).randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, pixels).convert(mode).save(buffer, form, **more)
    return buffer.getvalue()


def png(width, height, data, bits=8, color=2, extra=b"", interlace=0):
    part = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + extra + part(b"IDAT", data) + part(b"IEND", b"")


def hostile_pictures():
    part = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    rows = zlib.compress(bytes(61 * 20))
    for width, height in ((0, 20), (20, 0), (2**31 - 1, 1), (1, 2**31 - 1), (2**31, 2**31), (50_000, 50_000), (8200, 8200),
                          (10_000, 10_000), (9459, 9459), (10**6, 1000)):
        yield f"a png of {width} x {height}", png(width, height, rows)
        yield f"a png of {width} x {height}, 1 bit", png(width, height, zlib.compress(bytes(2**20)), 1, 0)
    for bits, color in ((16, 2), (3, 2), (8, 7), (8, 3), (16, 6), (0, 0), (255, 255)):
        yield f"a png of {bits} bits, color {color}", png(20, 20, rows, bits, color)
    bomb = zlib.compress(bytes(2**26))
    for name, body in ((b"zTXt", b"a\0\0" + bomb), (b"iTXt", b"a\0\1\0\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb),
                       (b"PLTE", b"a"), (b"tRNS", b""), (b"eXIf", b"Exif" * 99),
                       (b"acTL", struct.pack(">II", 2**31, 0)), (b"fcTL", b"a"), (b"pHYs", b""), (b"gAMA", b""),
                       (b"cHRM", b"a" * 5), (b"tEXt", b""), (b"IHDR", b"")):
        yield f"a png with {name}", png(20, 20, rows, extra=part(name, body))
    yield "a png with ten thousand texts", png(20, 20, rows, extra=part(b"tEXt", b"a\0b") * 10_000)
    yield "a png of too many rows", png(20, 20, bomb)
    yield "a png of too few rows", png(20, 20, zlib.compress(bytes(61)))
    yield "a png with a bad stream", png(20, 20, b"\xff" * 99)
    good = picture("JPEG")
    frame = good.index(b"\xff\xc0")
    for height, width in ((0, 0), (65_500, 65_500), (65_535, 1), (10_000, 10_000), (20, 0)):
        yield f"a jpg of {width} x {height}", good[:frame + 5] + struct.pack(">HH", height, width) + good[frame + 9:]
    for at, value in ((2, b"\0\0"), (2, b"\xff\xff"), (4, b"\x0c"), (9, b"\0"), (9, b"\xff"), (11, b"\xff")):
        yield f"a jpg with {value!r} in its frame", good[:frame + at] + value + good[frame + at + len(value):]
    for body in (b"Exif\0\0" + b"II*\0\xff\xff\xff\xff" * 9, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 50,
                 b"ICC_PROFILE\0\1\xff" + b"a" * 99, b"MPF\0II*\0" + b"\xff" * 60):
        for marker in (b"\xff\xe1", b"\xff\xe2"):
            yield f"a jpg with {body[:6]!r}", good[:2] + marker + struct.pack(">H", len(body) + 2) + body + good[2:]
    yield "a jpg of markers alone", b"\xff\xd8" + b"\xff\xe0\x00\x02" * 20_000
    for form in ("GIF", "BMP", "TIFF", "PPM", "ICO", "PCX", "TGA", "SGI", "WEBP", "PDF"):
        with contextlib.suppress(KeyError, OSError):     # a build of Pillow without this format
            yield f"a {form}", picture(form)
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n(%pipe%touch {CANARY}) (w) file\n%%EOF\n"
    yield "a PostScript program", program.encode()
    yield "an svg", f'<svg xmlns="http://www.w3.org/2000/svg"><script href="file://{CANARY}"/></svg>'.encode()
    yield "a python program", f"open({CANARY!r}, 'w')".encode()


def seen(x):
    return x.ndim == 4 and x.shape[1:] == (3, 8, 8) and x.min() >= 0 and x.max() <= 1


def portraits(source):
    return [faces("train", source, size=8)[0].numpy()]


def pictures(form):
    end = {"JPEG": "jpg", "PNG": "png"}[form]

    def make(folder):
        files = {f"mine/{name}.{end}": picture(form, i) for i, name in enumerate("abcd")}

        def inputs(good, case, rng):
            yield from ((what, content, seen) for what, content in list(hostile_pictures())[form == "PNG"::3])
            for mode in ("L", "CMYK", "1", "P", "RGBA", "I;16", "LA"):
                with contextlib.suppress(OSError, ValueError):
                    yield f"mode {mode}", picture(form, mode=mode), seen
            for name in (f"\udcff.{end}", f"\x1b[2J.{end}", f"\n.{end}", "x" * 240 + f".{end}", f"\u202e.{end}"):
                for content in (picture(form, 9), b"broken"):
                    put = lambda path, name=name, content=content: (path.parent / name).write_bytes(content)
                    yield f"a name {name[:9]!r} of {content[:4]}", put, seen
            yield "a folder with an image's name", lambda path: (path.parent / f"e.{end}").mkdir(), seen
            yield "a pipe with an image's name", lambda path: os.mkfifo(path.parent / f"e.{end}"), seen
            yield "a link to a folder above", lambda path: (path.parent / "up").symlink_to(path.parent.parent), seen
            yield "a link to a device", lambda path: (path.parent / f"e.{end}").symlink_to("/dev/zero"), seen
            yield "folders within folders", lambda path: (path.parent / "/".join("d" * 200)).mkdir(parents=True), seen
            yield from ((what, content, *[seen] * (what == "a jpg under this name")) for what, content in damages(good, rng))

        return Kind(files, f"mine/b.{end}", lambda home: portraits(home / "mine"), seen if form == "JPEG" else None, inputs)
    return make


def pictures_in_tar(folder):
    good = [(f"lfw/P{i}/P{i}_0001.jpg", picture("JPEG", i)) for i in range(5)]

    def no_network(**_):
        raise OSError("no network")
    setattr(import_module("sklearn.datasets"), "fetch_lfw_people", no_network)

    def inputs(archive, case, rng):
        yield from list(hostile_tars(good, case, "Q.jpg", picture("JPEG", 9), seen))[::3]
        for what, body in list(hostile_pictures())[::5]:
            yield f"{what}, inside", tar([*good, ("lfw/Q/Q_0001.jpg", body)]), seen
        yield from damaged_tars(archive, rng, seen)

    people = sum(zlib.crc32(b"P%d" % i) % 6 > 0 for i in range(5))
    return Kind({"lfw_one_per_person.tar": tar(good)}, "lfw_one_per_person.tar", lambda home: portraits("lfw"),
                lambda x: seen(x) and len(x) >= people, inputs)


def celeba(target):
    def make(folder):
        names = [f"{i:06}.jpg" for i in range(6)]
        files = {f"celeba/img_align_celeba/{name}": picture("JPEG", i) for i, name in enumerate(names)}
        lists = {"list_attr_celeba.txt": ["6", "Smiling Male",
                                          *(f"{name} {1 - 2 * (i % 2)} -1" for i, name in enumerate(names))],
                 "list_eval_partition.txt": [f"{name} {2 * (i > 3)}" for i, name in enumerate(names)]}
        files |= {f"celeba/{name}": "\n".join(lines).encode() + b"\n" for name, lines in lists.items()}

        fresh(folder, files)
        quietly(lambda: faces("train", "celeba", size=8))
        (pixels,) = (folder / "home" / "cache").iterdir()                 # of pictures that no list changes
        files[f"cache/{pixels.name}"] = pixels.read_bytes()

        def load(home):
            x, factors = faces("train", "celeba", size=8)
            return [x.numpy(), *(v.numpy() for v in factors.values())]

        def valid(x, *factors):
            return seen(x) and all(v.shape == (len(x),) and set(v) <= {0, 1} for v in factors)

        def inputs(good, case, rng):
            lines = good.decode().splitlines()
            for i in range(len(lines)):
                for what in ("", "abc", "000001.jpg", "000001.jpg 1", "000001.jpg 1 1 1", "000001.jpg nan inf", "x 1 1",
                             lines[i] + " 1", "000001.jpg 1 7", "\0",
                             "٣ ١ ١", "000001.jpg 1.0 -1", lines[i - 1]):
                    if rng.random() < 0.2:
                        yield f"line {i}: {what[:20]!r}", "\n".join([*lines[:i], what, *lines[i + 1:]]).encode(), valid
            yield "a million columns", b"6\n" + b"a " * 10**6 + b"\n"
            yield "a million lines", b"000001.jpg 1 1\n" * 10**5
            yield "latin1", good.replace(b"000001", b"\xe4")
            yield "old line ends", good.replace(b"\n", b"\r"), valid
            yield "Windows line ends", good.replace(b"\n", b"\r\n"), valid
            yield "no lines", b"\n\n\n"
            yield from list(damages(good, rng))[::2]

        return Kind(files, f"celeba/{target}", load, valid, inputs)
    return make


# -- figures ----------------------------------------------------------------------------------------------------------------


def figures(name):
    def make(folder):
        row = dict.fromkeys(comparison.COLUMNS, 1.5)
        claim = {"text": "it is so", "value": 1.5, "below": 2, "above": None, "between": None, "unit": " dB", "holds": True}
        kept = {"COMPARISON.json": {"strokes": {"0": {"floor": 1.5, "rows": {"ae": row, "vae": row}}}},
                "LEDGER.json": {"lessons": {"01_a": {"embedded": {"0": {"claims": [claim], "seconds": 2}}}},
                                "on": "torch"}}[name]
        good = json.dumps(kept, indent=1).encode()

        def load(home):
            comparison.STORED, cli.LEDGER = home / "COMPARISON.json", home / "LEDGER.json"
            return [np.array(json.dumps(comparison.stored("strokes") if name == "COMPARISON.json" else cli.load()))]

        def inputs(good, case, rng):
            for body in ("null", "[]", "7", '"a"', "{}", '{"lessons": 7}', '{"strokes": 7}', '{"strokes": {}}',
                         '{"strokes": {"0": {}}}', "NaN", "[" * 10**5, '{"a":' * 10**5,
                         "9" * 10**5, "1e999", '{"lessons": {"a": []}}', '{"lessons": {"a": {"b": {"c": 7}}}}',
                         '{"lessons": {"a": {"b": {"x": {}}}}, "on": 1}',
                         '{"strokes": {"0": {"floor": "a", "rows": {}}}}', '{"strokes": {"0": {"floor": 1, "rows": [1]}}}',
                         "{'a': 1}", "{} {}", '"\\ud800"', "\ufeff{}"):
                yield f"{body[:30]}", body.encode("utf-8", "surrogatepass"), lambda *_: True
            yield from list(damages(good, rng))[::2]

        return Kind({name: good}, name, load, lambda *_: True, inputs)
    return make


GROUPS = {"checkpoint": [checkpoint], "idx": [lambda folder: mnist(folder, False), labels],
          "idx.gz": [lambda folder: mnist(folder, True)],
          "cache": [cache(which) for which in ("digits", "speech", "noises", "faces", "transactions")],
          "csv": [lambda folder: csv(folder, False)],
          "csv.gz": [lambda folder: csv(folder, True)], "wav": [wavs], "wav in tar": [wavs_in_tar], "noise": [noise],
          "jpg": [pictures("JPEG")],
          "png": [pictures("PNG")], "tar of jpg": [pictures_in_tar],
          "json": [figures("COMPARISON.json"), figures("LEDGER.json")],
          "celeba": [celeba("list_attr_celeba.txt"), celeba("list_eval_partition.txt")]}
OTHERS, GOOD, CANARY = {}, {}, ""


# -- the process that reads them --------------------------------------------------------------------------------------------


def fresh(folder, files):
    """An empty case: the data folder with these files, and a neighbor that nothing may touch. Returns the data folder."""
    if folder.exists():
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)
    for name, content in {**{f"home/{name}": content for name, content in files.items()}, "elsewhere/kept": b"kept"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        os.utime(folder / name, ns=(10**18, 10**18))
    (folder / "home").mkdir(exist_ok=True)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o777)
    os.environ["AECOURSE_DATA_DIR"] = str(folder / "home")
    return folder / "home"


def snapshot(folder):
    """What is where: path -> kind, and content, or size, or where a link leads."""
    found = {}
    for path in folder.rglob("*"):
        status, what = path.lstat(), ""
        if stat.S_ISLNK(status.st_mode):
            what = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            small = status.st_size < 10**7 and os.access(path, os.R_OK)
            what = hashlib.md5(path.read_bytes()).hexdigest() if small else status.st_size
        found[path.relative_to(folder).as_posix()] = stat.S_IFMT(status.st_mode), what
    return found


class TooSlow(BaseException):
    pass


@contextlib.contextmanager
def clock(seconds):
    def ring(*_):
        raise TooSlow(f"longer than {seconds} s")
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def without_rights():
    """For a while nobody, whom permissions bind as they do not bind root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def quietly(act):
    """What `act` returns, what it printed, and how many warnings it gave."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            got = act()
    return got, out.getvalue(), [str(w.message) for w in told]


def judge(kind, home, right, valid):
    """(outcome, what is wrong with it or "") of reading what stands there now."""
    try:
        with clock(SECONDS):
            got, said, told = quietly(lambda: kind.load(home))
    except (DataError, ValueError, LookupError) as error:
        message, names = str(error), (Path(kind.target).name,
                                      Path(kind.target).name.replace("t10k-images-idx3-ubyte", "t10k-*-ubyte").replace(
            "t10k-labels-idx1-ubyte", "t10k-*-ubyte"), Path(kind.target).parent.name + "/")
        if type(error) is LookupError and kind.target == "COMPARISON.json":            # other digits are in it
            return "refused", ""
        if type(error) not in (DataError, ValueError):
            return "refused", f"the error is {type(error).__name__}: {message}"
        if not any(name in message for name in names) or not TODO.search(message) or len(message) > 1500:
            return "refused", f"the message does not name the file, say what to do, or end: {message[:1500]}"
        return "refused", ""
    except BaseException as error:
        return "crashed", "".join(traceback.format_exception(error))[-1500:]
    if told or len(said) > 3000:
        return "warned", f"{len(told)} warnings, {len(said)} characters: {told[:2]} {said[:300]}"
    said.encode()                                        # a name can be shown
    if len(got) == len(right) and all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(got, right)):
        return "right", ""
    if "left out" in said and len(got[0]) < len(right[0]) and all((right[0] == row).all((1, 2, 3)).any() for row in got[0]):
        return "left out", ""
    if valid is not None and valid(*got):
        return "differs", ""
    return "wrong", f"{[a.shape for a in got]}, wanted {[a.shape for a in right]}"


def main(folder):
    """Read all hostile files in `folder`, and write a line of JSON for each."""
    global CANARY
    faulthandler.enable()
    import resource
    folder, linux = Path(folder), sys.platform == "linux"
    folder.chmod(0o777)
    CANARY = str(folder / "canary")
    os.environ.pop("AECOURSE_MIRROR", None)
    os.environ["TMPDIR"], case = str(folder / "case" / "tmp"), folder / "case"
    tempfile.tempdir = os.environ["TMPDIR"]
    OTHERS.update({"png": picture("PNG"), "jpg": picture("JPEG"), "wav": wav(), "gz": gzip.compress(b"abc" * 99),
                   "csv": csv_file(rows(3)), "tar": tar([("a", b"b")]),
                   "pickle": pickle.dumps(Evil(os.mkdir, CANARY)), "zip": archive(b"abc"), "npy": npy(np.zeros(9)),
                   "checkpoint": saved({"a": torch.zeros(9)}),
                   "xz": lzma.compress(b"abc"), "python": f"open({CANARY!r}, 'w')".encode(), "elf": b"\x7fELF" + bytes(200),
                   "text": "naïve\n".encode()})
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    kinds = [(group, make) for group, makes in GROUPS.items() for make in makes]
    allowed = None
    for number, (group, make) in enumerate(kinds):
        kind = make(fresh(case, {}).parent)
        home = fresh(case, kind.files)
        GOOD[group] = kind.files[kind.target]
        for _ in range(2):                               # the second time from a cache
            right, said, _ = quietly(lambda: kind.load(home))
        assert "damaged" not in said and "left out" not in said, said      # what is good is believed
        if allowed is None:                              # now all libraries are there
            if linux:
                pages = int(Path("/proc/self/statm").read_text().split()[0]) + GIBIBYTES * 2**30 // resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
            allowed = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        named = [*kind.inputs(GOOD[group], case, random.Random(number)), *obstacles(Path(kind.target).name)]
        clean = False                                    # a cache of what is good would hide what is not
        for label, content, *valid in named:
            if not clean:                                # else all but the target is as it was
                fresh(case, kind.files)
            target, began = home / kind.target, time.perf_counter()
            if callable(content):
                try:
                    content(target)
                except OSError:                          # a file system without such names or files
                    clean = False
                    continue
            elif content == GOOD[group]:
                continue
            else:
                target.write_bytes(content)
                os.utime(target, ns=(10**18, 10**18))
            before = snapshot(case)
            with without_rights() if label == "unreadable" else contextlib.nullcontext():
                outcome, wrong = judge(kind, home, right, valid[0] if valid else kind.valid)
            after = snapshot(case)
            changed = {path for path in {**before, **after} if before.get(path) != after.get(path)}
            mine = {path for path in changed - {*before} | {f"home/{kind.target}"} if path.startswith("home/cache")}
            clean = not callable(content) and changed == mine and (not changed or "home/cache" in changed)
            if clean and changed:
                shutil.rmtree(home / "cache")
            if changed - mine:
                wrong += f"; what was there changed: {sorted(changed - mine)[:5]}"
            if os.path.lexists(CANARY) or any((folder / "work").iterdir()):
                wrong += "; code ran, or wrote into the working folder"
                with contextlib.suppress(OSError):
                    shutil.rmtree(CANARY) if os.path.isdir(CANARY) else os.remove(CANARY)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - allowed) // (1024 if linux else 2**20)
            if grown > GROWTH:
                wrong += f"; {grown} MiB more memory"
                allowed = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps({"kind": group, "target": kind.target, "label": label, "outcome": outcome, "wrong": wrong,
                              "grown": grown,
                              "seconds": round(time.perf_counter() - began, 3)}), flush=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    if os.name != "posix":
        pytest.skip("needs limits on memory, signals and pipes, as POSIX has them")
    with tempfile.TemporaryDirectory() as folder, open(tmp_path_factory.mktemp("report") / "lines", "w+") as out:
        done = subprocess.run([sys.executable, __file__, folder], stdout=out, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL,
                              timeout=900, text=True)
        out.seek(0)
        lines = [json.loads(line) for line in out]
    assert done.returncode == 0, f"the reader died after {lines[-1:]}\n{done.stderr[-3000:]}"
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_read_right_or_refused_in_clear_words_and_nothing_is_lost(report, kind):
    mine = [line for line in report if line["kind"] == kind]
    wrong = [f"{line['target']}: {line['label']}: {line['outcome']} {line['wrong']}" for line in mine if line["wrong"]]
    assert not wrong, f"{len(wrong)} of {len(mine)}:\n" + "\n".join(wrong[:20])
    refused = sum(line["outcome"] in ("refused", "left out") for line in mine)
    assert len(mine) >= 150 and (refused >= 50 or kind == "cache")        # a bad cache is made again


def test_they_are_more_than_two_thousand(report):
    counts = collections.Counter(line["outcome"] for line in report)
    print(f"{len(report):,} hostile inputs: {dict(counts)}, at most {max(line['grown'] for line in report)} MiB of memory")
    assert len(report) >= 2_000 and set(counts) <= {"refused", "right", "differs",
                                                    "left out"} and {line["kind"] for line in report} == set(KINDS)


if __name__ == "__main__":
    main(sys.argv[1])

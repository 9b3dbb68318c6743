"""Damaged files of every format that the course reads: a clear error or the right result, no crash.

They are read in a process of its own: one that crashes or hangs fails the test.
"""

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import wave
import zipfile
from pathlib import Path

from aecourse.checkpoints import load_checkpoint
from aecourse.data import DataError, digits, faces, speech, store, transactions
from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
from aecourse.training import fit

import numpy as np
import pytest
import torch
from PIL import Image

MUTATIONS = 110  # of each format
CLEAR = (ValueError, DataError, OSError)
rng = np.random.default_rng(0)


# -- a sound file of each format -------------------------------------------------------------------


def make_model():
    return Autoencoder(mlp_encoder((6,), [], 2), mlp_decoder(2, [], (6,)))


def checkpoint(path):
    data = [torch.rand(20, 6)]
    fit(
        make_model(),
        lambda m, x: (m(x) - x).pow(2).mean(),
        data,
        1,
        checkpoint=path,
        progress=False,
    )


def picture(path):
    Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(path)


def wav_bytes():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(rng.integers(-9999, 9999, 2000, np.int16).tobytes())
    return buffer.getvalue()


def wav(path):
    path.write_bytes(wav_bytes())


def tar(path):
    with tarfile.open(path, "w:gz") as archive:
        for take in range(8):
            info, content = tarfile.TarInfo(f"recordings/3_ann_{take}.wav"), wav_bytes()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def csv_bytes():
    names = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
    rows = [[60 * i, *rng.normal(size=28).round(3), 9.5, int(i % 10 == 0)] for i in range(300)]
    return "\n".join(",".join(map(str, row)) for row in [names, *rows]).encode()


def csv(path):
    path.write_bytes(csv_bytes())


def csv_gz(path):
    path.write_bytes(gzip.compress(csv_bytes()))


def csv_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("creditcard.csv", csv_bytes())


def idx(path):
    images = rng.integers(0, 255, (20, 28, 28), np.uint8)
    header = np.array([0x803, 20, 28, 28], ">u4").tobytes()
    path.write_bytes(header + images.tobytes())
    labels = np.array([0x801, 20], ">u4").tobytes() + bytes(i % 10 for i in range(20))
    (path.parent / "t10k-labels-idx1-ubyte").write_bytes(labels)


# -- how the course reads it; a result is checked, an error of the kinds in CLEAR passes -----------


def read_checkpoint(path):
    history, epochs = load_checkpoint(path, make_model())
    assert epochs == len(history["loss"]) == 1


def read_pictures(path):
    for name in ("a", "b", "c"):
        if not (path.parent / f"{name}.png").exists():
            picture(path.parent / f"{name}.png")
    x, _ = faces("train", path.parent, size=16)
    assert x.shape[1:] == (3, 16, 16) and len(x) >= 1 and 0 <= x.min() and x.max() <= 1


def read_speech(path):
    source = path if path.suffix == ".gz" else path.parent
    for take in range(4, 8) if path.suffix == ".wav" else ():
        wav(path.parent / f"3_ann_{take}.wav")
    words = speech("train", source)
    assert words.x.shape[1] == 8000 and words.x.isfinite().all() and words.x.abs().max() <= 1


def read_transactions(path):
    rows = transactions("train", path)
    assert rows.x.shape[1] == 29 and rows.x.isfinite().all() and set(rows.y.tolist()) <= {0, 1}


def read_digits(path):
    x, y = digits("test", path.parent)
    assert x.shape[1:] == (1, 28, 28) and len(x) == len(y)


FORMATS = {
    "checkpoint": ("c.pt", checkpoint, read_checkpoint),
    "png": ("pictures/x.png", picture, read_pictures),
    "jpeg": ("pictures/x.jpg", picture, read_pictures),
    "webp": ("pictures/x.webp", picture, read_pictures),
    "wav": ("words/3_ann_9.wav", wav, read_speech),
    "tar.gz": ("words.tar.gz", tar, read_speech),
    "csv": ("creditcard.csv", csv, read_transactions),
    "csv.gz": ("creditcard.csv.gz", csv_gz, read_transactions),
    "csv.zip": ("creditcard.csv.zip", csv_zip, read_transactions),
    "idx": ("mnist/t10k-images-idx3-ubyte", idx, read_digits),
}


def mutate(good, chance):
    """One damage: bytes changed, cut off, inserted, zeroed, repeated, or set to the largest."""
    content, place = bytearray(good), chance.randrange(min(len(good), chance.choice([64, 10**9])))
    kind = chance.choice(["flip", "cut", "insert", "zero", "repeat", "largest"])
    if kind == "flip":
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content[place:place] = chance.randbytes(chance.randint(1, 40))
    elif kind == "repeat":
        content[place:place] = content[place : place + chance.randint(1, 4000)]
    else:
        n = min(chance.randint(1, 8), len(content) - place)
        content[place : place + n] = (b"\0" if kind == "zero" else b"\xff") * n
    return bytes(content)


def child(name, folder):
    """Read one format MUTATIONS times, damaged in another way each time; print what came of it."""
    file, make, read = FORMATS[name]
    path, chance, outcomes = (
        Path(folder, name, file),
        random.Random(name),
        {"read": 0, "refused": 0},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ["AECOURSE_DATA_DIR"] = str(Path(folder, "data"))
    make(path)
    good = path.read_bytes()
    read(path)
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(good, chance))
        try:
            read(path)
            outcomes["read"] += 1
        except CLEAR as error:
            assert len(str(error)) > 10
            outcomes["refused"] += 1
    print(f"{name}: {outcomes}", flush=True)
    return outcomes["refused"]


@pytest.mark.slow
def test_damaged_files_are_refused_clearly_or_read(tmp_path):
    children = f"sum(t.child(name, {str(tmp_path)!r}) for name in t.FORMATS)"
    code = f"import test_damaged_files as t; print({children})"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 200  # that many damages were noticed


def test_cache_with_a_pickled_object_runs_no_code(home, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    (home / "cache").mkdir(parents=True)
    np.savez(home / "cache" / "a.npz", x=np.array([Evil()], dtype=object))
    assert store.cached("a", lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]
    assert not (tmp_path / "owned").exists()

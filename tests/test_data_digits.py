"""The embedded digits, and the loader of MNIST and Fashion-MNIST."""

import gzip
import hashlib
import struct
import time
from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torchvision import datasets

from aecourse import data
from aecourse.data import DataError, _store

module = import_module("aecourse.data.digits")           # the package's name `digits` is the function
mirror = pytest.mark.skipif(
    not _store.find("MNIST/raw/train-images-idx3-ubyte.gz"), reason="no MNIST in the data folder or in AECOURSE_MIRROR")


@pytest.fixture(scope="module")
def strokes():
    return {split: data.digits(split, "strokes") for split in ("train", "test")}


def test_shapes_ranges_and_balance(strokes):
    for split, n in (("train", 12_000), ("test", 2_000)):
        x, y = strokes[split]
        assert x.shape == (n, 1, 28, 28) and x.dtype == torch.float32 and x.min() == 0 and x.max() == 1
        assert y.dtype == torch.int64 and y.bincount().tolist() == [n // 10] * 10
        assert y[:100].unique().numel() == 10            # shuffled, so that a beginning is a sample


def test_they_are_placed_as_mnist_is(strokes):
    x = strokes["train"][0].squeeze(1)
    assert 0.11 < x.mean() < 0.15                        # MNIST: 0.131
    assert 0.78 < (x == 0).float().mean() < 0.85         # MNIST: 0.809
    ink = x.sum((1, 2))
    height, width = (((x > 0.5).any(axis)).sum(1) for axis in (2, 1))
    assert 18 <= torch.maximum(height, width).float().quantile(0.01) <= torch.maximum(height, width).max() <= 22
    for axis in (1, 2):
        center = (x.sum(3 - axis) * torch.arange(28)).sum(1) / ink
        assert (center - 13.5).abs().max() < 2 and (center - 13.5).abs().mean() < 0.3


def test_same_bytes_every_time_and_other_digits_in_the_test_set(strokes, home, capsys):
    again = module._strokes("test")
    assert np.array_equal(again["y"], strokes["test"][1])
    assert np.array_equal(again["x"] / np.float32(255), strokes["test"][0][:, 0])
    torch.manual_seed(1), np.random.seed(1)
    assert np.array_equal(module._strokes("test")["x"], again["x"])        # no global generator is read
    first, cached = data.digits("test"), data.digits("test")
    assert torch.equal(first[0], cached[0]) and torch.equal(first[1], cached[1])
    assert capsys.readouterr().out == 2 * "digits: strokes, test: 2,000 images of 28 x 28\n"
    everything = torch.cat([strokes[split][0].flatten(1) for split in strokes])
    assert len(np.unique(everything.numpy(), axis=0)) == len(everything)


def test_as_hard_as_handwriting(strokes):
    """Nearest neighbors and PCA see about what they see in MNIST: 30 components leave 14.5 per image there."""
    (x, y), (x_test, y_test) = strokes["train"], strokes["test"]
    pca = PCA(30, svd_solver="covariance_eigh").fit(x.flatten(1))
    z, z_test = pca.transform(x.flatten(1)), pca.transform(x_test.flatten(1))
    assert 0.90 < KNeighborsClassifier(3).fit(z, y).score(z_test, y_test) < 0.99
    assert 12 < ((pca.inverse_transform(z_test) - x_test.flatten(1).numpy()) ** 2).sum(1).mean() < 17


def test_a_changed_pen_does_not_read_an_old_cache(home, monkeypatch):
    data.digits("test")
    monkeypatch.setattr(_store, "checksum", lambda *_: "another source")
    data.digits("test")
    assert len(list((home / "cache").iterdir())) == 2


@pytest.mark.parametrize("split, source, said", [
    ("valid", None, "unknown split 'valid'"), ("test", "emnist", "unknown source 'emnist'"),
    ("test", "/", "unknown source '/'"),
])
def test_unknown_words_are_refused(home, split, source, said):
    with pytest.raises(ValueError, match=said):
        data.digits(split, source)
    assert not home.exists()


# ---- MNIST's own files, in small

def idx(array):
    """The bytes of an idx file: a magic number, the sizes, the values (http://yann.lecun.com/exdb/mnist)."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def small_mnist(folder, monkeypatch, kind=datasets.MNIST):
    """Write four small files and make torchvision expect them. Returns what is in them."""
    rng, resources, content = np.random.default_rng(0), [], {}
    folder.mkdir(parents=True)
    for split, prefix, n in (("train", "train", 30), ("test", "t10k", 20)):
        content[split] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
        for what, array in zip(("images-idx3", "labels-idx1"), content[split]):
            file = folder / f"{prefix}-{what}-ubyte.gz"
            file.write_bytes(gzip.compress(idx(array), mtime=0))
            resources.append((file.name, hashlib.md5(file.read_bytes()).hexdigest()))
    monkeypatch.setattr(kind, "resources", resources)
    monkeypatch.setattr(kind, "mirrors", ["http://127.0.0.1:9/"])          # nobody listens there
    return content


@pytest.mark.parametrize("source, kind", [("mnist", datasets.MNIST), ("fashion-mnist", datasets.FashionMNIST)])
@pytest.mark.parametrize("where", ["data", "mirror"])
def test_files_are_read_where_they_are(home, tmp_path, monkeypatch, where, source, kind, capsys):
    content = small_mnist(tmp_path / where / kind.__name__ / "raw", monkeypatch, kind)
    if where == "mirror":
        monkeypatch.setenv("AECOURSE_MIRROR", str(tmp_path / "mirror"))
        before = sorted((tmp_path / "mirror").rglob("*"))
    for split in ("train", "test", "train"):             # the last one from the cache
        x, y = data.digits(split, source)
        assert np.array_equal((255 * x[:, 0]).round(), content[split][0]) and np.array_equal(y, content[split][1])
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == f"digits: {source}, train: 30 images of 28 x 28" and not printed.err
    if where == "mirror":
        assert sorted((tmp_path / "mirror").rglob("*")) == before          # nothing is unpacked there


def test_real_means_mnist_and_unpacked_files_serve_too(home, monkeypatch):
    content = small_mnist(home / "MNIST" / "raw", monkeypatch)
    for file in list((home / "MNIST" / "raw").iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    monkeypatch.setenv("AECOURSE_DATA", "real")
    assert np.array_equal(data.digits("test")[1], content["test"][1])


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
@pytest.mark.parametrize("damage", [
    lambda b: b[:-20], lambda b: b[:30] + bytes([b[30] ^ 1]) + b[31:], lambda b: b""])
def test_a_damaged_file_is_named_and_nothing_is_cached(home, monkeypatch, file, damage):
    content = small_mnist(home / "MNIST" / "raw", monkeypatch)
    path = home / "MNIST" / "raw" / file
    good = path.read_bytes()
    path.write_bytes(damage(good))
    with pytest.raises(DataError, match=f"(?s){file} is damaged.*put the four files.*embedded") as error:
        data.digits("train", "mnist")
    assert str(home) in str(error.value) and not (home / "cache").exists()
    path.write_bytes(good)
    assert len(data.digits("train", "mnist")[0]) == len(content["train"][0])


@pytest.mark.parametrize("damage", [
    lambda b: b[:-40], lambda b: b[:7] + b"\7" + b[8:], lambda b: b[:9], lambda b: b""])
def test_damaged_unpacked_files_are_told(home, monkeypatch, damage):
    small_mnist(home / "MNIST" / "raw", monkeypatch)
    for file in list((home / "MNIST" / "raw").iterdir()):
        file.with_suffix("").write_bytes(damage(gzip.decompress(file.read_bytes())))
        file.unlink()
    with pytest.raises(DataError, match=f"(?s)mnist .{home}.*/t10k-[*]-ubyte.*put the four files"):
        data.digits("test", "mnist")


def test_a_missing_file_is_told_with_what_to_put_where(home, monkeypatch, tmp_path):
    small_mnist(tmp_path / "elsewhere", monkeypatch)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz into .*MNIST.raw"):
        data.digits("test", "mnist")
    assert not list(home.rglob("*"))


@mirror
def test_real_mnist(monkeypatch, tmp_path):
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path))
    for split, n, first in (("train", 60_000, [5, 0, 4, 1, 9]), ("test", 10_000, [7, 2, 1, 0, 4])):
        x, y = data.digits(split, "mnist")
        assert x.shape == (n, 1, 28, 28) and y.bincount().min() > n / 12 and y[:5].tolist() == first


@mirror
def test_who_learned_to_read_strokes_can_read_mnist(strokes, monkeypatch, tmp_path):
    """The bar of realism: at least 85 % of MNIST's test set after some seconds on strokes alone."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(), nn.Flatten(),
                        nn.Linear(32 * 49, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 10))
    optimizer, start = torch.optim.Adam(net.parameters(), 2e-3), time.perf_counter()
    for _ in range(6):
        for x, y in data.Batches(*strokes["train"]):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
        if time.perf_counter() - start > 25:
            break
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path))
    x, y = data.digits("test", "mnist")
    with torch.no_grad():
        right = (net.eval()(x).argmax(1) == y).float().mean().item()
    print(f"{right:.1%} of MNIST's test set")
    assert right >= 0.85

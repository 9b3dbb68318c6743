"""The embedded digits resemble MNIST; MNIST's files are read in every usual layout or refused."""

import gzip
import hashlib
import os
import struct

from aecourse.data import DataError, digits

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torchvision import datasets


@pytest.fixture(scope="module")
def strokes():
    return [digits(split, "strokes") for split in ("train", "test")]


def test_shapes_ranges_and_balance(strokes):
    for (x, y), n in zip(strokes, (12_000, 2_000), strict=True):
        assert x.shape == (n, 1, 28, 28) and x.dtype == torch.float32 and y.dtype == torch.int64
        assert x.aminmax() == (0, 1) and y.bincount().tolist() == [n // 10] * 10
        assert y[:100].unique().numel() == 10  # shuffled
    assert len({image.numpy().tobytes() for x, _ in strokes for image in x}) == 14_000


def test_placement_ink_and_difficulty_are_those_of_mnist(strokes):
    (x, y), (x_test, y_test) = ((x.flatten(1).numpy(), y) for x, y in strokes)
    pca = PCA(30, svd_solver="covariance_eigh").fit(x)
    z, z_test = pca.transform(x), pca.transform(x_test)
    assert 0.90 < KNeighborsClassifier(3).fit(z, y).score(z_test, y_test) < 0.99
    assert 12 < ((pca.inverse_transform(z_test) - x_test) ** 2).sum(1).mean() < 17  # MNIST: 14.5
    x = strokes[0][0].squeeze(1)
    assert 0.11 < x.mean() < 0.15 and 0.78 < (x == 0).float().mean() < 0.85  # MNIST: 0.131, 0.809
    size = torch.stack([(x > 0.5).any(axis).sum(1) for axis in (1, 2)]).amax(0).float()
    assert 18 <= size.quantile(0.01) and size.max() <= 22
    for axis in (1, 2):
        offset = (x.sum(axis) * (torch.arange(28) - 13.5)).sum(1) / x.sum((1, 2))
        assert offset.abs().max() < 2 and offset.abs().mean() < 0.3


def test_same_digits_from_the_generator_and_from_the_cache(strokes, home, capsys):
    for _ in range(2):
        assert all(map(torch.equal, digits("test"), strokes[1]))
    assert capsys.readouterr().out == 2 * "digits: strokes, test: 2,000 images of 28 x 28\n"


def write_mnist(monkeypatch, folder, layout="{0}.gz"):
    """Write four small files like MNIST's, and make torchvision expect them."""
    files = {}
    for part, n in (("train", 30), ("t10k", 20)):
        pixels = bytes(range(196)) * 4 * n
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4I", 2051, n, 28, 28) + pixels
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2I", 2049, n) + bytes([7] * n)
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    md5 = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(datasets.MNIST, "resources", md5)  # of FashionMNIST, too
    monkeypatch.setattr(datasets.FashionMNIST, "resources", md5)
    for name, content in files.items():
        path = folder / layout.format(name, name.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed.get(path.name, content))


@pytest.mark.parametrize("layout", ["raw/{0}.gz", "raw/{0}", "{0}.gz", "{0}/{0}", "{1}"])
@pytest.mark.parametrize("source", ["mnist", "fashion-mnist", "folder"])
def test_files_are_read_where_they_are(home, tmp_path, monkeypatch, layout, source):
    kind = "FashionMNIST" if source == "fashion-mnist" else "MNIST"
    write_mnist(monkeypatch, tmp_path / kind, layout)
    monkeypatch.setenv("AECOURSE_MIRROR", str(tmp_path))
    for split, n in (("train", 30), ("test", 20)):
        x, y = digits(split, tmp_path if source == "folder" else source)
        assert torch.equal((255 * x).round().flatten(), torch.arange(n * 784.0) % 196)
        assert x.shape == (n, 1, 28, 28) and y.tolist() == [7] * n
    assert len(list(tmp_path.glob("*MNIST/**/*ubyte*"))) in (4, 8)  # nothing unpacked beside them


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:7] + b"\1" + b[8:]])
def test_damaged_file_is_named_and_not_cached(home, monkeypatch, name, damage):
    path = home / "MNIST" / "raw" / name
    write_mnist(monkeypatch, path.parent, "{0}" + path.suffix)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"(?s){path} is damaged.*put the four files.*embedded"):
        digits("train", "mnist")
    assert not (home / "cache").exists()


def test_unknown_splits_and_missing_files_are_named(home, tmp_path):  # the tests' network is off
    with pytest.raises(ValueError, match="unknown split 'valid'. Known are 'train' and 'test'"):
        digits("valid")
    with pytest.raises(DataError, match="(?s)Error downloading.*t10k-labels-idx1-ubyte.gz into"):
        digits("test", "mnist")
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte.gz and .* not found"):
        digits("test", tmp_path)


@pytest.mark.skipif(not os.environ.get("AECOURSE_MIRROR"), reason="AECOURSE_MIRROR is not set")
def test_real_mnist(monkeypatch, tmp_path):
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path))
    for split, n, labels in ("train", 60_000, [5, 0, 4, 1, 9]), ("test", 10_000, [7, 2, 1, 0, 4]):
        x, y = digits(split, "mnist")
        assert len(x) == len(y) == n and y[:5].tolist() == labels

"""How data arrives: downloads from a local server, and the cache. Whole or not at all."""

import gzip
import hashlib
import http.server
import struct
import tempfile
import threading
from importlib import import_module

import numpy as np
import pytest
from torchvision import datasets

from aecourse.data import DataError, _store

digits = import_module("aecourse.data").digits
GOOD = bytes(range(256)) * 200


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("AECOURSE_MIRROR", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "data"


@pytest.fixture
def server():
    """A web server on this machine: `files` maps a path to its bytes, or to (bytes, the length told in the header)."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            reply = server.files.get(self.path)
            if reply is None:
                return self.send_error(404)
            body, length = reply if isinstance(reply, tuple) else (reply, len(reply))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.url = {}, f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_good_file_arrives_and_replaces_an_old_one(home, server, algorithm):
    server.files["/a.bin"] = GOOD
    (home / "sub").mkdir(parents=True)
    (home / "sub" / "a.bin").write_bytes(b"old")
    digest = hashlib.new(algorithm, GOOD).hexdigest()
    path = _store.download(server.url + "a.bin", home / "sub" / "a.bin", **{algorithm: digest})
    assert path.read_bytes() == GOOD and list(home.rglob("*")) == [home / "sub", path]
    assert _store.checksum(path, algorithm) == digest


@pytest.mark.parametrize("reply, said", [
    (GOOD[:-1] + b"!", "sha256 differs"), ((GOOD[:-9], len(GOOD)), "cut off after 51,191 of 51,200 bytes|Incomplete"),
    (None, "404"), ("refused", "refused"),
])
def test_a_bad_download_says_why_and_leaves_nothing(home, server, reply, said):
    url = server.url + "a.bin"
    if reply == "refused":
        url = "http://127.0.0.1:9/a.bin"
    elif reply is not None:
        server.files["/a.bin"] = reply
    with pytest.raises(DataError, match=f"could not download {url}: .*({said})"):
        _store.download(url, home / "a.bin", sha256=hashlib.sha256(GOOD).hexdigest(), timeout=5)
    assert not home.exists() or list(home.iterdir()) == []
    home.mkdir(exist_ok=True)
    (home / "a.bin").write_bytes(b"old")
    with pytest.raises(DataError):
        _store.download(url, home / "a.bin", sha256=hashlib.sha256(GOOD).hexdigest(), timeout=5)
    assert (home / "a.bin").read_bytes() == b"old"       # what was there is kept


def offer_mnist(server, monkeypatch):
    """Put four tiny files of MNIST on the server and point torchvision at it. Returns the labels of the test set."""
    rng, resources = np.random.default_rng(0), []
    for prefix, n in (("train", 30), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte.gz", images), (f"{prefix}-labels-idx1-ubyte.gz", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            server.files["/" + name] = gzip.compress(head + array.tobytes(), mtime=0)
            resources.append((name, hashlib.md5(server.files["/" + name]).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server.url])
    return labels


def test_mnist_is_downloaded_once_quietly_and_kept(home, server, monkeypatch, capsys):
    labels = offer_mnist(server, monkeypatch)
    assert np.array_equal(digits("test", "mnist")[1], labels)
    assert capsys.readouterr() == ("digits: mnist, test: 20 images of 28 x 28\n", "")
    assert left_in(home / "MNIST") == sorted(name for name, _ in datasets.MNIST.resources)
    server.files.clear()
    assert len(digits("train", "mnist")[0]) == 30        # the other split needs no network any more


@pytest.mark.parametrize("harm", [
    lambda body: body[:-30] + b"?" + body[-29:], lambda body: (body[:-30], len(body)), lambda body: None])
def test_a_bad_mnist_download_is_one_clear_error_and_works_after_repair(home, server, monkeypatch, harm):
    labels = offer_mnist(server, monkeypatch)
    name = "/t10k-images-idx3-ubyte.gz"                  # the third of four: two have come well before it
    good = server.files[name]
    server.files[name] = harm(good)
    with pytest.raises(DataError, match=r"(?s)t10k-images.*put the four files .* into .*MNIST.raw.*source='embedded'"):
        digits("test", "mnist")
    assert left_in(home) == []
    server.files[name] = good
    assert np.array_equal(digits("test", "mnist")[1], labels)


def test_arriving_is_all_or_nothing(home):
    with pytest.raises(KeyboardInterrupt):
        with _store.arriving(home / "a") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt
    assert list(home.iterdir()) == []
    for content in ("one", "two"):                       # a file is replaced, a folder that is there is kept
        with _store.arriving(home / "file") as temporary:
            temporary.write_text(content)
        with _store.arriving(home / "folder") as temporary:
            temporary.mkdir()
            (temporary / "file").write_text(content)
    assert (home / "file").read_text() == "two" and (home / "folder" / "file").read_text() == "one"
    assert sorted(path.name for path in home.iterdir()) == ["file", "folder"]


def arrays():
    return {"x": np.arange(100, dtype=np.uint8), "y": np.linspace(0, 1, 5)}


def same(a, b):
    return list(a) == list(b) and all(np.array_equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


def test_a_cache_is_filled_once(home):
    made = [_store.cached("a", lambda: made.append("again") or arrays()) for made in [[]] for _ in range(2)]
    assert same(made[0], arrays()) and same(made[1], arrays()) and left_in(home) == ["a.npz"]
    assert same(_store.cached("a", pytest.fail), arrays())


def test_a_damaged_cache_is_told_and_made_again_whatever_the_damage(home, capsys):
    _store.cached("a", arrays)
    path = home / "cache" / "a.npz"
    good = path.read_bytes()
    damaged = [good[:n] for n in range(0, len(good), 40)]
    damaged += [good[:n] + bytes([good[n] ^ bit]) + good[n + 1:] for n in range(0, len(good), 3) for bit in (1, 64)]
    for content in damaged:
        path.write_bytes(content)
        assert same(_store.cached("a", arrays), arrays())
    assert "a.npz is damaged" in capsys.readouterr().out
    path.write_bytes(damaged[3])
    _store.cached("a", arrays)
    assert same(_store.cached("a", pytest.fail), arrays())                 # the new one is whole


@pytest.mark.parametrize("obstacle", ["a file where the folder should be", "no right to write"])
def test_a_folder_that_cannot_be_written_costs_only_the_cache(home, monkeypatch, capsys, obstacle):
    if obstacle == "no right to write":
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")
        monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    else:
        home.write_text("in the way")
    for _ in range(2):
        assert same(_store.cached("a", arrays), arrays())
    assert capsys.readouterr().out.count("could not be kept") == 2

"""Where data lives and how it arrives: whole or not at all."""

import hashlib
import http.server
import os
import threading

from aecourse.data import DataError, store

import numpy as np
import pytest

GOOD = bytes(range(256)) * 200


class Server(http.server.BaseHTTPRequestHandler):
    """It has GOOD as /good, and another content as /other."""

    def do_GET(self):
        body = {"/good": GOOD, "/other": GOOD[:-1]}.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def url():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_download_is_verified_and_kept(home, url):
    digest = hashlib.sha256(GOOD).hexdigest()
    path = store.download(f"{url}/good", "a.bin", digest)
    assert path == home / "a.bin" and path.read_bytes() == GOOD
    assert store.download("http://127.0.0.1:9/gone", "a.bin", digest) == path  # it is here already


@pytest.mark.parametrize("page", ["other", "missing"])
def test_wrong_download_says_why_and_leaves_nothing(home, url, page):
    with pytest.raises(DataError, match=f"could not download {url}/{page}"):
        store.download(f"{url}/{page}", "a.bin", hashlib.sha256(GOOD).hexdigest())
    assert not home.exists() or not list(home.iterdir())


def test_atomic_write_is_all_or_nothing(tmp_path):
    for text in ("one", "two"):
        with store.atomic_write(tmp_path / "sub" / "file") as temporary:
            temporary.write_text(text)
    with (
        pytest.raises(KeyboardInterrupt),
        store.atomic_write(tmp_path / "sub" / "file") as temporary,
    ):
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["file"]
    assert (tmp_path / "sub" / "file").read_text() == "two"


def test_write_to_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OSError, match="No space") as error,
        store.atomic_write(tmp_path / "file") as t,
    ):
        t.write_text("new")
    assert "was not written" in error.value.__notes__[0]
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def arrays():
    return {"x": np.arange(100, dtype=np.uint8), "y": np.linspace(0, 1, 5)}


def same(a, b):
    return list(a) == list(b) and all(
        np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a
    )


def test_cache_is_filled_once(home):
    assert same(store.cached("a", arrays), arrays())
    assert same(store.cached("a", pytest.fail), arrays())


def test_damaged_cache_is_reported_and_made_again(home, capsys):
    store.cached("a", arrays)
    path = home / "cache" / "a.npz"
    good = path.read_bytes()
    for content in (b"", good[:100], good.replace(bytes([50, 51]), bytes([50, 99]))):
        path.write_bytes(content)
        assert same(store.cached("a", arrays), arrays())
        assert "a.npz is damaged" in capsys.readouterr().out
        assert same(store.cached("a", pytest.fail), arrays())


def test_folder_that_cannot_be_written_costs_only_the_cache(home, capsys):
    home.write_text("a file where the folder should be")
    assert same(store.cached("a", arrays), arrays())
    assert "could not be kept" in capsys.readouterr().out


def test_source_is_chosen_by_argument_then_environment(home, monkeypatch, tmp_path):
    def choose(source):
        return store.choose("digits", source, "strokes", ("mnist",))

    assert choose(None) == "strokes" and choose("real") == "mnist" and choose("mnist") == "mnist"
    monkeypatch.setenv("AECOURSE_DATA", "real")
    assert choose(None) == "mnist" and choose("embedded") == "strokes"
    monkeypatch.setenv("AECOURSE_DATA", str(tmp_path))
    assert choose(None) == tmp_path
    with pytest.raises(
        ValueError, match="unknown source 'minst'. Known are .*'mnist', or the path"
    ):
        choose("minst")


def test_files_are_looked_for_in_the_data_folder_then_in_the_mirror(home, monkeypatch, tmp_path):
    monkeypatch.setenv("AECOURSE_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a").write_text("mirror")
    assert store.find("b", "a") == tmp_path / "mirror" / "a" and store.find("c") is None
    home.mkdir()
    (home / "a").write_text("own")
    assert store.find("a") == home / "a"

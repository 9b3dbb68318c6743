"""What a learner's machine does to a course: kills, full disks, folders that are closed, and two processes at once."""

import contextlib
import errno
import functools
import inspect
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from aecourse import __main__ as cli
from aecourse import _notebooks, _writing, comparison, losses
from aecourse.data import Batches, DataError, _store, subspace
from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
from aecourse.training import fit, load_checkpoint, set_seed

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no SIGKILL on Windows")
LIVES, EPOCHS = 30, 90                                   # a life lasts 3 epochs at most
WAIT = 120                                               # seconds after which a process hangs


def make(seed=0):
    set_seed(seed)
    return Autoencoder(mlp_encoder((12,), [300], 3), mlp_decoder(3, [300], (12,), final=None))


def denoise(model, x):
    return losses.squared_error(model(x + 0.1 * torch.randn_like(x)), x)


def arrays(seed=0):
    return {"x": np.random.default_rng(seed).integers(0, 256, 200_000, dtype=np.uint8), "y": np.linspace(0, 1, 5)}


def same(a, b):
    """Equal to the last bit, whatever it is made of."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else np.array_equal(a, b)


def leftovers(folder):
    return sorted(folder.rglob(".*.part"))


@pytest.fixture(scope="module")
def processes():
    """Starts `function(*arguments, connection)` in a process that has torch already; gives the process, and our end."""
    context = multiprocessing.get_context("forkserver")
    # torch._dynamo: the first optimizer of a process would import it
    context.set_forkserver_preload(["pytest", "aecourse.__main__", "aecourse.comparison", "torch._dynamo"])
    started = []

    def start(function, *arguments):
        ours, theirs = context.Pipe()
        started.append(context.Process(target=function, args=(*arguments, theirs)))
        started[-1].start()
        theirs.close()                                   # so that its death is the end of what we read
        return started[-1], ours

    start.context = context
    yield start
    for process in started:
        process.kill()
        process.join()


def answer(connection):
    assert connection.poll(WAIT), "the process hangs"
    return connection.recv()


# -- killed ------------------------------------------------------------------------------------------------------------


def stall(stage, count, share, connection):
    """Have this process say so and stop for good when it comes to one moment of writing for the `count`-th time."""
    def halt():
        connection.send("stalled")
        time.sleep(10 * WAIT)

    def at(place, name, before=None, after=None):
        real, times = getattr(place, name), iter(range(1, 1000))

        def patched(*arguments, **options):
            now = next(times) == count
            if now and before:
                before(*arguments)
                halt()
            result = real(*arguments, **options)
            if now and after:
                halt()
            return result
        setattr(place, name, patched)

    opened = []

    def part(path, content):
        opened.append(open(path, "wb", buffering=0))     # and not closed
        opened[-1].write(content[:int(share * len(content))])

    if stage == "writing":
        at(Path, "write_bytes", before=part)
    elif stage == "flushing":
        at(os, "fsync", before=lambda *_: None)
    elif stage == "renaming":
        at(os, "replace", before=lambda *_: None)
    elif stage == "renamed":
        at(os, "replace", after=True)
    else:
        at(tempfile, "mkdtemp", after=True)


def train(path, stalled, connection):
    """Train with checkpoints; tell each epoch's number before its checkpoint is written, and wait for a word."""
    torch.set_num_threads(1)
    if stalled:
        stall(*stalled, connection)

    def tell(epoch, *_):
        connection.send(epoch)
        connection.recv()

    train = Batches(subspace(500, 12, 3)[0], size=32)
    fit(make(), denoise, train, EPOCHS, checkpoint=path, progress=False, after_epoch=tell)
    connection.send("done")


def finish(connection):
    for _ in range(EPOCHS):
        connection.send("go on")
    while answer(connection) != "done":
        pass


def test_killed_30_times_it_ends_bit_for_bit_where_the_run_that_was_not_killed_ends(processes, tmp_path):
    finish(processes(train, tmp_path / "whole.pt", None)[1])
    path, rng = tmp_path / "killed" / "c.pt", random.Random(0)
    lives = ["writing"] * 8 + ["flushing"] * 3 + ["renaming"] * 2 + ["made", "renamed"]
    lives += ["any moment"] * (LIVES - len(lives))
    rng.shuffle(lives)
    done, in_writing = 0, 0
    for stage in lives:
        told, epochs = done, rng.randint(1, 2)
        stalled = None if stage == "any moment" else (stage, epochs, rng.random())
        process, connection = processes(train, path, stalled)
        for _ in range(epochs + 1):
            connection.send("go on")
        if stalled:
            while (told := answer(connection)) != "stalled":
                pass
            told = done + epochs - (stage != "renamed")
        else:
            for _ in range(rng.randint(0, epochs)):
                told = answer(connection)                # so many epochs have been written
            time.sleep(0.03 * rng.random())
        assert process.is_alive()
        process.kill()
        process.join()
        left = leftovers(path.parent)
        assert len(left) <= 1                            # those of earlier kills are gone
        in_writing += any((folder / "c.pt").exists() for folder in left)
        now = load_checkpoint(path, make())[1] if path.exists() else 0
        assert now == told if stalled else now >= told   # nothing that was written is lost
        done = now
    assert in_writing >= 10 and 0 < done < EPOCHS
    finish(processes(train, path, None)[1])
    whole, killed = (torch.load(p, weights_only=True) for p in (tmp_path / "whole.pt", path))
    assert len(whole.pop("seconds")) == len(killed.pop("seconds")) == EPOCHS
    assert list(whole) == ["recipe", "model", "optimizers", "history", "random"] and same(whole, killed)
    assert [p.name for p in path.parent.iterdir()] == ["c.pt"]


def fill(folder, barrier, stalled, connection):
    """Ask for five caches, each made when the others make theirs too; downloads and folders, all at the same time."""
    source = folder.parent / "source.bin"
    os.environ["AECOURSE_DATA_DIR"] = str(folder)
    if stalled:
        stall(*stalled, connection)

    def made_together():
        barrier.wait(WAIT)
        return arrays()

    right = []
    for i in range(5):
        right.append(same(_store.cached(f"a{i}", made_together), arrays()))
        barrier.wait(WAIT)
        got = _store.download(source.as_uri(), folder / "d.bin", sha256=_store.checksum(source))
        right.append(got.read_bytes() == bytes(arrays()["x"]))
        with _writing.arriving(folder / f"f{i}") as work:
            work.mkdir()
            (work / "inside").write_text("whole")
            barrier.wait(WAIT)
        right.append((folder / f"f{i}" / "inside").read_text() == "whole")
    connection.send(right)


@pytest.mark.parametrize("stage", [None, "flushing", "renaming", "made"])
def test_processes_that_fill_the_same_folder_at_once_are_all_right(processes, tmp_path, stage):
    """With a stage, one was killed there before: nobody is misled by what it left, and nothing of it stays."""
    (tmp_path / "source.bin").write_bytes(bytes(arrays()["x"]))
    folder, barrier = tmp_path / "data", processes.context.Barrier(1 if stage else 3)
    if stage:
        process, connection = processes(fill, folder, barrier, (stage, 1, 1.0))
        assert answer(connection) == "stalled"
        process.kill()
        process.join()
        assert len(leftovers(folder)) == 1
    for _, connection in [processes(fill, folder, barrier, None) for _ in range(barrier.parties)]:
        assert answer(connection) == [True] * 15
    each = [path.format(i) for i in range(5) for path in ("cache/a{}.npz", "f{}", "f{}/inside")]
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == sorted(["cache", "d.bin", *each])


def write(path, connection):
    with _writing.arriving(path) as temporary:
        temporary.write_text("second")
    connection.send("done")


def test_what_a_living_process_writes_is_left_to_it(processes, tmp_path):
    with _writing.arriving(tmp_path / "a") as temporary:
        temporary.write_text("first")
        assert answer(processes(write, tmp_path / "a")[1]) == "done"
        assert (tmp_path / "a").read_text() == "second" and temporary.read_text() == "first"
    assert (tmp_path / "a").read_text() == "first" and list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_folder_that_is_swept_away_before_it_is_held_is_made_again(tmp_path, monkeypatch):
    real, swept = tempfile.mkdtemp, []

    def mkdtemp(**options):
        folder = real(**options)
        if not swept:
            swept.append(folder)
            os.rmdir(folder)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with _writing.arriving(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert swept and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_without_locks_only_old_leftovers_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(_writing, "fcntl", None)         # as on Windows
    old, new, other = (tmp_path / f".{name}.part" for name in ("[a]-aaaaaaaa", "[a]-bbbbbbbb", "b-aaaaaaaa"))
    for folder in (old, new, other):
        folder.mkdir()
    for folder in (old, other):
        os.utime(folder, (time.time() - 2 * _writing.DAY,) * 2)
    with _writing.arriving(tmp_path / "[a]") as temporary:
        temporary.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "[a]", new, other])


# -- no room, no right -------------------------------------------------------------------------------------------------


RUN = {"seconds": 1.0, "claims": [{"text": "long " * 4000, "value": 1.0, "below": 2, "above": None, "between": None, "unit": "",
                                   "holds": True}]}


def content(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "filler"}


def write_all(folder, times):
    """Write a checkpoint, a cache, a download and the ledger, the `times`-th time. Returns the model and what was said."""
    model, said = make(), {}
    set_seed(1)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for name, act, expected in (
                ("checkpoint", lambda: fit(model, denoise, [subspace(60, 12, 3)[0]], times, schedule="constant",
                                           checkpoint=folder / "c.pt", progress=False), OSError),
                ("cache", lambda: said.update(right=same(_store.cached(f"a{times}", arrays), arrays())), ()),
                ("download", lambda: _store.download((folder / "source.bin").as_uri(), folder / "d.bin"), DataError),
                ("ledger", lambda: cli.keep("01_a", "embedded", times, RUN), _notebooks.NotebookError)):
            try:
                act()
            except expected as error:
                said[name] = str(error)
    return model, said | {"cache": out.getvalue()}


def suffer(folder, how, connection):
    """Write all, take away the room or the right, write all again, and report."""
    os.environ["AECOURSE_DATA_DIR"], cli.LEDGER = str(folder), folder / "LEDGER.json"
    os.umask(0o022)
    inspect.getsource = functools.cache(inspect.getsource)           # another user may not read the sources
    (folder / "source.bin").write_bytes(bytes(arrays()["x"]))
    first = write_all(folder, 1)[1]
    before = content(folder)
    if how == "a full disk":
        with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    elif how == "a limit on files":
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    else:
        for place in (folder, folder / "cache"):
            place.chmod(0o555)
        if os.geteuid() == 0:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            except OSError:
                return connection.send(None)
    model, said = write_all(folder, 2)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    connection.send((first, said, weights, before == content(folder), [str(path) for path in leftovers(folder)]))


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount") or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder],
                                                   capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def open_folder():
    """A folder that any user may enter: those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
        for place in (folder, f"{folder}/cache"):
            os.chmod(place, 0o755)


NO_ROOM = r"No space left on device: {0} of [\d.]+kB could not be written, [\d.]+k?B are free there{1}\. Free some"
TOO_LARGE = r"File too large: {0} of [\d.]+kB could not be written{1}\. Choose a folder on a disk that takes files as large"
NO_RIGHT = r"Permission denied: {0} of [\d.]+kB could not be written{1}\. Choose a folder that you may write to"


@pytest.mark.parametrize("how, place, error", [
    ("a full disk", "small_disk", NO_ROOM), ("a limit on files", "open_folder", TOO_LARGE),
    ("no right", "open_folder", NO_RIGHT)])
def test_what_cannot_be_written_is_told_and_costs_nothing_that_is_there(processes, request, how, place, error):
    folder = request.getfixturevalue(place)
    report = answer(processes(suffer, folder, how)[1])
    if report is None:
        pytest.skip("this root cannot become another user")
    first, said, weights, kept, left = report
    assert first == {"cache": "", "right": True}         # all was well before
    assert kept and not left                             # and all that was there then is there still, and nothing else
    old = "; the old file is as it was"
    assert re.search(error.format(r"c\.pt", old) + r".*\. The model keeps its weights, and fit goes on", said["checkpoint"])
    assert re.search(r"^a2\.npz could not be kept \(.*" + error.format(r"a2\.npz", "") + ".*: the data is right", said["cache"])
    assert said["right"] is True
    assert re.search("^could not download file:.*" + error.format(r"d\.bin", old), said["download"])
    assert said["ledger"].startswith("LEDGER.json stays without what was measured: ")
    assert re.search(error.format("LEDGER.json", old) if how != "no right" else "Permission denied", said["ledger"])
    model = make()
    set_seed(1)
    fit(model, denoise, [subspace(60, 12, 3)[0]], 2, schedule="constant", progress=False)
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert same(weights, expected)                       # trained to the end of the epoch that could not be written


def test_only_what_a_disk_says_is_explained(tmp_path):
    with pytest.raises(OSError, match=r"^\[Errno \d+\] Connection reset$"):
        with _writing.arriving(tmp_path / "a"):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset")
    assert list(tmp_path.iterdir()) == []


# -- two at once -------------------------------------------------------------------------------------------------------


def measure(folder, source, barrier, connection):
    cli.LEDGER = folder / "LEDGER.json"
    for seed in range(15):
        barrier.wait(WAIT)
        cli.keep("01_a", source, seed, RUN)
    connection.send("done")


def test_two_ledgers_at_once_lose_no_row(processes, tmp_path):
    barrier = processes.context.Barrier(2)
    for _, connection in [processes(measure, tmp_path, source, barrier) for source in ("embedded", "real")]:
        assert answer(connection) == "done"
    kept = json.loads((tmp_path / "LEDGER.json").read_text())
    assert kept["lessons"] == {"01_a": {source: {str(seed): RUN for seed in range(15)} for source in ("embedded", "real")}}
    assert (tmp_path / "LEDGER.md").read_text() == cli.table(kept) + "\n"
    assert not leftovers(tmp_path)


def test_two_comparisons_at_once_lose_no_row(tmp_path, monkeypatch):
    """The other one ends while this one measures."""
    monkeypatch.setattr(comparison, "STORED", tmp_path / "COMPARISON.json")
    row = dict.fromkeys(comparison.COLUMNS, 1.0)
    other = {"mnist": {"0": {"floor": 2.0, "rows": {"PCA": row}}}}

    class Bench:
        def __init__(self, seed, source):
            pass

        def measure(self, name):
            comparison.STORED.write_text(json.dumps(other))
            return row

        def floor(self):
            return 1.0

    monkeypatch.setattr(comparison, "Bench", Bench)
    assert cli.main(["compare", "--seeds", "0", "--sources", "strokes"]) == 0
    kept = json.loads(comparison.STORED.read_text())
    assert kept == other | {"strokes": {"0": {"floor": 1.0, "rows": dict.fromkeys(comparison.KINDS, row)}}}
    assert comparison.STORED.with_suffix(".md").read_text() == comparison.page(kept) + "\n"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells which processes run")
def test_a_killed_ledger_leaves_no_process_behind():
    code = ("import os, time; from aecourse._notebooks import workers\n"
            "if __name__ == '__main__':\n"
            "    with workers(1) as pool:\n"
            "        print(pool.submit(os.getpid).result(), flush=True); pool.submit(time.sleep, 600); time.sleep(600)")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(code, encoding="utf-8")
        with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
            worker = int(parent.stdout.readline())
            parent.kill()
    end = time.monotonic() + WAIT
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(worker)


def alive(pid):
    """Whether a process runs: one that has ended and waits to be read is not counted."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False

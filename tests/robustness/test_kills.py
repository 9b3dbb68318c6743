"""What a machine does to a training: kills at any moment, full disks, two processes at once."""

import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

from aecourse import losses
from aecourse.checkpoints import load_checkpoint
from aecourse.data import Batches, store, subspace
from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
from aecourse.training import fit, set_seed

import numpy as np
import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL"),
]
EPOCHS, KILLS = 60, 30


def make():
    set_seed(0)
    return Autoencoder(mlp_encoder((12,), [300], 3), mlp_decoder(3, [300], (12,), final=None))


def denoise(model, x):
    return losses.squared_error(model(x + 0.1 * torch.randn_like(x)), x)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def train(path, stage, epochs, connection):
    """Train with checkpoints, telling each epoch; in epoch `epochs` die at a stage of writing."""
    torch.set_num_threads(1)

    def tell(epoch, *_):
        connection.send(epoch)
        done.append(epoch)
        if len(done) < epochs:
            return
        if stage == "half written":
            write = Path.write_bytes
            Path.write_bytes = lambda self, b: write(self, bytes(b)[: len(b) // 2]) and die()
        elif stage in ("fsync", "replace"):
            setattr(os, stage, die)

    done, data = [], Batches(subspace(500, 12, 3)[0], batch_size=32)
    fit(make(), denoise, data, EPOCHS, checkpoint=path, progress=False, after_epoch=tell)
    connection.send("done")


@pytest.fixture(scope="module")
def start():
    """Starts `function(*arguments, connection)` in a process; gives the process and our end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["aecourse.training", "torch._dynamo"])

    def start(function, *arguments):
        ours, theirs = context.Pipe()
        process = context.Process(target=function, args=(*arguments, theirs))
        process.start()
        theirs.close()
        return process, ours

    return start


def run_to_the_end(start, path):
    process, connection = start(train, path, None, EPOCHS)
    while connection.recv() != "done":
        pass
    process.join()


def test_run_killed_30_times_ends_bit_for_bit_like_one_that_was_not(start, tmp_path):
    run_to_the_end(start, tmp_path / "whole.pt")
    path, rng, epochs = tmp_path / "killed" / "c.pt", random.Random(0), 0
    stages = ["half written", "fsync", "replace"] * 5 + ["any moment"] * (KILLS - 15)
    rng.shuffle(stages)
    for stage in stages:
        process, connection = start(train, path, stage, 2)
        connection.recv()
        if stage == "any moment":
            time.sleep(0.03 * rng.random())
            process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        now = load_checkpoint(path, make())[1] if path.exists() else 0
        assert now >= epochs  # what was written is never lost
        epochs = now
    assert 0 < epochs < EPOCHS
    run_to_the_end(start, path)
    whole, killed = (torch.load(p, weights_only=True) for p in (tmp_path / "whole.pt", path))
    for state in (whole, killed):
        assert len(state.pop("seconds")) == EPOCHS
    assert same(whole, killed)


def same(a, b):
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def arrays():
    return {"x": np.arange(100_000), "y": np.linspace(0, 1, 5)}


def fill(folder, connection):
    os.environ["AECOURSE_DATA_DIR"] = str(folder)
    for i in range(20):
        got = store.cached(f"a{i}", arrays)
        connection.send(all(np.array_equal(got[k], v) for k, v in arrays().items()))


def test_processes_that_fill_the_same_cache_at_once_are_all_right(start, tmp_path):
    connections = [start(fill, tmp_path)[1] for _ in range(3)]
    assert all(connection.recv() for connection in connections for _ in range(20))
    names = sorted(p.name for p in (tmp_path / "cache").iterdir())
    assert names == sorted(f"a{i}.npz" for i in range(20))


def write_on_a_full_disk(folder, connection):
    os.environ["AECOURSE_DATA_DIR"] = str(folder)
    data = [subspace(60, 12, 3)[0]]
    options = {"schedule": "constant", "checkpoint": folder / "c.pt", "progress": False}
    fit(make(), denoise, data, 1, **options)
    before = (folder / "c.pt").read_bytes()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        fit(make(), denoise, data, 2, **options)
        notes = ["nothing was raised"]
    except OSError as error:
        notes = error.__notes__
    right = np.array_equal(store.cached("a", arrays)["x"], arrays()["x"])
    connection.send((notes, right, (folder / "c.pt").read_bytes() == before))


def test_full_disk_leaves_the_old_checkpoint_and_costs_only_the_cache(start, tmp_path):
    """A limit on the size of files stands in for the disk: writing fails in the middle, alike."""
    notes, right, kept = start(write_on_a_full_disk, tmp_path)[1].recv()
    assert "c.pt was not written" in notes[0] and right and kept

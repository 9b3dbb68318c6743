"""Several processes train what one does: the same losses, one writer, and on from the last checkpoint when one is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import small_recipes
import torch
from torch import nn
from torch.nn import functional as F

from aecourse import distributed, recipes
from aecourse.data import Batches
from aecourse.distributed import Share, Whole

pytestmark = pytest.mark.skipif(not torch.distributed.is_available() or sys.platform == "win32",
                                reason="needs PyTorch's gloo, and torchrun as it is on Linux and macOS")


def torchrun(folder, *tasks, restarts=0):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               f"--max-restarts={restarts}", small_recipes.__file__, json.dumps(tasks)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def log(path):
    """Epoch for epoch, what was logged, without the seconds."""
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert [line.pop("epoch") for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.pop("seconds") > 0 for line in lines)
    return lines


def same(one, two):
    """Up to rounding: the models compute in double precision, so that training does not amplify it to what could be seen."""
    assert len(one) == len(two) > 0
    for a, b in zip(one, two):
        assert a == pytest.approx(b, rel=1e-8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same trainings in one process and in two, under one/ and two/ of a folder; the two start once, for all of them."""
    folder, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    patch.setenv("AECOURSE_DATA_DIR", str(folder / "data"))
    patch.setattr(recipes, "RECIPES", dict(recipes.RECIPES))
    patch.setattr(Batches, "set_epoch", Batches.set_epoch)           # to have it back in the end
    plain, threads, dtype = Batches.set_epoch, torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    small_recipes.shrink(double=True)
    tasks = {"05": {"lesson": "05"}, "07": {"lesson": "07"}, "09": {"lesson": "09", "epochs": 2},
             "10": {"lesson": "10", "epochs": 1}, "single": {"lesson": "05", "size": 1, "epochs": 1}}
    for name, task in tasks.items():
        recipes.train(**task, device="cpu", out=folder / "one" / name, progress=False)
    small_recipes.stopping(2, small_recipes.interrupt)
    recipes.train("07", device="cpu", out=folder / "one" / "stopped", progress=False)
    Batches.set_epoch = plain
    shutil.copytree(folder / "one" / "stopped", folder / "two" / "continued")
    torchrun(folder, *({**task, "out": f"two/{name}"} for name, task in tasks.items()),
             {"lesson": "07", "out": "two/stream", "stream": True, "workers": 1}, {"lesson": "07", "out": "two/continued"},
             {"lesson": "07", "out": "two/stopped", "stop": 2})
    yield folder
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    patch.undo()


@pytest.mark.parametrize("name", ["05", "07", "09", "10", "single"])
def test_two_processes_give_the_losses_of_one(runs, name):
    """A deterministic loss, a VAE, the games of an AAE and of a GAN; and batches of one row, that one of the two lacks."""
    same(log(runs / "one" / name), log(runs / "two" / name))


def test_the_weights_and_running_statistics_are_those_of_one_too(runs):
    one, two = (recipes.trained("07", runs / where / "07").state_dict() for where in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-7, atol=1e-9, msg=lambda text: f"{name}: {text}")


def test_two_processes_that_read_from_disk_give_the_same(runs):
    assert log(runs / "two" / "stream") == log(runs / "two" / "07")


def test_a_run_goes_on_with_more_processes_or_fewer(runs, monkeypatch):
    whole = log(runs / "one" / "07")
    assert len(log(runs / "one" / "stopped")) == len(log(runs / "two" / "stopped")) == 2
    same(whole, log(runs / "two" / "continued"))
    recipes.train("07", device="cpu", out=runs / "two" / "stopped", progress=False)
    same(whole, log(runs / "two" / "stopped"))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_worker_goes_on_from_the_last_checkpoint(runs):
    said = torchrun(runs, {"lesson": "05", "out": "two/killed", "kill": 2}, restarts=1)
    assert "SIGKILL" in said or "-9" in said, said
    assert log(runs / "two" / "killed") == log(runs / "two" / "05")


# -- what it is made of ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [
    torch.randn_like, torch.rand_like, lambda x: torch.randn(len(x), 3), lambda x: torch.rand((len(x), 1, 1)),
    lambda x: torch.randint(9, (len(x), 2)), lambda x: torch.randint(2, 9, size=(len(x),)), lambda x: torch.bernoulli(x),
    lambda x: F.dropout(x, 0.5), lambda x: nn.Dropout(0.3)(x), lambda x: torch.randn(size=(len(x), 2))])
def test_random_numbers_belong_to_the_row(draw):
    x = torch.rand(7, 5)
    torch.manual_seed(1)
    whole, together = draw(x), None
    state = torch.get_rng_state()
    for rank in range(3):
        torch.manual_seed(1)
        share = Share(7, rank, 3)
        with Whole(share):
            part = draw(x[share.rows])
        together = torch.empty_like(whole) if together is None else together
        together[share.rows] = part
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(together, whole)


@pytest.mark.parametrize("draw", [torch.poisson, lambda x: torch.normal(x, 1.0), lambda x: x.clone().normal_(), F.dropout2d,
                                  lambda x: F.gumbel_softmax(x), lambda x: torch.randperm(len(x))])
def test_what_cannot_be_divided_is_refused(draw):
    with Whole(Share(7, 0, 3)), pytest.raises(NotImplementedError, match="randn_like"):
        draw(torch.rand(3, 5, 2))


def test_gradients_flow_through_a_divided_dropout():
    x = torch.rand(4, 6, requires_grad=True)
    with Whole(Share(8, 1, 2)):
        y = F.dropout(x, 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, (y != 0) * 2.0) and 0 < (y != 0).sum() < 24


@pytest.mark.parametrize("whole, n", [(7, 3), (64, 4), (2, 4), (1, 2)])
def test_every_row_is_of_one_process(whole, n):
    shares = [Share(whole, rank, n) for rank in range(n)]
    assert sum(share.own for share in shares) == whole and all(len(share) == whole for share in shares)
    rows = torch.arange(whole)
    assert sorted(torch.cat([rows[share.rows][:share.own] for share in shares]).tolist()) == rows.tolist()
    assert all(len(rows[share.rows]) == share.here >= 1 for share in shares)


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert distributed.start("cpu") == torch.device("cpu") and distributed.world() == (0, 1)
    with distributed.one_first():
        pass
    distributed.agree(1, "anything")
    distributed.stop()
    assert not torch.distributed.is_initialized()

"""scripts/train.py: the recipe of a notebook, trained alone, killed, and by several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from aecourse import recipes

import nbformat
import pytest
import torch
from safetensors.torch import load_file

import lessons
import train

CELLS = {
    "parameters": "SEED = 0\nSOURCE = None\nN_TRAIN = 100",
    "recipe": """
from aecourse import losses
from aecourse.data import subspace
from aecourse.models import Autoencoder, mlp_decoder, mlp_encoder
import os, signal
import torch
X = subspace(300, 12, 3, noise=0.05, seed=SEED)[0]

def make_autoencoder():
    return Autoencoder(mlp_encoder((12,), [16], 3), mlp_decoder(3, [16], (12,), final=None))

def reconstruct(model, x):
    calls.append(1)
    who = [os.environ.get(name) for name in ("RANK", "TORCHELASTIC_RESTART_COUNT", "KILL")]
    if len(calls) == 40 and who == ["1", "0", "yes"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses.squared_error(model(x), x)

calls = []
RECIPE = {
    "model": make_autoencoder, "loss": reconstruct, "train": (X[:N_TRAIN],), "valid": (X[200:],),
    "epochs": 6, "lr": 1e-2, "batch_size": 20,
}""",
    None: "raise RuntimeError('a cell without the tag must not run')",
}

START = f"""
import sys
sys.path.append({str(Path(train.__file__).parent)!r})
from pathlib import Path
from aecourse import recipes
import train
recipes.NOTEBOOKS = Path("notebooks")
train.main()"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with one small lesson, 07, and a program that trains it."""
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": [tag] if tag else []})
        for tag, source in CELLS.items()
    ]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "07_small.ipynb")
    (tmp_path / "start.py").write_text(START)
    monkeypatch.setattr(recipes, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def last_losses(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["reconstruct"] for line in lines]


def start(*arguments, torchrun=(), **env):
    launch = ["-m", "torch.distributed.run", *torchrun] if torchrun else []
    command = [sys.executable, *launch, "start.py", *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1"} | env
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


def test_recipe_is_trained_on_all_examples_or_as_many_as_asked_for(course):
    assert len(recipes.load("07")["train"][0]) == 300
    assert len(recipes.load("07", examples=50)["train"][0]) == 50
    train.main(["07", "--epochs", "2", "--examples", "100"])
    out = Path("runs/07")
    names = {"checkpoint.pt", "log.jsonl", "model.safetensors", "best.safetensors"}
    assert {p.name for p in out.iterdir()} == names and len(last_losses(out)) == 2
    model = recipes.load("07")["model"]()
    model.load_state_dict(load_file(out / "model.safetensors"))


def test_patience_stops_and_the_best_weights_are_kept(course):
    train.main(["07", "--epochs", "40", "--lr", "2", "--patience", "3", "--out", "a"])
    lines = [json.loads(line) for line in Path("a/log.jsonl").read_text().splitlines()]
    scores = [line["valid reconstruct"] for line in lines]
    assert len(scores) < 40 and len(scores) - 1 - scores.index(min(scores)) == 3
    recipe = recipes.load("07")
    model = recipe["model"]()
    model.load_state_dict(load_file("a/best.safetensors"))
    with torch.no_grad():
        assert recipe["loss"](model.eval(), recipe["valid"][0]).item() == pytest.approx(min(scores))


def test_another_run_in_the_same_folder_is_refused(course):
    train.main(["07", "--epochs", "1"])
    train.main(["07", "--epochs", "1"])
    for other, what in (["--seed", "1"], "batches"), (["--lr", "0.1"], "optimizers"):
        with pytest.raises(ValueError, match=what):
            train.main(["07", "--epochs", "1", *other])


def test_training_starts_from_the_weights_of_another_run(course):
    train.main(["07", "--out", "a"])
    train.main(["07", "--out", "b", "--epochs", "1", "--weights", "a/checkpoint.pt"])
    assert last_losses(Path("b"))[0] < 1.1 * last_losses(Path("a"))[-1]


def test_mixed_precision_trains_as_well_as_float32(course):
    train.main(["07", "--out", "a"])
    train.main(["07", "--out", "b", "--amp"])
    assert last_losses(Path("b"))[-1] == pytest.approx(last_losses(Path("a"))[-1], rel=0.1)
    assert load_file("b/model.safetensors")["encoder.2.weight"].dtype == torch.float32


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_also_after_a_kill(course):
    train.main(["07", "--out", "one"])
    done = start("07", "--out", "two", torchrun=["--nproc-per-node=2"])
    assert done.returncode == 0, done.stderr
    assert last_losses(Path("two")) == pytest.approx(last_losses(Path("one")), rel=1e-4)
    restarts = ["--nproc-per-node=2", "--max-restarts=1"]
    done = start("07", "--out", "killed", torchrun=restarts, KILL="yes")  # in epoch 3
    assert done.returncode == 0, done.stderr
    assert "of 6 epochs are done" in done.stderr + done.stdout
    assert last_losses(Path("killed")) == last_losses(Path("two"))


RECIPES = sorted(path.stem[:2] for path in lessons.find() if path.stem[:2] != "13")


@pytest.mark.slow
@pytest.mark.parametrize("lesson", RECIPES)
def test_recipe_of_every_lesson_can_be_trained(lesson, tmp_path):
    arguments = ["--examples", "64", "--epochs", "1", "--batch-size", "16", "--device", "cpu"]
    train.main([lesson, *arguments, "--out", str(tmp_path)])
    assert (tmp_path / "model.safetensors").exists()

"""zoo/, aecourse/zoo.py, scripts/zoo.py: the networks fit, and their cards tell the truth."""

import hashlib
import json
import shutil
from pathlib import Path

from aecourse import losses, recipes, zoo
from aecourse.data import subspace
from aecourse.models import mlp, parameter_count

import pytest
import torch
from safetensors.torch import load_file

import zoo as script

NAMES = sorted(path.stem for path in zoo.FOLDER.glob("*.safetensors"))


def test_every_plan_is_carried_out_and_all_weights_are_small():
    assert NAMES == sorted(script.PLANS) == sorted(p.stem for p in zoo.FOLDER.glob("*.json"))
    assert sum(path.stat().st_size for path in zoo.FOLDER.iterdir()) < 20e6
    assert (zoo.FOLDER / "README.md").read_text(encoding="utf-8") == script.page()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_card_weights_and_recipe_fit_and_the_measures_hold(name):
    card, path = zoo.card(name), zoo.FOLDER / f"{name}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]
    assert path.stat().st_size == card["bytes"]
    floats = [v.dtype for v in load_file(path).values() if v.is_floating_point()]
    assert set(floats) == {torch.float16}
    recipe = recipes.load(name, "embedded")
    model = zoo.load(name, recipe["model"]())
    assert not model.training and parameter_count(model) == card["parameters"]
    assert card["examples"] == len(recipe["train"][0])
    assert card["command"] == " ".join(["python scripts/train.py", *script.command(name)])
    found = script.PLANS[name].measure(model, recipe)
    assert found == pytest.approx(card["measures"], rel=1e-3, abs=0.06)


@pytest.mark.slow
def test_load_makes_the_network_of_the_recipe_and_leaves_random_numbers_alone(capsys):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = zoo.load("07-plane-vae")
    assert torch.equal(torch.rand(3), expected) and capsys.readouterr().out == ""
    assert model.sample(2).shape == (2, 1, 28, 28)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_missing_damaged_and_unfit_weights_are_named_with_what_to_run(tmp_path, monkeypatch):
    model = mlp([12, 3, 12])
    with pytest.raises(
        ValueError, match="07-plane-ae.safetensors cannot be loaded.*zoo.py 07-plane"
    ):
        zoo.load("07-plane-ae", model)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    with pytest.raises(
        FileNotFoundError, match="99.safetensors is missing; `python scripts/zoo.py 99`"
    ):
        zoo.load("99", model)
    shutil.copy(__file__, tmp_path / "99.safetensors")
    with pytest.raises(ValueError, match="99.safetensors cannot be loaded"):
        zoo.load("99", model)


def reconstruct(model, x):
    return losses.squared_error(model(x), x)


def measure(model, recipe):
    with torch.no_grad():
        return {"squared error": reconstruct(model, *recipe["valid"]).item()}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A small recipe "07-small", a plan for it, and an empty folder for its weights."""
    x = subspace(300, 12, 3)[0]
    recipe = {"model": lambda: mlp([12, 3, 12]), "loss": reconstruct, "batch_size": 50}
    recipe |= {"train": (x[:200],), "valid": (x[200:],), "epochs": 2, "lr": 1e-2}
    monkeypatch.setattr(recipes, "load", lambda *arguments: recipe)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    plan = script.Plan("--epochs 3", measure, "a net", "nothing", "Knows 12 numbers.")
    monkeypatch.setattr(script, "PLANS", {"07-small": plan})


def test_plan_is_carried_out_and_float16_is_measured(plan):
    script.main(["07"])
    log = Path("build/zoo/07-small/log.jsonl").read_text().splitlines()
    scores, card = [json.loads(line)["valid reconstruct"] for line in log], zoo.card("07-small")
    assert card["epochs"] == len(log) == 3 and card["examples"] == 200
    assert card["test loss"]["last"] == scores[-1] and card["test loss"]["lowest"] == min(scores)
    assert card["measures"]["squared error"] == pytest.approx(scores[-1], rel=0.01)
    assert card["measures"]["squared error"] != scores[-1]  # that of the rounded weights
    page = (zoo.FOLDER / "README.md").read_text()
    assert "| 07-small | a net | 87 | " in page and card["command"] in page


def test_unplanned_name_is_refused(plan, capsys):
    with pytest.raises(SystemExit):
        script.main(["08"])
    assert "nothing is planned for '08'; known are 07-small" in capsys.readouterr().err

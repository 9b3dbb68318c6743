"""The benchmark: contenders train the same model on the same loss, and its figures are right."""

import json
from types import SimpleNamespace

from aecourse.data import digits
from aecourse.metrics import average_precision

import numpy as np
import pytest
import torch

import contenders
import fraud
import growth
import run
import speed
import turns


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aecourse fit", "bare loop", "PyTorch example"])
def test_contenders_learn_and_answer_after_every_epoch(name, tmp_path):
    for part in ("train", "test"):
        np.save(tmp_path / part, (255 * digits(part, "strokes")[0][:1000, 0]).byte().numpy())
    answers = []
    contenders.contend(lambda answer=None: answers.append(answer), name, 2, str(tmp_path))
    assert answers[0] is None and answers[2]["loss"] < answers[1]["loss"] < 784 * np.log(2)


def test_seconds_to_a_loss_add_up_over_epochs():
    assert [speed.seconds_to(t, [2, 3, 1], [4.5, 4, 4.2]) for t in (5, 4, 1)] == [2, 5, None]


def test_growth_recovers_known_powers():
    points = [growth.BASE | {key: v} for key, values in growth.GROWTH.items() for v in values]
    points = [p | {"seconds": 1e-6 * p["n"] * p["d"] ** 0.5 / p["batch"]} for p in points]
    powers = {key: power for key, (_, power) in growth.curves(points).items()}
    assert powers == pytest.approx({"n": 1, "d": 0.5, "latent": 0, "batch": -1})


@pytest.mark.parametrize("method", [fraud.lesson_05, fraud.pca, fraud.isolation_forest])
def test_methods_find_planted_outliers(method):
    torch.manual_seed(0)
    x = torch.randn(1000, 4) @ torch.randn(4, 12)
    x[800:810], y = 8 * torch.randn(10, 12), torch.arange(200).lt(10)
    model = torch.nn.Sequential(torch.nn.Linear(12, 4), torch.nn.Linear(4, 12))
    recipe = {"model": lambda: model, "loss": lambda model, x: (model(x) - x).pow(2).sum(1).mean()}
    recipe |= {"train": (x[:800],), "batch_size": 50, "lr": 1e-2, "epochs": 5}
    rows = SimpleNamespace(x=x[:800], x_valid=x[800:], y_valid=y, x_test=x[800:], recipe=recipe)
    assert average_precision(method(rows, 0, None), y) > 0.8


@pytest.mark.slow
def test_a_missing_library_is_left_out(capsys):
    assert turns.take_turns("no_such_module:job", {"peer": False}, ["peer"], []) == {}
    assert "peer is left out: ModuleNotFoundError" in capsys.readouterr().out


@pytest.mark.slow
def test_quick_run_writes_three_files_and_keeps_what_they_held(tmp_path):
    before = (run.REPORTS / "benchmark.json").read_text()
    (tmp_path / "benchmark.json").write_text(before)
    run.main(["likelihood", "--quick", "--source", "embedded", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "benchmark.json").read_text())
    nll = stored["likelihood"].pop("strokes, 2 epochs")["results"]["nll"]
    page = (tmp_path / "benchmark.md").read_text()
    assert stored == json.loads(before) and f"| {nll:,.2f} |" in page
    assert "aecourse fit" in (tmp_path / "benchmark.svg").read_text()

"""Claims, widgets, plots, and the machine of the exercises."""

import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from aecourse import metrics, plotting, widgets
from aecourse.claims import ClaimError, claim
from aecourse.exercises import Exercise, is_blank, require
from aecourse.models import VAE, Autoencoder, conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from aecourse.training import History


@pytest.fixture(autouse=True)
def close_figures(monkeypatch):
    monkeypatch.delenv("AECOURSE_LEDGER", raising=False)
    yield
    plt.close("all")


# -- claims ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, bound, holds", [
    (1, {"below": 2}, True), (2, {"below": 2}, False), (3, {"above": 2}, True), (2, {"above": 2}, False),
    (2, {"between": (2, 3)}, True), (3.01, {"between": (2, 3)}, False), (float("nan"), {"below": 2}, False),
    (float("nan"), {"between": (0, 1)}, False), (torch.tensor(0.5), {"above": 0.1}, True), (np.float32(0.5), {"above": 0.6}, False),
])
def test_a_claim_holds_or_raises(value, bound, holds, capsys):
    if holds:
        claim("it is so", value, unit=" dB", **bound)
        assert "✓ it is so" in capsys.readouterr().out
    else:
        with pytest.raises(ClaimError, match="it is so"):
            claim("it is so", value, **bound)


@pytest.mark.parametrize("bounds", [{}, {"below": 1, "above": 0}])
def test_a_claim_has_exactly_one_bound(bounds):
    with pytest.raises(ValueError, match="exactly one"):
        claim("it is so", 0.5, **bounds)


def test_the_ledger_records_what_holds_and_what_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("AECOURSE_LEDGER", str(tmp_path / "ledger.jsonl"))
    monkeypatch.setenv("AECOURSE_SEED", "3")
    claim("small", 1, below=2)
    claim("large", 1, above=2, unit=" s")
    first, second = map(json.loads, (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert first["holds"] and not second["holds"] and second["above"] == 2 and second["unit"] == " s" and second["seed"] == "3"


# -- exercises -------------------------------------------------------------------------------------------------------------------


def double(x):
    return 2 * x


def check_double(attempt):
    require(attempt(3) != 9, "you squared; double it")
    require(attempt(3) == 6, "twice 3 is 6")


EXERCISE = Exercise("Double it.", check_double, ["Add it to itself.", "2 * x"], double, wrong=[(lambda x: x * x, "squared")])


def test_an_exercise_has_three_outcomes():
    assert EXERCISE.check().state == EXERCISE.check(...).state == "not attempted"
    assert EXERCISE.check(double).state == "right"
    squared = EXERCISE.check(lambda x: x * x)
    assert squared.state == "not right" and "squared" in squared.text
    broken = EXERCISE.check(lambda x: x.double())
    assert broken.state == "not right" and "AttributeError" in broken.text
    assert "return 2 * x" in EXERCISE.solution().markdown
    assert "Add it" in EXERCISE.hint().markdown and "hint(2)" in EXERCISE.hint().markdown
    with pytest.raises(ValueError, match="hints 1 to 2"):
        EXERCISE.hint(3)


def blank_dots(x):
    ...


def blank_with_text(x):
    """What to do."""
    ...  # your code


def blank_pass(x):
    pass


def blank_none(x):
    return None


def blank_returned_dots(x):
    return ...


@pytest.mark.parametrize("attempt", [None, ..., blank_dots, blank_with_text, blank_pass, blank_none, blank_returned_dots, (..., ...), {"a": None}])
def test_blank_attempts(attempt):
    assert is_blank(attempt)


@pytest.mark.parametrize("attempt", [double, lambda x: 0, lambda: "a", 0, "", [1, ...], lambda x: print(x)])
def test_attempts(attempt):
    assert not is_blank(attempt)


# -- widgets ---------------------------------------------------------------------------------------------------------------------


def test_explore_draws_at_every_end_and_option_under_test(monkeypatch):
    monkeypatch.setenv("AECOURSE_CHECK_WIDGETS", "1")
    seen = []
    widgets.explore(lambda **kwargs: seen.append(tuple(kwargs.values())), sigma=[0.1, 0.5], k=(1, 9), kind=["a", "b"], on=True)
    assert {(s, k, kind, on) for s in (0.1, 0.5) for k in (1, 9) for kind in "ab" for on in (True, False)} <= set(seen)

    def fails_at_the_end(k):
        return 1 / (9 - k)

    with pytest.raises(ZeroDivisionError):
        widgets.explore(fails_at_the_end, k=(1, 9))


@pytest.mark.parametrize("values", [(), [], (3, 1), "text", (1,)])
def test_a_control_that_cannot_be_made_is_told(values):
    with pytest.raises(ValueError, match="control 'k'"):
        widgets.explore(print, k=values)


# -- plots -----------------------------------------------------------------------------------------------------------------------

CONV = Autoencoder(conv_encoder((3, 16, 16), [4, 8], 2), conv_decoder(2, [8, 4], (3, 16, 16))).eval()
DRAWN = {
    "images": lambda ax: plotting.images(torch.rand(7, 1, 8, 8), columns=3, title="t", ax=ax),
    "weights": lambda ax: plotting.images(torch.randn(4, 8, 8), scale=2.0, title="t", ax=ax),
    "reconstructions": lambda ax: plotting.reconstructions({"x": torch.rand(3, 3, 8, 8), "y": torch.rand(3, 3, 8, 8)}, title="t", ax=ax),
    "history": lambda ax: plotting.history(History(a=[3, 2, 1], **{"valid a": [4, 3, 2]}), reference={"r": 1.5}, title="t", ax=ax),
    "latent": lambda ax: plotting.latent(torch.randn(20, 2), torch.arange(20) % 3, title="t", ax=ax),
    "latent scale": lambda ax: plotting.latent(torch.randn(20, 2), torch.rand(20), title="t", ax=ax),
    "latent_grid": lambda ax: plotting.latent_grid(CONV.decode, n=3, title="t", ax=ax),
    "traversal": lambda ax: plotting.traversal(CONV.decode, torch.zeros(2), [0, 1], title="t", ax=ax),
    "score_histogram": lambda ax: plotting.score_histogram(torch.rand(50), torch.arange(50) % 2, threshold=0.5, title="t", ax=ax),
    "bars": lambda ax: plotting.bars({"a": 1.0, "b": metrics.Interval(2, 1, 3)}, best="high", title="t", ax=ax),
    "diagram": lambda ax: plotting.diagram(CONV, (3, 16, 16), title="t", ax=ax),
    "diagram of a VAE": lambda ax: plotting.diagram(VAE(mlp_encoder((6,), [4], 4), mlp_decoder(2, [4], (6,))), (6,), title="t", ax=ax),
}


@pytest.mark.parametrize("name", DRAWN)
def test_plots_take_an_ax_and_return_it_titled_with_something_drawn(name):
    ax = plt.subplots()[1]
    assert DRAWN[name](ax) is ax and ax.get_title(loc="left") == "t"
    assert ax.images or ax.lines or ax.collections or ax.patches
    own = DRAWN[name](None)
    assert own is not ax and plotting._alt(own.figure) == "t"
    own.figure.canvas.draw()


def test_images_lie_where_they_belong():
    x = torch.zeros(4, 1, 2, 2)
    x[2] = 1
    drawn = plotting.images(x, columns=2).images[0].get_array()
    assert (drawn[3:5, 0:2] == 1).all() and (drawn[0:2] [:, [0, 1, 3, 4]] == 0).all()        # row 1, column 0, a gap of 1 around


def test_latent_grid_has_the_first_number_to_the_right_and_the_second_up():
    def decode(z):
        return torch.stack([z[:, 0], z[:, 1], 0 * z[:, 0]], dim=1).view(-1, 3, 1, 1)

    drawn = plotting.latent_grid(decode, low=0, high=1, n=2).images[0].get_array()
    assert tuple(drawn[0, 0]) == (0, 1, 0) and tuple(drawn[-1, -1]) == (1, 0, 0)


@pytest.mark.parametrize("draw", [
    lambda: plotting.images(torch.rand(3, 2, 8, 8)), lambda: plotting.images(torch.rand(0, 1, 8, 8)),
    lambda: plotting.latent(torch.rand(5, 3)), lambda: plotting.reconstructions({"a": torch.rand(1, 1, 8, 8), "b": torch.rand(2, 1, 8, 8)}),
])
def test_what_cannot_be_drawn_is_told(draw):
    with pytest.raises(ValueError):
        draw()


def test_figures_in_a_notebook_carry_their_titles_as_alternative_text():
    ax = plotting.images(torch.rand(2, 1, 8, 8), title="Two gray squares")
    drawn, metadata = plotting._with_alt(ax.figure)
    assert metadata == {"image/png": {"alt": "Two gray squares"}} and drawn["image/png"].startswith("iVBOR")
    assert os.environ.get("AECOURSE_LEDGER") is None

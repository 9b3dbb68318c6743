"""Controls, what is drawn at their ends, and what is shown when they move."""

import asyncio
import itertools

from aecourse import widgets

import matplotlib.pyplot as plt
import numpy as np
import pytest


def test_explore_draws_at_every_end_and_option(monkeypatch):
    monkeypatch.setenv("AECOURSE_CHECK_WIDGETS", "1")
    seen, controls = set(), {"a": [0.1, 0.5], "b": (1, np.int64(9)), "c": (0, 1.5, 0.5)}
    controls |= {"d": ["x"], "e": True}
    widgets.explore(lambda **values: seen.add(tuple(values.values())), **controls)
    assert seen >= set(itertools.product((0.1, 0.5), (1, 9), (0, 1.5), "x", (True, False)))
    with pytest.raises(ZeroDivisionError):
        widgets.explore(lambda k: 1 / (9 - k), k=(1, 9))


@pytest.mark.parametrize("values", [(), [], (3, 1), "text", (1,)])
def test_a_control_that_cannot_be_made_is_refused(values):
    with pytest.raises(ValueError, match="control 'k'"):
        widgets.explore(print, k=values)


@pytest.fixture
def explored(monkeypatch):
    """`explored(draw, k=...)` gives the control, the reset button, the pictures and the text."""
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    monkeypatch.delenv("AECOURSE_CHECK_WIDGETS", raising=False)

    def explore(draw, **controls):
        widgets.explore(draw, **controls)
        return shown[-1].children

    return explore


def draw(k):
    print(f"k < {k}")
    if k == 3:
        raise ValueError("three <is> wrong")
    for _ in range(k):
        plt.subplots(figsize=(2, 1))[1].set_ylabel("two\nlines" if k == 2 else "one")


def test_explore_shows_all_figures_and_the_text_of_a_value(explored):
    k, reset, pictures, text = explored(draw, k=(1, 4))
    (first,) = pictures.children
    one = first.value
    assert bytes(one).startswith(b"\x89PNG") and "k &lt; 1" in text.value and "figure" in text.value
    k.value = 2
    assert len(pictures.children) == 2 and first.value != one and "k &lt; 2" in text.value
    reset.click()
    assert k.value == 1 and first.value == one
    assert [picture.layout.display for picture in pictures.children] == [None, "none"]
    assert not plt.get_fignums()


def test_explore_raises_the_first_error_and_shows_later_ones(explored):
    k, _, pictures, text = explored(draw, k=(1, 4))
    k.value = 3
    assert "ValueError: three &lt;is&gt; wrong" in text.value
    assert pictures.children[0].layout.display == "none"
    k.value = 1
    assert pictures.children[0].layout.display is None and "wrong" not in text.value
    with pytest.raises(ValueError, match="three"):
        explored(draw, k=[3, 4])


def test_explore_lays_the_figure_out_anew_when_the_control_rests(explored):
    two = explored(draw, k=[2, 1])[2].children[0].value

    async def move():
        k, _, pictures, _ = explored(draw, k=[1, 2])
        k.value = 2
        moved = pictures.children[0].value
        await asyncio.sleep(0.5)
        return moved, pictures.children[0].value

    moved, rested = asyncio.run(move())
    assert moved != two and rested == two

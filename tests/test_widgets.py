"""Controls, and what is drawn at their ends."""

import itertools

from aecourse import widgets

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

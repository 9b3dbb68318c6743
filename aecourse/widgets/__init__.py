"""Experiments with controls: some controls, and a function that draws for their values."""

import itertools
import os
from numbers import Integral, Real

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display


def explore(draw, **controls):
    """Call `draw(**values)` whenever a control moves, and show what it drew or printed.

    draw:     a function of the controls' names that draws a figure or prints, in a second or less.
    controls: `name=[a, b, ...]` is a choice among values (a slider if they are numbers),
              `name=(low, high)` or `(low, high, step)` is a slider of integers or of real numbers,
              `name=True` or `False` is a check box. Anything else is a ValueError.

    If AECOURSE_CHECK_WIDGETS is set, as in the tests, `draw` is first called for every combination
    of the ends of the sliders and all options.
    """
    made = {name: _control(name, values) for name, values in controls.items()}
    if os.environ.get("AECOURSE_CHECK_WIDGETS"):
        for values in itertools.product(*map(_extremes, controls.values())):
            draw(**dict(zip(controls, values)))
            plt.close("all")

    def show(**values):
        draw(**values)
        plt.show()

    display(ipywidgets.VBox([*made.values(), ipywidgets.interactive_output(show, made)]))


def _extremes(values):
    """All options of a choice, the two ends of a slider."""
    if isinstance(values, bool):
        return [True, False]
    return values if isinstance(values, list) else values[:2]


def _control(name, values):
    look = {
        "description": name.replace("_", " "),
        "style": {"description_width": "8em"},
        "layout": {"width": "32em"},
    }
    if isinstance(values, bool):
        return ipywidgets.Checkbox(values, **look)
    if isinstance(values, list) and values:
        if all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
            return ipywidgets.SelectionSlider(options=values, continuous_update=False, **look)
        return ipywidgets.Dropdown(options=values, **look)
    if isinstance(values, tuple) and len(values) in (2, 3) and values[0] < values[1]:
        low, high = values[:2]
        if all(isinstance(v, Integral) for v in values):
            slider, step = ipywidgets.IntSlider, 1
        else:
            slider, step = ipywidgets.FloatSlider, (high - low) / 20
        step = values[2] if len(values) == 3 else step
        ends = {"min": low, "max": high, "step": step, "value": low}
        return slider(**ends, continuous_update=False, **look)
    wanted = "a list of options, (low, high), (low, high, step), True or False"
    raise ValueError(f"control {name!r}: {wanted} expected, got {values!r}")

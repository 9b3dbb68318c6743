"""Experiments with controls: a control or two, and one pure function that draws."""

import itertools
import os

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display


def explore(draw, **controls):
    """Call `draw(**values)` whenever a control moves, and show what it drew or printed.

    draw:     a function of the controls' names that draws one figure, or prints; nothing that takes longer than a blink.
    controls: name=[a, b, ...] for a choice among values (shown as a slider where they are numbers), name=(low, high) or
              (low, high, step) for a slider of whole or real numbers, name=True or False for a tick box.

    With `AECOURSE_CHECK_WIDGETS=1` (the tests set it) `draw` is called at every end and every option first.
    """
    made = {name: _control(name, values) for name, values in controls.items()}
    if os.environ.get("AECOURSE_CHECK_WIDGETS"):
        for values in corners(**controls):
            draw(**values)
            plt.close("all")

    def show(**values):
        draw(**values)
        plt.show()

    display(ipywidgets.VBox([*made.values(), ipywidgets.interactive_output(show, made)]))


def corners(**controls):
    """Every combination of the ends of the sliders and of all options of the choices, as a list of dicts."""
    ends = {name: values if isinstance(values, list) else [True, False] if isinstance(values, bool) else values[:2]
            for name, values in controls.items()}
    return [dict(zip(ends, combination)) for combination in itertools.product(*ends.values())]


def _control(name, values):
    look = {"description": name.replace("_", " "), "style": {"description_width": "8em"}, "layout": {"width": "32em"}}
    if isinstance(values, bool):
        return ipywidgets.Checkbox(values, **look)
    if isinstance(values, list) and values:
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        kind = ipywidgets.SelectionSlider if numbers else ipywidgets.Dropdown
        return kind(options=values, value=values[0], **({"continuous_update": False} if numbers else {}), **look)
    if isinstance(values, tuple) and len(values) in (2, 3) and values[0] < values[1]:
        whole = all(isinstance(v, int) for v in values)
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        step = values[2] if len(values) == 3 else 1 if whole else (values[1] - values[0]) / 20
        return kind(min=values[0], max=values[1], step=step, value=values[0], continuous_update=False, **look)
    raise ValueError(f"control {name!r}: a list of options, (low, high), (low, high, step), True or False; got {values!r}")

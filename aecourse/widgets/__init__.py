"""Experiments with controls: some controls, and a function that draws for their values."""

import asyncio
import itertools
import os
from contextlib import suppress
from html import escape
from io import BytesIO
from numbers import Integral, Real

from aecourse import plotting

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from IPython.utils.capture import capture_output
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

# For screen readers, which say it when it changes: the picture itself has no alternative text.
_HIDDEN = '<p role="status" style="position:absolute;clip-path:inset(50%)">{}</p>'


def explore(draw, **controls):
    """Call `draw(**values)` whenever a control moves, and show what it drew, printed or displayed.

    draw:     a function of the controls' names. It should take less than 0.1 seconds, since it is
              called while a slider is dragged; values that it is too slow for are left out.
    controls: `name=[a, b, ...]` is a choice among values (a slider if they are numbers),
              `name=(low, high)` or `(low, high, step)` is a slider of integers or of real numbers,
              `name=True` or `False` is a check box. Anything else is a ValueError.

    An error of the first call is raised; later ones are shown in place of the picture. If
    AECOURSE_CHECK_WIDGETS is set, as in the tests, `draw` is first called for every combination
    of the ends of the sliders and all options.
    """
    made = {name: _control(name, values) for name, values in controls.items()}
    if os.environ.get("AECOURSE_CHECK_WIDGETS"):
        for values in itertools.product(*map(_extremes, controls.values())):
            draw(**dict(zip(controls, values)))
            plt.close("all")
    starts = {control: control.value for control in made.values()}
    pictures, text = ipywidgets.VBox(), ipywidgets.HTML()
    figures, places, timer = [], {}, None

    def show(settled):
        while len(pictures.children) < len(figures):
            pictures.children += (ipywidgets.Image(layout={"max_width": "100%"}),)
        for picture, figure in itertools.zip_longest(pictures.children, figures):
            picture.layout.display = None if figure else "none"
            if figure:
                picture.value = _png(figure, places, settled)

    def move(change):
        # The browser holds back a control's values, all but the newest, until this has returned.
        nonlocal timer
        try:
            figures[:], text.value = _call(draw, {name: made[name].value for name in made})
            show(settled=False)
        except Exception as error:
            figures.clear()
            said = escape(f"{type(error).__name__}: {error}")
            text.value = f'<b style="color:#d55e00">✗ Not drawn for these values.</b> {said}'
            show(settled=True)
        with suppress(RuntimeError):  # there is no event loop outside of a notebook
            if timer:
                timer.cancel()
            timer = asyncio.get_running_loop().call_later(0.3, show, True)

    def restore(button):
        for control, value in starts.items():
            control.value = value

    figures[:], text.value = _call(draw, {name: made[name].value for name in made})
    show(settled=True)
    reset = ipywidgets.Button(description="reset", layout={"width": "6em"})
    reset.on_click(restore)
    for control in made.values():
        control.observe(move, "value")
    display(ipywidgets.VBox([*made.values(), reset, pictures, text]))


def _call(draw, values):
    """The figures that `draw(**values)` made, and HTML of what it printed and displayed."""
    before = set(plt.get_fignums())
    try:
        with capture_output(stderr=False) as captured:
            draw(**values)
        figures = [plt.figure(number) for number in sorted(set(plt.get_fignums()) - before)]
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    shown = [_HIDDEN.format(escape(plotting.alternative_text(figure))) for figure in figures]
    shown += [_pre(captured.stdout)] if captured.stdout else []
    return figures, "".join(shown + [_html(output.data) for output in captured.outputs])


def _png(figure, places, settled):
    """The figure as a file. Unless it is `settled`, its axes stand where those of the last one did.

    To find their places takes a third of the time. `figure.savefig` would draw it twice.
    """
    kind, engine = (len(figure.axes), *figure.get_size_inches()), figure.get_layout_engine()
    quick = engine is not None and kind in places and not settled
    if quick:
        figure.set_layout_engine("none")
        for ax, place in zip(figure.axes, places[kind]):
            ax.set_position(place)
            ax.set_in_layout(True)  # set_position takes it out of the layout
    canvas, file = FigureCanvasAgg(figure), BytesIO()
    canvas.draw()
    if quick:
        figure.set_layout_engine(engine)
    places[kind] = [ax.get_position(original=True) for ax in figure.axes]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    return file.getvalue()


def _html(data):
    for kind in ("image/png", "image/jpeg"):  # a figure that was shown with plt.show()
        if kind in data:
            return f'<img src="data:{kind};base64,{data[kind]}" alt="figure">'
    return data.get("text/html") or _pre(data.get("text/plain", ""))


def _pre(text):
    return f'<pre style="margin:0;line-height:1.3">{escape(text)}</pre>'


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
            return ipywidgets.SelectionSlider(options=values, **look)
        return ipywidgets.Dropdown(options=values, **look)
    if isinstance(values, tuple) and len(values) in (2, 3) and values[0] < values[1]:
        low, high = values[:2]
        if all(isinstance(v, Integral) for v in values):
            slider, step = ipywidgets.IntSlider, 1
        else:
            slider, step = ipywidgets.FloatSlider, (high - low) / 20
        step = values[2] if len(values) == 3 else step
        ends = {"min": low, "max": high, "step": step, "value": low}
        return slider(**ends, **look)
    wanted = "a list of options, (low, high), (low, high, step), True or False"
    raise ValueError(f"control {name!r}: {wanted} expected, got {values!r}")

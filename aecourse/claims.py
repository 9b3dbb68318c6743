"""What the text of a lesson asserts, checked where it is asserted."""

import json
import math
import os
from html import escape


class ClaimError(AssertionError):
    """A claim that the measurement does not bear out."""


class Claim:
    """The outcome of a claim, shown as a line: a tick, the statement, the measured value beside the bound."""

    def __init__(self, text, value, bound, unit, holds):
        self.text, self.value, self.bound, self.unit, self.holds = text, value, bound, unit, holds

    def __repr__(self):
        return f"{'✓' if self.holds else '✗'} {self.text}: {_show(self.value)}{self.unit} ({self.bound})"

    def _repr_html_(self):
        mark, color = ("✓", "#009e73") if self.holds else ("✗", "#d55e00")
        return (f'<div style="border-left:3px solid {color};padding:2px 10px;margin:2px 0">'
                f'<span style="color:{color};font-weight:bold">{mark}</span> {escape(self.text)}: '
                f'<b>{_show(self.value)}{escape(self.unit)}</b> <span style="opacity:.65">({escape(self.bound)})</span></div>')


def claim(text, value, *, below=None, above=None, between=None, unit=""):
    """Assert that `value` is below, above, or between two bounds; show it, and raise ClaimError when it does not hold.

    text:    the sentence that the lesson says.
    value:   one number (a tensor or array of one element serves).
    below, above, between: exactly one of them; `between=(low, high)` includes its ends.
    unit:    written behind the value.
    """
    given = [bound is not None for bound in (below, above, between)]
    if sum(given) != 1:
        raise ValueError("a claim has exactly one bound: below, above or between")
    value = float(value)
    low, high = between or (above if above is not None else -math.inf, below if below is not None else math.inf)
    holds = low <= value <= high if between else low < value < high
    words = f"claimed: {_show(low)} to {_show(high)}" if between else \
            f"claimed: below {_show(high)}" if below is not None else f"claimed: above {_show(low)}"
    outcome = Claim(text, value, words + unit, unit, bool(holds))
    _display(outcome)
    if os.environ.get("AECOURSE_LEDGER"):                # the ledger wants to see all of them, the broken ones too
        _record(outcome, below=below, above=above, between=between)
    elif not holds:
        raise ClaimError(f"{text}: measured {_show(value)}{unit}, {outcome.bound}")


def _show(value):
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"


def _display(outcome):
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = lambda: None                       # noqa: E731
    if get_ipython() is not None:
        display(outcome)
    else:
        print(outcome)


def _record(outcome, **bounds):
    line = {"lesson": os.environ.get("AECOURSE_LESSON"), "text": outcome.text, "value": outcome.value, **bounds, "unit": outcome.unit,
            "holds": outcome.holds, "seed": os.environ.get("AECOURSE_SEED"), "source": os.environ.get("AECOURSE_SOURCE_NAME")}
    with open(os.environ["AECOURSE_LEDGER"], "a") as file:
        file.write(json.dumps(line) + "\n")

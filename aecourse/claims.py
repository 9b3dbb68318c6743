"""Claims: what the text of a lesson asserts is checked where it is asserted."""

import json
import math
import os
from html import escape

from IPython.display import display


class ClaimError(AssertionError):
    """The measured value is outside of what the claim says."""


class _Claim:
    """One line: a tick or a cross, the text, the measured value, the bound."""

    def __init__(self, text, value, bound, holds):
        self.text, self.value, self.bound = text, value, bound
        self.mark, self.color = ("✓", "#009e73") if holds else ("✗", "#d55e00")

    def __repr__(self):
        return f"{self.mark} {self.text}: {self.value} ({self.bound})"

    def _repr_html_(self):
        return (
            f'<div style="border-left:3px solid {self.color};padding:2px 10px;margin:2px 0">'
            f'<span style="color:{self.color};font-weight:bold">{self.mark}</span> '
            f"{escape(self.text)}: <b>{escape(self.value)}</b> "
            f'<span style="opacity:.65">({escape(self.bound)})</span></div>'
        )


def claim(text: str, value, *, below=None, above=None, between=None, unit: str = "") -> None:
    """Assert that `value` lies within a bound, show it, and raise ClaimError if it does not.

    text:  the sentence that the lesson says.
    value: one number, or a tensor or array of one element.
    below, above, between: exactly one of them (ValueError). A value equal to `below` or `above`
           fails, a value equal to an end of `between=(low, high)` holds.
    unit:  written behind the value.

    If AECOURSE_LEDGER names a file, the claim is appended to it, and nothing is raised.
    """
    if sum(bound is not None for bound in (below, above, between)) != 1:
        raise ValueError("a claim has exactly one bound: below, above or between")
    value = _number(value)
    if below is not None:
        holds, bound = value < _number(below), f"below {format_number(below)}"
    elif above is not None:
        holds, bound = value > _number(above), f"above {format_number(above)}"
    else:
        low, high = map(_number, between)
        holds, bound = low <= value <= high, f"{format_number(low)} to {format_number(high)}"
    shown = _Claim(text, format_number(value) + unit, f"claimed: {bound}{unit}", holds)
    display(shown)
    if os.environ.get("AECOURSE_LEDGER"):
        line = {"lesson": os.environ.get("AECOURSE_LESSON"), "text": text, "value": value}
        line |= {"below": below, "above": above, "between": between, "unit": unit, "holds": holds}
        line["seed"] = os.environ.get("AECOURSE_SEED")
        line["source"] = os.environ.get("AECOURSE_SOURCE_NAME")
        with open(os.environ["AECOURSE_LEDGER"], "a") as file:
            file.write(json.dumps(line, default=_number) + "\n")
    elif not holds:
        raise ClaimError(f"{text}: measured {shown.value}, {shown.bound}")


def format_number(value) -> str:
    """A number as claims and the ledger show it: whole ones in full, others with 4 digits."""
    value = _number(value)
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e6
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def _number(value):
    return float(value.item() if hasattr(value, "item") else value)

"""Claims: what the text of a lesson asserts is checked where it is asserted."""

import json
import math
import os
from contextlib import suppress
from functools import cache
from html import escape
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

LEDGER = Path(__file__).resolve().parents[1] / "reports" / "ledger.json"  # where it is a checkout


class ClaimError(AssertionError):
    """The measured value is outside of what the claim says."""


def claim(text: str, value, *, below=None, above=None, between=None, unit: str = "") -> None:
    """Assert that `value` lies within a bound, show it, and raise ClaimError if it does not.

    text:  the sentence that the lesson says.
    value: one number, or a tensor or array of one element.
    below, above, between: exactly one of them (ValueError). A value equal to `below` or `above`
           fails, a value equal to an end of `between=(low, high)` holds.
    unit:  written behind the value.

    In a notebook the claims of a cell are one table under it. If AECOURSE_LEDGER names a file, the
    claim is appended to it, and nothing is raised.
    """
    if sum(bound is not None for bound in (below, above, between)) != 1:
        raise ValueError("a claim has exactly one bound: below, above or between")
    value = _number(value)
    if below is not None:
        holds = value < _number(below)
    elif above is not None:
        holds = value > _number(above)
    else:
        low, high = map(_number, between)
        holds = low <= value <= high
    row = {"text": text, "value": value, "below": below, "above": above, "between": between}
    row |= {"unit": unit, "holds": holds}
    _show(row)
    if os.environ.get("AECOURSE_LEDGER"):
        with open(os.environ["AECOURSE_LEDGER"], "a") as file:
            file.write(json.dumps(row, default=_number) + "\n")
    elif not holds:
        _show_table()
        raise ClaimError(f"{text}: measured {_measured(row)}, claimed: {bound_of(row)}{unit}")


class ClaimTable(list):
    """The claims of one cell, rows as the ledger holds them: a table that folds, or lines."""

    def __repr__(self):
        return "\n".join(
            f"{'✓' if row['holds'] else '✗'} {row['text']}: {_measured(row)} "
            f"(claimed: {bound_of(row)}{row['unit']})"
            for row in self
        )

    def _repr_html_(self):
        failed = sum(not row["holds"] for row in self)
        claims = "1 claim" if len(self) == 1 else f"{len(self)} claims"
        summary = f"{claims} {'holds' if len(self) == 1 else 'hold'}"
        if failed:
            summary = f"{failed} of {claims} {'does' if failed == 1 else 'do'} not hold"
        heads, lines = ["statement", "measured", "claimed"], []
        found = [_in_ledger(row["text"]) for row in self]
        seeds = sorted({seed for embedded, _ in found for seed in embedded})
        if seeds:
            heads += [f"seeds {seeds[0]} to {seeds[-1]}", "real data"]
        for row, (embedded, real) in zip(self, found):
            cells = [_measured(row), bound_of(row) + row["unit"]]
            if seeds:
                cells += [value_range(rows, "{} ✗") for rows in (list(embedded.values()), real)]
            mark = _mark(row["holds"])
            lines.append(_line("td", f"{mark} {escape(row['text'])}", map(escape, cells)))
        return (
            f'<details open><summary style="cursor:pointer">{_mark(not failed)} {summary}'
            '</summary><div style="overflow-x:auto"><table style="margin:0;font-size:.85em;'
            f'font-variant-numeric:tabular-nums">{_line("th", heads[0], heads[1:])}'
            f"{''.join(lines)}</table></div></details>"
        )


def _line(tag, first, others):
    """A row of the table: a column of text that keeps its width, then columns of numbers."""
    text = f'<{tag} style="text-align:left;min-width:16em;padding:1px 6px">{first}</{tag}>'
    start = f'<{tag} style="text-align:right;white-space:nowrap;padding:1px 10px">'
    return f"<tr>{text}{''.join(f'{start}{cell}</{tag}>' for cell in others)}</tr>"


def _mark(holds):
    mark, color = ("✓", "#009e73") if holds else ("✗", "#d55e00")
    return f'<b style="color:{color}">{mark}</b>'


_cell = ClaimTable()  # the claims of the cell that runs


def _show(row):
    shell = get_ipython()
    if shell is None:
        return print(ClaimTable([row]))
    if _show_table not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", _show_table)
    _cell.append(row)


def _show_table(result=None):
    if _cell:
        display(ClaimTable(_cell))
        _cell.clear()


@cache
def _rows_of_ledger():
    """text -> (lesson, source, seed) -> the claims that say it; empty without a ledger."""
    lessons, rows = {}, {}
    with suppress(OSError, ValueError):  # an installed package has none; a merge may break it
        lessons = json.loads(LEDGER.read_text(encoding="utf-8"))["lessons"]
    for lesson, sources in lessons.items():
        for source, seeds in sources.items():
            for seed in sorted(seeds, key=int):
                for row in seeds[seed]["claims"]:
                    runs = rows.setdefault(row["text"], {})
                    runs.setdefault((lesson, source, int(seed)), []).append(row)
    return rows


def _in_ledger(text):
    """What was measured: {seed: row} on embedded data, and rows on real data.

    Both are empty where the text does not say which claim is meant: where it stands twice.
    """
    runs = _rows_of_ledger().get(text, {})
    if len({lesson for lesson, *_ in runs}) != 1 or any(len(rows) > 1 for rows in runs.values()):
        return {}, []
    embedded = {seed: row for (_, source, seed), (row,) in runs.items() if source == "embedded"}
    return embedded, [row for (_, source, _), (row,) in runs.items() if source != "embedded"]


def _measured(row):
    return _format_number(row["value"]) + row["unit"]


def bound_of(row: dict) -> str:
    """The bound of a claim in words: "below 0.5", "0.1 to 0.3"."""
    if row["between"] is not None:
        return " to ".join(map(_format_number, row["between"]))
    name = "below" if row["below"] is not None else "above"
    return f"{name} {_format_number(row[name])}"


def value_range(rows: list[dict], broken: str = "**{} ✗**") -> str:
    """The smallest and largest value of a claim; `broken` is the form of one that does not hold."""
    ordered = sorted(rows, key=lambda row: row["value"])
    cells = [_measured(row) if row["holds"] else broken.format(_measured(row)) for row in ordered]
    return " … ".join(dict.fromkeys(cells[:1] + cells[-1:])) or "–"


def _format_number(value) -> str:
    """A number as claims and the ledger show it: whole ones in full, others with 4 digits."""
    value = _number(value)
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e6
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def _number(value):
    return float(value.item() if hasattr(value, "item") else value)

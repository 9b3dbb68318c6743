"""Exercises: an attempt is not attempted yet, not right (with a diagnosis), or right.

In a lesson: `ex.kl.check(my_kl)`, `ex.kl.hint()`, `ex.kl.solution()`. A check tests properties
(shapes, gradients, a closed form against Monte Carlo), never names or architectures, so that every
correct answer passes, in every number type.
"""

import dis
import inspect
import math
import textwrap
from html import escape

import numpy as np
import torch

# The instructions of a function that does nothing
_BLANK = "RESUME NOP LOAD_CONST RETURN_VALUE RETURN_CONST POP_TOP COPY_FREE_VARS".split()


class _WrongAnswer(Exception):
    """Raised by `require`: the message is the diagnosis."""


def require(condition, diagnosis):
    """In a check: `diagnosis` is what the learner reads unless `condition` holds."""
    if not condition:
        raise _WrongAnswer(diagnosis)


def is_whole(value) -> bool:
    """Whether it is one integer: Python's, NumPy's, or a tensor or array without axes."""
    number = _item(value)
    is_integer = isinstance(number, int) and not isinstance(number, bool)
    return is_integer and getattr(value, "ndim", 0) == 0


def is_truth(value) -> bool:
    """Whether it is True or False: Python's, NumPy's, or a tensor or array without axes."""
    return isinstance(_item(value), bool) and getattr(value, "ndim", 0) == 0


def is_number(value) -> bool:
    """Whether it is one real number: Python's, NumPy's, or a tensor or array of one element."""
    number = _item(value)
    return isinstance(number, (int, float)) and not isinstance(number, bool)


def _item(value):
    arrays = (torch.Tensor, np.ndarray, np.generic)
    return value.item() if isinstance(value, arrays) and math.prod(value.shape) == 1 else value


class Outcome:
    """What a check found: `state` is "not attempted", "not right" or "right"; `text` says why."""

    COLORS = {"not attempted": "#888888", "not right": "#d55e00", "right": "#009e73"}

    def __init__(self, state, text):
        self.state, self.text = state, text

    def __repr__(self):
        return f"{self.state.capitalize()}. {self.text}"

    def _repr_html_(self):
        color = self.COLORS[self.state]
        return (
            f'<div style="border-left:3px solid {color};padding:2px 10px;margin:2px 0">'
            f'<b style="color:{color}">{self.state.capitalize()}.</b> {escape(self.text)}</div>'
        )


class Text:
    """Text that a notebook shows as Markdown."""

    def __init__(self, markdown):
        self.markdown = markdown

    def __repr__(self):
        return self.markdown

    def _repr_markdown_(self):
        return self.markdown


class Exercise:
    """One exercise.

    prompt:        what to do, in a sentence or two.
    check:         a function of the attempt that calls `require` for all that makes it right; it
                   may return a sentence of praise or insight.
    hints:         from a nudge to nearly the answer.
    answer:        a right function or value: its source is the solution that is shown.
    alternatives:  other right answers.
    wrong:         pairs of a common wrong answer and a fragment of the diagnosis that it gets.
    """

    def __init__(self, prompt, check, hints, answer, alternatives=(), wrong=()):
        self.prompt, self._check, self.hints = prompt, check, tuple(hints)
        self.answer, self.alternatives, self.wrong = answer, tuple(alternatives), tuple(wrong)

    def __repr__(self):
        return self.prompt

    def check(self, attempt=None) -> Outcome:
        """Judge an attempt. An exception does not stop the notebook: it becomes the diagnosis."""
        if _is_blank(attempt):
            return Outcome(
                "not attempted", "Fill in the cell above, then run this one again. `.hint()` helps."
            )
        try:
            said = self._check(attempt)
        except _WrongAnswer as diagnosis:
            return Outcome("not right", str(diagnosis))
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
            return Outcome("not right", f"While your answer was checked, this was raised: {raised}")
        return Outcome("right", said or "")

    def hint(self, n=1) -> Text:
        """The n-th hint, from 1."""
        if not 1 <= n <= len(self.hints):
            raise ValueError(f"this exercise has hints 1 to {len(self.hints)}, not {n}")
        more = f" (`.hint({n + 1})` says more)" if n < len(self.hints) else ""
        return Text(f"**Hint {n}.** {self.hints[n - 1]}{more}")

    def solution(self) -> Text:
        """The source of a right answer."""
        if callable(self.answer):
            source = textwrap.dedent(inspect.getsource(self.answer)).strip()
        else:
            source = repr(self.answer)
        return Text(f"```python\n{source}\n```")


def _is_blank(attempt) -> bool:
    """Whether nothing is there yet.

    That is None, `...`, a function whose body is `...` or `pass`, or a tuple, list or dict of such.
    """
    if attempt is None or attempt is ...:
        return True
    if isinstance(attempt, (tuple, list)):
        return bool(attempt) and all(map(_is_blank, attempt))
    if isinstance(attempt, dict):
        return bool(attempt) and all(map(_is_blank, attempt.values()))
    if inspect.isfunction(attempt):
        code = list(dis.get_instructions(attempt))
        constants = [i.argval for i in code if i.opname in ("LOAD_CONST", "RETURN_CONST")]
        returned = constants[-1] if constants else None
        return all(i.opname in _BLANK for i in code) and returned in (None, ...)
    return False


def check_of_study(first, second, *, what="number", least=-math.inf, read=None):
    """The check of an open exercise: two methods measured at three settings or more, and a claim.

    The attempt is a dict, or a function that returns one: "claim", a sentence; "settings", a list;
    the measurements under the names `first` and `second`; "holds", a function of these two lists
    that is true of them, and not of any two lists.

    what, least: what a measurement is called, and its lowest possible value.
    read: `(name, entries, n) -> list of n floats` of the entries under a name; by default the
          entries are one finite number per setting.
    """

    def numbers(name, entries, n):
        values = [float(value) for value in entries]
        require(len(values) == n, f"{name!r} needs one {what} per setting: {n}, not {len(values)}.")
        require(
            all(map(math.isfinite, values)),
            f"{name!r} holds NaN or infinity: a measurement is a finite number.",
        )
        require(
            all(value >= least for value in values),
            f"{name!r} holds a number below {least:g}, which no {what} can be.",
        )
        return values

    def check(attempt):
        said = attempt() if callable(attempt) else attempt
        wanted = sorted({"claim", "settings", first, second, "holds"})
        require(
            isinstance(said, dict) and set(wanted) <= set(said),
            f"A study is a dict with the entries {', '.join(wanted)}.",
        )
        claim, holds, n = said["claim"], said["holds"], len(said["settings"])
        require(
            isinstance(claim, str) and len(claim.split()) >= 5, "State the claim in a sentence."
        )
        require(
            n >= 3,
            f"You tried {n} settings. Two points always lie on a line: vary one thing in at least "
            "three steps.",
        )
        a, b = ((read or numbers)(name, said[name], n) for name in (first, second))
        require(
            len({round(v, 9) for v in a + b}) > n,
            "The same numbers over and over: was every setting really measured?",
        )
        require(
            callable(holds),
            "'holds' is a function of the two lists that says whether the claim is true of them.",
        )
        require(
            bool(holds(a, b)),
            "By your own measure the claim is not true of what you found. That is a result: say "
            "what is.",
        )
        far = [value + 10 * (max(a + b) - min(a + b)) for value in b]
        others = [
            (b, a),
            (a[::-1], b[::-1]),
            (b[::-1], a[::-1]),
            (a, a),
            (b, b),
            (a, far),
            (far, a),
        ]
        require(
            not all(bool(holds(*other)) for other in others),
            "Your claim is true of other numbers too: with the two methods exchanged, the settings "
            "reversed, both alike, or far apart. A claim that cannot fail says nothing.",
        )
        return f"Measured, and it could have failed: {claim}"

    return check

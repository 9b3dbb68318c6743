"""Exercises: an attempt is not attempted yet, not right (with a diagnosis), or right.

In a lesson: `ex.kl.check(my_kl)`, `ex.kl.hint()`, `ex.kl.solution()`. A check tests properties
(shapes, gradients, a closed form against Monte Carlo), never names or architectures, so that every
correct answer passes, in every number type. What a check calls:

    require           this has to hold, or that is the diagnosis
    require_close     this number or tensor is right, or else which known mistake it is
    as_number, as_truth, as_tensor     what an answer returned, of any library and dtype
    close             whether two of them agree
    needs_gradient    a loss can be trained on
    could_fail        a claim is true of the numbers measured, and not of any numbers
    check_of_study    the whole check of an open exercise

`aecourse.exercises.inputs` has what a check gives to an answer.
"""

import dis
import functools
import inspect
import json
import math
import os
import signal
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from html import escape

from aecourse.data import store
from aecourse.exercises.inputs import CASES, Case

import numpy as np
import torch
from torch import nn

SECONDS = 2  # a check may compute so long, unless the answer is a function of nothing: it trains
OFF = "AECOURSE_PROGRESS"  # an environment variable: "off" keeps no progress

_RAISED = "While your answer was checked, this was raised"
# The instructions of a function that does nothing
_BLANK = "RESUME NOP LOAD_CONST RETURN_VALUE RETURN_CONST POP_TOP COPY_FREE_VARS".split()


class _WrongAnswer(Exception):
    """Raised by `require`: the message is the diagnosis."""


def require(condition, diagnosis):
    """In a check: `diagnosis` is what the learner reads unless `condition` holds."""
    if not condition:
        raise _WrongAnswer(diagnosis)


def _is_truth(value) -> bool:
    """Whether it is True or False: Python's, NumPy's, or a tensor or array without axes."""
    return isinstance(_item(value), bool) and getattr(value, "ndim", 0) == 0


def _is_number(value) -> bool:
    """Whether it is one real number: Python's, NumPy's, or a tensor or array of one element."""
    number = _item(value)
    return isinstance(number, (int, float)) and not isinstance(number, bool)


def _item(value):
    arrays = (torch.Tensor, np.ndarray, np.generic)
    return value.item() if isinstance(value, arrays) and math.prod(value.shape) == 1 else value


def as_number(value, what="one number") -> float:
    """In a check: `value` as a float, if it is one real number of any library."""
    require(_is_number(value), f"Return {what}; yours is {_described(value)}.")
    return float(_item(value))


def as_truth(value, what="True or False") -> bool:
    """In a check: `value` as a bool, if it is one truth value of any library."""
    require(_is_truth(value), f"Return {what}; yours is {_described(value)}.")
    return bool(_item(value))


def as_tensor(value, shape=None, what="a tensor") -> torch.Tensor:
    """In a check: `value` as a float64 tensor without gradient (complex128 where it is complex).

    value: a tensor, an array, a number, or a list or tuple of such, which are stacked.
    shape: the shape that it has to have; None for any.
    """
    found = _as_tensor(value)
    require(found is not None, f"Return {what}; yours is {_described(value)}.")
    require(
        shape is None or tuple(found.shape) == tuple(shape),
        f"Return {what} of shape {tuple(shape or ())}; yours has shape {tuple(found.shape)}.",
    )
    return found


def _as_tensor(value):
    if isinstance(value, (list, tuple)) and value:
        parts = [_as_tensor(part) for part in value]
        alike = None not in parts and len({part.shape for part in parts}) == 1
        return torch.stack(parts) if alike else None
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        value = torch.from_numpy(np.array(value))
    elif isinstance(value, (bool, int, float)):
        value = torch.tensor(value, dtype=torch.float64)
    if not isinstance(value, torch.Tensor):
        return None
    return value.detach().cpu().to(torch.complex128 if value.is_complex() else torch.float64)


def _described(value):
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"a {kind} of shape {tuple(shape)}" if isinstance(shape, tuple) else f"a {kind}"


def close(a, b, rtol=1e-4) -> bool:
    """Whether two numbers, tensors, arrays or lists agree, in any scale and dtype.

    They have the same shape (a number may have axes of size 1), and no entry differs by more than
    `rtol` times the largest finite entry of b. NaN agrees with nothing, infinity with itself.
    """
    a, b = _as_tensor(a), _as_tensor(b)
    if a is None or b is None:
        return False
    if a.numel() == b.numel() == 1:
        a, b = a.reshape(()), b.reshape(())
    if a.shape != b.shape:
        return False
    finite = b[b.isfinite()].abs()
    bound = rtol * finite.max() if finite.numel() else 0.0
    return bool(((a == b) | ((a - b).abs() <= bound)).all())


def require_close(got, right, mistakes=(), otherwise=None, rtol=1e-4):
    """In a check: require that `got` is `right`; else the diagnosis is that of the mistake it is.

    mistakes:   pairs of a value that a known mistake gives, and the diagnosis. They are looked at
                only if `got` is not right, so they may be right by chance, as for a batch of one.
    otherwise:  the diagnosis if it is none of them; by default both numbers.
    """
    if close(got, right, rtol):
        return
    for value, diagnosis in mistakes:
        require(not close(got, value, rtol), diagnosis)
    if otherwise is None and _is_number(got) and _is_number(right):
        otherwise = f"This gives {float(_item(got)):.5g} where {float(_item(right)):.5g} is right."
    require(False, otherwise or "The numbers are not the right ones.")


def needs_gradient(value, *of):
    """In a check: require a gradient of `value` for each of `of`, and return these gradients.

    value: what the answer returned: a tensor; of more than one number, their sum is taken.
    of:    tensors that require a gradient, and models: all of their parameters.

    Compare the gradients returned with those of a right answer where only a part may be detached.
    """
    wanted = [p for one in of for p in (one.parameters() if isinstance(one, nn.Module) else [one])]
    require(
        isinstance(value, torch.Tensor) and value.requires_grad,
        "No gradient flows through what you return: stay with tensors, with no `.item()`, "
        "`.detach()` or `no_grad()`.",
    )
    gradients = torch.autograd.grad(value.sum(), wanted, retain_graph=True, allow_unused=True)
    require(
        all(gradient is not None and bool(gradient.any()) for gradient in gradients),
        "No gradient reaches all that is to be trained: something on the way there is detached.",
    )
    return gradients


class Outcome:
    """What a check found: `text` says why, and `state` is one of four.

    "not attempted", "not right", "right", and "not checked": the check itself failed, which says
    nothing about the answer.
    """

    COLORS = {
        "not attempted": "#888888",
        "not checked": "#888888",
        "not right": "#d55e00",
        "right": "#009e73",
    }

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
                   may return a sentence of praise or insight. With a second argument, `case`, it is
                   called once per case of inputs: see `aecourse.exercises.inputs`.
    hints:         from a nudge to nearly the answer.
    answer:        a right function or value: its source is the solution that is shown.
    alternatives:  other right answers.
    wrong:         pairs of a common wrong answer and a fragment of the diagnosis that it gets.
    """

    def __init__(self, prompt, check, hints, answer, alternatives=(), wrong=()):
        self.prompt, self._check, self.hints = prompt, check, tuple(hints)
        self.answer, self.alternatives, self.wrong = answer, tuple(alternatives), tuple(wrong)
        self._module = sys._getframe(1).f_globals.get("__name__", "")  # the lesson's, usually

    def __repr__(self):
        return self.prompt

    def check(self, attempt=None) -> Outcome:
        """Judge an attempt. An exception does not stop the notebook: it becomes the diagnosis."""
        if _is_blank(attempt):
            return Outcome(
                "not attempted", "Fill in the cell above, then run this one again. `.hint()` helps."
            )
        try:
            with _randomness_restored(), time_limit(None if self.trains() else SECONDS):
                outcome = self.judge(attempt)
        except TooSlow:
            outcome = Outcome(
                "not right",
                f"The check was stopped after {SECONDS} seconds; with the answer that we know it "
                "takes a small part of one. Is there a loop that never ends, or a large model?",
            )
        _keep_progress(self, outcome)
        return outcome

    def judge(self, attempt, numbers=range(CASES)) -> Outcome:
        """What the check says of an attempt for these cases: no time limit, no progress kept."""
        if callable(self.answer) and not (callable(attempt) or self.trains()):
            return Outcome("not right", f"A function is asked for, not {_described(attempt)}.")
        attempt, first = _marking_errors(attempt), None
        if len(inspect.signature(self._check).parameters) == 1:
            return self._called(attempt)
        for case in map(Case, numbers):
            torch.manual_seed(1_000_003 + case.number)  # not the noise of the case itself
            outcome = self._called(attempt, case)
            if outcome.state == "not right" and first:
                about_dtype = "dtype" in outcome.text or "scalar type" in outcome.text
                if about_dtype and _RAISED in outcome.text and case.dtype == torch.float64:
                    continue  # an answer for float32 is an answer
                outcome.text = f"Right for {first}, but not for {case}. {outcome.text}"
            if outcome.state != "right":
                return outcome
            first = first or case
        return outcome if outcome.state == "right" else Outcome("right", "")

    def _called(self, *arguments):
        """The outcome of one call of the check."""
        try:
            said = self._check(*arguments)
        except _WrongAnswer as error:
            return Outcome("not right", str(error))
        except Exception as error:
            raised = textwrap.shorten(f"{type(error).__name__}: {error}", 400)
            if getattr(error, "of_the_answer", False):
                return Outcome("not right", f"{_RAISED}: {raised}")
            text = f"The check itself failed: {raised}. This is our fault, not yours."
            return Outcome("not checked", text)
        return Outcome("right", said if isinstance(said, str) else "")

    def trains(self) -> bool:
        """Whether the answer is a function of nothing: it trains models, which takes seconds."""
        return inspect.isfunction(self.answer) and not inspect.signature(self.answer).parameters

    def where(self) -> tuple[str, str] | None:
        """The lesson and the exercise's name in it, as in ("lesson_03", "denoising")."""
        lesson = self._module.removeprefix(f"{__name__}.")
        names = vars(sys.modules.get(self._module, sys)).items()
        name = next((name for name, value in names if value is self), None)
        return (lesson, name) if name and lesson.startswith("lesson_") else None

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


class TooSlow(BaseException):
    """Raised in a check that takes too long; no `except Exception` of an answer catches it."""


@contextmanager
def time_limit(seconds):
    """Raise TooSlow after so many seconds of computing, or five times as many in all.

    Where Python can: in the main thread, under Unix. Other programs may use the machine meanwhile.
    """
    main = threading.current_thread() is threading.main_thread()
    if seconds is None or not main or not hasattr(signal, "setitimer"):
        yield
        return
    spent, last, end = 0.0, time.thread_time(), time.monotonic() + 5 * seconds

    def look(_, frame):
        nonlocal spent, last
        now, importing = time.thread_time(), _imports(frame)
        spent, last = spent + (0 if importing else now - last), now
        if spent > seconds or (time.monotonic() > end and not importing):
            raise TooSlow

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _imports(frame):
    """Whether a module is being imported: that is not an answer's time, and must not be stopped."""
    while frame and "importlib" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


@contextmanager
def _randomness_restored():
    """A check draws numbers, and leaves the generators of the notebook as they were."""
    in_numpy = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(in_numpy)


def _marking_errors(value):
    """The value, every function in it (and in what it returns) marking what it raises as its own.

    So an error of an answer is told from an error of the check.
    """
    if type(value) in (tuple, list):
        return type(value)(map(_marking_errors, value))
    if type(value) is dict:
        return {key: _marking_errors(entry) for key, entry in value.items()}
    if not callable(value) or isinstance(value, (type, nn.Module)):
        return value

    @functools.wraps(value)
    def call(*args, **kwargs):
        try:
            return _marking_errors(value(*args, **kwargs))
        except Exception as error:
            error.of_the_answer = True
            raise

    return call


def progress() -> dict[str, dict[str, str]]:
    """{lesson: {exercise: "right" or "tried"}}, from `progress.json` in the data folder.

    What cannot be read counts as nothing: it is replaced at the next check.
    """
    try:
        found = json.loads((store.folder() / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    lessons = found.items() if isinstance(found, dict) else ()
    return {
        lesson: {name: state for name, state in states.items() if state in ("right", "tried")}
        for lesson, states in lessons
        if isinstance(states, dict)
    }


def _keep_progress(exercise, outcome):
    """What was right once stays right. Nothing is kept where the folder cannot be written."""
    place = exercise.where()
    if outcome.state not in ("right", "not right") or not place or os.environ.get(OFF) == "off":
        return
    (lesson, name), kept = place, progress()
    states = kept.setdefault(lesson, {})
    state = "right" if "right" in (outcome.state, states.get(name)) else "tried"
    if states.get(name) == state:
        return
    states[name] = state
    with suppress(OSError), store.atomic_write(store.folder() / "progress.json") as temporary:
        temporary.write_text(json.dumps(kept, indent=1, sort_keys=True), encoding="utf-8")


def could_fail(holds, *lists, least=-math.inf, most=math.inf):
    """In a check: require that a claim is true of what was measured, and not of any numbers.

    holds:        a function of the lists that returns whether the claim is true of them.
    lists:        one list of floats or two: what was measured of one thing, or of two.
    least, most:  what a measurement can be: the claim is asked about such numbers only.

    The claim has to be true of the lists, also where they are off by a millionth, to be false of
    some other lists, and to depend on each list. "The two differ by less than 0.5 everywhere" is
    such a claim, too: it is false where one of them is moved.
    """
    require(callable(holds), "'holds' is a function that says whether the claim is true.")
    size = max(abs(value) for values in lists for value in values) or 1.0
    far = 10 * size

    def true_of(*others):
        others = [[min(max(value, least), most) for value in values] for values in others]
        if others[1:] == others[:1]:  # two things that are measured are never equal
            others[1] = [v + (1e-6 if v < most else -1e-6) * size for v in others[1]]
        try:
            return as_truth(holds(*others), "True or False from 'holds'")
        except Exception as error:
            if not getattr(error, "of_the_answer", False):
                raise
            return False  # a claim that cannot be asked of such numbers is not true of them

    def moved(values, by, at=None):
        return [v + by if at in (None, i) else v for i, v in enumerate(values)]

    said = holds(*[list(values) for values in lists])  # what this raises is told
    require(
        as_truth(said, "True or False from 'holds'"),
        "By your own measure the claim is not true of what you found. That is a result: say what "
        "is.",
    )
    for sign in (1, -1):
        nearly = [
            [v + sign * (-1) ** (i + k) * 1e-6 * size for i, v in enumerate(values)]
            for k, values in enumerate(lists)
        ]
        require(
            true_of(*nearly),
            "Your claim is true of exactly these numbers, and no longer if one of them is off by "
            "a millionth. Measured anew they differ: claim a difference, or a bound.",
        )
    alike = [[edge] * len(v) for v in lists for edge in (max(v), min(v))]
    others = [[v[::-1] for v in lists], *[[values] * len(lists) for values in (*lists, *alike)]]
    others += [lists[::-1], [v[::-1] for v in lists[::-1]]]
    others += [
        [moved(v, far, at) if i == k else v for i, v in enumerate(lists)]
        for k in range(len(lists))
        for at in (None, 0, len(lists[k]) - 1)  # all of a list, its first entry, its last one
    ]
    require(
        not all(true_of(*other) for other in others),
        "Your claim is true of other numbers too: with the two exchanged, the settings reversed, "
        "all alike, or far apart. A claim that cannot fail says nothing.",
    )
    for k, values in enumerate(lists):
        changed = [values[::-1], *lists, *[moved(values, by) for by in (far, -far)]]
        changed += [moved(values, by, i) for i in range(len(values)) for by in (far, -far)]
        require(
            not all(true_of(*lists[:k], other, *lists[k + 1 :]) for other in changed),
            f"Your claim does not depend on the {'first' if k == 0 else 'second'} list: whatever "
            "was measured there, it stays true. Say something about both.",
        )


def check_of_study(*names, what="number", least=-math.inf, most=math.inf, read=None):
    """The check of an open exercise: measurements at three settings or more, and a claim.

    The attempt is a dict, or a function that returns one: "claim", a sentence; "settings", a list;
    the measurements under each of `names` (one name or two); "holds", a function of these lists.
    What `holds` has to be like, `could_fail` says.

    what, least, most: what a measurement is called, and its lowest and highest possible value.
    read: `(name, entries, n) -> list of n floats` of the entries under a name; by default the
          entries are one finite number per setting.
    """

    def numbers(name, entries, n):
        entries = list(entries) if np.iterable(entries) else []
        require(
            len(entries) == n and not any(isinstance(entry, str) for entry in entries),
            f"{name!r} needs one {what} per setting: {n}, not {len(entries)}.",
        )
        return [as_number(entry, f"numbers under {name!r}") for entry in entries]

    def check(attempt):
        said = attempt() if callable(attempt) else attempt
        wanted = sorted({"claim", "settings", *names, "holds"})
        require(
            isinstance(said, dict) and set(wanted) <= set(said),
            f"A study is a dict with the entries {', '.join(wanted)}.",
        )
        claim, settings = said["claim"], said["settings"]
        require(
            isinstance(claim, str) and len(claim.split()) >= 5, "State the claim in a sentence."
        )
        require(np.iterable(settings), "'settings' is a list: what was varied, step by step.")
        n, different = len(list(settings)), len({repr(setting) for setting in settings})
        require(
            different >= 3,
            f"You tried {different} settings that differ. Two points always lie on a line: vary "
            "one thing in at least three steps.",
        )
        lists = [(read or numbers)(name, said[name], n) for name in names]
        for name, values in zip(names, lists):
            require(
                all(map(math.isfinite, values)),
                f"{name!r} holds NaN or infinity: a measurement is a finite number.",
            )
            for edge, beyond in ((least, min(values) < least), (most, max(values) > most)):
                side = "below" if edge == least else "above"
                require(
                    not beyond,
                    f"{name!r} holds a number {side} {edge:g}, which no {what} can be.",
                )
        rounded = [tuple(round(v, 9) for v in values) for values in lists]
        require(
            len(set(rounded)) == len(lists) and len({v for values in rounded for v in values}) > 1,
            "The same numbers over and over: was every setting really measured?",
        )
        could_fail(said["holds"], *lists, least=least, most=most)
        return f"Measured, and it could have failed: {claim}"

    return check

"""Every exercise of every lesson: right answers pass, wrong ones get their own diagnosis."""

import importlib
import inspect
import pkgutil

import aecourse.exercises
from aecourse.exercises import Exercise

import numpy as np
import pytest

MODULES = sorted(m.name for m in pkgutil.iter_modules(aecourse.exercises.__path__))
EXERCISES = {
    f"{module}.{name}": value
    for module in MODULES
    for name, value in vars(importlib.import_module(f"aecourse.exercises.{module}")).items()
    if isinstance(value, Exercise)
}


def is_study(exercise):
    """Whether the answer takes nothing: it trains models, for seconds."""
    answer = exercise.answer
    return inspect.isfunction(answer) and not inspect.signature(answer).parameters


def every_exercise(slow=lambda exercise: False):
    marks = {name: [pytest.mark.slow] for name, e in EXERCISES.items() if slow(e)}
    cases = [pytest.param(e, id=name, marks=marks.get(name, [])) for name, e in EXERCISES.items()]
    return pytest.mark.parametrize("exercise", cases)


def in_numpy(value):
    """The value with NumPy's numbers in place of Python's; a function then returns such values."""
    if inspect.isfunction(value):
        return lambda *args: in_numpy(value(*args))
    if isinstance(value, (tuple, list)):
        return type(value)(map(in_numpy, value))
    if isinstance(value, dict):
        return {key: in_numpy(entry) for key, entry in value.items()}
    convert = {bool: np.bool_, int: np.int64, float: np.float64}.get(type(value))
    return convert(value) if convert else value


def test_every_lesson_has_three_exercises_or_more():
    for module in MODULES:
        assert sum(name.startswith(f"{module}.") for name in EXERCISES) >= 3, module


@every_exercise(slow=is_study)
def test_right_answers_are_right(exercise):
    assert exercise.alternatives
    for i, answer in enumerate([exercise.answer, *exercise.alternatives]):
        outcome = exercise.check(answer)
        assert outcome.state == "right", (i, outcome)


@every_exercise()
def test_right_answers_in_numpy_numbers_are_right(exercise):
    answers = [exercise.answer, *exercise.alternatives][is_study(exercise) :]  # trains only once
    for i, answer in enumerate(answers):
        outcome = exercise.check(in_numpy(answer))
        assert outcome.state == "right", (i, outcome)


@every_exercise()
def test_wrong_answers_are_refused_each_with_its_own_diagnosis(exercise):
    assert len(exercise.wrong) >= 2
    for i, (answer, diagnosis) in enumerate(exercise.wrong):
        outcome = exercise.check(answer)
        assert outcome.state == "not right" and diagnosis in outcome.text, (i, outcome)
        assert "this was raised" not in outcome.text, (i, outcome)


@every_exercise()
def test_an_exercise_has_a_prompt_hints_and_a_readable_solution(exercise):
    assert exercise.check(...).state == "not attempted"
    assert len(exercise.prompt.split()) >= 4 and len(exercise.hints) >= 2
    solution = exercise.solution().markdown
    assert solution.startswith("```python\n") and len(solution) < 3000
    assert "lambda" not in solution.split("\n")[1]

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
SLOW = ["lesson_01.own_study", "lesson_02.own_study", "lesson_06.own_study", "lesson_07.own_study"]


def every_exercise(slow=()):
    marks = {name: [pytest.mark.slow] for name in slow}
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


@every_exercise(slow=SLOW)  # the studies that train
def test_right_answers_are_right(exercise):
    assert exercise.alternatives
    for i, answer in enumerate([exercise.answer, *exercise.alternatives]):
        outcome = exercise.check(answer)
        assert outcome.state == "right", (i, outcome)


@every_exercise()
def test_right_answers_in_numpy_numbers_are_right(exercise):
    answers = [exercise.answer, *exercise.alternatives]
    if inspect.isfunction(answers[0]) and not inspect.signature(answers[0]).parameters:
        answers = answers[1:]  # a study, which would train again
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

"""Every exercise of every lesson: right answers pass, wrong ones get their own diagnosis."""

import importlib
import inspect
import math
import pkgutil

import aecourse.exercises
from aecourse.exercises import Exercise

import numpy as np
import pytest
import torch

MODULES = sorted(m.name for m in pkgutil.iter_modules(aecourse.exercises.__path__))
MODULES = [name for name in MODULES if name.startswith("lesson_")]
EXERCISES = {
    f"{module}.{name}": value
    for module in MODULES
    for name, value in vars(importlib.import_module(f"aecourse.exercises.{module}")).items()
    if isinstance(value, Exercise)
}


def every_exercise(slow=lambda exercise: False):
    marks = {name: [pytest.mark.slow] for name, e in EXERCISES.items() if slow(e)}
    cases = [pytest.param(e, id=name, marks=marks.get(name, [])) for name, e in EXERCISES.items()]
    return pytest.mark.parametrize("exercise", cases)


def in_numpy(value):
    """The value with NumPy's numbers in place of Python's."""
    convert = {bool: np.bool_, int: np.int64, float: np.float64}.get(type(value))
    return convert(value) if convert else value


def in_torch(value):
    """The value with lists for tuples, tensors for numbers, float64 for float32."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, bool | int | float):
        return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    return (
        value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
    )


def converted(value, convert):
    """The value, each part of it converted; a function then returns such values."""
    if inspect.isfunction(value):
        return lambda *args: converted(value(*args), convert)
    if isinstance(value, (tuple, list)):
        return convert(type(value)(converted(part, convert) for part in value))
    if isinstance(value, dict):
        return {key: converted(entry, convert) for key, entry in value.items()}
    return convert(value)


def test_every_lesson_has_three_exercises_or_more():
    for module in MODULES:
        assert sum(name.startswith(f"{module}.") for name in EXERCISES) >= 3, module


@every_exercise(slow=Exercise.trains)
def test_right_answers_are_right(exercise):
    assert exercise.alternatives
    for i, answer in enumerate([exercise.answer, *exercise.alternatives]):
        outcome = exercise.check(answer)
        assert outcome.state == "right", (i, outcome)


@pytest.mark.parametrize("convert", [in_numpy, in_torch])
@every_exercise()
def test_right_answers_of_another_type_are_right(exercise, convert):
    answers = [exercise.answer, *exercise.alternatives][exercise.trains() :]  # trains only once
    for i, answer in enumerate(answers):
        outcome = exercise.check(converted(answer, convert))
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


def odd_values():
    """What no exercise asks for: other types, other shapes, NaN."""
    values = ["7", "", 3, -2.5, True, (), [], {}, (1, 2, 3), ["a", "b"], {"a": 1}, object(), print]
    values += [torch.zeros(0), torch.zeros(2, 3, 5), torch.tensor(math.nan), torch.ones(3, 1)]
    return values + [np.array(["a"]), np.zeros((2, 2)), math.inf, (torch.ones(2), torch.ones(2))]


@every_exercise()
def test_a_check_does_not_fail_on_odd_answers(exercise):
    for value in odd_values():
        answers = [value, lambda *arguments, value=value: value]
        answers += [lambda *arguments, n=n: arguments[min(n, len(arguments) - 1)] for n in (0, 1)]
        for answer in answers[: 2 if exercise.trains() else 4]:
            outcome = exercise.check(answer)
            assert outcome.state == "not right", (value, outcome)

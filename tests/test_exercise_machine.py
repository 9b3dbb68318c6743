"""Exercises: outcomes, blank attempts, number types, studies."""

from aecourse import exercises
from aecourse.exercises import Exercise

import numpy as np
import pytest
import torch


def double(x):
    return 2 * x


def check_double(attempt):
    exercises.require(attempt(3) == 6, f"twice 3 is not {attempt(3)}")


def test_an_exercise_has_three_outcomes_hints_and_a_solution():
    exercise = Exercise("Double it.", check_double, ["Add it to itself.", "2 * x"], double)
    assert exercise.check().state == exercise.check(...).state == "not attempted"
    assert exercise.check(double).state == "right"
    squared, broken = exercise.check(lambda x: x * x), exercise.check(lambda x: x.double())
    assert squared.state == "not right" and "not 9" in squared.text
    assert broken.state == "not right" and "AttributeError" in broken.text
    assert "return 2 * x" in exercise.solution().markdown
    assert "Add it" in exercise.hint().markdown and "hint(2)" in exercise.hint().markdown
    with pytest.raises(ValueError, match="hints 1 to 2"):
        exercise.hint(3)


def blank_with_text(x):
    """What to do, and an empty body."""


BLANK = [None, ..., blank_with_text, lambda x: None, lambda x: ..., (..., ...), {"a": None}]
NOT_BLANK = [double, lambda: "a", 0, "", [1, ...], lambda x: print(x)]


@pytest.mark.parametrize("attempt", BLANK + NOT_BLANK)
def test_blank_attempts_are_recognized(attempt):
    state = Exercise("Double it.", check_double, ["2 * x"], double).check(attempt).state
    assert (state == "not attempted") == any(attempt is blank for blank in BLANK)


WHOLE = [3, np.int64(3), np.array(3), torch.tensor(3)]
TRUTH = [True, np.bool_(False), np.array(True), torch.tensor(False)]
REAL = [0.5, np.float32(0.5), np.array(0.5), torch.tensor([0.5], requires_grad=True)]
OTHER = [None, "3", [3], torch.ones(2)]
GROUPS = [(WHOLE, (1, 0, 1)), (TRUTH, (0, 1, 0)), (REAL, (0, 0, 1)), (OTHER, (0, 0, 0))]


@pytest.mark.parametrize("value, expected", [(v, kinds) for group, kinds in GROUPS for v in group])
def test_numbers_of_every_library_are_recognized(value, expected):
    functions = (exercises.is_whole, exercises.is_truth, exercises.is_number)
    assert tuple(function(value) for function in functions) == expected


CLAIMS = [(lambda a, b: a[0] > b[0], "right"), (lambda a, b: a[0] < b[0], "not right")]
CLAIMS += [(lambda a, b: abs(a[0] - b[0]) < 2, "right"), (lambda a, b: True, "not right")]


@pytest.mark.parametrize("holds, state", CLAIMS)
def test_a_study_is_right_if_its_claim_is_true_and_could_have_failed(holds, state):
    study = Exercise("Compare a and b.", exercises.check_of_study("a", "b"), [], None)
    found = {"claim": "five words about the two", "settings": [1, 2, 3], "holds": holds}
    assert study.check(found | {"a": [3, 4, 6], "b": [2.0, 3.5, 5.0]}).state == state

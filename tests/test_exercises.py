"""Every exercise of every lesson: right answers pass, wrong ones get their own diagnosis, blank ones are told apart."""

import importlib
import pkgutil
import time

import pytest

import aecourse.exercises
from aecourse.exercises import Exercise

MODULES = sorted(m.name for m in pkgutil.iter_modules(aecourse.exercises.__path__))
EXERCISES = {
    f"{module}.{name}": value
    for module in MODULES
    for name, value in vars(importlib.import_module(f"aecourse.exercises.{module}")).items()
    if isinstance(value, Exercise)
}
every = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)


def test_every_lesson_has_three_or_more():
    counts = {module: sum(name.startswith(f"{module}.") for name in EXERCISES) for module in MODULES}
    assert counts and all(count >= 3 for count in counts.values()), counts


@every
def test_the_answer_and_its_alternatives_are_right_and_quickly_checked(exercise):
    started = time.perf_counter()
    assert exercise.check(exercise.answer).state == "right", exercise.check(exercise.answer)
    assert time.perf_counter() - started < 30            # twice, on a machine that does other things as well
    assert exercise.alternatives
    for i, alternative in enumerate(exercise.alternatives):
        assert exercise.check(alternative).state == "right", (i, exercise.check(alternative))


@every
def test_each_wrong_answer_is_refused_with_its_own_diagnosis(exercise):
    assert len(exercise.wrong) >= 2
    for i, (attempt, fragment) in enumerate(exercise.wrong):
        outcome = exercise.check(attempt)
        assert outcome.state == "not right" and fragment in outcome.text, (i, outcome)
        assert not outcome.text.startswith("Your code raised"), (i, outcome)          # diagnosed, not merely crashed


@every
def test_it_has_a_prompt_hints_and_a_solution_that_can_be_read(exercise):
    assert exercise.check(...).state == "not attempted"
    assert len(exercise.prompt.split()) >= 4 and len(exercise.hints) >= 2
    solution = exercise.solution().markdown
    assert solution.startswith("```python\n") and len(solution) < 3000 and "lambda" not in solution.split("\n")[1]

"""Exercises: outcomes, blank attempts, cases, number types, gradients, studies, progress."""

import itertools
import math
import time

from aecourse import exercises
from aecourse.exercises import Exercise
from aecourse.exercises import __main__ as listing
from aecourse.exercises.inputs import CASES, Case, Stub

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


TRUTH = [True, np.bool_(False), np.array(True), torch.tensor(False)]
REAL = [3, np.int64(3), torch.tensor(3), 0.5, np.float32(0.5), np.array(0.5)]
REAL += [torch.tensor([0.5], requires_grad=True)]
OTHER = [None, "3", [3], torch.ones(2)]
GROUPS = [(TRUTH, exercises.as_truth), (REAL, exercises.as_number), (OTHER, None)]


def reads(function, value):
    exercise = Exercise("Return it.", lambda attempt: function(attempt()), [], double)
    return exercise.check(lambda: value).state == "right"


@pytest.mark.parametrize("value, reader", [(v, reader) for group, reader in GROUPS for v in group])
def test_numbers_of_every_library_are_recognized(value, reader):
    for function in (exercises.as_truth, exercises.as_number):
        assert reads(function, value) == (function is reader)


@pytest.mark.parametrize(
    "value", [[1, 2], (1.0, 2), np.float32([1, 2]), torch.tensor([1, 2], dtype=torch.half)]
)
def test_tensors_of_every_kind_are_read(value):
    assert exercises.as_tensor(value, (2,)).tolist() == [1, 2]


CLOSE = [(1e-9, 1.00001e-9), (1e9, 1.00001e9), ([1, 0], np.array([1, 1e-6])), (math.inf, np.inf)]
CLOSE += [(torch.ones(3, 1), np.ones((3, 1))), (torch.ones(1, 1, dtype=torch.half), 1)]
FAR = [(1e-9, 1.001e-9), (1, 0), (math.nan, math.nan), ([1, 2], [1, 2, 3]), ("1", 1), (None, 0)]
FAR += [(math.inf, 1), (torch.zeros(2), torch.zeros(2, 1)), ([[1], [1, 2]], [1, 2])]


def test_closeness_depends_on_no_scale_and_no_library():
    assert all(exercises.close(a, b) for a, b in CLOSE)
    assert not any(exercises.close(a, b) for a, b in FAR)


def say(check, attempt=lambda: 1, answer=double):
    """What a check says, as an exercise's."""
    return Exercise("Double it.", check, ["2 * x"], answer).check(attempt)


def test_a_check_is_called_with_cases_that_differ_in_size_scale_and_dtype():
    seen = []

    def check(attempt, case):
        x = case.values("B", 1, "H", "W")
        seen.append((x.shape, x.dtype, x.std() / case.scale, case.whole(1, 1000), case))
        assert torch.equal(Case(case.number).values("B", 1, "H", "W"), x)
        exercises.require(len(set(x.shape[2:])) == 2 and case.size("B") == len(x), "sizes differ")
        exercises.require(case.number < 3, "only float64 is missing")

    said = say(check, double)
    shapes, dtypes, spreads, wholes, cases = zip(*seen)
    assert len(set(shapes)) == CASES and [shape[0] for shape in shapes] == [6, 1, 17, 4]
    assert dtypes == (*[torch.float32] * 3, torch.float64) and len(set(wholes)) == CASES
    assert all(0.5 < spread < 1.5 for spread in spreads)
    assert said.text.startswith(f"Right for {cases[0]}, but not for {cases[3]}. only float64")
    assert "B = 6" in said.text and "values around 3, float64" in said.text


def test_a_diagnosis_is_given_only_to_an_answer_that_is_not_right():
    def check(attempt, case):
        x = case.values("B", "d")
        mistakes = [(x.sum(), "summed over the batch")]
        exercises.require_close(attempt(x), x.sum() / len(x), mistakes)

    assert say(check, lambda x: x.sum(1).mean()).state == "right"  # also for a batch of one
    assert "summed over the batch" in say(check, lambda x: x.sum()).text
    assert "where" in say(check, lambda x: x.mean()).text
    assert say(check, lambda x: x.sum() / 6).text.startswith("Right for inputs with B = 6")
    only = torch.ones(2, 2)
    assert say(check, lambda x: (x @ torch.ones(x.shape[1])).mean()).state == "right"
    assert "this was raised" in say(check, lambda x: x @ only).text


def test_an_error_of_the_check_is_not_blamed_on_the_answer():
    def check(attempt):
        first, others = attempt()
        return others[0](first).no_such_attribute

    ours = say(check, lambda: (1, [lambda x: x]))
    assert ours.state == "not checked" and "our fault" in ours.text and "int" in ours.text
    for theirs in (lambda: 1 / 0, lambda: (1, [lambda x: x / 0])):
        assert "ZeroDivisionError" in say(check, theirs).text
        assert say(check, theirs).state == "not right"
    assert "function is asked for" in say(check, 5).text


def test_a_check_is_stopped_after_its_time_unless_the_answer_trains(monkeypatch):
    monkeypatch.setattr(exercises, "SECONDS", 0.1)

    def forever():
        try:
            for _ in itertools.count():
                pass
        except Exception:
            return 0

    assert "stopped after" in say(lambda attempt: attempt(), forever).text
    assert "stopped after" in say(lambda attempt: attempt(), lambda: time.sleep(9)).text
    trains = say(lambda attempt: attempt(), lambda: time.sleep(0.7) or "slept", lambda: 0)
    assert trains.text == "slept"


def test_a_check_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(5)
    np.random.seed(5)
    wanted = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    say(lambda attempt: [torch.rand(9), np.random.rand(9)] and "drawn")
    assert (torch.rand(1).item(), np.random.rand()) == wanted


def test_a_gradient_has_to_reach_all_that_is_trained():
    model, x = Stub(dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64)

    def told(loss):
        return say(lambda attempt: exercises.needs_gradient(loss(), model) and "trained").text

    assert told(lambda: (model(x) - x).pow(2).sum()) == "trained"
    assert "No gradient flows" in told(lambda: model(x).sum().item())
    assert "No gradient reaches all" in told(lambda: (model.scale.detach() * x + model.shift).sum())
    assert len(model.seen) == 2 and torch.equal(model.seen[0], x) and model.modes == [True] * 2


CLAIMS = [
    (lambda a, b: a[0] > b[0], "right"),
    (lambda a, b: np.mean(a) > np.mean(b) + 0.3, "right"),
    (lambda a, b: max(abs(x - y) for x, y in zip(a, b)) < 1.5, "right"),  # a null result
    (lambda a, b: torch.tensor(a[0] - b[0] > a[-1] - b[-1] - 2), "right"),
    (lambda a, b: a[0] < b[0], "not true of what you found"),
    (lambda a, b: True, "cannot fail"),
    (lambda a, b: min(a) > 0 and min(b) > 0, "cannot fail"),
    (lambda a, b: a[0] > 2, "does not depend on the second list"),
    (lambda a, b: b[0] < 2.5, "does not depend on the first list"),
    (lambda a, b: a[0] == 3 and b[0] < a[0], "exactly these numbers"),
    (lambda a, b: "yes", "True or False from 'holds'"),
    (lambda a, b: a[9], "IndexError"),
]


@pytest.mark.parametrize("holds, said", CLAIMS)
def test_a_study_is_right_if_its_claim_is_true_and_could_have_failed(holds, said):
    check = exercises.check_of_study("a", "b", least=0)
    found = {"claim": "five words about the two", "settings": [1, 2, 3], "holds": holds}
    found |= {"a": [3, 4, 6], "b": torch.tensor([2.0, 3.5, 5.0])}
    for study in (found, lambda: found):
        outcome = say(check, study, lambda: 0)
        assert outcome.state == said or (outcome.state == "not right" and said in outcome.text)
    assert "below 0, which no number" in say(check, found | {"a": [-1, 4, 6]}, lambda: 0).text
    assert "one number per setting" in say(check, found | {"b": "345"}, lambda: 0).text
    assert "2 settings that differ" in say(check, found | {"settings": [1, 2, 2]}, lambda: 0).text


def test_a_study_may_find_that_nothing_changes():
    found = {"claim": "the two never differ by more", "settings": ["small", "medium", "large"]}
    found["holds"] = lambda a, b: max(abs(x - y) for x, y in zip(a, b)) < 0.15
    check = exercises.check_of_study("a", "b")
    assert (
        say(check, found | {"a": [0.5, 0.5, 0.6], "b": [0.5, 0.6, 0.5]}, lambda: 0).state == "right"
    )
    for b in ([0.5, 0.5, 0.6], [0.5, 0.5, 0.5]):
        study = found | {"a": b, "b": b}
        assert "over and over" in say(check, study, lambda: 0).text


def test_noise_drawn_by_an_answer_is_not_that_of_the_case():
    def check(attempt, case):
        assert not torch.equal(attempt(4), case.normal(4).float())

    assert say(check, torch.randn).state == "right"


ONE = [(lambda a: a[0] < a[1] - 0.5, "right"), (lambda a: max(a) - min(a) < 4, "right")]
ONE += [(lambda a: a == [3, 4, 6], "exactly these"), (lambda a: min(a) >= 0, "cannot fail")]


@pytest.mark.parametrize("holds, said", ONE)
def test_a_study_may_measure_one_thing(holds, said):
    found = {"claim": "five words about one thing", "settings": [1, 2, 3], "a": [3, 4, 6]}
    study = found | {"holds": holds}
    outcome = say(exercises.check_of_study("a", least=0, most=20), study, lambda: 0)
    assert outcome.state == said or (outcome.state == "not right" and said in outcome.text)


@pytest.mark.parametrize("damage", [None, "", "{", "[1]", '{"lesson_00": 3}', b"\xff\x00"])
def test_progress_is_kept_and_a_damaged_file_does_no_harm(home, monkeypatch, capsys, damage):
    from aecourse.exercises import lesson_00 as ex

    monkeypatch.delenv(exercises.OFF)
    path = home / "progress.json"
    if damage is not None:
        home.mkdir()
        path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    assert not any(exercises.progress().values())
    for attempt in (..., lambda x_hat, x: x, ex.squared_error, lambda x_hat, x: x):
        ex.loss.check(attempt)  # right once stays right
    ex.pays_from.check(lambda k, p: 0)
    say(check_double, double)  # of no lesson
    assert exercises.progress() == {"lesson_00": {"loss": "right", "pays_from": "tried"}}
    listing.main()
    said = capsys.readouterr().out
    assert "00   loss: right, pays_from: tried, own_claim: open" in said
    assert "1 right, 1 tried, " in said and str(path) in said
    assert [file.name for file in home.iterdir()] == ["progress.json"]


def test_progress_is_not_kept_where_it_is_off_or_cannot_be_written(home, monkeypatch):
    from aecourse.exercises import lesson_00 as ex

    ex.loss.check(ex.squared_error)
    assert not home.exists()  # the tests switch it off
    monkeypatch.delenv(exercises.OFF)
    home.touch()  # a file where the folder should be
    assert ex.loss.check(ex.squared_error).state == "right"
    assert exercises.progress() == {}

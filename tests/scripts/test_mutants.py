"""Mutants of right answers: how they are made, told apart and counted, and what the report says."""

from aecourse.exercises import Exercise, as_number, require, require_close

import pytest
import torch

import mutants

REPORT = mutants.load()
LESSONS = sorted(path.stem[-2:] for path in mutants.LESSONS.glob("lesson_*.py"))


def mean_of_squares(x, weight):
    if len(x) < 1:
        return 0.0
    return (weight * x.clone() ** 2).sum(dim=0) / max(len(x), 1)


def check_mean(attempt, case):
    x = case.values("B")
    require_close(attempt(x, 2.0), 2 * (x**2).sum() / len(x))


EXERCISE = Exercise("The mean of the squares.", check_mean, [], mean_of_squares)


def test_a_function_is_changed_in_one_place_at_a_time():
    found = mutants.mutants_of(mean_of_squares)
    line = "return (weight * x.clone() ** 2).sum(dim=0) / max(len(x), 1)"
    for old, new in [
        ("weight * ", "weight / "),
        ("** 2", "** 3"),
        ("x.clone()", "x"),
        (".sum", ".mean"),
        ("dim=0", "dim=1"),
        ("dim=0", ""),
        ("max(len(x), 1)", "len(x)"),
        (line[7:], f"-({line[7:]})"),
        (line[7:], f"({line[7:]}).detach()"),
    ]:
        assert f"{line} → {line.replace(old, new)}" in found, (old, new)
    assert "if len(x) < 1: → if len(x) <= 1:" in found
    x = torch.tensor([1.0, 3.0])
    assert found[f"{line} → {line.replace('** 2', '** 3')}"](x, 2.0) == 28


def test_mutants_that_compute_the_same_do_not_count():
    found = mutants.count(EXERCISE)
    assert found["survivors"] == [] and found["raised"] > 0
    assert found["mutants"] == found["same"] + found["refused"] and found["same"] > 2
    calls, mutant = mutants.Calls(EXERCISE, mean_of_squares), mutants.mutants_of(mean_of_squares)
    for what, same in (("x.clone() → x", True), ("(len(x), 1) → (1, len(x))", True)):
        old, new = what.split(" → ")
        line = "return (weight * x.clone() ** 2).sum(dim=0) / max(len(x), 1)"
        assert calls.same(mutant[f"{line} → {line.replace(old, new)}"]) is same
    assert not calls.same(lambda x, weight: mean_of_squares(x, weight) * 1.001)
    assert not calls.same(lambda x, weight: x.zero_() * weight)


def test_a_check_that_fails_or_is_blind_leaves_survivors():
    blind = Exercise("The mean.", lambda attempt: attempt(torch.ones(4), 1.0), [], mean_of_squares)
    fails = Exercise("The mean.", lambda attempt: 1 / 0, [], mean_of_squares)
    assert any("** 2" in what for what in mutants.count(blind)["survivors"])
    assert all("(the check fails)" in what for what in mutants.count(fails)["survivors"])


def noise(model, x):
    with torch.no_grad():
        z = model(x)
    return (z + torch.randn_like(z) - x).pow(2).sum()


def test_gradients_models_and_random_numbers_tell_mutants_apart():
    def check(attempt):
        torch.manual_seed(0)
        require(attempt(torch.nn.Linear(3, 3), torch.ones(2, 3, requires_grad=True)) > 0, "")

    exercise = Exercise("Noise.", check, [], noise)
    calls = mutants.Calls(exercise, noise)
    found = {what: calls.same(mutant) for what, mutant in mutants.mutants_of(noise).items()}
    assert calls.same(noise)
    assert found["with torch.no_grad(): → if True:"] is False
    assert not any(same for what, same in found.items() if "randn" in what and "rand_like" in what)


def test_values_and_studies_have_mutants_of_their_own():
    words = mutants.mutants_of_value({"A": "low", "B": "high", "n": 3})
    assert words["the answer: 'A' and 'B' exchanged"] == {"A": "high", "B": "low", "n": 3}
    assert words["['n']: one more"]["n"] == 4 and words["['n']: the sign"]["n"] == -3
    study = {"claim": "so", "settings": [1, 2], "a": [3.0, 4.0], "holds": lambda a, b: a > b}
    found = mutants.mutants_of_value(study, of_study=True)
    assert "['a'][0]: NaN" in found and "['a'][0]: one more" not in found
    assert "holds" not in found["the answer: without 'holds'"]
    assert not any(what.startswith("['settings'][") for what in found)
    of_first = found["['holds']: of argument 0 alone"]["holds"]
    assert of_first([2], [1]) and of_first([2], [9]) and not of_first([0], [1])


def test_the_report_is_about_the_exercises_as_they_are_and_its_survivors_are_judged():
    assert sorted(REPORT) == LESSONS
    for lesson in LESSONS:
        again = f"python scripts/mutants.py {lesson}"
        assert REPORT[lesson]["source"] == mutants.hash_of(lesson), again
        assert sorted(REPORT[lesson]["exercises"]) == sorted(mutants.exercises_of(lesson)), again
        assert mutants.share(REPORT[lesson]) >= 0.9, lesson
        for name, row in REPORT[lesson]["exercises"].items():
            reasons = mutants.judged().get(f"{lesson}.{name}", {})
            assert set(row["survivors"]) == set(reasons), f"{lesson}.{name} in scripts/mutants.toml"
    assert mutants.REPORT.with_suffix(".md").read_text("utf-8") == mutants.table(REPORT) + "\n"


@pytest.mark.parametrize("lesson, name", [("00", "loss"), ("03", "denoising"), ("07", "diagnosis")])
def test_the_report_can_be_made_again(lesson, name):
    exercise, row = mutants.exercises_of(lesson)[name], REPORT[lesson]["exercises"][name]
    assert len(mutants.mutants(exercise)) == row["mutants"]
    found = mutants.count(exercise, most=8)
    assert found["refused"] > 0 and set(found["survivors"]) <= set(row["survivors"])


def test_a_lesson_is_counted_and_the_others_stay(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(mutants, "REPORT", tmp_path / "mutants.json")
    monkeypatch.setattr(mutants, "exercises_of", lambda lesson: {"mean": EXERCISE})
    assert mutants.main(["00"]) == mutants.main(["03"]) == 0
    assert [*mutants.load()] == ["00", "03"] and "refused" in capsys.readouterr().out
    assert "| **lesson 03** | | | **100.0 %** | | |" in (tmp_path / "mutants.md").read_text("utf-8")
    blind = Exercise("One number.", lambda a: str(as_number(a(torch.ones(2), 1.0))), [], lambda: 0)
    blind.answer = mean_of_squares
    monkeypatch.setattr(mutants, "exercises_of", lambda lesson: {"mean": blind})
    assert mutants.main(["00"]) == 1 and "not judged" in mutants.table(mutants.load())

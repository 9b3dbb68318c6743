"""The ledger of claims, measured on small notebooks."""

import json

import pytest

import ledger

CLAIMS = (
    "from aecourse.claims import claim",
    "claim('The seed is small', SEED, below=2)\nclaim('One is one', 1, between=(1, 1), unit='°')",
)


@pytest.fixture
def report(monkeypatch, tmp_path):
    path = tmp_path / "reports" / "ledger.json"
    monkeypatch.setattr(ledger, "LEDGER", path)
    return path


@pytest.mark.slow
def test_measures_claims_and_reports_those_that_fail(lesson, report, capsys):
    path = lesson("00_small", *CLAIMS)
    before = path.read_bytes()
    assert ledger.main(["--seeds", "1,2", "--sources", "embedded", "--jobs", "2"]) == 1
    assert (
        "00_small, embedded, seed 2: The seed is small: 2.0, wanted below 2"
        in capsys.readouterr().out
    )
    assert path.read_bytes() == before
    runs = json.loads(report.read_text())["lessons"]["00_small"]["embedded"]
    assert [row["holds"] for row in runs["1"]["claims"]] == [True, True]
    assert set(runs["1"]["claims"][0]) == set(ledger.KEYS)
    lines = report.with_suffix(".md").read_text()
    assert "| The seed is small | below 2 | 1 | **2 ✗** | – |" in lines
    assert "| One is one | 1 to 1 | 1° | 1° | – |" in lines


@pytest.mark.slow
def test_missing_measures_only_what_is_not_there(lesson, report, capsys):
    lesson("00_small", "open('runs', 'a').write(f'{SEED}{SOURCE} ')")
    for seeds in ("0", "0-1"):
        assert ledger.main(["--missing", "--seeds", seeds, "--sources", "embedded"]) == 0
    assert (report.parents[1] / "runs").read_text() == "0embedded 1embedded "


@pytest.mark.slow
def test_run_that_fails_leaves_no_old_values(lesson, report, capsys):
    arguments = ["--seeds", "0", "--sources", "embedded"]
    lesson("00_small", *CLAIMS)
    assert ledger.main(arguments) == 0
    lesson("00_small", *CLAIMS, "1 / 0")
    assert ledger.main(arguments) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert ledger.runs_of(ledger.load()) == []


def test_table_shows_ranges_over_the_real_runs(report):
    claim = {"text": "a | b", "below": None, "above": 0.5, "between": None, "unit": " dB"}
    runs = {seed: {"seconds": 2.0, "claims": [claim | {"value": value, "holds": value > 0.5}]}
            for seed, value in (("0", 0.75), ("1", 12345.678), ("2", 0.25))}  # fmt: skip
    text = ledger.table({"on": "torch", "lessons": {"00_a": {"mnist": runs}}})
    assert "| a \\| b | above 0.5 | **0.25 dB ✗** … 1.235e+04 dB |" in text


@pytest.mark.parametrize("text, seeds", [("0-2,7", [0, 1, 2, 7]), ("3", [3])])
def test_seeds_are_ranges_and_lists(text, seeds):
    assert ledger.seed_list(text) == seeds


@pytest.mark.parametrize("arguments", [["--seeds", "four"], ["99_no_such_lesson"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        ledger.main(arguments)
    assert error.value.code == 2

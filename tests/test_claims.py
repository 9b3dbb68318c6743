"""Claims hold or raise, the ledger records both, and a cell shows its own as one table."""

import json
import math
import re

from aecourse import claims
from aecourse.claims import ClaimError, claim

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

HOLDS = [(2, {"below": 3}), (2, {"above": 1}), (2, {"between": (2, 3)})]
HOLDS += [(torch.full((1,), 2.0, requires_grad=True), {"above": np.float32(1.5)})]
FAILS = [(2, {"below": 2}), (2, {"above": 2}), (np.array([4]), {"between": torch.tensor([2, 3])})]
FAILS += [(math.nan, {"below": 2}), (math.nan, {"between": (0, 1)})]


@pytest.mark.parametrize("value, bound", HOLDS)
def test_a_claim_that_holds_is_shown(value, bound, capsys):
    assert claim("it is so", value, unit=" dB", **bound) is None
    assert "✓ it is so: 2 dB (claimed: " in capsys.readouterr().out


@pytest.mark.parametrize("value, bound", FAILS)
def test_a_claim_that_does_not_hold_raises(value, bound):
    with pytest.raises(ClaimError, match="it is so: measured"):
        claim("it is so", value, **bound)


@pytest.mark.parametrize("bounds", [{}, {"below": 1, "above": 0}])
def test_a_claim_has_exactly_one_bound(bounds):
    with pytest.raises(ValueError, match="exactly one"):
        claim("it is so", 0.5, **bounds)


def test_the_ledger_records_claims_instead_of_raising(tmp_path, monkeypatch):
    monkeypatch.setenv("AECOURSE_LEDGER", str(tmp_path / "ledger.jsonl"))
    claim("small", 1, below=2)
    claim("large", torch.ones(()), above=np.float32(2), unit=" s")
    first, second = map(json.loads, (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert first["holds"] and first["below"] == 2
    assert not second["holds"] and second["above"] == 2 and second["unit"] == " s"


@pytest.fixture
def run_cell(monkeypatch, tmp_path):
    """Runs a cell in IPython, beside a ledger of two lessons, and returns what it displayed."""
    row = {"below": 3, "above": None, "between": None, "unit": " dB"}
    lessons = {}
    for lesson, text in (("01_a", "one"), ("01_a", "both"), ("02_b", "both")):
        for seed, value in (("0", 1), ("1", 2.5), ("7", 4)):
            source = "real" if seed == "7" else "embedded"
            runs = lessons.setdefault(lesson, {}).setdefault(source, {})
            claims_of_run = runs.setdefault(seed, {"claims": []})["claims"]
            claims_of_run.append(row | {"text": text, "value": value, "holds": value < 3})
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps({"lessons": lessons}))
    monkeypatch.setattr(claims, "LEDGER", path)
    claims._rows_of_ledger.cache_clear()
    shell = InteractiveShell.instance()

    def run(*lines):
        with capture_output() as captured:
            shell.run_cell("\n".join(["from aecourse.claims import claim", *lines]))
        return captured.outputs

    yield run
    InteractiveShell.clear_instance()
    claims._rows_of_ledger.cache_clear()


def test_the_claims_of_a_cell_are_one_table_beside_the_ledger(run_cell):
    (shown,) = run_cell("claim('one', 2, below=3, unit=' dB')", "claim('a < b', 1, above=0)")
    lines = ["✓ one: 2 dB (claimed: below 3 dB)", "✓ a < b: 1 (claimed: above 0)"]
    assert shown.data["text/plain"].splitlines() == lines
    page = shown.data["text/html"]
    assert "2 claims hold" in page and "a &lt; b" in page
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row)[1:] for row in page.split("<tr>")[2:]]
    assert cells[0] == ["2 dB", "below 3 dB", "1 dB … 2.5 dB", "4 dB ✗"]
    assert cells[1] == ["1", "above 0", "–", "–"]
    (shown,) = run_cell("claim('two', 2, below=3)")  # another cell, another table
    assert "seeds" not in shown.data["text/html"]


def test_a_text_of_two_lessons_gets_no_row_of_the_ledger(run_cell):
    assert "seeds" not in run_cell("claim('both', 2, below=3)")[0].data["text/html"]


def test_a_claim_that_fails_is_in_the_table(run_cell):
    (shown,) = run_cell("claim('one', 2, below=3)", "claim('two', 4, below=3)")
    assert "1 of 2 claims does not hold" in shown.data["text/html"]
    assert "✗ two: 4" in shown.data["text/plain"]


def test_a_broken_ledger_is_left_out(run_cell):
    claims.LEDGER.write_text("<<<<<<< ours")
    assert "1 claim holds" in run_cell("claim('one', 2, below=3)")[0].data["text/html"]

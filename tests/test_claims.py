"""Claims hold or raise, and the ledger records both."""

import json
import math

from aecourse.claims import ClaimError, claim

import numpy as np
import pytest
import torch

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

"""The table of all kinds: measured anew it says the same, PCA's row is scikit-learn's, what is stored is complete."""

import json

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from aecourse import comparison
from aecourse.training import set_seed


@pytest.fixture(scope="module")
def bench():
    return comparison.Bench(0, "embedded", train=1000, test=200)


def test_every_kind_has_a_code_of_its_size_and_gives_images_back(bench):
    for name, kind in comparison.KINDS.items():
        model = kind.make().eval()
        if name == "GAN":
            assert model.sample(3).shape == (3, *comparison.SHAPE) and not hasattr(model, "encode")
            continue
        assert bench.code(model)(bench.x[:3]).shape == (3, kind.latent), name
        assert getattr(model, "reconstruct", model)(bench.x[:3]).shape == (3, *comparison.SHAPE), name


def test_the_row_of_pca_is_that_of_scikit_learn(bench):
    row = bench.measure("PCA")
    pca = PCA(comparison.LATENT, random_state=0).fit(bench.x.flatten(1).numpy())
    x = bench.x_test.flatten(1).numpy()
    error = ((pca.inverse_transform(pca.transform(x)) - x) ** 2).sum(1).mean()
    assert row["reconstruction"] == pytest.approx(error, rel=1e-4)
    assert row["parameters"] == 2 * 784 * comparison.LATENT + comparison.LATENT + 784


def test_new_images_of_a_fitted_normal_have_the_mean_and_covariance_of_the_codes(bench):
    model, _ = bench.train("PCA")
    set_seed(0)
    drawn = bench.code(model)(bench.sample(model, 4000)).detach().numpy()      # clipped to [0, 1], so nearly
    codes = bench.code(model)(bench.x).detach().numpy()
    assert np.abs(drawn.mean(0) - codes.mean(0)).max() < 0.3 * codes.std(0).max()
    assert np.corrcoef(drawn.std(0), codes.std(0))[0, 1] > 0.97


def test_a_row_measured_twice_is_the_same_and_leaves_no_trace(bench):
    set_seed(3)
    before = torch.get_rng_state()
    first, second = bench.measure("undercomplete"), bench.measure("undercomplete")
    assert torch.equal(torch.get_rng_state(), before)
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert all(value is not None for value in first.values()) and 0 < first["probe"] < 100


def test_a_gan_cannot_rebuild(bench):
    row = bench.measure("GAN")
    assert [row[key] for key in ("reconstruction", "denoising", "probe")] == [None] * 3 and row["sampling"] > bench.floor()


def test_table_marks_the_best_and_averages_over_seeds():
    def row(error, probe):
        return dict.fromkeys(comparison.COLUMNS) | {"reconstruction": error, "probe": probe}

    runs = {"0": {"floor": 1.0, "rows": {"one": row(10, 70), "two": row(20, 90)}},
            "1": {"floor": 3.0, "rows": {"one": row(14, 80), "two": row(20, 90)}}}
    rows = comparison.average(runs)
    assert rows["one"]["reconstruction"] == 12 and rows["one"]["probe"] == 75 and rows["one"]["sampling"] is None
    assert comparison.floor(runs) == 2
    one, two = comparison.table(rows).split("\n")[2:]
    assert "**12.0**" in one and "| 75.0 |" in one and "| 20.0 |" in two and "**90.0**" in two and "–" in one


def test_what_is_stored_is_complete():
    kept = json.loads(comparison.STORED.read_text(encoding="utf-8"))
    assert {"strokes", "mnist"} <= set(kept)
    for runs in kept.values():
        for run in runs.values():
            assert list(run["rows"]) == list(comparison.KINDS) and run["floor"] > 0
            assert all(set(row) == set(comparison.COLUMNS) for row in run["rows"].values())
    assert comparison.STORED.with_suffix(".md").read_text(encoding="utf-8") == comparison.page(kept) + "\n"
    assert comparison.stored("embedded") == kept["strokes"] and comparison.stored("real") == kept["mnist"]


def test_a_source_that_was_not_measured_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "STORED", tmp_path / "none.json")
    with pytest.raises(LookupError, match="python -m aecourse compare --sources strokes"):
        comparison.stored("embedded")

"""The table of all kinds: its rows, its averages, what is stored."""

import json

import pytest
import torch
from sklearn.decomposition import PCA

import compare

ROW = dict.fromkeys(compare.COLUMNS)


@pytest.fixture(scope="module")
def bench():
    return compare.Bench(0, "embedded", train=1000, test=200)


@pytest.mark.slow
def test_row_of_pca_is_that_of_scikit_learn_and_is_measured_alike_twice(bench):
    state = torch.get_rng_state()
    row, again = bench.measure("PCA"), bench.measure("PCA")
    assert row | {"seconds": 0} == again | {"seconds": 0}
    assert torch.equal(torch.get_rng_state(), state)
    pca = PCA(compare.LATENT, random_state=0).fit(bench.x.flatten(1).numpy())
    x = bench.x_test.flatten(1).numpy()
    error = ((pca.inverse_transform(pca.transform(x)) - x) ** 2).sum(1).mean()
    assert row["reconstruction"] == pytest.approx(error, rel=1e-4)


def test_every_kind_reconstructs_or_samples_images():
    x = torch.rand(3, *compare.SHAPE)
    for name, (make, _) in compare.KINDS.items():
        model = make().eval()
        images = model.sample(3) if name == "GAN" else getattr(model, "reconstruct", model)(x)
        assert images.shape == x.shape, name


def test_table_marks_the_best_and_averages_over_seeds():
    def rows(error):
        two = ROW | {"reconstruction": 20, "probe": 90}
        return {"one": ROW | {"reconstruction": error, "probe": 70}, "two": two}

    runs = {"0": {"floor": 1.0, "rows": rows(10)}, "1": {"floor": 3.0, "rows": rows(14)}}
    means = compare.average(runs)
    assert means["one"]["reconstruction"] == 12 and means["one"]["sampling"] is None
    assert compare.floor(runs) == 2
    one, two = compare.table(means).split("\n")[2:]
    assert "**12.0**" in one and "| 20.0 |" in two and "**90.0**" in two and "–" in one


def test_stored_table_is_complete(tmp_path, monkeypatch):
    kept = json.loads(compare.STORED.read_text())
    for run in (run for runs in kept.values() for run in runs.values()):
        assert list(run["rows"]) == [*compare.KINDS, *compare.BASELINES] and run["floor"] > 0
    assert compare.STORED.with_suffix(".md").read_text() == compare.page(kept) + "\n"
    assert compare.stored("embedded") == kept["strokes"] and compare.stored("real") == kept["mnist"]
    monkeypatch.setattr(compare, "STORED", tmp_path / "none.json")
    with pytest.raises(LookupError, match="run python scripts/compare.py --sources strokes"):
        compare.stored("embedded")

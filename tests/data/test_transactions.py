"""The simulation has the properties that the lessons rely on; a CSV is read or refused clearly."""

import csv
import os
import zipfile

from aecourse.data import DataError, transactions
from aecourse.data.transactions import _simulate

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

pytestmark = pytest.mark.usefixtures("home")
HEADER = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
MIRROR = os.environ.get("AECOURSE_MIRROR", "")


def read(source=None):
    """All splits in one DataFrame."""
    parts = []
    for split in ("train", "valid", "test"):
        x, y, features, *others = transactions(split, source)
        table = pd.DataFrame(x.numpy(), columns=features).assign(split=split, y=y.numpy())
        names = ("kind", "hours", "amount", "weight")
        parts.append(table.assign(**{n: np.asarray(v) for n, v in zip(names, others)}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def simulated():
    return read("simulated")


def test_simulation_is_reproducible_and_has_the_promised_splits_and_counts(simulated):
    x, y, features, kind, *others = transactions("valid", "simulated")
    assert x.shape == (len(y), len(features)) and x.isfinite().all()
    assert (x.dtype, y.dtype, kind.dtype.kind) == (torch.float32, torch.int64, "U")
    assert [column.dtype for column in others] == [torch.float64, torch.float32, torch.float32]
    counts = pd.crosstab(simulated.kind, simulated.split).drop("normal")
    assert list(counts.sum(axis=1)) == [60] * 5 and counts[["train", "test"]].min(axis=None) >= 10
    assert len(simulated) == 60_000 and ((simulated.kind != "normal") == simulated.y).all()
    day = simulated.hours // 24
    assert simulated.hours.is_monotonic_increasing and set(day) == set(range(60))
    assert (simulated.split == np.select([day < 24, day < 30], ["train", "valid"], "test")).all()
    assert np.allclose(simulated.log_amount, np.log1p(simulated.amount), atol=1e-5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert simulated.equals(read("simulated"))
    assert all(map(np.array_equal, states, (torch.get_rng_state(), np.random.get_state()[1])))
    assert not np.allclose(_simulate(1)[0]["x"], simulated.loc[:, :"subscription"])
    with pytest.raises(ValueError, match="unknown split 'training'.*'train', 'valid', 'test'"):
        transactions("training")


def test_no_single_feature_separates_the_frauds_but_features_depend_nonlinearly(simulated):
    areas = [roc_auc_score(simulated.y, x) for _, x in simulated.loc[:, :"subscription"].items()]
    assert 0.6 < max(max(area, 1 - area) for area in areas) <= 0.90
    # Home, work and the card form a triangle: a card at the workplace is far from home.
    normal, n = simulated[simulated.y == 0], 24_000
    x, y = normal[["log_km_work", "log_km_commute"]], normal.log_km_home
    forest = RandomForestRegressor(20, min_samples_leaf=5, max_samples=0.3, random_state=0)
    for model, low, high in ((LinearRegression(), 0, 0.2), (forest, 0.9, 1)):
        assert low < model.fit(x[:n], y[:n]).score(x[n:], y[n:]) < high


def test_each_kind_of_fraud_does_what_its_name_says(simulated):
    features = simulated.loc[:, :"subscription"].groupby(simulated.kind)
    median, low, high = features.median(), features.min(), features.max()
    assert median.log_amount["card testing"] < np.log1p(3)
    assert median.log_count_24h["card testing"] > median.log_count_24h["normal"]
    assert median.log_km_last["cloned card"] > np.log1p(300)
    assert median.log_hours_last["cloned card"] < np.log(3.1)
    assert median.log_habit["account takeover"] > 1
    assert median.log_km_home["stolen card"] < np.log1p(5)
    assert low["online shop"]["account takeover"] == 1 and high.weekend["stolen card"] == 0
    assert low.log_km_commute["stolen card"] > np.log1p(8)
    unseen = ["log_habit", "log_km_last", "log_km_work"]  # the others of a replay look normal
    assert (low.loc["replay"] >= low.loc["normal"]).drop(unseen).all()
    assert (high.loc["replay"] <= high.loc["normal"]).drop(unseen).all()


def table(rows=200, frauds=20):  # with ULB's columns, over two days in order of time
    numbers = np.random.default_rng(0).normal(size=(rows, 31)).round(6)
    numbers[:, 0], numbers[:, 29] = np.linspace(0, 172_700, rows), np.abs(100 * numbers[:, 29])
    is_fraud = np.arange(rows) * frauds % max(rows, 1) < frauds
    return pd.DataFrame(numbers, columns=HEADER).assign(Class=is_fraud.astype(int))


EVERYDAY = [{"name": "mine.csv.gz"}, {"name": "creditcard.csv.zip"}, {"quoting": csv.QUOTE_ALL}]
EVERYDAY += [{"sep": ";"}, {"sep": ";", "decimal": ","}, {"encoding": "utf-16", "sep": "\t"}]
EVERYDAY += [{"encoding": "utf-8-sig"}, {"lineterminator": "\r\n\r\n"}]  # as on Windows
EVERYDAY += [{"index": True, "sep": "\t"}, {"index": True, "index_label": False}]  # names of rows
EVERYDAY += [{"header": [f" {name.upper()} " for name in HEADER]}]


@pytest.mark.parametrize("how", EVERYDAY, ids=str)
def test_csv_is_read(home, tmp_path, monkeypatch, capsys, how):
    data = table()
    options = {"index": False} | how
    path = tmp_path / options.pop("name", "mine.csv")
    data.sample(frac=1, random_state=0).to_csv(path, **options)  # out of order
    monkeypatch.setenv("AECOURSE_DATA", str(path))
    got = read()
    assert "a sample, 10.0% fraud" in capsys.readouterr().out
    expected = np.column_stack([data[HEADER[1:29]], np.log1p(data.Amount)])
    assert np.allclose(got[[*HEADER[1:29], "log_amount"]], expected, atol=1e-6)
    assert (got.y == data.Class).all() and np.allclose(got.hours, data.Time / 3600)
    assert np.bincount(got.y, got.weight) == pytest.approx([284_315, 492], rel=1e-4)
    assert len(list((home / "cache").iterdir())) == 1  # read once for three splits


def test_kaggle_archive_is_found_and_a_changed_file_is_read_again(home, tmp_path, monkeypatch):
    monkeypatch.setenv("AECOURSE_DATA", "real")
    monkeypatch.setenv("AECOURSE_MIRROR", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__MACOSX/._creditcard.csv", b"\0\5")
        archive.writestr("creditcard.csv", table(100, 10).to_csv(index=False))
    assert len(transactions("test").y) == len(transactions("test", tmp_path).y) == 50
    for amount in (10, 20):  # the data folder goes before the mirror
        table().assign(Amount=amount).to_csv(home / "creditcard.csv", index=False)
        assert (transactions("test").amount == amount).all()


HEAD = ",".join(HEADER).encode()
BAD_FILES = [
    (table().drop(columns=["V3", "Class"]), "columns: V3, Class; it starts with 'Time,V1,V2,V4"),
    (table().assign(V7=np.nan), "line 2, column V7: an empty cell is not a finite number"),
    (table().assign(V7="NaN"), "line 2, column V7: 'NaN'"),
    (table().assign(V2="inf"), "line 2, column V2: 'inf'"),
    (table().assign(V9="0,5"), "line 2, column V9: '0,5'"),
    (table().assign(Amount=-4), "line 2, column Amount: '-4' is not 0 or more"),
    (table().assign(Class=2), "line 2, column Class: '2' is not 0 or 1"),
    (table()[:0], "0 of 0 rows are fraud"),
    (table(frauds=0), "0 of 200 rows are fraud; both classes are needed"),
    (table().assign(Time=0), "cut by time"),
    (b"", "starts with ''"),
    (bytes(range(128, 256)) * 9, "missing or double columns: all 31; it starts with"),
    (b"\x1f\x8b\x08", "ended"),
    (b"PK\3\4 a zip that is cut off", "not a zip file"),
    (HEAD + b"\n0,1,2\n", "line 2, column V3: an empty cell"),
    (HEAD + b"\n" + b"0,5," * 30 + b"0", "more cells than its header"),  # commas as decimal, too
    (HEAD + b"\n7" + b",0" * 31 + b"\n\n8,x", "line 4, column Time: 'x'"),  # row names of R
    (HEAD + b"\n0" + b",0" * 30 + b"\n0" + b",0" * 31, "line 3, saw 32"),
]


@pytest.mark.parametrize("content, message", BAD_FILES)
def test_unusable_file_is_refused_and_named(tmp_path, content, message):
    if isinstance(content, pd.DataFrame):
        content = content.to_csv(index=False).encode()
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match="bad.csv") as error:
        transactions("train", tmp_path / "bad.csv")
    assert message in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])  # OpenML's copy may leave out the first column, Time
def test_openml_is_counted_asked_once_and_kept(home, monkeypatch, capsys, first):
    names, target = HEADER[first:30], np.repeat(["1", "0"], [492, 284_315])
    data = np.linspace(0, 172_792, len(target))[:, None] * np.ones(len(names))
    answers = [Bunch(feature_names=names, data=data[:n], target=target[:n]) for n in (284_807, 500)]
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **_: answers.pop())
    with pytest.raises(DataError, match=f"(?s)500 rows .*creditcard.csv.*{home}.*embedded"):
        transactions("train", "ulb")
    got = read("ulb")
    assert np.bincount(got.y).tolist() == [284_315, 492] and (got.weight == 1).all()
    assert ("gives no times" in capsys.readouterr().out) == bool(first)


@pytest.mark.skipif(not MIRROR, reason="AECOURSE_MIRROR is not set")
def test_real_sample(monkeypatch):
    monkeypatch.setenv("AECOURSE_MIRROR", MIRROR)
    got = read("ulb")
    assert np.bincount(got.y).tolist() == [21_520, 492]
    assert got.weight.sum() == pytest.approx(284_807, rel=1e-4)

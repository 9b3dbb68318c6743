"""Card transactions: the simulation keeps what the lesson relies on, and a csv is read or refused clearly."""

import gzip
import importlib
import os
import time

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from aecourse.data import DataError, transactions

module = importlib.import_module("aecourse.data.transactions")
SPLITS = ("train", "valid", "test")
HEADER = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Caches land in a folder of the test's own, and no variable of the machine decides the source."""
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path / "data"))
    for name in ("AECOURSE_DATA", "AECOURSE_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def simulated():
    return {split: transactions(split, "simulated") for split in SPLITS}


def whole(simulated, name):
    return np.concatenate([np.asarray(getattr(simulated[split], name)) for split in SPLITS])


def test_shapes_types_and_names(simulated):
    for split in SPLITS:
        x, y, *_ = got = simulated[split]
        assert x.shape == (len(y), len(got.features)) and x.dtype == torch.float32 and torch.isfinite(x).all()
        assert y.dtype == torch.int64 and set(y.tolist()) == {0, 1}
        assert len(got.kind) == len(got.hours) == len(got.amount) == len(got.weight) == len(y)
        assert ((got.kind == "normal") == (y == 0).numpy()).all() and (got.weight == 1).all()
        assert torch.allclose(x[:, got.features.index("log_amount")], torch.log1p(got.amount), atol=1e-5)
    assert len(set(got.features)) == len(got.features)


def test_sixty_thousand_in_sixty_days_half_a_percent_fraud_and_every_kind_in_every_half(simulated):
    kind, hours = whole(simulated, "kind"), whole(simulated, "hours")
    assert len(kind) == 60_000 and 0 <= hours.min() and 59 * 24 < hours.max() < 60 * 24
    assert 0.004 < (kind != "normal").mean() < 0.006
    for split in ("train", "test"):
        counts = {k: (simulated[split].kind == k).sum() for k in module.KINDS}
        assert min(counts.values()) >= 10, counts


def test_the_splits_are_cut_by_time_and_nothing_is_in_two_of_them(simulated):
    train, valid, test = (simulated[split].hours for split in SPLITS)
    assert train.max() < valid.min() and valid.max() < test.min()
    assert all(torch.equal(h, h.sort().values) for h in (train, valid, test))
    assert (train.max() < 24 * 24 <= valid.min()) and (valid.max() < 30 * 24 <= test.min())


def test_it_is_the_same_every_time_fast_and_leaves_the_global_generators_alone(simulated):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    start = time.perf_counter()
    again = transactions("test", "simulated")
    assert time.perf_counter() - start < 15
    assert torch.equal(again.x, simulated["test"].x) and (again.kind == simulated["test"].kind).all()
    assert torch.equal(torch_state, torch.get_rng_state()) and (numpy_state == np.random.get_state()[1]).all()
    assert not np.array_equal(module.simulate(1)["x"], module.simulate(0)["x"])


def test_no_single_feature_separates_the_frauds(simulated):
    x, y = whole(simulated, "x"), whole(simulated, "y")
    areas = [roc_auc_score(y, column) for column in x.T]
    best = max(max(area, 1 - area) for area in areas)
    assert 0.6 < best <= 0.90, dict(zip(simulated["train"].features, areas))


def test_normal_rows_depend_on_each_other_in_ways_that_no_straight_line_follows(simulated):
    train, test = simulated["train"], simulated["test"]
    x, x_test = (s.x[s.y == 0].numpy() for s in (train, test))
    # Home, work and where the card is form a triangle: whoever is at work is far from home, and the reverse.
    j, *rest = (train.features.index(name) for name in ("log_km_home", "log_km_work", "log_km_commute"))
    forest = RandomForestRegressor(20, min_samples_leaf=5, max_samples=0.3, random_state=0)
    line, forest = (model.fit(x[:, rest], x[:, j]).score(x_test[:, rest], x_test[:, j])
                    for model in (LinearRegression(), forest))
    assert line < 0.2 and forest > 0.9, (line, forest)


def test_each_kind_of_fraud_does_what_its_name_says(simulated):
    x, kind = whole(simulated, "x"), whole(simulated, "kind")
    column = dict(zip(simulated["train"].features, x.T))

    def median(name, of):
        return np.median(column[name][kind == of])

    assert np.median(whole(simulated, "amount")[kind == "card testing"]) < 3
    assert median("log_count_24h", "card testing") > median("log_count_24h", "normal")
    assert median("log_km_last", "cloned card") > np.log1p(300)
    assert median("log_hours_last", "cloned card") < np.log(3.1)
    assert (column["online shop"][kind == "account takeover"] == 1).all()
    assert median("log_habit", "account takeover") > 1
    stolen = kind == "stolen card"
    assert (column["weekend"][stolen] == 0).all() and (column["log_km_commute"][stolen] > np.log1p(8)).all()
    assert median("log_km_home", "stolen card") < np.log1p(5)
    for j in range(x.shape[1]):                           # a replay is right in every single number
        low, high = x[kind == "normal", j].min(), x[kind == "normal", j].max()
        if simulated["train"].features[j] not in ("log_habit", "log_km_last", "log_km_work"):
            assert ((x[kind == "replay", j] >= low) & (x[kind == "replay", j] <= high)).all()


@pytest.mark.parametrize("split", ["training", "", None, 0])
def test_unknown_split_and_source(split):
    with pytest.raises(ValueError, match="unknown split.*'train', 'valid', 'test'"):
        transactions(split)
    with pytest.raises(ValueError, match="unknown source 'visa'.*simulated.*ulb"):
        transactions("train", "visa")


# A small file of ULB's kind ---------------------------------------------------------------------------------


def table(n=200, frauds=20, seed=0):
    """n rows over two days, in order of time; every n / frauds-th is a fraud."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % (n // frauds) == 0 if frauds else np.zeros(n)
    amount = rng.lognormal(3, 1, n).round(2)
    return np.column_stack([np.linspace(0, 172_700, n).round(), rng.normal(size=(n, 28)).round(6), amount, label])


def write(path, rows, header=HEADER, quoted=False):
    """As text, with the last column as "0"/"1" in quotes where `quoted`, as in the file from Kaggle."""
    mark = '"' if quoted else ""
    lines = [",".join(f"{mark}{name}{mark}" for name in header)]
    lines += [",".join([*(f"{v:.10g}" if not isinstance(v, str) else v for v in row[:-1]),
                        f"{mark}{row[-1] if isinstance(row[-1], str) else int(row[-1])}{mark}"]) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name, quoted", [("mine.csv", False), ("mine.csv.gz", False), ("kaggle.csv", True)])
def test_a_csv_plain_gzipped_or_quoted_gives_back_its_numbers(tmp_path, name, quoted, capsys):
    rows = table()
    path = write(tmp_path / name, rows, quoted=quoted)
    got = [transactions(split, str(path)) for split in SPLITS]
    assert "a sample, 10.0% fraud" in capsys.readouterr().out
    x, y, hours, amount, weight = (torch.cat([getattr(g, key) for g in got]).numpy()
                                   for key in ("x", "y", "hours", "amount", "weight"))
    assert got[0].features == (*HEADER[1:29], "log_amount")
    assert np.allclose(x[:, :28], rows[:, 1:29], atol=1e-6) and np.allclose(x[:, 28], np.log1p(rows[:, 29]), atol=1e-5)
    assert (y == rows[:, 30]).all() and np.allclose(hours, rows[:, 0] / 3600) and np.allclose(amount, rows[:, 29])
    assert set(np.concatenate([g.kind for g in got])) == {"normal", "fraud"}
    assert weight[y == 0].sum() == pytest.approx(284_315, rel=1e-4)
    assert weight[y == 1].sum() == pytest.approx(492, rel=1e-4)
    assert got[0].hours.max() < 0.4 * 48 <= got[1].hours.min() and got[1].hours.max() < 24 <= got[2].hours.min()
    assert len(list((tmp_path / "data" / "cache").glob("*.npz"))) == 1        # read once, for three splits


def test_columns_in_another_order_and_rows_out_of_time_are_put_right(tmp_path):
    rows, order = table(), np.random.default_rng(1).permutation(31)
    shuffled = np.random.default_rng(2).permutation(rows)[:, order]
    path = tmp_path / "shuffled.csv"
    np.savetxt(path, shuffled, delimiter=",", header=",".join(np.array(HEADER)[order]), comments="", fmt="%.10g")
    a, b = transactions("test", path), transactions("test", write(tmp_path / "plain.csv", rows))
    assert torch.allclose(a.x, b.x) and torch.equal(a.y, b.y)


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "c.csv", table(seed=0))
    first = transactions("test", path).x
    write(path, table(seed=1))
    os.utime(path, ns=(1, 1))
    assert not torch.equal(first, transactions("test", path).x)


def test_ulb_takes_the_file_that_was_put_there_the_whole_one_first(tmp_path, monkeypatch):
    folder, mirror = tmp_path / "data", tmp_path / "mirror"
    write(mirror / "creditcard_sample.csv.gz", table(100, 10))
    monkeypatch.setenv("AECOURSE_MIRROR", str(mirror))
    assert len(transactions("test", "ulb").y) == 50
    write(folder / "creditcard.csv", table(400, 10))
    monkeypatch.setenv("AECOURSE_DATA", "real")
    assert len(transactions("test").y) == 200


def spoiled(column, value, row=5):
    rows = table().astype(object)
    rows[row, HEADER.index(column)] = value
    return rows


@pytest.mark.parametrize("rows, header, message", [
    (table()[:, :-1], HEADER[:-1], "lacks the column Class"),
    (np.delete(table(), [3, 4], 1), [h for h in HEADER if h not in ("V3", "V4")], "lacks the columns V3, V4"),
    (spoiled("V7", "nan"), HEADER, "line 7, column V7: 'nan'"),
    (spoiled("V2", "inf"), HEADER, "line 7, column V2: 'inf'"),
    (spoiled("V9", "many", 0), HEADER, "line 2, column V9: 'many'"),
    (spoiled("V9", ""), HEADER, "line 7, column V9: ''"),
    (spoiled("Amount", "-4"), HEADER, "line 7, column Amount: '-4'"),
    (spoiled("Time", "-1"), HEADER, "line 7, column Time: '-1'"),
    (spoiled("Class", "2"), HEADER, "line 7, column Class: '2'"),
    (table()[:0], HEADER, "a header and no rows"),
    (table(frauds=0), HEADER, "all 200 rows have Class 0"),
])
def test_a_csv_that_cannot_be_used_is_refused_with_line_and_column(tmp_path, rows, header, message):
    path = write(tmp_path / "bad.csv", rows, header)
    with pytest.raises(DataError, match=message) as error:
        transactions("train", path)
    assert str(path) in str(error.value) and "simulated" in str(error.value)
    assert not list((tmp_path / "data").rglob("*.npz"))                       # nothing half-read is kept


def test_files_that_are_no_csv(tmp_path):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "noise.csv").write_bytes(bytes(range(128, 256)) * 9)
    (tmp_path / "noise.csv.gz").write_bytes(b"not a gzip file")
    cut = write(tmp_path / "cut.csv.gz", table())
    cut.write_bytes(cut.read_bytes()[:-2000])
    for name, message in (("empty.csv", "is empty"), ("noise.csv", "cannot be read"),
                          ("noise.csv.gz", "cannot be read"),
                          ("cut.csv.gz", "cannot be read"), ("", "is a folder")):
        with pytest.raises(DataError, match=message):
            transactions("train", tmp_path / name)
    short = tmp_path / "short.csv"
    short.write_text(",".join(HEADER) + "\n0,1,2\n")
    with pytest.raises(DataError, match="line 2, column V3: ''"):
        transactions("train", short)


def test_rows_that_all_have_one_time_cannot_be_split_by_time(tmp_path):
    rows = table()
    rows[:, 0] = 0
    with pytest.raises(DataError, match="'train', which is cut by time"):
        transactions("train", write(tmp_path / "still.csv", rows))


# OpenML -----------------------------------------------------------------------------------------------------


class Fetched:
    def __init__(self, n=284_807, frauds=492, time=False):
        rng = np.random.default_rng(0)
        self.feature_names = [*(["Time"] if time else []), *HEADER[1:30]]
        self.data = rng.random((n, len(self.feature_names)))
        self.target = np.full(n, "0", object)
        self.target[rng.choice(n, frauds, replace=False)] = "1"


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("md5 differs"), EOFError("cut off")])
def test_openml_that_does_not_answer_says_what_to_put_where(monkeypatch, tmp_path, error):
    def fail(**_):
        raise error

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    with pytest.raises(DataError) as told:
        transactions("train", "ulb")
    for word in (str(error), "creditcard.csv", str(tmp_path / "data"), "embedded"):
        assert word in str(told.value)
    assert not list((tmp_path / "data").rglob("*.npz"))


@pytest.mark.parametrize("time", [False, True])
def test_openml_is_asked_once_counted_and_kept(monkeypatch, capsys, time):
    calls = []
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **asked: calls.append(asked) or Fetched(time=time))
    got = [transactions(split, "ulb") for split in SPLITS]
    assert len(calls) == 1 and calls[0]["data_id"] == 1597
    assert sum(len(g.y) for g in got) == 284_807 and sum(int(g.y.sum()) for g in got) == 492
    assert all((g.weight == 1).all() for g in got)
    assert ("gives no times" in capsys.readouterr().out) != time


def test_openml_with_another_count_is_refused(monkeypatch):
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **_: Fetched(n=1000, frauds=10))
    with pytest.raises(DataError, match="1,000 rows came, 10 of them fraud"):
        transactions("train", "ulb")


# The real sample --------------------------------------------------------------------------------------------

MIRROR = os.environ.get("AECOURSE_MIRROR", "")


@pytest.mark.skipif(not os.path.exists(os.path.join(MIRROR, "creditcard_sample.csv.gz")) or not MIRROR,
                    reason="creditcard_sample.csv.gz is not in AECOURSE_MIRROR")
def test_the_real_sample(monkeypatch):
    monkeypatch.setenv("AECOURSE_MIRROR", MIRROR)
    got = [transactions(split, "ulb") for split in SPLITS]
    assert sum(len(g.y) for g in got) == 22_012 and sum(int(g.y.sum()) for g in got) == 492
    assert sum(float(g.weight.sum()) for g in got) == pytest.approx(284_807, rel=1e-4)
    assert all(got[i].hours.max() <= got[i + 1].hours.min() for i in (0, 1)) and min(int(g.y.sum()) for g in got) >= 40

"""Card transactions with rare fraud: simulated, with each fraud's kind, or ULB's public set."""

import csv
import gzip
import io
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

from aecourse.data import store

import numpy as np
import torch

_DAYS, _CUSTOMERS, _ROWS, _FRAUDS = 60, 400, 60_000, 300
_KINDS = ("card testing", "cloned card", "account takeover", "stolen card", "replay")
_SPLITS = {"train": (0, 0.4), "valid": (0.4, 0.5), "test": (0.5, np.inf)}  # fractions of the time


class Transactions(NamedTuple):
    """`n` transactions in order of time: `x, y, *_ = transactions("test")`, or by name."""

    x: (
        torch.Tensor
    )  # (n, d) float32, not standardized: fit the scaler on the normal rows of "train"
    y: torch.Tensor  # (n,) int64, 1 = fraud
    features: tuple[str, ...]  # names of the d columns of x; data/README.md explains them
    kind: np.ndarray  # (n,) of str: "normal", a kind of fraud, or "fraud" where the kind is unknown
    hours: torch.Tensor  # (n,) float64, hours since the first midnight (ULB: since the first row)
    amount: torch.Tensor  # (n,) float32, in currency
    weight: torch.Tensor  # (n,) float32, rows of the whole set per row: 1, except in a sample


def transactions(split: str = "train", source: str | Path | None = None) -> Transactions:
    """Card transactions, split by time: the first 40 % ("train"), the next 10 % ("valid"), "test".

    source: None (what `AECOURSE_DATA` says), "simulated" (embedded: 60,000 in 60 days, 0.5 % fraud
    of five known kinds), "ulb" (284,807 real ones in 48 hours, 0.17 % fraud), or the path of a CSV
    file with ULB's columns, plain, gzipped or zipped, or of a folder with such a file.
    Raises ValueError for an unknown split or source, DataError for a file that is missing or wrong.
    """
    if split not in _SPLITS:
        raise ValueError(f"data.transactions: unknown split {split!r}. Known are {tuple(_SPLITS)}.")
    source = store.choose("transactions", source, "simulated", ("ulb",))
    arrays, features = _simulate() if source == "simulated" else (_ulb(source), _ULB_FEATURES)
    hours = arrays["hours"]
    end = np.ceil(hours[-1]) if hours[-1] > 24 else hours[-1]
    rows = (hours >= _SPLITS[split][0] * end) & (hours < _SPLITS[split][1] * end)
    y = (arrays["kind"][rows] != "normal").astype(np.int64)
    if not len(y):
        raise store.DataError(f"data.transactions: {source}, cut by time, has no {split} rows.")
    what = f"{split}: {len(y):,} rows, {y.sum():,} of them fraud{arrays['note']}"
    store.announce("transactions", source, what)
    x, kind, *others = (arrays[key][rows] for key in ("x", "kind", "hours", "amount", "weight"))
    x, y, hours, amount, weight = map(torch.from_numpy, (x, y, *others))
    return Transactions(x.float(), y, features, kind, hours, amount.float(), weight.float())


# Simulated. A customer has a wealth, a workplace, and a rhythm: the clock hour when the own day
# begins. The own hour decides where the customer is and what is bought, and with the wealth at what
# price. So few causes make a nonlinear manifold, that a fraud leaves though each feature is normal.
_CATEGORIES = tomllib.loads((Path(__file__).parent / "tables" / "categories.toml").read_text())
_GROCERIES, _RESTAURANT, _FUEL, _SHOPPING, _LEISURE, _ONLINE, _SUBSCRIPTION = range(1, 8)
_PRICE, _ELASTICITY, _DETOUR = (
    np.array([c[key] for c in _CATEGORIES.values()]) for key in ("price", "elasticity", "detour")
)
_COLUMNS = ("who", "hours", "category", "place", "amount")


def _simulate(seed=0):
    """60,000 transactions of 400 customers, 60 frauds of each kind: arrays (n, ...), features."""
    rng = np.random.default_rng(seed)
    wealth, activity = rng.normal(0, 0.8, _CUSTOMERS), rng.gamma(6, 1, _CUSTOMERS)
    work = _at_random_angles(rng, rng.lognormal(2.9, 0.7, _CUSTOMERS))  # km east and north of home
    rhythm = rng.normal(0, 0.8, _CUSTOMERS)
    rhythm += rng.choice([0, 8, 16], _CUSTOMERS, p=[0.67, 0.165, 0.165])  # a third works in shifts
    people = {"wealth": wealth, "activity": activity, "work": work, "rhythm": rhythm}
    genuine = _genuine(rng, people, _ROWS - _FRAUDS)
    past = genuine["hours"] < _SPLITS["train"][1] * _DAYS * 24
    who, log_amount = genuine["who"][past], np.log1p(genuine["amount"][past])
    people["habit"] = np.bincount(who, log_amount) / np.bincount(who)
    fraud = _fraud(rng, people, genuine)
    both = {key: np.concatenate([genuine[key], fraud[key]]) for key in genuine}
    # Genuine rows look back at genuine ones only, as if each fraud were struck from the past.
    features = _features(people, genuine, genuine), _features(people, fraud, both)
    both["x"] = np.concatenate([np.stack([*part.values()], 1) for part in features])
    both["weight"] = np.ones(_ROWS)
    order = np.argsort(both["hours"], kind="stable")
    return {key: array[order] for key, array in both.items()} | {"note": ""}, tuple(features[0])


def _at_random_angles(rng, km):
    """Points (n, 2) at these distances from the origin, in random directions."""
    angle = rng.uniform(0, 2 * np.pi, len(km))
    return km[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _genuine(rng, people, n):
    candidates = int(1.1 * n)  # some fall before the first midnight or after the last
    who = rng.choice(_CUSTOMERS, candidates, p=people["activity"] / people["activity"].sum())
    day = rng.integers(-1, _DAYS, candidates)
    weekend = day % 7 >= 5
    category, own_hour = np.zeros(candidates, int), np.zeros(candidates)
    for is_weekend, key in enumerate(("working_days", "weekends")):
        parts = [(c, *g) for c, row in enumerate(_CATEGORIES.values()) for g in row[key]]
        rows, weights = np.flatnonzero(weekend == is_weekend), np.array(parts)[:, 3]
        chosen = rng.choice(parts, len(rows), p=weights / weights.sum())  # the whole mixture's
        category[rows], mean, std, _ = chosen.T
        own_hour[rows] = mean + std * rng.normal(size=len(rows))
    leaves = rng.integers(0, _DAYS, _CUSTOMERS)
    returns = leaves + rng.choice([0, 4, 9], _CUSTOMERS, p=[0.3, 0.4, 0.3])
    away = (day >= leaves[who]) & (day < returns[who])
    journey = _at_random_angles(rng, rng.lognormal(6.5, 0.9, _CUSTOMERS))
    arrived, stayed = 1 + np.exp((8.0 - own_hour) / 0.35), 1 + np.exp((own_hour - 17.6) / 0.35)
    at_work = ~weekend / arrived / stayed  # 0 at home, 1 at work
    place = np.where(away[:, None], journey[who], at_work[:, None] * people["work"][who])
    place = place + _at_random_angles(rng, _DETOUR[category] * rng.lognormal(0, 0.2, candidates))
    log_price = np.log(_PRICE[category]) + _ELASTICITY[category] * people["wealth"][who]
    log_price += 0.2 * away
    log_price += 0.07 * (own_hour - 12.5) * (category == _RESTAURANT)  # dinner costs more
    log_price += rng.normal(0, 0.15, candidates)
    hours = 24 * day + own_hour + people["rhythm"][who]
    keep = np.flatnonzero((hours >= 0) & (hours < 24 * _DAYS))[:n]
    columns = zip(_COLUMNS, (who, hours, category, place, np.exp(log_price)), strict=True)
    return {key: column[keep] for key, column in columns} | {"kind": np.full(n, "normal", "U16")}


def _fraud(rng, people, genuine):
    n = _FRAUDS // len(_KINDS)
    copied = rng.choice(np.flatnonzero(genuine["hours"] < 24 * _DAYS - 4), (2, n))
    workdays = [day for day in range(1, _DAYS - 2) if day % 7 < 5]
    # Card testing: a robot tries whether a number works, with five tiny payments within minutes.
    start = np.repeat(rng.uniform(24, 24 * _DAYS - 24, n // 5), 5)
    who = np.repeat(rng.integers(0, _CUSTOMERS, n // 5), 5)
    hours = start + rng.exponential(0.08, (n // 5, 5)).cumsum(1).ravel()
    category, place = rng.choice([_ONLINE, _SUBSCRIPTION], n), rng.uniform(-30, 30, (n, 2))
    testing = who, hours, category, place, rng.uniform(0.5, 3, n)
    # Cloned card: a copy pays in a shop far away, soon after the owner paid with the card itself.
    who, category = genuine["who"][copied[0]], rng.choice([_FUEL, _SHOPPING, _LEISURE], n)
    hours = genuine["hours"][copied[0]] + rng.uniform(0.2, 3, n)
    place = _at_random_angles(rng, rng.lognormal(6.8, 0.8, n))
    cloned = who, hours, category, place, _PRICE[category] * 1.6 * rng.lognormal(0, 0.4, n)
    # Account takeover: an online order while the owner sleeps, large for what this owner spends.
    who, category = rng.integers(0, _CUSTOMERS, n), np.full(n, _ONLINE)
    hours = rng.uniform(1, 6, n) + 24 * rng.choice(workdays, n) + people["rhythm"][who]
    place = _at_random_angles(rng, rng.lognormal(3, 1, n))
    amount = _PRICE[_ONLINE] * 4.5 * rng.lognormal(0, 0.4, n) * np.exp(people["wealth"][who])
    takeover = who, hours, category, place, amount
    # Stolen card: the thief shops near the home while the owner is at work, on working days only.
    who = rng.choice(np.flatnonzero(np.hypot(*people["work"].T) > 8), n)
    category = rng.choice([_GROCERIES, _FUEL, _SHOPPING], n)
    hours = rng.uniform(9, 17, n) + 24 * rng.choice(workdays, n) + people["rhythm"][who]
    place = _at_random_angles(rng, rng.lognormal(1, 0.5, n))
    stolen = who, hours, category, place, _PRICE[category] * rng.lognormal(0, 0.3, n)
    # Replay: a robot repeats on this card what another customer did. Each feature looks normal.
    replay = rng.integers(0, _CUSTOMERS, n), *(genuine[key][copied[1]] for key in _COLUMNS[1:])
    columns = map(np.concatenate, zip(testing, cloned, takeover, stolen, replay, strict=True))
    return dict(zip(_COLUMNS, columns, strict=True)) | {"kind": np.repeat(_KINDS, n)}


def _features(people, rows, history):
    """The features (n,) of `rows`, by name; `history` holds the customers' past purchases."""
    who, hours = rows["who"], rows["hours"]
    order = np.lexsort((history["hours"], history["who"]))
    key = (1e5 * history["who"] + history["hours"])[order]  # sorted by customer, then by time
    position = np.searchsorted(key, 1e5 * who + hours)
    last = order[np.maximum(position - 1, 0)]
    known = (position > 0) & (history["who"][last] == who)
    own_hour = hours - people["rhythm"][who]
    place, work, log_amount = rows["place"], people["work"][who], np.log1p(rows["amount"])
    km_home, km_work, km_commute = (np.hypot(*to.T) for to in (place, place - work, work))
    day_before = np.searchsorted(key, 1e5 * who + np.maximum(hours - 24, 0))
    return {
        "log_amount": log_amount,
        "log_habit": log_amount - people["habit"][who],
        "hour_sin": np.sin(own_hour * np.pi / 12),
        "hour_cos": np.cos(own_hour * np.pi / 12),
        "weekend": own_hour // 24 % 7 >= 5,
        "abroad": km_home > 600,
        "log_km_home": np.log1p(km_home),
        "log_km_work": np.log1p(km_work),
        "log_km_commute": np.log1p(km_commute),
        "log_km_last": np.log1p(known * np.hypot(*(place - history["place"][last]).T)),
        "log_hours_last": np.log(0.05 + np.where(known, hours - history["hours"][last], 48.0)),
        "log_count_24h": np.log1p(position - day_before),
        **{name: rows["category"] == c for c, name in enumerate(_CATEGORIES)},
    }


# ULB: Dal Pozzolo et al., Calibrating probability with undersampling, CIDM 2015.
_ULB_COLUMNS = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class")
_ULB_FEATURES = (*_ULB_COLUMNS[1:29], "log_amount")
_ENDINGS = (".csv", ".csv.gz", ".csv.zip", "_sample.csv", "_sample.csv.gz")
ULB_FILES = (*(f"creditcard{ending}" for ending in _ENDINGS), "archive.zip")
_ULB_NORMAL, _ULB_FRAUD = 284_315, 492  # rows of the whole set


def _ulb(source):
    """The arrays of the CSV file at `source`, else of the first of `ULB_FILES`, else of OpenML."""
    path = store.find(*ULB_FILES) if source == "ulb" else source
    if path is None:
        return store.cached("transactions-openml-1597", _openml)
    if path.is_dir():
        path = next((path / name for name in ULB_FILES if (path / name).exists()), path)
    version = f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
    return store.cached(f"transactions-{path.name}-{version}", lambda: _arrays(_read(path)))


def _arrays(columns):
    """The arrays of `Transactions`, in order of time, from a dict of ULB's columns."""
    y, note = columns["Class"] == 1, ""
    if "Time" not in columns:  # OpenML's copy may leave it out; its rows are in order
        columns["Time"] = np.linspace(0, 48 * 3600 - 1, len(y))
        note = "; this copy gives no times: its rows are spread evenly over 48 hours"
    weight = np.where(y, _ULB_FRAUD / y.sum(), _ULB_NORMAL / (~y).sum())
    if len(y) < _ULB_NORMAL:
        note += f"; a sample, {y.mean():.1%} fraud: `weight` leads back to the whole set's 0.17%"
    columns["log_amount"] = np.log1p(columns["Amount"])
    x = np.stack([columns[name] for name in _ULB_FEATURES], 1, dtype=np.float32)
    arrays = {"x": x, "kind": np.where(y, "fraud", "normal"), "hours": columns["Time"] / 3600}
    arrays |= {"amount": columns["Amount"], "weight": weight}
    order = np.argsort(columns["Time"], kind="stable")
    return {key: column[order] for key, column in arrays.items()} | {"note": np.array(note)}


def _read(path):
    """ULB's columns of a CSV file, as a dict of float64 arrays (n,). Raises DataError."""
    try:
        return _parse(_unpack(path))
    except Exception as error:  # gzip, zipfile and pandas raise a dozen kinds for damaged files
        what = str(error).strip() or type(error).__name__
        wanted = "a CSV file with the columns Time, V1 to V28, Amount and Class (1 = fraud)"
        raise store.DataError(f"data.transactions: {path}: {what}. Wanted is {wanted}.") from error


def _unpack(path):
    """The bytes of a file, unpacked where it is gzipped, or a zip with one CSV file in it."""
    content = path.read_bytes()
    if content.startswith(b"PK\3\4"):
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".csv") and "__MACOSX" not in n]
            if len(names) != 1:
                raise ValueError(f"this zip holds {len(names)} CSV files, wanted is one")
            return archive.read(names[0])
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def _parse(content):
    """ULB's columns of CSV text in UTF-8 or UTF-16, separated by commas, semicolons or tabs."""
    import pandas as pd

    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    file = io.TextIOWrapper(io.BytesIO(content), encoding, errors="replace")
    header, first_row = file.readline().rstrip("\n"), file.readline()
    separator = max(",;\t", key=header.count)
    decimal = "," if separator != "," and "," in first_row else "."
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])]
    if absent := [name for name in _ULB_COLUMNS if names.count(name.lower()) != 1]:
        columns = ", ".join(absent) if len(absent) < len(_ULB_COLUMNS) else "all 31"
        raise ValueError(f"missing or double columns: {columns}; it starts with {header[:60]!r}")
    file.seek(0)
    empty = {"skip_blank_lines": False, "keep_default_na": False, "na_values": [""]}
    table = pd.read_csv(file, sep=separator, decimal=decimal, low_memory=False, **empty)
    if table.index.nlevels > 1:
        raise ValueError("its rows have more cells than its header")
    table = table.reset_index(drop=True)  # pandas takes an index column without a header as index
    table = table.iloc[:, [names.index(name.lower()) for name in _ULB_COLUMNS]].dropna(how="all")
    numbers = table.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    valid = np.abs(numbers) <= np.finfo(np.float32).max  # False for NaN
    valid[:, [0, -2]] &= numbers[:, [0, -2]] >= 0
    valid[:, -1] &= np.isin(numbers[:, -1], (0, 1))
    for row, column in np.argwhere(~valid)[:1]:
        name, cell = _ULB_COLUMNS[column], table.iat[row, column]
        cell = "an empty cell" if pd.isna(cell) else repr(str(cell)[:40])
        wanted = {"C": "0 or 1", "V": "a finite number"}.get(name[0], "0 or more")
        raise ValueError(f"line {table.index[row] + 2}, column {name}: {cell} is not {wanted}")
    frauds = int(numbers[:, -1].sum())
    if frauds in (0, len(numbers)):
        raise ValueError(f"{frauds:,} of {len(numbers):,} rows are fraud; both classes are needed")
    return dict(zip(_ULB_COLUMNS, numbers.T, strict=True))


def _openml():
    """The whole set from OpenML through scikit-learn, which verifies the file."""
    from sklearn.datasets import fetch_openml

    print("transactions: fetching data set 1597 from openml.org, once; it takes some minutes")
    try:
        got = fetch_openml(data_id=1597, as_frame=False, parser="liac-arff", cache=False)
        columns = dict(zip(got.feature_names, np.asarray(got.data, float).T, strict=True))
        y = columns["Class"] = np.asarray(got.target).astype(float)
        if (len(y), y.sum()) != (_ULB_NORMAL + _ULB_FRAUD, _ULB_FRAUD):
            raise ValueError(f"{len(y):,} rows with {y.sum():.0f} frauds, not 284,807 with 492")
        return _arrays(columns)
    except Exception as error:  # a loader over a network raises many kinds
        put = f"put creditcard.csv (Kaggle mlg-ulb/creditcardfraud) or its zip in {store.folder()}"
        raise store.missing("transactions", put, f"no OpenML data set 1597: {error}") from error

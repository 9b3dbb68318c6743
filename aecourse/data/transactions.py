"""Card transactions, a few of them fraud: simulated with the kind of each fraud known, or the public set of ULB."""

import csv
import gzip
import tempfile
from typing import NamedTuple

import numpy as np
import torch

from . import _store

KINDS = ("card testing", "cloned card", "account takeover", "stolen card", "replay")
DAYS, CUSTOMERS, ROWS, FRAUDS = 60, 400, 60_000, 300
TRAIN, VALID = 0.4, 0.5                                   # shares of the time at which "train" and "valid" end

# What the customers of the simulation buy. Median price, its elasticity to wealth (Engel's law: food hardly grows with
# wealth, leisure grows faster than it), how far from where one is anyway (km), and how often it is bought by the hour
# of the customer's own day: on a working day, and on a weekend (centre and spread of a bump in hours, weight).
CATEGORIES = {
    #               price  elast.  roam   working day       weekend
    "transport":    (4.0,  -0.2,   2.0,  ((7.8, 0.7, 3), (17.8, 0.9, 2)),  ((14., 4., 1),)),
    "groceries":    (32.,   0.1,   1.2,  ((18.4, 1.1, 4),),                ((10.5, 1.5, 4),)),
    "restaurant":   (16.,   0.8,   1.0,  ((12.4, 0.5, 4), (20., 0.8, 1)),  ((13., 0.9, 2), (20.2, 1., 3))),
    "fuel":         (52.,   0.0,   6.0,  ((8.2, 0.8, 1), (17.4, 0.8, 1)),  ((12., 3., 1),)),
    "shopping":     (45.,   0.7,   9.0,  ((17.8, 1.2, 1),),                ((15., 1.6, 4),)),
    "leisure":      (24.,   1.2,   7.0,  ((21.2, 1.0, 1),),                ((22., 1.4, 3),)),
    "online shop":  (40.,   0.6,   0.2,  ((21.8, 1.0, 3), (12.9, 0.4, 1)), ((21., 1.7, 3),)),
    "subscription": (11.,   0.3,   0.2,  ((3.0, 0.3, 1),),                 ((3.0, 0.3, 1),)),
}
NAMES = tuple(CATEGORIES)
FEATURES = ("log_amount", "log_habit", "hour_sin", "hour_cos", "rhythm_sin", "rhythm_cos", "weekend", "abroad",
            "log_km_home", "log_km_work", "log_km_between", "log_km_last", "log_hours_last", "log_count_24h", *NAMES)


class Transactions(NamedTuple):
    """`n` transactions in order of time. `x, y, *_ = transactions("test")`, or by name: `transactions("test").kind`."""

    x: torch.Tensor               # (n, d) float32, in the units of `features`: not standardised
    y: torch.Tensor               # (n,) int64, 1 = fraud
    features: tuple               # the d names of x's columns
    kind: np.ndarray              # (n,) of str: "normal", or the kind of fraud ("fraud" where the source does not tell)
    hours: torch.Tensor           # (n,) float64, hours since the first midnight (ULB: since the first transaction)
    amount: torch.Tensor          # (n,) float32, in currency
    weight: torch.Tensor          # (n,) float32, how many transactions of the whole set a row stands for: 1, but for a sample


def transactions(split="train", source=None):
    """Card transactions of one split, cut by time: "train" the first 40 % of it, "valid" the next 10 %, "test" the last half.

    source  None reads AECOURSE_DATA; "simulated" (embedded: 60,000 in 60 days, 0.5 % fraud, five known kinds),
            "ulb" (284,807 European ones in 48 hours, 0.17 % fraud) or the path of a csv (or csv.gz) with ULB's columns.
    Returns `Transactions`, whose first two are x: (n, d) and y: (n,). Nothing is standardised: the scaler is part of what
    is learned, and has to be fitted on the normal rows of "train" alone.
    Raises ValueError for an unknown split or source, DataError for a file that is missing or not what it should be.
    """
    if split not in ("train", "valid", "test"):
        raise ValueError(f"data.transactions: unknown split {split!r}. Known are 'train', 'valid', 'test'.")
    source = _store.choose("transactions", source, "simulated", ("ulb",))
    arrays = simulate() if source == "simulated" else _ulb(source)
    hours, features = arrays["hours"], FEATURES if source == "simulated" else ULB_FEATURES
    end = np.ceil(hours[-1]) if hours[-1] > 24 else hours[-1]
    start, stop = {"train": (0, TRAIN), "valid": (TRAIN, VALID), "test": (VALID, np.inf)}[split]
    rows = (hours >= start * end) & (hours < stop * end)
    y = (arrays["kind"][rows] != "normal").astype(np.int64)
    if not len(y):
        raise _store.DataError(f"data.transactions: no row of {source} falls into {split!r}, which is cut by time.")
    _store.announce("transactions", source, f"{split}: {len(y):,} rows, {y.sum():,} of them fraud{arrays['note']}")
    x, kind, *rest = (arrays[key][rows] for key in ("x", "kind", "hours", "amount", "weight"))
    return Transactions(torch.from_numpy(x), torch.from_numpy(y), features, kind, *map(torch.from_numpy, rest))


# ---------------------------------------------------------------------------------------------------------------------
# The simulation


def simulate(seed=0):
    """60,000 transactions: what 400 customers do with their cards, and 300 frauds of five kinds. Returns a dict of arrays.

    A customer has a wealth, a home, a workplace, and a rhythm: the hour around which the day turns (one in three works
    in shifts). Where he is follows from his own hour, what he buys from hour and place, what he pays from what he buys and
    his wealth. So thirteen numbers and a category have few causes: normal rows lie near a curved sheet.
    """
    rng = np.random.default_rng(seed)
    people = {
        "wealth": rng.normal(0, 0.6, CUSTOMERS),
        "home": rng.uniform(-60, 60, (CUSTOMERS, 2)),                                       # km, on the map
        "work": np.exp(rng.normal(2.6, 0.9, CUSTOMERS))[:, None] * _direction(rng, CUSTOMERS),   # km, seen from home
        "rhythm": rng.normal(0, 0.8, CUSTOMERS) + rng.choice([0, 0, 0, 0, 8, 16], CUSTOMERS),
        "activity": rng.gamma(6, 1, CUSTOMERS),
    }
    genuine = _genuine(rng, people, ROWS - FRAUDS)
    fraud = _fraud(rng, people, genuine)
    x = np.concatenate([_features(people, genuine, genuine), _features(people, fraud, _stack(genuine, fraud))])
    every = _stack(genuine, fraud)
    order = np.argsort(every["hours"], kind="stable")
    return {"x": x[order].astype(np.float32), "kind": every["kind"][order], "hours": every["hours"][order],
            "amount": np.exp(every["log_amount"][order]).astype(np.float32), "weight": np.ones(ROWS, np.float32), "note": np.array("")}


def _direction(rng, n):
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _stack(*tables):
    return {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}


def _at_work(own_hour, weekend):
    """How much of the way to work one has gone, 0 to 1: the day begins at 8, ends at 17:30, and the way takes a while."""
    return (1 - weekend) / (1 + np.exp(-(own_hour - 8.0) / 0.35)) / (1 + np.exp((own_hour - 17.6) / 0.35))


def _genuine(rng, people, n):
    who = rng.choice(CUSTOMERS, n, p=people["activity"] / people["activity"].sum())
    day = rng.integers(0, DAYS, n)
    weekend = (day % 7 >= 5).astype(float)
    bumps = [[(c, *bump) for c, row in enumerate(CATEGORIES.values()) for bump in row[3 + end]] for end in (0, 1)]
    category, own = np.zeros(n, int), np.zeros(n)
    for end in (0, 1):                                    # an occasion is one bump of the table
        table = np.array(bumps[end])
        some = weekend == end
        pick = rng.choice(len(table), some.sum(), p=table[:, 3] / table[:, 3].sum())
        category[some], own[some] = table[pick, 0], table[pick, 1] + table[pick, 2] * rng.normal(size=some.sum())
    spell = rng.integers(0, DAYS, CUSTOMERS), rng.choice([0, 4, 9], CUSTOMERS, p=[0.6, 0.25, 0.15])    # journey: day, length
    away = (day >= spell[0][who]) & (day < (spell[0] + spell[1])[who])
    journey = np.exp(rng.normal(6.5, 0.9, CUSTOMERS))[:, None] * _direction(rng, CUSTOMERS)
    price, elasticity, roam = (np.array([row[i] for row in CATEGORIES.values()]) for i in range(3))
    evening = np.where(category == 2, 0.07 * (own - 12.5), 0)                # dinner costs more than lunch
    place = np.where(away[:, None], journey[who], _at_work(own, weekend)[:, None] * people["work"][who])
    place = place + (roam[category] * np.exp(rng.normal(0, 0.3, n)))[:, None] * _direction(rng, n)
    log_amount = np.log(price[category]) + elasticity[category] * people["wealth"][who] + evening + 0.2 * away \
        + rng.normal(0, 0.18, n)
    hours = np.clip(day * 24 + own + people["rhythm"][who], 0, DAYS * 24 - 0.01)
    return {"who": who, "hours": hours, "category": category, "place": place, "log_amount": log_amount,
            "kind": np.full(n, "normal", "U16")}


def _fraud(rng, people, genuine):
    """`FRAUDS` frauds, as many of each kind; a victim and an hour each, the rest by the kind's own logic."""
    n = FRAUDS // len(KINDS)
    price = np.array([row[0] for row in CATEGORIES.values()])
    work = people["work"]

    def table(kind, who, hours, category, place, log_amount):
        return {"who": who, "hours": np.clip(hours, 0, DAYS * 24 - 0.01), "category": category, "place": place,
                "log_amount": log_amount, "kind": np.full(len(who), kind, "U16")}

    def bursts(size, gap):                                # several frauds on one card, shortly after one another
        who, start = (np.repeat(a, size)[:n] for a in (rng.integers(0, CUSTOMERS, n), rng.uniform(24, DAYS * 24 - 24, n)))
        return who, start + np.cumsum(rng.exponential(gap, n).reshape(-1, size), 1).ravel()

    def shifted(own_hour, who):                           # a day at random, at this hour of the victim's own day
        return 24 * rng.choice(np.flatnonzero(np.arange(DAYS) % 7 < 5), n) + own_hour + people["rhythm"][who]

    who, hours = bursts(5, 0.08)
    testing = table("card testing", who, hours, rng.choice([6, 7], n), rng.uniform(-30, 30, (n, 2)), rng.uniform(-0.5, 1.2, n))
    after = rng.integers(0, len(genuine["who"]), n)       # shortly after the owner paid somewhere himself
    category = rng.choice([3, 4, 5], n)
    cloned = table("cloned card", genuine["who"][after], genuine["hours"][after] + rng.uniform(0.2, 3, n), category,
                   np.exp(rng.normal(6.3, 0.8, n))[:, None] * _direction(rng, n), np.log(price[category]) + rng.normal(0.5, 0.4, n))
    who = rng.integers(0, CUSTOMERS, n)
    takeover = table("account takeover", who, shifted(rng.uniform(1, 6, n), who), np.full(n, 6),
                     np.exp(rng.normal(3, 1, n))[:, None] * _direction(rng, n),
                     np.log(price[6]) + people["wealth"][who] + rng.normal(1.5, 0.4, n))
    who = rng.choice(np.flatnonzero(np.hypot(*work.T) > 8), n)               # the owner is at work, the thief near the home
    category = rng.choice([1, 2, 4], n)
    stolen = table("stolen card", who, shifted(rng.uniform(9, 17, n), who), category,
                   np.exp(rng.normal(1, 0.5, n))[:, None] * _direction(rng, n), np.log(price[category]) + rng.normal(0, 0.3, n))
    other = rng.integers(0, len(genuine["who"]), n)       # a bot replays what somebody else did, on this card
    replay = table("replay", rng.integers(0, CUSTOMERS, n), *(genuine[key][other] for key in ("hours", "category", "place", "log_amount")))
    return _stack(testing, cloned, takeover, stolen, replay)


def _features(people, table, history):
    """x: (n, d) of the rows of `table`, whose last d - 5 columns look back at `history`.

    A fraud is struck from the customer's history once it is found, so genuine rows look back at genuine ones only.
    """
    who, hours = table["who"], table["hours"]
    order = np.argsort(history["who"] * 1e5 + history["hours"], kind="stable")
    key = (history["who"] * 1e5 + history["hours"])[order]
    here = np.searchsorted(key, who * 1e5 + hours)        # how many stand before this row
    last = order[np.maximum(here - 1, 0)]
    known = (here > 0) & (history["who"][last] == who)
    since = np.where(known, hours - history["hours"][last], 48.0)
    km_last = np.where(known, np.hypot(*(table["place"] - history["place"][last]).T), 0.0)
    count = here - np.searchsorted(key, who * 1e5 + np.maximum(hours - 24, 0))
    km_home = np.hypot(*table["place"].T)
    weekend = (hours // 24 % 7 >= 5)
    columns = [table["log_amount"], table["log_amount"] - people["wealth"][who] * 0.5 - 3.1,
               *_circle(hours), *_circle(people["rhythm"][who]), weekend, km_home > 600,
               np.log1p(km_home), np.log1p(np.hypot(*(table["place"] - people["work"][who]).T)),
               np.log1p(np.hypot(*people["work"][who].T)), np.log1p(km_last), np.log(since + 0.05), np.log1p(count)]
    return np.stack([*columns, *(table["category"] == c for c in range(len(NAMES)))], 1)


def _circle(hours):
    return np.sin(hours * np.pi / 12), np.cos(hours * np.pi / 12)


# ---------------------------------------------------------------------------------------------------------------------
# The public set: A. Dal Pozzolo et al., Calibrating probability with undersampling for unbalanced classification, 2015

ULB_FEATURES = (*(f"V{i}" for i in range(1, 29)), "log_amount")
ULB_FILES = ("creditcard.csv", "creditcard.csv.gz", "creditcard_sample.csv", "creditcard_sample.csv.gz")
ULB_NORMAL, ULB_FRAUD = 284_315, 492                      # rows of the whole set


def _ulb(source):
    """The arrays of a csv: the one at `source`, or one of `ULB_FILES`; without any, those of OpenML's data set 1597."""
    path = _store.find(*ULB_FILES) if source == "ulb" else source
    if path is None:
        return _store.cached("transactions_ulb_openml", _openml)
    if path.is_dir():
        raise _store.DataError(f"data.transactions: {path} is a folder; wanted is a csv file, plain or gzipped.")
    stat = path.stat()
    return _store.cached(f"transactions_{path.name}_{stat.st_size}_{stat.st_mtime_ns}", lambda: _arrays(*_read(path)))


def _arrays(names, table):
    """Sort the columns `names` of the float64 `table` into what `transactions` needs."""
    column = dict(zip(names, table.T))
    note = ""
    if "Time" not in column:                              # OpenML's copy leaves it out, and keeps the rows in its order
        column["Time"] = np.linspace(0, 48 * 3600 - 1, len(table))
        note = " (the file gives no times: its rows are spread evenly over their 48 hours)"
    order = np.argsort(column["Time"], kind="stable")
    y = column["Class"][order] == 1
    weight = np.where(y, ULB_FRAUD / max(y.sum(), 1), ULB_NORMAL / max((~y).sum(), 1))
    if len(y) < ULB_NORMAL:
        note += f" (a sample, {y.mean():.2%} of it fraud; `weight` leads back to {ULB_FRAUD / (ULB_FRAUD + ULB_NORMAL):.3%})"
    column["log_amount"] = np.log1p(column["Amount"])
    return {"x": np.stack([column[name] for name in ULB_FEATURES], 1)[order].astype(np.float32),
            "kind": np.where(y, "fraud", "normal"), "hours": column["Time"][order] / 3600, "note": np.array(note),
            "amount": column["Amount"][order].astype(np.float32), "weight": weight.astype(np.float32)}


def _read(path):
    """Column names and the (n, columns) float64 table of a csv with Time, V1 to V28, Amount and Class, or a DataError."""
    wanted = ("Time", *ULB_FEATURES[:-1], "Amount", "Class")

    def wrong(what):
        return _store.DataError(f"data.transactions: {path}{what}. Wanted: a csv with the columns Time, V1 to V28, Amount "
                                f"and Class (1 = fraud, 0 = not).\nThe embedded data needs no file: source='simulated'.")

    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="", encoding="utf-8-sig") as file:
            names = [name.strip() for name in next(csv.reader(file), [])]
            if absent := [name for name in wanted if name not in names]:
                raise wrong(f" lacks the column{'s'[:len(absent) > 1]} {', '.join(absent)}" if names else " is empty")
            use = [names.index(name) for name in wanted]
            try:
                table = np.loadtxt(file, delimiter=",", quotechar='"', usecols=use, ndmin=2)
                fine = len(table) and np.isfinite(table).all() and (table[:, -2] >= 0).all() and np.isin(table[:, -1], (0, 1)).all()
            except ValueError:
                fine = False
            if not fine:                                  # slowly now, for the line and the column to be named
                file.seek(0)
                for line, row in enumerate(csv.reader(file), 1):
                    for name, index in zip(wanted, use) if row and line > 1 else ():
                        cell = row[index].strip() if index < len(row) else "nothing"
                        try:
                            good = np.isfinite(float(cell)) and (name != "Class" or float(cell) in (0, 1))
                            good &= name != "Amount" or float(cell) >= 0
                        except ValueError:
                            good = False
                        if not good:
                            raise wrong(f", line {line}, column {name}: {cell!r} is not a number that can stand there")
                raise wrong(" has a header and no rows")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise wrong(f" cannot be read ({error})") from error
    if np.ptp(table[:, -1]) == 0:
        raise wrong(f": all {len(table):,} rows have Class {table[0, -1]:.0f}, and both are needed")
    return wanted, table


def _openml():
    """The whole set from OpenML through scikit-learn, which verifies the file; counted here. Nothing else is kept of it."""
    from sklearn.datasets import fetch_openml
    try:
        with tempfile.TemporaryDirectory() as home:
            print("transactions: fetching data set 1597 from openml.org, once (some 150 MB, a few minutes)")
            got = fetch_openml(data_id=1597, as_frame=False, parser="liac-arff", data_home=home, n_retries=1)
        names, table = (*got.feature_names, "Class"), np.column_stack([got.data, got.target.astype(float)]).astype(float)
        frauds = (table[:, -1] == 1).sum()
        if len(table) - frauds != ULB_NORMAL or frauds != ULB_FRAUD or not np.isfinite(table).all():
            raise ValueError(f"what came has {len(table):,} rows and {frauds:,} frauds, and should have "
                             f"{ULB_NORMAL + ULB_FRAUD:,} and {ULB_FRAUD}, without a gap")
        return _arrays(names, table)
    except Exception as error:                            # a loader of others, over a network: anything can come
        put = f"put {' or '.join(ULB_FILES[:2])} (on Kaggle: mlg-ulb/creditcardfraud) into {_store.folder()}"
        raise _store.missing("transactions", put, f"OpenML's data set 1597 could not be had: {error}") from error

"""Card transactions, a few of them fraud: simulated, with the kind of each fraud known, or the public set of ULB."""

import csv
import io
import tempfile
import warnings
from typing import NamedTuple

import numpy as np
import torch

from aecourse import _reading
from aecourse.data import _store

DAYS, CUSTOMERS, ROWS, FRAUDS = 60, 400, 60_000, 300
KINDS = ("card testing", "cloned card", "account takeover", "stolen card", "replay")
CUTS = {"train": (0, 0.4), "valid": (0.4, 0.5), "test": (0.5, np.inf)}         # shares of the time, first to last


class Transactions(NamedTuple):
    """`n` transactions in order of time: `x, y, *_ = transactions("test")`, or by name, `transactions("test").kind`."""

    x: torch.Tensor               # (n, d) float32, in the units of `features`: not standardized
    y: torch.Tensor               # (n,) int64, 1 = fraud
    features: tuple               # names of the d columns of x; what they mean: data/README.md
    kind: np.ndarray              # (n,) of str: "normal", one of `KINDS`, or "fraud" where the source knows no kinds
    hours: torch.Tensor           # (n,) float64, hours since the first midnight (ULB: since the first transaction)
    amount: torch.Tensor          # (n,) float32, in currency
    weight: torch.Tensor          # (n,) float32, how many rows of the whole set a row stands for: 1, but for a sample


def transactions(split="train", source=None):
    """Card transactions, split by time: "train" is the first 40 % of it, "valid" the next 10 %, "test" the last half.

    source  None reads AECOURSE_DATA; "simulated" (embedded: 60,000 in 60 days, 0.5 % fraud of five known kinds), "ulb"
            (284,807 real ones in 48 hours, 0.17 % fraud), or the path of a csv or csv.gz with the columns of ULB's.
    Returns `Transactions`, whose first two are x: (n, d) and y: (n,). Nothing is standardized, since the scaler is
    part of what is learned: fit it on the normal rows of "train" alone.
    Raises ValueError for an unknown split or source, DataError for a file that is missing or not what it should be.
    """
    if split not in CUTS:
        raise ValueError(f"data.transactions: unknown split {split!r}. Known are 'train', 'valid', 'test'.")
    source = _store.choose("transactions", source, "simulated", ("ulb",))
    arrays, features = (simulate(), FEATURES) if source == "simulated" else (_ulb(source), ULB_FEATURES)
    hours = arrays["hours"]
    end = np.ceil(hours[-1]) if hours[-1] > 24 else hours[-1]
    rows = (hours >= CUTS[split][0] * end) & (hours < CUTS[split][1] * end)
    y = (arrays["kind"][rows] != "normal").astype(np.int64)
    if not len(y):
        raise _store.DataError(f"data.transactions: no row of {source} falls into {split!r}, which is cut by time.\n"
                               "Replace it. The embedded data needs no file: source='simulated'.")
    _store.announce("transactions", source, f"{split}: {len(y):,} rows, {y.sum():,} of them fraud{arrays['note']}")
    x, kind, *rest = (arrays[key][rows] for key in ("x", "kind", "hours", "amount", "weight"))
    return Transactions(torch.from_numpy(x), torch.from_numpy(y), features, kind, *map(torch.from_numpy, rest))


# ---------------------------------------------------------------------------------------------------------------------
# Simulated. A customer has a wealth, a workplace, and a rhythm, the clock hour at which the own day begins. The own
# hour says where the customer is and what is bought there; what is bought and the wealth say what it costs. Twelve
# numbers and a category with so few causes lie near a curved sheet: a fraud can get each number right and be off it.

CATEGORIES = {   # median price, its elasticity to wealth (Engel's law: food hardly grows with wealth, leisure more than
    # wealth itself), how many km beside the customer's way, and when, in own hours: bumps of (center, spread, weight)
    #               price  elast. km   on a working day                    on a weekend
    "transport":    (4.0,  -0.2,  2.0, ((7.8, 0.7, 3), (17.8, 0.9, 2)),    ((14.0, 4.0, 1),)),
    "groceries":    (32.0,  0.1,  1.2, ((18.4, 1.1, 4),),                  ((10.5, 1.5, 4),)),
    "restaurant":   (16.0,  0.8,  1.0, ((12.4, 0.5, 4), (20.0, 0.8, 1)),   ((13.0, 0.9, 2), (20.2, 1.0, 3))),
    "fuel":         (52.0,  0.0,  6.0, ((8.2, 0.8, 1), (17.4, 0.8, 1)),    ((12.0, 3.0, 1),)),
    "shopping":     (45.0,  0.7,  9.0, ((17.8, 1.2, 1),),                  ((15.0, 1.6, 4),)),
    "leisure":      (24.0,  1.2,  7.0, ((21.2, 1.0, 1),),                  ((22.0, 1.4, 3),)),
    "online shop":  (40.0,  0.6,  0.2, ((21.8, 1.0, 3), (12.9, 0.4, 1)),   ((21.0, 1.7, 3),)),
    "subscription": (11.0,  0.3,  0.2, ((3.0, 0.3, 1),),                   ((3.0, 0.3, 1),)),
}
FEATURES = ("log_amount", "log_habit", "hour_sin", "hour_cos", "weekend", "abroad", "log_km_home", "log_km_work",
            "log_km_commute", "log_km_last", "log_hours_last", "log_count_24h", *CATEGORIES)
PRICE, ELASTICITY, BESIDE = np.array([row[:3] for row in CATEGORIES.values()]).T
TRANSPORT, GROCERIES, RESTAURANT, FUEL, SHOPPING, LEISURE, ONLINE, SUBSCRIPTION = range(len(CATEGORIES))


def simulate(seed=0):
    """60,000 transactions of 400 customers, 300 of them fraud, 60 of each kind: a dict of arrays in order of time."""
    rng = np.random.default_rng(seed)
    people = {"wealth": rng.normal(0, 0.8, CUSTOMERS), "activity": rng.gamma(6, 1, CUSTOMERS),
              "work": _spread(rng, rng.lognormal(2.9, 0.7, CUSTOMERS)),                     # km east and north of home
              "rhythm": rng.normal(0, 0.8, CUSTOMERS) + rng.choice([0, 8, 16], CUSTOMERS, p=[0.67, 0.165, 0.165])}
    genuine = _genuine(rng, people, ROWS - FRAUDS)
    early = genuine["hours"] < CUTS["train"][1] * DAYS * 24                    # a habit is known from the past
    who, usual = genuine["who"][early], np.log1p(genuine["amount"][early])
    people["usual"] = np.bincount(who, usual, CUSTOMERS) / np.bincount(who, minlength=CUSTOMERS)
    fraud = _fraud(rng, people, genuine)
    both = {key: np.concatenate([genuine[key], fraud[key]]) for key in genuine}
    x = np.concatenate([_features(people, genuine, genuine), _features(people, fraud, both)])
    order = np.argsort(both["hours"], kind="stable")
    return {"x": x[order].astype(np.float32), "kind": both["kind"][order], "hours": both["hours"][order], "note": "",
            "amount": both["amount"][order].astype(np.float32), "weight": np.ones(ROWS, np.float32)}


def _spread(rng, km):
    """Points (n, 2) at these distances, in directions of their own."""
    angle = rng.uniform(0, 2 * np.pi, len(km))
    return km[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _genuine(rng, people, n):
    many = int(1.1 * n)                                   # some will fall before the first midnight or after the last
    who = rng.choice(CUSTOMERS, many, p=people["activity"] / people["activity"].sum())
    day = rng.integers(-1, DAYS, many)
    weekend = day % 7 >= 5
    category, own = np.zeros(many, int), np.zeros(many)
    for kind_of_day in (0, 1):                            # an occasion is one bump of the table
        bumps = np.array([(c, *bump) for c, row in enumerate(CATEGORIES.values()) for bump in row[3 + kind_of_day]])
        some = np.flatnonzero(weekend == kind_of_day)
        pick = bumps[rng.choice(len(bumps), len(some), p=bumps[:, 3] / bumps[:, 3].sum())]
        category[some], own[some] = pick[:, 0], pick[:, 1] + pick[:, 2] * rng.normal(size=len(some))
    leaves, days = rng.integers(0, DAYS, CUSTOMERS), rng.choice([0, 4, 9], CUSTOMERS, p=[0.3, 0.4, 0.3])
    away = (day >= leaves[who]) & (day < (leaves + days)[who])
    journey = _spread(rng, rng.lognormal(6.5, 0.9, CUSTOMERS))
    at_work = ~weekend / (1 + np.exp((8.0 - own) / 0.35)) / (1 + np.exp((own - 17.6) / 0.35))       # 0 at home, 1 there
    place = np.where(away[:, None], journey[who], at_work[:, None] * people["work"][who])
    place = place + _spread(rng, BESIDE[category] * rng.lognormal(0, 0.2, many))
    log_price = np.log(PRICE[category]) + ELASTICITY[category] * people["wealth"][who] + 0.2 * away \
        + 0.07 * (own - 12.5) * (category == RESTAURANT) + rng.normal(0, 0.15, many)      # dinner costs more than lunch
    hours = 24 * day + own + people["rhythm"][who]
    keep = np.flatnonzero((hours >= 0) & (hours < 24 * DAYS))[:n]
    return {"who": who[keep], "hours": hours[keep], "category": category[keep], "place": place[keep],
            "amount": np.exp(log_price[keep]), "kind": np.full(n, "normal", "U16")}


def _fraud(rng, people, genuine):
    n = FRAUDS // len(KINDS)
    past = rng.choice(np.flatnonzero(genuine["hours"] < 24 * DAYS - 4), (2, n))

    def anyone():
        return rng.integers(0, CUSTOMERS, n)

    def at(own_hour, who):                                # on some working day, at this hour of the victim's own day
        return 24 * rng.choice([d for d in range(1, DAYS - 2) if d % 7 < 5], n) + own_hour + people["rhythm"][who]

    def price(category, factor, spread):
        return PRICE[category] * factor * rng.lognormal(0, spread, n)

    # Card testing: a robot tries whether a number works, five tiny payments online within minutes.
    start = np.repeat(rng.uniform(24, 24 * DAYS - 24, n // 5), 5)
    testing = (np.repeat(rng.integers(0, CUSTOMERS, n // 5), 5),
               start + rng.exponential(0.08, (n // 5, 5)).cumsum(1).ravel(),
               rng.choice([ONLINE, SUBSCRIPTION], n), rng.uniform(-30, 30, (n, 2)), rng.uniform(0.5, 3, n))
    # Cloned card: a copy pays in a shop far away, soon after the owner paid with the card itself.
    what = rng.choice([FUEL, SHOPPING, LEISURE], n)
    cloned = (genuine["who"][past[0]], genuine["hours"][past[0]] + rng.uniform(0.2, 3, n), what,
              _spread(rng, rng.lognormal(6.8, 0.8, n)), price(what, 1.6, 0.4))
    # Account takeover: a large order online while the owner sleeps, large as measured by what this owner spends.
    who = anyone()
    takeover = (who, at(rng.uniform(1, 6, n), who), np.full(n, ONLINE), _spread(rng, rng.lognormal(3, 1, n)),
                price(ONLINE, 4.5, 0.4) * np.exp(people["wealth"][who]))
    # Stolen card: the thief shops near the home while the owner is at work. At a weekend all of it would be normal.
    who = rng.choice(np.flatnonzero(np.hypot(*people["work"].T) > 8), n)
    what = rng.choice([GROCERIES, FUEL, SHOPPING], n)
    stolen = (who, at(rng.uniform(9, 17, n), who), what, _spread(rng, rng.lognormal(1, 0.5, n)), price(what, 1, 0.3))
    # Replay: a robot repeats on this card what somebody else did. Each number is right, for another customer.
    replay = (anyone(), *(genuine[key][past[1]] for key in ("hours", "category", "place", "amount")))
    columns = map(np.concatenate, zip(testing, cloned, takeover, stolen, replay))
    return {**dict(zip(("who", "hours", "category", "place", "amount"), columns)), "kind": np.repeat(KINDS, n)}


def _features(people, table, history):
    """x: (n, d) of the rows of `table`; the customer's last purchase and the last 24 hours are looked up in `history`.

    Genuine rows look back at genuine ones only: a fraud is struck from the history once the customer has complained.
    """
    who, hours = table["who"], table["hours"]
    order = np.lexsort((history["hours"], history["who"]))
    key = (1e5 * history["who"] + history["hours"])[order]                    # one sorted line, customer after customer
    here = np.searchsorted(key, 1e5 * who + hours)
    last = order[np.maximum(here - 1, 0)]
    known = (here > 0) & (history["who"][last] == who)
    own = hours - people["rhythm"][who]
    at, work = table["place"], people["work"][who]
    km_home, km_work, km_commute = (np.hypot(*place.T) for place in (at, at - work, work))
    columns = (np.log1p(table["amount"]), np.log1p(table["amount"]) - people["usual"][who],
               np.sin(own * np.pi / 12), np.cos(own * np.pi / 12), own // 24 % 7 >= 5, km_home > 600,
               *map(np.log1p, (km_home, km_work, km_commute)),
               np.log1p(known * np.hypot(*(table["place"] - history["place"][last]).T)),
               np.log(0.05 + np.where(known, hours - history["hours"][last], 48.0)),
               np.log1p(here - np.searchsorted(key, 1e5 * who + np.maximum(hours - 24, 0))),
               *(table["category"] == c for c in range(len(CATEGORIES))))
    return np.stack(columns, 1)


# ---------------------------------------------------------------------------------------------------------------------
# ULB: A. Dal Pozzolo et al., Calibrating probability with undersampling for unbalanced classification, CIDM 2015

ULB_FEATURES = (*(f"V{i}" for i in range(1, 29)), "log_amount")
ULB_FILES = ("creditcard.csv", "creditcard.csv.gz", "creditcard_sample.csv", "creditcard_sample.csv.gz")
ULB_NORMAL, ULB_FRAUD = 284_315, 492                      # rows of the whole set


def _ulb(source):
    """The arrays of the csv at the path `source`, or of the first of `ULB_FILES`, or, without any, of OpenML's copy."""
    path = _store.find(*ULB_FILES) if source == "ulb" else source
    if path is None:
        return _store.cached("transactions_openml_1597", _openml, _unfit)
    if path.is_dir():
        raise _store.DataError(f"data.transactions: {path} is a folder; wanted is a csv file, plain or gzipped.")
    stat = path.stat()
    name = f"transactions_{path.name}_{stat.st_size}_{stat.st_mtime_ns}"
    return _store.cached(name, lambda: _arrays(*_read(path)), _unfit)


def _unfit(arrays):
    rows = {"x": ("f4", len(ULB_FEATURES)), "kind": ("U",), "hours": ("f8",), "amount": ("f4",), "weight": ("f4",)}
    return _reading.unfit(arrays, rows, ("note",)) or "a kind is unknown" * (not set(arrays["kind"]) <= {"normal", "fraud"})


def _arrays(names, table):
    column, note = dict(zip(names, table.T)), ""
    if "Time" not in column:                              # OpenML's copy may leave it out; its rows are in order
        column["Time"] = np.linspace(0, 48 * 3600 - 1, len(table))
        note = "; this copy gives no times: the rows, in their order, are spread evenly over the 48 hours"
    y = column["Class"] == 1
    weight = np.where(y, ULB_FRAUD / y.sum(), ULB_NORMAL / (~y).sum())
    if len(y) < ULB_NORMAL:
        note += f"; a sample, {y.mean():.1%} fraud: `weight` leads back to the whole set's {ULB_FRAUD / 284_807:.2%}"
    column["log_amount"] = np.log1p(column["Amount"])
    order = np.argsort(column["Time"], kind="stable")
    return {"x": np.stack([column[name] for name in ULB_FEATURES], 1)[order].astype(np.float32),
            "kind": np.where(y, "fraud", "normal")[order], "hours": column["Time"][order] / 3600,
            "amount": column["Amount"][order].astype(np.float32), "weight": weight[order].astype(np.float32),
            "note": np.array(note)}


def _read(path):
    """The names of ULB's 31 columns and a csv's (n, 31) float64 table, or a DataError that says where it is wrong."""
    wanted = ("Time", *ULB_FEATURES[:-1], "Amount", "Class")
    largest = np.finfo(np.float32).max
    fits = dict.fromkeys(wanted, lambda v: np.abs(v) <= largest)
    fits |= dict.fromkeys(("Time", "Amount"), lambda v: (v >= 0) & (v <= largest))
    fits["Class"] = lambda v: (v == 0) | (v == 1)

    def wrong(what):
        return _store.DataError(f"data.transactions: {path}{what}. Wanted is a csv with the columns Time, V1 to V28, "
                                "Amount and Class (1 = fraud).\nThe embedded data needs no file: source='simulated'.")

    try:
        with _text(path) as file:
            names = [name.strip() for name in next(csv.reader(_lines(file)), [])]
            if absent := [name for name in wanted if names.count(name) != 1]:
                raise wrong(f" lacks the column{'s'[:len(absent) > 1]} {', '.join(absent)}, or has it twice"
                            if names else " is empty")
            use = [names.index(name) for name in wanted]
            try:
                with warnings.catch_warnings(action="ignore"):                # a file without rows is told below
                    table = np.loadtxt(_lines(file, len(names)), delimiter=",", comments=None, quotechar='"', usecols=use,
                                       ndmin=2)
                if len(table) and all(fits[name](column).all() for name, column in zip(wanted, table.T)):
                    if np.ptp(table[:, -1]) == 0:
                        raise wrong(f": all {len(table):,} rows have Class {table[0, -1]:.0f}, but both are needed")
                    return wanted, table
            except ValueError:
                pass
        with _text(path) as file:                         # something is wrong: once more, slowly, to say where
            for line, row in enumerate(csv.reader(_lines(file)), 1):
                for name, i in zip(wanted, use) if row and line > 1 else ():
                    cell = row[i].strip() if i < len(row) else ""
                    try:
                        fine = fits[name](float(cell.replace("_", " ")))
                    except ValueError:
                        fine = False
                    if not fine:
                        raise wrong(f", line {line}, column {name}: {cell[:40]!r} cannot stand there")
                if row and len(row) != len(names):
                    raise wrong(f", line {line}: {len(row)} cells for {len(names)} columns")
            raise wrong(" has a header and no rows" if line < 2 else " has cells that are no numbers")
    except (OSError, MemoryError, UnicodeDecodeError, csv.Error) as error:
        raise wrong(f" cannot be read ({str(error) or 'it is too large'})") from error


def _text(path):
    return io.TextIOWrapper(_reading.unpacked(path), encoding="utf-8-sig", newline="")


def _lines(file, cells=None, longest=2**16):
    """The lines of a text, each shorter than 65,536 characters; with so many cells, where told, but for blank ones."""
    while line := file.readline(longest):
        if len(line) == longest:
            raise OSError(f"a line of {longest:,} characters or more")
        if cells and line.count(",") != cells - 1 and not line.isspace() and '"' not in line:
            raise ValueError(f"not {cells} cells")
        yield line


def _openml():
    """The whole set from OpenML through scikit-learn, which verifies the file; its rows are counted here."""
    from sklearn.datasets import fetch_openml
    try:
        print("transactions: fetching data set 1597 from openml.org, once; it takes some minutes")
        with tempfile.TemporaryDirectory() as home:       # only the arrays are kept
            got = fetch_openml(data_id=1597, as_frame=False, parser="liac-arff", data_home=home, n_retries=1)
        y = np.asarray(got.target).astype(float)
        if len(y) != ULB_NORMAL + ULB_FRAUD or (y == 1).sum() != ULB_FRAUD:
            raise ValueError(f"{len(y):,} rows came, {(y == 1).sum():,} of them fraud, not 284,807 and 492")
        return _arrays((*got.feature_names, "Class"), np.column_stack([got.data, y]).astype(float))
    except Exception as error:                            # somebody else's loader, over a network: anything can come
        put = f"put creditcard.csv or creditcard.csv.gz (Kaggle: mlg-ulb/creditcardfraud) into {_store.folder()}"
        raise _store.missing("transactions", put, f"OpenML's data set 1597 could not be had: {error}") from error

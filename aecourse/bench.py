"""What the course costs beside what people would use instead: the same work, in one run, in turns.

`python -m aecourse bench` measures it and writes BENCHMARK.json, BENCHMARK.md and BENCHMARK.svg. Each contender is a process
of its own that works when it is told to and sleeps otherwise, so that a noisy machine hits all alike. All on the CPU.
"""

import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import accumulate, product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from aecourse import _notebooks as notebooks
from aecourse import _reading, data, metrics, recipes
from aecourse.contenders import BATCH, CONTENDERS, HIDDEN, LATENT, METHODS, SHAPE, SIZES, Work, elbo, make
from aecourse.data import _store
from aecourse.training import forked_rng

TARGET = {"mnist": 105.9}                                # nats; for other sources a loss that all contenders reach
BASE = {"n": 20_000, "d": 100, "latent": 20, "batch": 128}
GROWTH = {"n": [1_000, 20_000, 100_000, 1_000_000], "d": [25, 100, 400, 1600], "latent": [2, 20, 200],
          "batch": [16, 128, 1024]}
INSTALL = 'pip install -e ".[bench]"'


class Plan(NamedTuple):
    """How much is measured. `rounds`: repetitions in pair, seeds in fraud; epochs that are None: each method's own.

    draws, model: for likelihood, codes per image, and a folder of `train best-vae` (None: it is trained).
    """

    epochs: int = 10
    vae_epochs: int | None = None
    draws: int = 200
    model: str | None = None
    rounds: int = 3
    peers: str = "all"
    images: int = 60_000
    seconds: float = 4.
    fraud_epochs: int | None = None
    largest: int = 1_000_000


QUICK = Plan(epochs=2, vae_epochs=1, draws=10, rounds=1, images=2_000, seconds=0.2, fraud_epochs=1, largest=20_000)

# -- children and their turns -----------------------------------------------------------------------------------------------


class ChildError(RuntimeError):
    """A child process that ended before its time; the message is the end of what it printed."""


class Child:
    """A process that does one of `contenders.JOBS`.

    ours: with the course's thread setting, else with PyTorch's own; second: with that of a second process beside a first.
    """

    def __init__(self, job, *, ours=True, second=False, **options):
        without = {"GOMP_SPINCOUNT"} if ours and second else set() if ours else {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
        env = {name: value for name, value in os.environ.items() if name not in without}
        first = "aecourse" if ours else "torch"          # the setting counts where it is made before torch is loaded
        program = f"import {first}; from aecourse import contenders; contenders.serve()"
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, json.dumps([job, options])], env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def tell(self, ask=None):
        try:
            print(json.dumps(ask), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass                                         # `answer` says what happened

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise ChildError(self.log.read().strip()[-1500:] or f"it ended with code {self.process.returncode}")
        return json.loads(line)

    def turn(self, ask=None):
        self.tell(ask)
        return self.answer()

    def peak(self):
        """The most memory in MiB that it has held so far; None where the system does not tell."""
        peak = notebooks.peak_memory(self.process.pid)
        return peak and round(peak / 2**20)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            file.close()


def started(children, peers=()):
    """The children that are ready. One of `peers` that does not start is told and left out; another raises ChildError."""
    ready = {}
    for name, child in children.items():
        try:
            child.answer()
            ready[name] = child
        except ChildError as error:
            if name not in peers:
                raise
            tqdm.write(f"{name} does not run here and is left out: {str(error).splitlines()[-1]}")
    return ready


def interleave(children, asks, what):
    """One turn of each child, in their order, for each of `asks`, functions of the child's name; name -> list of answers."""
    answers = {name: [] for name in children}
    with tqdm(total=len(asks) * len(children), desc=what, unit="turn", dynamic_ncols=True) as bar:
        for ask, (name, child) in product(asks, children.items()):
            bar.set_postfix_str(name)
            answers[name].append(child.turn(ask(name)))
            bar.update()
    return answers


def installed(names, peers):
    """The libraries that are asked for (`peers`: "all", "none", or some, with commas) and here; what is missing is told."""
    wanted = [name for name in names if peers == "all" or name in peers.split(",")]
    here = [name for name in wanted if importlib.util.find_spec(name)]
    for name in sorted({*wanted} - {*here}):
        tqdm.write(f"{name} is not installed and is left out. To measure it too: {INSTALL}")
    return here


# -- what is measured -------------------------------------------------------------------------------------------------------


def operations():
    """Floating-point operations of the matrix products of one training step, per image: forward and backward."""
    with FlopCounterMode(display=False) as counter:
        elbo(make(), torch.rand(1, *SHAPE)).backward()
    return counter.get_total_flops()


def measure_fit(plan, source):
    """The contenders' rates, losses and memory on digits, and how near our `fit` comes to the machine's matrix products."""
    here = [None, *installed([c.peer for c in CONTENDERS.values() if c.peer], plan.peers)]
    sizes = [size for size in SIZES if size <= plan.images]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        x, y = (part[:plan.images] for part in data.digits("train", source))
        np.save(Path(folder, "x.npy"), (x[:, 0] * 255).round().byte().numpy())
        np.save(Path(folder, "y.npy"), y.numpy())
        work = Work(source, len(x), plan.epochs, folder)
        children = {name: Child("contend", ours=c.ours, contender=name, work=work)
                    for name, c in CONTENDERS.items() if c.peer in here}
        children |= {"roof": Child("roof", ours=False), "rates": Child("rates", images=plan.images)}
        for child in children.values():
            stack.enter_context(child)
        children = started(children, peers=[name for name, c in CONTENDERS.items() if c.peer])
        asked = [(size, plan.seconds / 8) for size in sizes]
        turns = interleave(children, [lambda name: asked] * plan.epochs, f"fit, {source}")
        rows = {name: {"seconds": [turn["seconds"] for turn in turns[name]], "loss": [turn["loss"] for turn in turns[name]],
                       "peak": child.peak()} for name, child in children.items() if name in CONTENDERS}
    target = TARGET.get(source, max(min(row["loss"]) for row in rows.values()))
    for row in rows.values():
        row["rate"] = len(x) / median(row["seconds"])
        row["reached"] = next((s for s, loss in zip(accumulate(row["seconds"]), row["loss"]) if loss <= target), None)
    each, roof = operations(), median(turns["roof"])
    rates = dict(zip(map(str, sizes), np.median(turns["rates"], axis=0).tolist()))
    return {"images": len(x), "epochs": plan.epochs, "target": target, "contenders": rows, "operations": each, "roof": roof,
            "rates": rates, "fractions": {size: 1e-9 * each * rate / roof for size, rate in rates.items()}}


def measure_pair(plan, source):
    """Images per second of one process alone, and of two at once, their sum: for our thread setting and for PyTorch's."""
    with ExitStack() as stack:
        settings = {"ours": True, "PyTorch's default": False}
        children = {(name, i): stack.enter_context(Child("rates", ours=ours, second=i == 2, images=plan.images))
                    for name, ours in settings.items() for i in (1, 2)}
        result, ask = {name: {"alone": [], "both": []} for name in settings}, [(BATCH, plan.seconds)]
        for child in started(children).values():
            child.turn([(BATCH, min(1, plan.seconds))])                      # warms up
        for _, name in tqdm([*product(range(plan.rounds), settings)], desc="pair", unit="turn", dynamic_ncols=True):
            one, two = children[name, 1], children[name, 2]
            result[name]["alone"] += one.turn(ask)
            one.tell(ask), two.tell(ask)
            result[name]["both"].append(sum(one.answer() + two.answer()))
    return {name: row | {"ratio": median(row["both"]) / median(row["alone"])} for name, row in result.items()}


def measure_fraud(plan, source):
    """Average precision, and seconds to fit and score, of each method on transactions: one run per seed."""
    pyod = bool(installed(["pyod"], plan.peers))
    methods = [name for name in METHODS if pyod or not name.startswith("PyOD")]
    with Child("fraud", source=source) as ours, ExitStack() as stack:
        helpers = {True: ours} | ({False: stack.enter_context(Child("fraud", ours=False, source=source))} if pyod else {})
        started(helpers)
        children = {name: helpers[not name.startswith("PyOD")] for name in methods}
        asks = [lambda name, seed=seed: (name, seed, plan.fraud_epochs) for seed in range(plan.rounds)]
        turns = interleave(children, asks, f"fraud, {source}")
    return {name: {key: [turn[key] for turn in turns[name]] for key in ("precision", "seconds")} for name in methods}


def measure_growth(plan, source):
    """Seconds per epoch of our `fit`, and the MiB that it takes beyond PyTorch's own, one quantity varied at a time."""
    points = [BASE | {key: value} for key, values in GROWTH.items() for value in values]
    points = [point for i, point in enumerate(points) if point not in points[:i] and point["n"] <= plan.largest]
    for point in (bar := tqdm(points, desc="growth", unit="point", dynamic_ncols=True)):
        bar.set_postfix(point)
        with Child("grow", **point) as child:
            child.answer()
            before = child.peak()
            point["seconds"] = child.turn()
            point["memory"] = before and child.peak() - before
    return points


def lines_of_growth(points):
    """For each quantity its points in order, and the power of it that the seconds grow with: a slope of logarithms."""
    lines = {}
    for key in GROWTH:
        line = sorted((p for p in points if all(p[k] == v for k, v in BASE.items() if k != key)), key=lambda p: p[key])
        lines[key] = line, float(np.polyfit(np.log([p[key] for p in line]), np.log([p["seconds"] for p in line]), 1)[0])
    return lines


def measure_likelihood(plan, source):
    """The likelihood that the course's best VAE gives to test images whose pixels are coins, thrown once, in nats per image."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(plan.model or home)
        if plan.model is None:
            recipes.train("best-vae", source=source, epochs=plan.vae_epochs, device="cpu", out=folder)
        vae, recipe, history = recipes.opened("best-vae", folder)
    if recipe["source"] != source:
        raise ValueError(f"{plan.model} was trained on {recipe['source']}, not on {source}: --source {recipe['source']}")
    with forked_rng(0):
        x = torch.bernoulli(data.digits("test", source)[0][:plan.images])
    parts = tqdm(x.split(500), desc=f"likelihood, {source}", unit="500 images", dynamic_ncols=True)
    weighted = torch.cat([metrics.importance_weighted_nll(vae, part, plan.draws, seed=i) for i, part in enumerate(parts)])
    return {"epochs": len(history.seconds), "seconds": sum(history.seconds), "images": len(x), "draws": plan.draws,
            "bound": metrics.importance_weighted_nll(vae, x, 1).mean().item(), "nll": weighted.mean().item()}


DIGITS = ("digits", "strokes", ("mnist", "fashion-mnist"))
MEASURES = {"fit": measure_fit, "pair": measure_pair, "fraud": measure_fraud, "growth": measure_growth,
            "likelihood": measure_likelihood}
SOURCES = {"fit": DIGITS, "fraud": ("transactions", "simulated", ("ulb",)), "likelihood": DIGITS}


def run(parts, sources, plan, out):
    """Measure some parts and write the three files into the folder `out`; what they hold of others stays."""
    stored = Path(out, "BENCHMARK.json")
    stored.parent.mkdir(parents=True, exist_ok=True)

    def load():
        return _reading.read_json(stored, page) if stored.exists() else {}

    load()                                               # a damaged file is told now, not after an hour
    for part, word in ((part, word) for part in parts for word in (sources if part in SOURCES else ["random numbers"])):
        kind, embedded, real = SOURCES.get(part, (part, word, ()))
        source = str(_store.choose(kind, word, embedded, real))
        entry = {"on": machine(), "results": _rounded(MEASURES[part](plan, source))}
        if part == "likelihood":
            source += f", {entry['results']['epochs']} epochs"
        with notebooks.alone(stored):
            kept = load()                                # anew: another process may have measured other parts
            kept.setdefault(part, {})[source] = entry
            notebooks.write(stored, json.dumps(kept, indent=1))
            notebooks.write(stored.with_suffix(".md"), page(kept))
            notebooks.write(stored.with_suffix(".svg"), picture(kept))
    print(page(kept))


def machine():
    """What the figures are measured on."""
    setting = {name: os.environ.get(name, "unset") for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    return {"cores": os.cpu_count(), "threads": torch.get_num_threads(), **setting,
            "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
            "torch": torch.__version__}


def _rounded(value):
    """Six digits of each number: more would be noise."""
    return json.loads(json.dumps(value), parse_float=lambda digits: float(f"{float(digits):.6g}"))


# -- the page and the picture -----------------------------------------------------------------------------------------------

HEADS = {"fit": "Training speed", "pair": "Two at once", "fraud": "Frauds found", "growth": "How cost grows",
         "likelihood": "The best VAE"}


def sections(kept):
    """(part, title, what was measured) in the order of the page."""
    return [(part, f"{HEADS[part]}: {source}", entry) for part in MEASURES for source, entry in kept.get(part, {}).items()]


def _table(head, rows):
    """A Markdown table; `rows` of texts, the first column on the left."""
    return ["| " + " | ".join(row) + " |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]


def _or_dash(value, form):
    return "–" if value is None else form.format(value)


def _fit_lines(results):
    rows = [[name, f"{row['rate']:,.0f}", f"{median(row['seconds']):.2f}", f"{row['loss'][-1]:.2f}",
             _or_dash(row["reached"], "{:.1f}"), _or_dash(row["peak"], "{:,}")]
            for name, row in results["contenders"].items()]
    fractions = ", ".join(f"{fraction:.2f} at batch {size}" for size, fraction in results["fractions"].items())
    head = ["", "images/s", "seconds per epoch", "test loss", f"seconds to {results['target']:.1f}", "peak memory, MiB"]
    return [f"VAE 784-{HIDDEN}-{LATENT}, {results['images']:,} images, batch {BATCH}, {results['epochs']} epochs; medians "
            "over epochs, the contenders in turns. The loss is minus the ELBO on test images, in nats.", "",
            *_table(head, rows), "",
            f"Training takes {results['operations'] / 1e6:.2f} million floating-point operations per image, in matrix "
            f"products. Of the machine's best such rate, {results['roof']:,.0f} GFLOP/s, our `fit` reaches {fractions}."]


def _pair_lines(results):
    rows = [[name, f"{median(row['alone']):,.0f}", f"{median(row['both']):,.0f}", f"{row['ratio']:.2f}"]
            for name, row in results.items()]
    return ["Two processes that train the same VAE at the same time.", "",
            *_table(["thread setting", "one alone, images/s", "two, their sum", "two over one"], rows)]


def _fraud_lines(results):
    rows = [[name, f"{median(row['precision']):.3f}", f"{min(row['precision']):.3f} to {max(row['precision']):.3f}",
             f"{median(row['seconds']):.1f}"] for name, row in results.items()]
    return ["Trained on the normal rows of the first 40 % of the time, judged on the last half; medians over seeds.", "",
            *_table(["", "average precision", "over seeds", "seconds to fit and score"], rows)]


def _growth_lines(results):
    lines = []
    for key, (line, slope) in lines_of_growth(results).items():
        others = ", ".join(f"{k} {v:,}" for k, v in BASE.items() if k != key)
        rows = [[f"{p[key]:,}", f"{p['seconds']:.3g}", _or_dash(p["memory"], "{:,}")] for p in line]
        lines += [f"An epoch's time grows as {key} to the power of {slope:.2f} ({others}).", "",
                  *_table([key, "seconds per epoch", "memory beyond the start, MiB"], rows), ""]
    return lines[:-1]


def _likelihood_lines(results):
    row = [f"{results[key]:,.2f}" for key in ("bound", "nll")] + [f"{results['seconds']:,.0f}"]
    return [f"The recipe `best-vae` (784-500-500-50 and back), trained on images whose pixels are coins, thrown anew in each of "
            f"{results['epochs']} epochs; {results['images']:,} test images, thrown once. Nats per image. Published for a VAE with "
            "one layer of 50 random numbers on MNIST, after 3,280 epochs: 86.76, with 5,000 draws (Burda et al. 2016).", "",
            *_table(["minus the ELBO", f"minus the log-likelihood, {results['draws']:,} draws", "seconds to train"], [row])]


LINES = {"fit": _fit_lines, "pair": _pair_lines, "fraud": _fraud_lines, "growth": _growth_lines, "likelihood": _likelihood_lines}


def page(kept):
    """BENCHMARK.md as text."""
    lines = ["# Benchmark", "", "Made by `python -m aecourse bench`, not by hand. All on the CPU.", "",
             "![The figures of the tables below, drawn](BENCHMARK.svg)"]
    for part, title, entry in sections(kept):
        on = entry["on"]
        lines += ["", f"## {title}", "", *LINES[part](entry["results"]), "",
                  f"On {on['cores']} CPU cores, threads: {on['threads']}, {on['system']}, Python {on['python']}, torch "
                  f"{on['torch']}; OMP_WAIT_POLICY={on['OMP_WAIT_POLICY']} and GOMP_SPINCOUNT={on['GOMP_SPINCOUNT']} "
                  "for the course, both unset for the others."]
    return "\n".join(lines)


def picture(kept):
    """BENCHMARK.svg as text: a row for each section of the page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from aecourse import plotting

    def fit(results, left, middle, right):
        rows = results["contenders"]
        plotting.bars({name: row["rate"] / 1000 for name, row in rows.items()}, unit="1,000 images per second", best="high",
                      highlight=["aecourse fit"], ax=left).set_title("Throughput")
        for name, row in rows.items():
            middle.plot([*accumulate(row["seconds"])], row["loss"], marker=".", label=name)
        middle.axhline(results["target"], color=plotting.GRAY, linewidth=1, linestyle="--")
        middle.set(xlabel="seconds of training", ylabel="test loss, nats", title="What the time buys")
        middle.legend(fontsize=8, loc="upper right")
        plotting.bars({f"batch {size}": value for size, value in results["fractions"].items()},
                      unit="share of the best matrix product", ax=right).set_title("How near fit comes to the roof")

    def pair(results, ax):
        plotting.bars({name: row["ratio"] for name, row in results.items()}, unit="two at once, over one alone", best="high",
                      highlight=["ours"], ax=ax)

    def fraud(results, left, right):
        for ax, key, unit, best in ((left, "precision", "average precision", "high"), (right, "seconds", "seconds", "low")):
            plotting.bars({name: median(row[key]) for name, row in results.items()}, unit=unit, best=best,
                          highlight=["lesson 05"], ax=ax)
        right.set_yticks([])

    def growth(results, *axes):
        for ax, (key, (line, slope)) in zip(axes, lines_of_growth(results).items()):
            ax.loglog([p[key] for p in line], [p["seconds"] for p in line], "o-")
            ax.loglog([p[key] for p in line], [(p["memory"] or np.nan) / 1024 for p in line], "s--", color=plotting.ORANGE)
            ax.set(xlabel=key, title=f"time grows as {key}^{slope:.2f}")
        axes[0].set_ylabel("seconds per epoch (blue)\nGiB beyond the start (orange)")

    def likelihood(results, ax):
        plotting.bars({"minus the ELBO": results["bound"], "minus the log-likelihood": results["nll"]}, unit="nats per image",
                      best="low", ax=ax)

    drawn = {"fit": (fit, 3, 3.2), "pair": (pair, 1, 1.7), "fraud": (fraud, 2, 3.2), "growth": (growth, 4, 3.2),
             "likelihood": (likelihood, 1, 1.7)}
    shown = sections(kept)
    heights = [drawn[part][2] for part, _, _ in shown]   # in inches
    figure = Figure(figsize=(13, sum(heights)), layout="constrained")
    rows = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=heights).flat
    for row, (part, title, entry) in zip(rows, shown):
        draw, columns, _ = drawn[part]
        row.suptitle(title)
        draw(entry["results"], *row.subplots(1, columns, squeeze=False).flat)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "aecourse", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()

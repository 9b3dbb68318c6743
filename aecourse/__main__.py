"""The command line, `python -m aecourse`: run the lessons, measure their claims, list the data."""

import argparse
import json
import os
import re
import sys
from concurrent.futures import as_completed
from importlib.metadata import version

from tqdm import tqdm

from aecourse import _notebooks as notebooks
from aecourse.claims import _show

LEDGER = notebooks.ROOT / "LEDGER.json"                  # lesson: source: seed: {"seconds", "claims"} or {"error"}
PARTS = ("fit", "pair", "fraud", "growth", "likelihood")  # of the benchmark
FILES = {                                                # what shows that a source is here; the first is embedded
    "digits": {"strokes": (), "mnist": ("MNIST/raw",), "fashion-mnist": ("FashionMNIST/raw",)},
    "faces": {"drawn": (), "lfw": ("lfw_one_per_person.tar", "lfw", "lfw_funneled", "lfw-deepfunneled", "lfw_home"),
              "celeba": ("celeba",)},
    "transactions": {"simulated": (), "ulb": ("creditcard.csv", "creditcard.csv.gz", "creditcard_sample.csv",
                                              "creditcard_sample.csv.gz", "cache/transactions_ulb_openml.npz")},
    "speech": {"synthesised": (), "fsdd": ("fsdd.tar.xz", "fsdd.tar.gz", "free-spoken-digit-dataset-1.0.10.tar.gz",
                                           "free-spoken-digit-dataset")},
    "noises": {"synthesised": (), "recorded": ("noise/running_tap.wav",)},
}


def lessons(args):
    """Execute notebooks and store them, or (`--check`) only execute them, or (`--seed`, `--source`) measure them."""
    measured = args.seed is not None or args.source is not None
    if (args.threads or args.repeat > 1) and (measured or not args.check):
        raise notebooks.NotebookError("--threads and --repeat store and record nothing: they go with --check alone")
    if measured:
        args.seeds, args.sources, args.jobs, args.missing = [args.seed or 0], [args.source or "embedded"], 1, False
        return ledger(args)
    paths, passed, total, peaks = notebooks.find(args.names) * args.repeat, 0, 0, []
    try:
        with tqdm(total=sum(len(notebooks.read(path).cells) for path in paths), unit="cell", dynamic_ncols=True) as bar:
            for path in paths:
                bar.set_description(path.stem)
                notebook, _, seconds, memory = notebooks.execute(path, threads=args.threads, each_cell=bar.update)
                if not args.check:
                    notebooks.store(path, notebook)
                passed, total = passed + 1, total + seconds
                peaks += [memory] if memory else []
                bar.write(f"{path.stem:<40}{seconds:7.1f} s{gibibytes(memory)}")
    finally:
        if args.repeat > 1:
            print(f"{passed} of {len(paths)} runs of {len(set(paths))} lessons passed")
    print(f"{'together, and the largest process':<40}{total:7.1f} s{gibibytes(max(peaks, default=None))}")
    return 0


def gibibytes(memory):
    """A peak of memory as the end of a line, empty where it is not known."""
    return f", peak memory {memory / 2**30:5.2f} GiB" if memory else ""


def ledger(args):
    """Measure every claim per seed and source, for LEDGER.json and LEDGER.md. Returns 1 if one does not hold."""
    done = {(*where,) for *where, run in runs_of(load()) if "claims" in run} if args.missing else set()
    runs = [(path, source, seed) for path in notebooks.find(args.names) for source in args.sources
            for seed in args.seeds if (path.stem, source, str(seed)) not in done]
    failures = []
    if args.jobs > 1:
        os.environ.pop("GOMP_SPINCOUNT", None)           # none of them is the first: all sleep where they wait
    with notebooks.workers(args.jobs) as pool:
        futures = {pool.submit(notebooks.measure, path, seed, source): (path, source, seed) for path, source, seed in runs}
        for future in (bar := tqdm(as_completed(futures), total=len(runs), unit="run", dynamic_ncols=True)):
            (path, source, seed), run = futures[future], future.result()
            where = f"{path.stem}, {source}, seed {seed}: "
            bad = [where + f"{row['text']}: {figure(row)}, wanted {bound(row)}"
                   for row in run.get("claims", []) if not row["holds"]]
            bad += [where + f"did not run\n{run['error']}"] if "error" in run else []
            bar.write("\n".join(bad) or where + f"{len(run['claims'])} claims hold, {run['seconds']} s")
            failures += bad
            try:
                keep(path.stem, source, seed, run)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)       # what cannot be kept is not worth its hours
                raise
    print(f"{len(runs)} runs, and all claims hold." if not failures else
          f"\n{len(failures)} claims or runs failed:\n" + "\n".join(bad.split("\n")[0] for bad in failures))
    return 1 if failures else 0


def keep(lesson, source, seed, run):
    """Add a run to the ledger, to which another process may be adding others."""
    with notebooks.alone(LEDGER):
        kept = load()
        kept["lessons"].setdefault(lesson, {}).setdefault(source, {})[str(seed)] = run
        kept["on"] = f"torch {version('torch')}, {os.cpu_count()} CPU cores"
        notebooks.write(LEDGER, json.dumps(kept, indent=1, sort_keys=True))
        notebooks.write(LEDGER.with_suffix(".md"), table(kept))


def load():
    """What the ledger holds so far."""
    from aecourse import _reading
    return _reading.read_json(LEDGER, table) if LEDGER.exists() else {"lessons": {}}


def runs_of(kept):
    """All (lesson, source, seed, run) of the ledger, the lessons and the seeds in order, embedded before real."""
    runs = [(lesson, source, seed, run) for lesson, sources in kept["lessons"].items()
            for source, seeds in sources.items() for seed, run in seeds.items()]
    return sorted(runs, key=lambda run: (*run[:2], int(run[2])))


def figure(row):
    """A claim's measured value as its lesson shows it."""
    return _show(row["value"]) + row["unit"]


def bound(row):
    """A claim's bound in words."""
    if row["between"]:
        return " to ".join(map(_show, row["between"]))
    return f"below {_show(row['below'])}" if row["below"] is not None else f"above {_show(row['above'])}"


def shown(rows):
    """The smallest and the largest value of some measurements of one claim, as a cell of the table."""
    ends = sorted(rows, key=lambda row: row["value"])
    cells = [figure(row) if row["holds"] else f"**{figure(row)} ✗**" for row in ends[:1] + ends[-1:]]
    return " … ".join(dict.fromkeys(cells)) or "–"


def table(kept):
    """LEDGER.md as text: per lesson a row for each claim, a column for each seed and one for the real data."""
    lines = ["# Ledger", "", "What the lessons claim, measured: per seed on the embedded data, smallest and largest "
             f"value on the real data. On {kept['on']}; made by `make ledger`, not by hand. A value that breaks its "
             "bound is bold and ends in ✗. The seconds are those of runs that may have shared the machine: a lesson's "
             "time alone stands in its header."]
    for lesson in sorted(kept["lessons"]):
        runs = [(source, seed, run) for name, source, seed, run in runs_of(kept) if name == lesson]
        seeds = [seed for source, seed, _ in runs if source == "embedded"]
        claims = {}                                      # (text, how often it stood before) -> {(source, seed): claim}
        for source, seed, run in runs:
            texts = [row["text"] for row in run.get("claims", [])]
            for index, row in enumerate(run.get("claims", [])):
                claims.setdefault((row["text"], texts[:index].count(row["text"])), {})[source, seed] = row
        head = ["claim", "bound", *(f"seed {seed}" for seed in seeds), "real"]
        lines += ["", f"## {lesson}", "", "| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(seeds) + 1)]
        for (text, _), rows in claims.items():
            cells = [shown([row for where, row in rows.items() if where == ("embedded", seed)]) for seed in seeds]
            cells.append(shown([row for (source, _), row in rows.items() if source != "embedded"]))
            cells = [text.replace("|", "\\|"), bound(next(iter(rows.values()))), *cells]
            lines.append("| " + " | ".join(cells) + " |")
        for source in dict.fromkeys(source for source, _, _ in runs):
            times = sorted(run["seconds"] for name, _, run in runs if name == source and "seconds" in run)
            lost = [f"**seed {seed} did not run**" for name, seed, run in runs if name == source and "error" in run]
            took = [f"{times[0]:.0f} to {times[-1]:.0f} s in {len(times)} runs"] if times else []
            lines += ["", f"From fresh kernel to last cell, {source}: {', '.join(took + lost)}."]
    return "\n".join(lines)


def data(args):
    """Say where data is looked for, and which sources are here."""
    from aecourse.data import _store
    print(f"data folder (AECOURSE_DATA_DIR): {_store.folder()}")
    print(f"read-only folder of files (AECOURSE_MIRROR): {os.environ.get('AECOURSE_MIRROR', 'none')}")
    print(f"source in use (AECOURSE_DATA): {os.environ.get('AECOURSE_DATA', 'embedded')}")
    for kind, source, files in ((kind, *item) for kind, sources in FILES.items() for item in sources.items()):
        here = _store.find(*files)
        state = f"here: {here}" if here else "will be downloaded" if files else "embedded"
        print(f"  {kind:<14}{source:<15}{state}")
    return 0


def compare(args):
    """Measure every kind of autoencoder on the same digits, for COMPARISON.json and COMPARISON.md, which the last lesson shows."""
    from aecourse import comparison
    from aecourse import _reading
    for source, seed in ((source, seed) for source in map(comparison.resolve, args.sources) for seed in args.seeds):
        bench, rows = comparison.Bench(seed, source), {}
        for name in (bar := tqdm(comparison.KINDS, desc=f"{source}, seed {seed}", dynamic_ncols=True)):
            rows[name] = {key: value and float(f"{value:.6g}") for key, value in bench.measure(name).items()}
            bar.set_postfix_str(name)
        run = {"floor": float(f"{bench.floor():.6g}"), "rows": rows}
        with notebooks.alone(comparison.STORED):
            kept = _reading.read_json(comparison.STORED, comparison.page) if comparison.STORED.exists() else {}
            kept.setdefault(str(source), {})[str(seed)] = run
            notebooks.write(comparison.STORED, json.dumps(kept, indent=1, sort_keys=False))
            notebooks.write(comparison.STORED.with_suffix(".md"), comparison.page(kept))
    print(comparison.page(kept))
    return 0


def train(args):
    """Train a lesson's model outside of its notebook, alone or, under torchrun, together with other processes."""
    from aecourse import distributed, recipes
    from aecourse.data import DataError
    options = {name: value for name, value in vars(args).items() if name not in ("lesson", "run")}
    try:
        history = recipes.train(args.lesson, **options)
        if distributed.world()[0] == 0:
            print(f'{history}\nIn a notebook: from aecourse import recipes; model = recipes.trained("{args.lesson}"'
                  + (f', "{args.out}")' if args.out else ")"))
    except (DataError, FloatingPointError, OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        distributed.stop()
    return 0


def bench(args):
    """Measure the course beside what people would use instead, for BENCHMARK.json, BENCHMARK.md and BENCHMARK.svg."""
    from aecourse import bench
    from aecourse.data import DataError
    plan = bench.QUICK if args.quick else bench.Plan()
    args.vae_epochs = args.epochs
    asked = {name: getattr(args, name) for name in ("epochs", "vae_epochs", "rounds", "peers", "draws", "model")
             if getattr(args, name) is not None}
    try:
        bench.run(args.parts or list(PARTS), args.source, plan._replace(**asked), args.out)
    except (bench.ChildError, DataError, OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def seeds(text):
    """ "0-4" or "0,2,3" as a list of whole numbers."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise argparse.ArgumentTypeError(f"seeds are written like 0-4 or 0,2,3; got {text!r}")
    ends = [part.split("-") for part in text.split(",")]
    return [seed for part in ends for seed in range(int(part[0]), int(part[-1]) + 1)]


def part(text):
    """One of the parts of the benchmark."""
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"the parts are {', '.join(PARTS)}; got {text!r}")
    return text


def count(text):
    """A whole number of at least 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m aecourse", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("lessons", help="execute notebooks from a fresh kernel and store their outputs")
    command.add_argument("names", nargs="*", help="beginnings of names, 02 for one; all where none is given")
    command.add_argument("--check", action="store_true", help="execute only, store nothing")
    command.add_argument("--repeat", type=count, default=1, help="with --check: all of them so many times in a row")
    command.add_argument("--threads", type=count, help="with --check: so many threads, whatever the lessons ask for")
    command.add_argument("--seed", type=int, help="another seed: stores no notebook, records the claims in the ledger")
    command.add_argument("--source", help="embedded, real, or a name: stores no notebook, records the claims")
    command.set_defaults(run=lessons)
    command = commands.add_parser("ledger", help="measure all claims, write LEDGER.json and LEDGER.md")
    command.add_argument("names", nargs="*", help="beginnings of names; the other lessons keep their figures")
    command.add_argument("--seeds", type=seeds, default=[0, 1, 2, 3, 4], help="0-4 (the default), or 0,2,3")
    command.add_argument("--sources", type=lambda text: text.split(","), default=["embedded", "real"],
                         help="embedded,real (the default)")
    command.add_argument("--jobs", type=int, default=1, help="runs at a time; with more than one the times mean little")
    command.add_argument("--missing", action="store_true", help="only what the ledger does not have yet")
    command.set_defaults(run=ledger)
    command = commands.add_parser("compare", help="put every kind of autoencoder on the same data, write COMPARISON.md")
    command.add_argument("--seeds", type=seeds, default=[0, 1, 2], help="0-2 (the default), or 0,2,3")
    command.add_argument("--sources", type=lambda text: text.split(","), default=["embedded", "real"],
                         help="embedded,real (the default)")
    command.set_defaults(run=compare)
    command = commands.add_parser("train", help="train a lesson's model on any source; the same command goes on where it stopped")
    command.add_argument("lesson", help="07 for one; 13 has none of its own")
    command.add_argument("--source", help="embedded (the default), real, a name or a path, as in the lessons")
    command.add_argument("--epochs", type=count, help="default: the lesson's, as those below")
    command.add_argument("--batch-size", type=count, dest="size", help="of all processes together")
    command.add_argument("--lr", type=float, help="peak learning rate")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--device", help="cpu, cuda, ...; default: the accelerator that is here")
    command.add_argument("--amp", action="store_true", help="linear and convolutional layers in bfloat16")
    command.add_argument("--stream", action="store_true", help="read the examples from disk, for what does not fit in memory")
    command.add_argument("--workers", type=int, default=0, help="with --stream: processes that read ahead")
    command.add_argument("--out", help="folder for checkpoint, log and recipe; default: runs/NN")
    command.set_defaults(run=train)
    command = commands.add_parser("bench", help="measure the course beside what people would use instead, write BENCHMARK.md")
    command.add_argument("parts", nargs="*", type=part, metavar="part", help=f"{', '.join(PARTS)}; all where none is given")
    command.add_argument("--source", type=lambda text: text.split(","), default=[None],
                         help="embedded, real, or embedded,real; what AECOURSE_DATA says where it is not given")
    command.add_argument("--epochs", type=count, help="of each contender in fit (10), of the VAE in likelihood (12)")
    command.add_argument("--rounds", type=count, help="repetitions in pair, seeds in fraud (3)")
    command.add_argument("--draws", type=count, help="codes per image in likelihood (200)")
    command.add_argument("--model", help="in likelihood: a folder that `train best-vae` wrote, instead of a new training")
    command.add_argument("--peers", help="all (the default), none, or some of lightning,pythae,pyod")
    command.add_argument("--out", default=str(notebooks.ROOT), help="the folder to write to")
    command.add_argument("--quick", action="store_true", help="small: shows that it works, its figures say little")
    command.set_defaults(run=bench)
    commands.add_parser("data", help="list where data is looked for and what is here").set_defaults(run=data)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except notebooks.NotebookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

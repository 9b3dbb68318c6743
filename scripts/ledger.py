"""Measure every claim per seed and source: `python scripts/ledger.py 02 05 --seeds 0-4 --jobs 2`.

Writes reports/ledger.json and reports/ledger.md after every run: `--missing` continues where it was
stopped. With AECOURSE_MIRROR set, the real sources find their files there.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from itertools import product
from pathlib import Path

from aecourse.claims import bound_of, value_range
from aecourse.data.store import atomic_write

from tqdm import tqdm

from lessons import NotebookError, execute, find

# {"lessons": {lesson: {source: {seed: {"seconds", "claims"}}}}, "on": library and machine}
LEDGER = Path(__file__).resolve().parents[1] / "reports" / "ledger.json"
KEYS = ("text", "value", "below", "above", "between", "unit", "holds")


def measure(path: Path, source: str, seed: int) -> dict:
    """The seconds and the claims of one run. Raises NotebookError where it stops before its end."""
    run = execute(path, seed=seed, source=source)
    claims = [{key: row[key] for key in KEYS} for row in run.claims]
    claims = [row | {"value": float(f"{row['value']:.6g}")} for row in claims]
    return {"seconds": round(run.seconds, 1), "claims": claims}


def load() -> dict:
    """What the ledger holds so far."""
    return json.loads(LEDGER.read_text(encoding="utf-8")) if LEDGER.exists() else {"lessons": {}}


def save(ledger: dict) -> None:
    ledger["on"] = f"torch {version('torch')}, {os.cpu_count()} CPU cores"
    as_json = json.dumps(ledger, indent=1, sort_keys=True)
    for path, text in ((LEDGER, as_json), (LEDGER.with_suffix(".md"), table(ledger))):
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def runs_of(ledger: dict) -> list[tuple[str, str, int, dict]]:
    """All (lesson, source, seed, run), in order."""
    runs = [
        (lesson, source, int(seed), run)
        for lesson, sources in ledger["lessons"].items()
        for source, seeds in sources.items()
        for seed, run in seeds.items()
    ]
    return sorted(runs, key=lambda run: run[:3])


def table(ledger: dict) -> str:
    """The ledger as Markdown: a row for each claim, a column for each seed and for real data."""
    lines = [
        "# Ledger",
        "",
        "What the lessons claim, measured: per seed on the embedded data, smallest and largest "
        f"value on the real data. On {ledger['on']}; made by `make ledger`, not by hand. A value "
        "that breaks its bound is bold and ends in ✗. The seconds are those of runs that may have "
        "shared the machine: the time that a lesson takes alone stands in its header.",
    ]
    for lesson in sorted(ledger["lessons"]):
        runs = [run[1:] for run in runs_of(ledger) if run[0] == lesson]
        keys = [(source, seed) for source, seed, _ in runs]
        columns = {
            f"seed {seed}": [(source, seed)] for source, seed in keys if source == "embedded"
        }
        columns["real"] = [(source, seed) for source, seed in keys if source != "embedded"]
        rows = {}  # (text, how often it stood before in the lesson): {(source, seed): claim}
        for source, seed, run in runs:
            texts = [claim["text"] for claim in run["claims"]]
            for index, claim in enumerate(run["claims"]):
                row = rows.setdefault((claim["text"], texts[:index].count(claim["text"])), {})
                row[source, seed] = claim
        lines += ["", f"## {lesson}", "", "| " + " | ".join(["claim", "bound", *columns]) + " |"]
        lines += ["|---|---|" + "---:|" * len(columns)]
        for (text, _), row in rows.items():
            cells = [text.replace("|", "\\|"), bound_of(next(iter(row.values())))]
            for column in columns.values():
                cells.append(value_range([row[key] for key in column if key in row]))
            lines.append("| " + " | ".join(cells) + " |")
        for source in dict.fromkeys(source for source, _, _ in runs):
            times = sorted(run["seconds"] for name, _, run in runs if name == source)
            took = f"{times[0]:.0f} to {times[-1]:.0f} s in {len(times)} runs"
            lines += ["", f"From the start of the kernel to the last cell, {source}: {took}."]
    return "\n".join(lines)


def seed_list(text: str) -> list[int]:
    """ "0-4" or "0,2,3" as a list of whole numbers."""
    ends = [part.split("-") for part in text.split(",")]
    return [seed for part in ends for seed in range(int(part[0]), int(part[-1]) + 1)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of lessons' names; default: all")
    parser.add_argument("--seeds", type=seed_list, default="0-4", help="default: 0-4")
    parser.add_argument("--sources", default="embedded,real", help="default: embedded,real")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--missing", action="store_true", help="only what the ledger does not hold")
    args = parser.parse_args(argv)
    try:
        paths = find(args.names)
    except NotebookError as error:
        parser.error(str(error))
    ledger, failures = load(), []
    done = {run[:3] for run in runs_of(ledger)} if args.missing else set()
    runs = product(paths, args.sources.split(","), args.seeds)
    runs = [(path, *run) for path, *run in runs if (path.stem, *run) not in done]
    pool = ThreadPoolExecutor(
        args.jobs
    )  # a run is a process, its kernel: it ends when this one does
    futures = {pool.submit(measure, *run): run for run in runs}
    try:
        for future in (bar := tqdm(as_completed(futures), total=len(runs), unit="run")):
            path, source, seed = futures[future]
            seeds = ledger["lessons"].setdefault(path.stem, {}).setdefault(source, {})
            seeds.pop(str(seed), None)
            try:
                run = seeds[str(seed)] = future.result()
                broken = [row for row in run["claims"] if not row["holds"]]
                bad = [f"{row['text']}: {row['value']}, wanted {bound_of(row)}" for row in broken]
            except NotebookError as error:
                bad = [f"did not run\n{error}"]
            where = f"{path.stem}, {source}, seed {seed}: "
            bar.write("\n".join(where + text for text in bad or ["all claims hold"]))
            failures += [where + text for text in bad]
            save(ledger)
    except KeyboardInterrupt:
        os._exit(130)  # without waiting for the lessons that are running
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    print(f"{len(runs)} runs, {len(failures)} claims or runs failed", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

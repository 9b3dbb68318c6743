"""What the course costs beside what one would use instead, all on the CPU.

Measures the parts that are named (all where none is), and writes benchmark.json, benchmark.md and
benchmark.svg; what these hold of other parts stays. Each contender is a process of its own; they
take turns.
"""

import argparse
import json
import os
import platform
from pathlib import Path

from aecourse.data.store import choose

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

import fraud
import growth
import likelihood
import pair
import speed
from turns import THREAD_SETTING

REPORTS = Path(__file__).resolve().parents[1] / "reports"
# Each part is a module: TITLE; DATA, how `choose` finds a source, or None; measure(plan, source)
# gives results; report(results) gives paragraphs and tables; draw(results, figure).
PARTS = {"fit": speed, "pair": pair, "fraud": fraud, "growth": growth, "likelihood": likelihood}

# How much is measured: digits; most rows in growth; samples of z per image in likelihood.
FULL = {"rounds": 3, "images": 60_000, "largest": 1_000_000, "samples": 200}
QUICK = {"rounds": 1, "images": 2_000, "largest": 20_000, "samples": 10, "epochs": 2}


def machine() -> dict:
    """What the figures are measured on."""
    system = f"{platform.system()} {platform.machine()}"
    setting = {name: os.environ.get(name, "unset") for name in THREAD_SETTING}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    threads = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {**threads, **setting, "system": system, **versions}


def rounded(value):
    """`value` with six significant digits in each of its numbers: more would be noise."""
    return json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.6g}"))


def sections(stored: dict) -> list[tuple]:
    """(part, title, entry) in the order of the page."""
    return [
        (part, f"{part.TITLE}: {source}", entry)
        for name, part in PARTS.items()
        for source, entry in stored.get(name, {}).items()
    ]


def markdown(block: str | list[list[str]]) -> str:
    """A paragraph as it is, or a table from its rows, the head first."""
    if isinstance(block, str):
        return block
    head, *rows = block
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def page(stored: dict) -> str:
    """benchmark.md as text."""
    blocks = ["# Benchmark", "Made by `python benchmarks/run.py`, not by hand. All on the CPU."]
    blocks.append("![The figures of the tables below, drawn](benchmark.svg)")
    for part, title, entry in sections(stored):
        on = entry["on"]
        setting = " and ".join(f"{name}={on[name]}" for name in THREAD_SETTING)
        blocks += [f"## {title}", *map(markdown, part.report(entry["results"]))]
        blocks.append(
            f"On {on['cores']} CPU cores, threads: {on['threads']}, {on['system']}, Python "
            f"{on['python']}, torch {on['torch']}; {setting} for the course, unset for the others."
        )
    return "\n\n".join(blocks) + "\n"


def draw(stored: dict, path: Path) -> None:
    """Write benchmark.svg: a row for each section of the page."""
    shown = sections(stored)
    figure = Figure(figsize=(13, 2.8 * len(shown)), layout="constrained")
    rows = figure.subfigures(len(shown), 1, squeeze=False).flat
    for row, (part, title, entry) in zip(rows, shown):
        row.suptitle(title)
        part.draw(entry["results"], row)
    with mpl.rc_context({"svg.hashsalt": "aecourse", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def run(part: str, word: str | None, plan: argparse.Namespace) -> None:
    """Measure a part on the source that `word` means, and store it beside what is stored."""
    module, path = PARTS[part], plan.out / "benchmark.json"
    kind, *known = module.DATA or [None]
    source = str(choose(kind, word, *known)) if kind else "random numbers"
    print(f"{module.TITLE}: {source}")
    results = rounded(module.measure(plan, source))
    if part == "likelihood":
        source += f", {results['epochs']} epochs"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    stored.setdefault(part, {})[source] = {"on": machine(), "results": results}
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(stored), encoding="utf-8")
    draw(stored, path.with_suffix(".svg"))


def main(argv: list[str] | None = None) -> None:
    def words(text):
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("parts", nargs="*", choices=PARTS, metavar="part", help=", ".join(PARTS))
    option("--source", type=words, default=[None], help="embedded, real, or embedded,real")
    option("--epochs", type=int, help="of each training in fit, fraud and likelihood")
    option("--rounds", type=int, help="repetitions in pair, seeds in fraud (3)")
    peers = "lightning,pythae,pyod"
    option("--peers", type=words, default=peers, help=f"none, or some of {peers} (all)")
    option("--quick", action="store_true", help="small: its figures say little")
    option("--out", type=Path, default=REPORTS, help="the folder to write to (reports)")
    parser.set_defaults(**QUICK if parser.parse_args(argv).quick else FULL)
    plan = parser.parse_args(argv)
    plan.out.mkdir(parents=True, exist_ok=True)
    for part in plan.parts or PARTS:
        for word in plan.source if PARTS[part].DATA else [None]:
            run(part, word, plan)
    print((plan.out / "benchmark.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

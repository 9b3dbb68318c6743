"""Execute lessons from a fresh kernel, store their outputs: `python scripts/lessons.py 02 05`."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aecourse.data.store import atomic_write

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode
from tqdm import tqdm

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
MAX_BYTES = 1_000_000  # of a stored notebook
CELL_SECONDS = 600  # a cell that takes longer hangs
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
INTERACTIVE = "interactive: run the notebook to move the controls"
PROGRESS_BAR = re.compile(r"\[\d+:\d\d[<,]")  # the times in the text of a tqdm bar
LOCAL_PATH = re.compile(r"""["'\s(=:](/(?:home|Users|root|tmp|work|mnt|var)/|[A-Z]:\\+Users)""")


class NotebookError(RuntimeError):
    """A notebook that does not run, or that must not be stored as it is."""


class Run(NamedTuple):
    """An executed notebook, its claims where asked for, its seconds, the kernel's peak memory.

    A claim is a dict of text, value, below, above, between, unit, holds. The peak is None where
    the system does not tell it.
    """

    notebook: NotebookNode
    claims: list[dict]
    seconds: float
    peak_bytes: int | None


class LocalOutput(OutputWidget):
    """An output widget that sends nothing back to the kernel: no lesson reads it there.

    What nbclient sends back can hide the reply of the cell: jupyter_client sends past asyncio's
    socket, which then does not notice that a message has arrived, and waits for the timeout.
    """

    def sync_state(self) -> None:
        pass


def find(names: Sequence[str] = ()) -> list[Path]:
    """Paths of the notebooks that begin with one of `names`, or of all. Raises NotebookError."""
    paths = sorted(FOLDER.glob("[0-9]*.ipynb"))
    starts = tuple(Path(name).name for name in names)
    for start in starts:
        if not any(path.name.startswith(start) for path in paths):
            known = ", ".join(path.stem for path in paths) or "no notebooks"
            raise NotebookError(f"no notebook begins with {start!r}; in {FOLDER} are: {known}")
    return [path for path in paths if path.name.startswith(starts or "")]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def execute(
    path: Path,
    *,
    seed: int | None = None,
    source: str = "embedded",
    on_cell: Callable[[], object] | None = None,
) -> Run:
    """Run a notebook from a fresh kernel. Raises NotebookError with the cell and its traceback.

    seed, source: where `seed` is given, a cell that sets SEED and SOURCE follows the parameters
    cell, and the claims are collected, whether they hold or not. on_cell: called after each cell.
    """
    notebook, peak = read(path), None
    dropped = ("AECOURSE_DATA", "AECOURSE_LEDGER", "AECOURSE_CHECK_WIDGETS", "MPLBACKEND")
    env = {key: value for key, value in os.environ.items() if key not in dropped}

    def after_cell(cell, cell_index, execute_reply):
        nonlocal peak
        status = Path(f"/proc/{client.km.provisioner.pid}/status")  # Linux has this file
        found = status.exists() and re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        peak = 1024 * int(found[1]) if found else None
        if on_cell:
            on_cell()

    with tempfile.TemporaryDirectory() as scratch:
        ledger = Path(scratch, "claims.jsonl")
        if seed is not None:
            tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
            if ["parameters"] not in tags:
                raise NotebookError(f"{path.name}: no cell is tagged `parameters`")
            cell = nbformat.v4.new_code_cell(f"SEED, SOURCE = {seed!r}, {source!r}")
            notebook.cells.insert(tags.index(["parameters"]) + 1, cell)
            env |= {"AECOURSE_LEDGER": str(ledger), "AECOURSE_DATA": source}
        client = NotebookClient(
            notebook,
            kernel_name="python3",  # of the environment that runs this
            timeout=CELL_SECONDS,
            record_timing=False,
            shutdown_kernel="immediate",
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_executed=after_cell,
        )
        client.widget_registry = {"@jupyter-widgets/output": {"OutputModel": LocalOutput}}
        start = time.perf_counter()
        try:
            client.execute(env=env, stderr=subprocess.DEVNULL)
        except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
            where = f"{path.name}, code cell {client.code_cells_executed}"
            raise NotebookError(f"{where}:\n{error}") from None
        seconds = time.perf_counter() - start
        lines = ledger.read_text().splitlines() if ledger.exists() else []
    return Run(notebook, [json.loads(line) for line in lines], seconds, peak)


def clean(notebook: NotebookNode) -> None:
    """Remove progress bars, warnings, widget state, times and versions, in place. Tags are kept."""
    for cell in notebook.cells:
        cell.metadata = {
            key: cell.metadata[key] for key in ("tags", "jupyter") if key in cell.metadata
        }
        kept = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" in data:
                if not PROGRESS_BAR.search(data.get("text/plain", "")):
                    shown = {"text/plain": INTERACTIVE}
                    if "text/html" in data:  # an explorer: the web page fills it
                        shown["text/html"] = data["text/html"]
                    kept.append(nbformat.v4.new_output("display_data", shown))
            elif output.get("name") != "stderr":
                kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
    notebook.metadata = nbformat.from_dict(METADATA)


def problems(notebook: NotebookNode) -> list[str]:
    """What a stored notebook must not have, as sentences; empty where it is as it should be."""
    size = len(nbformat.writes(notebook).encode())
    found = [f"{size:,} bytes, more than {MAX_BYTES:,}"] if size > MAX_BYTES else []
    if notebook.metadata != METADATA:
        found.append(f"the metadata are not {METADATA}")
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        found.append("its outputs are not those of one run from top to bottom")
    for index, cell in enumerate(notebook.cells):
        if set(cell.metadata) - {"tags", "jupyter"}:
            found.append(f"cell {index}: metadata {sorted(cell.metadata)}")
        texts = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", "")]
            texts += [str(data[kind]) for kind in data if not kind.startswith("image/")]
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"cell {index}: an error or a warning is stored: {str(output)[:200]}")
            if any("widget" in kind for kind in data):
                found.append(f"cell {index}: a widget is stored")
            for kind in ("image/png", "image/jpeg", "image/svg+xml"):
                metadata = output.get("metadata", {})
                if kind in data and not (metadata.get(kind, {}).get("alt") or metadata.get("alt")):
                    found.append(f"cell {index}: a picture without alt text")
        for match in filter(None, map(LOCAL_PATH.search, texts)):
            found.append(f"cell {index}: a path of one machine, {match[1]}")
    return found


def store(path: Path, notebook: NotebookNode) -> None:
    """Clean it, check it, write it. Raises NotebookError with everything that speaks against it."""
    clean(notebook)
    if found := problems(notebook):
        raise NotebookError(f"{path.name} is not stored:\n  " + "\n  ".join(found))
    with atomic_write(path) as temporary:
        nbformat.write(notebook, temporary)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of names, 02 for one; default: all")
    parser.add_argument("--check", action="store_true", help="execute only, store nothing")
    args = parser.parse_args(argv)
    try:
        for path in find(args.names):
            cells = sum(cell.cell_type == "code" for cell in read(path).cells)
            with tqdm(total=cells, desc=path.stem, unit="cell", leave=False) as bar:
                run = execute(path, on_cell=bar.update)
            if not args.check:
                store(path, run.notebook)
            memory = f", peak memory {run.peak_bytes / 2**30:.2f} GiB" if run.peak_bytes else ""
            print(f"{path.stem:<40}{run.seconds:7.1f} s{memory}")
    except NotebookError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

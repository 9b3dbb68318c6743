"""The notebooks as files: executed from a fresh kernel, cleaned, checked, stored, and what they claim written down."""

import ast
import asyncio
import atexit
import json
import os
import re
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from queue import Empty
from threading import Thread

import nbformat
from filelock import FileLock
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from aecourse._writing import arriving

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 1_000_000                                     # bytes of a stored notebook
CELL_SECONDS = 600                                      # a cell that takes longer hangs
METADATA = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}
INTERACTIVE = "interactive: run the notebook to move the controls"
_BAR = re.compile(r"\[\d+:\d\d[<,]")                    # the times in the text of a tqdm bar
_THREADS = re.compile(r"\bset_num_threads\([^()]*\)")
_LOCAL = re.compile(r"""["'\s(=:](/(?:home|Users|root|tmp|work|private|mnt|var)/|[A-Z]:\\+Users)""")


class NotebookError(RuntimeError):
    """A notebook that does not run, or that must not be stored as it is, or whose claims cannot be kept."""


def find(names=()):
    """Paths of the notebooks whose names begin like one of `names` ("02" is enough), or all. Raises NotebookError."""
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    for name in names:
        if not any(path.name.startswith(Path(name).name) for path in paths):
            here = ", ".join(path.stem for path in paths)
            raise NotebookError(f"no notebook begins with {name!r}; in {ROOT / 'notebooks'} are: {here or 'none'}")
    return [path for path in paths if not names or path.name.startswith(tuple(Path(name).name for name in names))]


def read(path):
    return nbformat.read(path, as_version=4)


def parameters_cell(notebook):
    """Index of the cell tagged `parameters`, and how it spells the two names, {"seed": ..., "source": ...}."""
    for index, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            stored = [node.id for node in ast.walk(ast.parse(cell.source))
                      if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
            return index, {name.lower(): name for name in stored if name.lower() in ("seed", "source")}
    raise NotebookError("no cell is tagged `parameters`")


def _look_often(channel):
    """Have a channel look for messages once a second: what is sent to a widget can swallow a reply's waking call."""
    get = channel.get_msg

    async def get_msg(timeout=None):
        end = time.monotonic() + (timeout or float("inf"))
        while True:
            try:
                return await get(timeout=1)
            except Empty:
                if time.monotonic() > end:
                    raise

    channel.get_msg = get_msg


def peak_memory(pid):
    """The most memory in bytes that a process has held at a time so far; None where the system does not tell (not Linux)."""
    try:
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])
    except (OSError, TypeError):                         # no such file, or none of such a line
        return None


def execute(path, *, seed=None, source=None, threads=None, each_cell=lambda: None):
    """Run a notebook from a fresh kernel of this environment. Raises NotebookError with the cell and its traceback.

    With a `seed` or a `source`, a cell that sets them follows the parameters cell, and claims are recorded, not raised.
    With `threads`, that number stands in for what each cell asks of `torch.set_num_threads`, and is the kernel's default.
    Returns the executed notebook, its claims (a list of dicts), the seconds that kernel and cells took, and the kernel's
    `peak_memory`.
    """
    notebook = read(path)
    dropped = ("AECOURSE_DATA", "AECOURSE_LEDGER", "AECOURSE_CHECK_WIDGETS", "MPLBACKEND")
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    if threads is not None:
        env["OMP_NUM_THREADS"] = str(threads)            # what torch, NumPy's BLAS and scikit-learn start with
        for cell in notebook.cells:
            cell.source = _THREADS.sub(f"set_num_threads({threads})", cell.source)
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Path(scratch, "claims.jsonl")
        if seed is not None or source is not None:
            seed, source = seed or 0, source or "embedded"
            index, spelling = parameters_cell(notebook)
            if set(spelling) != {"seed", "source"}:
                raise NotebookError(f"{path.name}: the parameters cell has to set seed and source")
            cell = nbformat.v4.new_code_cell(f"{spelling['seed']}, {spelling['source']} = {seed!r}, {source!r}")
            notebook.cells.insert(index + 1, cell)
            env |= {"AECOURSE_LEDGER": str(ledger), "AECOURSE_LESSON": path.stem, "AECOURSE_SEED": str(seed),
                    "AECOURSE_SOURCE_NAME": source, "AECOURSE_DATA": source}
        client = NotebookClient(notebook, timeout=CELL_SECONDS, startup_timeout=CELL_SECONDS, record_timing=False,
                                shutdown_kernel="immediate",      # asked politely, a kernel with torch takes two seconds to go
                                resources={"metadata": {"path": str(path.parent)}})
        client.create_kernel_manager()
        # no folder of kernels is searched: what is left is the kernel of the Python that runs this
        client.km.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
        client.km.kernel_name = "python3"
        index, seconds, memory = 0, 0., None

        async def run():                                 # one event loop for all cells: replies get lost between two
            nonlocal index, seconds, memory
            began = time.perf_counter()
            async with client.async_setup_kernel(env=env, stderr=subprocess.DEVNULL):
                _look_often(client.kc.shell_channel)
                for index, cell in enumerate(notebook.cells):
                    await client.async_execute_cell(cell, index)
                    each_cell()
                seconds = time.perf_counter() - began
                memory = peak_memory(client.km.provisioner.pid)

        try:
            asyncio.run(run())
        except (CellExecutionError, CellTimeoutError, RuntimeError) as error:  # the last: no kernel, or a dead one
            atexit.unregister(client._cleanup_kernel)    # where no kernel started nbclient leaves this behind, and it fails
            raise NotebookError(f"{path.name}, cell {index}:\n{error}") from None
        claims = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    return notebook, claims, seconds, memory


def measure(path, seed, source):
    """One run for the ledger, in a process of its own."""
    try:
        _, claims, seconds, _ = execute(path, seed=seed, source=source)
    except NotebookError as error:
        return {"error": str(error)}
    for claim in claims:
        claim["value"] = float(f"{claim['value']:.6g}")
    keys = ("text", "value", "below", "above", "between", "unit", "holds")
    return {"seconds": round(seconds, 1), "claims": [{key: claim[key] for key in keys} for claim in claims]}


def workers(jobs):
    """A pool of processes that do not outlive this one, however it ends."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent():
    def wait():
        parent_process().join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def clean(notebook):
    """Leave what a reader reads: no progress bars, warnings, widget state, times or versions. Changes it in place."""
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")}
        kept = []
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain", "")
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                if not _BAR.search(text):
                    kept.append(nbformat.v4.new_output("display_data", {"text/plain": INTERACTIVE}))
            elif output.get("name") != "stderr":
                kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
    notebook.metadata = nbformat.from_dict(METADATA)


def problems(notebook):
    """What a stored notebook must not have, as a list of sentences; empty where it is as it should be."""
    text = nbformat.writes(notebook)
    found = [f"{len(text.encode()):,} bytes, more than {LARGEST:,}"] if len(text.encode()) > LARGEST else []
    if notebook.metadata != METADATA:
        found.append(f"the metadata are not {METADATA}")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its outputs are not those of one run from top to bottom")
    for index, cell in enumerate(notebook.cells):
        if set(cell.metadata) - {"tags", "jupyter"}:
            found.append(f"cell {index}: metadata {sorted(cell.metadata)}")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"cell {index}: an error or a warning is stored: {str(output)[:200]}")
            if any("widget" in kind for kind in data):
                found.append(f"cell {index}: a widget is stored")
            for kind in ("image/png", "image/jpeg", "image/svg+xml"):
                if kind in data and not (output.metadata.get(kind, {}).get("alt") or output.metadata.get("alt")):
                    found.append(f"cell {index}: a picture without alt text")
        shown = [cell.source] + [output.get("text", "") for output in cell.get("outputs", [])]
        shown += [str(value) for output in cell.get("outputs", []) for kind, value in output.get("data", {}).items()
                  if not kind.startswith("image/")]
        for match in filter(None, map(_LOCAL.search, shown)):
            found.append(f"cell {index}: a path of one machine, {match[1]}")
    return found


def write(path, text):
    """A text file, whole or not at all."""
    with arriving(path, len(text)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


@contextmanager
def alone(path):
    """For whoever reads a file, adds to it and writes it back: one process at a time. Raises NotebookError if it cannot."""
    try:
        with FileLock(f"{path}.lock"):
            yield
    except OSError as error:
        raise NotebookError(f"{path.name} stays without what was measured: {error}") from error


def store(path, notebook):
    """Clean it, check it, write it. Raises NotebookError with everything that stands against it."""
    clean(notebook)
    if found := problems(notebook):
        raise NotebookError(f"{path.name} is not stored:\n  " + "\n  ".join(found))
    write(path, nbformat.writes(notebook))

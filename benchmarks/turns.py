"""Processes that take turns, so that whatever else runs on the machine slows all of them alike.

A job is a function `job(turn, **options)`. It calls `turn()` when it is ready and `turn(answer)`
with each result; both return what the parent asks for next. All of it is lines of JSON.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

THREAD_SETTING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class Worker:
    """A process that runs one job, such as "growth:train"; a context manager that ends it.

    course: with the thread setting that `import aecourse` makes before torch is imported; else with
    PyTorch's own.
    """

    def __init__(self, job: str, *, course: bool = True, **options):
        env = {k: v for k, v in os.environ.items() if course or k not in THREAD_SETTING}
        first = "aecourse" if course else "torch"
        command = [sys.executable, "-W", "ignore", __file__, first, job, json.dumps(options)]
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.process = subprocess.Popen(command, env=env, text=True, **pipes)

    def tell(self, question=None) -> None:
        """Let it work on a question."""
        print(json.dumps(question), file=self.process.stdin, flush=True)

    def answer(self):
        """Wait for its answer. Raises RuntimeError, with the end of its log, if there is none."""
        if line := self.process.stdout.readline():
            return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        raise RuntimeError(f"a process ended with code {code}:\n{self.log.read().strip()[-1500:]}")

    def ask(self, question=None):
        self.tell(question)
        return self.answer()

    def peak_memory(self) -> int | None:
        """The most memory that it has held so far, in MiB; None where the system is not Linux."""
        status = Path(f"/proc/{self.process.pid}/status")
        peak = status.exists() and re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return round(int(peak[1]) / 1024) if peak else None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            file.close()


def take_turns(job: str, settings: dict[str, bool], peers: list[str], questions, **options) -> dict:
    """Let workers do one job under several names, and ask them each question, one at a time.

    settings: name -> whether with the course's thread setting. One of `peers` that does not start,
    because its library is missing, is reported and left out.
    Returns name -> {"peak": its memory in MiB, and lists of the numbers in its answers}.
    """
    rows = {}
    with ExitStack() as stack:
        workers = {k: Worker(job, course=v, name=k, **options) for k, v in settings.items()}
        for name, worker in workers.items():
            stack.enter_context(worker)
            try:
                worker.answer()
                rows[name] = {}
            except RuntimeError as error:
                if name not in peers:
                    raise
                print(f"{name} is left out: {str(error).splitlines()[-1]}")
        for question in tqdm(questions, unit="round"):
            for name, row in rows.items():
                for key, value in workers[name].ask(question).items():
                    row.setdefault(key, []).append(value)
        return {name: row | {"peak": workers[name].peak_memory()} for name, row in rows.items()}


if __name__ == "__main__":  # a worker: one job, until the parent ends it or is gone
    first, job, options = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log

    def turn(answer=None):
        print(json.dumps(answer), file=answers, flush=True)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        return json.loads(line)

    importlib.import_module(first)
    torch = importlib.import_module("torch")
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first one imports for seconds
    module, function = job.split(":")
    getattr(importlib.import_module(module), function)(turn, **json.loads(options))

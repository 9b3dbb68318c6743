"""Set-up of all tests: a clean environment, the network off, and every notebook cell counted."""

import os
import sys
from collections import Counter
from pathlib import Path

import aecourse  # noqa: F401  before torch

import matplotlib
import nbformat
import pytest

NOTEBOOKS = 16  # how many lessons there are; each of them has to be executed
OFFLINE = str(Path(__file__).parent / "offline")


def pytest_addoption(parser):
    parser.addoption("--every-notebook", action="store_true", help="fail unless every cell has run")


def pytest_configure(config):
    """Set what the tests and the kernels that nbval starts see, whatever the user's shell holds."""
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]  # a way out
    for name in ("AECOURSE_DATA", "AECOURSE_LEDGER", "MPLBACKEND", *proxies):
        os.environ.pop(name, None)  # without MPLBACKEND a kernel draws inline, as in JupyterLab
    os.environ["AECOURSE_PROGRESS"] = "off"  # checks of the tests are no progress of a learner
    os.environ["AECOURSE_CHECK_WIDGETS"] = "1"  # widgets.explore then draws every end and option
    # offline/sitecustomize.py switches the network off: Python imports it when it starts
    path = filter(None, [OFFLINE, os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    sys.path.insert(0, OFFLINE)
    sys.modules.pop("sitecustomize", None)
    import sitecustomize  # noqa: F401

    sys.path.remove(OFFLINE)
    matplotlib.use("agg")
    worker = hasattr(config, "workerinput")  # one of xdist's processes
    if config.option.every_notebook and not worker:
        config.pluginmanager.register(EveryNotebook())


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A check of an exercise may take long here: a shared machine can stand still for seconds."""
    monkeypatch.setattr("aecourse.exercises.SECONDS", 60)


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty data folder, no mirror, no source chosen."""
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path / "data"))
    for name in ("AECOURSE_MIRROR", "AECOURSE_DATA", "AECOURSE_MEMMAP"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


class EveryNotebook:
    """Counts the cells that nbval executes, and fails the run that leaves one out."""

    def __init__(self):
        self.passed, self.missing = Counter(), []

    def pytest_runtest_logreport(self, report):
        path = Path(report.nodeid.split("::")[0])
        passed = report.when == "call" and report.passed and not hasattr(report, "wasxfail")
        self.passed[path.name] += passed and path.suffix == ".ipynb"

    def pytest_sessionfinish(self, session):
        paths = sorted((session.config.rootpath / "notebooks").glob("*.ipynb"))
        if len(paths) != NOTEBOOKS:
            self.missing.append(f"{NOTEBOOKS} notebooks are expected, {len(paths)} are there")
        for path in paths:
            notebook, passed = nbformat.read(path, as_version=4), self.passed[path.name]
            cells = sum(cell.cell_type == "code" for cell in notebook.cells)
            if passed != cells or not cells:
                self.missing.append(f"{path.name}: {passed} of {cells} cells passed")
        if self.missing:
            session.exitstatus = session.exitstatus or 1

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("notebooks executed")
        for sentence in self.missing:
            terminalreporter.line(f"NOT EXECUTED  {sentence}", red=True)
        if not self.missing:
            terminalreporter.line(f"all {NOTEBOOKS}, every cell of them", green=True)

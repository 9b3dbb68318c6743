"""Set-up of all tests: aecourse before torch, a clean environment, the network off, and every notebook counted."""

import os
import sys
from collections import Counter
from pathlib import Path

import aecourse  # noqa: F401  (before torch, as in the lessons)

import matplotlib
import nbformat
import pytest

NOTEBOOKS = 14                                           # how many lessons there are; each of them has to be executed

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = str(ROOT / "tests" / "offline")


def pytest_addoption(parser):
    parser.addoption("--every-notebook", action="store_true", help="fail unless every cell of every notebook has run")


def pytest_configure(config):
    """What the tests and the kernels that nbval starts see, whatever the user's shell holds."""
    for name in ("AECOURSE_DATA", "AECOURSE_LEDGER", "MPLBACKEND"):
        os.environ.pop(name, None)                       # without MPLBACKEND a kernel draws inline, as in JupyterLab
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]                             # a proxy on this machine would be a way out
    os.environ["AECOURSE_CHECK_WIDGETS"] = "1"           # widgets.explore then draws every end and option
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [OFFLINE, os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, OFFLINE)
    sys.modules.pop("sitecustomize", None)
    import sitecustomize  # noqa: F401
    sys.path.remove(OFFLINE)
    matplotlib.use("agg")
    if config.option.every_notebook:
        config.pluginmanager.register(EveryNotebook())   # as a plugin: the hooks of this file see only tests/


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty data folder, no mirror, no source chosen."""
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("AECOURSE_MIRROR", raising=False)
    monkeypatch.delenv("AECOURSE_DATA", raising=False)
    return tmp_path / "data"


def not_executed(passed, paths, number):
    """What is missing until each code cell of `number` notebooks has run and passed, as sentences; [] if nothing is."""
    missing = [] if len(paths) == number else [f"{number} notebooks are expected (NOTEBOOKS in tests/conftest.py), "
                                               f"{len(paths)} are there"]
    for path in paths:
        cells = sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
        if passed[path.name] != cells or not cells:
            missing.append(f"{path.name}: {passed[path.name]} of {cells} cells were executed and passed")
    return missing


class EveryNotebook:
    """Counts the cells that nbval executes, and fails the run that leaves one out."""

    def __init__(self):
        self.passed, self.missing = Counter(), []

    def pytest_runtest_logreport(self, report):
        path = report.nodeid.split("::")[0]
        if path.endswith(".ipynb") and report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.passed[Path(path).name] += 1

    def pytest_sessionfinish(self, session):
        self.missing = not_executed(self.passed, sorted((ROOT / "notebooks").glob("*.ipynb")), NOTEBOOKS)
        if self.missing:
            session.exitstatus = session.exitstatus or 1

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("notebooks executed")
        for name, cells in sorted(self.passed.items()):
            terminalreporter.line(f"{name}: {cells} cells passed")
        for sentence in self.missing:
            terminalreporter.line(f"NOT EXECUTED  {sentence}", red=True)
        if not self.missing:
            terminalreporter.line(f"all {NOTEBOOKS} notebooks were executed, every cell of them", green=True)

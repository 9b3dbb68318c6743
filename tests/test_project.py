"""The project around the lessons: its modules, its dependencies, its commands, the counting."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import aecourse
from aecourse.data import __main__ as data_listing

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lessons

ROOT = Path(__file__).resolve().parents[1]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETUP["project"]
EXTRAS = PROJECT["optional-dependencies"]
LISTED = [*map(Requirement, PROJECT["dependencies"] + EXTRAS["test"])]
USERS = ("aecourse", "scripts", "benchmarks", "notebooks")  # of the package


@cache
def nodes(*folders):
    """{dotted name: syntax nodes} of the modules and notebooks in these folders."""
    modules = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {}
    for path in modules + lessons.find() * ("notebooks" in folders):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = lessons.read(path).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = [*ast.walk(ast.parse(text))]
    return found


def imports(nodes_of_file):
    """(name in the file, module that it comes from) of every import."""
    for node in nodes_of_file:
        if isinstance(node, ast.Import):
            yield from ((name.asname or name.name, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports within the package are absolute"
            for name in node.names:
                module = f"{node.module}.{name.name}"
                module = module if module in nodes("aecourse") else node.module
                yield name.asname or name.name, module


def test_imports_have_no_circle_and_stay_in_the_package():
    package, outside = nodes("aecourse").items(), nodes("scripts", "benchmarks")
    graph = {name: {module for _, module in imports(file)} for name, file in package}
    assert [*TopologicalSorter(graph).static_order()]  # raises CycleError
    imported = {module.split(".")[0] for modules in graph.values() for module in modules}
    assert not imported & {name.split(".")[1] for name in outside}


def test_no_private_name_of_another_module_is_used():
    for name, file in nodes(*USERS).items():
        modules = {alias for alias, module in imports(file) if module in nodes("aecourse")}
        used = []
        for node in file:
            if isinstance(node, ast.ImportFrom) and node.module.startswith("aecourse"):
                used += [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in modules:
                used.append(node.attr)
        assert not [word for word in used if re.match("_[^_]", word)], name


def test_every_public_function_is_used_elsewhere():
    """Result and error classes, and helpers in an exercise file, may be used in their file only."""
    used, unused = {}, []
    for name, file in nodes(*USERS).items():
        used[name] = {getattr(node, "id", getattr(node, "attr", None)) for node in file}
    for module, (tree, *_) in nodes("aecourse").items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                users = {name for name in used if node.name in used[name]}
                own = isinstance(node, ast.ClassDef) or "exercises.lesson" in module
                if not users - (set() if own else {module}):
                    unused.append(f"{module}.{node.name}")
    assert unused == []


def test_package_is_complete():
    packages = {path.parent.relative_to(ROOT) for path in (ROOT / "aecourse").rglob("__init__.py")}
    assert {".".join(path.parts) for path in packages} == {*SETUP["tool"]["setuptools"]["packages"]}
    assert version("aecourse") == aecourse.__version__


def test_dependencies_have_a_lower_bound_that_holds_here_and_stand_in_one_list():
    for requirement in LISTED:
        assert str(requirement.specifier).count(">=") == 1, requirement
        assert requirement.specifier.contains(version(requirement.name)), requirement
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = f"python{PROJECT['requires-python']}"
    assert environment["dependencies"] == [python, "pip", {"pip": ["-e .[test]"]}]


@pytest.mark.slow
def test_what_is_imported_is_listed():
    """It is in pyproject.toml, or comes with Jupyter's libraries or pytest."""
    listed = LISTED + [*map(Requirement, EXTRAS["bench"])]
    for name in "nbclient jupyterlab jupyter-server jupyter-events ipykernel pytest".split():
        listed += [Requirement(line) for line in requires(name) if "extra ==" not in line]
    listed = {canonicalize_name(requirement.name) for requirement in listed}
    files, distributions = nodes(*USERS, "tests"), packages_distributions()
    known = {name.split(".")[-1] for name in files} | sys.stdlib_module_names | {"aecourse"}
    for name, file in files.items():
        for library in {module.split(".")[0] for _, module in imports(file)} - known:
            found = {canonicalize_name(found) for found in distributions.get(library, [library])}
            assert found & listed, f"{name} imports {library}"


def test_makefile_and_readme_name_the_same_commands():
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    targets = set(re.search(r"(?m)^\.PHONY: (.*)$", makefile)[1].split()) - {"help", "ready"}
    assert set(re.findall(r"(?m)^#   make (\w+)", makefile)) == targets
    assert set(re.findall(r"(?m)(?:^    |`)make (\w+)", readme)) <= targets
    for name in (".ci/run", ".github/workflows/ci.yml", ".github/workflows/weekly.yml"):
        assert "make test" in (ROOT / name).read_text()


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_copied_checkout_is_told_to_set_up_anew(tmp_path):
    """With a Python that only makes the folder of the environment, at a path with a space."""
    first, copy, python = tmp_path / "my course", tmp_path / "copy", tmp_path / "python"
    program = '[ "$2" != venv ] || { mkdir -p .venv/bin; cp $0 .venv/bin/python; }'
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    first.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, first)

    def make(target, folder):
        command = ["make", target, f"PYTHON={python}"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)

    assert make("test", first).returncode == 0
    shutil.copytree(first, copy)
    for target in ("lab", "test"):
        answer = make(target, copy)
        assert answer.returncode and "copied" in answer.stderr and "make setup" in answer.stderr
    assert make("setup", copy).returncode == make("lab", copy).returncode == 0


def test_data_lists_what_is_here(home, capsys):
    home.mkdir()
    (home / "creditcard.csv").touch()
    data_listing.main()
    pattern = "(?s)strokes +embedded.*mnist +will be downloaded.*ulb +here: .*creditcard.csv"
    assert re.search(pattern, capsys.readouterr().out)


@pytest.mark.slow
def test_skipped_cell_fails_the_run(tmp_path):
    """A small project with this conftest.py and two notebooks, which find the network off."""
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(ROOT / "tests/offline", tmp_path / "tests/offline")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    conftest = (ROOT / "tests/conftest.py").read_text()
    conftest = re.sub(r"(?m)^NOTEBOOKS = \d+", "NOTEBOOKS = 2", conftest)
    (tmp_path / "tests/conftest.py").write_text(conftest)
    guarded = "import socket\ntry: socket.getaddrinfo('example.org', 80)\n"
    guarded += "except OSError as error: assert 'network is off' in str(error)\nelse: 1 / 0"
    for name, last in (("00_run", "1"), ("01_skip", "# NBVAL_SKIP")):
        cells = [nbformat.v4.new_code_cell(cell) for cell in ("import os", guarded, last)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"notebooks/{name}.ipynb")
    command = [sys.executable, "-m", "pytest", "--every-notebook", "-n", "2", "--dist", "loadfile"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    missing = [line for line in answer.stdout.splitlines() if line.startswith("NOT EXECUTED")]
    assert missing == ["NOT EXECUTED  01_skip.ipynb: 2 of 3 cells passed"], answer.stdout
    assert answer.returncode == 1

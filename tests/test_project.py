"""The project around the lessons: one list of dependencies, the command line, and the guards that the tests rely on."""

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import NOTEBOOKS, not_executed

import aecourse
from aecourse import __main__ as cli
from aecourse import _notebooks

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(requirement):
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


# -- one list of dependencies ------------------------------------------------------------------------------------------

def test_environment_yml_leads_to_the_same_list():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert sorted(map(name_of, conda)) == ["pip", "python"], "libraries are listed in pyproject.toml alone"
    assert [line for line in pip if not line.startswith("--extra-index-url")] == ["-e .[test]"]
    assert f"python{PROJECT['requires-python']}" in conda


def test_every_dependency_has_a_lower_bound_that_holds_here():
    from packaging.requirements import Requirement
    from importlib.metadata import version
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        requirement = Requirement(line)
        assert [bound.operator for bound in requirement.specifier] == [">="], line
        assert requirement.specifier.contains(version(requirement.name), prereleases=True), line


def test_what_is_imported_is_listed():
    """What the package, the tests or the lessons import is in the list, or comes with Jupyter's libraries in it."""
    listed = {name_of(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]}
    jupyter = ("nbclient", "jupyterlab", "jupyter-server", "jupyter-events", "ipykernel", "ipywidgets", "pytest")
    through = {name_of(line) for name in jupyter for line in requires(name) if "extra ==" not in line}
    files = [path for folder in ("aecourse", "tests") for path in (ROOT / folder).rglob("*.py")]
    sources = {path.name: path.read_text(encoding="utf-8") for path in files}
    for path in _notebooks.find():
        cells = [cell.source for cell in _notebooks.read(path).cells if cell.cell_type == "code"]
        sources[path.name] = "\n".join(re.sub(r"(?m)^[%!].*$", "", cell) for cell in cells)
    own = {"aecourse", "conftest", "sitecustomize"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
    distributions = packages_distributions()
    for file, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.split(".")[0] for name in names} - own - set(sys.stdlib_module_names):
                assert {name_of(found) for found in distributions[name]} & (listed | through), f"{file} imports {name}"


def test_makefile_and_readme_name_the_same_commands():
    makefile, readme = [(ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "README.md")]
    targets = re.search(r"(?m)^\.PHONY: (.*)$", makefile)[1].split()
    assert set(targets) == {"help", "setup", "lab", "test", "lessons", "ledger", "clean"}
    assert set(re.findall(r"make (setup|lab|test|lessons|ledger|clean)\b", readme)) == set(targets) - {"help"}
    assert set(re.findall(r"(?m)^#   make (\w+)", makefile)) == set(targets) - {"help"}
    assert "make test" in (ROOT / ".ci" / "run").read_text() and os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.skipif(not (ROOT / ".git").exists() or os.name != "posix", reason="not a git checkout, or no POSIX shell")
def test_weekly_runs_each_python_with_its_libraries_and_tells_which_is_missing(tmp_path):
    """.ci/weekly with a `make` that writes down what it is asked for, and fails where it is told to."""
    here = "{}.{}".format(*sys.version_info)
    (tmp_path / f"python{here}").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "make").write_text(
        '#!/bin/sh\necho "$*" "${PIP_CONSTRAINT:+lowest}" >> "$LOG"; cat $PIP_CONSTRAINT /dev/null > "$LOG.constraint"\n'
        f'mkdir -p .venv/bin; ln -sf "{tmp_path}/python{here}" .venv/bin/python; [ "$1" != "$BREAK" ]\n')
    for name in (f"python{here}", "make"):
        (tmp_path / name).chmod(0o755)

    def weekly(*arguments, **more):
        (tmp_path / "log").write_text("")
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TMPDIR": str(tmp_path),
               "LOG": str(tmp_path / "log"), "BREAK": "", **more}
        answer = subprocess.run([ROOT / ".ci" / "weekly", *arguments], env=env, capture_output=True, text=True)
        asked = [(line.split()[0], *line.split()[2:]) for line in (tmp_path / "log").read_text().splitlines()]
        return answer.returncode, answer.stdout.splitlines()[-2:], asked, answer

    code, told, asked, answer = weekly(here, f"{here}-lowest")
    assert code == 0 and told == [f"Python {here}: passed", f"Python {here}-lowest: passed"], answer
    assert asked == [("setup",), ("test",), ("setup", "lowest"), ("test", "lowest")]
    assert "torch==" in answer.stdout, "the versions are told"
    lowest = dict(line.split("==") for line in (tmp_path / "log.constraint").read_text().splitlines())
    assert lowest == {line.split(">=")[0]: line.split(">=")[1]
                      for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]}
    code, told, asked, _ = weekly("3.99", here)
    assert code == 1 and told == ["Python 3.99: not run: no Python 3.99 was found", f"Python {here}: passed"]
    assert weekly("--go-on", "3.99", here)[0] == 0
    code, told, asked, _ = weekly(here, f"{here}-lowest", BREAK="setup")
    assert code == 1 and told == [f"Python {here}: FAILED", f"Python {here}-lowest: FAILED"] and len(asked) == 2
    assert weekly(here, BREAK="test")[0] == 1
    assert not list(tmp_path.glob("tmp.*")), "the clones are removed"


def test_version_is_the_installed_one():
    from importlib.metadata import version
    assert version("aecourse") == aecourse.__version__


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_git_takes_neither_data_nor_environments():
    ignored = ["data/MNIST/raw/x.gz", "data/cache/x.npz", ".venv/pyvenv.cfg", "aecourse/__pycache__/x.pyc", "run.pt"]
    kept = ["data/README.md", "notebooks/00_start_here.ipynb", "LEDGER.json", "LEDGER.md", "aecourse/data/digits.py"]
    answer = subprocess.run(["git", "check-ignore", *ignored, *kept], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.split() == ignored, answer.stderr


# -- the guards of the tests -------------------------------------------------------------------------------------------

def test_the_network_is_off_here_and_in_what_tests_start():
    with pytest.raises(OSError, match="network is off"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="network is off"):
        socket.getaddrinfo("example.org", 443)
    program = "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.returncode == 1 and "network is off" in answer.stderr
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass                                             # this machine itself can be reached


def test_a_notebook_that_was_not_executed_is_told(tmp_path):
    v4 = nbformat.v4
    for name, cells in (("00_a.ipynb", 2), ("01_b.ipynb", 3)):
        nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("1") for _ in range(cells)]), tmp_path / name)
    paths = sorted(tmp_path.glob("*.ipynb"))
    assert not_executed({"00_a.ipynb": 2, "01_b.ipynb": 3}, paths, 2) == []
    assert "01_b.ipynb: 2 of 3" in not_executed({"00_a.ipynb": 2, "01_b.ipynb": 2}, paths, 2)[0]
    assert "3 notebooks are expected" in not_executed({"00_a.ipynb": 2, "01_b.ipynb": 3}, paths, 3)[0]
    assert len(_notebooks.find()) == NOTEBOOKS


def test_a_run_that_leaves_a_cell_out_fails(tmp_path):
    """The counting end to end, in a small project with this conftest.py: nbval alone lets the skipped cell pass."""
    shutil.copytree(ROOT / "tests" / "offline", tmp_path / "tests" / "offline")
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    (tmp_path / "tests" / "conftest.py").write_text(re.sub(r"(?m)^NOTEBOOKS = \d+", "NOTEBOOKS = 1", conftest))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    guarded = "import os, socket\n" \
              "assert os.environ['AECOURSE_CHECK_WIDGETS'] and 'inline' in os.environ['MPLBACKEND']\n" \
              "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\n" \
              "except OSError as error:\n    assert 'network is off' in str(error)\nelse:\n    raise SystemError"
    for last, code, told in (("print(2)", 0, "all 1 notebooks"),
                             ("# NBVAL_SKIP\nprint(2)", 1, "NOT EXECUTED  00_a.ipynb: 2 of 3")):
        cells = [nbformat.v4.new_code_cell(cell) for cell in ("print(1)", guarded, last)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "00_a.ipynb")
        answer = subprocess.run([sys.executable, "-m", "pytest", "--every-notebook"], cwd=tmp_path,
                                capture_output=True, text=True)
        assert (answer.returncode, told in answer.stdout) == (code, True), answer.stdout


# -- the command line --------------------------------------------------------------------------------------------------

PARAMETERS = "seed = 0\nsource = None"
LESSON = [
    "import sys\nimport ipywidgets\nfrom IPython.display import display\nfrom tqdm.auto import tqdm\n"
    "from aecourse.claims import claim",
    "print('seed', seed, source)\nprint('a warning', file=sys.stderr)\nfor _ in tqdm(range(3)):\n    pass",
    "display(ipywidgets.interactive_output(print, {}), ipywidgets.IntSlider())",
    "claim('The seed is small', seed, below=2)\nclaim('One is one', 1, between=(1, 1), unit='°')",
]


def write(path, *cells, parameters=PARAMETERS):
    v4 = nbformat.v4
    first = [v4.new_markdown_cell("# A lesson"),
             v4.new_code_cell(parameters, metadata={"tags": ["parameters"], "collapsed": False})]
    nbformat.write(v4.new_notebook(cells=first + [v4.new_code_cell(cell) for cell in cells]), path)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one small lesson in a folder of its own."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(_notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(cli, "LEDGER", tmp_path / "LEDGER.json")
    write(tmp_path / "notebooks" / "00_small.ipynb", *LESSON)
    return tmp_path


def test_lessons_stores_a_clean_notebook(course, capsys):
    path = course / "notebooks" / "00_small.ipynb"
    assert cli.main(["lessons"]) == 0
    assert re.search(r"00_small +\d+\.\d s", capsys.readouterr().out)
    notebook = _notebooks.read(path)
    assert _notebooks.problems(notebook) == []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[0].metadata == {"tags": ["parameters"]}
    assert [output.text for output in code[2].outputs] == ["seed 0 None\n"], "neither the bar nor the warning is kept"
    assert [output.data["text/plain"] for output in code[3].outputs] == [_notebooks.INTERACTIVE] * 2
    assert "One is one: 1°" in code[4].outputs[1].data["text/plain"]
    assert "widget" not in re.sub("ipywidgets", "", path.read_text())
    before = path.read_bytes()
    assert cli.main(["lessons", "--check"]) == 0
    assert path.read_bytes() == before


def test_lessons_stops_loudly_at_the_first_failure(course, capsys):
    path = course / "notebooks" / "01_broken.ipynb"
    write(path, "first = 1", "the_answer = first / 0", "print('never')")
    after = course / "notebooks" / "02_after.ipynb"
    write(after, "print('not reached')")
    before = path.read_bytes()
    assert cli.main(["lessons", "01", "02"]) == 1
    told = capsys.readouterr().err
    assert "01_broken.ipynb, cell 3" in told and "the_answer = first / 0" in told and "ZeroDivisionError" in told
    assert path.read_bytes() == before
    assert _notebooks.read(after).cells[1].execution_count is None


def test_lessons_are_repeated_until_one_fails(course, capsys):
    times = course / "times"
    write(course / "notebooks" / "00_small.ipynb", f"with open({str(times)!r}, 'a') as file:\n    file.write('x')",
          f"assert len(open({str(times)!r}).read()) < 3, 'the third time'")
    write(course / "notebooks" / "01_other.ipynb", "1")
    before = (course / "notebooks" / "01_other.ipynb").read_bytes()
    assert cli.main(["lessons", "--check", "--repeat", "2"]) == 0
    assert "4 of 4 runs of 2 lessons passed" in capsys.readouterr().out
    times.write_text("x")
    assert cli.main(["lessons", "--check", "--repeat", "3"]) == 1
    told = capsys.readouterr()
    assert "2 of 6 runs of 2 lessons passed" in told.out
    assert "00_small.ipynb, cell 3" in told.err and "the third time" in told.err
    assert (course / "notebooks" / "01_other.ipynb").read_bytes() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_lessons_run_on_as_many_threads_as_are_asked_for(course, threads):
    path = course / "notebooks" / "00_small.ipynb"
    write(path, "import aecourse, torch\nDEFAULT = torch.get_num_threads()\ntorch.set_num_threads(3)",
          "print(DEFAULT, torch.get_num_threads())\ntorch.set_num_threads(DEFAULT)", "print(torch.get_num_threads())")
    notebook, *_ = _notebooks.execute(path, threads=threads)
    default = min(threads, os.cpu_count())               # torch starts with no more than there are cores
    assert [cell.outputs[0].text for cell in notebook.cells[3:]] == [f"{default} {threads}\n", f"{threads}\n"]
    assert "set_num_threads(3)" in path.read_text()


def test_no_lesson_sets_the_threads_in_a_way_that_is_not_found():
    cells = [cell.source for path in _notebooks.find() for cell in _notebooks.read(path).cells]
    assert sum("set_num_threads" in cell for cell in cells) >= 8
    for cell in cells:
        assert cell.count("set_num_threads") == len(_notebooks._THREADS.findall(cell)), cell


def test_a_kernel_that_does_not_start_is_told(course, monkeypatch, capsys):
    (course / "ipykernel_launcher.py").write_text("raise SystemExit('no kernel today')")
    monkeypatch.setenv("PYTHONPATH", str(course))
    assert cli.main(["lessons", "--check"]) == 1
    assert "00_small.ipynb, cell 0:\nKernel died" in capsys.readouterr().err


def test_what_must_not_be_stored_is_refused(course, capsys):
    path = course / "notebooks" / "00_small.ipynb"
    home = "/" + "home/somebody/data"
    picture = "from IPython.display import Image\nImage(data=b'\\x89PNG\\r\\n\\x1a\\n' + bytes(99), format='png')"
    write(path, f"print('read from {home}')", "print('x' * 1_100_000)", picture)
    before = path.read_bytes()
    assert cli.main(["lessons"]) == 1
    told = capsys.readouterr().err
    assert "a path of one machine" in told and "more than 1,000,000" in told and "a picture without alt text" in told
    assert path.read_bytes() == before


def test_ledger_measures_and_names_what_fails(course, capsys):
    path = course / "notebooks" / "00_small.ipynb"
    before = path.read_bytes()
    cli_process = "import sys; from pathlib import Path; from aecourse import _notebooks, __main__ as cli\n" \
                  "_notebooks.ROOT = Path(sys.argv[1]); cli.LEDGER = _notebooks.ROOT / 'LEDGER.json'\n" \
                  "if __name__ == '__main__': sys.exit(cli.main(sys.argv[2:]))"
    program = course / "ledger.py"
    program.write_text(cli_process)
    run = subprocess.run([sys.executable, program, course, "ledger", "--seeds", "1,2", "--sources", "embedded"],
                         capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert "00_small, embedded, seed 2: The seed is small: 2, wanted below 2" in run.stdout
    assert path.read_bytes() == before
    kept = json.loads((course / "LEDGER.json").read_text())
    assert [row["holds"] for row in kept["lessons"]["00_small"]["embedded"]["1"]["claims"]] == [True, True]
    lines = (course / "LEDGER.md").read_text()
    assert "| The seed is small | below 2 | 1 | **2 ✗** | – |" in lines
    assert "| One is one | 1 to 1 | 1° | 1° | – |" in lines
    capsys.readouterr()
    assert cli.main(["ledger", "--seeds", "1-1", "--sources", "embedded", "--missing"]) == 0
    assert "0 runs" in capsys.readouterr().out, "what is there is not measured again"


def test_parameters_that_cannot_be_set_are_told(course, capsys):
    write(course / "notebooks" / "00_small.ipynb", "print(seed)", parameters="seed = 0")
    with pytest.raises(_notebooks.NotebookError, match="has to set seed and source"):
        _notebooks.execute(course / "notebooks" / "00_small.ipynb", seed=1)
    assert cli.main(["lessons", "07"]) == 1
    assert "no notebook begins with '07'; in " in capsys.readouterr().err


def test_bad_arguments_are_told(capsys):
    for arguments in (["ledger", "--seeds", "four"], ["lessons", "--check", "--threads", "0"],
                      ["lessons", "--check", "--repeat", "-1"], ["lesson"], []):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2
    assert "seeds are written like 0-4" in capsys.readouterr().err
    for arguments in (["--threads", "2"], ["--repeat", "2"], ["--check", "--repeat", "2", "--seed", "1"]):
        assert cli.main(["lessons", *arguments]) == 1
        assert "they go with --check alone" in capsys.readouterr().err
    assert cli.seeds("0-2,7") == [0, 1, 2, 7]


def test_data_lists_what_is_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("AECOURSE_MIRROR", raising=False)
    (tmp_path / "creditcard.csv").write_text("")
    assert cli.main(["data"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"ulb +here: .*creditcard.csv", told) and re.search(r"mnist +will be downloaded", told)

"""Copies of the lessons for a class: `python scripts/student.py 03 07`.

Writes build/student/ (exercises open, no outputs) and build/solved/ (every exercise answered).
With --execute the solved copies are run in full, and every exercise has to be right.
"""

import argparse
import ast
import copy
import dis
import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from pprint import pformat
from types import ModuleType
from typing import NamedTuple

from aecourse.exercises import OFF, Exercise

import nbformat
from nbformat import NotebookNode

from lessons import NotebookError, execute, find, read

BUILD = Path(__file__).resolve().parents[1] / "build"


class Attempt(NamedTuple):
    """The call `ex.kl.check(my_kl)` of a cell: exercise, name of the attempt, first line (from 0).

    module: of the lesson's exercises.
    """

    exercise: Exercise
    name: str
    line: int
    module: ModuleType


def attempts(notebook: NotebookNode) -> dict[int, Attempt]:
    """The exercises of a lesson: index of the cell -> its attempt."""
    found, module = {}, None
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        if match := re.search(r"from aecourse\.exercises import (\w+) as ex\b", cell.source):
            module = importlib.import_module(f"aecourse.exercises.{match[1]}")
        for node in ast.parse(cell.source).body if module else []:
            match = re.match(r"ex\.(\w+)\.check\((\w+)\)$", ast.unparse(node))
            if match:
                exercise = getattr(module, match[1])
                found[index] = Attempt(exercise, match[2], node.lineno - 1, module)
    return found


def student_copy(notebook: NotebookNode) -> NotebookNode:
    """A copy without outputs."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def solved_copy(notebook: NotebookNode) -> NotebookNode:
    """A copy without outputs whose exercises have the answers that `.solution()` shows."""
    notebook = student_copy(notebook)
    for index, attempt in attempts(notebook).items():
        cell = notebook.cells[index]
        check = "\n".join(cell.source.splitlines()[attempt.line :])
        cell.source = f"{solution(attempt)}\n\n\n{check}"
    return notebook


def solution(attempt: Attempt) -> str:
    """Code that gives the attempt's name to the exercise's answer, with all that this needs."""
    answer = attempt.exercise.answer
    if not callable(answer):
        return f"{attempt.name} = {pformat(answer, width=88, sort_dicts=False)}"
    imports, functions = set(), {}
    _collect(answer, attempt.module, imports, functions)
    lines = [*sorted(imports), "", ""] if imports else []
    lines += ["\n\n".join(functions.values())]
    if attempt.name != answer.__name__:
        lines += ["", f"{attempt.name} = {answer.__name__}"]
    return "\n".join(lines)


def _collect(function, module, imports, functions):
    """Add what a function of `module` needs: lines to `imports`, name -> source to `functions`."""
    source = inspect.getsource(function)
    head = ast.parse(source).body[0]
    outside = [*head.decorator_list, *head.args.defaults, *filter(None, head.args.kw_defaults)]
    names = {n.id for part in outside for n in ast.walk(part) if isinstance(n, ast.Name)}
    names |= global_names(inspect.unwrap(function).__code__)
    for name in sorted(names & set(vars(module))):
        value = vars(module)[name]
        home = importlib.import_module(getattr(value, "__module__", None) or module.__name__)
        if isinstance(value, ModuleType):
            alias = "" if name == value.__name__ else f" as {name}"
            imports.add(f"import {value.__name__}{alias}")
        elif inspect.isfunction(value) and home is module:
            if name not in functions and value is not function:
                _collect(value, module, imports, functions)
        else:
            home = home if getattr(home, name, None) is value else module
            imports.add(f"from {home.__name__} import {name}")
    functions[function.__name__] = source


def global_names(code) -> set[str]:
    """The global names that a function, given as its code object, and those in it look up."""
    names = {
        i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    nested = [global_names(const) for const in code.co_consts if inspect.iscode(const)]
    return names.union(*nested)


def wrong_in(notebook: NotebookNode, state: str = "Right.") -> list[str]:
    """The exercises of an executed copy whose output does not begin with `state`."""
    found = []
    for index, attempt in attempts(notebook).items():
        shown = [output.get("data", {}) for output in notebook.cells[index].outputs]
        shown = [data.get("text/plain", "") for data in shown]
        if not any(text.startswith(state) for text in shown):
            found.append(f"{attempt.name}: {' '.join(shown) or 'no output'}")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of names, 02 for one; default: all")
    parser.add_argument("--out", type=Path, default=BUILD, help="default: build/")
    parser.add_argument("--execute", action="store_true", help="run the solved copies in full")
    args = parser.parse_args(argv)
    os.environ[OFF] = "off"  # the answers are not a learner's progress
    failures = []
    try:
        for path in find(args.names):
            notebook = read(path)
            copies = {"student": student_copy(notebook), "solved": solved_copy(notebook)}
            for folder, made in copies.items():
                (args.out / folder).mkdir(parents=True, exist_ok=True)
                nbformat.write(made, args.out / folder / path.name)
            print(f"{path.stem}: {len(attempts(notebook))} exercises", flush=True)
            if args.execute:
                wrong = wrong_in(execute(args.out / "solved" / path.name).notebook)
                failures += [f"{path.stem}, {text}" for text in wrong]
    except NotebookError as error:
        failures.append(str(error))
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""The stored notebooks: complete lessons, of one clean run, their claims in the ledger. nbval executes them besides."""

import ast
import re
import sys

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from aecourse import _notebooks
from aecourse.__main__ import LEDGER, load, runs_of, table

LESSONS = _notebooks.find()
CODE_LINES, PROSE_WORDS = 18, 140                        # of a cell; 15 and 120 are what to aim at

lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def code(path):
    return [cell for cell in _notebooks.read(path).cells if cell.cell_type == "code"]


def prose(path):
    return [cell.source for cell in _notebooks.read(path).cells if cell.cell_type == "markdown"]


def tree(cell):
    return ast.parse(TransformerManager().transform_cell(cell.source))


def test_there_are_lessons():
    assert LESSONS and LESSONS[0].name == "00_start_here.ipynb"


@lessons
def test_stored_notebook_is_of_one_clean_run(path):
    assert _notebooks.problems(_notebooks.read(path)) == []


@lessons
def test_marked_cells_have_outputs(path):
    """nbval lets a marked cell pass that was never executed, and knows tags that let anything pass."""
    for cell in code(path):
        if "NBVAL_CHECK_OUTPUT" in cell.source or "nbval-check-output" in cell.metadata.get("tags", []):
            stored = [output.get("text") or output.get("data", {}).get("text/plain") for output in cell.outputs]
            assert any(stored), f"marked, and nothing is stored to compare with:\n{cell.source}"
        for word in ("NBVAL_SKIP", "NBVAL_RAISES_EXCEPTION", "NBVAL_IGNORE_OUTPUT"):
            assert word not in cell.source
        assert not {"raises-exception", "nbval-skip", "nbval-raises-exception"} & set(cell.metadata.get("tags", []))


@lessons
def test_begins_with_parameters_and_imports(path):
    first, second = code(path)[:2]
    _, spelling = _notebooks.parameters_cell(_notebooks.read(path))
    assert first.metadata.get("tags") == ["parameters"]
    assert set(spelling) == {"seed", "source"}
    assert all(isinstance(line, ast.Assign) for line in tree(first).body), "the two names are set, and nothing else"
    names = [name for line in tree(second).body if isinstance(line, (ast.Import, ast.ImportFrom))
             for name in ([line.module] if isinstance(line, ast.ImportFrom) else [name.name for name in line.names])]
    libraries = [name.split(".")[0] for name in names if name.split(".")[0] not in sys.stdlib_module_names]
    assert libraries[0] == "aecourse", "aecourse is imported first, before torch"


@lessons
def test_cells_are_short(path):
    for cell in code(path):
        assert len(cell.source.splitlines()) <= CODE_LINES, cell.source
    for text in prose(path):
        folded, tables = r"(?s)<details>.*?</details>|\$\$.*?\$\$", r"(?m)^\s*\|.*$|<[^>]+>"
        words = re.sub(tables, " ", re.sub(folded, " ", text)).split()
        assert len(words) <= PROSE_WORDS, f"{len(words)} words:\n{text}"


@lessons
def test_lesson_is_complete(path):
    source = "\n".join(cell.source for cell in code(path))
    assert len(claims(path)) >= 5
    assert len(re.findall(r"\.check\(", source)) >= 3
    assert "widgets.explore(" in source
    assert any("redict" in text for text in prose(path)), "the reader is never asked to predict"
    assert sum("image/png" in output.get("data", {}) for cell in code(path) for output in cell.outputs) >= 2


def claims(path):
    """The calls of `claim` in a notebook: (a pattern for the text, {bound: value where it is written out})."""
    found = []
    for call in (node for cell in code(path) for node in ast.walk(tree(cell)) if isinstance(node, ast.Call)):
        if getattr(call.func, "id", getattr(call.func, "attr", None)) != "claim":
            continue
        text = call.args[0]
        parts = text.values if isinstance(text, ast.JoinedStr) else [text]
        pattern = "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".*" for part in parts)
        bounds = {}
        for keyword in call.keywords:
            try:
                bounds[keyword.arg] = ast.literal_eval(keyword.value)
            except ValueError:                           # computed: it cannot be compared
                continue
        found.append((pattern, {name: bounds[name] for name in ("below", "above", "between") if name in bounds}))
    return found


@lessons
def test_claims_stand_in_the_ledger(path):
    runs = [run for run in runs_of(load()) if run[0] == path.stem]
    assert [seed for _, source, seed, _ in runs if source == "embedded"] == ["0", "1", "2", "3", "4"]
    assert any(source == "real" for _, source, _, _ in runs), "measured on real data too: python -m aecourse ledger"
    for _, source, seed, run in runs:
        assert "error" not in run, f"{source}, seed {seed}: {run['error']}"
        broken = [(row["text"], row["value"]) for row in run["claims"] if not row["holds"]]
        assert not broken, f"{source}, seed {seed}"
        for pattern, bounds in claims(path) if source == "embedded" else []:
            rows = [row for row in run["claims"] if re.fullmatch(pattern, row["text"])]
            assert rows, f"seed {seed}: {pattern!r} is not in the ledger; run python -m aecourse ledger {path.stem[:2]}"
            for name, value in bounds.items():
                value = list(value) if isinstance(value, tuple) else value
                assert any(row[name] == value for row in rows), f"the ledger has another bound: {pattern!r}"


def test_ledger_holds_the_lessons_that_are_there():
    kept = load()
    assert sorted(kept["lessons"]) == [path.stem for path in LESSONS]
    assert LEDGER.with_suffix(".md").read_text(encoding="utf-8") == table(kept) + "\n"


def test_the_map_leads_to_lessons_and_steps_that_exist():
    """The tables of lesson 00 name a lesson, and perhaps its steps: "[06](06_name.ipynb) 4 to 6"."""
    cells = "\n".join(prose(LESSONS[0]))
    for path in LESSONS[1:]:
        assert f"({path.name})" in cells, f"{path.name} is not on the map"
    named = re.findall(r"\[\d\d[^\]]*\]\(([^)]+\.ipynb)\)((?: \d+(?: to \d+)?)?)", cells)
    assert len(named) > 3 * len(LESSONS)
    for name, steps in named:
        headings = "\n".join(prose(LESSONS[0].parent / name))
        for step in re.findall(r"\d+", steps):
            assert re.search(rf"(?m)^## {step} · ", headings), f"{name} has no step {step}"

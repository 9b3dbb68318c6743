"""The stored notebooks: complete, of one clean run, their claims in the ledger."""

import ast
import re
import sys
from contextlib import suppress

import pytest

import ledger
import lessons

PATHS = lessons.find()
CODE_LINES, PROSE_WORDS = 18, 140  # of a cell; 14 and 120 are what to aim at

each_lesson = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code(path):
    return [cell for cell in lessons.read(path).cells if cell.cell_type == "code"]


def prose(path):
    return [cell.source for cell in lessons.read(path).cells if cell.cell_type == "markdown"]


def assigned(cell):
    """The names that a cell assigns."""
    names = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
    return {node.id for node in names if isinstance(node.ctx, ast.Store)}


@each_lesson
def test_stored_notebook_is_of_one_clean_run_and_its_marked_cells_have_outputs(path):
    """nbval lets a marked cell without outputs pass, and has tags that let anything pass."""
    assert lessons.problems(lessons.read(path)) == []
    for cell in code(path):
        marks = " ".join([cell.source, *cell.metadata.get("tags", [])]).upper().replace("-", "_")
        if "NBVAL_CHECK_OUTPUT" in marks:
            shown = [o.get("text") or o.get("data", {}).get("text/plain") for o in cell.outputs]
            assert any(shown), f"marked, and nothing is stored to compare with:\n{cell.source}"
        assert not re.search("NBVAL_(SKIP|RAISES|IGNORE)|RAISES_EXCEPTION", marks)


@each_lesson
def test_has_parameters_then_imports_and_a_recipe(path):
    first, second, *others = code(path)
    assert first.metadata.get("tags") == ["parameters"]
    assert all(isinstance(line, ast.Assign) for line in ast.parse(first.source).body)
    assert {"SEED", "SOURCE"} <= assigned(first) <= {"SEED", "SOURCE", "N_TRAIN"}
    names = re.findall(r"(?m)^(?:from|import) (\w+)", second.source)
    libraries = [name for name in names if name not in sys.stdlib_module_names]
    assert libraries[0] == "aecourse", "aecourse is imported first, before torch"
    recipe = [cell for cell in others if "recipe" in cell.metadata.get("tags", [])]
    names = set().union(*map(assigned, recipe))
    assert path.name.startswith("13") or "RECIPE" in names  # 13 trains nothing alone


@each_lesson
def test_cells_are_short(path):
    for cell in code(path):
        assert len(cell.source.splitlines()) <= CODE_LINES, cell.source
    for text in prose(path):
        text = re.sub(r"(?s)<details>.*?</details>|\$\$.*?\$\$", " ", text)
        words = re.sub(r"(?m)^\s*\|.*$|<[^>]+>", " ", text).split()
        assert len(words) <= PROSE_WORDS, f"{len(words)} words:\n{text}"


@each_lesson
def test_lesson_is_complete(path):
    source = "\n".join(cell.source for cell in code(path))
    assert len(claims(path)) >= 5
    assert len(re.findall(r"\.check\(", source)) >= 3
    assert re.search(r"widgets\.explore\(|explorer\.\w+\(", source), "nothing to experiment with"
    assert any("redict" in text for text in prose(path)), "the reader is never asked to predict"
    outputs = [output for cell in code(path) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2


def claims(path):
    """The calls of `claim`: (a pattern for the text, {bound: value} of bounds that are numbers)."""
    found = []
    for call in (node for cell in code(path) for node in ast.walk(ast.parse(cell.source))):
        if not isinstance(call, ast.Call) or getattr(call.func, "id", None) != "claim":
            continue
        text, bounds = call.args[0], {}
        parts = text.values if isinstance(text, ast.JoinedStr) else [text]
        parts = [re.escape(p.value) if isinstance(p, ast.Constant) else ".*" for p in parts]
        for keyword in call.keywords:
            with suppress(ValueError):  # a bound that is computed
                bounds[keyword.arg] = ast.literal_eval(keyword.value)
        bounds = {name: bounds[name] for name in ("below", "above", "between") if name in bounds}
        found.append(("".join(parts), bounds))
    return found


@each_lesson
def test_claims_stand_in_the_ledger(path):
    runs = [run[1:] for run in ledger.runs_of(ledger.load()) if run[0] == path.stem]
    assert [seed for source, seed, _ in runs if source == "embedded"] == [0, 1, 2, 3, 4]
    assert any(source == "real" for source, *_ in runs), "measured on real data too: make ledger"
    for source, seed, run in runs:
        broken = [(row["text"], row["value"]) for row in run["claims"] if not row["holds"]]
        assert not broken, f"{source}, seed {seed}"
        for pattern, bounds in claims(path) if source == "embedded" else []:
            rows = [row for row in run["claims"] if re.fullmatch(pattern, row["text"])]
            assert rows, f"seed {seed}: {pattern!r} is not in the ledger: make ledger"
            for name, value in bounds.items():
                value = list(value) if isinstance(value, tuple) else value
                assert any(row[name] == value for row in rows), f"another bound: {pattern!r}"


def test_ledger_holds_the_lessons_that_are_there():
    stored = ledger.load()
    assert sorted(stored["lessons"]) == [path.stem for path in PATHS]
    page = ledger.LEDGER.with_suffix(".md").read_text(encoding="utf-8")
    assert page == ledger.table(stored) + "\n"


def test_the_map_leads_to_lessons_and_steps_that_exist():
    """The tables of lesson 00 name lessons, and perhaps steps: "[06](06_name.ipynb) 4 to 6"."""
    cells = "\n".join(prose(PATHS[0]))
    for path in PATHS[1:]:
        assert f"({path.name})" in cells, f"{path.name} is not on the map"
    named = re.findall(r"\[\d\d[^\]]*\]\(([^)]+\.ipynb)\)((?: \d+(?: to \d+)?)?)", cells)
    assert len(named) > 3 * len(PATHS)
    for name, steps in named:
        headings = "\n".join(prose(PATHS[0].parent / name))
        for step in re.findall(r"\d+", steps):
            assert re.search(rf"(?m)^## {step} · ", headings), f"{name} has no step {step}"


def test_each_claim_says_something_of_its_own():
    runs = [
        run
        for _, source, seed, run in ledger.runs_of(ledger.load())
        if (source, seed) == ("embedded", 0)
    ]
    texts = [row["text"] for run in runs for row in run["claims"]]
    assert len(texts) == len(set(texts)), (
        "two claims with one text: the tables show neither's ledger"
    )

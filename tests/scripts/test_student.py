"""Copies of the lessons: every exercise open in one, and solved in the other."""

import ast
import builtins

import nbformat
import pytest

import lessons
import student

PATHS = lessons.find()


def outcomes(notebook, solved):
    """Name of the attempt -> its Outcome, without the rest of the lesson.

    An answer that trains for seconds is not called: the names that it uses have to be there.
    """
    names, found = {}, {}
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        lines = ast.parse(cell.source).body
        if all(isinstance(line, (ast.Import, ast.ImportFrom)) for line in lines):
            exec(cell.source, names)
    for index, attempt in student.attempts(notebook).items():
        cell = ast.parse(notebook.cells[index].source)
        check = ast.Expression(cell.body.pop().value)
        exec(compile(cell, "cell", "exec"), names)
        if solved and attempt.exercise.trains():
            used = student.global_names(names[attempt.name].__code__)
            assert used <= {*names, *vars(builtins)}
        else:
            found[attempt.name] = eval(compile(check, "cell", "eval"), names)
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_exercises_are_open_in_the_student_copy_and_right_in_the_solved_one(path, monkeypatch):
    monkeypatch.setenv(student.OFF, "off")
    notebook = lessons.read(path)
    opened, solved = student.student_copy(notebook), student.solved_copy(notebook)
    calls = "\n".join(cell.source for cell in notebook.cells).count(".check(my")
    assert len(student.attempts(solved)) == len(student.attempts(opened)) >= max(3, calls)
    for cell in (cell for cell in opened.cells if cell.cell_type == "code"):
        assert cell.outputs == [] and cell.execution_count is None
    assert {outcome.state for outcome in outcomes(opened, solved=False).values()} == {
        "not attempted"
    }
    for name, outcome in outcomes(solved, solved=True).items():
        assert outcome.state == "right", (name, outcome)


CELLS = (
    "from aecourse.exercises import lesson_00 as ex",
    "def my_loss(x_hat, x):\n    ...\n\n\n# a hint\nex.loss.check(my_loss)  # try",
)


@pytest.mark.slow
def test_the_solved_copy_is_executed_and_an_answer_that_is_not_right_reported(
    lesson, tmp_path, monkeypatch, capsys
):
    lesson("00_small", *CELLS)
    assert student.main(["--out", str(tmp_path / "out"), "--execute"]) == 0
    opened, solved = (
        nbformat.read(tmp_path / "out" / folder / "00_small.ipynb", as_version=4).cells[2].source
        for folder in ("student", "solved")
    )
    assert opened == CELLS[1]
    assert "    ...\n" not in solved and solved.endswith("ex.loss.check(my_loss)  # try")
    monkeypatch.setattr(student, "solution", lambda attempt: f"{attempt.name} = 3")
    assert student.main(["--out", str(tmp_path / "out"), "--execute"]) == 1
    assert "00_small, my_loss: Not right." in capsys.readouterr().err

"""Small notebooks in place of the course's."""

import nbformat
import pytest

import lessons


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    """`lesson(name, *cells)` writes a notebook into a folder that stands in for the course's."""
    monkeypatch.setattr(lessons, "FOLDER", tmp_path)

    def write(name, *sources):
        sources = ("SEED, SOURCE = 0, None", *sources)
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        cells[0].metadata = {"tags": ["parameters"], "collapsed": False}
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    return write

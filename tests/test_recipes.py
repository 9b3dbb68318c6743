"""aecourse/recipes.py: what a notebook's cells tagged `recipe` define."""

from aecourse import recipes

import nbformat
import pytest

PARAMETERS = "SEED = 1\nSOURCE = None\nN_TRAIN = 10"
RECIPE = """
RECIPE = {"epochs": 6, "seen": (SEED, SOURCE, N_TRAIN)}
RECIPES = {"long": RECIPE | {"epochs": 60}}"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with the notebooks 07_a, which has two recipes, and 08_b, which has none."""
    cells = {"parameters": PARAMETERS, "recipe": RECIPE, "other": "raise RuntimeError"}
    for name, tags in ("07_a", [*cells]), ("08_b", ["parameters"]):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cells[t], metadata={"tags": [t]}) for t in tags]
        )
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(recipes, "NOTEBOOKS", tmp_path)


def test_named_recipe_with_the_parameters_asked_for(course):
    assert recipes.load("07") == {"epochs": 6, "seen": (0, None, None)}
    found = recipes.load("07-long", "real", seed=3, examples=50)
    assert found == {"epochs": 60, "seen": (3, "real", 50)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("13", "0 notebooks in .* begin with '13'"),
        ("0", "2 notebooks in .* begin with '0'"),
        ("08", "08_b has no recipe"),
        ("07-short", "07_a has no recipe '07-short'; it has 07, 07-long"),
    ],
)
def test_what_is_no_recipe_is_refused(course, name, message):
    with pytest.raises(ValueError, match=message):
        recipes.load(name)

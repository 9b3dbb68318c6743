"""What the lessons train: the cells of a notebook tagged `recipe`, run without the rest."""

from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def load(
    name: str, source: str | Path | None = None, seed: int = 0, examples: int | None = None
) -> dict:
    """A recipe: a dict of "model" (a function), "loss", "train", "valid", "epochs", "lr" and more.

    name: the beginning of a notebook's name, "07", for its `RECIPE`; "07-plane-vae" for the entry
    "plane-vae" of its `RECIPES`. source, seed, examples: in place of what its cell tagged
    `parameters` sets; `examples=None` takes all. Raises ValueError where there is no such recipe.
    """
    lesson, _, variant = str(name).partition("-")
    paths = [
        p
        for p in sorted(NOTEBOOKS.glob("*.ipynb"))
        if p.name.startswith(lesson) and "-" not in p.name
    ]
    if len(paths) != 1:
        raise ValueError(f"{len(paths)} notebooks in {NOTEBOOKS} begin with {lesson!r}")
    names = {"__name__": paths[0].stem}
    for cell in nbformat.read(paths[0], as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags or "recipe" in tags:
            exec(compile(cell.source, paths[0].name, "exec"), names)
        if "parameters" in tags:
            names.update(SEED=seed, SOURCE=source, N_TRAIN=examples)
    if "RECIPE" not in names:
        raise ValueError(f"{paths[0].stem} has no recipe")
    recipes = {"": names["RECIPE"], **names.get("RECIPES", {})}
    if variant not in recipes:
        known = ", ".join(f"{lesson}-{key}" if key else lesson for key in recipes)
        raise ValueError(f"{paths[0].stem} has no recipe {name!r}; it has {known}")
    return recipes[variant]

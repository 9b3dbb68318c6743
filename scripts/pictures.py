"""Cut the pictures of the README out of the stored notebooks: `python scripts/pictures.py`.

They lie in site/static, as the site's start page shows them, too.
"""

import base64
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "site" / "static"
# name -> number of the lesson, beginning of the figure's title, left, top, width, height
PICTURES = {
    "faces": ("14", "Nobody: 64 random numbers", (0, 22, 898, 300)),
    "digits": ("03", "Digits in noise, and what", (62, 28, 690, 150)),
}


def figures(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, bytes]]:
    """(alternative text, bytes) of each picture that a notebook stores."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in ("image/png", "image/jpeg"):
                if kind in output.get("data", {}):
                    alt = output.metadata.get(kind, {}).get("alt", "")
                    yield alt, base64.b64decode(output.data[kind])


@cache
def read(number: str) -> tuple[Path, nbformat.NotebookNode]:
    """(path, notebook) of the lesson with this number."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return path, nbformat.read(path, as_version=4)


def cut(number: str, title: str, box: tuple[int, int, int, int]) -> tuple[str, Image.Image]:
    """(alternative text, picture): a part of the figure of a lesson.

    Raises LookupError if no figure's title begins so.
    """
    for alt, data in figures(read(number)[1]):
        if alt.startswith(title):
            left, top, width, height = box
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            bottom = min(top + height, picture.height)
            return alt, picture.crop((left, top, left + width, bottom))
    raise LookupError(f"lesson {number} has no figure {title!r}")


def main() -> None:
    for name, where in PICTURES.items():
        picture = cut(*where)[1]
        picture.save(FOLDER / f"{name}.png", optimize=True)
        print(f"{name}.png: {picture.width} x {picture.height}")


if __name__ == "__main__":
    main()

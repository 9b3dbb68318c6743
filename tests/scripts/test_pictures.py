import pytest
from PIL import Image

import pictures


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_of_the_readme_is_the_one_that_its_lesson_stores(name):
    shown = Image.open(pictures.FOLDER / f"{name}.png")
    stored = pictures.cut(*pictures.PICTURES[name])[1]
    assert shown.size == stored.size and shown.tobytes() == stored.tobytes(), "make site"


def test_a_figure_that_no_lesson_has_is_named():
    with pytest.raises(LookupError, match="lesson 03 has no figure 'A horse'"):
        pictures.cut("03", "A horse", (0, 0, 10, 10))

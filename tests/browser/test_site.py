"""The web site, built once and opened in a browser as files."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import lessons

ROOT = Path(__file__).resolve().parents[2]
LESSONS = [path.stem for path in lessons.find()]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site."""
    if os.environ.get("CI") != "true":
        pytest.importorskip("myst_nb", reason="pip install -e '.[site]' brings Sphinx")
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, ROOT / "scripts/site.py", "--out", folder]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return folder


@cache
def anchors(path):
    return set(re.findall(r'\bid="([^"]*)"', path.read_text(encoding="utf-8")))


def dead(link, site):
    """Whether a link leads to a place of the site that is not there."""
    parts = urlsplit(link)
    path = Path(unquote(parts.path))
    if parts.scheme != "file":
        return False
    found = path.is_file() and path.is_relative_to(site)
    return not found or (parts.fragment and unquote(parts.fragment) not in anchors(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "search", *LESSONS])
def test_page_is_whole(site, page, name):
    """No error or foreign request (see `page`), no image without text, dead link or overflow."""
    page.goto((site / f"{name}.html").as_uri())
    images = page.eval_on_selector_all("img", "all => all.map((i) => [i.alt, i.naturalWidth])")
    assert all(alt and width for alt, width in images)
    assert len(images) >= (5 if name != "search" else 0)
    links = page.eval_on_selector_all("a[href]", "all => all.map((a) => a.href)")
    assert not [link for link in links if dead(link, site)]
    assert page.locator("article p", has_text="|---").count() == 0  # a table that is none
    for box in page.locator("[data-explorer]").all():
        box.scroll_into_view_if_needed()
        box.locator(".explorer").wait_for()
    page.set_viewport_size({"width": 390, "height": 844})
    sizes = "all => all.map((node) => node.scrollWidth - node.clientWidth)"
    assert max(page.eval_on_selector_all("html, .content", sizes)) <= 0


@pytest.mark.slow
def test_every_explorer_stands_in_a_lesson_and_its_data_beside_it(site):
    pages = [(site / f"{name}.html").read_text(encoding="utf-8") for name in LESSONS]
    used = {name for text in pages for name in re.findall(r'data-explorer="(\w+)"', text)}
    assert used == {path.stem for path in (site / "_static/explorers").glob("*.js")}


@pytest.mark.slow
def test_site_is_small(site):
    files = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    assert sum(files.values()) < 1.8e6 * len(LESSONS)
    for name in LESSONS:
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        used = {site / address for address in re.findall(r'(?:src|href)="([^"#?]+)', text)}
        used |= {
            site / f"_static/explorers/{n}.js" for n in re.findall(r'data-explorer="(\w+)', text)
        }
        used = {path for path in used if path.suffix not in (".html", ".ipynb")}
        assert sum(files.get(path, 0) for path in used) + len(text.encode()) < 2e6, name


@pytest.mark.slow
def test_start_page_leads_through_all_lessons(site, page):
    page.goto((site / "index.html").as_uri())
    cards = page.eval_on_selector_all("a.card", "all => all.map((a) => a.href)")
    assert sorted(Path(urlsplit(link).path).stem for link in cards) == LESSONS
    for name in LESSONS:
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        neighbors = dict(re.findall(r'class="(next|prev)-page" href="([^"]*)"', text))
        at = LESSONS.index(name)
        assert neighbors["prev"] == f"{LESSONS[at - 1] if at else 'index'}.html"
        assert neighbors.get("next") == (f"{LESSONS[at + 1]}.html" if LESSONS[at + 1 :] else None)
        assert f'href="notebooks/{name}.ipynb"' in text
        stored = (ROOT / "notebooks" / f"{name}.ipynb").read_bytes()
        assert (site / "notebooks" / f"{name}.ipynb").read_bytes() == stored


@pytest.mark.slow
def test_search_finds_a_term_in_its_lesson(site, page):
    page.goto((site / "index.html").as_uri())
    page.locator("input.sidebar-search").fill("spectrogram")
    page.keyboard.press("Enter")
    page.locator("#search-results li a").filter(has_text="12").first.click()
    assert Path(urlsplit(page.url).path).stem == "12_audio_denoising"


@pytest.mark.slow
def test_light_and_dark(site, page):
    page.emulate_media(color_scheme="dark")
    page.goto((site / "index.html").as_uri())
    color = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for _ in range(3):  # automatic, then light and dark
        seen[page.get_attribute("body", "data-theme")] = page.evaluate(color)
        page.locator(".theme-toggle:visible").click()
    assert seen["auto"] == seen["dark"] != seen["light"]
    page.reload()
    assert page.evaluate(color) == seen[page.get_attribute("body", "data-theme")]


@pytest.mark.slow
def test_players_and_folds_work(site, page):
    page.goto((site / "12_audio_denoising.html").as_uri())
    page.wait_for_function("[...document.querySelectorAll('audio')].every((a) => a.duration > 0)")
    notebook = (ROOT / "notebooks/12_audio_denoising.ipynb").read_text(encoding="utf-8")
    assert page.locator("audio").count() == notebook.count("<audio") > 0
    fold = page.locator("article details").last
    fold.locator("summary").click()
    assert fold.evaluate("node => node.open && node.clientHeight > 40")


def test_folder_of_another_kind_is_not_replaced(tmp_path):
    (tmp_path / "letter.txt").touch()
    answer = subprocess.run([sys.executable, ROOT / "scripts/site.py", "--out", tmp_path])
    assert answer.returncode == 1 and (tmp_path / "letter.txt").exists()

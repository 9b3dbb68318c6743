"""Experiments in JupyterLab, started as `make lab` does it: every control, moved in a browser."""

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest

import lessons

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    """from aecourse import plotting, widgets
import matplotlib.pyplot as plt
import torch

x = torch.rand(21, 1, 28, 28)


def draw(level, kind, steps, negative):
    print(f"{level:g} {kind} {steps} {negative}")
    if kind == "broken":
        raise ValueError("no <such> kind")
    pictures = (1 - level * x if negative else level * x)[: 7 * steps]
    plotting.images(pictures, columns=7, title=kind)


kinds = ["plain", "broken", "other"]
widgets.explore(draw, level=(0.5, 1.0, 0.05), kind=kinds, steps=[1, 2, 3], negative=True)""",
    """from aecourse import data, zoo
from aecourse.widgets import explorer

test_x, test_y = data.digits("test", "embedded")
explorer.denoise(zoo.load("03-blind"), test_x, test_x, test_y)""",
    """networks = map(zoo.load, ("07-plane-ae", "07-plane-vae", "07-reader"))
explorer.plane(*networks, test_x, test_y)""",
    "explorer.q()",
]
SHOWN = """() => [...document.querySelectorAll(".widget-image")].map((image) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return image.offsetHeight ? canvas.toDataURL() : "";
}).join()"""
RECORD = """() => { window.pictures = []; window.moves = [];
    document.addEventListener("pointermove", () => moves.push(performance.now()), true);
    for (const image of document.querySelectorAll(".widget-image")) image.addEventListener("load",
        () => requestAnimationFrame(() => pictures.push(performance.now()))); }"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a JupyterLab that has one notebook, `lab.ipynb`."""
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=lessons.METADATA)
    nbformat.write(notebook, folder / "lab.ipynb")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = os.environ | {"JUPYTER_PATH": str(Path(sys.prefix, "share/jupyter"))}
    env |= {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_TOKEN": "token"}
    env |= {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
    env.pop("AECOURSE_CHECK_WIDGETS", None)
    command = [sys.executable, "-m", "jupyterlab", "--ip=localhost", f"--port={port}"]
    command += ["--no-browser", "--allow-root", "--LabApp.default_url=/lab/tree/lab.ipynb"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    for _ in range(600):
        try:
            urlopen(f"http://localhost:{port}/api?token=token").close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://localhost:{port}/lab/tree/lab.ipynb?reset&token=token"
    process.terminate()  # it ends its kernels
    process.wait(30)


@pytest.fixture(scope="module")
def lab(browser, server):
    """The notebook, every cell of it run. `lab.problems` lists errors of the page."""
    page = browser.new_page(viewport={"width": 1280, "height": 3600})  # all cells in sight
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    page.goto(server)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.locator(".jp-CodeCell .cm-content").first.click()
    for _ in CELLS:
        page.keyboard.press("Shift+Enter")
    page.locator(".widget-image").first.wait_for(timeout=60_000)
    page.locator(".explorer").nth(2).wait_for(timeout=60_000)
    yield page
    page.close()


@pytest.fixture(autouse=True)
def no_error(lab):
    yield
    assert lab.problems == []
    assert lab.locator('[data-mime-type*="stderr"], [data-mime-type*="error"]').count() == 0


def control(lab, name):
    """What takes the focus of the control with this label."""
    box = lab.locator(".widget-inline-hbox", has=lab.get_by_text(name, exact=True))
    return box.locator("select, input, .noUi-handle")


def wait_for_text(lab, text):
    lab.locator(".widget-html pre", has_text=text).wait_for(timeout=10_000)


def test_every_control_of_explore_changes_the_picture(lab):
    wait_for_text(lab, "0.5 plain 1 True")
    moves = [
        (lambda: control(lab, "level").press("End"), "1 plain 1 True"),
        (lambda: control(lab, "level").press("Home"), "0.5 plain 1 True"),
        (lambda: control(lab, "level").press("ArrowRight"), "0.55 plain 1 True"),
        (lambda: control(lab, "kind").select_option("other"), "0.55 other 1 True"),
        (lambda: control(lab, "steps").press("End"), "0.55 other 3 True"),
        (lambda: control(lab, "steps").press("ArrowDown"), "0.55 other 2 True"),
        (lambda: control(lab, "steps").press("Home"), "0.55 other 1 True"),
        (lambda: control(lab, "negative").uncheck(), "0.55 other 1 False"),
        (lambda: control(lab, "negative").check(), "0.55 other 1 True"),
        (lambda: lab.locator(".widget-button").click(), "0.5 plain 1 True"),
    ]
    for move, text in moves:
        before = lab.evaluate(SHOWN)
        move()
        wait_for_text(lab, text)
        lab.wait_for_function(f"(before) => ({SHOWN})() !== before", arg=before, timeout=10_000)


def test_an_error_of_explore_is_shown_and_the_next_value_is_drawn(lab):
    control(lab, "kind").select_option("broken")
    lab.get_by_text("ValueError: no <such> kind").wait_for(timeout=10_000)
    assert lab.evaluate(SHOWN) == ""
    control(lab, "kind").select_option("plain")
    wait_for_text(lab, "0.5 plain 1 True")
    lab.wait_for_function(f"() => ({SHOWN})() !== ''", timeout=10_000)


def test_explore_draws_while_a_slider_is_dragged_and_ends_at_the_newest_value(lab, capsys):
    handle = control(lab, "level")
    rail = lab.locator(".noUi-target").first.bounding_box()
    start = handle.bounding_box()
    lab.evaluate(RECORD)
    lab.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    lab.mouse.down()
    seconds = []
    for stop in list(range(1, 11)) + list(range(9, 0, -1)):
        lab.evaluate("() => { pictures.length = moves.length = 0 }")
        lab.mouse.move(rail["x"] + rail["width"] * stop / 10, rail["y"] + rail["height"] / 2)
        lab.wait_for_function("() => pictures.length", timeout=10_000, polling=5)
        seconds.append(lab.evaluate("() => (pictures[0] - moves[0]) / 1000"))
    for stop in range(101):  # faster than it can draw
        lab.mouse.move(rail["x"] + rail["width"] * stop / 100, rail["y"] + rail["height"] / 2)
    wait_for_text(lab, "1 plain 1 True")
    lab.mouse.up()
    median = statistics.median(seconds)
    with capsys.disabled():
        print(f"\nexplore, pointer to picture: median {1000 * median:.0f} ms", end=" ")
    assert median < 0.5  # 0.1 on two cores that do nothing else


@pytest.mark.parametrize("place", range(3))
def test_every_control_of_the_explorers_changes_the_pictures(lab, place, move_every_control):
    move_every_control(lab, lab.locator(".explorer").nth(place))

"""A browser, and a page of it that reaches nothing but files and this machine."""

import os
import re
import shutil

import pytest
from playwright.sync_api import Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOREIGN = re.compile(r"^(https?|wss?)://(?!(localhost|127\.0\.0\.1)[:/])")


# Not for the session: while Playwright runs, asyncio.run fails in this process.
@pytest.fixture(scope="module")
def browser():
    """Chromium, this system's or Playwright's own. Skips without one, but fails where CI=true."""
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            give_up(f"no browser; `apt-get install chromium` brings one: {error}")
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page. `page.problems` lists foreign requests and errors; the test fails if any is left."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page, problems = context.new_page(), []

    def refuse(route):
        problems.append(f"a request to {route.request.url}")
        route.abort()

    page.route(FOREIGN, refuse)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("console", lambda said: said.type == "error" and problems.append(said.text))
    page.problems = problems
    yield page
    context.close()
    assert problems == []


PICTURES = """async (root) => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return [...root.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL()).join();
}"""


@pytest.fixture
def move_every_control():
    """A function of a page and an explorer on it: it moves everything that can be moved.

    Sliders go to both ends, choices through all options, handles follow the pointer and the arrow
    keys, buttons are clicked, and each time the pictures have to change.
    """

    def move(page, root):
        if root.get_by_role("radio").first.is_enabled():
            root.get_by_role("radio").first.check()
        root.get_by_role("button", name="reset").click()
        for slider in root.get_by_role("slider").all():
            seen = {root.evaluate(PICTURES)}
            for key in ("Home", "End"):
                slider.press(key)
                seen.add(root.evaluate(PICTURES))
            assert len(seen) == 3, slider
        for select in root.get_by_role("combobox").all():
            seen = []
            for option in range(select.locator("option").count()):
                select.select_option(index=option)
                seen.append(root.evaluate(PICTURES))
            assert len(set(seen)) == len(seen), select
        for handle in root.get_by_role("application").all():
            handle.scroll_into_view_if_needed()
            box, seen = handle.bounding_box(), {root.evaluate(PICTURES)}
            for share in (0.02, 0.4, 0.98):
                page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.3 * box["height"])
                page.mouse.down()
                seen.add(root.evaluate(PICTURES))
                page.mouse.up()
            by_pointer = len(seen)
            assert by_pointer >= 3, handle
            for key in "Left Up Right Right Down Down".split():
                handle.press(f"Shift+Arrow{key}")
                seen.add(root.evaluate(PICTURES))
            assert len(seen) > by_pointer + 2, handle
        assert root.locator("tbody tr").count() >= 2, "the settings tried are kept"
        for button in root.get_by_role("button").all():  # the last one is `reset`
            before = root.evaluate(PICTURES)
            button.click()
            assert root.evaluate(PICTURES) != before, button
        assert "NaN" not in root.inner_text()

    return move

"""The explorers' JavaScript in a browser: its numbers are PyTorch's, and its controls work."""

import base64
import math

from aecourse import metrics
from aecourse.models import conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from aecourse.widgets import explorer

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

pytestmark = pytest.mark.slow
SHAPE = (1, 28, 28)
NETWORKS = {
    "plane": (lambda: mlp_decoder(2, [256, 256], SHAPE, norm=True), (2,)),
    "denoiser": (lambda: mlp_encoder(SHAPE, [256], 784), SHAPE),
    "encoder": (lambda: conv_encoder(SHAPE, [16, 32], 11), SHAPE),
    "decoder": (lambda: conv_decoder(20, [64, 32], (3, 28, 28)), (20,)),
}
# the largest difference from PyTorch, in units of the output's largest entry or 1
TOLERANCE = {"float32": 1e-5, "float16": 1e-3, "int8": 0.03}


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page()
    page.set_content("<main></main>")
    page.add_script_tag(content=explorer.CODE)
    yield page
    page.close()


def unpacked(name, made):
    """JavaScript that has what an explorer holds in a constant of this name."""
    weights = base64.b64encode(made.weights).decode()
    bytes_ = f"Uint8Array.from(atob('{weights}'), (c) => c.charCodeAt(0))"
    return f"const {name} = unpack({explorer.json.dumps(made.pack)}, {bytes_});"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_forward_pass_is_that_of_pytorch(name, dtype, page):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    network(torch.randn(64, *shape))  # batch normalization gets statistics that are not 0 and 1
    network.eval()
    x = torch.rand(1, *shape)
    with torch.no_grad():
        expected = network(x).flatten()
    made = explorer.Explorer("q", {}, {"it": (network, shape)}, dtype=dtype)
    run = f"""(x) => {{ {unpacked("data", made)}
        return [...forward(data.networks.it, Float32Array.from(x))] }}"""
    got = torch.tensor(page.evaluate(run, x.flatten().tolist()))
    assert (got - expected).abs().max() < TOLERANCE[dtype] * max(1, expected.abs().max())
    made.close()


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


REFUSED = {
    "no Softmax": nn.Sequential(nn.Conv2d(2, 2, 3), nn.Softmax(1)),
    "no GELU": nn.Sequential(nn.Conv2d(2, 2, 3), nn.GELU()),
    "no groups": nn.Conv2d(2, 2, 3, groups=2),
    "chains of layers": Residual(nn.Conv2d(2, 2, 3, padding=1)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_a_network_that_the_browser_cannot_run_is_refused(said):
    with pytest.raises(TypeError, match=said):
        explorer.Explorer("q", {}, {"it": (REFUSED[said], (2, 5, 5))})


def test_the_javascript_is_small():
    assert (
        sum(len(path.read_text("utf-8").splitlines()) for path in explorer.FOLDER.glob("*.js"))
        <= 400
    )


def test_psnr_is_that_of_the_metrics(page):
    a, b = torch.rand(2, 1, 784, generator=torch.Generator().manual_seed(0))
    run = "([a, b]) => psnr(Float32Array.from(a), Float32Array.from(b))"
    got = page.evaluate(run, [a[0].tolist(), b[0].tolist()])
    assert got == pytest.approx(metrics.psnr(a, b).item(), abs=1e-4)


@pytest.mark.parametrize("mean, width", [(0.0, 1.0), (1.2, 0.3), (-1.4, 0.15), (2.9, 0.05)])
def test_the_terms_of_the_bound_are_those_of_the_lesson(mean, width, page):
    z = torch.linspace(-8, 8, 32001, dtype=torch.float64)
    dz, q, prior = z[1] - z[0], Normal(mean, width), Normal(0.0, 1.0)
    log_likelihood = Normal(z**2 / 2, 0.25).log_prob(torch.tensor(1.0))
    evidence = ((prior.log_prob(z) + log_likelihood).exp().sum() * dz).log().item()
    weight = q.log_prob(z).exp() * dz
    kl = torch.distributions.kl_divergence(q, prior).item()
    reconstruction = (weight * log_likelihood).sum().item()
    got = page.evaluate(f"elboTerms({{ x: 1, noise: 0.25 }}, {mean}, {width})")
    assert got["kl"] == pytest.approx(kl, abs=1e-3)
    assert got["reconstruction"] == pytest.approx(reconstruction, abs=1e-3)
    assert got["evidence"] == pytest.approx(evidence, abs=1e-3)
    assert got["elbo"] == pytest.approx(reconstruction - kl, abs=2e-3)
    assert got["gap"] == pytest.approx(evidence - reconstruction + kl, abs=2e-3)


def test_the_blur_is_that_of_scipy(page):
    image = np.random.default_rng(0).random((28, 28)).astype("float32")
    matrix = explorer.ndimage.gaussian_filter1d(np.eye(28), 1.2, axis=0)
    run = "([x, m]) => [...blur(Float32Array.from(x), Float32Array.from(m))]"
    got = page.evaluate(run, [image.ravel().tolist(), matrix.ravel().tolist()])
    wanted = explorer.ndimage.gaussian_filter(image, 1.2)
    assert np.abs(np.reshape(got, (28, 28)) - wanted).max() < 1e-5


# -- the interfaces, on a page as the site has it ------------------------------------------------


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    """A page with all explorers, opened from a file; its errors are collected in `page.errors`."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "explorers").mkdir()
    (folder / "explorers.js").write_text(explorer.script(), "utf-8")
    divs = ""
    for name in explorer.NAMES:  # two of each kind
        (folder / "explorers" / f"{name}.js").write_text(explorer.data_script(name), "utf-8")
        divs += 2 * f'<div data-explorer="{name}"></div>'
    html = f'<!doctype html><meta charset="utf-8">{divs}<script src="explorers.js"></script>'
    (folder / "index.html").write_text(html, "utf-8")
    page = browser.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
    page.goto((folder / "index.html").as_uri())
    yield page
    page.close()


def predict(root):
    if root.get_by_role("radio").first.is_enabled():
        root.get_by_role("radio").first.check()


def open_explorer(site, name):
    root = site.locator(f'[data-explorer="{name}"]').first
    root.scroll_into_view_if_needed()
    root.locator("canvas").first.wait_for()
    return root


@pytest.mark.parametrize("name", explorer.NAMES)
def test_controls_wait_for_a_prediction_which_then_stands_beside_the_result(name, site):
    root = open_explorer(site, name)
    root.get_by_role("radio").first.wait_for()
    body = root.locator(".explorer > div")
    if not root.get_by_role("radio").first.is_checked():
        assert body.evaluate("(node) => node.inert")
    root.get_by_role("radio").nth(1).check()
    assert not body.evaluate("(node) => node.inert")
    assert "You predicted (b)" in body.inner_text()
    assert root.get_by_role("radio").nth(2).is_disabled(), "the first prediction counts"
    second = site.locator(f'[data-explorer="{name}"]').nth(1)
    second.get_by_role("radio").first.wait_for()
    assert not second.get_by_role("radio").nth(2).is_checked(), "each has its own prediction"


INK = """async (canvas) => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const copy = new OffscreenCanvas(28, 28).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, 28, 28);
  return data.filter((value, i) => i % 4 === 1 && value > 100).length;
}"""  # how many pixels of the pad are white


def test_a_fast_stroke_has_no_gaps_and_can_be_cleared(site):
    root = open_explorer(site, "denoise")
    predict(root)
    pad, amounts = root.get_by_role("application"), []
    for _ in range(2):
        root.get_by_role("combobox").select_option("empty paper")
        amounts.append(pad.evaluate(INK))
        box = pad.bounding_box()
        site.mouse.move(box["x"] + 20, box["y"] + 60)
        site.mouse.down()
        site.mouse.move(box["x"] + 100, box["y"] + 60)
        site.mouse.up()
        root.get_by_role("slider").focus()  # the pad marks the place of the pen while it has focus
        amounts.append(pad.evaluate(INK))
        root.get_by_role("slider").press("ArrowRight")
    first, drawn, again, drawn_again = amounts
    assert first == again == 0 and drawn == drawn_again >= 2 * 80 / 124 * 28


@pytest.mark.parametrize("name", explorer.NAMES)
def test_every_control_changes_the_pictures(name, site, move_every_control):
    move_every_control(site, open_explorer(site, name))
    assert not site.errors


@pytest.mark.parametrize("name", explorer.NAMES)
def test_the_picture_follows_the_pointer(name, site, record_property):
    """From the event of a pointer to the frame that shows its picture: median and 95 %."""
    root = open_explorer(site, name)
    predict(root)
    root.scroll_into_view_if_needed()
    times = root.get_by_role("application").first.evaluate(
        """async (canvas) => {
          const box = canvas.getBoundingClientRect();
          const times = [];
          for (let i = 0; i < 60; i++) {
            const [clientX, clientY] = [box.left + (box.width * i) / 60, box.top + box.height / 2];
            const start = performance.now();
            const event = { clientX, clientY, buttons: 1, pointerId: 1, bubbles: true };
            canvas.dispatchEvent(new PointerEvent("pointermove", event));
            await new Promise(requestAnimationFrame);
            times.push(performance.now() - start);
          }
          return times.sort((a, b) => a - b);
        }"""
    )
    median, late = times[30], times[57]
    record_property("ms", f"{name}: median {median:.1f}, 95 % {late:.1f}")
    print(f"{name}: pointer to picture, median {median:.1f} ms, 95 % {late:.1f} ms")
    assert median < 50 and late < 200 and not math.isnan(median)

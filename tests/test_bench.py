"""The benchmark: all contenders train one model and are judged by one judge, in turns; its figures are counted right."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch

from aecourse import __main__ as cli
from aecourse import bench, contenders, data, recipes
from aecourse.metrics import average_precision
from aecourse.models import VAE
from aecourse.recipes import dense
from aecourse.training import set_seed


def test_operations_are_those_of_a_count_by_hand():
    layers = [784 * 400, 400 * 40, 20 * 400, 400 * 784]
    forward, to_weights, to_inputs = sum(layers), sum(layers), sum(layers[1:])       # nobody asks for the image's gradient
    assert bench.operations() == 2 * (forward + to_weights + to_inputs)              # a multiplication and an addition


def test_with_the_same_weights_the_course_and_the_example_are_the_same_model():
    course, example = contenders.make(), contenders.Example()
    first, heads, back, out = (layer for layer in course.modules() if isinstance(layer, torch.nn.Linear))
    for ours, theirs in ((first, example.hidden), (back, example.back), (out, example.out)):
        theirs.load_state_dict(ours.state_dict())
    example.mu.load_state_dict({name: value[:20] for name, value in heads.state_dict().items()})
    example.logvar.load_state_dict({name: value[20:] for name, value in heads.state_dict().items()})
    x = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    set_seed(1)
    loss = contenders.elbo(course, x)
    set_seed(1)
    torch.testing.assert_close(example.loss(x) / 64, loss)
    before = torch.get_rng_state()
    assert contenders.nats(example, x) == pytest.approx(contenders.nats(course, x), rel=1e-5)
    assert contenders.nats(course, x) == pytest.approx(float(loss.detach()), rel=0.02), "another draw of the codes"
    assert torch.equal(torch.get_rng_state(), before) and example.training


class Fake:
    """A child that writes down what happens to it."""

    def __init__(self, name, events, answer=None):
        self.name, self.events, self.reply = name, events, answer

    def tell(self, ask=None):
        self.events.append(("tell", self.name, ask))

    def answer(self):
        self.events.append(("answer", self.name))
        return self.reply

    def turn(self, ask=None):
        self.tell(ask)
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_children_take_turns_in_order():
    events = []
    children = {name: Fake(name, events, name.upper()) for name in "ab"}
    answers = bench.interleave(children, [lambda name: name + "1", lambda name: name + "2"], "test")
    assert answers == {"a": ["A", "A"], "b": ["B", "B"]}
    assert [event[1:] for event in events if event[0] == "tell"] == [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")]
    assert [event[0] for event in events] == ["tell", "answer"] * 4, "one works at a time"


def test_two_at_once_are_told_before_either_is_waited_for(monkeypatch):
    events, made = [], []

    def child(job, *, ours, second, images):
        made.append((ours, second))
        return Fake(f"{ours:d}{second:d}", events, [100.])

    monkeypatch.setattr(bench, "Child", child)
    result = bench.measure_pair(bench.QUICK, None)
    assert result["ours"] == {"alone": [100], "both": [200], "ratio": 2}
    assert made == [(True, False), (True, True), (False, False), (False, True)]
    told = [" ".join(event[:2]) for event in events[-12:-6]]
    assert told == ["tell 10", "answer 10", "tell 10", "tell 11", "answer 10", "answer 11"]


def test_a_missing_peer_is_told_and_one_that_was_not_asked_for_is_not(capsys):
    assert bench.installed(["json", "not_here"], "all") == ["json"]
    told = 'not_here is not installed and is left out. To measure it too: pip install -e ".[bench]"\n'
    assert capsys.readouterr().out == told
    assert bench.installed(["json", "not_here"], "none") == [] and bench.installed(["json", "csv"], "csv") == ["csv"]
    assert capsys.readouterr().out == ""


def test_a_child_that_fails_says_why(capsys):
    with bench.Child("contend", contender="nobody", work=["strokes", 10, 1, ""]) as child:
        with pytest.raises(bench.ChildError, match="KeyError: 'nobody'"):
            bench.started({"a contender": child})
        assert bench.started({"a peer": child}, peers=["a peer"]) == {}
    assert "a peer does not run here and is left out: KeyError: 'nobody'" in capsys.readouterr().out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 1,000 embedded digits as bytes, as the contenders get them."""
    folder = tmp_path_factory.mktemp("digits")
    x, y = (part[:1000] for part in data.digits("train", "strokes"))
    np.save(folder / "x.npy", (x[:, 0] * 255).round().byte().numpy())
    np.save(folder / "y.npy", y.numpy())
    return folder


def test_the_loader_gives_the_digits_of_the_course(folder):
    loader = contenders._loader(contenders.Work("strokes", 1000, 1, str(folder)))
    x, y = (torch.cat(parts) for parts in zip(*loader))
    ours, labels = (part[:1000] for part in data.digits("train", "strokes"))
    torch.testing.assert_close(x[y == 3].sum(0), ours[labels == 3].sum(0))
    assert x.shape == ours.shape and loader.batch_size == contenders.BATCH


@pytest.mark.parametrize("name", ["aecourse fit", "bare loop", "PyTorch example"])
def test_a_contender_learns_and_tells_of_every_epoch(name, folder):
    set_seed(0)
    untrained, answers = contenders.nats(contenders.make(), data.digits("test", "strokes")[0][:200]), []
    contenders._contend(answers.append, name, contenders.Work("strokes", 1000, 3, str(folder)))
    ready, *epochs = answers
    assert ready is None and len(epochs) == 3 and min(epoch["seconds"] for epoch in epochs) > 0
    assert epochs[2]["loss"] < epochs[1]["loss"] < epochs[0]["loss"] < untrained and epochs[2]["loss"] < 0.7 * untrained


def test_training_against_time_ends_with_the_step_that_passes_it():
    batches = contenders._For([(torch.zeros(3),), (torch.zeros(2),)], seconds=0)
    assert [len(batch) for batch, in batches] == [3] and batches.rate > 0


def test_growth_is_measured_for_the_rows_that_are_asked_for():
    answers = []
    contenders._grow(lambda answer=None: answers.append(answer), n=300, d=6, latent=2, batch=100)
    assert answers[0] is None and answers[1] > 0


def test_methods_find_planted_outliers():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 12))

    def draw(n, frauds):
        x = rng.normal(size=(n, 4)) @ mix
        x[:frauds] = rng.normal(size=(frauds, 12)) * 4 * x.std()                      # off the plane, and wide
        return torch.from_numpy(x).float(), torch.arange(n).lt(frauds).long()

    (x, _), (x_valid, y_valid), (x_test, y_test) = draw(600, 0), draw(300, 10), draw(300, 10)
    rows = contenders.Rows(x, x_valid, y_valid, x_test)
    threads = torch.get_num_threads()
    for name, method in contenders.METHODS.items():
        if not name.startswith("PyOD"):
            assert average_precision(method(rows, 0, 5), y_test) > 0.8, name
    assert torch.get_num_threads() == threads


def growth():
    points = [bench.BASE | {key: value} for key, values in bench.GROWTH.items() for value in values]
    points = [point for i, point in enumerate(points) if point not in points[:i]]
    return [point | {"seconds": 1e-6 * point["n"] * point["d"] ** 0.5 / point["batch"], "memory": 7} for point in points]


def test_slopes_are_the_powers_that_the_time_grows_with():
    lines = bench.lines_of_growth(growth())
    assert {key: slope for key, (_, slope) in lines.items()} == pytest.approx({"n": 1, "d": 0.5, "latent": 0, "batch": -1})
    assert {key: [p[key] for p in line] for key, (line, _) in lines.items()} == bench.GROWTH


def test_the_command_writes_figures_a_page_and_a_picture_and_keeps_what_it_did_not_measure(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AECOURSE_DATA", raising=False)
    monkeypatch.setattr(bench, "CONTENDERS", {"aecourse fit": contenders.CONTENDERS["aecourse fit"]})    # one is enough
    on, fraud = bench.machine(), {"precision": [0.5, 0.7], "seconds": [3., 4.]}
    pair = {"alone": [10.], "both": [12.], "ratio": 1.2}
    other = {"growth": {"random numbers": {"on": on, "results": growth()}},
             "fraud": {"ulb": {"on": on, "results": {"lesson 05": fraud}}},
             "pair": {"random numbers": {"on": on, "results": {"ours": pair}}}}
    (tmp_path / "BENCHMARK.json").write_text(json.dumps(other))
    assert cli.main(["bench", "fit", "--quick", "--epochs", "2", "--peers", "none", "--out", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "BENCHMARK.json").read_text(encoding="utf-8"))
    assert {part: kept[part] for part in other} == other and kept["fit"]["strokes"]["on"]["torch"] == torch.__version__

    results = kept["fit"]["strokes"]["results"]
    (row,) = results["contenders"].values()
    assert len(row["seconds"]) == 2 and row["loss"][1] < row["loss"][0] and results["target"] == row["loss"][1]
    assert row["rate"] == pytest.approx(2000 / np.median(row["seconds"]), rel=1e-4)
    assert row["reached"] == pytest.approx(sum(row["seconds"]), rel=1e-4)
    rate = results["fractions"]["128"] * results["roof"] * 1e9 / bench.operations()
    assert rate == pytest.approx(results["rates"]["128"], rel=1e-4)
    assert list(results["rates"]) == ["128", "256", "512", "1024"], "no batch is larger than the data"

    page = (tmp_path / "BENCHMARK.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.endswith(page)
    for row in ("| aecourse fit | ", "| ours | 10 | 12 | 1.20 |", "| lesson 05 | 0.600 | 0.500 to 0.700 | 3.5 |",
                "An epoch's time grows as n to the power of 1.00", "| 1,000,000 | 0.0781 | 7 |"):
        assert row in page
    picture = ElementTree.fromstring((tmp_path / "BENCHMARK.svg").read_text(encoding="utf-8"))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    texts = "".join(picture.itertext())
    for text in ("aecourse fit", "Two at once: random numbers", "Frauds found: ulb", "time grows as n^1.00"):
        assert text in texts


def test_the_likelihood_of_a_trained_vae_is_kept_by_its_epochs(tmp_path, monkeypatch):
    monkeypatch.delenv("AECOURSE_DATA", raising=False)
    small = dense([20], 4, kind=VAE)
    monkeypatch.setitem(recipes.RECIPES, "best-vae", recipes.RECIPES["best-vae"]._replace(make=small))
    assert cli.main(["bench", "likelihood", "--quick", "--out", str(tmp_path)]) == 0
    (row,) = (entry["results"] for entry in json.loads((tmp_path / "BENCHMARK.json").read_text())["likelihood"].values())
    assert row["epochs"] == 1 and row["draws"] == 10 and row["seconds"] > 0
    assert 100 < row["nll"] < row["bound"] < 784 * np.log(2), "better than throwing coins; more draws, a tighter bound"
    page = (tmp_path / "BENCHMARK.md").read_text()
    assert "## The best VAE: strokes, 1 epochs" in page and f"| {row['bound']:,.2f} | {row['nll']:,.2f} |" in page
    recipes.train("best-vae", source="strokes", epochs=1, out=tmp_path / "runs", progress=False)
    assert cli.main(["bench", "likelihood", "--quick", "--model", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "BENCHMARK.json").read_text())["likelihood"]["strokes, 1 epochs"]["results"]
    assert again["nll"] == row["nll"], "the same seed, the same model"


def test_what_cannot_be_measured_or_kept_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "speed"])
    assert "the parts are fit, pair, fraud, growth, likelihood; got 'speed'" in capsys.readouterr().err
    assert cli.main(["bench", "fit", "--source", "nowhere", "--out", str(tmp_path)]) == 1
    assert "unknown source 'nowhere'" in capsys.readouterr().err
    (tmp_path / "BENCHMARK.json").write_text("{")
    assert cli.main(["bench", "pair", "--out", str(tmp_path)]) == 1
    assert "BENCHMARK.json is damaged" in capsys.readouterr().err

"""What each lesson trains, outside of its notebook: the lesson's own model and loss, resumed, streamed, opened again."""

import ast
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
import small_recipes
import torch
from PIL import Image

from aecourse import data, recipes, training
from aecourse.__main__ import main
from aecourse.data import Batches
from aecourse.data.faces import faces, parts
from aecourse.data.stored import Stored, keep
from aecourse.models import VAE

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"

# -- the lessons' own: model and loss as the notebook writes them, and the shape of one example ------------------------------------

LESSONS = {
    "00": ("Autoencoder(mlp_encoder(SHAPE, [256], 16), mlp_decoder(16, [256], SHAPE))", "reconstruct", (1, 28, 28)),
    "01": ("deep()", "reconstruct", (1, 28, 28)),
    "02": ("deep_autoencoder()", "reconstruct", (1, 28, 28)),
    "03": ("network(hidden=[1000])", "denoise", (1, 28, 28)),
    "04": ("network()", "sparse", (1, 14, 14)),
    "05": ("build(20, bent['hidden'], bent['code'], bent['squash'])", "copy", (20,)),
    "05 ulb": ("build(29, flat['hidden'], flat['code'], flat['squash'])", "copy", (29,)),
    "06": ("Codec()", "squeeze", (1, 28, 28)),
    "07": ("network(VAE, LATENT, HIDDEN)", "elbo", (1, 28, 28)),
    "08": ("new_vae()", "elbo", (3, 64, 64)),
    "09": ("AAE(face_encoder(LATENT), face_decoder(), new_critic(LATENT, 256))", "three_losses(normal)", (3, 32, 32)),
    "10": ("GAN(new_decoder(), conv_encoder(SHAPE, [24, 48, 96], 1, norm=False), LATENT)", "criticize, fool", (3, 32, 32)),
    "11": ("denoising_autoencoder()", "denoise", (1, 28, 28)),
    "12": ("Denoiser()", "denoise", (8000,)),
}
HOW = {                                                  # what the notebook says of batches, epochs and rates
    "00": ["epochs=15, lr=3e-3"],
    "01": ["trained(deep, train_x, 5)", "epochs, lr=8e-3, size=128"],
    "02": ["fit(deep, reconstruct, Batches(train_x, seed=SEED), 120_000 // len(train_x), lr=5e-3)"],
    "03": ["batches = Batches(train_x, seed=SEED)", "epochs=max(3, 1_000 // len(batches)), lr=1e-2"],
    "04": ["epochs=8, after_epoch=None", "Batches(x, seed=SEED), epochs, lr=1e-2"],
    "05": ['"lr": 5e-3', "epochs=20, members", "Batches(x, size=256"],
    "05 ulb": ['"lr": 3e-2'],
    "06": ["Batches(train_x, size=64, seed=SEED), epochs=5, lr=8e-3"],
    "07": ["x=some_x, epochs=6, lr=3e-3"],
    "08": ["passes=30_000", "Batches(x, size=32, seed=SEED), epochs=round(passes / len(x)), lr=5e-3"],
    "09": ["lrs=(4e-3, 2e-3, 1e-3), batches=face_batches, epochs=EPOCHS", "size=64, seed=SEED), round(30_000 / len(faces))"],
    "10": ["lr=2e-3, betas=(0.0, 0.9)", "batch_size=32", "num_samples=32 * 45", "epochs=9"],
    "11": ["fit(denoiser, denoise, pool, EPOCHS, lr=3e-3)", "EPOCHS = (1, 28, 28), 5"],
    "12": ["size=16, seed=SEED)", "epochs=12 if RECORDED else 4, lr=3e-3"],
}


def definitions(lesson, **names):
    """What a notebook imports and defines at the top level of its cells, but for what it computes; and its source."""
    book = nbformat.read(next(NOTEBOOKS.glob(f"{lesson}_*.ipynb")), as_version=4)
    source = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    for node in ast.parse(source).body:
        simple = isinstance(node, ast.Assign) and all(
            isinstance(part, (ast.Assign, ast.Name, ast.Tuple, ast.List, ast.Dict, ast.Constant, ast.Load, ast.Store,
                              ast.UnaryOp, ast.USub)) for part in ast.walk(node))
        if simple or isinstance(node, (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)):
            try:
                exec(compile(ast.Module([node], []), "notebook", "exec"), names)
            except NameError:                            # of something that is computed: not needed here
                pass
    return names, source


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_recipe_is_the_lessons_own(lesson, monkeypatch):
    model, loss, shape = LESSONS[lesson]
    names, source = definitions(lesson[:2], SHAPE=shape, UNITS=400)              # as computed from the data
    recipe = recipes.RECIPES[lesson[:2]]
    noise = {kind: torch.randn(12_000) for kind in data.NOISE_KINDS}
    monkeypatch.setattr(data, "noises", lambda split, source: noise)
    names |= {"train_noise": noise}
    torch.manual_seed(0)
    theirs, ours = eval(model, names), recipe.make(shape)
    ours.load_state_dict(theirs.state_dict(), strict=lesson != "10")             # 10: the averaged generator is ours alone
    assert lesson == "10" or str(ours) == str(theirs)
    recipes._checked_plan({"lesson": lesson, "source": "strokes", "shape": list(shape)})
    theirs.gentle = 8                                                            # lesson 10: rows for the penalty, of 32
    batch = [torch.rand(32, *shape)] + [torch.randint(1000, 6000, (32,))] * (lesson == "12")
    updates = recipe.updates(ours, 1e-3, None)
    for update, other in zip(updates, found if isinstance(found := eval(loss, names), tuple) else (found,), strict=True):
        values = []
        for model, one in ((ours, update.loss), (theirs, other)):
            torch.manual_seed(1)
            value = one(model.train(), *batch)
            values.append(value if isinstance(value, dict) else {"loss": value})
        assert values[0].keys() == values[1].keys()
        for name, value in values[0].items():
            torch.testing.assert_close(value, values[1][name], rtol=1e-5, atol=1e-5)
    assert [text for text in HOW[lesson] if text not in source] == []            # else the recipe may have to change as well


def test_lessons_without_a_model_of_their_own_are_refused(capsys):
    assert recipes.find("7") == recipes.find("07_latent_spaces_to_vae") == ("07", recipes.RECIPES["07"])
    for lesson in ("13", "99", "x"):
        assert main(["train", lesson]) == 1 and "there is no recipe" in capsys.readouterr().err


# -- training --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(home, monkeypatch, tmp_path):
    """All recipes with little data, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "RECIPES", dict(recipes.RECIPES))
    monkeypatch.setattr(Batches, "set_epoch", Batches.set_epoch)
    small_recipes.shrink()


def train(lesson="07", **how):
    return recipes.train(lesson, device="cpu", progress=False, **how)


def weights(path):
    return torch.load(path / "checkpoint.pt", weights_only=True)["model"]


def same_weights(a, b):
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_the_command_trains_logs_and_says_how_to_open_it(small, capsys):
    options = ["--device", "cpu", "--epochs", "2", "--batch-size", "50", "--lr", "0.001", "--seed", "3"]
    assert main(["train", "7", *options]) == 0
    assert 'recipes.trained("7")' in capsys.readouterr().out
    lines = [json.loads(line) for line in Path("runs/07/log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert set(lines[0]) == {"epoch", "elbo", "recon", "kl", "valid elbo", "valid recon", "valid kl", "seconds"}
    assert lines[1]["valid recon"] < lines[0]["valid recon"]
    plan = json.loads(Path("runs/07/recipe.json").read_text())
    assert plan == {"lesson": "07", "source": "strokes", "examples": 211, "shape": [1, 28, 28], "epochs": 2,
                    "batch size": 50, "lr": 0.001, "seed": 3}


def test_it_goes_on_where_it_stopped_and_ends_as_if_it_had_not(small, tmp_path, capsys):
    whole = train(out="whole")
    plain = Batches.set_epoch
    small_recipes.stopping(1, small_recipes.interrupt)
    assert len(train(out="stopped").seconds) == 1 and "Interrupted" in capsys.readouterr().out
    Batches.set_epoch = plain
    Path("stopped/log.jsonl").write_text("a line of an epoch that no checkpoint has\n")
    assert dict(train(out="stopped")) == dict(whole) and same_weights(tmp_path / "whole", tmp_path / "stopped")
    assert len(Path("stopped/log.jsonl").read_text().splitlines()) == 3
    assert dict(train(out="stopped")) == dict(whole)                             # finished: nothing is left to do


@pytest.mark.parametrize("how, says", [({"epochs": 4}, "epochs 3 there, 4 here"), ({"lr": 1e-4}, "lr 0.003 there"),
                                       ({"seed": 1}, "seed 0 there, 1 here"), ({"size": 32}, "batch size 64 there"),
                                       ({"source": "mnist"}, "source strokes there, mnist here"),
                                       ({"lesson": "00"}, "lesson 07 there, 00 here")])
def test_another_recipe_is_refused(small, how, says):
    train(out="run")
    before = Path("run/checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=says):
        train(**{"lesson": "07", "out": "run"} | how)
    assert Path("run/checkpoint.pt").read_bytes() == before


def test_a_last_batch_of_one_example_is_left_out(small):
    assert train(size=210, epochs=1)                                             # 211 rows; batch normalization would raise
    assert json.loads(Path("runs/07/recipe.json").read_text())["examples"] == 210


def test_mixed_precision_multiplies_in_bfloat16_and_keeps_float32(small, tmp_path):
    rounded = []

    def spy(model, x):
        with torch.no_grad():
            y = model.encoder[2](x.flatten(1))
        rounded.append(torch.equal(y, y.bfloat16().float()) and y.dtype == torch.float32)
        return recipes.elbo(model, x)

    recipes.RECIPES["07"] = recipes.RECIPES["07"]._replace(updates=recipes.minimize(spy))
    full = train(out="full")
    assert not any(rounded)
    rounded.clear()
    mixed = train(out="mixed", amp=True)
    assert rounded and all(rounded)
    assert full["valid spy"] != mixed["valid spy"] and mixed["valid spy"] == pytest.approx(full["valid spy"], rel=0.02)
    assert {value.dtype for value in weights(tmp_path / "mixed").values()} == {torch.float32, torch.int64}


# -- opened in a lesson ----------------------------------------------------------------------------------------------------------


def test_a_trained_model_opens_here_and_from_the_folder_of_notebooks(small, monkeypatch):
    train()
    state = torch.get_rng_state()
    model = recipes.trained("07")
    assert isinstance(model, VAE) and not model.training and torch.equal(torch.get_rng_state(), state)
    x = torch.rand(2, 1, 28, 28)
    Path("notebooks").mkdir()
    monkeypatch.chdir("notebooks")
    assert torch.equal(recipes.trained("07_latent_spaces_to_vae").reconstruct(x), model.reconstruct(x))


def test_a_model_that_is_not_there_or_not_this_one_is_told(small, tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m aecourse train 07 first"):
        recipes.trained("07")
    train("05", out="run")
    with pytest.raises(ValueError, match="of lesson 05, not of 07"):
        recipes.trained("07", "run")
    Path("run/checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(ValueError, match="cannot be read"):
        recipes.trained("05", "run")


# -- from disk -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lesson", ["05", "07", "09"])
def test_streamed_training_gives_the_same_numbers(small, tmp_path, lesson):
    memory, disk = train(lesson, out="memory"), train(lesson, out="disk", stream=True, workers=lesson == "07")
    assert dict(memory) == dict(disk) and same_weights(tmp_path / "memory", tmp_path / "disk")


def test_a_run_goes_on_from_disk(small, tmp_path):
    whole, plain = train(out="whole"), Batches.set_epoch
    small_recipes.stopping(1, small_recipes.interrupt)
    train(out="stopped")
    Batches.set_epoch = plain
    assert dict(train(out="stopped", stream=True)) == dict(whole)


def test_rows_on_disk_arrive_whole_or_not_at_all(home):
    def broken():
        yield (torch.rand(3, 2),)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep("rows", broken())
    with pytest.raises(ValueError, match="NaN or infinity in rows 3 to 5"):
        keep("rows", iter([(torch.rand(3, 2),), (torch.full((2, 2), torch.nan),)]))
    with pytest.raises(ValueError, match="no rows"):
        keep("rows", iter([]))
    assert list((home / "cache").iterdir()) == []
    x, y = torch.rand(5, 2), torch.arange(5)
    folder = keep("rows", zip(x.split(2), y.split(2)))
    assert keep("rows", broken()) == folder                                      # it is there: nothing is read again
    memory, disk = Batches(x, y, size=2, seed=4), Stored(folder, view=recipes.as_stored, size=2, seed=4)
    for epoch in range(2):
        memory.set_epoch(epoch), disk.set_epoch(epoch)
        for a, b in zip(memory, disk, strict=True):
            assert all(map(torch.equal, a, b))
    assert memory.recipe == disk.recipe and len(memory) == len(disk) == 3
    (folder / "0.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="0.bin is cut off"):
        Stored(folder, view=recipes.as_stored)


def test_a_folder_of_images_is_read_part_by_part(home, tmp_path):
    for i in range(30):
        Image.new("RGB", (20 + i, 24), (8 * i, 100, 255 - 8 * i)).save(tmp_path / f"{i}.png")
    for split in ("train", "test"):
        x = torch.cat(list(some := list(parts(split, tmp_path, size=16, rows=7))))
        assert max(map(len, some)) <= 7 and torch.equal(x.float() / 255, faces(split, tmp_path, size=16)[0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory that a process may write to")
def test_data_larger_than_the_memory_is_trained_on(tmp_path):
    """74 MB of pixels and 295 MB as floats, where 250 MB may be added to what Python and PyTorch take: by streaming alone."""
    script = textwrap.dedent("""
        import sys, torch, aecourse
        from resource import RLIMIT_DATA, setrlimit
        from aecourse import recipes
        torch.set_num_threads(1)
        def rows(split, source):
            for _ in range(60 if split == "train" else 1):
                yield (torch.randint(256, (100, 3, 64, 64), dtype=torch.uint8),)
        recipes.RECIPES["wide"] = recipes.Recipe("faces", rows, recipes.pixels, recipes.dense([], 2),
                                                 recipes.minimize(recipes.reconstruct), 1e-3, 1)
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])       # its import takes memory of its own
        used = 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1])
        setrlimit(RLIMIT_DATA, (used + 250_000_000,) * 2)
        print(recipes.train("wide", device="cpu", size=100, progress=False, stream=sys.argv[1] == "disk"))
    """)
    for how, fine in (("disk", True), ("memory", False)):
        env = os.environ | {"AECOURSE_DATA_DIR": str(tmp_path), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        done = subprocess.run([sys.executable, "-c", script, how], cwd=tmp_path, env=env, capture_output=True, text=True,
                              timeout=120)
        assert (done.returncode == 0) == fine, done.stdout + done.stderr
        assert "History(1 epochs" in done.stdout if fine else "memory" in done.stderr.lower(), done.stdout + done.stderr


def test_a_long_epoch_is_logged_whole():
    """The log keeps its numbers in blocks: more than two of them, each example counted once, the lost batch named."""
    log, values = training._Log(), torch.arange(2500.0)
    sizes = 1 + torch.arange(2500) % 3
    for value, size in zip(values, sizes.tolist()):
        log.add(size, {"loss": value})
    assert log.means(0)["loss"] == pytest.approx(float((values * sizes).sum() / sizes.sum()))
    assert log.latest(0) == "epoch 1, loss 2499"
    log.add(1, {"loss": torch.tensor(torch.nan)})
    with pytest.raises(FloatingPointError, match="batch 2501"):
        log.means(0)

"""Faces: the factors do what they say; photographs are read, split and refused as promised."""

import shutil
import sys
import tarfile
import tracemalloc
from pathlib import Path

from aecourse.data import FACTORS, DataError, draw_faces, faces, portrait, store

import numpy as np
import pytest
import torch
from PIL import Image

module = sys.modules["aecourse.data.faces"]
ARCHIVE = store.find("lfw_one_per_person.tar")  # of the real photographs
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize("memmap", ["", "1"])
def test_embedded_set(home, monkeypatch, capsys, memmap):
    monkeypatch.setenv("AECOURSE_MEMMAP", memmap)
    monkeypatch.setattr(module, "_DRAWN", {"train": 40, "test": 12})
    x, factors = faces()
    assert x.shape == (40, 3, 64, 64) and x.dtype == (torch.uint8 if memmap else torch.float32)
    assert set(factors) == set(FACTORS) and len(FACTORS) >= 12
    assert all(v.shape == (40,) and v.dtype == torch.float32 for v in factors.values())
    assert "faces: drawn, 40 painted portraits with 34 known factors" in capsys.readouterr().out
    some, of_some = faces("train", "drawn", n=np.int64(7))
    assert torch.equal(some, x[:7]) and torch.equal(of_some["smile"], factors["smile"][:7])
    assert memmap or some.untyped_storage().nbytes() == some.nbytes, "n takes the memory of n"
    again = draw_faces({name: values[:7] for name, values in factors.items()})
    assert torch.equal(again, some.float() / 255 if memmap else some)
    assert faces("test", size=32, n=100)[0].shape == (12, 3, 32, 32)
    x = draw_faces({"smile": torch.tensor([0.0, 1.0]), "skin": [0.1, 0.9], "glasses": True}, size=9)
    assert x.shape == (2, 3, 9, 9) and draw_faces({}).shape == (1, 3, 64, 64)


def test_wrong_arguments_are_refused(home):
    wrong = ("split", "valid"), ("source", "lwf"), ("size", 0), ("size", 9.0), ("n", 0), ("n", 2.5)
    for name, value in wrong:
        with pytest.raises(ValueError, match=f"{name}.*{value}"):
            faces(**{name: value})
    wrong = ("smlie", 1), ("nod", 2), ("nod", np.nan), ("hair_style", 0.5), ("nod", [0, 1, 0])
    for name, value in (*wrong, ("nod", [[0, 1]])):
        with pytest.raises(ValueError, match=f"unknown factor '{name}|{name} has to be|of one n"):
            draw_faces({name: value, "turn": [0, 1]})


def test_portraits_are_the_same_on_every_machine_and_in_every_batch():
    factors = portrait.sample(200, np.random.default_rng(5))
    state, x = torch.get_rng_state(), portrait.render(factors)
    backwards = portrait.render({name: v[::-1] for name, v in factors.items()}, chunk=7)[::-1]
    assert np.array_equal(x, backwards) and torch.equal(torch.get_rng_state(), state)
    quarters = x.reshape(200, 3, 2, 32, 2, 32).mean((0, 1, 3, 5))  # in levels of 255
    assert np.abs(quarters - [[106.43, 107.521], [96.791, 97.656]]).max() < 0.01


def test_factors_are_in_range_and_independent():
    factors = portrait.sample(10_000, np.random.default_rng(0))
    for name, values in factors.items():
        low, high, _, neutral, _ = FACTORS[name]
        assert low <= values.min() and values.max() <= high and low <= neutral <= high, name
    correlation = np.corrcoef(np.stack(list(factors.values())))
    assert np.abs(correlation - np.eye(len(factors))).max() < 0.05


UPPER = "eye_color eye_size eye_distance gaze glasses brow_height brow_angle fringe parting".split()
LOWER = "nose mouth_width lips mouth_open smile beard clothes jaw".split()


@pytest.mark.parametrize("name", FACTORS)
def test_each_factor_changes_the_image_where_it_should(name):
    end = 0.5 if name in ("background", "strands") else FACTORS[name].high  # their ends are alike
    change = (draw_faces({name: end}) - draw_faces({name: FACTORS[name].low})).abs().sum((0, 1))
    assert change.max() > 0.07 and change.mean() > 0.002
    assert change[:40].sum() > 0.9 * change.sum() or name not in UPPER
    assert change[20:].sum() > 0.9 * change.sum() or name not in LOWER


def save(path, color=RED, size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def both(source, size=8):
    return [faces(split, source, size=size)[0] for split in ("train", "test")]


@pytest.fixture
def photos(home, tmp_path):
    """A folder of 20 red images in two classes."""
    return [save(tmp_path / "photos" / "ab"[k % 2] / f"{k}.png") for k in range(20)][0].parents[1]


def test_a_folder_is_split_by_a_hash_and_read_again_when_it_changes(photos, monkeypatch):
    monkeypatch.setenv("AECOURSE_DATA", str(photos))
    train, test = both(None)
    assert len(train) + len(test) == 20 and 0 < len(test) < 10 and train.shape[1:] == (3, 8, 8)
    assert (train[:, 0] == 1).all() and not train[:, 1:].any(), "red"
    save(photos / "a" / "0.png", BLUE)
    assert sum(x[:, 2].sum() for x in both(photos)) == 64


CLEAR = Image.new("P", (9, 9))
CLEAR.info["transparency"] = 0
GRAY = Image.fromarray(np.full((9, 9), 128 * 257, np.uint16))
KINDS = [(kind, Image.new("RGB", (9, 9), RED), RED) for kind in "JPG Bmp gif TIFF webp ppm".split()]
KINDS += [("png", Image.new(mode, (9, 9)), WHITE) for mode in ("RGBA", "LA")]  # transparent
KINDS += [("png", CLEAR, WHITE), ("tif", Image.new("CMYK", (9, 9), (0, 255, 255, 0)), RED)]
KINDS += [(kind, GRAY, (128, 128, 128)) for kind in ("png", "tif", "pgm")]


@pytest.mark.parametrize("suffix, image, color", KINDS)
def test_images_look_as_in_a_viewer(home, tmp_path, suffix, image, color):
    for name in "ab":
        image.save(tmp_path / f"{name}.{suffix}")
    x = torch.cat(both(tmp_path)) * 255
    assert (x - torch.tensor(color).view(3, 1, 1)).abs().max() < 5


def test_photos_with_an_exif_orientation_stand_upright(photos):
    exif, image = Image.Exif(), Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90)
    exif[274] = 6  # the camera was turned
    for path in photos.rglob("*.png"):
        image.save(path, exif=exif)
    assert all((x[:, :, 7] > x[:, :, 0] + 0.5).all() for x in both(photos))


def test_what_is_left_out_is_said_with_the_reason(photos, monkeypatch, capsys):
    for name in (".ipynb_checkpoints/0.png", "__MACOSX/a/._1.png", "a/._2.png", "notes.txt"):
        save(photos / name, format="PNG")
    (photos / "a" / "cut.png").write_bytes((photos / "a" / "0.png").read_bytes()[:-30])
    (photos / "phone.HEIC").write_bytes(b"a format that Pillow does not read")
    save(photos / "huge.bmp", size=(200, 200))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    for _ in range(2):  # said again when it comes from the cache
        assert sum(map(len, both(photos))) == 20
        out = capsys.readouterr().out
        assert "1 of another kind (.txt)" in out and "2 hidden" in out and "'cut.png': " in out
        assert "'phone.HEIC': cannot identify" in out and "'huge.bmp': Image size" in out


def test_symlinked_class_folders_are_followed_once(photos):
    for link in (photos / "b" / "1", photos / "b" / "2", photos / "a" / "loop"):
        link.symlink_to(photos / "a", target_is_directory=True)
    assert sum(map(len, both(photos / "b"))) == 20


@pytest.mark.parametrize("folders", ["train test val", "Train Valid other", "a/training a/TEST b"])
def test_a_given_division_is_respected(home, tmp_path, folders):
    for folder, count in zip(folders.split(), (5, 3, 2)):
        [save(tmp_path / "p" / folder / f"{k}.jpg") for k in range(count)]
    assert [len(x) for x in both(tmp_path / "p")] == [5, 3]


def test_few_photos_are_in_both_splits_or_refused(home, tmp_path):
    with pytest.raises(ValueError, match="1.jpg is alone; 2 are needed"):
        both(save(tmp_path / "p" / "1.jpg").parent)
    for name in "23":
        assert all(map(len, both(save(tmp_path / "p" / f"{name}.jpg").parent)))


def test_folders_without_readable_images_are_refused(photos):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match="no readable image .*png: cannot identify"):
        both(photos)
    with pytest.raises(ValueError, match="no folder with images"):
        both(path)


@pytest.mark.parametrize("kaggle", [False, True])
def test_celeba_has_its_attributes_and_partition(home, tmp_path, monkeypatch, kaggle):
    source = tmp_path / "celeba-dataset" if kaggle else "celeba"
    root, folder = home / source, "img_align_celeba/" * (1 + kaggle)
    names = [save(root / folder / f"{k:06}.jpg").name for k in range(12)]
    attributes = ["image_id A B"] if kaggle else ["12", "A B"]
    attributes += [f"{name} {(-1) ** k} -1" for k, name in enumerate(names)]
    partition = ["image_id partition"] * kaggle
    partition += [f"{name} {part}" for name, part in zip(names, "000000001222")]
    for stem, lines in (("attr_celeba", attributes), ("eval_partition", partition)):
        path = root / f"list_{stem}.{'csv' if kaggle else 'txt'}"
        path.write_text("\n".join(lines).replace(" ", "," if kaggle else "  "))
    x, factors = faces("train", source)
    assert len(x) == 8 and list(factors) == ["A", "B"] and not factors["B"].any()
    assert factors["A"].tolist() == [1, 0] * 4 and len(faces("test", source)[0]) == 3
    monkeypatch.setattr(module, "_CELEBA_KEPT", 6)
    assert len(faces("train", source)[0]) == 4, "every second one"
    path.write_text("000000.jpg what")
    with pytest.raises(DataError, match="list_eval_partition.* is no list of CelebA"):
        faces("train", source)


def test_lfw_keeps_people_apart_and_names_a_damaged_archive(home):
    path = save(home / "x.png").with_name("lfw_one_per_person.tar")
    with tarfile.open(path, "w") as tar:
        for k in range(40):
            tar.add(save(home / "x.png", (12 * (k // 2), 0, 0)), f"lfw/P{k // 2}/{k}.png")
    train, test = (set(x[:, 0].mean((1, 2)).tolist()) for x in both("lfw"))
    assert len(train) + len(test) == 20 and not train & test and 0 < len(test) < 10
    shutil.rmtree(home / "lfw_home")
    path.write_bytes(path.read_bytes()[:9_900])
    with pytest.raises(DataError, match=f"found: {path}"):
        both("lfw")


def test_photographs_are_downloaded_or_the_error_says_what_to_put_where(home, monkeypatch):
    loaders = {"lfw": "sklearn.datasets.fetch_lfw_people", "celeba": "torchvision.datasets.CelebA"}
    for source, loader in loaders.items():
        monkeypatch.setattr(loader, lambda *_, **__: 1 / 0)
        with pytest.raises(DataError, match="(?s)division by zero.*put .*source='embedded'"):
            faces("train", source)
    assert not list(home.iterdir())

    def fetch(data_home, **_):
        return [save(Path(data_home, "lfw_home", f"P{k}", "1.jpg")) for k in range(20)]

    monkeypatch.setattr(loaders["lfw"], fetch)
    assert sum(map(len, both("lfw"))) == 20


def test_a_set_larger_than_memory_is_written_and_read_in_parts(photos, monkeypatch):
    monkeypatch.setenv("AECOURSE_MEMMAP", "1")
    tracemalloc.start()
    x = both(photos, size=512)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert x.dtype == torch.uint8 and x.nbytes > 2 * peak and x[0].any()
    x[0] = 0  # in memory: the file stays as it is
    assert both(photos, size=512)[0][0].any()


def test_a_cache_that_is_damaged_or_cannot_be_written(photos, home, monkeypatch, capsys):
    x = both(photos)[0]
    for path in (home / "cache").iterdir():
        path.write_bytes(b"{}")
    assert torch.equal(both(photos)[0], x)
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(photos / "a" / "0.png"))
    assert torch.equal(both(photos)[0], x) and "could not be kept" in capsys.readouterr().out


@pytest.mark.skipif(not ARCHIVE, reason="AECOURSE_MIRROR holds no lfw_one_per_person.tar")
def test_the_real_lfw(home, monkeypatch):
    monkeypatch.setenv("AECOURSE_MIRROR", str(ARCHIVE.parent))
    train, test = both("lfw", size=64)
    assert len(train) + len(test) == 5749 and 0.14 < len(test) / 5749 < 0.19
    assert train[..., 22:27, 18:26].mean() < train[..., 32:38, 16:24].mean() - 0.05, "eyes, cheeks"

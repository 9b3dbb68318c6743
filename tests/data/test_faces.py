"""Faces: the factors do what they say; photographs are read, split and refused as promised."""

import shutil
import sys
from pathlib import Path

from aecourse.data import FACTORS, DataError, draw_faces, faces, portrait, store

import numpy as np
import pytest
import torch
from PIL import Image

module = sys.modules["aecourse.data.faces"]
ARCHIVE = store.find("lfw_one_per_person.tar")  # of the real photographs


def test_embedded_set(home, monkeypatch, capsys):
    monkeypatch.setattr(module, "_DRAWN", {"train": 40, "test": 12})
    x, factors = faces()
    assert "faces: drawn, 40 painted portraits with 34 known factors" in capsys.readouterr().out
    assert x.shape == (40, 3, 64, 64) and x.dtype == torch.float32
    assert factors.keys() == FACTORS.keys() and torch.equal(draw_faces(factors), x)
    assert all(v.shape == (40,) and v.dtype == torch.float32 for v in factors.values())
    some, of_some = faces("train", "drawn", n=np.int64(7))
    assert torch.equal(some, x[:7]) and torch.equal(of_some["smile"], factors["smile"][:7])
    assert some.untyped_storage().nbytes() == some.nbytes, "n takes the memory of n"
    assert faces("test", size=32, n=100)[0].shape == (12, 3, 32, 32)
    x = draw_faces({"smile": torch.tensor([0.0, 1.0]), "skin": [0.1, 0.9], "glasses": True}, size=9)
    assert x.shape == (2, 3, 9, 9) and draw_faces({}).shape == (1, 3, 64, 64)


def test_wrong_arguments_are_refused(home):
    for name, value in ("split", "valid"), ("source", "lwf"), ("size", 0), ("size", 9.0), ("n", 0):
        with pytest.raises(ValueError, match=f"{name}.*{value}"):
            faces(**{name: value})
    wrong = ("smlie", 1), ("nod", 2), ("nod", np.nan), ("hair_style", 0.5), ("nod", [0, 1, 0])
    for name, value in (*wrong, ("nod", [[0, 1]])):
        with pytest.raises(ValueError, match=f"unknown factor '{name}|{name} has to be|of one n"):
            draw_faces({name: value, "turn": [0, 1]})


def test_factors_are_independent_and_painted_the_same_on_every_machine_in_every_batch():
    factors = portrait.sample(10_000, np.random.default_rng(0))
    for name, values in factors.items():
        low, high, _, neutral, _ = FACTORS[name]
        assert low <= values.min() and values.max() <= high and low <= neutral <= high, name
    correlation = np.corrcoef(np.stack(list(factors.values())))
    assert np.abs(correlation - np.eye(len(factors))).max() < 0.05
    factors = portrait.sample(200, np.random.default_rng(5))
    state, x = torch.get_rng_state(), portrait.render(factors)
    backwards = portrait.render({name: v[::-1] for name, v in factors.items()}, chunk=7)[::-1]
    assert np.array_equal(x, backwards) and torch.equal(torch.get_rng_state(), state)
    quarters = x.reshape(200, 3, 2, 32, 2, 32).mean((0, 1, 3, 5))  # in levels of 255
    assert np.abs(quarters - [[106.43, 107.521], [96.791, 97.656]]).max() < 0.01


UPPER = "eye_color eye_size eye_distance gaze glasses brow_height brow_angle fringe parting".split()
LOWER = "nose mouth_width lips mouth_open smile beard clothes jaw".split()


@pytest.mark.parametrize("name", FACTORS)
def test_each_factor_changes_the_image_where_it_should(name):
    end = 0.5 if name in ("background", "strands") else FACTORS[name].high  # their ends are alike
    change = (draw_faces({name: end}) - draw_faces({name: FACTORS[name].low})).abs().sum((0, 1))
    assert change.max() > 0.07 and change.mean() > 0.002
    assert change[:40].sum() > 0.9 * change.sum() or name not in UPPER
    assert change[20:].sum() > 0.9 * change.sum() or name not in LOWER


def save(path, color="red", size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def both(source, size=8):
    return [faces(split, source, size=size)[0] for split in ("train", "test")]


@pytest.fixture
def photos(home, tmp_path):
    """A folder of 20 red images in two classes."""
    return [save(tmp_path / "photos" / "ab"[k % 2] / f"{k}.png") for k in range(20)][0].parents[1]


def test_folder_is_split_by_a_hash_and_read_again_when_changed(photos, home, monkeypatch, capsys):
    monkeypatch.setenv("AECOURSE_DATA", str(photos))
    train, test = both(None)
    assert len(train) + len(test) == 20 and 0 < len(test) < 10 and train.shape[1:] == (3, 8, 8)
    assert (train[:, 0] == 1).all() and not train[:, 1:].any(), "red"
    for path in (home / "cache").iterdir():
        path.write_bytes(b"{}")  # damaged
    assert torch.equal(both(photos)[0], train)
    blue = save(photos / "a" / "0.png", "blue")
    assert sum(x[:, 2].sum() for x in both(photos)) == 64
    monkeypatch.setenv("AECOURSE_DATA_DIR", str(blue))  # no folder: nothing can be written
    assert sum(x[:, 2].sum() for x in both(photos)) == 64
    assert "could not be kept" in capsys.readouterr().out


def test_linked_class_folders_are_read_once(photos):
    for link in ("b/1", "b/2", "a/loop"):
        (photos / link).symlink_to(photos / "a", target_is_directory=True)
    assert sum(map(len, both(photos / "b"))) == 20


RED, WHITE, GRAY = (255, 0, 0), (255, 255, 255), (128, 128, 128)
CLEAR, TURNED = Image.new("P", (9, 9)), Image.linear_gradient("L").transpose(Image.ROTATE_90)
CLEAR.info["transparency"], TURNED.getexif()[274] = 0, 6  # 6: the camera was turned
DEEP = Image.fromarray(np.full((9, 9), 128 * 257, np.uint16))
KINDS = [(k, Image.new("RGB", (9, 9), "red"), RED) for k in "JPG Bmp gif TIFF webp ppm".split()]
KINDS += [("png", Image.new(mode, (9, 9)), WHITE) for mode in ("RGBA", "LA")]  # transparent
KINDS += [("png", CLEAR, WHITE), ("tif", Image.new("CMYK", (9, 9), (0, 255, 255, 0)), RED)]
KINDS += [(kind, DEEP, GRAY) for kind in ("png", "tif", "pgm")]
KINDS += [(kind, TURNED, [*range(16, 256, 32)] * 3) for kind in ("jpg", "png", "webp")]


@pytest.mark.parametrize("suffix, image, shown", KINDS)
def test_images_look_as_in_a_viewer(home, tmp_path, suffix, image, shown):
    for name in "ab":
        image.save(tmp_path / f"{name}.{suffix}", exif=image.getexif())
    x = 255 * torch.cat(both(tmp_path))
    assert (x - torch.tensor(shown).view(3, -1, 1)).abs().max() < 5  # a color, or one of each row


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


DIVISIONS = [({"train": 5, "test": 3, "val": 2}, [5, 3]), ({"a/training": 5, "a/TEST": 3}, [5, 3])]
DIVISIONS += [({"Train": 5, "Valid": 3, "other": 2}, [5, 3]), ({"": 3}, [2, 1]), ({"": 2}, [1, 1])]


@pytest.mark.parametrize("counts, sizes", DIVISIONS)
def test_a_given_division_is_respected_and_few_photos_are_in_both(home, tmp_path, counts, sizes):
    for folder, count in counts.items():
        [save(tmp_path / "p" / folder / f"{k}.jpg") for k in range(count)]
    assert [len(x) for x in both(tmp_path / "p")] == sizes


def test_too_few_or_unreadable_photos_are_refused(home, tmp_path):
    path = save(tmp_path / "p" / "1.jpg")
    with pytest.raises(ValueError, match="1.jpg is alone; 2 are needed"):
        both(path.parent)
    for broken in (path, path.with_name("2.jpg")):
        broken.write_bytes(b"not an image")
    for wrong, message in (path.parent, "no readable image .*jpg: cannot"), (path, "no folder wit"):
        with pytest.raises(ValueError, match=message):
            both(wrong)


HEADS = {"txt": ("12\nA B\n", ""), "csv": ("image_id A B\n", "image_id partition\n")}


@pytest.mark.parametrize("ending", HEADS)  # csv is Kaggle's
def test_celeba_has_its_attributes_and_partition(home, monkeypatch, ending):
    root = home / "celeba"
    columns = {"attr_celeba": ["1 -1", "-1 -1"] * 6, "eval_partition": "000000001222"}
    for (stem, column), head in zip(columns.items(), HEADS[ending]):
        names = [save(root / "img/img" / f"{k:06}.jpg").name for k in range(12)]
        rows = head + "\n".join(map(" ".join, zip(names, column)))
        path = root / f"list_{stem}.{ending}"
        path.write_text(rows.replace(" ", "," if ending == "csv" else "  "))
    source = root if ending == "csv" else "celeba"
    x, factors = faces("train", source)
    assert len(x) == 8 and list(factors) == ["A", "B"] and not factors["B"].any()
    assert factors["A"].tolist() == [1, 0] * 4 and len(faces("test", source)[0]) == 3
    monkeypatch.setattr(module, "_CELEBA_KEPT", 6)
    assert len(faces("train", source)[0]) == 4, "every second one"
    path.write_text("000000.jpg what")
    with pytest.raises(DataError, match="list_eval_partition.* is no list of CelebA"):
        faces("train", source)


LOADERS = {"lfw": "sklearn.datasets.fetch_lfw_people", "celeba": "torchvision.datasets.CelebA"}


@pytest.mark.parametrize("source", LOADERS)
def test_a_failed_download_says_what_to_put_where(home, monkeypatch, source):
    monkeypatch.setattr(LOADERS[source], lambda *_, **__: 1 / 0)
    with pytest.raises(DataError, match="(?s)division by zero.*put .*source='embedded'"):
        faces("train", source)
    assert not list(home.iterdir())


def test_lfw_is_downloaded_or_unpacked_and_keeps_people_apart(home, monkeypatch):
    def fetch(data_home, **_):
        for k in range(40):
            save(Path(data_home, "lfw_home", f"P{k // 2}", f"{k}.png"), (12 * (k // 2), 0, 0))

    monkeypatch.setattr(LOADERS["lfw"], fetch)
    for _ in range(2):  # the second time from an archive
        train, test = (set(x[:, 0].mean((1, 2)).tolist()) for x in both("lfw"))
        assert len(train) + len(test) == 20 and not train & test and 0 < len(test) < 10
        path = shutil.make_archive(home / "lfw_one_per_person", "tar", home / "lfw_home")
        shutil.rmtree(home / "lfw_home")
    Path(path).write_bytes(Path(path).read_bytes()[:9_900])
    with pytest.raises(DataError, match=f"found: {path}"):
        both("lfw")


@pytest.mark.skipif(not ARCHIVE, reason="AECOURSE_MIRROR holds no lfw_one_per_person.tar")
def test_the_real_lfw(home, monkeypatch):
    monkeypatch.setenv("AECOURSE_MIRROR", str(ARCHIVE.parent))
    train, test = both("lfw", size=64)
    assert len(train) + len(test) == 5749 and 0.14 < len(test) / 5749 < 0.19
    assert train[..., 22:27, 18:26].mean() < train[..., 32:38, 16:24].mean() - 0.05, "eyes, cheeks"

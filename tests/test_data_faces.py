"""Faces: the painter's factors do what they say; each source of photographs is read, split and refused as promised."""

import importlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge

from aecourse.data import _portrait
from aecourse.data._store import DataError

module = importlib.import_module("aecourse.data.faces")
faces, draw_faces, FACTORS = module.faces, module.draw_faces, module.FACTORS


@pytest.fixture(scope="module")
def drawn():
    """1,600 faces, painted once: x (n,3,64,64) in [0, 1] and their factors."""
    factors = _portrait.sample(1600, np.random.default_rng(3))
    return _portrait.render(factors).astype(np.float32) / 255, factors


def photo(color, size=(250, 250)):
    """A JPEG, as bytes: `color` in the middle half, blue around it."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste(color, (size[0] // 4 - 2, size[1] // 4 - 2, size[0] * 3 // 4 + 2, size[1] * 3 // 4 + 2))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def pack(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


# the drawn faces

def test_embedded_set(home, monkeypatch, capsys):
    monkeypatch.setattr(module, "_DRAWN", {"train": 40, "test": 12})
    x, factors = faces()
    assert x.shape == (40, 3, 64, 64) and x.dtype == torch.float32 and 0 <= x.min() < 0.1 and 0.9 < x.max() <= 1
    assert set(factors) == set(FACTORS) and all(v.shape == (40,) and v.dtype == torch.float32 for v in factors.values())
    again, _ = faces("train", "drawn")                                        # from its cache
    assert torch.equal(x, again) and list((home / "cache").iterdir())
    assert torch.equal(draw_faces({name: values[5:9] for name, values in factors.items()}), x[5:9])
    other, _ = faces("test")
    assert len(other) == 12 and not torch.equal(other, x[:12])
    assert "faces: drawn, 40 painted portraits" in capsys.readouterr().out
    assert faces("test", size=32)[0].shape == (12, 3, 32, 32)


def test_sizes_of_the_sets():
    assert module._DRAWN == {"train": 10_000, "test": 2_000} and len(FACTORS) >= 12


def test_same_bytes_in_any_company_and_global_generators_untouched():
    factors = _portrait.sample(70, np.random.default_rng(11))
    np.random.seed(0), torch.manual_seed(0)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()
    all_at_once = _portrait.render(factors)
    backwards = _portrait.render({name: v[::-1] for name, v in factors.items()}, chunk=7)[::-1]
    assert np.array_equal(all_at_once, backwards)
    assert np.array_equal(all_at_once[69:], _portrait.render({name: v[69:] for name, v in factors.items()}))
    assert np.random.get_state()[1].tolist() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_the_painter_paints_what_it_painted():
    """Mean of each quarter of 200 faces, in levels of 255: another machine or a careless change would move them."""
    pixels = _portrait.render(_portrait.sample(200, np.random.default_rng(5))).astype(float)
    quarters = pixels.reshape(200, 3, 2, 32, 2, 32).mean((0, 1, 3, 5))
    assert np.abs(quarters - [[106.43, 107.521], [96.791, 97.656]]).max() < 0.01


def test_factors_are_in_range_and_independent():
    factors = _portrait.sample(10_000, np.random.default_rng(0))
    for name, values in factors.items():
        assert FACTORS[name].low <= values.min() and values.max() <= FACTORS[name].high, name
        assert FACTORS[name].low <= FACTORS[name].neutral <= FACTORS[name].high, name
        assert values.std() > 0.1, name
    correlation = np.corrcoef(np.stack(list(factors.values()))) - np.eye(len(factors))
    assert np.abs(correlation).max() < 0.05


WHERE = {                                                # pixels in which a factor acts: top, bottom, left, right
    "eye_color": (20, 38, 8, 56), "eye_size": (20, 38, 8, 56), "eye_distance": (14, 40, 8, 56), "gaze": (20, 38, 8, 56),
    "brow_height": (12, 34, 8, 56), "brow_angle": (12, 34, 8, 56), "nose": (20, 46, 20, 44),
    "mouth_width": (38, 56, 18, 46), "lips": (38, 56, 18, 46), "smile": (24, 58, 12, 52),
    "mouth_open": (38, 58, 18, 46), "beard": (28, 64, 10, 54),
    "glasses": (18, 40, 8, 56), "fringe": (0, 32, 6, 58), "parting": (0, 34, 6, 58), "hair_length": (14, 64, 0, 64),
    "clothes": (50, 64, 0, 64), "jaw": (32, 64, 6, 58),
}


@pytest.mark.parametrize("name", list(FACTORS))
def test_each_factor_changes_the_picture_where_it_should(name):
    end = 0.5 if name in ("background", "strands") else FACTORS[name].high     # their ends are alike
    low, high = draw_faces({name: [FACTORS[name].low, end]})
    change = (high - low).abs().sum(0)
    assert change.max() > 0.07 and change.mean() > 0.002
    if name in WHERE:
        top, bottom, left, right = WHERE[name]
        assert change[top:bottom, left:right].sum() > 0.9 * change.sum()


def test_a_turn_has_parallax():
    """What stands out moves further. Where a feature is, is seen from the pixels that a change of it alters."""
    def middle(part, low, high, turn):
        change = (torch.diff(draw_faces({part: [low, high], "turn": turn, "fringe": 0}), dim=0)[0] ** 2).sum((0, 1))
        columns, change = torch.arange(64.0), change / change.sum()
        return float((change * columns).sum()), float((change * columns ** 2).sum())

    shift = {part: middle(part, low, high, 0.7)[0] - middle(part, low, high, 0)[0]
             for part, low, high in (("nose", 0, 1), ("eye_color", 0, 1), ("brow_height", 0, 0.6))}
    assert shift["nose"] > shift["eye_color"] + 1 and shift["eye_color"] > 2.5 and shift["brow_height"] > 2.5
    width = [m2 - m * m for m, m2 in (middle("eye_color", 0, 1, 0), middle("eye_color", 0, 1, 0.9))]
    assert width[1] < 0.9 * width[0]                      # the eyes come closer together


def test_light_falls_from_its_side_and_a_mirrored_face_is_a_mirrored_picture():
    left, right = draw_faces({"light": [-1, 1], "hair_style": 3}).mean(1)
    cheek = lambda image, columns: float(image[30:44, columns].mean())
    assert cheek(left, slice(16, 24)) > cheek(left, slice(40, 48)) + 0.1
    assert cheek(right, slice(40, 48)) > cheek(right, slice(16, 24)) + 0.1
    sides = {"turn": 0.5, "light": 0.8, "gaze": -0.6, "tilt": 0.4, "parting": 0.3}
    base = {"hair_style": 3, "hair_volume": 0, "glasses": 1, "beard": 0}
    one, other = draw_faces(base | sides), draw_faces(base | {name: -value for name, value in sides.items()})
    assert (one - other.flip(-1)).abs().mean() < 0.01 < (one - other).abs().mean()


def test_factors_can_be_read_from_the_pixels(drawn):
    """A ridge regression on small pictures, tested on other faces: R squared."""
    x, factors = drawn
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(x), 2).flatten(1).numpy()
    names = "skin turn nod light brightness mouth_open hair_length hair_color glasses beard".split()
    y = np.stack([factors[name] for name in names], 1)
    predicted = Ridge(30).fit(small[:1300], y[:1300]).predict(small[1300:])
    r2 = 1 - ((predicted - y[1300:]) ** 2).mean(0) / y[1300:].var(0)
    assert r2.min() > 0.3 and np.mean(r2) > 0.6, dict(zip(names, r2.round(2)))


def test_faces_differ(drawn):
    x, _ = drawn
    spread = x.std(0)
    assert spread.mean() > 0.12 and spread[:, 20:44, 20:44].mean() > 0.1  # in the middle of the face as well


@pytest.mark.parametrize("factors, message", [
    ({"smlie": 1}, "unknown factor 'smlie'"), ({"smile": 2}, r"smile has to be in \[-1, 1\]"),
    ({"smile": float("nan")}, "smile has to be"),    ({"smile": [0, 1], "turn": [0, 1, 0]}, "same n"), 
    ({"smile": np.zeros((2, 2))}, "same n"), ({"hair_style": 0.5}, "whole"),
])
def test_bad_factors_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        draw_faces(factors)


def test_draw_takes_numbers_arrays_and_tensors():
    x = draw_faces({"smile": torch.tensor([0.0, 1.0]), "skin": [0.1, 0.9], "turn": np.float64(0.5), "glasses": True})
    assert x.shape == (2, 3, 64, 64) and draw_faces({}).shape == (1, 3, 64, 64)
    coarse = torch.nn.functional.avg_pool2d(draw_faces({}, size=128), 2)      # the same face at any size
    assert (coarse - draw_faces({})).abs().mean() < 0.02


@pytest.mark.parametrize("arguments, message", [
    ({"split": "valid"}, "unknown split 'valid'"), ({"source": "lwf"}, "unknown source 'lwf'"),
    ({"size": 0}, "size"), ({"size": 64.0}, "size")])
def test_bad_arguments_are_refused(home, arguments, message):
    with pytest.raises(ValueError, match=message):
        faces(**arguments)


# photographs

def check_lfw(home, capsys, people):
    train, factors = faces("train", "lfw")
    test, _ = faces("test", "lfw")
    assert factors == {} and len(train) + len(test) == people and 0 < len(test) < len(train)
    assert train.shape[1:] == (3, 64, 64) and train.min() >= 0 and train.max() <= 1
    assert (train[:, 0].mean() > 0.8) and (train[:, 2].mean() < 0.2)          # the red middle, not the blue around it
    assert f"{people - len(test)} photographs of" in capsys.readouterr().out


def test_lfw_from_a_tar(home, capsys):
    pack(home / "lfw_one_per_person.tar", {f"lfw/P{k}/P{k}_0001.jpg": photo((255, 0, 0)) for k in range(40)})
    check_lfw(home, capsys, 40)
    assert not list(home.rglob("*.jpg"))                                      # nothing was unpacked


def test_lfw_from_a_folder_keeps_people_apart(home):
    for k in range(30):
        for i in range(3):                                                    # a person's color tells who it is
            write(home / "lfw_funneled" / f"P{k}" / f"P{k}_{i:04}.jpg", photo((8 * k, 0, 0)))
    train, test = (faces(split, "lfw")[0][:, 0].mean((1, 2)) for split in ("train", "test"))
    assert len(train) + len(test) == 90 and len(test) % 3 == 0
    assert (train[:, None] - test[None]).abs().min() > 0.01


def test_lfw_download(home, monkeypatch, capsys):
    def fetch(data_home, **_):
        for k in range(20):
            write(Path(data_home) / "lfw_home" / "lfw_funneled" / f"P{k}" / f"P{k}_0001.jpg", photo((255, 0, 0)))

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fetch)
    check_lfw(home, capsys, 20)


def test_lfw_that_cannot_be_had(home, monkeypatch):
    def fetch(data_home, **_):
        write(Path(data_home) / "lfw_home" / "half.tgz", b"cut off")
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fetch)
    with pytest.raises(DataError, match="(?s)no route to host.*lfw_one_per_person.tar.*source='embedded'"):
        faces("train", "lfw")
    assert not home.exists() or not list(home.iterdir())


@pytest.mark.parametrize("name", ["../../evil.jpg", "/etc/evil.jpg", "lfw/../../evil.jpg"])
def test_a_tar_that_climbs_out_is_refused(home, name):
    pack(home / "lfw_one_per_person.tar", {"lfw/A/A_0001.jpg": photo((255, 0, 0)), name: photo((255, 0, 0))})
    with pytest.raises(DataError, match="points out of it"):
        faces("train", "lfw")
    assert [p.name for p in home.parent.rglob("*") if p.is_file()] == ["lfw_one_per_person.tar"]


def test_a_damaged_tar_is_named(home):
    write(home / "lfw_one_per_person.tar", b"this is no tar" * 100)
    with pytest.raises(DataError, match="lfw_one_per_person.tar cannot be read"):
        faces("train", "lfw")


def test_a_broken_image_is_named_and_left_out(home, capsys):
    members = {f"lfw/P{k}/P{k}_0001.jpg": photo((255, 0, 0)) for k in range(20)}
    members |= {"lfw/P3/P3_0001.jpg": photo((255, 0, 0))[:200], "lfw/P4/P4_0001.jpg": b"text"}
    pack(home / "lfw_one_per_person.tar", members)
    for _ in range(2):                                                        # said again when it comes from the cache
        assert sum(len(faces(split, "lfw")[0]) for split in ("train", "test")) == 18
        out = capsys.readouterr().out
        assert "P3_0001.jpg" in out and "P4_0001.jpg" in out and "2 unreadable" in out


def test_a_folder_of_images(home, tmp_path):
    folder = tmp_path / "mine"
    for k in range(12):
        write(folder / "a" / f"{k}.jpeg", photo((255, 0, 0), (120, 80)))
        Image.new("RGBA", (50, 90), (0, 200, 0, 255)).save(folder / f"{k}.PNG")
    write(folder / "notes.txt", b"no image")
    x, factors = faces("train", folder, size=32)
    y, _ = faces("test", str(folder), size=32)
    assert len(x) + len(y) == 24 and len(y) > 0 and factors == {} and x.shape[1:] == (3, 32, 32)
    write(folder / "new.jpg", photo((0, 0, 0)))                               # a changed folder is read again
    assert len(faces("train", folder, size=32)[0]) + len(faces("test", folder, size=32)[0]) == 25


def test_a_folder_without_images(home, tmp_path):
    write(tmp_path / "mine" / "a.txt", b"no image")
    with pytest.raises(ValueError, match="there is none"):
        faces("train", tmp_path / "mine")
    with pytest.raises(ValueError, match="there is none"):
        faces("train", tmp_path / "mine" / "a.txt")
    write(tmp_path / "mine" / "a.jpg", b"no image either")
    with pytest.raises(ValueError, match="none of the 1 images can be read.*a.jpg"):
        faces("train", tmp_path / "mine")


def test_celeba_from_a_folder(home, monkeypatch):
    names = [f"{k:06}.jpg" for k in range(12)]
    for name in names:
        write(home / "celeba" / "img_align_celeba" / name, photo((255, 0, 0), (178, 218)))
    x, factors = faces("train", "celeba")
    assert factors == {} and len(x) + len(faces("test", "celeba")[0]) == 12
    attributes = "\n".join(f"{name} {1 if k % 2 else -1} -1" for k, name in enumerate(names))
    (home / "celeba" / "list_attr_celeba.txt").write_text(f"12\nSmiling Eyeglasses\n{attributes}\n")
    partition = "\n".join(f"{name} {part}" for name, part in zip(names, "000000001222"))
    (home / "celeba" / "list_eval_partition.txt").write_text(partition)
    x, factors = faces("train", "celeba")
    assert len(x) == 8 and factors["Smiling"].tolist() == [0, 1] * 4 and factors["Eyeglasses"].sum() == 0
    assert len(faces("test", "celeba")[0]) == 3
    monkeypatch.setattr(module, "_CELEBA_KEPT", 6)
    assert len(faces("train", "celeba")[0]) == 4                              # every second one


def test_celeba_that_cannot_be_had(home, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("the daily quota is exceeded")

    monkeypatch.setattr("torchvision.datasets.CelebA", refuse)
    with pytest.raises(DataError, match="(?s)daily quota.*img_align_celeba.*source='embedded'"):
        faces("train", "celeba")
    (home / "celeba").mkdir(parents=True)
    with pytest.raises(DataError, match="(?s)no image in.*img_align_celeba"):
        faces("train", "celeba")


@pytest.mark.skipif(not (Path(os.environ.get("AECOURSE_MIRROR", "/nonexistent")) / "lfw_one_per_person.tar").exists(),
                    reason="AECOURSE_MIRROR holds no lfw_one_per_person.tar")
def test_the_real_lfw():
    train, test = (faces(split, "lfw")[0] for split in ("train", "test"))
    assert len(train) + len(test) == 5749 and 0.14 < len(test) / 5749 < 0.19
    average = train.mean(0)                               # an average face: its eyes are darker than its cheeks
    assert average[:, 22:27, 18:26].mean() < average[:, 32:38, 16:24].mean() - 0.05

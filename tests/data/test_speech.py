"""The embedded words and noises, and the loaders of FSDD, own wavs, and recorded noise."""

import io
import struct
import tarfile
from importlib import import_module

from aecourse import audio, data
from aecourse.data import DataError, store

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from sklearn.svm import SVC
from torch.nn.functional import adaptive_avg_pool2d

module = import_module("aecourse.data.speech")  # the package's name `speech` is the function
NOISE = np.random.default_rng(0).integers(-900, 999, 10_000).astype(np.int16)


@pytest.mark.slow
def test_embedded_words_are_seeded_and_can_be_recognized(home, capsys):
    train, test = data.speech("train"), data.speech("test")
    for (x, y, _, length), n in ((train, 2400), (test, 300)):
        assert x.shape == (n, 8000) and (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert y.bincount().tolist() == [n // 10] * 10 and len(y[:100].unique()) == 10, "shuffled"
        assert 1000 < length.min() and length.max() < 8000 and length.dtype == torch.int64
        assert all((row[end:] == 0).all() for row, end in zip(x, length))
        assert ((x.pow(2).sum(1) / length).sqrt() - 0.1).abs().max() < 3e-3
        assert (x.sum(1) / length).abs().max() < 1e-3
    assert set(train.voice) == {f"voice {i}" for i in range(24)}
    assert set(test.voice) == {f"stranger {i}" for i in range(6)}
    torch.manual_seed(1), np.random.seed(1)  # no global generator is used
    assert np.array_equal(module._synthesize("test")["x"], test.x * 32768)
    assert torch.equal(data.speech("test").x, test.x)  # from the cache
    assert "speech: synthesized, test: 300 words of 6 voices\n" in capsys.readouterr().out
    levels = (audio.decibels(audio.spectrogram(words.x)) for words in (train, test))
    x, test_x = (adaptive_avg_pool2d(level, 16).flatten(1) for level in levels)
    assert SVC().fit(x, train.y).score(test_x, test.y) > 0.95
    power = torch.fft.rfft(train.x[train.y == 4][:100, 1200:3200], 4000).abs().pow(2)
    pitch = 8000 / (torch.fft.irfft(power)[:, 20:120].argmax(1) + 20)
    assert 60 < pitch.quantile(0.05) < 130 < 160 < pitch.quantile(0.95) < 400


def test_embedded_noises(home, capsys):
    clips = data.noises("test")
    out = "noises: synthesized, test: running tap, dishes, white; 72 seconds together\n"
    assert capsys.readouterr().out == out
    assert all(clip.shape == (192_000,) and abs(clip.std() - 0.1) < 1e-4 for clip in clips.values())
    kurtosis = [(clip.pow(4).mean() / clip.var() ** 2).item() for clip in clips.values()]
    assert 4.5 > kurtosis[0] and kurtosis[1] > 6 and 2.9 < kurtosis[2] < 3.1


@pytest.mark.parametrize("load, file", [(data.speech, "fsdd"), (data.noises, "running_tap.wav")])
def test_unknown_sources_and_missing_files_are_named(home, load, file):
    for call, message in ((("valid",), "split 'valid'"), (("test", "x"), "source 'x'")):
        with pytest.raises(ValueError, match=f"unknown {message}"):
            load(*call)
    with pytest.raises(DataError, match=f"put {file}.* into {home}"):
        load("train", "fsdd")


def wav(x, rate=8000):
    wavfile.write(buffer := io.BytesIO(), rate, x)
    return buffer.getvalue()


def wav24(x, rate):  # with an extensible header; x is (samples, channels) in [-1, 1]
    body = (2**31 * x).astype("<i4").view("u1").reshape(-1, 4)[:, 1:].tobytes()
    n, guid = x.shape[1], bytes.fromhex("0100000000001000800000aa00389b71")
    form = 40, 0xFFFE, n, rate, 3 * n * rate, 3 * n, 24, 22, 24, 0, guid, b"data", len(body)
    riff = b"RIFF", 60 + len(body), b"WAVEfmt "
    return struct.pack("<4sI8sIHHIIHHHHI16s4sI", *riff, *form) + body


def recordings(folder="", takes=(0, 7)):  # zero is silent, eight and nine are too long
    names = [f"{d}_{voice}_{take}.wav" for d in range(10) for voice in "ab" for take in takes]
    return {folder + n: wav(NOISE[: 1000 + 1000 * int(n[0])] * (n[0] > "0")) for n in names}


def put(path, files):  # into the folder `path`, or into a tar archive if it has a suffix
    folder = path.parent / "packed" if path.suffix else path
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if path.suffix:
        with tarfile.open(path, f"w:{path.suffix[1:]}", format=tarfile.GNU_FORMAT) as tar:
            tar.add(folder, "./packed")
    return path


@pytest.mark.parametrize("name", ["mine", "mine.tar", "mine.tar.gz"])
def test_folder_and_archive_are_read_and_reported(home, tmp_path, capsys, monkeypatch, name):
    other = {"notes.txt": b"", "7_a_3.mp3": b"ID3", "take 1.wav": b""}
    path = put(tmp_path / name, recordings() | other)
    monkeypatch.setenv("AECOURSE_DATA", str(path))
    train, test = data.speech("train"), data.speech("test")
    assert train.x.shape == test.x.shape == (20, 8000) and set(train.voice) == {"a", "b"}
    assert (train.length == (1000 + 1000 * train.y).clamp(max=8000)).all()
    assert train.y.bincount().tolist() == [2] * 10 and (train.x[train.y == 0] == 0).all()
    skipped = "1 skipped: .mp3, 1 skipped: .txt, 1 skipped: not named like 7_jackson_32.wav"
    report = f"train: 20 words of 2 voices; test takes are 0; 43 files, 40 read, {skipped}\n"
    assert capsys.readouterr().out.startswith(f"speech: {path}, {report}")
    data.noises("train")
    assert f"noises: synthesized for the words in {path}, train" in capsys.readouterr().out


@pytest.mark.parametrize("rate, channels", [(8000, 1), (16_000, 2), (44_100, 6), (11_025, 1)])
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8", "i3"])
def test_wav_formats_are_read(home, tmp_path, kind, rate, channels):
    x = 0.9 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)[:, None] * np.ones(channels)
    scale, offset = {"u1": (127, 128), "i2": (2**15, 0), "i4": (2**31, 0)}.get(kind, (1, 0))
    pcm = wav24(x, rate) if kind == "i3" else wav((scale * x + offset).astype(kind), rate)
    got = data.speech("train", put(tmp_path / "mine", {"1_a_9.wav": pcm, "2_a_0.wav": pcm}))
    sine = 0.1 * 2**0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(8000) / 8000)
    torch.testing.assert_close(got.x[0, 200:-200], sine[200:-200], atol=3e-3, rtol=0)


def test_names_in_any_case_and_linked_folders_are_read_once(home, tmp_path, capsys):
    names = ["7_Jo_9.WAV", "7_jean-luc_9.Wav", "7_a b. c_9.wav", "0_y_0.wav"]
    hidden = {".ipynb_checkpoints/1_x_9.wav": b"", "._2_x_9.wav": b"", "a/.b/3_x_9.wav": b""}
    other = put(tmp_path / "other", {name: wav(NOISE) for name in names} | hidden)
    path = put(tmp_path / "mine", {"._1_x_9.wav": b""})
    for link, target in (("1", other), ("2", path / "1"), ("1/loop", path)):
        (path / link).symlink_to(target)
    assert set(data.speech("train", path).voice) == {"Jo", "jean-luc", "a b. c"}
    assert "; 4 files, 4 read\n" in capsys.readouterr().out


GIVEN = recordings("train/") | recordings("a/Test/", (7,)) | {"1_x_9.wav": wav(NOISE)}
SPLITS = [(recordings(takes=(1, 2, 3)), "; test takes are 1;", [40, 20])]
SPLITS += [(recordings(takes=(8, 9)), "; test takes are 8;", [20, 20])]
SPLITS += [(GIVEN, "folders train and test, 1 outside of them unused;", [40, 20])]


@pytest.mark.parametrize("files, how, sizes", SPLITS)
def test_split_of_few_recordings_and_of_folders(home, tmp_path, capsys, files, how, sizes):
    path = put(tmp_path / "mine", files)
    assert [len(data.speech(split, path).y) for split in ("train", "test")] == sizes
    assert how in capsys.readouterr().out


BROKEN = [b"", b"ID3" * 99, b"fLaC" * 99, wav(NOISE)[:-300], wav(NOISE[:0]), wav(NOISE / np.nan)]
REFUSED = [({"3_e_7.wav": content}, "3_e_7.wav cannot be .*Convert") for content in BROKEN]
REFUSED += [(recordings(takes=(0,)), "two different takes"), (recordings("test/"), "both folders")]
REFUSED += [({"song.wav": b"", "7_a_3.mp3": b""}, "holds no wav named like 7_jackson_32.wav")]


@pytest.mark.parametrize("files, message", REFUSED)
def test_what_cannot_be_used_is_named(home, tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        data.speech("train", put(tmp_path / "mine", files))


@pytest.mark.parametrize("name", ["mine.tar", "mine.tar.gz"])
def test_damaged_archive_is_named(home, tmp_path, name):
    path = put(tmp_path / name, recordings())
    whole = path.read_bytes()
    start = whole.find(b"./packed/5_") if name == "mine.tar" else len(whole) // 2
    cuts = [whole[:0], whole[:start], whole[: start + 99], b"PK" * 999]
    for content in (*cuts, whole[:start] + bytes(512) + whole[start + 512 :]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=name):
            data.speech("train", path)


def test_fsdd_is_downloaded_with_its_checksum_and_has_to_be_complete(home, tmp_path, monkeypatch):
    path = put(tmp_path / "fsdd.tar.gz", recordings())
    known = {(module._FSDD, "fsdd.tar.gz", module._FSDD_SHA256): path}
    monkeypatch.setattr(store, "download", lambda *call: known[call])
    with pytest.raises(DataError, match="has 40 recordings, FSDD 3,000"):
        data.speech("train", "real")
    monkeypatch.setattr(module, "_FSDD_RECORDINGS", 40)
    assert len(data.speech("train", "fsdd").y) == 20


def test_recorded_noise_is_resampled_and_silence_is_refused(home):
    sine = np.sin(2 * np.pi * 500 * np.arange(20 * 16_000) / 16_000).astype("f4")
    put(home / "noise", {name: wav(sine, 16_000) for name in module._NOISE_FILES.values()})
    for clip in data.noises("train", "recorded").values():
        assert len(clip) == 96_000 and torch.fft.rfft(clip[:8000]).abs().argmax() == 500
    put(home / "noise", {"running_tap.wav": wav(0 * sine, 16_000)})
    with pytest.raises(DataError, match="running_tap.wav is .*silent"):
        data.noises("train", "recorded")


@pytest.mark.skipif(not store.find("fsdd.tar.xz"), reason="no FSDD in AECOURSE_MIRROR")
def test_real_recordings():
    train, test = data.speech("train", "fsdd"), data.speech("test", "fsdd")
    assert train.y.bincount().tolist() == [270] * 10 and test.y.bincount().tolist() == [30] * 10
    assert set(train.voice) == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    assert all(len(clip) > 280_000 for clip in data.noises("train", "fsdd").values())

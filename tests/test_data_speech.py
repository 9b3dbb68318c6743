"""The embedded words and noises, and the loaders of FSDD, of a folder of wavs, and of recorded noise."""

import io
import struct
import tarfile
import wave
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch.nn import functional as F

from aecourse import audio, data
from aecourse.data import DataError, _store
from aecourse.models import conv_encoder
from aecourse.training import fit, set_seed

module = import_module("aecourse.data.speech")           # the package's name `speech` is the function
mirror = pytest.mark.skipif(not _store.find("fsdd.tar.xz"), reason="no FSDD in the data folder or in AECOURSE_MIRROR")
noise_mirror = pytest.mark.skipif(not _store.find("noise/white_noise.wav"), reason="no noise in AECOURSE_MIRROR")


@pytest.fixture(scope="module")
def words():
    return {split: data.speech(split, "synthesised") for split in ("train", "test")}


@pytest.fixture(scope="module")
def clips():
    return {split: data.noises(split, "synthesised") for split in ("train", "test")}


def rms_inside(d):
    return (d.x.pow(2).sum(1) / d.length).sqrt()


def test_shapes_ranges_and_balance(words):
    for split, n in (("train", 2400), ("test", 300)):
        x, y, voice, length = words[split]
        assert x.shape == (n, 8000) and x.dtype == torch.float32 and x.abs().max() <= 1
        assert y.dtype == torch.int64 and y.bincount().tolist() == [n // 10] * 10
        assert y[:100].unique().numel() == 10            # shuffled, so that a beginning is a sample
        assert length.dtype == torch.int64 and 1000 < length.min() and length.max() < 8000
        assert all((row[n:] == 0).all() for row, n in zip(x, length))
        torch.testing.assert_close(rms_inside(words[split]), torch.full((n,), 0.1), atol=3e-3, rtol=0)
        assert (x.sum(1) / length).abs().max() < 1e-3    # no offset


def test_test_voices_are_strangers(words):
    train, test = (set(words[split].voice) for split in ("train", "test"))
    assert len(train) == 24 and len(test) == 6 and not train & test


def test_same_bytes_every_time(words, home, capsys):
    torch.manual_seed(1), np.random.seed(1)
    again = module.synthesize("test")                    # no global generator is read
    assert np.array_equal(again["x"] / np.float32(32768), words["test"].x)
    first, cached = data.speech("test"), data.speech("test")
    assert torch.equal(first.x, cached.x) and torch.equal(first.y, cached.y) and (first.voice == cached.voice).all()
    assert capsys.readouterr().out == 2 * "speech: synthesised, test: 300 words of 6 voices\n"


def test_a_changed_synthesizer_does_not_read_an_old_cache(home, monkeypatch):
    data.speech("test")
    monkeypatch.setattr(_store, "checksum", lambda *_: "another source")
    data.speech("test")
    assert len(list((home / "cache").iterdir())) == 2


def features(x):
    level = audio.decibels(audio.spectrogram(x))[:, None]
    level = level.clamp(min=level.amax((2, 3), keepdim=True) - 60)
    return F.adaptive_avg_pool2d((level - level.mean((2, 3), keepdim=True)) / 20, (32, 32))


def test_the_words_can_be_told_apart_whoever_says_them(words):
    set_seed(0)
    reader = conv_encoder((1, 32, 32), [16, 32, 32], 10)
    fit(reader, lambda model, x, y: F.cross_entropy(model(x), y), data.Batches(features(words["train"].x), words["train"].y),
        6, lr=5e-3, progress=False)
    with torch.no_grad():
        right = reader(features(words["test"].x)).argmax(1) == words["test"].y
    assert right.float().mean() > 0.95


def test_voices_have_pitches_and_vowels_have_formants(words):
    """The autocorrelation of an "o" shows the pitch of a man or a child; most power of "three" is low, of an s high."""
    x, y, _, length = words["train"]
    fours = x[y == 4][:100, 1200:3200]
    spectrum = torch.fft.rfft(F.pad(fours, (0, 2000))).abs().pow(2)
    lag = torch.fft.irfft(spectrum)[:, 20:120].argmax(1) + 20
    assert 60 < (8000 / lag).quantile(0.05) < 130 < 160 < (8000 / lag).quantile(0.95) < 400
    power = audio.spectrogram(x[y == 6]).abs().pow(2)
    first = power[..., 2:10].mean(2)                      # the beginning of "six"
    assert (first[:, 90:].sum(1) > 3 * first[:, :60].sum(1)).float().mean() > 0.9


def test_noises(clips, home, capsys):
    assert list(clips["train"]) == list(module.KINDS) == list(data.NOISE_KINDS)
    for kind in module.KINDS:
        train, test = clips["train"][kind], clips["test"][kind]
        assert train.dtype == torch.float32 and len(train) == 288_000 and len(test) == 192_000
        for clip in (train, test):
            torch.testing.assert_close(clip.std(), torch.tensor(0.1), atol=1e-4, rtol=0)
    kurtosis = {kind: (clip.pow(4).mean() / clip.var() ** 2).item() for kind, clip in clips["test"].items()}
    assert kurtosis["dishes"] > 6 > 4.5 > kurtosis["running tap"] and 2.9 < kurtosis["white"] < 3.1
    again = data.noises("test")
    assert all(torch.equal(again[kind], clips["test"][kind]) for kind in again)
    assert capsys.readouterr().out == "noises: synthesised, test: running tap, dishes, white; 72 seconds together\n"


def test_add_noise_at_takes_them(words, clips):
    x = words["test"].x[:8]
    noisy = data.add_noise_at(x, clips["test"]["dishes"][:8000].expand(8, -1), 5)
    ratio = 10 * torch.log10(x.pow(2).sum(1) / (noisy - x).pow(2).sum(1))
    torch.testing.assert_close(ratio, torch.full((8,), 5.0), atol=0.01, rtol=0)


@pytest.mark.parametrize("call, split, source, said", [
    ("speech", "valid", None, "unknown split 'valid'"), ("speech", "test", "timit", "unknown source 'timit'"),
    ("noises", "all", None, "unknown split 'all'"), ("noises", "test", "cafe", "unknown source 'cafe'"),
    ("noises", "test", "/", "unknown source '/'"),
])
def test_unknown_words_are_refused(home, call, split, source, said):
    with pytest.raises(ValueError, match=said):
        getattr(data, call)(split, source)
    assert not home.exists()


# ---- recordings, in small

def wav(samples, rate=8000, channels=1, width=2):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels), file.setsampwidth(width), file.setframerate(rate)
        file.writeframes(np.asarray(samples).astype({1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())
    return buffer.getvalue()


def float_wav():
    buffer = io.BytesIO()
    wavfile.write(buffer, 8000, np.zeros(2000, np.float32))
    return buffer.getvalue()


def recordings(n=2000, voices=("ann", "bob"), takes=(0, 7)):
    rng = np.random.default_rng(0)
    return {f"{digit}_{voice}_{take}.wav": wav(rng.normal(100, 900, n + 10 * digit)) for digit in range(10) for voice in voices
            for take in takes}


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.10/recordings/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_and_an_archive_are_read(home, tmp_path, packed, capsys):
    files = recordings() | {"notes.txt": b"no wav", "read me.wav": b"another name"}
    if packed:
        path = archive(tmp_path / "mine.tar.gz", files)
    else:
        path = tmp_path / "mine" / "deep"
        path.mkdir(parents=True)
        for name, content in files.items():
            (path / name).write_bytes(content)
        path = path.parent
    before = sorted(tmp_path.rglob("*.wav"))
    train, test = data.speech("train", path), data.speech("test", str(path))
    assert train.x.shape == test.x.shape == (20, 8000) and set(train.voice) == {"ann", "bob"}
    assert train.y.bincount().tolist() == [2] * 10 and (train.length == 2000 + 10 * train.y).all()
    torch.testing.assert_close(rms_inside(train), torch.full((20,), 0.1), atol=1e-3, rtol=0)
    assert (train.x.sum(1) / train.length).abs().max() < 1e-4        # the recording's offset of 100 is gone
    assert not (train.x[:, None] == test.x).all(2).any()
    assert sorted(tmp_path.rglob("*.wav")) == before     # nothing is unpacked
    assert "20 words of 2 voices" in capsys.readouterr().out


def test_long_words_are_cut_and_silent_ones_stay_silent(home, tmp_path):
    for name, samples in (("1_ann_9.wav", np.arange(12_000) % 100), ("2_ann_9.wav", np.zeros(500))):
        (tmp_path / name).write_bytes(wav(samples))
    d = data.speech("train", tmp_path)
    assert sorted(d.length.tolist()) == [500, 8000] and d.x.isfinite().all() and (d.x[d.y == 2] == 0).all()


def test_other_takes_are_missed(home, tmp_path):
    (tmp_path / "1_ann_9.wav").write_bytes(wav(np.arange(2000)))
    with pytest.raises(DataError, match="takes 0 to 4 are the test set"):
        data.speech("test", tmp_path)


@pytest.mark.parametrize("content, said", [
    (wav(np.arange(2000))[:-300], "cut off"), (wav(np.arange(2000))[:20], "cut off"), (b"", "cut off"),
    (wav(np.arange(2000), rate=16_000), "16000 samples a second; wanted is 8000"),
    (wav(np.arange(2000), channels=2), "2 channels of 16 bits"), (wav(np.arange(200), width=1), "1 channel of 8 bits"),
    (float_wav(), "no 16-bit PCM wav"), (b"ID3 this is an mp3" * 50, "no 16-bit PCM wav"), (wav([]), "cut off"),
    (b"RIFF" + struct.pack("<I", 4) + b"WAVE", "no 16-bit PCM wav"),
])
@pytest.mark.parametrize("packed", [True, False])
def test_a_hostile_wav_is_named(home, tmp_path, content, said, packed):
    files = recordings() | {"3_eve_7.wav": content}
    (tmp_path / "mine").mkdir()
    path = archive(tmp_path / "mine.tar.gz", files) if packed else tmp_path / "mine"
    for name, one in files.items():
        (tmp_path / "mine" / name).write_bytes(one)
    with pytest.raises(DataError, match=said) as caught:
        data.speech("train", path)
    assert "3_eve_7.wav" in str(caught.value)
    assert not (home / "cache").exists() or not list((home / "cache").iterdir())


@pytest.mark.parametrize("damage", [lambda b: b[:len(b) // 2], lambda b: b"", lambda b: b"not an archive" * 100,
                                    lambda b: b[:200] + bytes(50) + b[250:]])
def test_a_damaged_archive_says_so(home, tmp_path, damage):
    path = archive(tmp_path / "mine.tar.gz", recordings())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="mine.tar.gz"):
        data.speech("train", path)


def test_an_archive_or_folder_without_words_says_so(home, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", archive(tmp_path / "mine.tar.gz", {"song.wav": b""})):
        with pytest.raises(DataError, match="holds no wav named like"):
            data.speech("train", path)


def test_real_means_fsdd_and_an_incomplete_one_is_refused(home, monkeypatch):
    monkeypatch.setenv("AECOURSE_DATA", "real")
    home.mkdir()
    archive(home / "fsdd.tar.gz", recordings())
    with pytest.raises(DataError, match="holds 40 recordings of 2 voices, and FSDD has 3,000 of 6"):
        data.speech("train")
    monkeypatch.setattr(module, "FSDD_VOICES", 2), monkeypatch.setattr(module, "FSDD_TAKES", 2)
    assert len(data.speech("train").y) == 20
    (home / "fsdd.tar.gz").unlink()


def test_without_the_file_and_the_net_it_says_what_to_put_where(home, monkeypatch):
    with pytest.raises(DataError, match="put fsdd.tar.gz") as caught:
        data.speech("train", "fsdd")
    assert str(home) in str(caught.value) and "source='embedded'" in str(caught.value)
    with pytest.raises(DataError, match="put running_tap.wav, doing_the_dishes.wav, white_noise.wav into"):
        data.noises("train", "recorded")
    assert not list(home.rglob("*.gz"))


def test_a_download_is_kept_only_if_it_is_whole(home, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FSDD", archive(tmp_path / "v.tar.gz", recordings()).as_uri())
    with pytest.raises(DataError, match="holds 40 recordings"):
        data.speech("train", "fsdd")
    assert not list(home.rglob("*.gz"))
    monkeypatch.setattr(module, "FSDD_VOICES", 2), monkeypatch.setattr(module, "FSDD_TAKES", 2)
    first = data.speech("train", "fsdd")
    assert (home / "fsdd.tar.gz").exists()
    monkeypatch.setattr(module, "FSDD", "http://127.0.0.1:9/")
    assert torch.equal(data.speech("train", "fsdd").x, first.x)


def put_noise(home, rate=16_000, seconds=20, **changes):
    (home / "noise").mkdir(parents=True)
    t = np.arange(rate * seconds) / rate
    for i, name in enumerate(module.NOISE_FILES.values()):
        content = wav(3000 * np.sin(2 * np.pi * 500 * (i + 1) * t), rate)
        (home / "noise" / name).write_bytes(changes.get(name.removesuffix(".wav"), content))


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_recorded_noise_is_resampled(home, rate):
    put_noise(home, rate)
    clips = data.noises("train", "recorded")
    for i, clip in enumerate(clips.values()):
        assert len(clip) == 96_000
        assert torch.fft.rfft(clip[:8000]).abs().argmax() == 500 * (i + 1)           # the pitch stays


@pytest.mark.parametrize("content, said", [
    (wav(np.zeros(200_000), 16_000), "silent"), (wav(np.arange(1000), 16_000), "shorter than ten seconds"),
    (wav(np.arange(200_000) % 99, 16_000, channels=2), "2 channels"), (b"RIFF", "cut off"), (float_wav(), "no 16-bit PCM"),
    (wav(np.arange(200_000) % 99, 11_025), "11025 samples a second"),
])
def test_hostile_noise_is_named(home, content, said):
    put_noise(home, doing_the_dishes=content)
    with pytest.raises(DataError, match=said) as caught:
        data.noises("train", "recorded")
    assert "doing_the_dishes.wav" in str(caught.value)


@mirror
def test_fsdd_itself():
    train, test = data.speech("train", "fsdd"), data.speech("test", "fsdd")
    assert train.x.shape == (2700, 8000) and test.x.shape == (300, 8000)
    assert train.y.bincount().tolist() == [270] * 10 and test.y.bincount().tolist() == [30] * 10
    assert set(train.voice) == set(test.voice) == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    assert 0.3 < train.length.double().median() / 8000 < 0.5
    assert ((rms_inside(train) - 0.1).abs() < 0.005).float().mean() > 0.99           # a few are clipped


@noise_mirror
def test_recorded_noise_itself():
    train, test = data.noises("train", "recorded"), data.noises("test", "recorded")
    for kind in module.KINDS:
        assert len(train[kind]) > 280_000 and len(test[kind]) > 190_000
        assert abs(train[kind].std() - 0.1) < 1e-3 and train[kind].abs().max() < 10

"""Spoken digits and background noise: synthesized (embedded), or recorded."""

import hashlib
import io
import lzma
import os
import re
import tarfile
import tomllib
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from aecourse.data import store

import numpy as np
import scipy  # loads its submodules at their first use
import torch

_TABLE = Path(__file__).with_name("tables") / "sounds.toml"
_SPELLED, _SOUNDS = tomllib.loads(_TABLE.read_text()).values()
_VERSION = hashlib.sha256(Path(__file__).read_bytes() + _TABLE.read_bytes()).hexdigest()[:12]
WORDS = tuple(_SPELLED)
KINDS = ("running tap", "dishes", "white")
_RATE, _SAMPLES = 8000, 8000  # samples per second, and per word: one second
_LEVEL = 0.1  # root mean square of every word while it lasts, and of noise


class Speech(NamedTuple):
    """`n` words: `x, y, *_ = speech("test")`, or by name, `speech("test").voice`."""

    x: torch.Tensor  # (n, 8000) float32 in [-1, 1], 8 kHz, zeros after the word
    y: torch.Tensor  # (n,) int64, the digit
    voice: np.ndarray  # (n,) of str, the speaker
    length: torch.Tensor  # (n,) int64, samples until the word ends


def speech(split: str = "train", source: str | Path | None = None) -> Speech:
    """One spoken digit per row, one second each, at 0.1 root mean square while the word lasts.

    source: None (what `AECOURSE_DATA` says), "synthesized" (embedded: 2,400 words of 24 voices to
    train, 300 of 6 others to test), "fsdd" (2,700 and 300 recordings of 6 people, split by take),
    or the path of a folder or tar archive of wavs named {digit}_{voice}_{take}.wav. These become
    mono, 8 kHz, and end after a second. Folders named train and test are the split; without them
    takes 0 to 4 are the test set, or the lowest take where that would leave a split empty.
    Raises ValueError for an unknown split or source, DataError for files that cannot be used.
    """
    source = _choose("speech", split, source, "fsdd")
    if source == "synthesized":
        arrays = store.cached(f"speech-{split}-{_VERSION}", lambda: _synthesize(split))
    else:
        arrays = _recordings(source, split)
    x, y, voice, length, note = (arrays[key] for key in (*Speech._fields, "note"))
    store.announce("speech", source, f"{split}: {len(y):,} words of {len(set(voice))} voices{note}")
    x = torch.from_numpy(x / np.float32(32768))
    return Speech(x, torch.from_numpy(y).long(), voice, torch.from_numpy(length))


def noises(split: str = "train", source: str | Path | None = None) -> dict[str, torch.Tensor]:
    """Background noise: a dict kind -> (samples,) float32 at 8 kHz, 0.1 root mean square.

    source: None (what `AECOURSE_DATA` says), "synthesized" (embedded: a minute of each kind),
    "recorded" (three files of Google's Speech Commands), or a source of words: "fsdd" goes with
    "recorded", a path with "synthesized". "train" is the first 60 % of the time, "test" the rest.
    Raises ValueError for an unknown split or source, DataError for files that cannot be used.
    """
    words = _choose("noises", split, source, "recorded", "fsdd")
    if words in ("recorded", "fsdd"):
        source, arrays = "recorded", {kind: _recorded_noise(kind) for kind in KINDS}
    else:
        source, arrays = "synthesized", store.cached(f"noises-{_VERSION}", _synthesized_noises)
    clips = {}
    for kind, clip in arrays.items():
        x = np.split(clip, [int(0.6 * len(clip))])[split == "test"]
        clips[kind] = torch.from_numpy((_LEVEL / x.std() * (x - x.mean())).astype(np.float32))
    seconds = sum(map(len, clips.values())) / _RATE
    source += f" for the words in {words}" if isinstance(words, Path) else ""
    store.announce("noises", source, f"{split}: {', '.join(clips)}; {seconds:.0f} seconds together")
    return clips


def _choose(kind, split, source, *real):
    if split not in ("train", "test"):
        raise ValueError(f"data.{kind}: unknown split {split!r}. Known are 'train' and 'test'.")
    return store.choose(kind, source, "synthesized", real)


# Synthesized words are sequences of sounds: glottal pulses (voiced) and noise (unvoiced), shaped by
# resonators, which are a cascade of formants after Klatt (1980), and one band for friction.
_STEP, _FRAMES = 40, 190  # samples per frame (5 ms); frames of the longest word


def _synthesize(split):
    """The embedded words: 24 voices, 10 takes of each word; for "test" 6 other voices, 5 takes."""
    rng = np.random.default_rng([0, split == "test"])
    name, n_voices, takes = {"train": ("voice", 24, 10), "test": ("stranger", 6, 5)}[split]
    n = n_voices * len(WORDS) * takes
    who, y = np.divmod(rng.permutation(n) // takes, len(WORDS))
    height = (np.arange(n_voices) + rng.random(n_voices)) / n_voices  # evenly from low to high
    voices = {
        "pitch": 85 * 3**height,  # Hz
        "tract": 0.93 + 0.25 * height + 0.03 * rng.normal(size=n_voices),  # scales the formants
        "tempo": np.exp(0.12 * rng.normal(size=n_voices)),
        "breath": rng.uniform(0.003, 0.03, n_voices),
        "tilt": rng.uniform(0.75, 0.93, n_voices),  # of the glottal spectrum
        "accent": 0.03 * rng.normal(size=(n_voices, len(_SOUNDS), 3)),
        "melody": rng.normal(size=(n_voices, 2)),
    }
    x, length = np.zeros((n, _SAMPLES), np.int16), np.zeros(n, np.int64)
    for rows in np.array_split(np.arange(n), n // 150):
        voice = {key: value[who[rows]] for key, value in voices.items()}
        tracks, length[rows] = _parameter_tracks(y[rows], voice, rng)
        x[rows] = _normalize(_waveforms(tracks, voice, rng), length[rows])
    names = np.array([f"{name} {i}" for i in who])
    return {"x": x, "y": y.astype(np.uint8), "length": length, "voice": names, "note": ""}


def _parameter_tracks(y, voice, rng):
    """Parameters of each frame (n, _FRAMES, 8), as in the table, and the lengths of words (n,)."""
    n, names, table = len(y), list(_SOUNDS), np.array(list(_SOUNDS.values()))
    tempo = 1.3 * voice["tempo"] * np.exp(0.08 * rng.normal(size=n))
    tracks, length = np.zeros((n, _FRAMES, 8)), np.zeros(n, np.int64)
    for digit, word in enumerate(_SPELLED.values()):
        rows, sounds = y == digit, [names.index(name) for name in word.split()]
        shape = rows.sum(), len(sounds)
        ms = table[sounds, 0] * tempo[rows, None] * np.exp(0.13 * rng.normal(size=shape))
        ms *= np.minimum(1, 0.97 * _FRAMES * 5 / (ms.sum(1, keepdims=True) + 30))
        ends = np.cumsum(ms, 1) / 5  # in frames
        target = np.tile(table[sounds, 1:], (shape[0], 1, 1))
        accent = voice["accent"][rows][:, sounds] + 0.025 * rng.normal(size=(*shape, 3))
        target[..., :3] = target[..., :3] * np.exp(accent) * voice["tract"][rows, None, None]
        target[..., 3:6] *= np.exp(0.15 * rng.normal(size=(*shape, 3)))
        sound = (np.arange(_FRAMES)[:, None] >= ends[:, None, :]).sum(2)  # of each frame
        track = np.take_along_axis(target, sound.clip(max=len(sounds) - 1)[..., None], 1)
        track[..., 3:6] *= (sound < len(sounds))[..., None]  # silence after the word
        tracks[rows], length[rows] = track, _STEP * np.ceil(ends[:, -1] + 3)
    smooth = scipy.ndimage.gaussian_filter1d
    tracks[..., :3] = smooth(tracks[..., :3], 4.5, axis=1, mode="nearest")  # a tongue moves slowly
    tracks[..., 3:6] = smooth(tracks[..., 3:6], 1.0, axis=1, mode="constant")  # a burst is fast
    return tracks.astype(np.float32), length


def _waveforms(tracks, voice, rng):
    """Sound (n, _SAMPLES): pulses and noise through the resonators, all words at once."""
    n, total, time = len(tracks), _FRAMES * _STEP, np.linspace(0, 1, _FRAMES)
    fall, bend = 0.16 + 0.05 * voice["melody"][:, :1], 0.05 * voice["melody"][:, 1:]
    contour = 0.06 * rng.normal(size=(n, 1)) - fall * time + bend * np.sin(7 * time)
    pitch = voice["pitch"][:, None] * np.exp(contour)
    pitch *= np.exp(scipy.ndimage.gaussian_filter1d(0.03 * rng.normal(size=pitch.shape), 1.5))
    phase = np.cumsum(np.repeat(pitch, _STEP, 1) * (2 * np.pi / _RATE), 1)
    harmonics = (0.475 * _RATE // pitch.max(1, keepdims=True)).astype(np.float32)  # below Nyquist
    z = (0.999 * np.exp(1j * phase)).astype(np.complex64)
    pulses = (z * (1 - z**harmonics) / (1 - z)).real  # the sum of that many cosines
    amount = np.stack([np.repeat(tracks[..., i], _STEP, 1) for i in (3, 4, 5)])
    amount = scipy.signal.lfilter([0.05], [1, -0.95], amount, axis=2).astype(np.float32)  # no steps
    noise = rng.standard_normal((2, n, total), np.float32)
    glottal = np.sqrt(pitch[:, :1] / _RATE).astype(np.float32) * pulses * amount[0]  # equal power
    breath = noise[0] * (amount[1] + voice["breath"][:, None].astype(np.float32) * amount[0])
    friction = 0.35 * noise[1] * amount[2]
    # Resonators y = a x + b y1 + c y2, (_FRAMES, 6, n): four formants, and twice the friction.
    center, width = tracks[..., [0, 1, 2, 2, 6, 6]].astype(float), tracks[..., [7] * 6]
    center[..., 3], width[..., :4] = 3500 * voice["tract"][:, None], (70, 90, 140, 220)  # Hz
    r = np.exp(-np.pi * width / _RATE)
    b, c = 2 * r * np.cos(2 * np.pi * np.minimum(center, 3850) / _RATE), -r * r
    a = np.where(np.arange(6) < 4, 1 - b - c, 1 - r)  # a formant has gain 1 at 0 Hz
    a, b, c = (v.transpose(1, 2, 0).astype(np.float32).copy() for v in (a, b, c))
    y1, y2, drive = np.zeros((3, 6, n), np.float32)
    x, source, tilt = np.zeros((n, _SAMPLES), np.float32), 0, voice["tilt"].astype(np.float32)
    for t in range(total):  # resonator k filters the output of resonator k - 1 one sample ago
        k = t // _STEP
        source = tilt * source + glottal[:, t]  # less power at high frequencies
        drive[1:4], drive[5] = y1[:3], y1[4]
        drive[0], drive[4] = source + breath[:, t], friction[:, t]
        y1, y2 = a[k] * drive + b[k] * y1 + c[k] * y2, y1
        x[:, t] = y1[3] + y1[5]
    return np.diff(x, axis=1, prepend=0)  # radiation of the lips


def _normalize(x, length):
    """Waveforms as int16 (n, _SAMPLES): mean 0 and equal power within the word, zeros after it."""
    length, inside = length[:, None], np.arange(_SAMPLES) < length[:, None]
    x = np.where(inside, x - (x * inside).sum(1, keepdims=True) / length, 0)
    power = (x**2).sum(1, keepdims=True) / length + 1e-20
    return np.rint(32768 * _LEVEL * x / np.sqrt(power)).clip(-32768, 32767).astype(np.int16)


def _synthesized_noises():
    """A minute of each kind: water with bubbles, plates that clatter in a room, white noise."""
    rng, n, lfilter = np.random.default_rng(0), 60 * _RATE, scipy.signal.lfilter

    def damped_tones(loudness, frequency, decay, glide):  # (count,) -> (count, 1600)
        t, shape = np.arange(1600) / _RATE, (len(loudness), 1)
        frequency, decay = rng.uniform(*frequency, shape), rng.uniform(*decay, shape)  # Hz, seconds
        phase = 2 * np.pi * frequency * (t + glide * rng.normal(size=shape) * t * t)
        return loudness[:, None] * np.exp(-t / decay) * np.sin(phase + 6.28 * rng.random(shape))

    def place(tones, start):
        sample = start.clip(max=n - 1)[:, None] + np.arange(tones.shape[1])
        return np.bincount(sample.ravel(), tones.ravel(), n)[:n]

    water = lfilter([1, -0.55], [1, 0.25, 0.35], rng.normal(size=n))
    water += 0.5 * lfilter([1], [1, -1.5, 0.8], rng.normal(size=n))
    water *= np.exp(lfilter([0.004], [1, -0.9995], rng.normal(size=n)))  # slow swelling
    bubbles = damped_tones(3 * rng.lognormal(0, 0.5, 2400), (400, 1800), (0.003, 0.015), 5)
    start = np.repeat(np.sort(rng.integers(0, n, 300)) + rng.integers(0, 300, 300), 8)
    loudness = np.repeat(rng.lognormal(0, 0.9, 300), 8) * rng.lognormal(0, 0.5, 2400)  # 8 per knock
    kitchen = place(damped_tones(loudness, (700, 3800), (0.004, 0.07), 0), start)
    room = lfilter([1], [1, -1.1, 0.35], rng.normal(size=n)) + 0.5 * rng.normal(size=n)
    tap = water + place(bubbles, rng.integers(0, n, 2400))
    dishes = kitchen / kitchen.std() + 0.8 * room / room.std()
    return dict(zip(KINDS, np.float32([tap, dishes, rng.standard_normal(n)])))


_FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.tar.gz"
_FSDD_SHA256 = "feb479fad3a37883c3d21ed7f982281c2dd1c18d5aefd7e8a5d50f58023392aa"
_FSDD_RECORDINGS = 3000
_UNPACKED = ("free-spoken-digit-dataset", "free-spoken-digit-dataset-1.0.10")
FSDD_FILES = ("fsdd.tar.xz", "fsdd.tar.gz", f"{_UNPACKED[1]}.tar.gz", *_UNPACKED)
_NAME = re.compile(r"([0-9])_(.+)_([0-9]{1,9})\.wav", re.IGNORECASE)
_NOISE_FILES = dict(zip(KINDS, ("running_tap.wav", "doing_the_dishes.wav", "white_noise.wav")))


def _recordings(source, split):
    """The arrays of `Speech`, and a note: in words what was read, and how it was split."""
    path = source
    if source == "fsdd":
        try:
            path = store.find(*FSDD_FILES) or store.download(_FSDD, "fsdd.tar.gz", _FSDD_SHA256)
        except store.DataError as error:
            put = f"put fsdd.tar.gz, which is {_FSDD} renamed, into {store.folder()}"
            raise store.missing("speech", put, error) from error
    try:
        found, report = _read_all(path)
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        what = f"{path} is no folder of wavs or tar archive, or damaged ({type(error).__name__})"
        raise store.DataError(f"data.speech: {what}. Unpack other archives.") from error
    if source == "fsdd" and len(found) != _FSDD_RECORDINGS:
        what = f"{path} has {len(found):,} recordings, FSDD {_FSDD_RECORDINGS:,}"
        raise store.DataError(f"data.speech: {what}. Replace it by version 1.0.10, {_FSDD}.")
    _, x, y, voice, length, take, part = map(np.array, zip(*found))
    train, test = part == "train", part == "test"
    how = f"split by its folders train and test, {(~train & ~test).sum():,} outside of them unused"
    if not (train | test).any():
        test = take < 5 if 0 < (take < 5).sum() < len(take) else take == take.min()
        train, how = ~test, f"test takes are {', '.join(map(str, np.unique(take[test])))}"
    if not train.any() or not test.any():
        what = f"{path} leaves one of train and test without recordings ({how})"
        raise store.DataError(
            f"data.speech: {what}. Needed are two different takes, or both folders."
        )
    note = "" if source == "fsdd" else f"; {how}; {report}"
    rows = {"train": train, "test": test}[split]
    x, length = _normalize(x[rows], length[rows]), length[rows]
    return {"x": x, "y": y[rows], "voice": voice[rows], "length": length, "note": note}


def _folder_files(folder, visited):
    """(path, function that reads it) of each file of a folder; each subfolder once."""
    if folder.resolve() in visited:
        return
    visited.add(folder.resolve())
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path, path.read_bytes
        elif not path.name.startswith("."):
            yield from _folder_files(path, visited)


def _archive_files(path):
    """(path, function that reads it) of each regular file of a tar archive."""
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isreg():
                yield path / member.name.lstrip("/"), tar.extractfile(member).read
        whole = tar.fileobj.tell() >= tar.offset + tarfile.BLOCKSIZE  # zeros mark a tar's end
        if not whole or tar.fileobj.read().strip(b"\0"):  # read verifies a compressed file's end
            raise tarfile.ReadError("it is cut off or damaged")


def _read_all(path):
    """All recordings, shuffled by name, as tuples; and in words what was read and skipped."""
    found, skipped = [], Counter()
    for file, read in _folder_files(path, set()) if path.is_dir() else _archive_files(path):
        name, inside = _NAME.fullmatch(file.name), file.relative_to(path).parts
        if any(part.startswith(".") for part in inside):
            continue
        if name:
            x = _read_wav(read, f"data.speech: {file}")[:_SAMPLES].astype(np.float32)
            padded = np.pad(x, (0, _SAMPLES - len(x)))
            part = next((part for part in map(str.lower, inside) if part in ("train", "test")), "")
            found.append((file.name, padded, int(name[1]), name[2], len(x), int(name[3]), part))
        else:
            kind = file.suffix.lower() or "without a suffix"
            skipped["not named like 7_jackson_32.wav" if kind == ".wav" else kind] += 1
    report = f"{len(found) + skipped.total():,} files, {len(found):,} read"
    report += "".join(f", {n:,} skipped: {reason}" for reason, n in sorted(skipped.items()))
    if not found:
        what = f"{path} holds no wav named like 7_jackson_32.wav (digit, voice, take); {report}"
        raise store.DataError(f"data.speech: {what}.")
    found.sort(key=lambda row: zlib.crc32(os.fsencode(row[0])))  # shuffles, each time equally
    return found, report


def _read_wav(read, name):
    """The wav that `read()` returns as bytes: samples (n,) in [-1, 1], mono, 8 kHz."""
    try:
        with warnings.catch_warnings(action="ignore"):  # unknown chunks
            warnings.filterwarnings("error", "Reached EOF")  # a wav that is cut off
            rate, x = scipy.io.wavfile.read(io.BytesIO(read()))
        if x.dtype.kind != "f":  # 8 bits are unsigned
            x = (x - 128.0 * (x.dtype == np.uint8)) / 2.0 ** (8 * x.itemsize - 1)
        if not len(x) or not np.isfinite(x).all() or not 1000 <= rate <= 768_000:
            raise ValueError(f"{len(x)} samples, {rate} per second, or some not finite")
        return scipy.signal.resample_poly(x.reshape(len(x), -1).mean(1), _RATE, rate)
    except Exception as error:  # SciPy raises many kinds for a damaged file
        raise store.DataError(f"{name} cannot be read ({error}). Convert or remove it.") from error


def _recorded_noise(kind):
    """One recording (samples,) in [-1, 1], 8 kHz."""
    path = store.find(f"noise/{_NOISE_FILES[kind]}")
    if path is None:
        put = f"put {', '.join(_NOISE_FILES.values())} into {store.folder() / 'noise'}"
        raise store.missing("noises", put, "Google's Speech Commands is too large to download")
    clip = _read_wav(path.read_bytes, f"data.noises: {path}")
    if len(clip) < 10 * _RATE or not min(part.std() for part in np.array_split(clip, 5)) > 0:
        raise store.DataError(f"data.noises: {path} is too short, or silent. Replace it.")
    return clip

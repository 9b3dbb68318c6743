"""Spoken digits and the noise around them: synthesized (embedded), or recordings: FSDD, and Speech Commands' noises."""

import http.client
import io
import re
import tempfile
import wave
import zlib
from math import gcd
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import scipy                                             # its parts load at their first use, which most lessons have none of
import torch

from aecourse import _reading
from aecourse.data import _store

RATE, SAMPLES = 8000, 8000                               # samples a second, and of one word: a second of sound
LEVEL = 0.1                                              # root mean square of every word while it lasts, and of noise
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = ("running tap", "dishes", "white")


class Speech(NamedTuple):
    """`n` words: `x, y, *_ = speech("test")`, or by name, `speech("test").voice`."""

    x: torch.Tensor               # (n, 8000) float32 in [-1, 1], 8 kHz, zeros behind the word
    y: torch.Tensor               # (n,) int64, the digit
    voice: np.ndarray             # (n,) of str, who speaks
    length: torch.Tensor          # (n,) int64, samples until the word is over


def speech(split="train", source=None):
    """One spoken digit per row, a second each, all equally loud: 0.1 root mean square while the word lasts.

    source  None reads AECOURSE_DATA; "synthesised" (embedded: 2,400 words of 24 voices to train, 300 of 6 other voices to
            test), "fsdd" (2,700 and 300 recordings of 6 people, split by take as its authors do), or the path of a folder
            or tar archive of wavs named {digit}_{voice}_{take}.wav, takes 0 to 4 being the test set.
    Returns `Speech`, whose first two are x: (n, 8000) and y: (n,). Words longer than a second are cut off.
    Raises ValueError for an unknown split or source, DataError for files that are missing or not what they should be.
    """
    _known("speech", split)
    source = _store.choose("speech", source, "synthesised", ("fsdd",))
    if source == "synthesised":
        version = _store.checksum(__file__)[:8]          # another synthesizer, another cache
        arrays = _store.cached(f"speech-{source}-{split}-{version}", lambda: synthesize(split), _unfit)
    else:
        arrays = _recorded(source)
        rows = (arrays["take"] < 5) == (split == "test")
        if not rows.any():
            raise _store.DataError(f"data.speech: {source} has no recording for {split!r}: takes 0 to 4 are the test set")
        arrays = {key: value[rows] for key, value in arrays.items()}
    x, y, voice, length = (arrays[key] for key in ("x", "y", "voice", "length"))
    _store.announce("speech", source, f"{split}: {len(y):,} words of {len(set(voice))} voices")
    return Speech(torch.from_numpy(x / np.float32(32768)), torch.from_numpy(y).long(), voice, torch.from_numpy(length))


def _unfit(arrays, **more):
    """What is wrong with words that come from a cache, in words; "" if nothing."""
    rows = {"x": ("i2", SAMPLES), "y": ("u1",), "length": ("i8",), "voice": ("U",), **more}
    return _reading.unfit(arrays, rows) or "labels or lengths are out of range" * bool(
        arrays["y"].max() > 9 or arrays["length"].min() < 1 or arrays["length"].max() > SAMPLES)


def noises(split="train", source=None):
    """Background noise, a dict kind -> (samples,) float32 at 8 kHz, 0.1 root mean square; the kinds are `NOISE_KINDS`.

    source  None reads AECOURSE_DATA; "synthesised" (embedded: a minute of each kind) or "recorded" (three files of Google's
            Speech Commands). "train" is the first 60 % of the time, "test" the last 40 %.
    Raises ValueError for an unknown split or source, DataError for files that are missing or not what they should be.
    """
    _known("noises", split)
    source = _store.choose("noises", source, "synthesised", ("recorded", "fsdd"))
    if isinstance(source, Path):
        raise ValueError(f"data.noises: unknown source '{source}'. Known are 'synthesised' and 'recorded'.")
    source = "recorded" if source == "fsdd" else source  # one word for a lesson that wants words and noise
    if source == "synthesised":
        arrays = _store.cached(f"noises-{source}-{_store.checksum(__file__)[:8]}", _synthesized_noises,
                               lambda arrays: _reading.unfit(arrays, dict.fromkeys(KINDS, ("f4",)))
                               or "it is silent" * any(map(_silent, arrays.values())))
    else:
        arrays = {kind: _noise_file(kind) for kind in KINDS}
    clips = {}
    for kind, clip in arrays.items():
        cut = int(0.6 * len(clip))
        clip = clip[:cut] if split == "train" else clip[cut:]
        clips[kind] = torch.from_numpy((LEVEL / clip.std() * (clip - clip.mean())).astype(np.float32))
    seconds = sum(len(clip) for clip in clips.values()) / RATE
    _store.announce("noises", source, f"{split}: {', '.join(clips)}; {seconds:.0f} seconds together")
    return clips


def _known(kind, split):
    if split not in ("train", "test"):
        raise ValueError(f"data.{kind}: unknown split {split!r}. Known are 'train' and 'test'.")


# ---------------------------------------------------------------------------------------------------------------------
# Synthesized. A word is a row of sounds. Voiced ones start at the vocal folds: pulses with a pitch. Unvoiced ones start as
# noise. Resonators shape both: the formants of mouth and throat, after Klatt (1980) in a cascade; one band for a fricative.

SOUNDS = {   # ms, formants 1 to 3 of a man in Hz, how much voice, breath and friction, the friction's center and width
    "Z":  (75,  270, 1650, 2500,  .35, .00, .50, 3700, 900),    "S":  (105, 380, 1750, 2500,  .00, .00, .75, 3750, 900),
    "F":  (85,  340, 1050, 2200,  .00, .02, .16, 2400, 3500),   "TH": (75,  320, 1400, 2500,  .00, .02, .15, 3100, 2500),
    "V":  (60,  270, 1100, 2250,  .40, .00, .07, 2400, 3500),   "R":  (60,  340, 1120, 1600,  .75, .00, .00, 2500, 900),
    "W":  (65,  300,  680, 2200,  .70, .00, .00, 2500, 900),    "N":  (75,  260, 1350, 2400,  .45, .00, .00, 2500, 900),
    "-":  (45,  350, 1750, 2600,  .00, .00, .00, 3000, 900),    "T":  (14,  350, 1800, 2700,  .00, .08, .90, 3500, 1100),
    "K":  (16,  330, 2050, 2500,  .00, .12, .90, 2200, 700),    "H":  (28,  330, 1700, 2500,  .00, .22, .05, 3000, 1500),
    "IY": (90,  290, 2250, 2900, 1.00, .00, .00, 2500, 900),    "IH": (75,  400, 1950, 2550, 1.00, .00, .00, 2500, 900),
    "EH": (80,  560, 1800, 2500, 1.00, .00, .00, 2500, 900),    "E":  (75,  470, 2000, 2600, 1.00, .00, .00, 2500, 900),
    "A":  (100, 740, 1250, 2450, 1.00, .00, .00, 2500, 900),    "I":  (65,  360, 2100, 2650,  .85, .00, .00, 2500, 900),
    "AH": (110, 650, 1200, 2400, 1.00, .00, .00, 2500, 900),    "AX": (45,  500, 1450, 2450,  .70, .00, .00, 2500, 900),
    "AO": (120, 570,  880, 2400, 1.00, .00, .00, 2500, 900),    "O":  (80,  540, 1000, 2350, 1.00, .00, .00, 2500, 900),
    "U":  (70,  370,  850, 2250,  .80, .00, .00, 2500, 900),    "UW": (130, 320, 1050, 2250, 1.00, .00, .00, 2500, 900),
}
SPELLED = ("Z IH R O U", "W AH N", "T H UW", "TH R IY", "F AO R", "F A I V", "S IH - K H S", "S EH V AX N", "E I - T H",
           "N A I N")
STEP, FRAMES = 40, 190                                   # samples of one frame, 5 ms; frames of the longest word
WIDTHS = np.array([70, 90, 140, 220], np.float32)        # bandwidths of formants 1 to 4, Hz


def synthesize(split, seed=0):
    """The embedded words as arrays: 24 voices, 10 takes of each word, or for "test" 6 other voices, 5 takes."""
    rng = np.random.default_rng([seed, split == "test"])
    voices, takes = (24, 10) if split == "train" else (6, 5)
    n = voices * len(WORDS) * takes
    who, y = np.repeat(np.arange(voices), n // voices), np.tile(np.repeat(np.arange(10), takes), voices)
    order = rng.permutation(n)
    who, y = who[order], y[order]
    spread = (np.arange(voices) + rng.random(voices)) / voices                       # from low to high, none left out
    voice = {"pitch": 85 * 3 ** spread, "tract": 0.93 + 0.25 * spread + 0.03 * rng.normal(size=voices),
             "tempo": np.exp(0.12 * rng.normal(size=voices)), "breath": rng.uniform(0.003, 0.03, voices),
             "tilt": rng.uniform(0.75, 0.93, voices), "accent": 0.03 * rng.normal(size=(voices, len(SOUNDS), 3)),
             "melody": rng.normal(size=(voices, 2))}
    x, length = np.zeros((n, SAMPLES), np.int16), np.zeros(n, np.int64)
    for rows in np.array_split(np.arange(n), n // 150):
        tracks, length[rows] = _tracks(y[rows], {key: value[who[rows]] for key, value in voice.items()}, rng)
        words = _speak(tracks, {key: value[who[rows]] for key, value in voice.items()}, rng)
        x[rows] = _level(words, length[rows])
    return {"x": x, "y": y.astype(np.uint8), "length": length,
            "voice": np.array([f"{'voice' if split == 'train' else 'stranger'} {i}" for i in range(voices)])[who]}


def _tracks(y, voice, rng):
    """What the mouth does in each frame (n, FRAMES, 8): formants 1 to 3, voice, breath, friction, its center and width."""
    n, names = len(y), list(SOUNDS)
    table = np.array(list(SOUNDS.values()))
    tempo = 1.3 * voice["tempo"] * np.exp(0.08 * rng.normal(size=n))
    tracks, length = np.zeros((n, FRAMES, 8)), np.zeros(n, np.int64)
    for digit in np.unique(y):
        sounds = np.array([names.index(name) for name in SPELLED[digit].split()])
        rows = np.flatnonzero(y == digit)
        ms = table[sounds, 0] * tempo[rows, None] * np.exp(0.13 * rng.normal(size=(len(rows), len(sounds))))
        ms *= np.minimum(1, 0.97 * FRAMES * 5 / (ms.sum(1, keepdims=True) + 30))
        ends = np.cumsum(ms, 1) / 5
        place = (np.arange(FRAMES)[:, None] >= ends[:, None, :]).sum(2)              # which sound a frame belongs to
        aim = np.repeat(table[None, sounds, 1:], len(rows), 0)
        aim[..., :3] *= np.exp(voice["accent"][rows][:, sounds] + 0.025 * rng.normal(size=(len(rows), len(sounds), 3)))
        aim[..., :3] *= voice["tract"][rows][:, None, None]
        aim[..., 3:6] *= np.exp(0.15 * rng.normal(size=(len(rows), len(sounds), 3)))
        got = np.take_along_axis(aim, np.minimum(place, len(sounds) - 1)[..., None], 1)
        got[..., 3:6] *= (place < len(sounds))[..., None]                            # behind the word: silence
        tracks[rows], length[rows] = got, STEP * np.ceil(ends[:, -1] + 3)
    tracks[..., :3] = scipy.ndimage.gaussian_filter1d(tracks[..., :3], 4.5, axis=1, mode="nearest")      # a tongue has mass
    tracks[..., 3:6] = scipy.ndimage.gaussian_filter1d(tracks[..., 3:6], 1.0, axis=1, mode="constant")   # a burst is fast
    return tracks.astype(np.float32), length


def _speak(tracks, voice, rng):
    """Sound (n, FRAMES * STEP): pulses and noise through the resonators, sample after sample, all words at once."""
    n, total = len(tracks), FRAMES * STEP
    along = np.linspace(0, 1, FRAMES)
    fall, bend = 0.16 + 0.05 * voice["melody"][:, :1], 0.05 * voice["melody"][:, 1:]
    pitch = voice["pitch"][:, None] * np.exp(0.06 * rng.normal(size=(n, 1)) - fall * along + bend * np.sin(7 * along))
    pitch *= np.exp(scipy.ndimage.gaussian_filter1d(0.03 * rng.normal(size=pitch.shape), 1.5, axis=1))       # jitter
    phase = np.cumsum(np.repeat(pitch, STEP, 1) * (2 * np.pi / RATE), 1)
    harmonics = (0.475 * RATE // pitch.max(1, keepdims=True)).astype(np.float32)               # none above the middle
    z = (0.999 * np.exp(1j * phase)).astype(np.complex64)
    pulses = (z * (1 - z ** harmonics) / (1 - z)).real                               # the sum of so many cosines

    amount = np.stack([np.repeat(tracks[..., i], STEP, 1) for i in (3, 4, 5)])       # voice, breath, friction
    amount = scipy.signal.lfilter([0.05], [1, -0.95], amount, axis=2).astype(np.float32)       # no steps
    noise = rng.standard_normal((2, n, total), np.float32)
    folds = np.sqrt(pitch[:, :1] / RATE).astype(np.float32) * pulses * amount[0]     # equal power at any pitch
    breath = noise[0] * (amount[1] + voice["breath"][:, None].astype(np.float32) * amount[0])
    friction = 0.35 * noise[1] * amount[2]
    poles, tract = _poles(tracks, voice["tract"]), voice["tilt"].astype(np.float32)
    a, b, c = poles                                                                  # each (FRAMES, 6, n)
    y1, y2, drive = (np.zeros((6, n), np.float32) for _ in range(3))
    x, folds, breath, friction = np.zeros((total, n), np.float32), folds.T.copy(), breath.T.copy(), friction.T.copy()
    source = np.zeros(n, np.float32)
    for t in range(total):                               # stage k works on what stage k - 1 gave one sample ago
        k = t // STEP
        source = tract * source + folds[t]               # the folds' spectrum falls towards high pitches
        drive[1:4], drive[5] = y1[:3], y1[4]
        drive[0], drive[4] = source + breath[t], friction[t]
        y1, y2 = a[k] * drive + b[k] * y1 + c[k] * y2, y1
        x[t] = y1[3] + y1[5]
    return np.diff(x.T, axis=1, prepend=0)               # what the lips radiate


def _poles(tracks, tract):
    """Second-order resonators y = a x + b y1 + c y2, as (FRAMES, 6, n): four formants, and twice the friction's band."""
    n = len(tracks)
    fourth = np.broadcast_to(3500 * tract[:, None, None], (n, FRAMES, 1))
    center = np.concatenate([tracks[..., :3], fourth, tracks[..., 6:7], tracks[..., 6:7]], 2)
    width = np.concatenate([np.broadcast_to(WIDTHS, (n, FRAMES, 4)), tracks[..., 7:8], tracks[..., 7:8]], 2)
    r = np.exp(-np.pi * width / RATE)
    b, c = 2 * r * np.cos(2 * np.pi * np.minimum(center, 3850) / RATE), -r * r
    a = np.concatenate([(1 - b - c)[..., :4], (1 - r)[..., 4:]], 2)                  # formants leave low pitches as loud
    return tuple(v.transpose(1, 2, 0).astype(np.float32).copy() for v in (a, b, c))


def _level(x, length):
    """Waves (n, samples) as int16 (n, SAMPLES): no offset, equally loud while the word lasts, nothing behind it."""
    inside = np.arange(SAMPLES) < length[:, None]
    x = np.pad(x, ((0, 0), (0, max(0, SAMPLES - x.shape[1]))))[:, :SAMPLES]
    length = np.minimum(length, SAMPLES)[:, None]
    x = np.where(inside, x - (x * inside).sum(1, keepdims=True) / length, 0)
    power = (x ** 2).sum(1, keepdims=True) / length
    return np.clip(np.rint(32768 * LEVEL * x / np.sqrt(power + 1e-20)), -32768, 32767).astype(np.int16)


def _synthesized_noises(seconds=60, seed=0):
    """A minute of each kind: water with bubbles, the clatter of plates over a hum, and white noise."""
    rng, n = np.random.default_rng(seed), seconds * RATE

    def ring(count, hertz, decay, loud, glide, size=1600):       # `count` damped tones (count, size)
        t = np.arange(size) / RATE
        phase = 2 * np.pi * hertz[:, None] * (t + glide * rng.normal(size=(count, 1)) * t * t)
        return loud[:, None] * np.exp(-t / decay[:, None]) * np.sin(phase + 6.28 * rng.random((count, 1)))

    def scatter(tones, when):
        out = np.zeros(n + tones.shape[1])
        np.add.at(out, when[:, None] + np.arange(tones.shape[1]), tones)
        return out[:n]

    lfilter = scipy.signal.lfilter
    water = lfilter([1, -0.55], [1, 0.25, 0.35], rng.normal(size=n)) + 0.5 * lfilter([1], [1, -1.5, 0.8], rng.normal(size=n))
    water *= np.exp(lfilter([0.004], [1, -0.9995], rng.normal(size=n)))              # it swells and falls a little
    count = 40 * seconds
    loud = 3 * rng.lognormal(0, 0.5, count)
    bubbles = ring(count, rng.uniform(400, 1800, count), rng.uniform(0.003, 0.015, count), loud, 5)
    count = 5 * seconds                                  # knocks; each lets eight modes of a plate ring
    when = np.repeat(np.sort(rng.integers(0, n, count)) + rng.integers(0, 300, count), 8)
    loud = np.repeat(rng.lognormal(0, 0.9, count), 8) * rng.lognormal(0, 0.5, 8 * count)
    plates = ring(8 * count, rng.uniform(700, 3800, 8 * count), rng.uniform(0.004, 0.07, 8 * count), loud, 0)
    room = lfilter([1], [1, -1.1, 0.35], rng.normal(size=n)) + 0.5 * rng.normal(size=n)
    kitchen = scatter(plates, np.clip(when, 0, n - 1))
    return {"running tap": (water + scatter(bubbles, rng.integers(0, n, 40 * seconds))).astype(np.float32),
            "dishes": (kitchen / kitchen.std() + 0.8 * room / room.std()).astype(np.float32),
            "white": rng.standard_normal(n).astype(np.float32)}


# ---------------------------------------------------------------------------------------------------------------------
# Recorded

FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.tar.gz"
FSDD_FILES = ("fsdd.tar.xz", "fsdd.tar.gz", "free-spoken-digit-dataset-1.0.10.tar.gz", "free-spoken-digit-dataset")
FSDD_VOICES, FSDD_TAKES = 6, 50                          # of each digit
NAME = re.compile(r"([0-9])_([A-Za-z]\w*?)_([0-9]{1,9})\.wav")
REMEDY = "\nReplace or remove it. The embedded data needs no file: source='synthesised'."


def read_wav(file, name, rates=(RATE,)):
    """The samples (n,) int16 of a mono 16-bit wav, and its rate. `file`: bytes. Raises DataError saying what is wrong."""
    try:
        with wave.open(io.BytesIO(file)) as sound:
            channels, width, rate, n = sound.getparams()[:4]
            frames = sound.readframes(n)
    except Exception as error:                           # wave.Error, and whatever else a damaged header makes it raise
        why = str(error) or type(error).__name__
        raise _store.DataError(f"{name} is no 16-bit PCM wav, or is cut off ({why}).{REMEDY}") from error
    if channels != 1 or width != 2:
        raise _store.DataError(f"{name}: {channels} channel{'s'[:channels > 1]} of {8 * width} bits; wanted is mono, 16 "
                               f"bits.{REMEDY}")
    if rate not in rates:
        raise _store.DataError(f"{name} has {rate} samples a second; wanted is {' or '.join(map(str, rates))}.{REMEDY}")
    if len(frames) != 2 * n or not n:
        raise _store.DataError(f"{name} is cut off: {len(frames) // 2:,} of {n:,} samples are there.{REMEDY}")
    return np.frombuffer(frames, "<i2").astype(np.int16), rate


def _recorded(source):
    """All recordings of FSDD, or of the folder or archive at the path `source`: x, y, voice, take, length."""
    path = _store.find(*FSDD_FILES) if source == "fsdd" else source
    put = f"put fsdd.tar.gz, which is {FSDD} renamed, into {_store.folder()}"
    if path is None:
        try:
            print(f"speech: fetching {FSDD}, once")
            with tempfile.TemporaryDirectory() as home:  # kept only if it can be read and is complete
                came = _store.download(FSDD, Path(home) / "fsdd.tar.gz")
                arrays = _complete(_read_all(came), came)
                with _store.arriving(_store.folder() / "fsdd.tar.gz") as kept:
                    kept.write_bytes(came.read_bytes())
            return arrays
        except (OSError, http.client.HTTPException, _store.DataError) as error:
            raise _store.missing("speech", put, f"FSDD could not be had: {error}") from error
    stat = path.stat()
    key = f"speech-{path.name}-{stat.st_size}-{stat.st_mtime_ns}"

    def make():
        arrays = _read_all(path)
        return _complete(arrays, path) if source == "fsdd" else arrays

    if path.is_dir():                                    # it changes without its size
        return make()
    return _store.cached(key, make, lambda arrays: _unfit(arrays, take=("i8",)))


def _complete(arrays, path):
    wanted = 10 * FSDD_VOICES * FSDD_TAKES
    if len(arrays["y"]) != wanted or len(set(arrays["voice"])) != FSDD_VOICES:
        raise _store.DataError(f"data.speech: {path} holds {len(arrays['y']):,} recordings of {len(set(arrays['voice']))} "
                               f"voices, and FSDD has {wanted:,} of {FSDD_VOICES}. Is it whole, and version 1.0.10?")
    return arrays


def _read_all(path):
    """Every wav named {digit}_{voice}_{take}.wav in a folder or a tar archive, which is read in memory, not unpacked."""
    found = []
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*.wav")):
                if match := NAME.fullmatch(file.name):
                    found.append((match, read_wav(_reading.read(file), f"data.speech: {file}")[0]))
        else:
            for name, content in _reading.members(path, lambda name: NAME.fullmatch(name.name)):
                match = NAME.fullmatch(PurePosixPath(name).name)
                found.append((match, read_wav(content, f"data.speech: {name} in {path}")[0]))
    except OSError as error:
        raise _store.DataError(f"data.speech: {path} cannot be read ({error}); wanted is a folder or a tar archive of wavs.\n"
                               "The embedded data needs no file: source='synthesised'.") from error
    if not found:
        raise _store.DataError(f"data.speech: {path} holds no wav named like 7_jackson_32.wav: digit, voice, take.\n"
                               "The embedded data needs no file: source='synthesised'.")
    found.sort(key=lambda item: zlib.crc32(item[0].group().encode()))     # mixed, and the same everywhere
    length = np.array([min(len(wav), SAMPLES) for _, wav in found])
    x = np.zeros((len(found), SAMPLES), np.float32)
    for row, (_, wav) in zip(x, found):
        row[:len(wav)] = wav[:SAMPLES]
    return {"x": _level(x, length), "y": np.array([int(match[1]) for match, _ in found], np.uint8), "length": length,
            "voice": np.array([match[2] for match, _ in found]), "take": np.array([int(match[3]) for match, _ in found])}


NOISE_FILES = {"running tap": "running_tap.wav", "dishes": "doing_the_dishes.wav", "white": "white_noise.wav"}


def _silent(clip):
    """Whether "train" or "test", the first 60 % and the rest, would have no sound."""
    return not all(part.std() > 0 for part in np.split(clip, [int(0.6 * len(clip))]))


def _noise_file(kind):
    """One recording at 8 kHz, (samples,) float64 in [-1, 1]."""
    name = NOISE_FILES[kind]
    path = _store.find(f"noise/{name}")
    if path is None:
        put = f"put {', '.join(NOISE_FILES.values())} into {_store.folder() / 'noise'}: the folder _background_noise_ of " \
              "Google's Speech Commands has them"
        raise _store.missing("noises", put, f"there is no noise/{name}, and the archive that has it is too large to fetch")
    try:
        content = _reading.read(path)
    except OSError as error:
        raise _store.DataError(f"data.noises: {path} cannot be read ({error}).{REMEDY}") from error
    clip, rate = read_wav(content, f"data.noises: {path}", (RATE, 16_000, 44_100, 48_000))
    if len(clip) < 10 * rate or _silent(clip):
        raise _store.DataError(f"data.noises: {path} is silent in a part, or shorter than ten seconds.{REMEDY}")
    return scipy.signal.resample_poly(clip / 32768, RATE // gcd(rate, RATE), rate // gcd(rate, RATE))

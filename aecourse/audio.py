"""Sound as a picture and back: spectrograms, their inverse, players and plots.

A wave is `(..., samples)`, float, in [-1, 1]; its spectrogram `(..., bins, frames)`, complex. Waves of the course have 8,000 samples a second.
"""

import io
import wave as wav
from html import escape

import numpy as np
import torch

from aecourse import plotting

RATE = 8000                                              # samples a second
WINDOW, HOP = 256, 64                                    # samples of one frame (32 ms), and from one frame to the next (8 ms)


def spectrogram(wave, *, window=WINDOW, hop=HOP):
    """Short-time Fourier transform: `(..., samples) -> (..., window // 2 + 1, frames)`, complex.

    A Hann window of `window` samples moves by `hop`; frame i is centered on sample i * hop. Magnitude and angle of an entry are
    loudness and phase of one pitch, bin * rate / window in Hz, in one frame.
    """
    if wave.shape[-1] <= window // 2:
        raise ValueError(f"a window of {window} samples needs more than {window // 2} of them, got {wave.shape[-1]}")
    flat = wave.reshape(-1, wave.shape[-1])
    spec = torch.stft(flat, window, hop, window=_hann(window, wave), return_complex=True)
    return spec.view(*wave.shape[:-1], *spec.shape[1:])


def inverse(spec, samples, *, window=WINDOW, hop=HOP):
    """The wave `(..., samples)` whose spectrogram is nearest to `spec (..., bins, frames)` (Griffin and Lim 1984, equation 6).

    `inverse(spectrogram(x), x.shape[-1])` is x. A spectrogram that was changed seldom belongs to any wave; this takes the nearest.
    """
    flat = spec.reshape(-1, *spec.shape[-2:])
    wave = torch.istft(flat, window, hop, window=_hann(window, spec.real), length=samples)
    return wave.view(*spec.shape[:-2], samples)


def _hann(window, like):
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


def decibels(spec, *, floor=-100.0):
    """Loudness `20 log10 |spec|` in dB, of a spectrogram of any shape; nothing is below `floor`."""
    return (20 * torch.log10(spec.abs().clamp(min=1e-10))).clamp(min=floor)


def show(wave, *, title=None, range_db=60, top=None, rate=RATE, ax=None):
    """The spectrogram of one wave `(samples,)`: time to the right, pitch upwards, bright is loud.

    range_db: what is so many dB below `top` is black; top: dB of white (default: the loudest place). Returns the Axes.
    """
    if wave.ndim != 1:
        raise ValueError(f"show draws one wave (samples,), got {tuple(wave.shape)}")
    level = decibels(spectrogram(wave.detach().cpu()))
    top = float(level.max()) if top is None else top
    ax = ax if ax is not None else plotting.plt.subplots(figsize=(7, 2.6))[1]
    ax.imshow(level.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=top - range_db, vmax=top, interpolation="nearest",
              extent=(0, len(wave) / rate, 0, rate / 2000))
    ax.set(xlabel="seconds", ylabel="kHz")
    return plotting._named(ax, title)


class Players:
    """Sounds to listen to in a notebook: a row with a name and a player for each."""

    def __init__(self, rows):
        self.rows = rows                                 # name -> bytes of a wav

    def __repr__(self):
        return "players: " + ", ".join(f"{name} ({len(sound) // 1000} kB)" for name, sound in self.rows.items())

    def _repr_html_(self):
        from IPython.display import Audio

        cell = '<td style="text-align:left">'
        rows = (f"<tr>{cell}{escape(name)}</td>{cell}{Audio(data=sound)._repr_html_().strip()}</td></tr>"
                for name, sound in self.rows.items())
        return f"<table>{''.join(rows)}</table>"


def players(waves, *, rate=RATE, loudest=0.9):
    """Players for `waves`, a dict name -> `(samples,)`. One factor for all of them: the loudest sample of all becomes `loudest`.

    Each is kept as a 16-bit wav inside the notebook: 2 bytes a sample, and a third more as text.
    """
    peak = max(float(wave.abs().max()) for wave in waves.values()) or 1.0
    rows = {}
    for name, wave in waves.items():
        if wave.ndim != 1 or not wave.isfinite().all():
            raise ValueError(f"players wants one finite wave (samples,) per name, got {name!r} of shape {tuple(wave.shape)}")
        rows[name] = to_wav(wave * (loudest / peak), rate)
    return Players(rows)


def to_wav(wave, rate=RATE):
    """The bytes of a mono 16-bit wav of `wave (samples,)` in [-1, 1]; what is louder is clipped."""
    samples = np.rint(32767 * wave.detach().cpu().double().clamp(-1, 1).numpy()).astype("<i2")
    buffer = io.BytesIO()
    with wav.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()

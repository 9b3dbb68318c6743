"""Sound as an image and back: spectrograms, their inverse, players and plots.

A waveform is `(..., samples)`, float, in [-1, 1]; its spectrogram `(..., bins, frames)`, complex.
The course's waveforms have 8,000 samples per second.
"""

import io
from html import escape

from aecourse import plotting

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Audio
from scipy.io import wavfile
from torch import Tensor

RATE = 8000  # samples per second
WINDOW, HOP = 256, 64  # samples of a frame (32 ms), and from one frame to the next (8 ms)


def spectrogram(waveform: Tensor, *, window: int = WINDOW, hop: int = HOP) -> Tensor:
    """Short-time Fourier transform: `(..., samples) -> (..., window // 2 + 1, frames)`, complex.

    A Hann window of `window` samples moves by `hop`; frame i is centered on sample i * hop. An
    entry's magnitude and angle are the amplitude and phase of one frequency, bin * rate / window
    in Hz, in one frame. Raises ValueError for a waveform that is shorter than half a window.
    """
    samples = waveform.shape[-1]
    if samples <= window // 2:
        wanted = f"a window of {window} samples needs more than {window // 2} of them"
        raise ValueError(f"{wanted}, got {samples}")
    flat = waveform.reshape(-1, samples)
    spec = torch.stft(flat, window, hop, window=_hann(window, waveform), return_complex=True)
    return spec.view(*waveform.shape[:-1], *spec.shape[1:])


def inverse(spec: Tensor, samples: int, *, window: int = WINDOW, hop: int = HOP) -> Tensor:
    """The waveform `(..., samples)` whose spectrogram is nearest to `spec (..., bins, frames)`.

    `inverse(spectrogram(x), x.shape[-1])` is x. A modified spectrogram seldom belongs to any
    waveform; this is the least-squares estimate (Griffin and Lim 1984, equation 6).
    """
    flat = spec.reshape(-1, *spec.shape[-2:])
    waveform = torch.istft(flat, window, hop, window=_hann(window, spec.real), length=samples)
    return waveform.view(*spec.shape[:-2], samples)


def _hann(window, like):
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


def decibels(spec: Tensor, *, floor: float = -100.0) -> Tensor:
    """Level `20 log10 |spec|` in dB, of a spectrogram of any shape, at least `floor`."""
    return (20 * torch.log10(spec.abs().clamp(min=1e-10))).clamp(min=floor)


def show(waveform, *, title=None, range_db=60, top=None, ax=None):
    """Draw the spectrogram of `waveform (samples,)`: time to the right, frequency upwards.

    top: the level in dB drawn brightest (default: the highest); `range_db` below it is black.
    Returns the Axes. Raises ValueError for a batch of waveforms.
    """
    if waveform.ndim != 1:
        raise ValueError(f"show draws one waveform (samples,), got {tuple(waveform.shape)}")
    level = decibels(spectrogram(waveform.detach().cpu()))
    top = float(level.max()) if top is None else top
    ax = ax if ax is not None else plt.subplots(figsize=(7, 2.6))[1]
    extent = (0, len(waveform) / RATE, 0, RATE / 2000)
    shown = {"vmin": top - range_db, "vmax": top, "cmap": "magma", "interpolation": "nearest"}
    ax.imshow(level.numpy(), origin="lower", aspect="auto", extent=extent, **shown)
    ax.set(xlabel="seconds", ylabel="kHz")
    return plotting.set_title(ax, title)


class Players(dict):
    """Sounds to listen to in a notebook: name -> the bytes of a wav."""

    def __repr__(self):
        sizes = (f"{name} ({len(sound) // 1000} kB)" for name, sound in self.items())
        return f"players: {', '.join(sizes)}"

    def _repr_html_(self):
        cell, table = '<td style="text-align:left">', ""
        for name, sound in self.items():
            player = f'<audio controls src="{Audio(data=sound).src_attr()}"></audio>'
            table += f"<tr>{cell}{escape(name)}</td>{cell}{player}</td></tr>"
        return f"<table>{table}</table>"


def players(waveforms: dict[str, Tensor]) -> Players:
    """Players for `waveforms`, a dict name -> `(samples,)`; the loudest peak of all becomes 0.9.

    Each is kept in the notebook as a 16-bit wav: 2 bytes per sample, and a third more as text.
    Raises ValueError for a waveform of another shape, or with NaN or infinity.
    """
    for name, x in waveforms.items():
        if x.ndim != 1 or not len(x) or not x.isfinite().all():
            what = f"got {name!r} of shape {tuple(x.shape)}"
            raise ValueError(f"players wants one finite waveform (samples,) per name, {what}")
    peak = max(float(x.abs().max()) for x in waveforms.values()) or 1.0
    made = Players()
    for name, x in waveforms.items():
        samples = (32767 * 0.9 / peak * x.detach().cpu().double()).round().numpy()
        buffer = io.BytesIO()
        wavfile.write(buffer, RATE, samples.astype(np.int16))
        made[name] = buffer.getvalue()
    return made

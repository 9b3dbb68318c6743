"""Spectrograms against SciPy's, their inverse, players and plots."""

import io

from aecourse import audio

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import signal
from scipy.io import wavfile

TIME = torch.arange(4000, dtype=torch.float64) / audio.RATE
CHIRP = 0.3 * torch.sin(2 * torch.pi * (500 * TIME + 400 * TIME**2))


def test_spectrogram_equals_scipys():
    ours = audio.spectrogram(CHIRP)
    stft = signal.ShortTimeFFT(signal.get_window("hann", 256), 64, audio.RATE, phase_shift=None)
    theirs = stft.stft(np.pad(CHIRP.numpy(), 128, mode="reflect"), p0=2, p1=2 + ours.shape[1])
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-10)


@pytest.mark.parametrize("window, hop", [(256, 64), (256, 128), (128, 32)])
def test_inverse_of_a_batch_of_spectrograms(window, hop):
    x = torch.stack([CHIRP, -CHIRP.flip(0)]).view(2, 1, 4000).float()
    spec = audio.spectrogram(x, window=window, hop=hop)
    assert spec.shape == (2, 1, window // 2 + 1, 4000 // hop + 1) and spec.is_complex()
    back = audio.inverse(spec, 4000, window=window, hop=hop)
    torch.testing.assert_close(back, x, atol=1e-6, rtol=1e-5)


def test_inverse_is_the_least_squares_estimate():
    """The residual is orthogonal to the spectrogram of every waveform."""
    spec = torch.randn(129, 63, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    spec[[0, -1]] = spec[[0, -1]].real.to(torch.complex128)
    weight = torch.ones(129, 1)
    weight[1:-1] = 2  # a real waveform's spectrum has each of these bins twice
    residual = (spec - audio.spectrogram(audio.inverse(spec, 4000)))[:, 4:-4]
    inner = torch.where((TIME > 0.125) & (TIME < 0.375), CHIRP, 0)  # the edges are mirrored
    other = audio.spectrogram(inner)[:, 4:-4]
    assert abs((weight * (residual.conj() * other).real).sum()) < 1e-8 * other.norm()


def test_gradients_pass_through_spectrogram_and_inverse():
    x = CHIRP.clone().requires_grad_()
    audio.inverse(2 * audio.spectrogram(x), 4000).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 2))


def test_decibels():
    level = audio.decibels(torch.tensor([10, 1, 0.1j, 0]))
    torch.testing.assert_close(level, torch.tensor([20.0, 0, -20, -100]))


def test_players_hold_wavs_on_one_scale():
    made = audio.players({"loud": CHIRP, "half <b>": 0.5 * CHIRP, "silence": 0 * CHIRP})
    html = made._repr_html_()
    assert html.count("data:audio/wav;base64,") == 3 and "half &lt;b&gt;" in html
    loud, half, _ = (wavfile.read(io.BytesIO(sound)) for sound in made.values())
    assert loud[0] == 8000 and abs(loud[1]).max() == round(0.9 * 32767)
    np.testing.assert_allclose(loud[1] / 32767, 0.9 * CHIRP / CHIRP.max(), atol=1e-4)
    assert abs(loud[1] - 2.0 * half[1]).max() <= 1
    assert repr(audio.players({"silence": 0 * CHIRP})) == "players: silence (8 kB)"


def test_show_draws_into_the_axes_it_is_given():
    _, ax = plt.subplots()
    assert audio.show(CHIRP, title="A chirp", ax=ax) is ax
    assert ax.get_title("left") == "A chirp" and ax.get_xlabel() == "seconds"
    assert ax.images[0].get_extent() == [0, 0.5, 0, 4] and ax.get_ylabel() == "kHz"


@pytest.mark.parametrize("bad", [torch.zeros(2, 100), torch.tensor([0.0, float("nan")])])
def test_what_is_no_waveform_is_refused(bad):
    with pytest.raises(ValueError, match="one finite waveform"):
        audio.players({"x": bad})
    with pytest.raises(ValueError, match="a window of 256 samples|draws one waveform"):
        audio.show(bad)

"""Spectrograms against scipy's, their inverse, players and pictures."""

import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import signal
from scipy.io import wavfile

from aecourse import audio


@pytest.fixture
def wave():
    t = torch.arange(4000, dtype=torch.float64) / audio.RATE
    return 0.3 * torch.sin(2 * torch.pi * (500 * t + 400 * t ** 2)) + 0.01 * torch.randn(4000, dtype=torch.float64)


def test_a_spectrogram_is_scipys(wave):
    ours = audio.spectrogram(wave)
    stft = signal.ShortTimeFFT(signal.get_window("hann", 256), 64, audio.RATE)       # periodic, as torch's
    theirs = stft.stft(np.pad(wave.numpy(), 128, mode="reflect"), p0=2, p1=2 + ours.shape[1])
    theirs *= np.exp(1j * np.pi * np.arange(129))[:, None] if stft.phase_shift is None else 1
    assert ours.shape == (129, 63) == theirs.shape
    np.testing.assert_allclose(abs(ours.numpy()), abs(theirs), atol=1e-10)


@pytest.mark.parametrize("window, hop", [(256, 64), (256, 128), (128, 32)])
def test_the_inverse_gives_the_wave_back(wave, window, hop):
    x = torch.stack([wave, -wave.flip(0)]).view(2, 1, 4000).float()
    spec = audio.spectrogram(x, window=window, hop=hop)
    assert spec.shape[:3] == (2, 1, window // 2 + 1) and spec.is_complex()
    torch.testing.assert_close(audio.inverse(spec, 4000, window=window, hop=hop), x, atol=1e-6, rtol=1e-5)


def test_the_inverse_is_the_nearest_wave(wave):
    """Least squares: what the inverse loses of a made-up spectrogram is orthogonal to every wave's spectrogram."""
    spec = torch.randn(129, 63, dtype=torch.complex128)
    spec[[0, -1]] = spec[[0, -1]].real.to(torch.complex128)

    def both_halves(s):                                   # a real wave's spectrum has each bin but two twice
        return torch.cat([s, s[1:-1].conj()])

    lost = both_halves(spec - audio.spectrogram(audio.inverse(spec, 4000)))[:, 4:-4]
    inner = torch.zeros_like(wave)
    inner[1000:3000] = wave[1000:3000]                    # away from the edges, which are mirrored
    other = both_halves(audio.spectrogram(inner))[:, 4:-4]
    assert abs((lost.conj() * other).sum().real) < 1e-8 * lost.norm() * other.norm()


def test_a_tone_is_a_line_at_its_pitch():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / audio.RATE)
    assert (audio.spectrogram(tone).abs().argmax(0)[3:-3] == 1000 * 256 / audio.RATE).all()


def test_gradients_pass_through_both_ways(wave):
    x = wave.clone().requires_grad_()
    audio.inverse(2 * audio.spectrogram(x), 4000).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 2))


def test_too_short_a_wave_is_refused():
    with pytest.raises(ValueError, match="a window of 256 samples"):
        audio.spectrogram(torch.zeros(100))


def test_decibels():
    level = audio.decibels(torch.tensor([10, 1, 0.1j, 0]))
    torch.testing.assert_close(level, torch.tensor([20.0, 0, -20, -100]))


def test_players_hold_a_wav_with_one_loudness_for_all(wave):
    made = audio.players({"loud": wave, "half <b>": 0.5 * wave})
    html = made._repr_html_()
    assert html.count("<audio") == 2 and html.count("data:audio/wav;base64,") == 2 and "half &lt;b&gt;" in html
    (rate, loud), (_, half) = (wavfile.read(io.BytesIO(sound)) for sound in made.rows.values())
    assert rate == 8000 and loud.dtype == np.int16 and len(loud) == 4000
    assert abs(int(abs(loud).max()) - round(0.9 * 32767)) <= 1 and abs(loud - 2.0 * half).max() <= 2
    np.testing.assert_allclose(loud / abs(loud).max(), wave / wave.abs().max(), atol=1e-4)
    assert "players: loud" in repr(made)


@pytest.mark.parametrize("bad", [torch.zeros(2, 100), torch.tensor([0.0, float("nan")])])
def test_players_refuse_what_is_no_sound(bad):
    with pytest.raises(ValueError, match="one finite wave"):
        audio.players({"x": bad})


def test_silence_can_be_played_and_drawn():
    silence = torch.zeros(4000)
    assert audio.players({"nothing": silence}).rows
    audio.show(silence)
    plt.close("all")


def test_what_is_too_loud_is_clipped():
    _, samples = wavfile.read(io.BytesIO(audio.to_wav(torch.tensor([2.0, -2.0, 0.0]))))
    assert samples.tolist() == [32767, -32767, 0]


def test_show_draws_into_the_axes_it_is_given(wave):
    figure, ax = plt.subplots()
    assert audio.show(wave, title="Up it goes", ax=ax) is ax
    assert ax.get_title("left") == "Up it goes" and ax.get_xlabel() == "seconds" and ax.get_ylabel() == "kHz"
    assert ax.images[0].get_extent() == [0, 0.5, 0, 4]
    with pytest.raises(ValueError, match="one wave"):
        audio.show(wave.view(2, -1))
    plt.close("all")

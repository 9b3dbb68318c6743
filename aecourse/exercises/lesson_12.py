"""Exercises of lesson 12, Does it work for sound?"""

import math

from aecourse import audio, data, metrics
from aecourse.exercises import (
    Exercise,
    as_tensor,
    check_of_study,
    close,
    require,
    require_close,
)
from aecourse.exercises.inputs import Case

import numpy as np
import torch

# -- 1: the word at a known level ------------------------------------------------------------------


def _check_mix(attempt, case):
    samples, length = case.size("samples", 2000, 4000), case.size("length", 500, 1500)
    word, noise = case.values(samples), case.number_between(0.1, 3) * case.values(samples)
    word[length:] = 0
    noise[length:] *= 3  # another loudness than while the word lasts
    snr = case.number_between(-10, 20)
    what = "one waveform, the word with noise all the way,"
    got = as_tensor(attempt(word.clone(), noise.clone(), length, snr), word.shape, what)
    word, noise = word.double(), noise.double()
    behind = got[length:]
    require(
        bool(behind.any()),
        "Behind the word there is silence in your mixture. The noise does not stop there.",
    )
    gain = float(behind @ noise[length:] / noise[length:].pow(2).sum())
    require(
        close(behind, gain * noise[length:]),
        "Behind the word there has to be the noise alone, times one factor.",
    )
    require(gain > 0, "Your factor is negative: add the noise.")
    require(
        close(got[:length] - gain * noise[:length], word[:length], 1e-3),
        "Without the noise the word is not left as it was: its own loudness stays, and one factor "
        "scales the noise.",
    )
    power = float(word[:length].pow(2).mean() / noise[:length].pow(2).mean())
    whole = float(word.pow(2).mean() / noise[:length].pow(2).mean())
    ratio = 10 ** (snr / 10)
    silence = (
        "You averaged the word's power over the silence behind it too, so the noise came out too "
        "quiet."
    )
    require_close(
        gain,
        math.sqrt(power / ratio),
        [
            (math.sqrt(whole / ratio), silence),
            (float(word.norm() / noise.norm()) / math.sqrt(ratio), silence),
            (
                float(word[:length].pow(2).mean() / noise.pow(2).mean() / ratio) ** 0.5,
                "You averaged the noise over its whole length. Only while the word lasts counts.",
            ),
            (
                math.sqrt(power * ratio),
                "The wrong way round: more decibels have to mean less noise.",
            ),
            (
                power / ratio,
                "You used a ratio of powers as the factor of a waveform. Power goes with the "
                "square of a waveform: take the root.",
            ),
            (
                math.sqrt(power) / ratio,
                "Decibels count powers: 10 dB are a factor of 10 in power and of the root of 10 in "
                "the waveform. You divided the waveform by 10 ** (snr / 10).",
            ),
        ],
        f"Asked for {snr:.1f} dB, the ratio while the word lasts is "
        f"{10 * math.log10(power / gain**2):.1f} dB.",
        rtol=1e-3,
    )
    return (
        "The lesson takes the word's power so, and the noise's over the clip. With the silence "
        "counted, short words would get less noise than long ones."
    )


def mix_word(word, noise, length, snr_db):
    word_power, noise_power = word[:length].pow(2).mean(), noise[:length].pow(2).mean()
    gain = (word_power / noise_power / 10 ** (snr_db / 10)).sqrt()
    return word + gain * noise


def _with_gain(gain):
    return lambda word, noise, length, snr: (
        word + noise * gain(word, noise, length, 10 ** (snr / 10))
    )


mixing = Exercise(
    "Mix a word and a noise, both `(samples,)`. The word lasts `length` samples, then it is "
    "silent. The signal-to-noise ratio, while the word lasts, shall be `snr_db`; the noise goes "
    "on to the end.",
    _check_mix,
    [
        "The ratio of two powers in dB is `10 * log10(a / b)`. A power is the mean of the squares.",
        "Take both powers over the first `length` samples only. If the noise is scaled by g, its "
        "power is scaled by g squared.",
        "`g = (word_power / noise_power / 10 ** (snr_db / 10)).sqrt()`, and the answer is "
        "`word + g * noise`.",
    ],
    mix_word,
    alternatives=[
        lambda word, noise, length, snr: (
            word + noise * (word[:length].norm() / noise[:length].norm()) * 10 ** (-snr / 20)
        ),
        lambda word, noise, *more: mix_word(word.double(), noise.double(), *more),
        lambda word, noise, *more: mix_word(word, noise, *more).numpy(),
    ],
    wrong=[
        (lambda word, noise, length, snr: data.add_noise_at(word, noise, snr), "over the silence"),
        (
            _with_gain(lambda w, v, n, ratio: w[:n].norm() / v[:n].norm() * ratio**0.5),
            "wrong way round",
        ),
        (
            _with_gain(lambda w, v, n, ratio: (w[:n].norm() / v[:n].norm()) ** 2 / ratio),
            "take the root",
        ),
        (
            _with_gain(lambda w, v, n, ratio: w[:n].norm() / v[:n].norm() / ratio),
            "Decibels count powers",
        ),
        (
            _with_gain(lambda w, v, n, ratio: w[:n].std() / v.std() / ratio**0.5),
            "noise over its whole length",
        ),
        (_with_gain(lambda w, v, n, ratio: 1 / ratio**0.5), "while the word lasts is"),
        (_with_gain(lambda w, v, n, ratio: -1 / ratio**0.5), "is negative"),
        (lambda *given: mix_word(*given) / mix_word(*given).abs().max(), "its own loudness"),
        (lambda word, noise, n, snr: mix_word(word, noise, n, snr)[:n], "one waveform"),
    ],
)


# -- 2: the best mask ------------------------------------------------------------------------------


def _check_mask(attempt, case):
    shape = case.size("frequencies", 3), case.size("frames", 3)
    clean, noise = (case.scale * (0.5 + 2 * case.pixels(*shape)) for _ in range(2))
    clean[0, :2], noise[0, 1:] = 0, 0  # of one, of both, of the other
    got = as_tensor(attempt(clean.clone(), noise.clone()), shape, "one number per place, a tensor")
    heard = clean + noise > 0  # where nothing is, any factor is as good
    everywhere, got, clean, noise = got, got[heard], clean[heard], noise[heard]
    undefined = "Your mask is NaN or infinite where the clean magnitude, the noise, or both are 0."
    require(bool(got.isfinite().all()), undefined)
    require(
        bool(((got >= -1e-5) & (got <= 1 + 1e-5)).all()),
        f"The best mask lies between 0 and 1; yours runs from {float(got.min()):.3g} to "
        f"{float(got.max()):.3g}. Divide by what is heard in all, clean and noise.",
    )
    right = clean**2 / (clean**2 + noise**2)

    def error(mask):  # the noise arrives at any phase
        return float(((1 - mask) ** 2 * clean**2 + mask**2 * noise**2).sum() / clean.pow(2).sum())

    hard = "All or nothing: a mask of zeros and ones leaves more error than one that keeps a part."
    require_close(
        got,
        right,
        [
            (1 - right, "Your mask keeps the noise and removes the speech."),
            (
                clean / (clean + noise),
                "You took the ratio of *magnitudes*. It adds them as if the phases agreed. "
                "Unrelated phases add in power.",
            ),
            (
                right.sqrt(),
                "The square root makes the *power* right on average. The squared error is "
                "smallest without it.",
            ),
            (got.round(), hard),
        ],
        "With noise at random phases your mask leaves an expected squared error of "
        f"{error(got):.4g} of the clean power; {error(right):.4g} can be had.",
        rtol=1e-3,
    )
    require(bool(everywhere.isfinite().all()), undefined)
    return (
        "This is Wiener's filter. It needs both magnitudes, which nobody has: all methods of the "
        "lesson guess them."
    )


def best_mask(clean, noise):
    heard = clean**2 + noise**2  # unrelated phases: the powers add
    return clean**2 / heard.clamp(min=1e-12)


masking = Exercise(
    "In one time-frequency bin of the spectrogram speech has magnitude `clean` and noise has "
    "magnitude `noise`; their phases have nothing to do with each other. Return the factor with "
    "which to multiply the noisy spectrogram, so that the expected squared error is smallest. Both "
    "are tensors of one shape.",
    _check_mask,
    [
        "Write the noisy value as X + N with an angle between them that can be anything. Then the "
        "mean of X times N is zero.",
        "The expected error of a mask m is (1 - m)^2 |X|^2 + m^2 |N|^2. Set its derivative to "
        "zero.",
        "m = |X|^2 / (|X|^2 + |N|^2). Mind the places where both are 0.",
    ],
    best_mask,
    alternatives=[
        lambda clean, noise: 1 - noise.pow(2) / (clean.pow(2) + noise.pow(2)).clamp(min=1e-20),
        lambda clean, noise: (clean / torch.hypot(clean, noise).clamp(min=1e-12)) ** 2,
        lambda clean, noise: (clean**2 / (clean**2 + noise**2)).nan_to_num(1.0),
        lambda clean, noise: best_mask(clean, noise).double().tolist(),
    ],
    wrong=[
        (lambda clean, noise: clean / (clean + noise), "ratio of *magnitudes*"),
        (lambda clean, noise: clean**2 / noise.clamp(min=1e-3) ** 2, "between 0 and 1"),
        (lambda clean, noise: 1 - best_mask(clean, noise), "keeps the noise"),
        (lambda clean, noise: best_mask(clean, noise).sqrt(), "square root"),
        (lambda clean, noise: (clean > noise).float(), "All or nothing"),
        (lambda clean, noise: clean**2 / noise**2, "NaN or infinite"),
        (lambda clean, noise: clean**2 / (clean**2 + noise**2), "or both"),
        (lambda clean, noise: clean**2 / (clean**2 + noise**2 + 1e-4), "values around 0.01"),
        (lambda clean, noise: best_mask(clean, noise)[0], "one number per place"),
        (lambda clean, noise: torch.full_like(clean, 0.5), "can be had"),
    ],
)


# -- 3: what is wrong with this one? ---------------------------------------------------------------

FAULTS = ("delayed", "quieter", "muffled", "fine")
WHY = {
    "delayed": "It is the clean waveform, some samples late. No ear minds, every error measured "
    "sample by sample does. Slide one along the other and see where they agree best.",
    "quieter": "It is the clean waveform, at a fraction of its loudness. SI-SNR does not hear "
    "loudness: compare the two powers.",
    "muffled": "Its treble is gone: compare what is left above 1 kHz with what was there.",
    "fine": "It is the clean waveform with a trace of noise, 25 dB below. Do not see faults "
    "everywhere.",
}


def _faulty(fault, case):
    """An estimate with this fault, and the clean waveform, gliding harmonics: (samples,) each."""
    samples = case.size("samples", 3500, 4500)
    t = torch.arange(samples, dtype=case.dtype) / audio.RATE
    start, glide = case.number_between(90, 240), case.number_between(-30, 30)
    phase = 2 * torch.pi * (start * t + glide * t**2)
    clean = sum(torch.cos(k * phase + k * k) / (1 + (k - 12) ** 2 / 60) for k in range(1, 25))
    clean = 0.1 * case.scale * (clean + 0.3 * case.normal(samples))  # and some hiss
    estimate = clean = clean * torch.sin(torch.pi * t / t[-1])
    if fault == "delayed":
        shift = case.whole(20, 200)
        estimate = torch.cat([torch.zeros(shift), clean[:-shift]])
    elif fault == "quieter":
        estimate = case.number_between(0.05, 0.45) * clean
    elif fault == "muffled":
        spec = torch.fft.rfft(clean)
        spec[int(samples * 1000 / audio.RATE) :] *= 0.05
        estimate = torch.fft.irfft(spec, samples)
    trace = case.normal(samples)
    return estimate + trace * estimate.norm() / trace.norm() * 10 ** (-25 / 20), clean


def _check_fault(attempt, case):
    for fault in FAULTS * 2:
        said = attempt(*_faulty(fault, case))
        require(
            isinstance(said, str) and said in FAULTS,
            f"Return one of the words {', '.join(FAULTS)}, not {said!r}.",
        )
        require(said == fault, f"An estimate that is {fault} you call {said}. {WHY[fault]}")
    return (
        "One number never says what is wrong. Three do, and each of these faults is found in real "
        "systems."
    )


def fault(estimate, clean):
    spectra = torch.fft.rfft(torch.stack([estimate, clean]), 2 * len(clean))
    agreement = torch.fft.irfft(spectra[0] * spectra[1].conj())  # at every delay
    if 0 < int(agreement[: len(clean)].argmax()) and agreement.max() > 1.5 * agreement[0]:
        return "delayed"
    power = spectra.abs() ** 2
    treble = power.shape[1] // 4  # above 1 of 4 kHz
    left = (
        power[0, treble:].sum()
        / power[1, treble:].sum()
        * power[1, :treble].sum()
        / power[0, :treble].sum()
    )
    if left < 0.25:
        return "muffled"
    return "quieter" if estimate.pow(2).mean() < 0.5 * clean.pow(2).mean() else "fine"


def _by_regression(estimate, clean):
    best = max(range(0, 300), key=lambda d: float(estimate[d:] @ clean[: len(clean) - d]))
    if best > 5:
        return "delayed"
    if metrics.si_snr(estimate, clean) < 15:
        return "muffled"
    return "quieter" if estimate.norm() / clean.norm() < 0.75 else "fine"


def _by_loudness(estimate, clean):
    said = fault(estimate, clean)
    return said if said in ("delayed", "muffled") else "quieter" if estimate.norm() < 6 else "fine"


diagnosing = Exercise(
    "A denoiser gave `estimate` where `clean` was wanted, both `(samples,)`. Say what is wrong: "
    'return "delayed", "quieter", "muffled" (no treble) or "fine".',
    _check_fault,
    [
        'What does SI-SNR say of each fault? Try `ex.example("delayed")`: it gives you an estimate '
        "and the clean waveform.",
        "Three measurements: at which delay the two agree best, how the powers above and below "
        "1 kHz compare, how the whole powers compare.",
        "The agreement at every delay at once is `torch.fft.irfft(E * C.conj())` of the two "
        "spectra, padded to twice the length. Test the delay first: a delayed waveform is wrong in "
        "every other measure too.",
    ],
    fault,
    alternatives=[_by_regression],
    wrong=[
        (
            lambda e, c: (
                "fine"
                if metrics.si_snr(e, c) > 15
                else "muffled"
                if metrics.si_snr(e, c) > -3
                else "delayed"
            ),
            "SI-SNR does not hear loudness",
        ),
        (
            lambda e, c: (
                "quieter"
                if e.norm() < 0.8 * c.norm()
                else "delayed"
                if metrics.si_snr(e, c) < 15
                else "fine"
            ),
            "Its treble is gone",
        ),
        (
            lambda e, c: (
                "quieter"
                if e.norm() < 0.75 * c.norm()
                else "muffled"
                if metrics.si_snr(e, c) < 15
                else "fine"
            ),
            "some samples late",
        ),
        (
            lambda e, c: (
                "fine" if torch.equal(e, c) else fault(e, c) if fault(e, c) != "fine" else "muffled"
            ),
            "see faults everywhere",
        ),
        (lambda e, c: metrics.si_snr(e, c), "one of the words"),
        (_by_loudness, "values around 0.01"),
    ],
)


def example(kind, seed=0):
    """An `estimate` and the `clean` waveform, `(4000,)` each; kind: one of `FAULTS`."""
    case = Case(100 + 4 * seed)
    case.size("samples", 4000, 4000)
    return _faulty(kind, case)


# -- 4: a study of one's own -----------------------------------------------------------------------


def study():
    x, _, _, length = data.speech("test", "synthesized")
    x, length = torch.nn.functional.pad(x[:30], (2000, 0)), length[:30, None]
    # 30 pieces
    noise = data.noises("test", "synthesized")["white"][:126_000].unfold(0, 10_000, 4000)
    settings, gain = [-5, 5, 15, 25], {"yours": [], "baseline": []}

    def subtract(noisy, over):  # the first 2,000 samples hold noise alone
        spec = audio.spectrogram(noisy)
        power = spec.abs() ** 2
        mask = (1 - over * power[..., :28].mean(2, keepdim=True) / power).clamp(min=0.01).sqrt()
        return audio.inverse(mask * spec, noisy.shape[-1])

    for snr in settings:  # in dB, while the word lasts
        noisy = data.add_noise_at(x, noise, snr + 10 * torch.log10(length / x.shape[-1]))
        for name, over in (("yours", 4), ("baseline", 1)):
            better = metrics.si_snr(subtract(noisy, over), x) - metrics.si_snr(noisy, x)
            gain[name].append(better.mean().item())
    return {
        "claim": "Subtracting four times the noise gains more than once, and most in loud noise",
        "settings": settings,
        **gain,
        "holds": lambda yours, baseline: (
            min(y - r for y, r in zip(yours, baseline)) > 0
            and yours[0] - baseline[0] > 1.3 * (yours[-1] - baseline[-1])
        ),
    }


def _made(**changes):
    made = {
        "claim": "A wider code gains on a narrow one only in loud noise",
        "settings": [-5, 5, 15],
        "yours": [9.1, 6.0, 1.9],
        "baseline": [8.0, 5.8, 2.0],
        "holds": lambda yours, baseline: (
            yours[0] > baseline[0] + 0.5 and yours[2] < baseline[2] + 0.5
        ),
    }
    return made | changes


own_study = Exercise(
    "Vary one thing in at least three steps, measure your denoiser and a baseline at each (SI-SNR "
    "gained, in dB), and claim something that could have turned out false.",
    check_of_study("yours", "baseline", what="gain in dB"),
    [
        "Start from the question: 'I believe that ... matters, because ...'. Settings could be "
        "noise levels, widths of the code, lengths of the window, seconds of lead-in, kinds of "
        "noise left out of the training.",
        "`holds` gets the two lists, yours first. Would it be false if the two were exchanged, "
        "or far apart? It should be. `max(abs(y - r) for y, r in zip(yours, baseline)) < 0.5` says "
        "that there is no difference of 0.5 dB.",
        'The shape: {"claim": "...", "settings": [...], "yours": [...], "baseline": [...], "holds": '
        "lambda yours, baseline: yours[0] > baseline[0]}",
    ],
    study,
    alternatives=[
        _made(),
        lambda: _made(yours=np.array([9.1, 6.0, 1.9])),
        _made(
            claim="The width of the code makes no difference of 1.5 dB",
            holds=lambda yours, baseline: max(abs(y - r) for y, r in zip(yours, baseline)) < 1.5,
        ),
    ],
    wrong=[
        (_made(holds=lambda yours, baseline: True), "cannot fail says nothing"),
        (_made(holds=lambda yours, baseline: yours[0] == 9.1), "exactly these numbers"),
        (_made(holds=lambda yours, baseline: yours[0] > 9), "depend on the second list"),
        (_made(holds=lambda yours, baseline: yours[2] > baseline[2]), "By your own measure"),
        (_made(settings=[0, 10], yours=[1, 2], baseline=[0, 1]), "at least three steps"),
        (_made(yours=[1.0, 2.0]), "one gain in dB per setting"),
        (_made(yours=[1.0, math.nan, 2.0]), "NaN or infinity"),
        (_made(yours=[1, 2, 3], baseline=[1, 2, 3]), "really measured"),
        (_made(claim="better"), "in a sentence"),
        ({"claim": "no numbers at all in this one"}, "is a dict with the entries"),
    ],
)

"""Exercises of lesson 12, Does it work for sound?"""

import math

from aecourse import audio, data, metrics
from aecourse.exercises import Exercise, require

import torch

# -- 1: the word at a known level ----------------------------------------------------------------------------------------


def _word(length=1500, samples=4000, seed=0):
    g = torch.Generator().manual_seed(seed)
    word = torch.zeros(samples)
    word[:length] = 0.3 * torch.randn(length, generator=g)
    return word, 0.02 * torch.randn(samples, generator=g)


def _check_mix(attempt):
    length = 1500
    word, noise = _word(length)
    for snr in (0.0, 10.0, -5.0, 3.0):
        got = attempt(word.clone(), noise.clone(), length, snr)
        require(
            isinstance(got, torch.Tensor) and got.shape == word.shape,
            f"Return one wave of {len(word):,} samples, the word with noise all the way, not "
            f"{tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__}.",
        )
        behind = got[length:]
        require(
            bool((behind != 0).any()),
            "Behind the word there is silence in your mixture. The noise does not stop there.",
        )
        gain = float(behind @ noise[length:] / noise[length:].pow(2).sum())
        require(
            bool((behind - gain * noise[length:]).abs().max() < 1e-4 * behind.abs().max()),
            "Behind the word there has to be the noise alone, times one factor.",
        )
        heard = got[:length] - gain * noise[:length]
        require(
            bool((heard - word[:length]).abs().max() < 1e-3),
            "You changed the word's own loudness. Leave the word as it is, and scale the noise.",
        )
        require(gain > 0, "Your factor is negative or zero.")
        power = word[:length].pow(2).mean() / noise[:length].pow(2).mean()
        is_db = float(10 * torch.log10(power / gain**2))
        if abs(is_db - snr) < 0.05:
            continue
        whole = float(10 * torch.log10(word.pow(2).mean() / (gain * noise).pow(2).mean()))
        require(
            abs(whole - snr) > 0.3,
            f"Asked for {snr:.0f} dB, the ratio *while the word lasts* is {is_db:.1f} dB. You "
            "averaged the word's power over the silence behind it too, so the noise came out too quiet.",
        )
        require(
            abs(is_db + snr) > 0.3 or snr == 0,
            "The wrong way round: more decibels have to mean less noise.",
        )
        base = float(10 * torch.log10(power))
        require(
            abs(base - 20 * math.log10(gain) - 2 * base + snr) > 0.3
            and abs(gain - float(power) / 10 ** (snr / 10)) > 1e-3 * gain,
            "You used a ratio of powers as the factor of a wave. Power goes with the square of a wave: take the root.",
        )
        require(
            abs(gain - math.sqrt(float(power)) / 10 ** (snr / 10)) > 1e-3 * gain,
            "Decibels count powers: 10 dB are a factor of 10 in power and of the root of 10 in the wave. You divided the wave by "
            "10 ** (snr / 10).",
        )
        require(False, f"Asked for {snr:.0f} dB, the ratio while the word lasts is {is_db:.1f} dB.")
    return "This is how the lesson mixes. With the silence counted, short words would get less noise than long ones."


def mix_word(word, noise, length, snr_db):
    word_power, noise_power = word[:length].pow(2).mean(), noise[:length].pow(2).mean()
    gain = (word_power / noise_power / 10 ** (snr_db / 10)).sqrt()
    return word + gain * noise


mixing = Exercise(
    "Mix a word and a noise, both `(samples,)`. The word lasts `length` samples, then it is silent. The signal-to-noise ratio, while the "
    "word lasts, shall be `snr_db`; the noise goes on to the end.",
    _check_mix,
    [
        "The ratio of two powers in dB is `10 * log10(a / b)`. A power is the mean of the squares.",
        "Take both powers over the first `length` samples only. If the noise is scaled by g, its power is scaled by g squared.",
        "`g = (word_power / noise_power / 10 ** (snr_db / 10)).sqrt()`, and the answer is `word + g * noise`.",
    ],
    mix_word,
    alternatives=[
        lambda word, noise, length, snr: (
            word + noise * (word[:length].norm() / noise[:length].norm()) * 10 ** (-snr / 20)
        )
    ],
    wrong=[
        (lambda word, noise, length, snr: data.add_noise_at(word, noise, snr), "over the silence"),
        (
            lambda word, noise, length, snr: (
                word + noise * word[:length].norm() / noise[:length].norm() * 10 ** (snr / 20)
            ),
            "wrong way round",
        ),
        (
            lambda word, noise, length, snr: (
                word
                + noise
                * word[:length].pow(2).mean()
                / noise[:length].pow(2).mean()
                / 10 ** (snr / 10)
            ),
            "take the root",
        ),
        (
            lambda word, noise, length, snr: (
                word + noise * word[:length].norm() / noise[:length].norm() / 10 ** (snr / 10)
            ),
            "Decibels count powers",
        ),
        (
            lambda word, noise, length, snr: (
                mix_word(word, noise, length, snr) / mix_word(word, noise, length, snr).abs().max()
            ),
            "word's own loudness",
        ),
        (
            lambda word, noise, length, snr: mix_word(word, noise, length, snr)[:length],
            "one wave of",
        ),
    ],
)


# -- 2: the best mask ------------------------------------------------------------------------------------------------------


def _check_mask(attempt):
    clean = torch.tensor([3.0, 1.0, 1.0, 0.5, 0.0, 2.0])
    noise = torch.tensor([1.0, 1.0, 3.0, 0.1, 1.0, 0.0])
    got = torch.as_tensor(attempt(clean.clone(), noise.clone()), dtype=torch.float32)
    require(
        got.shape == clean.shape,
        f"One number per place: {tuple(clean.shape)} in, {tuple(got.shape)} out.",
    )
    require(
        bool(got.isfinite().all()),
        "Your mask is NaN or infinite somewhere: where the clean or the noise magnitude is 0.",
    )
    require(
        float(got.max()) <= 1 + 1e-5 and float(got.min()) >= 0,
        "A mask lies between 0 and 1. Yours is a signal-to-noise ratio or "
        "a difference: divide by what is heard in all, clean plus noise.",
    )
    right = clean**2 / (clean**2 + noise**2)
    require(
        bool((got - (1 - right)).abs().max() > 1e-3),
        "Your mask keeps the noise and removes the speech.",
    )
    require(
        bool((got - clean / (clean + noise)).abs().max() > 1e-3),
        "You took the ratio of *magnitudes*. It adds them as if the phases "
        "agreed. Unrelated phases add in power.",
    )
    require(
        bool((got - right.sqrt()).abs().max() > 1e-3),
        "The square root makes the *power* right on average. The squared error is "
        "smallest without it.",
    )
    require(
        not set(got.tolist()) <= {0.0, 1.0},
        "All or nothing: a mask of zeros and ones leaves more error than one that may keep a part.",
    )
    g = torch.Generator().manual_seed(0)
    turn = torch.polar(torch.ones(20_000, 6), 2 * torch.pi * torch.rand(20_000, 6, generator=g))
    heard = clean + noise * turn  # the noise arrives at any phase

    def error(mask):
        return float((mask * heard - clean).abs().pow(2).mean(0).sum())

    require(
        error(got) < 1.01 * error(right),
        f"With noise at random phases your mask leaves a squared error of {error(got):.3f}; "
        f"{error(right):.3f} can be had.",
    )
    return "This is Wiener's filter. It needs both magnitudes, which nobody has: all methods of the lesson guess them."


def best_mask(clean, noise):
    heard = clean**2 + noise**2  # unrelated phases: the powers add
    return clean**2 / heard.clamp(min=1e-12)


masking = Exercise(
    "In one place of the spectrogram speech has magnitude `clean` and noise has magnitude `noise`; their phases have nothing to do with "
    "each other. Return the factor with which to multiply the noisy spectrogram, so that the expected squared error is smallest. Both are "
    "tensors of one shape.",
    _check_mask,
    [
        "Write the noisy value as X + N with an angle between them that can be anything. Then the mean of X times N is zero.",
        "The expected error of a mask m is (1 - m)^2 |X|^2 + m^2 |N|^2. Set its derivative to zero.",
        "m = |X|^2 / (|X|^2 + |N|^2). Mind the places where both are 0.",
    ],
    best_mask,
    alternatives=[
        lambda clean, noise: 1 - noise.pow(2) / (clean.pow(2) + noise.pow(2)).clamp(min=1e-20),
        lambda clean, noise: (clean / torch.hypot(clean, noise).clamp(min=1e-12)) ** 2,
    ],
    wrong=[
        (lambda clean, noise: clean / (clean + noise), "ratio of *magnitudes*"),
        (lambda clean, noise: clean**2 / noise.clamp(min=1e-3) ** 2, "between 0 and 1"),
        (lambda clean, noise: 1 - best_mask(clean, noise), "keeps the noise"),
        (lambda clean, noise: best_mask(clean, noise).sqrt(), "square root"),
        (lambda clean, noise: (clean > noise).float(), "All or nothing"),
        (lambda clean, noise: clean**2 / (noise**2), "NaN or infinite"),
        (lambda clean, noise: torch.full_like(clean, 0.5), "can be had"),
    ],
)


# -- 3: what is wrong with this one? -----------------------------------------------------------------------------------------

FAULTS = ("delayed", "quieter", "muffled", "fine")
WHY = {
    "delayed": "It is the clean wave, some samples late. No ear minds, every error measured sample by sample does. Slide one along the "
    "other and see where they agree best.",
    "quieter": "It is the clean wave, at a fraction of its loudness. SI-SNR does not hear loudness: compare the two powers.",
    "muffled": "Its treble is gone: compare what is left above 1 kHz with what was there.",
    "fine": "It is the clean wave with a trace of noise, 25 dB below. Do not see faults everywhere.",
}


def _faulty(fault, seed):
    """A clean wave of gliding harmonics with some hiss, and an estimate of it with this fault: (4000,) each."""
    g = torch.Generator().manual_seed(seed)
    u = torch.rand(6, generator=g)
    t = torch.arange(4000) / audio.RATE
    phase = 2 * torch.pi * ((90 + 150 * u[0]) * t + (60 * u[1] - 30) * t**2)
    clean = sum(torch.cos(k * phase + k * k) / (1 + (k - 12) ** 2 / 60) for k in range(1, 25))
    clean = 0.1 * (clean + 0.3 * torch.randn(4000, generator=g)) * torch.sin(torch.pi * t * 2)
    estimate = clean
    if fault == "delayed":
        shift = 20 + int(180 * u[2])
        estimate = torch.cat([torch.zeros(shift), clean[:-shift]])
    elif fault == "quieter":
        estimate = (0.05 + 0.4 * u[3]) * clean
    elif fault == "muffled":
        spec = torch.fft.rfft(clean)
        spec[int(4000 * 1000 / audio.RATE) :] *= 0.05
        estimate = torch.fft.irfft(spec, 4000)
    trace = torch.randn(4000, generator=g)
    return estimate + trace * estimate.norm() / trace.norm() * 10 ** (-25 / 20), clean


def _check_fault(attempt):
    missed = {}
    for fault in FAULTS:
        for seed in range(6):
            said = attempt(*_faulty(fault, 10 * FAULTS.index(fault) + seed))
            require(said in FAULTS, f"Return one of the words {', '.join(FAULTS)}, not {said!r}.")
            if said != fault:
                missed.setdefault(fault, []).append(said)
    for fault, said in missed.items():
        require(
            False,
            f"{len(said)} of 6 estimates that are {fault} you called {' or '.join(sorted(set(said)))}. {WHY[fault]}",
        )
    return "One number never says what is wrong. Three do, and each of these faults is found in real systems."


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


diagnosing = Exercise(
    'A denoiser gave `estimate` where `clean` was wanted, both `(samples,)`. Say what is wrong: return "delayed", "quieter", "muffled" '
    '(no treble) or "fine".',
    _check_fault,
    [
        'What does SI-SNR say of each fault? Try `ex.example("delayed")`: it gives you an estimate and the clean wave.',
        "Three measurements: at which delay the two agree best, how the powers above and below 1 kHz compare, how the whole powers compare.",
        "The agreement at every delay at once is `torch.fft.irfft(E * C.conj())` of the two spectra, padded to twice the length. "
        "Test the delay first: a delayed wave is wrong in every other measure too.",
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
    ],
)


def example(kind, seed=0):
    """An `estimate` and the `clean` wave, `(4000,)` each; kind: one of `FAULTS`."""
    return _faulty(kind, seed + 100)


# -- 4: a study of one's own -------------------------------------------------------------------------------------------------


def _check_study(attempt):
    said = attempt() if callable(attempt) else attempt
    wanted = {"claim", "settings", "yours", "rival", "holds"}
    require(
        isinstance(said, dict) and wanted <= set(said),
        f"A study is a dict with the entries {', '.join(sorted(wanted))}.",
    )
    require(
        isinstance(said["claim"], str) and len(said["claim"].split()) >= 5,
        "Say the claim in a sentence.",
    )
    n = len(said["settings"])
    require(
        n >= 3,
        f"You tried {n} settings. Two points always lie on a line: vary one thing in at least three steps.",
    )
    gains = {}
    for name in ("yours", "rival"):
        gains[name] = [float(value) for value in said[name]]
        require(
            len(gains[name]) == n,
            f"{name!r} needs one number per setting: {n}, not {len(gains[name])}.",
        )
        require(
            all(map(math.isfinite, gains[name])),
            f"{name!r} holds NaN or infinity. An estimate of all zeros has no SI-SNR.",
        )
    require(
        len(set(gains["yours"] + gains["rival"])) > n,
        "The same numbers over and over: was every setting really measured?",
    )
    holds = said["holds"]
    require(
        callable(holds),
        "'holds' is a function of the two lists that says whether the claim is true of them.",
    )
    yours, rival = gains["yours"], gains["rival"]
    require(
        bool(holds(yours, rival)),
        "By your own measure the claim is not true of what you found. That is a result: say what is.",
    )
    others = [
        (rival, yours),
        (yours[::-1], rival[::-1]),
        (rival[::-1], yours[::-1]),
        (yours, yours),
        (rival, rival),
    ]
    require(
        not all(bool(holds(*pair)) for pair in others),
        "Your claim is true of other numbers too: with the rivals exchanged, the "
        "settings reversed, both alike. A claim that cannot fail says nothing.",
    )
    return f"Measured, and it could have failed: {said['claim']}"


def study():
    x, _, _, length = data.speech("test", "synthesized")
    x, length = torch.nn.functional.pad(x[:30], (2000, 0)), length[:30, None]
    # 30 pieces
    noise = data.noises("test", "synthesized")["white"][:126_000].unfold(0, 10_000, 4000)
    settings, gain = [-5, 5, 15, 25], {"yours": [], "rival": []}

    def subtract(noisy, over):  # the first 2,000 samples hold noise alone
        spec = audio.spectrogram(noisy)
        power = spec.abs() ** 2
        mask = (1 - over * power[..., :28].mean(2, keepdim=True) / power).clamp(min=0.01).sqrt()
        return audio.inverse(mask * spec, noisy.shape[-1])

    for snr in settings:  # in dB, while the word lasts
        noisy = data.add_noise_at(x, noise, snr + 10 * torch.log10(length / x.shape[-1]))
        for name, over in (("yours", 4), ("rival", 1)):
            better = metrics.si_snr(subtract(noisy, over), x) - metrics.si_snr(noisy, x)
            gain[name].append(better.mean().item())
    return {
        "claim": "Subtracting four times the noise gains more than once, and most in loud noise",
        "settings": settings,
        **gain,
        "holds": lambda yours, rival: (
            min(y - r for y, r in zip(yours, rival)) > 0
            and yours[0] - rival[0] > 1.3 * (yours[-1] - rival[-1])
        ),
    }


def _little_study():
    return {
        "claim": "A wider code gains on a narrow one only in loud noise",
        "settings": [-5, 5, 15],
        "yours": [9.1, 6.0, 1.9],
        "rival": [8.0, 5.8, 2.0],
        "holds": lambda yours, rival: yours[0] > rival[0] + 0.5 and yours[2] < rival[2] + 0.5,
    }


own_study = Exercise(
    "Vary one thing in at least three steps, measure your denoiser and a rival at each (SI-SNR gained, in dB), and claim something that could "
    "have turned out false.",
    _check_study,
    [
        "Start from the question: 'I believe that ... matters, because ...'. Settings could be noise levels, widths of the code, "
        "lengths of the window, seconds of lead-in, kinds of noise left out of the training.",
        "`holds` gets the two lists, yours first. Would it be false if the rivals were exchanged? It should be.",
        'The shape: {"claim": "...", "settings": [...], "yours": [...], "rival": [...], "holds": lambda yours, rival: yours[0] > rival[0]}',
    ],
    study,
    alternatives=[_little_study, _little_study()],
    wrong=[
        (
            lambda: _little_study() | {"holds": lambda yours, rival: True},
            "cannot fail says nothing",
        ),
        (
            lambda: _little_study() | {"holds": lambda yours, rival: yours[2] > rival[2]},
            "By your own measure",
        ),
        (
            lambda: {
                "claim": "The autoencoder is better than subtraction",
                "settings": [0, 10],
                "yours": [1, 2],
                "rival": [0, 1],
                "holds": lambda yours, rival: yours[0] > rival[0],
            },
            "at least three steps",
        ),
        (lambda: _little_study() | {"yours": [1.0, float("nan"), 2.0]}, "NaN or infinity"),
        (lambda: _little_study() | {"yours": [1, 2, 3], "rival": [1, 2, 3]}, "really measured"),
        (lambda: _little_study() | {"claim": "better"}, "in a sentence"),
        (lambda: {"claim": "no numbers at all in this one"}, "is a dict with the entries"),
    ],
)

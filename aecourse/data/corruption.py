"""Four ways to corrupt an input, each random by PyTorch's global generator."""

import torch


def add_gaussian(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """`x + sigma * eps`, clipped to [0, 1]; sigma in units of x."""
    return (x + sigma * torch.randn_like(x)).clamp(0, 1)


def mask_pixels(x: torch.Tensor, p: float) -> torch.Tensor:
    """Each value is set to 0 with probability p; the others are kept (Vincent et al. 2008)."""
    return x * (torch.rand_like(x) >= p)


def salt_and_pepper(x: torch.Tensor, p: float) -> torch.Tensor:
    """Each value is replaced with probability p, by 0 or by 1 with equal probability."""
    u = torch.rand_like(x)
    return torch.where(u < p, (u < p / 2).to(x.dtype), x)


def add_noise_at(
    waveform: torch.Tensor, noise: torch.Tensor, snr_db: float | torch.Tensor
) -> torch.Tensor:
    """`waveform + gain * noise` with the signal-to-noise ratio `snr_db`, powers per row.

    Both are `(..., samples)`. Raises ValueError where the noise is silent.
    """
    power = waveform.pow(2).mean(-1, keepdim=True)
    noise_power = noise.pow(2).mean(-1, keepdim=True)
    if (noise_power == 0).any():
        raise ValueError(
            "silence cannot be scaled to a signal-to-noise ratio: the noise is all zero"
        )
    return waveform + (power / noise_power / 10 ** (snr_db / 10)).sqrt() * noise

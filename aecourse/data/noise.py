"""Four ways to spoil an input. Each returns a new tensor of the same shape, random by PyTorch's global generator."""

import torch


def add_gaussian(x, sigma):
    """`x + sigma * eps`, clipped to [0, 1]; sigma in units of x."""
    return (x + sigma * torch.randn_like(x)).clamp(0, 1)


def mask_pixels(x, p):
    """Each value is set to 0 with probability p (Vincent et al. 2008). The survivors keep their value, unlike in dropout."""
    return x * (torch.rand_like(x) >= p)


def salt_and_pepper(x, p):
    """Each value is replaced with probability p, by 0 or by 1 with equal chance."""
    u = torch.rand_like(x)
    return torch.where(u < p, (u < p / 2).to(x.dtype), x)


def add_noise_at(wave, noise, snr_db):
    """`wave + gain * noise`, the gain such that the signal-to-noise ratio is `snr_db`; both `(..., samples)`, powers taken per row."""
    power, noise_power = wave.pow(2).mean(-1, keepdim=True), noise.pow(2).mean(-1, keepdim=True)
    if (noise_power == 0).any():
        raise ValueError("silence cannot be scaled to a signal-to-noise ratio: the noise is all zero")
    return wave + (power / noise_power / 10 ** (snr_db / 10)).sqrt() * noise

"""Small sets that show one idea each, `(n, d)` float32, with what is known about each point."""

import math

import torch


def subspace(
    n: int = 2000, d: int = 20, k: int = 3, *, noise: float = 0.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of a k-dimensional subspace, with Gaussian noise: `x (n, d), basis (d, k)`."""
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d, k, generator=g)).Q
    scale = torch.linspace(2, 1, k)  # standard deviations differ, so that the axes are defined
    x = torch.randn(n, k, generator=g) * scale @ basis.T
    return x + noise * torch.randn(n, d, generator=g), basis


def swiss_roll(
    n: int = 2000, *, noise: float = 0.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """A rolled-up plane of about unit variance: `x (n, 3), position along the roll (n,)`."""
    g = torch.Generator().manual_seed(seed)
    position, height = torch.rand(n, generator=g), torch.rand(n, generator=g)
    angle = 1.5 * math.pi * (1 + 2 * position)
    x = torch.stack([angle * angle.cos() / 7, 3.5 * (height - 0.5), angle * angle.sin() / 7], dim=1)
    return x + noise * torch.randn(n, 3, generator=g), position


def independent(n: int = 2000, d: int = 8, *, seed: int = 0) -> torch.Tensor:
    """d independent standard normal variables. Returns `x (n, d)`."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))

"""Small sets that show one idea each, drawn anew in an instant. `(n, d)` float32, with what is known about each point."""

import math

import torch


def subspace(n=2000, d=20, k=3, *, noise=0.0, seed=0):
    """Points on a flat k-dimensional plane in d dimensions, with Gaussian noise around it. Returns `x (n, d), basis (d, k)`."""
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d, k, generator=g)).Q
    spread = torch.linspace(2, 1, k)                     # unequal, so that the axes are defined
    return torch.randn(n, k, generator=g) * spread @ basis.T + noise * torch.randn(n, d, generator=g), basis


def swiss_roll(n=2000, *, noise=0.0, seed=0):
    """A sheet rolled up in 3 dimensions, about unit variance. Returns `x (n, 3), position along the roll (n,)` in [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    position, height = torch.rand(n, generator=g), torch.rand(n, generator=g)
    angle = 1.5 * math.pi * (1 + 2 * position)
    x = torch.stack([angle * angle.cos() / 7, 3.5 * (height - 0.5), angle * angle.sin() / 7], dim=1)
    return x + noise * torch.randn(n, 3, generator=g), position


def independent(n=2000, d=8, *, seed=0):
    """d independent numbers of unit variance: nothing about one tells anything about another. Returns `x (n, d)`."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))

"""What a check gives to an answer: inputs that vary from case to case, and a known model.

A check that takes a second argument, `check(attempt, case)`, is called once per case. Each case
has sizes, a scale and a dtype of its own, and draws the inputs from them:

    x, x_hat = case.pixels("B", 1, "H", "W"), case.pixels("B", 1, "H", "W")
    size = case.whole(2, 5)

A size is a number, or a name that stands for another number in each case.
"""

import random

import torch
from torch import nn

CASES = 4  # how many cases a check is called with
_BATCHES = (6, 1, 17, 4)
_SCALES = (1.0, 0.01, 100.0, 3.0)


class Case:
    """The inputs of one call of a check.

    number:  0 for the first case, which is an everyday one; then come a batch of one example in
             small units, a large batch in large units, and float64. From 4 on the same in turn,
             with other sizes and numbers.
    dtype:   of all real numbers that are drawn: torch.float32, in each fourth case torch.float64.
    """

    def __init__(self, number: int):
        self.number, self._scale, self._scaled = number, _SCALES[number % 4], False
        self.dtype = torch.float64 if number % 4 == 3 else torch.float32
        self._batch = _BATCHES[number % 4]
        self._sizes, self._random = {}, random.Random(number)
        self._generator = torch.Generator().manual_seed(number)

    def __repr__(self):
        sizes = [f"{name} = {size}" for name, size in self._sizes.items()]
        scale = [f"values around {self._scale:g}"] * self._scaled
        dtype = [str(self.dtype).removeprefix("torch.")]
        return "inputs with " + ", ".join([*sizes, *scale, *dtype])

    @property
    def scale(self) -> float:
        """The unit of `values`: 1, 0.01, 100 or 3."""
        self._scaled = True
        return self._scale

    def size(self, name: str, low: int | None = None, high: int = 9) -> int:
        """The size called `name`: the same in all of this case, in each case another one.

        From low (2) to high, and two names have two sizes where that is possible. "B" is the size
        of a batch: 6, 1, 17 and 4, or `low` where that is more. The first call of a name decides.
        """
        low = (1 if name == "B" else 2) if low is None else low
        if name not in self._sizes:
            free = set(range(low, high + 1)) - set(self._sizes.values())
            drawn = self._random.choice(sorted(free or range(low, high + 1)))
            self._sizes[name] = max(self._batch, low) if name == "B" else drawn
        return self._sizes[name]

    def shape(self, *sizes) -> tuple[int, ...]:
        """The sizes as numbers: `case.shape("B", 1, "H")` is (6, 1, 4), for example."""
        return tuple(self.size(size) if isinstance(size, str) else size for size in sizes)

    def pixels(self, *sizes) -> torch.Tensor:
        """Uniform numbers from 0 to 1, of this shape. They have no unit: `scale` is not in them."""
        return torch.rand(self.shape(*sizes), generator=self._generator, dtype=self.dtype)

    def normal(self, *sizes) -> torch.Tensor:
        """Standard normal numbers, of this shape. They have no unit: `scale` is not in them."""
        return torch.randn(self.shape(*sizes), generator=self._generator, dtype=self.dtype)

    def values(self, *sizes) -> torch.Tensor:
        """Normal numbers in this case's unit, of this shape: standard normal ones times `scale`."""
        return self.scale * self.normal(*sizes)

    def wholes(self, low: int, high: int, *sizes) -> torch.Tensor:
        """Integers from low to high, both included, of this shape: labels, counts (int64)."""
        return torch.randint(low, high + 1, self.shape(*sizes), generator=self._generator)

    def whole(self, low: int, high: int) -> int:
        """One integer from low to high, both included."""
        return self._random.randint(low, high)

    def number_between(self, low: float, high: float) -> float:
        """One real number from low to high."""
        return self._random.uniform(low, high)


class Stub(nn.Module):
    """A model whose output is known and depends on its input: `scale * x + shift`.

    Both are parameters, of one number each. `seen` holds the inputs of all calls (copies), and
    `modes` whether the model was in training mode when it was called.
    """

    def __init__(self, scale: float = 0.7, shift: float = 0.1, dtype=torch.float32):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=dtype))
        self.shift = nn.Parameter(torch.tensor(shift, dtype=dtype))
        self.seen, self.modes = [], []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        self.modes.append(self.training)
        return self.scale * x + self.shift

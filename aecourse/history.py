"""What a training logs: the terms of one epoch while it runs, and their means over all epochs."""

import json
import math
import time
from pathlib import Path

from aecourse.data.store import atomic_write

import numpy as np
import torch


class History(dict):
    """A dict with one list per logged name, one number per epoch; `seconds` has their times."""

    def __init__(self, *args, seconds: list[float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.seconds = seconds or []

    def __repr__(self):
        ends = ", ".join(f"{name} {v[0]:.4g} -> {v[-1]:.4g}" for name, v in self.items() if v)
        return f"History({len(self.seconds)} epochs, {sum(self.seconds):.1f} s: {ends})"

    def append(self, numbers: dict[str, float]) -> None:
        """Add a number to the list of each name."""
        for name, value in numbers.items():
            self.setdefault(name, []).append(float(value))

    def write(self, path: str | Path) -> None:
        """Write one line of JSON per epoch to `path`."""
        whole = {name: values for name, values in self.items() if len(values) == len(self.seconds)}
        lines = [
            {"epoch": i + 1, **{name: values[i] for name, values in whole.items()}, "seconds": s}
            for i, s in enumerate(self.seconds)
        ]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))


class EpochLog:
    """The terms of one epoch, kept on the device and read at its end.

    They are copied into blocks: thousands of small tensors kept between the steps would fragment
    the memory, and the process would grow by about a batch at every step.
    """

    BLOCK = 1024

    def __init__(self):
        self.names, self.blocks, self.sizes, self.looked = {}, {}, {}, time.perf_counter()

    def add(self, loss, loss_name: str, size: int, terms: dict[str, torch.Tensor]) -> None:
        """Log the terms of one loss on a batch of `size` examples; "loss" under the loss's name."""
        for term, value in terms.items():
            name = self._unique(id(loss), term, loss_name if term == "loss" else term)
            sizes = self.sizes.setdefault(name, [])
            if len(sizes) % self.BLOCK == 0:
                self.blocks.setdefault(name, []).append(value.new_empty(self.BLOCK))
            self.blocks[name][-1][len(sizes) % self.BLOCK] = value.detach()
            sizes.append(size)

    def _unique(self, loss, term, wanted):
        if (loss, term) not in self.names:
            name, number = wanted, 1
            while name in self.names.values():
                number += 1
                name = f"{wanted} {number}"
            self.names[loss, term] = name
        return self.names[loss, term]

    def means(self, epoch: int | None = None) -> dict[str, float]:
        """The mean over examples of every term: a last, smaller batch counts for less.

        Raises FloatingPointError where a term is NaN or infinite, ValueError where there is none.
        """
        if not self.sizes:
            raise ValueError("there is no batch: the data is empty, or an iterator that is used up")
        numbers = {}
        for name, sizes in self.sizes.items():
            values = torch.cat(self.blocks[name])[: len(sizes)].cpu().float().numpy()
            if not np.isfinite(values).all():
                batch = int(np.flatnonzero(~np.isfinite(values))[0])
                where = "" if epoch is None else f" in epoch {epoch + 1},"
                raise FloatingPointError(
                    f"{name!r} became {values[batch]}{where} batch {batch + 1}. Usual causes: a "
                    "learning rate that is too high (divide it by 10), the logarithm of 0 or the "
                    "exponential of a large number in the loss, a division by a standard deviation "
                    "of 0, or NaN in the data."
                )
            numbers[name] = float(np.average(values.astype(np.float64), weights=sizes))
        return numbers

    def is_due(self) -> bool:
        """Whether half a second has passed: reading a number waits for the device."""
        return time.perf_counter() - self.looked > 0.5

    def latest(self, epoch: int) -> str:
        """The newest values as a short text. Raises FloatingPointError where one is not finite."""
        self.looked = time.perf_counter()
        newest = {
            name: float(self.blocks[name][-1][(len(sizes) - 1) % self.BLOCK])
            for name, sizes in self.sizes.items()
        }
        if not all(map(math.isfinite, newest.values())):
            self.means(epoch)
        return f"epoch {epoch + 1}, " + ", ".join(f"{k} {v:.4g}" for k, v in newest.items())

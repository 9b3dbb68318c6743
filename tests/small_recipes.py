"""Recipes with little data, for the tests of `train`; and, run by torchrun, the other side of those of several processes.

    torchrun --nproc-per-node 2 small_recipes.py '[{"lesson": "07", "out": "two"}, ...]'

trains one after the other, with the arguments of `recipes.train`, and "stop" (after so many epochs) or "kill" (the last
process, in this epoch, the first time). Only the first process may write.
"""

import json
import os
import signal
import sys
from functools import partial

import aecourse  # noqa: F401  (before torch, as in the lessons)

import torch

from aecourse import distributed, recipes, training
from aecourse.data import Batches

# kind: shape of an example, how many there are, batch size
ROWS = {"digits": ((1, 28, 28), 211, 64), "transactions": ((20,), 211, 64), "faces": ((3, 64, 64), 97, 16)}


def rows(kind):
    """Rows as a loader gives them, in two parts; of digits and transactions the last batch is smaller, by an odd number."""
    shape = ROWS[kind][0]

    def parts(split, source):
        n = ROWS[kind][1] - (split == "test")
        template = torch.rand(shape, generator=torch.Generator().manual_seed(0)) ** 4
        x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(len(split)))
        x = x.float() if kind == "transactions" else (255 * (x < template)).byte()
        yield from ((part,) for part in x.split(-(-n // 2)))

    return parts


def doubled(view, *batch):
    return tuple(part.double() for part in view(*batch))


def shrink(double=False):
    """Put little data behind all recipes; three epochs each. In double precision rounding stays too small to be amplified."""
    for name, recipe in recipes.RECIPES.items():
        if recipe.kind in ROWS:
            view = partial(doubled, recipe.view) if double else recipe.view
            recipes.RECIPES[name] = recipe._replace(rows=rows(recipe.kind), view=view, epochs=3, size=ROWS[recipe.kind][2])
    if double:
        torch.set_default_dtype(torch.float64)


def stopping(epoch, how):
    """Call `how()` when epoch `epoch` of any training is to start, until `Batches.set_epoch` is put back."""
    def set_epoch(self, now):
        if now == epoch:
            how()
        self.epoch = now

    Batches.set_epoch = set_epoch


def interrupt():
    raise KeyboardInterrupt


def die():
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and distributed.world()[0] == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def forbidden(*args, **kwargs):
    raise AssertionError("a second writer")


def main(tasks):
    shrink(double=True)
    torch.set_num_threads(1)
    distributed.start("cpu")
    if distributed.world()[0]:
        training.save_checkpoint = training._write_log = forbidden
    plain = Batches.set_epoch
    for task in tasks:
        Batches.set_epoch = plain
        if "stop" in task:
            stopping(task.pop("stop"), interrupt)
        if "kill" in task:
            stopping(task.pop("kill"), die)
        recipes.train(task.pop("lesson"), device="cpu", progress=False, **task)
    distributed.stop()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""Examples that need not fit in memory: written to disk once, part by part, and read from there a batch at a time."""

import json
import os
from contextlib import ExitStack
from math import prod

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from aecourse import _reading
from aecourse.data import _store
from aecourse.data.batches import Batches


def keep(name, parts):
    """Write `parts`, an iterable of tuples of tensors (each some rows), to `cache/<name>/` in the data folder, if not there.

    One part is in memory at a time; the folder arrives whole or not at all. Returns its path. ValueError: NaN, no rows.
    """
    path = _store.folder() / "cache" / name
    if path.exists():
        return path
    with _store.arriving(path) as work, ExitStack() as open_files:
        work.mkdir()
        files, rows, arrays = [], 0, []
        for part in parts:
            files = files or [open_files.enter_context(open(work / f"{i}.bin", "wb")) for i in range(len(part))]
            for file, tensor in zip(files, part, strict=True):
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    raise ValueError(f"{name}: NaN or infinity in rows {rows:,} to {rows + len(tensor):,}")
                file.write(tensor.contiguous().numpy().data)
            rows += len(part[0])
            arrays = [(str(tensor.numpy().dtype), (rows, *tensor.shape[1:])) for tensor in part]
        if not rows:
            raise ValueError(f"{name}: there are no rows")
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        (work / "arrays.json").write_text(json.dumps(arrays))
    return path


class Rows(Dataset):
    """The arrays that `keep` wrote, memory-mapped: `rows[index (B,)]` reads these rows, and gives `view` of them."""

    def __init__(self, folder, view):
        self.folder, self.view, self.arrays = folder, view, None
        self.shapes = _reading.read_json(folder / "arrays.json", self._fit)

    def _fit(self, shapes):
        for i, (dtype, shape) in enumerate(shapes):
            if (self.folder / f"{i}.bin").stat().st_size != prod(shape) * np.dtype(dtype).itemsize or shape[0] != shapes[0][1][0]:
                raise ValueError(f"{i}.bin is cut off, or of another shape")

    def __len__(self):
        return self.shapes[0][1][0]

    def __getitem__(self, index):
        if self.arrays is None:                          # here, not before: a worker opens its own
            self.arrays = [np.memmap(self.folder / f"{i}.bin", dtype, "r", shape=tuple(shape))
                           for i, (dtype, shape) in enumerate(self.shapes)]
        return self.view(*(torch.from_numpy(array[index.numpy()]) for array in self.arrays))

    def __getstate__(self):
        return self.__dict__ | {"arrays": None}


class Stored(Batches):
    """What `Batches` gives, of rows that stay on disk: the same examples in the same order for the same seed and epoch.

    folder:  where `keep` put them; `view` maps stored rows to a batch, `(B, ...)` tensors to a tuple of them.
    workers: processes that read ahead (0: this one reads).
    """

    def __init__(self, folder, *, view, size=128, shuffle=True, seed=0, workers=0):
        self.rows, self.workers = Rows(folder, view), workers
        self.length = len(self.rows)
        self.size, self.shuffle, self.seed, self.epoch = size, shuffle, seed, 0

    @property
    def shapes(self):
        return [(self.length, *tensor.shape[1:]) for tensor in self.rows[torch.arange(1)]]

    def fetch(self, indices):
        # A generator of its own: where it has none, a DataLoader takes a number from the global one, and all others shift.
        yield from DataLoader(self.rows, batch_size=None, sampler=indices, num_workers=self.workers,
                              generator=torch.Generator(), pin_memory=torch.cuda.is_available())

    def __iter__(self):
        yield from self.fetch(self.indices())

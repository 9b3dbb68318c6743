"""Batches of tensors that live in memory: a batch is an index, and the order follows from (seed, epoch)."""

import torch


class Batches:
    """Mini-batches of one or several tensors of the same length; iterating gives tuples `(B, ...)`, one entry per tensor.

    The order is a function of `seed` and the epoch alone, so rival models see identical batches. `fit` sets the epoch.
    Raises ValueError for no data, lengths that differ, or NaN and infinity.
    """

    def __init__(self, *tensors, size=128, shuffle=True, seed=0):
        if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors):
            raise ValueError(f"Batches wants tensors, got {[type(t).__name__ for t in tensors]}")
        if len({len(t) for t in tensors}) > 1 or not len(tensors[0]):
            raise ValueError(f"Batches wants tensors of one length of at least 1, got {[tuple(t.shape) for t in tensors]}")
        if size < 1:
            raise ValueError(f"a batch holds at least 1 example, got size={size}")
        for i, tensor in enumerate(tensors):
            if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
                bad = (~tensor.flatten(1).isfinite()).any(1) if tensor.ndim > 1 else ~tensor.isfinite()
                raise ValueError(f"tensor {i} holds NaN or infinity in {int(bad.sum())} of its {len(bad)} examples, "
                                 f"first in example {int(bad.nonzero()[0])}")
        self.tensors, self.length = tensors, len(tensors[0])
        self.size, self.shuffle, self.seed, self.epoch = size, shuffle, seed, 0

    def __len__(self):
        return -(-self.length // self.size)

    def set_epoch(self, epoch):
        """Choose the order that epoch `epoch` has."""
        self.epoch = epoch

    @property
    def recipe(self):
        """What tells these batches from others, for a checkpoint's fingerprint."""
        return self.shapes, self.size, self.shuffle, self.seed

    @property
    def shapes(self):
        """`(n, ...)` of each tensor."""
        return [(self.length, *t.shape[1:]) for t in self.tensors]

    def indices(self):
        """The rows of each batch of this epoch, a list of index tensors `(B,)`."""
        mixed = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(self.length, generator=mixed) if self.shuffle else torch.arange(self.length)
        return rows.split(self.size)

    def fetch(self, indices):
        """The rows of each index tensor, as a tuple of tensors, one after the other."""
        for index in indices:
            yield tuple(t.index_select(0, index) for t in self.tensors)          # several times faster than t[index]

    def __iter__(self):
        if not self.shuffle:
            yield from zip(*(t.split(self.size) for t in self.tensors))
            return
        yield from self.fetch(self.indices())

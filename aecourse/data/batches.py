"""Mini-batches of tensors, in an order that follows from the seed and the epoch."""

from collections.abc import Iterator

import torch


class Batches:
    """Mini-batches of tensors with one row per example; iterating gives tuples of `(B, ...)`.

    The order is a function of `seed` and the epoch alone, so that models that are compared see the
    same batches. `fit` sets the epoch. Images of bytes (uint8, `(n, ..., H, W)`), which may be
    mapped from a file larger than memory, come out as float32 in [0, 1].

    drop_last: leave out a last batch that is smaller than the others.
    Raises ValueError for no data, lengths that differ, or NaN and infinity.
    """

    def __init__(
        self,
        *tensors: torch.Tensor,
        batch_size: int = 128,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
    ):
        if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors):
            raise ValueError(f"Batches wants tensors, got {[type(t).__name__ for t in tensors]}")
        shapes = [tuple(t.shape) for t in tensors]
        if any(t.ndim == 0 or len(t) != len(tensors[0]) or len(t) == 0 for t in tensors):
            raise ValueError(f"Batches wants tensors of one length of at least 1, got {shapes}")
        if batch_size < 1:
            raise ValueError(f"a batch holds at least 1 example, got batch_size={batch_size}")
        for i, tensor in enumerate(tensors):
            _refuse_nan(i, tensor)
        self.tensors, self.batch_size, self.shuffle = tensors, batch_size, shuffle
        self.drop_last, self.seed, self.epoch = drop_last, seed, 0

    def __len__(self) -> int:
        n = len(self.tensors[0])
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(t.shape)) for t in self.tensors)
        order = f"shuffle={self.shuffle}, drop_last={self.drop_last}, seed={self.seed}"
        return f"Batches({shapes}, batch_size={self.batch_size}, {order})"

    def set_epoch(self, epoch: int) -> None:
        """Choose the order that epoch `epoch` has."""
        self.epoch = epoch

    def indices(self) -> list[torch.Tensor]:
        """The rows of each batch of this epoch, index tensors `(B,)`."""
        rows = torch.arange(len(self.tensors[0]))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            rows = torch.randperm(len(rows), generator=generator)
        return list(rows.split(self.batch_size))[: len(self)]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for index in self.indices():
            # index_select: several times faster than t[index]
            yield tuple(_as_float(t.index_select(0, index.to(t.device))) for t in self.tensors)


def _as_float(x):
    return x.float().div_(255) if x.dtype == torch.uint8 and x.ndim >= 3 else x


def _refuse_nan(i, x):
    if x.is_floating_point() and not x.sum().isfinite() and not x.isfinite().all():
        bad = ~x.reshape(len(x), -1).isfinite().all(1)
        raise ValueError(
            f"tensor {i} holds NaN or infinity in {int(bad.sum())} of its {len(bad)} examples, "
            f"first in example {int(bad.nonzero()[0])}"
        )


def prepare(batch, like: torch.Tensor) -> list:
    """A batch of any iterable as the list of a loss's arguments, on the device of `like`.

    batch: a tensor, a tuple, list or dict of tensors. Floats of 64 bits get the type of `like`.
    """
    batch = list(batch) if isinstance(batch, (list, tuple)) else [batch]
    return [_move(entry, like) for entry in batch]


def tensors_in(batch: list) -> list[torch.Tensor]:
    """The tensors with rows in a batch that `prepare` gave."""
    entries = [v for e in batch for v in (e.values() if isinstance(e, dict) else [e])]
    return [entry for entry in entries if isinstance(entry, torch.Tensor) and entry.ndim]


def _move(entry, like):
    if isinstance(entry, dict):
        return {key: _move(value, like) for key, value in entry.items()}
    if not isinstance(entry, torch.Tensor):
        return entry
    dtype = like.dtype if entry.dtype == torch.float64 else entry.dtype
    return entry.to(dtype).to(like.device, non_blocking=True)

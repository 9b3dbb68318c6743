"""One training in several processes, by DistributedDataParallel: `torchrun --nproc-per-node 2 -m aecourse train 07`.

A batch stays what it was: the same examples in the same order, of which process r of n takes rows r, r + n, r + 2n, ...
What a loss takes from its batch as a whole is put together again, so that n processes compute what one does:

- the loss is the mean over all rows, however many of them each process has;
- random numbers belong to the row, not to the process: all processes hold the same random state, draw for the whole
  batch, and keep their own rows. So do `SIZED` and `LIKE` below, where the first size is the number of rows; `REFUSED`
  raise NotImplementedError;
- batch normalization takes mean and variance over the whole batch, on every kind of device.

What else a loss takes from its batch as a whole, a KL of a mean activation for one, it takes from each process's rows.
"""

import os
import warnings
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import wraps

import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aecourse.checkpoints import several_processes
from aecourse.training import Update, _terms

SIZED = {torch.randn, torch.rand, torch.randint}
LIKE = {torch.randn_like, torch.rand_like, torch.randint_like, torch.bernoulli, torch.Tensor.bernoulli, F.dropout}
REFUSED = {torch.normal, torch.poisson, torch.multinomial, torch.randperm, torch.Tensor.multinomial, F.gumbel_softmax,
           F.alpha_dropout, F.feature_alpha_dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.rrelu,
           *(getattr(torch.Tensor, f"{name}_") for name in ("normal", "uniform", "bernoulli", "exponential", "random",
                                                            "cauchy", "geometric", "log_normal"))}


def start(device):
    """Join the processes that torchrun started; returns the device that is this one's, "cuda" being that of its number."""
    device = torch.device(device)
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        from torch.distributed.rendezvous import rendezvous
        store, rank, n = next(rendezvous("env://"))
        # After a restart torchrun's store still holds the addresses of the dead (PyTorch issue 135712): each attempt gets a
        # shelf of its own. Several machines do not count attempts alike; there torchrun has to make a new store (README).
        attempt = os.environ["TORCHELASTIC_RESTART_COUNT"] if os.environ["GROUP_WORLD_SIZE"] == "1" else ""
        store, cuda = dist.PrefixStore(f"attempt {attempt}", store), device.type == "cuda"
        dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=n,
                                device_id=device if cuda else None)
    return device


def stop():
    """Leave the other processes, if any."""
    if world()[1] > 1:
        dist.destroy_process_group()


def world():
    """`rank, number of processes`; 0, 1 for a process alone."""
    return (dist.get_rank(), dist.get_world_size()) if several_processes() else (0, 1)


@contextmanager
def one_first():
    """The first process of each machine runs the block, then the others: they find what it prepared. Rank 0 alone prints."""
    together, follows = world()[1] > 1, int(os.environ.get("LOCAL_RANK", 0)) > 0
    if together and follows:
        dist.barrier()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere) if world()[0] else nullcontext():
        yield
    if together and not follows:
        dist.barrier()


def agree(value, what):
    """Raise ValueError where the processes do not have the same `value`."""
    rank, n = world()
    if n > 1:
        values = [None] * n
        dist.all_gather_object(values, value)
        if any(other != value for other in values):
            raise ValueError(f"the processes do not have the same {what}: {values}. They have to see the same files.")


class Share:
    """Which rows of a batch are this process's; the first entry of a batch. Its length is that of the whole batch.

    A process without a row, in a last batch smaller than the number of processes, has the first one with a weight of 0.
    """

    def __init__(self, whole, rank, n):
        self.whole, self.own = whole, len(range(rank, whole, n))
        self.rows = slice(rank, whole, n) if self.own else slice(0, 1)
        self.here = max(self.own, 1)                     # rows that the tensors have

    def __len__(self):
        return self.whole


class Shares:
    """This process's part of `Batches` (or of `Stored`): each batch is a `Share` and the rows that it says."""

    def __init__(self, batches):
        self.batches, self.world, self.recipe, self.set_epoch = batches, world(), batches.recipe, batches.set_epoch

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        whole = self.batches.indices()
        shares = [Share(len(index), *self.world) for index in whole]
        mine = self.batches.fetch([index[share.rows] for share, index in zip(shares, whole)])
        for share, batch in zip(shares, mine):
            yield share, *batch


def together(model, update):
    """The `Update` for all processes together: its loss takes a `Share` before the batch, and gives the whole batch's terms."""
    step = _Step(model, update.loss)
    learns = {p for group in update.optimizer.param_groups for p in group["params"]}
    others = [p for p in model.parameters() if p.requires_grad and p not in learns]
    for p in others:                                     # it will reduce what requires a gradient at this moment
        p.requires_grad_(False)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):               # 2.15 renames broadcast_buffers,
        ddp = nn.parallel.DistributedDataParallel(step, broadcast_buffers=False)         # which are the same here anyway
    for p in others:
        p.requires_grad_(True)

    @wraps(update.loss)
    def loss(model, share, *batch):
        part, names, values = (ddp if model.training else step)(share, *batch)
        dist.all_reduce(values)
        terms = dict(zip(names, values.unbind()))
        terms["loss"] = part + (terms["loss"] - part).detach()       # forward the whole batch's, backward this part
        return terms

    return Update(loss, update.optimizer)


class _Step(nn.Module):
    """A loss as a module: DistributedDataParallel hooks into `forward`. It will average gradients: hence the factor n."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, share, *batch):
        with Whole(share):
            terms = _terms(self.loss, self.model, batch)
        weight, (first, *others) = share.own / share.whole, terms.values()
        values = weight * torch.stack([value.detach() for value in (first, *others)])
        return weight * world()[1] * first, ["loss", *list(terms)[1:]], values


class _Sum(torch.autograd.Function):
    """The sum over processes, differentiable as often as you like."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        return _Sum.apply(grad)


class Whole(TorchFunctionMode):
    """Within it, what PyTorch draws at random or normalizes for a share is as it would be for the whole batch."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self.batch_norm(*args, **kwargs)
        if func in REFUSED:
            raise NotImplementedError(f"{func.__name__}: its random numbers cannot be divided between processes. Draw them "
                                      f"with {', '.join(sorted({f.__name__ for f in SIZED | LIKE}))}.")
        if func in LIKE and len(args[0]) == self.share.here:
            whole = args[0].new_zeros((self.share.whole, *args[0].shape[1:]))
            whole[self.share.rows] = args[0]
            return func(whole, *args[1:], **kwargs)[self.share.rows]
        if func in SIZED:
            bounds, size, others = _call(func, args, kwargs)
            if len(size) and size[0] == self.share.here:
                return func(*bounds, size=(self.share.whole, *size[1:]), **others)[self.share.rows]
        return func(*args, **kwargs)

    def batch_norm(self, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        """As `torch.nn.functional.batch_norm`, `x: (B, C, ...)`."""
        if not training:
            return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
        dims, shape, (rank, n) = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2)), world()
        own = x.mean(dims)
        spread = (x - own.view(shape)).pow(2).sum(dims)
        counts = min(self.share.own, 1) * x.numel() / x.shape[1]
        mine = torch.stack([own, spread, own.new_full(own.shape, counts)])           # (3, C)
        table = _Sum.apply(F.pad(mine[None], (0, 0, 0, 0, rank, n - 1 - rank)))      # (n, 3, C): all in one message
        means, spreads, counts = table.unbind(1)
        total = counts.sum(0)
        m = (counts * means).sum(0) / total
        v = ((counts > 0) * spreads + counts * (means - m).pow(2)).sum(0) / total        # Chan, Golub and LeVeque 1979
        if mean is not None:
            with torch.no_grad():
                mean.lerp_(m, momentum)
                var.lerp_(v * total / (total - 1), momentum)
        x = (x - m.view(shape)) * (v + eps).rsqrt().view(shape)
        return x if weight is None else x * weight.view(shape) + bias.view(shape)


def _call(func, args, kwargs):
    """What stands before the size, the size, and the rest of a call: randn(4, 3), randn((4, 3)), randint(9, size=(4, 3))."""
    others = {name: value for name, value in kwargs.items() if name != "size"}
    if "size" in kwargs:
        return args, kwargs["size"], others
    if func is torch.randint:
        return args[:-1], args[-1], others
    return (), args[0] if len(args) == 1 and not isinstance(args[0], int) else args, others

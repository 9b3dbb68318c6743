"""Train the model of a lesson outside of its notebook: for longer, on other data, on several GPUs.

    python scripts/train.py 07                                  # the lesson's recipe, all examples
    python scripts/train.py 07-plane-vae                        # another recipe of that lesson
    python scripts/train.py 08 --source ~/photos --epochs 100 --amp --out runs/photos
    torchrun --nproc-per-node 2 --max-restarts 3 scripts/train.py 07

It runs the notebook's cells tagged `parameters` and `recipe`, and trains what they put into
`RECIPE`, or the one of `RECIPES` that is named. The same command goes on where it stopped. The
folder `--out` gets checkpoint.pt, log.jsonl (a line per epoch), model.safetensors (the weights at
the end) and, where the recipe has one loss, best.safetensors (those of the epoch with the lowest
validation loss). To open them:
`model.load_state_dict(safetensors.torch.load_file("runs/07/best.safetensors"))`.
"""

import argparse
import functools
import os
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from aecourse import recipes
from aecourse.checkpoints import load_checkpoint
from aecourse.data import Batches
from aecourse.data.store import atomic_write
from aecourse.training import Update, default_device, fit, set_seed

import torch
from safetensors.torch import save_file
from torch import distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous


class ShareOfBatches(Batches):
    """Of each batch the rows of this process: as many in each of the processes."""

    def indices(self):
        rank, n = dist.get_rank(), dist.get_world_size()
        shares = [index[: len(index) // n * n][rank::n] for index in super().indices()]
        return [share for share in shares if len(share)]

    def set_epoch(self, epoch):
        super().set_epoch(epoch)
        set_seed(1000 * (self.seed + epoch) + dist.get_rank())  # own noise, also after a restart


class LossModule(nn.Module):
    """A loss as a module: DistributedDataParallel averages the gradients of a `forward`."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch):
        terms = self.loss(self.model, *batch)
        return terms if isinstance(terms, dict) else {"loss": terms}


def distributed(model, update):
    """The same update, with gradients and logged terms averaged over all processes."""
    own = {p for group in update.optimizer.param_groups for p in group["params"]}
    others = [p for p in model.parameters() if p.requires_grad and p not in own]
    for p in others:  # DistributedDataParallel takes what requires a gradient at this moment
        p.requires_grad_(False)
    parallel = nn.parallel.DistributedDataParallel(LossModule(model, update.loss))
    for p in others:
        p.requires_grad_(True)

    @functools.wraps(update.loss)
    def loss(model, *batch):
        terms = (parallel if model.training else parallel.module)(*batch)
        means = torch.stack([term.detach() for term in terms.values()])
        dist.all_reduce(means)
        means = dict(zip(terms, means / dist.get_world_size(), strict=True))
        return {name: term + (means[name] - term).detach() for name, term in terms.items()}

    return Update(loss, update.optimizer)


def mixed_precision(update, device):
    """The same update, with matrix products and convolutions in bfloat16."""

    @functools.wraps(update.loss)
    def loss(model, *batch):
        with torch.autocast(device.type, torch.bfloat16):
            return update.loss(model, *batch)

    return Update(loss, update.optimizer)


def save_weights(model, path):
    with atomic_write(path) as temporary:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("lesson", help="00 to 15, or a recipe's name: 07-plane-vae")
    parser.add_argument("--source", help="embedded (default), real, a name or a path")
    parser.add_argument("--examples", type=int, help="train on so many examples; default: all")
    parser.add_argument("--epochs", type=int, help="default: the recipe's, as the next two")
    parser.add_argument("--batch-size", type=int, help="of all processes together")
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument("--patience", type=int, help="stop after so many epochs without a better")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", help="start from those of another run's checkpoint.pt")
    parser.add_argument("--device", type=torch.device, default=default_device())
    parser.add_argument("--amp", action="store_true", help="mixed precision, layers in bfloat16")
    parser.add_argument("--out", type=Path, help="folder of the results; default: runs/LESSON")
    args = parser.parse_args(argv)
    device, out, first, together = args.device, args.out or Path("runs") / args.lesson, True, False
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        # After a restart torchrun's store still has the addresses of the processes that died.
        store, rank, n = next(rendezvous("env://"))
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=n)
        together, first = True, dist.get_rank() == 0

    if not first:
        dist.barrier()  # the first process fills the caches
    with nullcontext() if first else redirect_stdout(open(os.devnull, "w")):
        recipe = recipes.load(args.lesson, args.source, args.seed, args.examples)
    if together and first:
        dist.barrier()

    set_seed(args.seed)
    model = recipe["model"]().to(device)
    if args.weights:
        load_checkpoint(args.weights, model)
    if together and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    lr = args.lr or recipe["lr"]
    if "updates" in recipe:
        updates = recipe["updates"](model, lr)
    else:
        updates = [Update(recipe["loss"], torch.optim.Adam(model.parameters(), lr, fused=True))]
    if args.amp:
        updates = [mixed_precision(update, device) for update in updates]
    if together:
        updates = [distributed(model, update) for update in updates]

    batches = ShareOfBatches if together else Batches
    size = args.batch_size or recipe.get("batch_size", 128)
    enough = len(recipe["train"][0]) > size
    train = batches(*recipe["train"], batch_size=size, drop_last=enough, seed=args.seed)
    valid = batches(*recipe["valid"], batch_size=1000, shuffle=False)

    def keep_best(epoch, model, history):
        scores = next(values for name, values in history.items() if name.startswith("valid "))
        if first and len(updates) == 1 and scores[-1] == min(scores):
            save_weights(model, out / "best.safetensors")
        return args.patience is not None and epoch - scores.index(min(scores)) >= args.patience

    history = fit(
        model,
        updates,
        train,
        args.epochs or recipe["epochs"],
        schedule=recipe.get("schedule", "constant" if "updates" in recipe else "one-cycle"),
        valid=valid,
        after_epoch=keep_best,
        checkpoint=out / "checkpoint.pt",
        log_to=out / "log.jsonl" if first else None,
        progress=first,
    )
    if first:
        save_weights(model, out / "model.safetensors")
        print(f"{history}\nweights, log and checkpoint are in {out}")
    if together:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

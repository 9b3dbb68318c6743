"""What each lesson trains, outside of its notebook: `python -m aecourse train 07`, then in it `recipes.trained("07")`.

A recipe is data, a model, a loss and a few numbers: those of the model that the lesson is about. It trains on all
examples of a source, where the lesson, to be quick, may take a part. To add one, add an entry to `RECIPES`.
"""

import hashlib
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.overrides import TorchFunctionMode

from aecourse import _reading, data, distributed, losses
from aecourse.data import Batches, _store, add_gaussian, mask_pixels
from aecourse.data.faces import parts
from aecourse.data.stored import Stored, keep
from aecourse.models import AAE, GAN, VAE, Autoencoder, conv_decoder, conv_encoder, mlp, mlp_decoder, mlp_encoder
from aecourse.training import Update, _updates, default_device, fit, forked_rng, load_checkpoint, set_seed, writes

# -- data: rows of a split of a source, part by part, and what a batch is made of them -------------------------------------------


def _digits(split, source):
    yield ((255 * data.digits(split, source)[0]).round().byte(),)


def _faces(split, source):
    yield from ((x,) for x in parts(split, source))


def _transactions(split, source):
    """The normal rows, standardized by those of the training period."""
    normal = {part: rows.x[rows.y == 0] for part in {"train", split} for rows in [data.transactions(part, source)]}
    yield ((normal[split] - normal["train"].mean(0)) / normal["train"].std(0),)


def _speech(split, source):
    """Words of at most `SPAN` samples behind a silence of `LEAD`, `(n, 8000)`, and their lengths `(n,)`."""
    words = data.speech(split, source)
    fits = words.length <= SPAN
    yield F.pad(words.x[fits, :SPAN], (LEAD, 0)), words.length[fits]


def as_stored(*batch):
    return batch


def pixels(x):
    return (x.float() / 255,)


def halved(x):
    return (F.avg_pool2d(x.float() / 255, 2),)


# -- losses ----------------------------------------------------------------------------------------------------------------------


def reconstruct(model, x):
    return losses.squared_error(model(x), x)


def denoise(model, x):
    return losses.bce(model(add_gaussian(x, 0.5)), x)


def unmask(model, x):
    return losses.bce(model(mask_pixels(x, 0.6)), x)


def sparse(model, x):
    z = model.encode(x)
    return losses.squared_error(model.decode(z), x) + 0.2 * losses.l1(z)


def squeeze(model, x):
    z = model.encode(x)
    z = z + torch.rand_like(z) - 0.5                     # in place of rounding
    error, bits = losses.squared_error(model.decode(z), x), model.bits(z)
    return {"loss": error + 0.04 * bits, "error": error, "bits": bits}


def elbo(model, x):
    x_hat, mu, logvar = model(x)
    recon, kl = losses.bce(x_hat, x), losses.kl_normal(mu, logvar)
    return {"loss": recon + kl, "recon": recon, "kl": kl}


def binary_elbo(model, x):
    """The ELBO of images whose pixels are coins, thrown anew each time: what likelihoods of MNIST are published for."""
    return elbo(model, torch.bernoulli(x))


def gaussian_elbo(model, x, sigma=0.2):
    x_hat, mu, logvar = model(x)
    recon, kl = losses.squared_error(x_hat, x) / (2 * sigma**2), losses.kl_normal(mu, logvar)
    return {"loss": recon + kl, "recon": recon, "kl": kl}


def discriminate(model, x):
    with torch.no_grad():
        z = model.encode(x)
    return losses.critic(model.critic(torch.randn_like(z)), model.critic(z))


def fool(model, x):
    return losses.generator(model.critic(model.encode(x)))


def criticize(gan, x):
    """Real or fake, and R1, the squared slope at real faces (Mescheder et al. 2018), at the first quarter of the rows."""
    with torch.no_grad():
        fake = gan.sample(len(x))
    told_apart = losses.critic(gan.critic(x), gan.critic(fake))
    some = x[:max(1, len(x) // 4)].detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(gan.critic(some).sum(), some, create_graph=True)
    return {"loss": told_apart + 0.25 * slope.pow(2).flatten(1).sum(1).mean(), "critic": told_apart}


def deceive(gan, x):
    return losses.generator(gan.critic(gan.sample(len(x))))


# -- models: of the shape of one example -----------------------------------------------------------------------------------------


def dense(hidden, latent, *, kind=Autoencoder, mirror=True, encoder=None, decoder=None, **options):
    """`shape -> hidden -> latent` and back, or straight back; `encoder`, `decoder`: further options of either."""
    numbers = 2 * latent if kind is VAE else latent
    return lambda shape: kind(mlp_encoder(shape, hidden, numbers, **options | (encoder or {})),
                              mlp_decoder(latent, hidden[::-1] if mirror else [], shape, **options | (decoder or {})))


class UnitColumns(nn.Module):
    """Keeps every column of a weight at length 1, so that a price on the code cannot be dodged."""

    def forward(self, weight):
        return F.normalize(weight, dim=0)


def _unit_columns(shape):
    model = dense([], 400, encoder={"final": nn.ReLU}, decoder={"final": None})(shape)
    parametrize.register_parametrization(model.decoder[1], "weight", UnitColumns())
    return model


def _watcher(shape):
    """ULB's 29 columns are nearly linear: a PCA whose code cannot run away. Others get two layers each way."""
    flat = shape == (29,)
    return dense([] if flat else [128], 20 if flat else 8, activation=nn.GELU, encoder={"final": nn.Tanh if flat else None},
                 decoder={"final": None})(shape)


class Codec(Autoencoder):
    """A convolutional autoencoder that also learns how likely each value of its code is."""

    def __init__(self, shape, channels=(8, 32), k=64):
        super().__init__(conv_encoder(shape, channels, k), conv_decoder(k, channels[::-1], shape))
        self.center, self.log_width = nn.Parameter(torch.zeros(k)), nn.Parameter(torch.zeros(k))

    def bits(self, z):
        """Bits per picture that codes `z (B, k)` cost, rounded to whole numbers: summed over k, mean over B."""
        far, width = (z - self.center).abs(), self.log_width.exp()
        p = torch.sigmoid((0.5 - far) / width) - torch.sigmoid((-0.5 - far) / width)
        return -torch.log2(p.clamp(min=1e-9)).sum(1).mean()


class Sum(nn.Module):
    """Two ways from the same input, added: a coarse one and a fine one."""

    def __init__(self, coarse, fine):
        super().__init__()
        self.coarse, self.fine = coarse, fine

    def forward(self, x):
        return self.coarse(x) + self.fine(x)


def _sketch(latent, channels, shape):
    coarse = nn.Sequential(nn.Linear(latent, 48), nn.Unflatten(1, (3, 4, 4)), nn.Upsample(shape[1:], mode="bilinear"))
    return nn.Sequential(Sum(coarse, conv_decoder(latent, channels, shape, final=None)), nn.Sigmoid())


def _face_vae(shape, channels=(16, 32, 64, 128), latent=32):
    half = (shape[0], shape[1] // 2, shape[2] // 2)
    glance = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 2 * latent))
    look = nn.Sequential(nn.AvgPool2d(2), conv_encoder(half, channels[1:], 2 * latent))
    decoder = _sketch(latent, channels[::-1], shape)
    nn.init.zeros_(decoder[0].coarse[0].weight)          # starts as an empty sheet
    return VAE(Sum(glance, look), decoder)


def _face_aae(shape, latent=16):
    half, wide = (shape[0], shape[1] // 2, shape[2] // 2), {"activation": nn.GELU, "norm": True}
    return AAE(nn.Sequential(nn.AvgPool2d(2), mlp_encoder(half, [256], latent, **wide)),
               mlp_decoder(latent, [256], shape, **wide), mlp([latent, 256, 256, 1], activation=lambda: nn.LeakyReLU(0.2)))


def _face_gan(shape, latent=32):
    gan = GAN(_sketch(latent, [64, 32, 16], shape), conv_encoder(shape, [24, 48, 96], 1, norm=False), latent)
    averaged = AveragedModel(gan.generator, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    gan.averaged = averaged.requires_grad_(False)
    return gan


# -- sound: a mask on the spectrogram, the Wiener filter's with a correction on top ----------------------------------------------

LEAD, SPAN = 2000, 6000                                  # samples before the word, and for it


def powers(spec):
    """|Y|^2, and per pitch its mean over the frames that lie in the lead-in whole; (n, 129, frames), (n, 129, 1)."""
    power = spec.abs() ** 2
    return power, power[..., : 1 + (LEAD - 128) * spec.shape[-1] // 8000].mean(-1, keepdim=True)


def speech_to_noise(power, noise, memory):
    """Speech's power over the noise's (n, 129, frames), from the frame before and from this one (Ephraim and Malah 1984)."""
    heard, before, xi = power / (noise + 1e-9), 0, []
    for t in range(power.shape[-1]):
        xi.append(memory * before + (1 - memory) * (heard[..., t] - 1).clamp(min=0))
        before = (xi[-1] / (1 + xi[-1])) ** 2 * heard[..., t]        # what the mask made of the frame
    return torch.stack(xi, -1).clamp(min=1e-3)


class Denoiser(nn.Module):
    """From a spectrogram `(n, 129, frames)` to a mask on it."""

    def __init__(self, code=256):
        super().__init__()
        self.corrector = Autoencoder(mlp_encoder((9, 129), [code], code, activation=nn.GELU, final=nn.GELU, norm=True),
                                     mlp_decoder(code, [], (129,), final=None))
        for weights in self.corrector.decoder.parameters():
            nn.init.zeros_(weights)                      # the first correction is 0

    def mask(self, Y, frames=slice(None)):
        power, noise = powers(Y)
        loud = 0.5 * torch.log(power / noise + 1e-4)     # all is relative to the noise in the lead-in
        both = torch.log(speech_to_noise(torch.cat([power, power.flip(2)]), noise.repeat(2, 1, 1), 0.95))
        ahead, back = both[:len(Y)], both[len(Y):].flip(2)                             # forwards, and from the end
        around = F.pad(loud, (6, 6), mode="replicate").unfold(2, 13, 1)[..., ::2]      # (n, 129, frames, 7): every second
        seen = torch.cat([around, ahead[..., None], back[..., None]], 3)[:, :, frames]
        seen = seen.permute(0, 2, 3, 1)                                                # (n, t, 9, 129)
        change = self.corrector(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])       # (n, t, 129)
        return torch.sigmoid(ahead[..., frames] + change.transpose(1, 2))


def _excerpts(noise, n):
    """n random pieces (n, 8000) of a long noise (samples,)."""
    return noise[torch.randint(len(noise) - LEAD - SPAN, (n, 1)) + torch.arange(LEAD + SPAN)]


def _kitchen(source):
    """The loss of a denoiser of words in the training noises: the spectrogram's error in decibels, where most words are."""
    from aecourse import audio                           # here, since it draws as well: matplotlib takes a while
    noise = data.noises("train", None if isinstance(source, Path) else source)

    def denoise(model, x, length):
        n = len(x)
        tap = torch.rand(n, 1) < 0.5
        kitchen = torch.where(tap, _excerpts(noise["running tap"], n), _excerpts(noise["dishes"], n)).to(x.device)
        snr = (20 * torch.rand(n, 1) - 5).to(x.device) + 10 * torch.log10(length[:, None] / x.shape[-1])
        Y, X = audio.spectrogram(data.add_noise_at(x, kitchen, snr)), audio.spectrogram(x)
        word = slice(30, 94, 2)                          # half a second; every second frame will do
        X_hat, X = model.mask(Y, word) * Y[..., word], X[..., word]
        error, power = ((v.abs() ** 2).sum((1, 2)) for v in (X_hat - X, X))
        return (10 * torch.log10(error / power)).mean()

    return denoise


# -- recipes ---------------------------------------------------------------------------------------------------------------------


def minimize(loss):
    """Updates of a plain loss: one Adam for all parameters, as `fit` makes it."""
    return lambda model, lr, source: _updates(model, loss, lr)


def _adam(lr, *modules, betas=(0.5, 0.999)):             # a short memory (0.5, not 0.9): the opponent changes its mind
    return torch.optim.Adam([p for module in modules for p in module.parameters()], lr, betas=betas, fused=True)


def _aae_updates(model, lr, source):
    return [Update(reconstruct, _adam(lr, model.encoder, model.decoder, betas=(0.9, 0.999))),
            Update(discriminate, _adam(lr / 2, model.critic)), Update(fool, _adam(lr / 4, model.encoder))]


def _gan_updates(gan, lr, source):
    critic, generator = (_adam(lr, part, betas=(0.0, 0.9)) for part in (gan.critic, gan.generator))
    generator.register_step_post_hook(lambda *_: gan.averaged.update_parameters(gan.generator))
    return [Update(criticize, critic), Update(deceive, generator)]


class Recipe(NamedTuple):
    """What a lesson trains on, what it trains, and how long and how fast it does."""

    kind: str                     # of data: whose sources are meant by "embedded" and "real"
    rows: Callable                # (split, source) -> tuples of tensors, each some rows, as they are kept on disk
    view: Callable                # such rows -> a batch
    make: Callable                # shape of an example -> model
    updates: Callable             # (model, lr, source) -> list of Update
    lr: float | Callable          # or a function of the shape
    epochs: int | Callable        # or a function of the number of examples
    size: int = 128
    schedule: str = "one-cycle"


RECIPES = {
    "00": Recipe("digits", _digits, pixels, dense([256], 16), minimize(reconstruct), 3e-3, 15),
    "01": Recipe("digits", _digits, pixels, dense([128, 64], 16, activation=nn.GELU, norm=True),
                 minimize(reconstruct), 8e-3, 5),
    "02": Recipe("digits", _digits, pixels, dense([512, 256], 30, activation=nn.GELU, norm=True),
                 minimize(reconstruct), 5e-3, lambda n: 120_000 // n),
    "03": Recipe("digits", _digits, pixels,
                 dense([1000], 1000, mirror=False, encoder={"activation": nn.GELU, "final": nn.ReLU, "norm": True}),
                 minimize(denoise), 1e-2, lambda n: max(3, 1_000 // -(-n // 128))),
    "04": Recipe("digits", _digits, halved, _unit_columns, minimize(sparse), 1e-2, 8),
    "05": Recipe("transactions", _transactions, as_stored, _watcher, minimize(reconstruct),
                 lambda shape: 3e-2 if shape == (29,) else 5e-3, 20, size=256),
    "06": Recipe("digits", _digits, pixels, Codec, minimize(squeeze), 8e-3, 5, size=64),
    "07": Recipe("digits", _digits, pixels, dense([256, 256, 256], 20, kind=VAE, norm=True), minimize(elbo), 3e-3, 6),
    "08": Recipe("faces", _faces, pixels, _face_vae, minimize(gaussian_elbo), 5e-3, lambda n: round(30_000 / n), size=32),
    "09": Recipe("faces", _faces, halved, _face_aae, _aae_updates, 4e-3, lambda n: round(30_000 / n), size=64,
                 schedule="cosine"),
    "10": Recipe("faces", _faces, halved, _face_gan, _gan_updates, 2e-3, lambda n: round(13_000 / n), size=32,
                 schedule="constant"),
    "11": Recipe("digits", _digits, pixels, dense([300], 300, mirror=False, encoder={"final": nn.ReLU}),
                 minimize(unmask), 3e-3, 5),
    "12": Recipe("speech", _speech, as_stored, lambda shape: Denoiser(),
                 lambda model, lr, source: _updates(model, _kitchen(source), lr), 3e-3,
                 lambda n: 12 if n > 2_400 else 4, size=16),
    "best-vae": Recipe("digits", _digits, pixels, dense([500, 500], 50, kind=VAE, norm=True), minimize(binary_elbo), 4e-3,
                       12, schedule="trapezoid"),
}


def find(lesson):
    """A recipe's name by the beginning of a lesson's, and the recipe: `find("7")`, `find("07_latent_spaces_to_vae")`."""
    name = next((key for key in RECIPES if str(lesson).split("_")[0].zfill(2) == key or str(lesson) == key), None)
    if name is None:
        raise ValueError(f"there is no recipe {str(lesson)!r}: one of {', '.join(RECIPES)}. (Lesson 13 has no model of its "
                         "own: it trains some that are broken on purpose.)")
    return name, RECIPES[name]


# -- training --------------------------------------------------------------------------------------------------------------------


def batches(recipe, split, source, *, stream=False, workers=0, size=None, seed=0):
    """A split of a source as `Batches`, or as `Stored` where `stream` asks for it: the same rows in the same order."""
    how = {"size": size or recipe.size, "shuffle": split == "train", "seed": seed}
    if stream:
        folder = keep(_name(recipe.kind, split, source), recipe.rows(split, source))
        result = Stored(folder, view=recipe.view, workers=workers, **how)
        _store.announce(recipe.kind, source, f"{split}: {result.length:,} rows, read from {folder}")
    else:
        result = Batches(*recipe.view(*map(torch.cat, zip(*recipe.rows(split, source), strict=True))), **how)
    if split == "train" and result.length > result.size > 1 == result.length % result.size:
        result.length -= 1                               # batch normalization cannot learn from a last batch of one example
    return result


def _files(kind):
    from aecourse.__main__ import FILES                  # the one list of sources; there, since it needs nothing of torch
    return FILES[kind]


def _name(kind, split, source):
    """A name for the rows of a source on disk: another file, or another version of the loaders, gives another name."""
    place = source if isinstance(source, Path) else _store.find(*_files(kind)[source])
    files = sorted(p for p in (place, *place.rglob("*")) if p.is_file()) if place else []
    stamp = [str(source), *((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files),
             *(_store.checksum(p) for p in sorted(Path(data.__file__).parent.glob("*.py")))]
    return f"rows-{kind}-{split}-{hashlib.sha256(repr(stamp).encode()).hexdigest()[:12]}"


def train(lesson, *, source=None, epochs=None, size=None, lr=None, seed=0, device=None, amp=False, stream=False, workers=0,
          out=None, progress=True):
    """Train a lesson's model, or go on where it stopped; returns its History.

    source:   as the functions of `data` take it. epochs, size (of a batch), lr: instead of the recipe's.
    device:   default: `default_device()`. amp: linear and convolutional layers in bfloat16.
    stream:   read the examples from disk, with so many `workers`.
    out:      a folder for checkpoint.pt, log.jsonl and recipe.json; default: runs/NN in the current one.
    Under torchrun all processes train one model together. Raises ValueError where `out` holds another run, and what the
    data raises.
    """
    name, recipe = find(lesson)
    out = Path(out or Path("runs") / name)
    device = distributed.start(device or default_device())
    embedded, *real = _files(recipe.kind)
    source = _store.choose(recipe.kind, source, embedded, tuple(real))
    with distributed.one_first():
        loaders = [batches(recipe, split, source, stream=stream, workers=workers, size=wanted, seed=seed)
                   for split, wanted in (("train", size), ("test", 1000))]
    n, *shape = loaders[0].shapes[0]
    epochs = epochs or max(1, recipe.epochs(n) if callable(recipe.epochs) else recipe.epochs)
    lr = lr or (recipe.lr(tuple(shape)) if callable(recipe.lr) else recipe.lr)
    plan = {"lesson": name, "source": str(source), "examples": n, "shape": shape, "epochs": epochs,
            "batch size": loaders[0].size, "lr": lr, "seed": seed}
    _stay_with(out, plan)

    set_seed(seed)
    model = recipe.make(tuple(shape)).to(device)
    updates = recipe.updates(model, lr, source)
    if amp:
        updates = [Update(mixed(update.loss), update.optimizer) for update in updates]
    if distributed.world()[1] > 1:
        updates = [distributed.together(model, update) for update in updates]
        loaders = [distributed.Shares(loader) for loader in loaders]
    return fit(model, updates, loaders[0], epochs, schedule=recipe.schedule, valid=loaders[1],
               checkpoint=out / "checkpoint.pt", log_to=out / "log.jsonl", progress=progress and writes())


def _stay_with(out, plan):
    """Refuse to go on with a run of another plan; write the plan of a new one."""
    path = out / "recipe.json"
    kept = _reading.read_json(path, _checked_plan) if path.exists() else None
    if kept is not None and kept != plan:
        other = [f"{key} {kept.get(key)} there, {value} here" for key, value in plan.items() if kept.get(key) != value]
        raise ValueError(f"{out} holds a run of another recipe: {'; '.join(other)}. "
                         "Choose another folder (--out), or remove this one.")
    distributed.agree([plan, kept is None, (out / "checkpoint.pt").exists()], "data and files")
    if kept is None and writes():
        with _store.arriving(path) as temporary:
            temporary.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")


def _checked_plan(plan):
    words = all(isinstance(plan[key], str) for key in ("lesson", "source"))
    if not words or not all(isinstance(n, int) and 0 < n < 2**14 for n in plan["shape"]):
        raise ValueError("no plan of a training")


def trained(lesson, folder=None):
    """The model that `train` left in `folder`, on the CPU, in eval mode. Default: runs/NN, here or in the folder above.

    Raises FileNotFoundError where there is none, ValueError where it is another lesson's or damaged.
    """
    return opened(lesson, folder)[0]


def opened(lesson, folder=None):
    """All that `train` left in `folder`: the model as `trained` gives it, the plan in recipe.json, the History. Raises like `trained`."""
    name, recipe = find(lesson)
    places = [Path(folder)] if folder else [Path("runs") / name, Path("..") / "runs" / name]
    place = next((place for place in places if (place / "checkpoint.pt").exists()), None)
    if place is None:
        raise FileNotFoundError(f"no trained model in {' or '.join(map(str, places))}: "
                                f"run python -m aecourse train {name} first")
    plan = _reading.read_json(place / "recipe.json", _checked_plan)
    if plan["lesson"] != name:
        raise ValueError(f"{place} holds the model of lesson {plan['lesson']}, not of {name}")
    with forked_rng():
        model = recipe.make(tuple(plan["shape"]))
    history, _ = load_checkpoint(place / "checkpoint.pt", model)
    return model.eval(), plan, history


class _Mixed(TorchFunctionMode):
    """Linear and convolutional layers in bfloat16, by PyTorch's autocast; their results, and all else, in float32."""

    LAYERS = {F.linear, F.conv1d, F.conv2d, F.conv_transpose1d, F.conv_transpose2d}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in self.LAYERS:
            return func(*args, **(kwargs or {}))
        with torch.autocast(args[0].device.type, torch.bfloat16):
            return func(*args, **(kwargs or {})).float()


def mixed(loss):
    """The same loss with mixed precision; weights, and so checkpoints, stay float32."""
    @wraps(loss)
    def in_mixed_precision(model, *batch):
        with _Mixed():
            return loss(model, *batch)

    return in_mixed_precision

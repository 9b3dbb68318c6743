"""Train lessons' recipes for as long as it pays; keep weights and cards in `zoo/`.

    python scripts/zoo.py 03 07-           # all whose name begins so; without a name: all
    python scripts/zoo.py 07               # the one of this name

It runs scripts/train.py as the card of a network says, keeps the weights of the last epoch in
float16, opens these and measures them on the test set. A training that was interrupted goes on;
delete build/zoo/NAME to begin anew. `aecourse.zoo.load("07-plane-vae")` opens the weights.
"""

import argparse
import hashlib
import json
import platform
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

from aecourse import audio, data, losses, metrics, recipes, zoo
from aecourse.compression import write_codes
from aecourse.data import Batches, add_gaussian
from aecourse.data.store import atomic_write
from aecourse.models import VAE, parameter_count
from aecourse.seeding import forked_rng
from aecourse.training import evaluate

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

import train

OUT = Path("build/zoo")  # of the trainings
SIGMAS = (0.1, 0.3, 0.5, 0.7)
EVENLY = torch.linspace(0.025, 0.975, 20).tolist()  # strengths from 0 to 1
NAMES = {  # of what the losses log
    "reconstruct": "reconstruction (bce)",
    "recon": "reconstruction (bce)",
    "kl": "KL",
    "negative_elbo": "negative ELBO",
}

# -- measures: functions of a network and its recipe, {name with the unit: value} ------------------


def least_squares(noisy, clean):
    """The linear map with the smallest squared error, as a function of noisy images."""

    def rows(x):
        return F.pad(x.flatten(1), (0, 1), value=1.0)

    a = rows(noisy)
    weights = torch.linalg.solve(a.T @ a + torch.eye(a.shape[1]), a.T @ clean.flatten(1))
    return lambda x: (rows(x) @ weights).clamp(0, 1).view_as(x)


@torch.no_grad()
def denoising(model, recipe):
    """PSNR of test images under noise, beside linear maps: for this noise, and for any."""
    (x,), (x_test,), found = recipe["train"], recipe["valid"], {}
    with forked_rng(seed=0):
        noisy = torch.cat([add_gaussian(part, s) for part, s in zip(x.chunk(20), EVENLY)])
        blind = least_squares(noisy, x)
        for sigma in SIGMAS:
            linear = least_squares(add_gaussian(x, sigma), x)
            y = add_gaussian(x_test, sigma)
            outputs = {"network": model(y), "one linear map for all": blind(y)}
            outputs |= {"a linear map for this noise": linear(y), "nothing done": y}
            for who, x_hat in outputs.items():
                value = metrics.psnr(x_hat, x_test).mean().item()
                found[f"PSNR in dB at noise {sigma}, {who}"] = value
    return found


@torch.no_grad()
def reconstruction(model, recipe):
    """The recipe's loss and the squared error on test images, beside PCA with as many numbers."""
    (x,), (x_test,) = recipe["train"], recipe["valid"]
    found = evaluate(model, recipe["loss"], Batches(x_test, batch_size=1000, shuffle=False))
    found = {f"{NAMES[name]}, nats": value for name, value in found.items()}
    z = model.encode(x_test)[0] if isinstance(model, VAE) else model.encode(x_test)
    found["squared error"] = losses.squared_error(model.decode(z), x_test).item()
    pca = PCA(z.shape[1], svd_solver="covariance_eigh").fit(x.flatten(1).numpy())
    rows = x_test.flatten(1).numpy()
    linear = torch.from_numpy(pca.inverse_transform(pca.transform(rows)))
    found["squared error, PCA"] = losses.squared_error(linear.view_as(x_test), x_test).item()
    return found


@torch.no_grad()
def rate_distortion(model, recipe):
    """Bytes per image in a file of all test images, and their PSNR; PCA's at as many bytes."""
    (x,), (x_test,) = recipe["train"], recipe["valid"]
    pca = PCA(64, svd_solver="covariance_eigh").fit(x.flatten(1).numpy())
    axes, center = torch.from_numpy(pca.components_), torch.from_numpy(pca.mean_)
    found, linear = {}, []

    def point(z, step, decode):
        q = (z / step).round().clamp(-127, 127)
        x_hat = decode(q * step).view_as(x_test).clamp(0, 1)
        return len(write_codes(q)) / len(q), metrics.psnr(x_hat, x_test).mean().item()

    for k, step in product((16, 32, 64), (0.5, 0.75, 1, 1.5)):
        z = (x_test.flatten(1) - center) @ axes[:k].T
        linear.append(point(z, step, lambda z, k=k: z @ axes[:k] + center))
    sizes, psnr = torch.tensor(sorted(linear)).T.numpy()
    for step in (0.5, 1, 2):
        size, value = point(model.encode(x_test), step, model.decode)
        found[f"bytes per image, step {step}"] = size
        found[f"PSNR in dB, step {step}"] = value
        at_size = np.interp(size, sizes, np.maximum.accumulate(psnr)).item()
        found[f"PSNR in dB, PCA, bytes of step {step}"] = at_size
    return found


@torch.no_grad()
def likelihood(model, recipe):
    """Those of `reconstruction`; active latents; the tighter bound of 100 draws on 500 images."""
    (x_test,) = recipe["valid"]
    found = reconstruction(model, recipe)
    found["active latents"] = metrics.active_units(model.encode(x_test)[0])
    bound = metrics.importance_weighted_nll(model, x_test[:500], 100)
    return found | {"importance-weighted NLL, 100 draws, nats": bound.mean().item()}


def psnr_beside_pca(x_hat, x_test, x, n):
    """The PSNR of `x_hat`, and that of PCA with n components fitted to `x`."""
    pca = PCA(n, svd_solver="randomized", random_state=0).fit(x.flatten(1).numpy())
    linear = torch.from_numpy(pca.inverse_transform(pca.transform(x_test.flatten(1).numpy())))
    images = {"PSNR in dB": x_hat, "PSNR in dB, PCA": linear.view_as(x_test)}
    return {name: metrics.psnr(v, x_test).mean().item() for name, v in images.items()}


@torch.no_grad()
def face_reconstruction(model, recipe):
    """The recipe's loss and the PSNR of test faces, beside PCA with as many numbers."""
    (x,), (x_test,) = recipe["train"], recipe["valid"]
    found = evaluate(model, recipe["loss"], Batches(x_test, batch_size=500, shuffle=False))
    names = NAMES | {"recon": "squared error / (2 sigma^2)", "loss": "sum of both"}
    found = {f"{names[name]}, nats": value for name, value in found.items()}
    mu = torch.cat([model.encode(part)[0] for part in x_test.split(250)])
    x_hat = torch.cat([model.decode(part) for part in mu.split(250)])
    found["active latents"] = metrics.active_units(mu)
    return found | psnr_beside_pca(x_hat, x_test, x, mu.shape[1])


@torch.no_grad()
def adversarial_faces(model, recipe):
    """PSNR of test faces, beside PCA with as many numbers; distance of codes to the prior."""
    (x,), (x_test,) = recipe["train"], recipe["valid"]
    z = torch.cat([model.encode(part) for part in x_test.split(250)])
    x_hat = torch.cat([model.decode(part) for part in z.split(250)])
    with forked_rng(seed=0):
        prior, again = torch.randn_like(z), torch.randn_like(z)
    centered = z - z.mean(0)
    whitened = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(z.T)), centered.T, upper=False
    ).T
    return psnr_beside_pca(x_hat, x_test, x, z.shape[1]) | {
        "energy distance of codes to the prior": metrics.energy_distance(z, prior),
        "the same of whitened codes": metrics.energy_distance(whitened, prior),
        "the same of draws of the prior": metrics.energy_distance(again, prior),
    }


@torch.no_grad()
def face_samples(gan, recipe):
    """How near 1,000 samples of the averaged generator are to test faces, beside PCA's."""
    (x,), (x_test,) = recipe["train"], recipe["valid"]
    with forked_rng(seed=0):
        update_bn(torch.randn(1000, gan.latent).split(100), gan.averaged)
        z, scales = torch.randn(1000, gan.latent), torch.randn(1000, 64)
    sampled = torch.cat([gan.averaged.eval()(part) for part in z.split(250)])
    pca = PCA(64, svd_solver="randomized", random_state=0).fit(x[:4000].flatten(1).numpy())
    axes, center = torch.from_numpy(pca.components_), torch.from_numpy(pca.mean_)
    linear = scales * torch.from_numpy(pca.explained_variance_).sqrt() @ axes + center
    found, sharp = {}, metrics.sharpness(x_test).mean().item()
    samples = {"samples": sampled, "training faces": x[:1000]}
    samples["PCA, fitted"] = linear.view_as(sampled).clamp(0, 1)
    small = F.avg_pool2d(x_test, 4).flatten(1)
    for who, faces in samples.items():
        distance = metrics.energy_distance(F.avg_pool2d(faces, 4).flatten(1), small)
        found[f"energy distance to test faces at 16x16 pixels, {who}"] = distance
        ratio = metrics.sharpness(faces).mean().item() / sharp
        found[f"sharpness over that of test faces, {who}"] = ratio
    return found


@torch.no_grad()
def speech_improvement(model, recipe):
    """SI-SNR that the mask adds to test words in test noise at 0 dB while they last, in dB."""
    x, length = recipe["test"]
    lead, found = 2000, {}  # samples before a word, as in lesson 12
    t = torch.arange(x.shape[1]) - lead
    word = (t >= 0) & (t < length[:, None])
    share = 10 * torch.log10(length[:, None] / x.shape[1])
    for kind, noise in data.noises("test", "embedded").items():
        with forked_rng(seed=0):
            start = torch.randint(len(noise) - x.shape[1], (len(x), 1))
        noisy = data.add_noise_at(x, noise[start + torch.arange(x.shape[1])], share)
        Y = audio.spectrogram(noisy)
        x_hat = audio.inverse(model.mask(Y) * Y, x.shape[1])
        before, after = (metrics.si_snr(v * word, x * word).mean() for v in (noisy, x_hat))
        found[f"SI-SNR improvement at 0 dB, {kind}, dB"] = (after - before).item()
    return found


@torch.no_grad()
def reading(model, recipe):
    """How many test digits, and halves of two different ones, it accepts, as in lesson 07."""
    x, y = recipe["valid"]
    other = torch.arange(len(x)).roll(1)
    cut = torch.cat([x[..., :14], x[other][..., 14:]], dim=3)[y != y[other]]
    (sure, digit), (sure_of_cut, _) = (model(v).softmax(1)[:, :10].max(1) for v in (x, cut))
    shares = {
        "test digits accepted, %": sure > 0.5,
        "test digits accepted and classified right, %": (sure > 0.5) & (digit == y),
        "left and right halves of two different digits, accepted, %": sure_of_cut > 0.5,
    }
    return {name: 100 * share.float().mean().item() for name, share in shares.items()}


# -- what is trained ------------------------------------------------------------------------------


DIGITS = "training examples from the digits that the course draws (strokes), data/README.md"
FACES = "faces that the course draws, data/README.md"


CODEC_LIMITS = (
    "Knows upright digits in white on black, centered; answers anything else with their strokes, "
    "with a larger error."
)


class Plan(NamedTuple):
    """How a recipe is trained for the zoo, and what its card says of it."""

    options: str  # of scripts/train.py
    measure: Callable
    what: str
    use: str
    limits: str
    data: str = DIGITS


PLANS = {
    "03-blind": Plan(
        "--epochs 250 --lr 0.005 --batch-size 128",
        denoising,
        "denoising autoencoder 784-256-256-784, for Gaussian noise of any strength from 0 to 1",
        "lesson 03's experiment: noise of any level on drawn digits",
        "Knows upright digits in white on black; redraws anything else with their strokes. Other "
        "kinds of noise were not trained.",
    ),
    "06": Plan(
        "--epochs 12 --batch-size 128",
        rate_distortion,
        "convolutional autoencoder with an entropy model, rate weight 0.05, lesson 06's recipe",
        "lesson 06: the same recipe after a longer training, a codec for digits",
        CODEC_LIMITS,
    ),
    "06-high-rate": Plan(
        "--epochs 12 --batch-size 128",
        rate_distortion,
        "the codec of lesson 06 with a rate weight of 0.01: more bits, less error",
        "lesson 06: one of three codecs of its rate-distortion curve",
        CODEC_LIMITS,
    ),
    "06-low-rate": Plan(
        "--epochs 12 --batch-size 128",
        rate_distortion,
        "the codec of lesson 06 with a rate weight of 0.25: fewer bits, more error",
        "lesson 06: one of three codecs of its rate-distortion curve",
        CODEC_LIMITS,
    ),
    "06-plain": Plan(
        "--epochs 12 --batch-size 128",
        rate_distortion,
        "the layers of lesson 06's codec with a code of 32 numbers, trained on the error only",
        "lesson 06: a baseline, rounded after the training",
        "Its codes have a scale of their own: a step of 1 means nothing. " + CODEC_LIMITS,
    ),
    "07": Plan(
        "--epochs 150",
        likelihood,
        "variational autoencoder with 20 latents, lesson 07's recipe",
        "lesson 07: the same recipe after a longer training",
        "Trained without KL annealing: some latents stay inactive. Blurs where several digits "
        "explain a code; samples of the prior are not always digits.",
    ),
    "07-plane-ae": Plan(
        "--epochs 100",
        reconstruction,
        "plain autoencoder with a code of two numbers, layers of lesson 07",
        "lesson 07's experiment: its plane of codes beside that of 07-plane-vae",
        "Two numbers are few: many digits come back as another one. Its codes have no scale of "
        "their own; between them the decoder was never trained.",
    ),
    "07-plane-vae": Plan(
        "--epochs 100",
        likelihood,
        "variational autoencoder with two latents, layers of lesson 07",
        "lesson 07's experiment: its plane of codes beside that of 07-plane-ae",
        "Two numbers are few: many digits come back as another one. Blurs more than the plain one.",
    ),
    "07-reader": Plan(
        "--epochs 6",
        reading,
        "convolutional classifier of lesson 07: ten digits, and *no digit*",
        "lesson 07's experiment: says where on a plane of codes the decoder draws a digit",
        "Has blind spots: what it saw as no digit are blends, halves, holes and clouds.",
    ),
    "08": Plan(
        "--epochs 20 --lr 0.003",
        face_reconstruction,
        "convolutional variational autoencoder with 64 latents, lesson 08's recipe",
        "lesson 08: the same recipe after a longer training; its interpolations and edits",
        "Knows the course's drawn faces, upright and centered; answers anything else with one of "
        "them. Fine detail is blurred. Codes from the prior decode worse than codes from a normal "
        "distribution that is fitted to the codes of faces.",
        FACES,
    ),
    "09": Plan(
        "--epochs 20",
        adversarial_faces,
        "convolutional adversarial autoencoder with 16 latents, lesson 09's recipe",
        "lesson 09: the same recipe after a longer training; its samples and codes",
        "Knows the course's drawn faces, upright and centered; answers anything else with one of "
        "them. Sixteen numbers keep little detail: pictures are soft. The codes come near the "
        "prior and do not reach it.",
        FACES,
    ),
    "10": Plan(
        "--epochs 20",
        face_samples,
        "GAN for faces of 64 x 64 pixels, with the moving average of its generator, lesson 10",
        "lesson 10: the same recipe after a longer training",
        "Draws the course's faces only. Glasses and hair come out wrong at times. Batch norm of "
        "the averaged generator needs new statistics before it is used, as in lesson 10. The test "
        "loss is the discriminator's: it says nothing of the faces.",
        FACES,
    ),
    "12": Plan(
        "--epochs 20",
        speech_improvement,
        "network that corrects the mask of a Wiener filter, lesson 12's recipe",
        "lesson 12: the same recipe after a longer training",
        "Single words at 8 kHz after a quarter of a second of noise alone; trained on the running "
        "tap and the dishes that the course synthesizes, at -5 to 15 dB. In white noise it "
        "is about level with tuned filters; another voice stays.",
        "words that the course synthesizes, data/README.md",
    ),
}


def command(name):
    """The arguments of scripts/train.py for this recipe."""
    options = PLANS[name].options.split()
    return [name, "--source", "embedded", *options, "--out", (OUT / name).as_posix()]


def make(name):
    """Train the recipe `name`, keep its weights, measure them, write the card."""
    plan, out = PLANS[name], OUT / name
    train.main(command(name))
    path = zoo.FOLDER / f"{name}.safetensors"
    weights = load_file(out / "model.safetensors")
    weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    with atomic_write(path) as temporary:
        save_file(weights, temporary)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    loss = next(key for key in log[0] if key.startswith("valid "))
    lowest = min(log, key=lambda line: line[loss])
    recipe = recipes.load(name, "embedded")
    model = zoo.load(name, recipe["model"]())
    card = {
        "what": plan.what,
        "use": plan.use,
        "limits": plan.limits,
        "data": plan.data,
        "examples": len(recipe["train"][0]),
        "command": " ".join(["python scripts/train.py", *command(name)]),
        "epochs": len(log),
        "seconds": round(sum(line["seconds"] for line in log)),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        "torch": torch.__version__,
        "kept": "the last epoch, in float16",
        "test loss": {"last": log[-1][loss], "lowest": lowest[loss], "in epoch": lowest["epoch"]},
        "parameters": parameter_count(model),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "measures": plan.measure(model, recipe),
    }
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def page():
    """The text of zoo/README.md: a table of all cards, and a section for each."""
    names = sorted(path.stem for path in zoo.FOLDER.glob("*.json"))
    cards = {name: zoo.card(name) for name in names}
    lines = [
        "# The zoo",
        "",
        "Weights of lessons' recipes after a longer training, in float16, each with a card in",
        "JSON. `aecourse.zoo.load(name)` opens them; `make zoo` trains them anew, writes the cards",
        "and this page. The measures are those of the float16 weights on the test set, with fixed",
        "random numbers; a test computes them again. License: that of the course.",
        "",
        "| name | what it is | parameters | kB | epochs | seconds, wall clock |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, card in cards.items():
        numbers = card["parameters"], card["bytes"] // 1000, card["epochs"], card["seconds"]
        lines.append(
            f"| {name} | {card['what']} | " + " | ".join(map("{:,}".format, numbers)) + " |"
        )
    for name, card in cards.items():
        loss = card["test loss"]
        lines += [
            f"\n## {name}\n",
            f"- **What**: {card['what']}.",
            f"- **For**: {card['use']}.",
            f"- **Limits**: {card['limits']}",
            f"- **Data**: {card['examples']:,} {card['data']}.",
            f"- **Training**: `{card['command']}` with PyTorch {card['torch']} on "
            f"{card['machine']}. Kept: {card['kept']}; its test loss is {loss['last']:.2f}, the "
            f"lowest was {loss['lowest']:.2f} in epoch {loss['in epoch']}.",
            "\n| measured on the test set | |",
            "|---|---:|",
            *(f"| {what} | {value:.4g} |" for what, value in card["measures"].items()),
        ]
    return "\n".join(lines) + "\n"


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"names or beginnings of {', '.join(PLANS)}")
    args = parser.parse_args(argv)
    chosen = []
    for asked in args.names or PLANS:
        found = [name for name in PLANS if name == asked] or [
            name for name in PLANS if name.startswith(asked)
        ]
        if not found:
            parser.error(f"nothing is planned for {asked!r}; known are {', '.join(PLANS)}")
        chosen += found
    for name in dict.fromkeys(chosen):
        make(name)
    with atomic_write(zoo.FOLDER / "README.md") as temporary:
        temporary.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

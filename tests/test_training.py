"""What fit, step and evaluate promise, and what they say when something is wrong."""

import functools
import json
import os
import re
import subprocess
import sys

from aecourse import losses
from aecourse.checkpoints import load_checkpoint
from aecourse.data import Batches, subspace
from aecourse.models import GAN, VAE, Autoencoder, mlp, mlp_decoder, mlp_encoder
from aecourse.training import SCHEDULES, Update, evaluate, fit, set_seed

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

X = subspace(300, 12, 3, noise=0.05)[0]


def make(seed=0, norm=False):
    set_seed(seed)
    return Autoencoder(
        mlp_encoder((12,), [16], 3, norm=norm), mlp_decoder(3, [16], (12,), final=None, norm=norm)
    )


def reconstruct(model, x):
    return losses.squared_error(model(x), x)


def denoise(model, x):
    return losses.squared_error(model(x + 0.1 * torch.randn_like(x)), x)


def same_weights(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def run(loss=denoise, epochs=4, model=None, train=None, **options):
    model = make() if model is None else model
    set_seed(1)
    train = Batches(X, batch_size=64) if train is None else train
    return model, fit(model, loss, train, epochs, progress=False, **options)


# -- what is logged --------------------------------------------------------------------------------


def test_fit_learns_and_logs_under_the_name_of_the_loss():
    model, history = run(reconstruct, 40, lr=1e-2)
    assert list(history) == ["reconstruct"]
    assert len(history["reconstruct"]) == len(history.seconds) == 40
    assert history["reconstruct"][-1] < 0.1 * history["reconstruct"][0]
    assert not model.training


def test_all_terms_are_logged_and_a_smaller_last_batch_counts_for_less():
    def named(model, x):
        error = losses.squared_error(model(x), x)
        return {"loss": 0 * error, "error": error, "mean": x[:, 0].mean()}

    model, history = run(named, 1)
    assert list(history) == ["named", "error", "mean"]
    assert history["mean"][0] == pytest.approx(float(X[:, 0].mean()), abs=1e-5)  # 4 * 64 + 44
    error = evaluate(model, named, Batches(X, batch_size=7, shuffle=False))["error"]
    assert error == pytest.approx(reconstruct(model, X).item(), rel=1e-4)


def test_losses_of_the_same_name_are_logged_apart():
    def weighted(model, x, beta):
        return beta * reconstruct(model, x)

    one, three = functools.partial(weighted, beta=1.0), functools.partial(weighted, beta=3.0)
    losses, model = (one, three, lambda m, x: one(m, x), lambda m, x: three(m, x)), make()
    updates = [Update(loss, torch.optim.SGD(model.parameters(), 0.0)) for loss in losses]
    history = run(updates, 1, model)[1]
    assert list(history) == ["weighted", "weighted 2", "loss", "loss 2"]
    assert history["weighted 2"][0] == pytest.approx(3 * history["weighted"][0])


def test_validation_and_after_epoch_change_no_weight():
    plain, _ = run()
    drawn = {"after_epoch": lambda *_: {"drawn": np.float64(torch.randn(()))}}
    watched, history = run(valid=Batches(X[:50], batch_size=20), **drawn)
    assert same_weights(plain, watched)
    assert "valid denoise" in history and len(history["drawn"]) == 4
    data = Batches(X, shuffle=False)
    first, again = (evaluate(watched, denoise, data) for _ in range(2))
    assert first == again != evaluate(watched, denoise, data, seed=1)


def test_evaluate_runs_in_eval_mode_and_restores_every_mode():
    model, seen = make(norm=True).train(), []
    model.encoder.eval()  # frozen on purpose
    evaluate(model, lambda m, x: seen.append(m.training) or reconstruct(m, x), [X])
    assert seen == [False] and model.training and not model.encoder.training


# -- everyday wishes -------------------------------------------------------------------------------


def test_after_epoch_and_the_log_file_hold_every_epoch(tmp_path):
    seen, options = [], {"valid": [X], "log_to": tmp_path / "log.jsonl"}
    history = run(after_epoch=lambda e, m, h: seen.append(h["valid denoise"][-1]), **options)[1]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert seen == history["valid denoise"] == [line["valid denoise"] for line in lines]


def test_after_epoch_ends_the_training_and_the_checkpoint_knows(tmp_path):
    def stop_at_two(epoch, model, history):
        return epoch == 1

    history = run(after_epoch=stop_at_two, epochs=9, checkpoint=tmp_path / "c.pt")[1]
    assert len(history["denoise"]) == len(history.seconds) == 2
    again = run(after_epoch=stop_at_two, epochs=9, checkpoint=tmp_path / "c.pt")[1]
    assert dict(again) == dict(history)


def test_own_scheduler_is_respected():
    model, rates = make(), []
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)

    def watch(model, x):
        rates.append(optimizer.param_groups[0]["lr"])
        return reconstruct(model, x)

    fit(
        model,
        [Update(watch, optimizer)],
        [X],
        3,
        progress=False,
        after_epoch=lambda *_: scheduler.step(),
    )
    assert rates == pytest.approx([0.01, 0.001, 0.0001])


def test_schedules_start_peak_and_end_where_they_say():
    one = SCHEDULES["one-cycle"]
    assert one(0) == pytest.approx(0.04) and one(0.3) == pytest.approx(1) and one(0.9999) < 1e-3
    flat = SCHEDULES["warmup-stable-decay"]
    assert flat(0) < 0.1 and flat(0.03) == flat(0.59) == 1 and flat(0.8) == pytest.approx(0.5)
    assert SCHEDULES["polynomial"](0.36) == pytest.approx(0.512)
    assert SCHEDULES["cosine"](0) == 1 and SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
    model, rates = make(), []
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)

    def watch(model, x):
        rates.append(sgd.param_groups[0]["lr"])
        return 0 * reconstruct(model, x)

    fit(model, [Update(watch, sgd)], [X, X], 2, schedule=lambda t: 1 - t, progress=False)
    assert rates == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert sgd.param_groups[0]["lr"] == 0.5  # as it came


def test_interrupt_keeps_the_model_and_the_history(capsys):
    def interrupt(epoch, model, history):
        if epoch == 2:
            raise KeyboardInterrupt

    model, history = run(after_epoch=interrupt, epochs=10)
    assert len(history["denoise"]) == 3 and not same_weights(model, make())
    assert "3 finished epochs" in capsys.readouterr().out


# -- batches of other people's making --------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


ITERABLES = {
    "loader": DataLoader(TensorDataset(X), batch_size=64, shuffle=True),
    "stream": DataLoader(Stream(), batch_size=64),
    "float64": DataLoader(TensorDataset(X.double()), batch_size=64),
    "tensors": [X[:100], X[100:]],
    "tuples": [(X,)],
}


@pytest.mark.parametrize("name", ITERABLES)
def test_any_iterable_of_batches_serves(name):
    assert run(train=ITERABLES[name], schedule="constant")[1]["denoise"][-1] > 0


def test_dict_batches_are_weighted_by_their_rows():
    def loss(model, batch):
        return {"loss": reconstruct(model, batch["x"]), "mean": batch["x"].mean()}

    batches = [{"x": X[:64] * 0}, {"x": X[:2] * 0 + 1}]
    assert evaluate(make(), loss, batches)["mean"] == pytest.approx(2 / 66)


NOTES = {  # what came -> what the error says
    r"here reconstruct\(model, \(300, 12\) float32, \(300,\) float32\)": (X, X[:, 0]),
    r"Bytes have to become floats: images by x.float\(\) / 255": (X * 9).byte(),
    "two examples or more: set drop_last=True": X[:1],
}


@pytest.mark.parametrize("note", NOTES)
def test_batch_that_a_loss_cannot_take_is_described(note):
    with pytest.raises((TypeError, RuntimeError, ValueError)) as error:
        run(reconstruct, model=make(norm=True), train=[NOTES[note]])
    assert re.search(note, " ".join(error.value.__notes__))


# -- every kind of model ---------------------------------------------------------------------------


def sparse(model, x):
    z = model.encode(x)
    return {
        "loss": losses.squared_error(model.decode(z), x) + 0.1 * losses.l1(z),
        "l1": losses.l1(z),
    }


def contractive(model, x):
    return reconstruct(model, x) + 0.1 * losses.contractive(model.encode, x)


def negative_elbo(model, x):
    x_hat, mu, logvar = model(x)
    recon, kl = losses.squared_error(x_hat, x), losses.kl_normal(mu, logvar)
    return {"loss": recon + kl, "recon": recon, "kl": kl}


@pytest.mark.parametrize("loss", [sparse, contractive, negative_elbo])
def test_one_fit_serves_all_kinds(loss):
    vae = VAE(mlp_encoder((12,), [16], 6), mlp_decoder(3, [16], (12,), final=None))
    model = vae if loss is negative_elbo else make()
    history = run(loss, 25, model=model, lr=1e-2, valid=[X])[1]
    assert history[loss.__name__][-1] < 0.7 * history[loss.__name__][0]


def test_gradients_of_another_update_are_discarded():
    """The discriminator's step is the one of its own loss alone, computed here by hand."""
    set_seed(0)
    gan, twin = (GAN(mlp([2, 8, 12]), mlp([12, 8, 1]), latent=2) for _ in range(2))
    twin.load_state_dict(gan.state_dict())
    z, sgd = torch.randn(30, 2), torch.optim.SGD

    def generate(model, x):
        return losses.generator_loss(model.discriminator(model(z)))

    def judge(model, x):
        fake = model(z).detach()
        return losses.discriminator_loss(model.discriminator(x), model.discriminator(fake))

    updates = [
        Update(generate, sgd(gan.generator.parameters(), lr=0.0)),
        Update(judge, sgd(gan.discriminator.parameters(), lr=0.1)),
    ]
    fit(gan, updates, [X[:30]], 1, progress=False)
    judge(twin, X[:30]).backward()
    sgd(twin.discriminator.parameters(), lr=0.1).step()
    assert same_weights(gan, twin)
    wrong = [Update(judge, sgd(twin.generator.parameters(), lr=0.1))]
    with pytest.raises(ValueError, match="does not depend on its optimizer's parameters"):
        fit(twin, wrong, [X[:30]], 1, progress=False)


def test_compiled_models_weights_fit_the_plain_one(tmp_path):
    compiled = torch.compile(make(), backend="eager")
    run(model=compiled, checkpoint=tmp_path / "c.pt")
    plain = make(3)
    load_checkpoint(tmp_path / "c.pt", plain)
    assert same_weights(plain, compiled._orig_mod)


def test_trains_on_a_device_without_float64(monkeypatch):
    def refuse(tensor):
        raise TypeError("this device has no float64")

    monkeypatch.setattr(torch.Tensor, "double", refuse)
    assert run(train=Batches(X))[1]["denoise"][-1] > 0


# -- what goes wrong -------------------------------------------------------------------------------


def test_nan_stops_the_training_with_epoch_batch_and_term(tmp_path):
    calls = []

    def failing(model, x):
        calls.append(1)
        error = reconstruct(model, x)
        return {"loss": error, "penalty": error * (torch.nan if len(calls) == 8 else 1)}

    with pytest.raises(FloatingPointError, match=r"'penalty' became nan in epoch 2, batch 3.*rate"):
        run(failing, checkpoint=tmp_path / "c.pt")
    history, epochs = load_checkpoint(tmp_path / "c.pt", make())
    assert epochs == 1 and np.isfinite(history["penalty"]).all()


def test_nan_in_a_bernoulli_likelihood_is_reported_alike():
    def loss(model, x):
        return losses.bce(model(x).sigmoid() * torch.nan, x.sigmoid())

    with pytest.raises(FloatingPointError, match="'loss' became nan in epoch 1, batch 1"):
        run(loss)


WRONG_LOSSES = [
    (lambda model, x: (model(x) - x) ** 2, "scalar tensors .sum over features"),
    (lambda model, x: 1.0, "scalar tensors.*float"),
    (lambda model, x: {"recon": reconstruct(model, x)}, "no entry 'loss'"),
    (lambda model, x: x.sum(), "does not depend on its optimizer's parameters"),
    ([], "list of Update"),
    ("mse", "list of Update"),
]
WRONG_OPTIONS = [
    ({"epochs": 0}, "epochs"),
    ({"epochs": 2.5}, "epochs"),
    ({"schedule": "linear"}, "one-cycle"),
    ({"train": iter([X])}, "number of batches"),
    ({"train": []}, "data is empty"),
    ({"train": iter([X]), "schedule": "constant"}, "used up"),
]


@pytest.mark.parametrize(
    "options, message", [({"loss": loss}, m) for loss, m in WRONG_LOSSES] + WRONG_OPTIONS
)
def test_wrong_losses_and_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.slow
def test_torch_imported_before_aecourse_is_warned_about():
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    show = "; import os; print(os.environ['OMP_WAIT_POLICY'])"
    for code, warned in (("import torch, aecourse", True), ("import aecourse, torch", False)):
        command = [sys.executable, "-c", code + show]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "PASSIVE\n" and ("import aecourse first" in done.stderr) == warned

"""The invariants of fit."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from aecourse import losses
from aecourse.data import Batches, subspace
from aecourse.models import AAE, GAN, VAE, Autoencoder, mlp, mlp_decoder, mlp_encoder
from aecourse.training import SCHEDULES, History, Update, evaluate, fit, load_checkpoint, set_seed

X = subspace(300, 12, 3, noise=0.05)[0]


def make(seed=0):
    set_seed(seed)
    return Autoencoder(mlp_encoder((12,), [16], 3), mlp_decoder(3, [16], (12,), final=None))


def reconstruct(model, x):
    return losses.squared_error(model(x), x)


def denoise(model, x):
    return losses.squared_error(model(x + 0.1 * torch.randn_like(x)), x)


def same_weights(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def run(loss=denoise, epochs=4, model=None, **kwargs):
    model = model or make()
    set_seed(1)
    return model, fit(model, loss, kwargs.pop("train", None) or Batches(X, size=64), epochs, progress=False, **kwargs)


# -- what it logs ----------------------------------------------------------------------------------------------------------------


def test_it_learns_and_logs_under_the_losss_name():
    model, history = run(reconstruct, 40, lr=1e-2)
    assert list(history) == ["reconstruct"] and len(history["reconstruct"]) == len(history.seconds) == 40
    assert history["reconstruct"][-1] < 0.1 * history["reconstruct"][0]
    assert not model.training


def test_all_terms_of_a_dict_are_logged_and_a_small_last_batch_counts_for_less():
    def named(model, x):
        error = losses.squared_error(model(x), x)
        return {"loss": 0 * error, "error": error, "size": x[:, 0].mean()}

    model, history = run(named, 1)
    assert list(history) == ["named", "error", "size"]
    assert history["size"][0] == pytest.approx(float(X[:, 0].mean()), abs=1e-5)       # 300 = 4 * 64 + 44
    assert evaluate(model, named, Batches(X, size=7, shuffle=False))["error"] == pytest.approx(reconstruct(model, X).item(), rel=1e-4)


def test_validation_changes_no_weight_and_repeats():
    plain, _ = run()
    watched, history = run(valid=Batches(X[:50], size=20), after_epoch=lambda epoch, model, history: {"drawn": float(torch.randn(()))})
    assert same_weights(plain, watched)
    assert "valid denoise" in history and len(history["drawn"]) == 4
    first, again = (evaluate(watched, denoise, Batches(X, shuffle=False)) for _ in range(2))
    assert first == again != evaluate(watched, denoise, Batches(X, shuffle=False), seed=1)


def test_evaluate_restores_every_modules_mode_and_runs_in_eval_mode():
    model = Autoencoder(mlp_encoder((12,), [16], 3, norm=True), mlp_decoder(3, [16], (12,), norm=True))
    model.train()
    model.encoder.eval()                                 # frozen on purpose
    seen = []
    evaluate(model, lambda m, x: seen.append(m.training) or reconstruct(m, x), [X])
    assert seen == [False] and model.training and not model.encoder.training


def test_data_loaders_lists_and_pairs_serve_as_batches():
    loader = DataLoader(TensorDataset(X), batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
    for train in (loader, [X[:100], X[100:]], [(X,)]):
        assert run(train=train)[1]["denoise"][-1] > 0

    def supervised(model, x, y):
        return losses.squared_error(model(x), x) * y.float().mean()

    assert run(supervised, train=Batches(X, torch.ones(300)))[1]["supervised"][-1] > 0


def test_batches_of_unknown_number_want_a_constant_schedule():
    class Stream:
        def __iter__(self):
            return iter([X])

    assert run(train=Stream(), schedule="constant")[1]["denoise"]
    with pytest.raises(ValueError, match="how many batches"):
        run(train=Stream())


def test_schedules_start_peak_and_end_where_they_say():
    one = SCHEDULES["one-cycle"]
    assert one(0) == pytest.approx(0.04) and one(0.3) == pytest.approx(1) and one(0.9999) < 1e-3
    level = SCHEDULES["trapezoid"]
    assert level(0) < 0.1 and level(0.03) == level(0.59) == 1 and level(0.8) == pytest.approx(0.5) and level(0.9999) < 1e-3
    power = SCHEDULES["polynomial"]
    assert power(0) < 0.1 and power(0.03) > 0.95 and power(0.36) == pytest.approx(0.512) and power(0.9999) < 1e-3
    assert SCHEDULES["cosine"](0) == 1 and SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
    rates = []
    model = make()
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)

    def watching(model, x):
        rates.append(sgd.param_groups[0]["lr"])
        return 0 * reconstruct(model, x)

    fit(model, [Update(watching, sgd)], [X, X], 2, schedule=lambda share: 1 - share, progress=False)
    assert rates == pytest.approx([0.5, 0.375, 0.25, 0.125]) and sgd.param_groups[0]["lr"] == 0.5


# -- every kind of model ---------------------------------------------------------------------------------------------------------


def test_one_fit_serves_all_kinds():
    def sparse(model, x):
        z = model.encode(x)
        return {"loss": losses.squared_error(model.decode(z), x) + 0.1 * losses.l1(z), "l1": losses.l1(z)}

    def contractive(model, x):
        return reconstruct(model, x) + 0.1 * losses.contractive(model.encode, x)

    def elbo(model, x):
        x_hat, mu, logvar = model(x)
        recon, kl = losses.squared_error(x_hat, x), losses.kl_normal(mu, logvar)
        return {"loss": recon + kl, "recon": recon, "kl": kl}

    for loss in (sparse, contractive):
        history = run(loss, 15, lr=1e-2, valid=[X])[1][loss.__name__]
        assert history[-1] < 0.7 * history[0]
    vae = VAE(mlp_encoder((12,), [16], 6), mlp_decoder(3, [16], (12,), final=None))
    history = run(elbo, 25, model=vae, lr=1e-2)[1]
    assert history["elbo"][-1] < 0.7 * history["elbo"][0]
    assert history["elbo"][-1] == pytest.approx(history["recon"][-1] + history["kl"][-1], rel=1e-5)


def test_adversarial_updates_move_only_their_own_network():
    set_seed(0)
    model = AAE(mlp_encoder((12,), [16], 2), mlp_decoder(2, [16], (12,), final=None), mlp([2, 16, 1]))
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def discriminate(model, x):
        return losses.critic(model.critic(torch.randn(len(x), 2)), model.critic(model.encode(x)))     # not detached, on purpose

    def fool(model, x):
        return losses.generator(model.critic(model.encode(x)))

    critic_only = [Update(fool, torch.optim.SGD(model.encoder.parameters(), lr=0.0)),
                   Update(discriminate, torch.optim.SGD(model.critic.parameters(), lr=0.1))]
    history = fit(model, critic_only, Batches(X), 2, progress=False)
    moved = {k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"critic"} and list(history) == ["fool", "discriminate"]


def test_what_leaks_into_the_other_network_is_discarded():
    """With the leak discarded, the critic's step is the one of its own loss alone, computed here by hand."""
    set_seed(0)
    gan = GAN(mlp([2, 8, 12]), mlp([12, 8, 1]), latent=2)
    twin = GAN(mlp([2, 8, 12]), mlp([12, 8, 1]), latent=2)
    twin.load_state_dict(gan.state_dict())
    z = torch.randn(30, 2)

    def deceive(model, x):
        return losses.generator(model.critic(model(z)))

    def discriminate(model, x):
        return losses.critic(model.critic(x), model.critic(model(z).detach()))

    fit(gan, [Update(deceive, torch.optim.SGD(gan.generator.parameters(), lr=0.0)),
              Update(discriminate, torch.optim.SGD(gan.critic.parameters(), lr=0.1))], [X[:30]], 1, progress=False)
    discriminate(twin, X[:30]).backward()
    torch.optim.SGD(twin.critic.parameters(), lr=0.1).step()
    assert same_weights(gan, twin)
    with pytest.raises(ValueError, match="does not depend on what its optimizer may move"):
        fit(twin, [Update(discriminate, torch.optim.SGD(twin.generator.parameters(), lr=0.1))], [X[:30]], 1, progress=False)
    twin.zero_grad()
    fit(twin, [Update(deceive, torch.optim.SGD(twin.generator.parameters(), lr=0.1))], [X[:30]], 1, progress=False)
    assert all(p.grad is None for p in twin.critic.parameters()) and all(p.grad is not None for p in twin.generator.parameters())


# -- checkpoints -----------------------------------------------------------------------------------------------------------------


def test_a_run_cut_in_two_ends_bit_for_bit_where_one_run_ends(tmp_path):
    whole, history = run(epochs=6, schedule="constant")
    run(epochs=3, schedule="constant", checkpoint=tmp_path / "c.pt")
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    model = make(7)                                      # other weights, other random states: all must come from the file
    resumed = fit(model, denoise, Batches(X, size=64), 6, schedule="constant", checkpoint=tmp_path / "c.pt", progress=False)
    assert same_weights(whole, model) and dict(resumed) == dict(history)
    assert not list(tmp_path.glob(".*"))


def test_a_loader_with_its_own_generator_resumes_too(tmp_path):
    def loader():
        return DataLoader(TensorDataset(X), batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(5))

    whole, _ = run(train=loader(), epochs=4, schedule="constant")
    run(train=loader(), epochs=2, schedule="constant", checkpoint=tmp_path / "c.pt")
    model, _ = run(train=loader(), epochs=4, schedule="constant", checkpoint=tmp_path / "c.pt", model=make(3))
    assert same_weights(whole, model)


def test_a_foreign_checkpoint_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "c.pt"
    run(checkpoint=path)
    content = path.read_bytes()
    other = Autoencoder(mlp_encoder((12,), [17], 3), mlp_decoder(3, [17], (12,), final=None))
    for kwargs in ({"model": other}, {"loss": reconstruct}, {"epochs": 5}, {"schedule": "cosine"}, {"lr": 1e-2},
                   {"train": Batches(X, size=32)}, {"train": Batches(X, size=64, seed=1)}):
        with pytest.raises(ValueError, match="another recipe"):
            run(checkpoint=path, **kwargs)
    assert path.read_bytes() == content


def test_a_number_that_the_loss_takes_from_outside_is_part_of_the_recipe(tmp_path):
    def with_sigma(sigma):
        def noisy(model, x):
            return losses.squared_error(model(x + sigma * torch.randn_like(x)), x)
        return noisy

    run(with_sigma(0.1), checkpoint=tmp_path / "c.pt")
    run(with_sigma(0.1), checkpoint=tmp_path / "c.pt")
    with pytest.raises(ValueError, match="another recipe"):
        run(with_sigma(0.2), checkpoint=tmp_path / "c.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_told(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        run(checkpoint=tmp_path / "c.pt")


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    torch.save({"model": Evil()}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        run(checkpoint=tmp_path / "c.pt")
    assert not (tmp_path / "owned").exists()


def test_a_write_that_fails_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    run(epochs=1, schedule="constant", checkpoint=path)
    content = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run(epochs=2, schedule="constant", checkpoint=path)
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_weights_alone_can_be_loaded_for_another_purpose(tmp_path):
    trained, _ = run(checkpoint=tmp_path / "c.pt")
    fresh = make(5)
    history, epochs = load_checkpoint(tmp_path / "c.pt", fresh)
    assert same_weights(trained, fresh) and epochs == 4 and isinstance(history, History)


# -- what goes wrong -------------------------------------------------------------------------------------------------------------


def test_a_loss_that_becomes_nan_stops_the_run_and_says_where(tmp_path):
    calls = []

    def failing(model, x):
        calls.append(1)
        error = reconstruct(model, x)
        return {"loss": error, "penalty": error * (float("nan") if len(calls) == 8 else 1)}

    with pytest.raises(FloatingPointError, match=r"'penalty' became nan in epoch 2, batch 3.*learning rate"):
        run(failing, checkpoint=tmp_path / "c.pt")
    assert len(load_checkpoint(tmp_path / "c.pt", make())[0].seconds) == 1            # the good epoch is there, the bad one is not


def test_an_interrupt_keeps_the_model_and_the_history(capsys):
    def interrupting(epoch, model, history):
        if epoch == 2:
            raise KeyboardInterrupt

    model, history = run(after_epoch=interrupting, epochs=10)
    assert len(history["denoise"]) == 2 and not same_weights(model, make())
    assert "2 finished epochs" in capsys.readouterr().out


@pytest.mark.parametrize("loss, said", [
    (lambda model, x: (model(x) - x) ** 2, "scalar tensors.*sum over features"),
    (lambda model, x: 1.0, "scalar tensors.*float"),
    (lambda model, x: {"recon": reconstruct(model, x)}, "needs an entry 'loss'"),
    (lambda model, x: x.sum(), "does not depend on what its optimizer may move"),
    ([], "list of Update"), ("mse", "loss function"),
])
def test_a_loss_of_the_wrong_kind_is_told(loss, said):
    with pytest.raises(ValueError, match=said):
        run(loss)


@pytest.mark.parametrize("kwargs, said", [
    ({"epochs": 0}, "epochs"), ({"epochs": 2.5}, "epochs"), ({"schedule": "linear"}, "one-cycle"), ({"train": [[]][:0] or iter([])}, "how many"),
])
def test_bad_arguments_are_told(kwargs, said):
    with pytest.raises(ValueError, match=said):
        run(**kwargs)


def test_no_batches_at_all_is_told():
    for act in (lambda: fit(make(), reconstruct, [], 1, progress=False), lambda: evaluate(make(), reconstruct, [])):
        with pytest.raises(ValueError, match="the data is empty"):
            act()


def test_torch_imported_first_is_told_and_aecourse_first_is_not():
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    for code, warned in (("import torch, aecourse", True), ("import aecourse, torch", False)):
        said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stderr
        assert ("import aecourse first" in said) == warned


@pytest.mark.skipif(sys.platform != "linux", reason="the OpenMP of PyTorch on Linux is meant")
def test_the_first_process_spins_for_a_moment_and_each_one_beside_it_sleeps_at_once():
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    show = "import os, aecourse; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    alone, beside, own = (subprocess.run([sys.executable, "-c", f"{before}\n{show}"], env=env | more, capture_output=True, text=True,
                                         check=True).stdout.strip() for before, more in (
        ("import socket; socket.socket.bind = lambda *_: None", {}),
        ("import socket, contextlib\nwith contextlib.suppress(OSError): name = socket.socket(socket.AF_UNIX); name.bind('\\0aecourse')", {}),
        ("", {"OMP_WAIT_POLICY": "ACTIVE"})))
    assert (alone, beside, own) == ("PASSIVE 800", "PASSIVE None", "ACTIVE None")
